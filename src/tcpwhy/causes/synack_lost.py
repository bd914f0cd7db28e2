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

from tcpwhy.causes._asking import capture_again, capture_at
from tcpwhy.causes._by_state import end_told, found_at, packet_exhibits, state_exhibits, told
from tcpwhy.causes._old_attempt import about_the_reset, epilogue
from tcpwhy.causes._remedies import past_the_end, without_rule
from tcpwhy.causes._stops import Stop, end_of
from tcpwhy.causes._unheard import beyond_the_captures, excluded, without_syn_ack
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit, times
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.handshake import CROSSING_NS
from tcpwhy.connections.packet import ACK
from tcpwhy.connections.path import fate

SUSPECT = "client_syns > 0 OR server_syn_acks > 0"
REFERENCES = (
    "RFC 9293 sections 3.10.7.3 and 3.10.7.4",
    "RFC 5961 section 4",
    "Linux net/ipv4/tcp_minisocks.c tcp_check_req()",
)

HALF_OPEN_NS = 70_000_000_000
"""A half-open connection lives 63 s on the server (Linux: tcp_synack_retries 5 gives 1+2+4+8+16+32 s), and some for clocks."""

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
        return without_syn_ack(connection)
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
    return beyond_the_captures(connection, syn_acks, surely=at_client is False)


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
    exhibits += epilogue(connection)
    excludes = excluded(f"the SYN-ACK left {last} and did not reach {missing}")
    if connection.traffic is None or not connection.traffic.came_through(connection, last, missing):
        # A hop between them may drop it because of its source, or because it never saw the SYN, where all from there fare so.
        excludes = {cause: because for cause, because in excludes.items() if cause not in ("reverse-path-filter", "asymmetric-drop")}
    return Found(
        statement=f"the SYN-ACK was seen at {last} and not at {missing}",
        exhibits=tuple(exhibits),
        basis="two places",
        where=(last, missing),
        explanation=(
            f"The SYN of {connection.client} arrived, and {connection.server} answered it {times(len(syn_acks))}. {last} saw the SYN-ACK, "
            f"{missing} did not: it was lost between them." + about_the_reset(connection)
        ),
        at_ns=syn_acks[0].aligned_ns,
        excludes=excludes,
        fix=(f"find what drops packets from {connection.server} on the way from {last} to {missing}: packet filters and firewalls first",),
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
