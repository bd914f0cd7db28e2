"""The server's SYN-ACK is lost on the way back, so that neither end gets any further.

Mechanism.  The SYN arrives and the server answers, but its SYN-ACK dies on the way. The client repeats its SYN and gives up with a
    timeout; the server repeats its SYN-ACK. Where the client tries again from the same port with another ISN while the server still
    holds the half-open connection, the server answers that SYN with a bare ACK that carries the numbers of the old attempt (or, if
    the new ISN lies inside the receive window, with RST+ACK). The client answers the ACK with RST, and it looks as though the client
    had killed the connection.

Signature.
    at the server        client > server  S   seq x
                         server > client  SA  ack x+1          # again and again, never acknowledged
                         client > server  S   seq z            # the next attempt, same port
                         server > client  A   ack x+1          # a bare ACK: the numbers of the old attempt
                         client > server  R   seq x+1
    at the client        the same without any SYN-ACK

Source.  RFC 9293 section 3.10.7.4 and RFC 5961 section 4 (the bare ACK), RFC 9293 section 3.10.7.3 (the RST with SEQ=SEG.ACK);
    Linux net/ipv4/tcp_minisocks.c tcp_check_req(), tcp_input.c tcp_rcv_synsent_state_process().

Fix.  Look at what lies between the server and the client on the way back: a packet filter that lets SYNs in and not SYN-ACKs out, a
    broken link, a firewall module. Capture hop by hop until the SYN-ACK is seen to go in and not to come out. Nothing on the client is
    at fault, least of all its RST.

Not to be taken for.  stale-connection: there the old numbers are those of a connection that had been established. A lost last ACK: then
    the client had the SYN-ACK and goes on. asymmetric-drop: a firewall that sees one direction.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_again, capture_at, state_of
from tcpwhy.causes._by_state import end_told, found_at, packet_exhibits, state_exhibits, told
from tcpwhy.causes._remedies import past_the_end, without_rule
from tcpwhy.causes._stops import Stop, end_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import ACK, RST, SYN
from tcpwhy.connections.path import fate

SUSPECT = "client_syns > 0 OR server_syn_acks > 0"
REFERENCES = (
    "RFC 9293 sections 3.10.7.3 and 3.10.7.4",
    "RFC 5961 section 4",
    "Linux net/ipv4/tcp_minisocks.c tcp_check_req()",
)

HALF_OPEN_NS = 70_000_000_000
"""A half-open connection lives 63 s on the server (Linux: tcp_synack_retries 5 gives 1+2+4+8+16+32 s), and some for clocks."""

CROSSING_NS = 200_000_000
"""A SYN repeated so soon after a SYN-ACK may have crossed it; Linux repeats after a second."""


ID = "synack-lost"


def examine(connection: Connection) -> Verdict:
    """The attempt itself; else an attempt from the same port shortly before, whose half-open connection met this one's SYN."""
    failure = connection.failure
    if failure is None or not failure.kind.in_handshake:
        return RuledOut("the handshake was completed")
    end = end_of(connection)
    if end is not None and end.cause == ID:
        return _inside(connection, end)
    if end is not None and end.is_seen and not connection.syn_acks:
        return RuledOut(told(end))
    if end is not None and end.is_seen and end.cause in ("reverse-path-filter", "asymmetric-drop", "rejected-by-firewall"):
        return RuledOut(told(end))
    own = _attempt(connection)
    if isinstance(own, Found):
        return own
    for before in connection.earlier:
        if before.failure is None or not before.failure.kind.in_handshake or not connection.syns or not before.segments:
            continue
        since_ns = connection.syns[0].aligned_ns - max(segment.aligned_ns for segment in before.syns or before.segments)
        if since_ns > HALF_OPEN_NS:
            continue
        root = _attempt(before)
        if isinstance(root, Found):
            return _inherited(connection, root)
        if isinstance(root, Open) and isinstance(own, RuledOut):
            own = Open(
                f"{root.because}; this attempt met what was left of the one before",
                root.next_evidence,
                root.exhibits,
                root.where,
            )
    return own


