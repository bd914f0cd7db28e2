"""An attempt goes in whose SYN-ACK no two places bound; what the client's repetitions and an old ACK say of it comes out as a verdict."""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, state_of
from tcpwhy.causes._old_attempt import about_the_reset, epilogue, old_ack, old_reset
from tcpwhy.causes._stops import answered_unseen
from tcpwhy.causes._verdict import Found, Open, RuledOut, Verdict, exhibit, times
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.handshake import CROSSING_NS
from tcpwhy.connections.path import fate


def excluded(lost: str) -> dict[str, str]:
    """The causes that a lost SYN-ACK contradicts; `lost` says where it was lost."""
    return {
        "syn-lost": "the server answered the SYN",
        "port-closed": "the server answered the SYN with SYN-ACK: somebody listens",
        "reverse-path-filter": lost,
        "accept-queue-overflow": "no ACK of the SYN-ACK was ever sent, so that no finished handshake was dropped",
        "vip-missing": "the server answered the SYN",
        "arp-conflict": lost,
        "stale-connection": "the numbers are those of an attempt that was never established",
        "timestamp-rejected": "the numbers are those of an attempt that was never established",
        "asymmetric-drop": lost,
        "rejected-by-firewall": "nothing rejected the SYN: it was answered",
        "packet-loss": "each SYN-ACK was lost, and nothing else is known to be",
        "peer-vanished": "both ends kept sending",
        "injected-reset": "the RST comes from the client's own stack and follows from the old ACK",
    }


def without_syn_ack(connection: Connection) -> Verdict:
    """No SYN-ACK in any capture: at the client alone an ACK of the old number tells that there was one."""
    isn = connection.client_isn
    old = ((isn or 0) + 1) & 0xFFFF_FFFF
    ack = old_ack(connection, old)
    reset = old_reset(connection, old)
    later = [other for other in connection.later if other.syns and other.client_isn != isn]
    if ack is not None and later and later[0].syns[0].aligned_ns < ack.aligned_ns:
        exhibits = [exhibit(connection.syns[0], connection, "the SYN of the first attempt, never answered with SYN-ACK")]
        exhibits.append(exhibit(later[0].syns[0], later[0], "the next attempt from the same port, with another ISN"))
        exhibits += epilogue(connection)
        place = connection.places[0]
        if reset is None:
            return Open(
                "the server acknowledges an attempt whose SYN-ACK was never seen, but no RST followed",
                (),
                tuple(exhibits),
            )
        host = str(connection.server)
        return Found(
            statement=f"the server acknowledges an attempt whose SYN-ACK never arrived at {place}",
            exhibits=tuple(exhibits),
            basis="one place",
            where=(host, place),
            explanation=(
                f"{connection.client} never got a SYN-ACK. After its next SYN, with another ISN, an ACK of the first one's number came: "
                "the server holds that attempt half open, so that it had answered it, and the answer was lost."
                + about_the_reset(connection)
            ),
            at_ns=connection.syns[0].aligned_ns,
            excludes=excluded("the server's ACK shows that it had answered, and its answer did not arrive"),
            next_evidence=(capture_at(connection, "server", "its SYN-ACKs would name the stretch where they are lost"),),
            fix=(f"find what drops SYN-ACKs from {connection.server} on their way to {place}",),
        )
    if ack is not None:
        return Open(
            "a bare ACK answered the SYN",
            ("a capture at the server from before the attempt",),
            (exhibit(ack, connection, "bare ACK"),),
        )
    reached = fate(connection, connection.syns[-1])
    if reached.missing_at is not None and reached.doubt is None:
        return RuledOut(f"no SYN reached {reached.missing_at}, so that there was nothing to answer")
    last = connection.places[-1]
    unseen = answered_unseen(connection, last)
    if connection.is_server_host(last) and unseen is None:
        return RuledOut(f"the SYN arrived at {last}, which sent no SYN-ACK")
    refused = next((error for error in connection.icmp if error.is_unreachable and error.packet.source.ip == connection.client.ip), None)
    if refused is not None:
        return RuledOut("an ICMP error answered the SYN: it did not come to a socket that answers")
    because = "the SYN was never answered as far as was captured; an answer may have been lost"
    if unseen is not None:
        because = f"{last} answers by {unseen}, of which no packets were captured there; its answer may have been lost"
    return Open(
        because,
        (
            capture_at(connection, "server", "SYN-ACKs there that do not arrive here show that they are lost"),
            state_of(connection.server.ip, "sockets in SYN-RECV, and rules of OUTPUT that drop the answer"),
        ),
        (exhibit(connection.syns[0], connection, "the SYN, never answered"),),
    )


def beyond_the_captures(connection: Connection, syn_acks: list[Segment], *, surely: bool) -> Verdict:
    """All places saw the SYN-ACK and none is the client's host (`surely`), or perhaps none is: what the client does tells the rest."""
    place = connection.places[0]
    repeats = [again for again in connection.syns[1:] if again.aligned_ns - syn_acks[0].aligned_ns > CROSSING_NS]
    exhibits = [exhibit(connection.syns[0], connection, "the SYN")]
    exhibits += [exhibit(segment, connection, "the SYN-ACK, never acknowledged") for segment in syn_acks[:3]]
    if not repeats:
        return Open(
            "the server repeats its SYN-ACK and hears nothing; it, or the client's last ACK, is lost",
            (capture_at(connection, "client", "a SYN-ACK that does not arrive there is lost on the way"),),
            (*exhibits, *epilogue(connection)),
        )
    exhibits += [exhibit(again, connection, "the same SYN again after the SYN-ACK: the client cannot have had it") for again in repeats[:2]]
    exhibits += epilogue(connection)
    if not surely:
        return Open(
            f"the client repeats its SYN although it was answered; whether {place} is the client's own host is unknown",
            ("a capture at the other end, or on `any`, which tells directions",),
            tuple(exhibits),
        )
    return Found(
        statement="the client repeats its SYN although the server had answered it",
        exhibits=tuple(exhibits),
        basis="one place",
        where=(place, connection.client.ip),
        explanation=(
            f"{connection.server} answered the SYN of {connection.client} {times(len(syn_acks))}. The client repeated that SYN: "
            "it had not received the answer." + about_the_reset(connection)
        ),
        at_ns=syn_acks[0].aligned_ns,
        excludes={
            cause: because
            for cause, because in excluded("the SYN-ACK left and did not reach the client").items()
            if cause not in ("reverse-path-filter", "asymmetric-drop")
        },
        next_evidence=(capture_at(connection, "client", "it would name the stretch where the SYN-ACKs are lost"),),
        fix=(f"find what drops SYN-ACKs from {connection.server} on their way to {connection.client.ip}",),
    )
