"""A connection whose handshake was not finished goes in; whether the attempt failed, and how, comes out."""

from __future__ import annotations

from collections.abc import Sequence

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, SILENT_REPEATS, SILENT_SPAN_NS, Failure, Kind
from tcpwhy.connections.packet import ACK, RST, SYN

UNANSWERED_AGAIN_NS = SECOND_NS
"""A SYN was repeated and the repetition, too, was unanswered for so long: tried and not established. Round trips are shorter."""

FIRST_SYN_TIMEOUT_NS = SECOND_NS
"""A SYN is first repeated after one second (RFC 6298 section 2.1; Linux TCP_TIMEOUT_INIT)."""

CROSSING_NS = FIRST_SYN_TIMEOUT_NS // 5
"""A SYN repeated so soon after a SYN-ACK may have crossed it; Linux repeats after a second."""

LONGEST_TRACE = 30
"""Hops up to which a traceroute with SYNs goes; a host's own packets set out with 64 or more."""


def refused_unseen(connection: Connection) -> Failure | None:
    """A RST that answers a SYN which no capture holds: the host's own firewall refused it before it could be captured.

    RFC 9293 section 3.10.7.1: only what has no ACK flag is answered with sequence number 0, and a client sends nothing else without.
    """
    answers = [one for one in connection.segments if one.sender == "server" and one.is_reset and one.flags & ACK and one.seq == 0]
    if len(answers) != len(connection.segments) or not answers[0].packet.is_stateless_reset:
        return None
    return Failure(Kind.REFUSED, "a SYN that was not captured was answered with RST", tuple(answers[:1]), answers[0].aligned_ns)


def refused_by_icmp(connection: Connection) -> Failure | None:
    """ICMP errors that a host sends to itself, and no packet: its own firewall rejects what its programs send, before any capture."""
    own = [error for error in connection.icmp if error.is_unreachable and error.is_from_itself]
    if not own:
        return None
    symptom = f"the host answers its own packet with an ICMP error (type {own[0].packet.icmp_type}, code {own[0].packet.icmp_code})"
    return Failure(Kind.PROHIBITED, symptom, (), own[0].aligned_ns)


def failed_handshake(connection: Connection, answers_seen: bool) -> Failure | None:
    """The failure of an attempt that was not established; None where the capture may have ended too early, or nobody waited."""
    syns, syn_acks = connection.syns, connection.syn_acks
    isn = connection.client_isn
    for reset in connection.resets:
        answers_syn = reset.sender == "server" and isn is not None and reset.flags & ACK and reset.ack == (isn + 1) & 0xFFFF_FFFF
        if answers_syn and not syn_acks:
            return Failure(Kind.REFUSED, Kind.REFUSED.value, (*syns[:1], reset), reset.aligned_ns)
        if answers_syn:
            return Failure(Kind.HALF_OPEN, "the server reset the half-open connection", (*syn_acks[:1], reset), reset.aligned_ns)
    # A SYN that set out with few hops to live asks for this answer: a route is being traced.
    traces = bool(syns) and 0 < syns[0].packet.ttl <= LONGEST_TRACE
    errors = [error for error in connection.icmp if error.is_unreachable or (error.ends_attempt and not traces)]
    # Linux ends a connect() at the first such error (net/ipv4/tcp_ipv4.c tcp_v4_err(), TCP_SYN_SENT): no SYN follows it.
    ended = bool(errors and syns) and errors[-1].aligned_ns >= syns[-1].aligned_ns
    if errors and not syn_acks and (ended or _is_one_packet(syns) or _given_up(connection, syns)):
        kind = Kind.PROHIBITED if errors[0].is_prohibition else Kind.UNANSWERED
        symptom = f"the client's SYN was answered with an ICMP error (type {errors[0].packet.icmp_type}, code {errors[0].packet.icmp_code})"
        return Failure(kind, symptom, tuple(syns[:1]), errors[0].aligned_ns)
    client_resets = [reset for reset in connection.resets if reset.sender == "client"]
    refused = _refused_and_tried_again(connection, client_resets)
    if refused is not None:
        return refused
    if client_resets:
        return _reset_by_client(connection, client_resets[0])
    if syns and not syn_acks:
        if _clears_up(connection):
            return None
        if (len(syns) > 1 or answers_seen) and _given_up(connection, syns):
            repeats = f"{len(syns)} times" if len(syns) > 1 else "once"
            return Failure(
                Kind.UNANSWERED,
                f"the client sent its SYN {repeats} and never got an answer",
                tuple(syns),
                syns[-1].aligned_ns,
            )
        return None
    begun_anew = any(later.syns for later in connection.later)
    unheard = bool(syns) and (len(syns) > 1 or not _arrived(connection, syn_acks)) and _given_up(connection, syns)
    if syn_acks and (_repeated(syn_acks) or (syns and begun_anew) or unheard):
        last = max(syns[-1:] + syn_acks[-1:], key=lambda segment: segment.aligned_ns)
        symptom = f"the server sent its SYN-ACK {len(syn_acks)} times and it was never acknowledged"
        return Failure(Kind.HALF_OPEN, symptom, (*syns, *syn_acks), last.aligned_ns)
    return None


def _is_one_packet(syns: Sequence[Segment]) -> bool:
    """One SYN, seen once or going round in a loop: a repetition has another identification (RFC 6864; 0 tells nothing)."""
    return len(syns) == 1 or (bool(syns) and syns[0].ip_id != 0 and len({syn.ip_id for syn in syns}) == 1)