def _inherited(connection: Connection, root: Found) -> Found:
    """The attempt after the one whose SYN-ACK was lost."""
    note = "the next attempt from the same port meets the half-open connection of the last"
    answers = [segment for segment in connection.segments if segment.sender == "server" and segment.is_reset]
    shown = [exhibit(connection.syns[0], connection, note)]
    shown += [exhibit(answer, connection, "the half-open connection refuses an ISN inside its window") for answer in answers[:1]]
    return Found(
        statement=root.statement,
        exhibits=(*root.exhibits, *shown),
        basis=root.basis,
        where=root.where,
        explanation=root.explanation,
        at_ns=connection.syns[0].aligned_ns,
        excludes={
            **root.excludes,
            "syn-lost": "the attempt before it was answered",
            "port-closed": "the attempt before it was answered",
        },
        fix=root.fix,
    )


def _attempt(connection: Connection) -> Verdict:
    syn_acks = connection.syn_acks
    if not connection.syns:
        return (
            Open("the capture begins behind the SYN", ("a capture from before the attempt",)) if syn_acks else RuledOut("no SYN was seen")
        )
    refused = [segment for segment in connection.resets if segment.sender == "server" and segment.flags & ACK]
    if refused and not syn_acks:
        return RuledOut("the SYN was answered with RST", (exhibit(refused[0], connection, "the answer"),))
    if not syn_acks:
        return _without_syn_ack(connection)
    fates = [fate(connection, segment) for segment in syn_acks]
    nearest_place = connection.places[0]
    at_client = connection.is_client_host(nearest_place)
    arrived = [segment for segment, one in zip(syn_acks, fates, strict=True) if one.missing_at is None]
    # Absence counts only where nothing speaks against it: the capture ran, is complete, and lies on the way.
    lost = [segment for segment, one in zip(syn_acks, fates, strict=True) if one.missing_at is not None and one.doubt is None]
    doubtful = [one for one in fates if one.missing_at is not None and one.doubt is not None]
    too_late = bool(lost) and bool(arrived) and _repeated_between(connection, lost[0], arrived[0])
    if arrived and at_client and not too_late:
        if len(connection.places) == 1 or arrived[0] is syn_acks[0]:
            return _late_at_the_client(connection, syn_acks)
        return RuledOut(
            f"the SYN-ACK arrived at {connection.places[0]}",
            (exhibit(arrived[0], connection, "arrived", connection.places[0]),),
        )
    if lost:
        sure = [one for one in fates if one.missing_at is not None and one.doubt is None]
        nearest = min(sure, key=lambda one: connection.places.index(one.last_seen))
        return _between(connection, lost, nearest.last_seen, nearest.missing_at or "")
    if doubtful and not arrived and (at_client or not connection.syns[1:]):
        one = doubtful[0]
        return Open(
            f"the SYN-ACK is not in the capture of {one.missing_at}, but {one.doubt}",
            (capture_again(connection, one.missing_at or one.between[1], "whether the SYN-ACK comes there"),),
            (exhibit(syn_acks[0], connection, "the SYN-ACK"),),
            one.between,
        )
    return _beyond_the_captures(connection, syn_acks, surely=at_client is False)


def _repeated_between(connection: Connection, lost: Segment, arrived: Segment) -> bool:
    """True where the client repeated its SYN after the lost SYN-ACK and before one that arrived."""
    return any(lost.aligned_ns < syn.aligned_ns < arrived.aligned_ns for syn in connection.syns[1:])


def _late_at_the_client(connection: Connection, syn_acks: list[Segment]) -> Verdict:
    """At the client alone a SYN-ACK came, but too late: whether the SYN or an earlier SYN-ACK was lost is unknown."""
    answer = syn_acks[0]
    if len(connection.syns) > 1 and answer.aligned_ns > connection.syns[1].aligned_ns:
        shown = (
            exhibit(connection.syns[0], connection, "the SYN"),
            exhibit(answer, connection, "the SYN-ACK, too late"),
        )
        return Open("a SYN-ACK came only after the client had given up: earlier ones may have been lost",
                    (capture_at(connection, "server", "when it sent its SYN-ACKs"),), shown)  # fmt: skip
    return RuledOut(f"the SYN-ACK arrived at {connection.places[0]}", (exhibit(answer, connection, "arrived"),))


