"""The network loses packets of the connection, of any size and at any time.

Mechanism.  A link, a queue or a device between two places drops packets: errors on a cable or radio, a full buffer, a policer, a member of
    a bundle that is broken, a route that leads nowhere for a while. TCP repeats what is not acknowledged, with growing gaps; what is
    repeated is lost as well, and a connection waits for seconds, or until a program gives up. Lost ACKs have the same effect.

Signature.
    at one place         0.000  client > server  PA  seq 1 len 500
                         0.2    client > server  PA  seq 1 len 500    # again, and again after 0.4, 0.8, 1.6 s …
    at the next place    some of these are missing, others are there; other connections lose packets as well

    A link that loses 1 % or more of at least 500 packets between two complete captures is told of although all was made good. From one
    place alone, repetitions and holes show that something was lost, and not where, nor why.

Source.  RFC 6298 section 5 (retransmission timer); RFC 6675 (SACK); Linux net/ipv4/tcp_timer.c tcp_retransmit_timer().

Fix.  Find the hop: capture at each between the two places, and read the counters of its interfaces and queues on both ends of each
    link (`ip -s link`, `ethtool -S`, `tc -s qdisc`); then mend the cable, the duplex, the policer or the buffer.

Not to be taken for.  syn-lost and synack-lost: there the handshake is what is lost. mtu-blackhole: there only what is larger than a
    limit is lost. idle-timeout: there all is lost from the first packet after a silence on. asymmetric-drop and mid-connection-rehash:
    there all of one direction is lost from one moment on, while other connections go on. peer-vanished: there it arrives, and nobody is
    there.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, capture_between
from tcpwhy.causes._by_state import all_but, told
from tcpwhy.causes._loss_pattern import Pattern, excluded, last_ack_may_be_lost, lost_by_size, narrowed, pattern_of, rates_told, signs
from tcpwhy.causes._lost import WAITED_NS, Wait, waited_in_vain, waits
from tcpwhy.causes._stops import end_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit, times
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.losses import Crossing, crossings

ID = "packet-loss"
SUSPECT = "true"
REFERENCES = ("RFC 6298 section 5", "RFC 6675", "Linux net/ipv4/tcp_timer.c tcp_retransmit_timer()")

SHOWN = 4
"""Lost packets shown of each connection."""


def examine(connection: Connection) -> Verdict:
    """Follows what was sent again and again, and each answer to it, from place to place."""
    failure = connection.failure
    if failure is not None and failure.kind is Kind.HALF_OPEN and last_ack_may_be_lost(connection):
        because = "the server alone was captured: the client may have the connection, and its last ACK and what follows be lost on the way"
        return Open(because, (capture_at(connection, "client", "whether it sent the handshake's last ACK"),))
    if failure is None or failure.kind.in_handshake:
        return RuledOut("the connection was never established: which packet of the handshake was lost is another cause's to tell")
    if failure.kind is Kind.LOSSY:
        return _on_lossy_link(connection)
    end = end_of(connection)
    if end is not None and (end.is_seen or end.counter is not None):
        return RuledOut(told(end))
    found = waits(connection)
    proven = [wait for wait in found if wait.is_explained]
    if proven and waited_in_vain(connection, proven):
        return _lost(connection, proven[0])
    seen = signs(connection)
    if not seen:
        return RuledOut("nothing was repeated, and nothing is missing between what was captured")
    if _is_complete(connection) and not any(crossing.missing for crossing in crossings(connection)):
        return RuledOut(f"each of its packets seen at {connection.places[0]} was seen at {connection.places[-1]}, and the other way round")
    tried_again = len(connection.syns) > 1 or len(connection.syn_acks) > 1  # What of that was lost, and where, is not among the waits.
    if proven and not tried_again and max(wait.stall.length_ns for wait in proven) < WAITED_NS:
        return RuledOut(f"packets were lost, but waiting for these took {proven[0].stall.length_ns / 1e9:.1f} s only")
    return Open(seen, _asks(connection))


def _is_complete(connection: Connection) -> bool:
    """True where complete captures at both ends' hosts show all that became of its packets."""
    if len(connection.places) < 2 or any(crossing.doubt for crossing in crossings(connection)):
        return False
    return connection.is_client_host(connection.places[0]) is not False and connection.is_server_host(connection.places[-1])