def _reset_by_client(connection: Connection, reset: Segment) -> Failure | None:
    """The client's RST before the handshake was over: a probe of an open port is none, the end of a broken attempt is one."""
    answered = [segment for segment in connection.segments if segment.sender == "server" and segment.aligned_ns <= reset.aligned_ns]
    bare = [segment for segment in answered if segment.flags & ACK and not segment.flags & (SYN | RST)]
    repeated = len(connection.syns) > 1 or len(connection.syn_acks) > 1 or bool(connection.later) or bool(connection.earlier)
    late = [answer for answer in connection.syn_acks if len(connection.syns) > 1 and answer.seen_at(connection.places[0])]
    waited = bool(late) and late[0].aligned_ns - connection.syns[0].aligned_ns > FIRST_SYN_TIMEOUT_NS // 2
    unheard = None if bare or waited else _tried_again_unheard(connection, reset)
    if unheard is not None:
        return unheard
    if not (bare or waited or (repeated and not _arrived(connection, connection.syn_acks))):
        return None
    if waited and not bare:
        symptom = "the client had given up when the SYN-ACK arrived, and answered it with RST"
        return Failure(Kind.HALF_OPEN, symptom, (*connection.syns[:1], late[0], reset), reset.aligned_ns)
    evidence = (*connection.syns[:1], *bare[:1], reset)
    return Failure(Kind.HALF_OPEN, "the client reset the attempt before it was established", evidence, reset.aligned_ns)


def _clears_up(connection: Connection) -> bool:
    """Away from the client: its RST ended what was left of an older connection, whose ACK its SYN had drawn, and nothing follows here.

    The next SYN will be taken; behind a NAT, which forgets the attempt with the RST, it comes from another port. Whether the client went
    on so, or gave up, its own side alone tells.
    """
    if len(connection.syns) != 1 or connection.later or connection.is_client_host(connection.places[0]) is not False:
        return False
    syn_ns = connection.syns[0].aligned_ns
    for old in connection.earlier:
        after = [one for one in old.segments if 0 <= one.aligned_ns - syn_ns < FIRST_SYN_TIMEOUT_NS]
        ack = next((one for one in after if one.sender == "server" and one.flags & ACK and not one.flags & (SYN | RST)), None)
        if old.established and ack is not None and any(one.sender == "client" and one.is_reset and one.seq == ack.ack for one in after):
            return True
    return False


def _tried_again_unheard(connection: Connection, reset: Segment) -> Failure | None:
    """Away from the client: it repeated its SYN although that had been answered, and refused what was sent to it when it had given up."""
    syns, answers = connection.syns, [one for one in connection.syn_acks if one.aligned_ns <= reset.aligned_ns]
    if not answers or connection.is_client_host(connection.places[0]):
        return None
    again = next((syn for syn in syns[1:] if syn.aligned_ns - answers[0].aligned_ns > CROSSING_NS), None)
    if again is None or reset.aligned_ns - syns[0].aligned_ns <= FIRST_SYN_TIMEOUT_NS:
        return None
    symptom = "the client repeated its SYN although it was answered, and had given up when a SYN-ACK arrived: it answered that with RST"
    return Failure(Kind.HALF_OPEN, symptom, (syns[0], answers[0], again, answers[-1], reset), reset.aligned_ns)


def _refused_and_tried_again(connection: Connection, resets: Sequence[Segment]) -> Failure | None:
    """The SYN-ACK is refused with RST, and the client goes on with the same SYN: it never took the answer for its own.

    The answer came from another address than it asked; or somebody on the way sent the RST in its name.
    """
    syns = connection.syns
    if not resets or not any(syn.aligned_ns > resets[0].aligned_ns for syn in syns) or not _given_up(connection, syns):
        return None
    symptom = "each SYN-ACK was answered with a RST in the client's name, and the client went on with its SYN"
    if not connection.syn_acks:
        symptom = "the client's SYN was answered with the numbers of another connection, and the client refused that with RST"
    for place, view in connection.views.items():
        asked = {one.packet.destination for one in view.sent_by("client") if one.packet.flags & SYN}
        for answer in view.sent_by("server"):
            if asked and connection.is_client_host(place) is not False and answer.packet.source not in asked:
                symptom = (
                    f"the client's SYN was answered from another address: {answer.packet.source}, and the client refused that with RST"
                )
    return Failure(Kind.HALF_OPEN, symptom, (*syns[:2], resets[0]), resets[0].aligned_ns)


def _arrived(connection: Connection, segments: Sequence[Segment]) -> bool:
    """True where the place nearest to the client saw one of these."""
    return any(segment.seen_at(connection.places[0]) for segment in segments)


def _repeated(segments: Sequence[Segment]) -> bool:
    return len(segments) > SILENT_REPEATS and segments[-1].aligned_ns - segments[0].aligned_ns >= SILENT_SPAN_NS


def _given_up(connection: Connection, syns: Sequence[Segment]) -> bool:
    """The client has stopped trying: it repeated for long, it began anew, or the next repetition did not come while the capture ran on."""
    if _repeated(syns) or any(later.syns for later in connection.later):
        return True
    # The place that captured for longest decides: what came there later it would have seen.
    ran_on_ns = max(connection.views[place].capture_last_ns - one.aligned_ns for place, one in syns[-1].sightings.items())
    if len(syns) > 1:
        return ran_on_ns >= UNANSWERED_AGAIN_NS
    return ran_on_ns > FIRST_SYN_TIMEOUT_NS + SECOND_NS // 5