def _between(connection: Connection, syn_acks: list[Segment], last: str, missing: str) -> Verdict:
    """Two places: one saw the SYN-ACK, the next towards the client did not."""
    syn = connection.syns[0]
    repeats = [again for again in connection.syns[1:] if again.aligned_ns - syn_acks[0].aligned_ns > CROSSING_NS]
    exhibits = [exhibit(syn, connection, f"the SYN as {missing} saw it", missing if syn.seen_at(missing) else None)]
    exhibits += [exhibit(segment, connection, f"the SYN-ACK at {last}; {missing} never saw it", last) for segment in syn_acks[:3]
                 if segment.seen_at(last)]  # fmt: skip
    exhibits += [exhibit(again, connection, "the client has no answer: it repeats its SYN") for again in repeats[:1]]
    exhibits += _epilogue(connection)
    return Found(
        statement=f"the SYN-ACK was seen at {last} and not at {missing}",
        exhibits=tuple(exhibits),
        basis="two places",
        where=(last, missing),
        explanation=(
            f"The SYN of {connection.client} arrived, and {connection.server} answered it {_times(len(syn_acks))}. {last} saw the SYN-ACK, "
            f"{missing} did not: it was lost between them." + _about_the_reset(connection)
        ),
        at_ns=syn_acks[0].aligned_ns,
        excludes=_excluded(f"the SYN-ACK left {last} and did not reach {missing}"),
        fix=(f"find what drops packets from {connection.server} on the way from {last} to {missing}: packet filters and firewalls first",),
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _excluded(lost: str) -> dict[str, str]:
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


def _epilogue(connection: Connection) -> list[Exhibit]:
    """The bare ACK of the old attempt and the RST that it draws."""
    isn = connection.client_isn
    if isn is None:
        return []
    old = (isn + 1) & 0xFFFF_FFFF
    shown = []
    ack = _old_ack(connection, old)
    if ack is not None:
        shown.append(exhibit(ack, connection, "a bare ACK of the old attempt, drawn by a SYN with another ISN"))
    reset = _old_reset(connection, old)
    if reset is not None:
        shown.append(
            exhibit(
                reset,
                connection,
                "an effect: the client answers the ACK that it did not ask for with RST, seq = that ACK's number",
            )
        )
    return shown


def _old_ack(connection: Connection, old: int) -> Segment | None:
    return next(
        (
            segment
            for segment in connection.segments
            if segment.sender == "server" and segment.flags & ACK and not segment.flags & (SYN | RST) and segment.ack == old
        ),
        None,
    )


def _old_reset(connection: Connection, old: int) -> Segment | None:
    return next(
        (segment for segment in connection.resets if segment.sender == "client" and not segment.flags & ACK and segment.seq == old),
        None,
    )


def _about_the_reset(connection: Connection) -> str:
    shown = _epilogue(connection)
    if len(shown) < 2:
        return ""
    return (
        " The RST from the client is an effect: a later SYN with another ISN met the half-open connection, the server answered it with the "
        "ACK of the old attempt (RFC 5961 section 4), and the client's kernel rejects an ACK it did not ask for (RFC 9293, 3.10.7.3)."
    )


def _without_syn_ack(connection: Connection) -> Verdict:
    """No SYN-ACK in any capture: at the client alone an ACK of the old number tells that there was one."""
    isn = connection.client_isn
    old = ((isn or 0) + 1) & 0xFFFF_FFFF
    ack = _old_ack(connection, old)
    reset = _old_reset(connection, old)
    later = [other for other in connection.later if other.syns and other.client_isn != isn]
    if ack is not None and later and later[0].syns[0].aligned_ns < ack.aligned_ns:
        exhibits = [exhibit(connection.syns[0], connection, "the SYN of the first attempt, never answered with SYN-ACK")]
        exhibits.append(exhibit(later[0].syns[0], later[0], "the next attempt from the same port, with another ISN"))
        exhibits += _epilogue(connection)
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
                + _about_the_reset(connection)
            ),
            at_ns=connection.syns[0].aligned_ns,
            excludes=_excluded("the server's ACK shows that it had answered, and its answer did not arrive"),
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
    if connection.is_server_host(connection.places[-1]):
        return RuledOut(f"the SYN arrived at {connection.places[-1]}, which sent no SYN-ACK")
    refused = next((error for error in connection.icmp if error.is_unreachable and error.packet.source.ip == connection.client.ip), None)
    if refused is not None:
        return RuledOut("an ICMP error answered the SYN: it did not come to a socket that answers")
    return Open(
        "the SYN was never answered as far as was captured; an answer may have been lost",
        (
            capture_at(connection, "server", "SYN-ACKs there that do not arrive here show that they are lost"),
            state_of(connection.server.ip, "sockets in SYN-RECV, and rules of OUTPUT that drop the answer"),
        ),
        (exhibit(connection.syns[0], connection, "the SYN, never answered"),),
    )