def _asks(connection: Connection) -> tuple[str, ...]:
    if len(connection.places) > 1:
        first, last = connection.places[0], connection.places[-1]
        return (capture_between(connection, first, last, "between which of them packets are lost"),)
    decides = "whether what is repeated arrives there, and what is sent back"
    near = connection.is_server_host(connection.places[0])
    return (
        capture_at(connection, "client" if near else "server", decides),
        capture_at(connection, "server" if near else "client", decides),
    )


def _lost(connection: Connection, wait: Wait) -> Verdict:
    crossing, stall, failure = wait.crossing, wait.stall, connection.failure
    assert failure is not None
    pattern = pattern_of(connection, wait)
    near, far = crossing.between
    what = "the answers to it were" if crossing.side != stall.side else "it was"
    lost = times(len(wait.lost))
    explanation = (
        f"Data of the {stall.side} waited {stall.length_ns / 1e9:.1f} s. It was sent {len(wait.attempts)} times, and {lost} {what} seen "
        f"at {near} and not at {far}, whose capture ran and is complete. {rates_told(connection, crossing)} {pattern.value}"
    )
    exhibits = _exhibits(connection, crossing, wait)
    if lost_by_size(connection, crossing):
        because = f"of what was sent from {near} to {far} only packets with {crossing.smallest_lost} bytes or more are lost"
        return Open(because, _asks(connection), exhibits, crossing.between)
    if pattern is Pattern.GAP and narrowed(connection, wait):
        because = f"from then on only smaller packets pass from {near} to {far} than those that were lost"
        return Open(because, _asks(connection), exhibits, crossing.between)
    if pattern is Pattern.ONE_DIED:
        return Open(f"{explanation[0].lower()}{explanation[1:]}".rstrip("."), _asks(connection), exhibits, crossing.between)
    ending = {Kind.SILENT: "until nothing came any more", Kind.STALLED: "and held it up"}.get(failure.kind, "until somebody gave up")
    return Found(
        statement=f"packets of the {crossing.side} are lost between {near} and {far}, {ending}",
        exhibits=exhibits,
        basis="two places",
        where=crossing.between,
        explanation=explanation,
        at_ns=wait.lost[0].segment.aligned_ns,
        excludes=excluded(connection, wait, pattern),
        next_evidence=(capture_between(connection, near, far, "which hop loses them"),),
        fix=_fix(near, far),
    )


def _on_lossy_link(connection: Connection) -> Verdict:
    crossed = connection.traffic.lossy_crossings(connection) if connection.traffic is not None else []
    if not crossed:
        return RuledOut("no link that many packets were lost on is told by the captures")
    crossing = max(crossed, key=lambda one: one.lost)
    near, far = crossing.between if crossing.side == "client" else (crossing.far, crossing.near)
    return Found(
        statement=f"the link between {near} and {far} loses packets",
        exhibits=_exhibits(connection, crossing, None),
        basis="two places",
        where=(near, far),
        explanation=(
            f"{rates_told(connection, crossing)} Both captures ran all the time and are complete, and what was lost was of any size. All "
            "of it was made good here; at that rate transfers are slow, and now and then one waits for seconds."
        ),
        at_ns=crossing.missing[0].segment.aligned_ns,
        excludes=all_but(ID, "the connection did not fail: its packets were lost on the way, and made good"),
        next_evidence=(capture_between(connection, near, far, "which hop loses them"),),
        fix=_fix(near, far),
    )


def _exhibits(connection: Connection, crossing: Crossing, wait: Wait | None) -> tuple[Exhibit, ...]:
    if wait is not None and crossing.side == wait.stall.side:
        segments = [one.segment for one in wait.lost if one.crossing is crossing]
    else:
        segments = [one.segment for one in crossing.missing]
        segments = [one for one in segments if wait is None or one.aligned_ns >= wait.stall.start_ns] or segments
    note = f"seen at {crossing.near}, not at {crossing.far}"
    return tuple(exhibit(one, connection, note, crossing.near) for one in segments[:SHOWN])


def _fix(near: str, far: str) -> tuple[str, ...]:
    counters = (
        f"look for the hop between {near} and {far} that drops: `ip -s -s link`, `ethtool -S IFACE | grep -iE 'err|drop|discard'` and "
        "`tc -s qdisc` on both ends of each link, and the counters of the switches' ports"
    )
    return (
        counters,
        "then mend what they show: cable, optics or duplex (errors), a policer or a small queue (drops), a bundle's broken member",
    )