def _beyond_the_captures(connection: Connection, syn_acks: list[Segment], *, surely: bool) -> Verdict:
    """All places saw the SYN-ACK and none is the client's host (`surely`), or perhaps none is: what the client does tells the rest."""
    place = connection.places[0]
    repeats = [again for again in connection.syns[1:] if again.aligned_ns - syn_acks[0].aligned_ns > CROSSING_NS]
    exhibits = [exhibit(connection.syns[0], connection, "the SYN")]
    exhibits += [exhibit(segment, connection, "the SYN-ACK, never acknowledged") for segment in syn_acks[:3]]
    if not repeats:
        return Open(
            "the server repeats its SYN-ACK and hears nothing; it, or the client's last ACK, is lost",
            (capture_at(connection, "client", "a SYN-ACK that does not arrive there is lost on the way"),),
            (*exhibits, *_epilogue(connection)),
        )
    exhibits += [exhibit(again, connection, "the same SYN again after the SYN-ACK: the client cannot have had it") for again in repeats[:2]]
    exhibits += _epilogue(connection)
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
            f"{connection.server} answered the SYN of {connection.client} {_times(len(syn_acks))}. The client repeated that SYN: "
            "it had not received the answer." + _about_the_reset(connection)
        ),
        at_ns=syn_acks[0].aligned_ns,
        excludes={
            cause: because
            for cause, because in _excluded("the SYN-ACK left and did not reach the client").items()
            if cause not in ("reverse-path-filter", "asymmetric-drop")
        },
        next_evidence=(capture_at(connection, "client", "it would name the stretch where the SYN-ACKs are lost"),),
        fix=(f"find what drops SYN-ACKs from {connection.server} on their way to {connection.client.ip}",),
    )


def _inside(connection: Connection, stop: Stop) -> Verdict:
    """A host's own rule drops the SYN-ACK: the server's, before any capture sees it, or one that it comes to."""
    rule = stop.rule
    what = f"the rule {rule.described()} drops it" if rule is not None else told(stop)
    how = (
        f"The SYN comes to a socket of {stop.place}, which answers; but {what}, so that the answer is in no capture: outgoing packets are "
        "captured behind the firewall."
        if stop.is_answer
        else f"The SYN-ACK of {connection.server} comes to {stop.place}, and {what}."
    )
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} drops the SYN-ACK for {connection.client}: " + (f"`{rule.text}`" if rule is not None else end_told(stop)),
        explanation=how,
        exhibits=(*packet_exhibits(connection, stop), *_half_open(connection, stop), *state_exhibits(stop)),
        fix=(without_rule(stop, rule) if rule is not None else past_the_end(stop)),
    )


def _half_open(connection: Connection, stop: Stop) -> tuple[Exhibit, ...]:
    """The socket that holds the attempt half open, where the snapshot caught it."""
    table = stop.host.sockets
    view = connection.views.get(stop.place)
    if table is None or view is None:
        return ()
    held = [one for one in table.between(str(view.client), str(view.server)) if one.state == "SYN-RECV"]
    return tuple(Exhibit("state", stop.place, one.source.file, f"{one.local} is in SYN-RECV with {one.remote}", line=one.source.line)
                 for one in held[:1])  # fmt: skip
