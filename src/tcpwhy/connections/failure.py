"""A connection goes in; whether it failed, how, and by which segments comes out (docs/json.md: "A connection failed")."""

from __future__ import annotations

from tcpwhy.connections.answers import (
    FAREWELL_BYTES,
    HTTP_METHODS,
    cut_short,
    given_up,
    is_tls_alert,
    open_at,
    took_leave,
    unanswered_request,
)
from tcpwhy.connections.connection import SIDES, Connection, Segment
from tcpwhy.connections.handshake import failed_handshake, refused_by_icmp, refused_unseen
from tcpwhy.connections.kinds import SECOND_NS, SILENT_REPEATS, SILENT_SPAN_NS, SLOW_NS, Failure, Kind
from tcpwhy.connections.packet import ACK, FIN, RST, SYN, other_side, seq_before
from tcpwhy.connections.progress import Progress, heard_at_home, progress_of
from tcpwhy.connections.stalls import Stall, StallKind, stalls

__all__ = ["HTTP_METHODS", "SECOND_NS", "SLOW_NS", "Failure", "Kind", "find_failure", "is_tls_alert"]

RESET_AT_BIRTH_NS = SECOND_NS
"""A stateless RST so soon after the handshake, before any data, comes from a host that does not know the connection."""


def find_failure(connection: Connection, *, answers_seen: bool, slow_ns: int = SLOW_NS) -> Failure | None:
    """The failure of a connection, or None where no program on its ends got, or will get, an error or a timeout.

    `answers_seen`: the places that saw it saw answers of any server at all; a capture of SYNs alone shows no failure. `slow_ns`: what
    held it up for so long is a failure although it went on.
    """
    if not connection.segments:
        return refused_by_icmp(connection)
    if (connection.syns or connection.syn_acks) and not connection.established:
        return failed_handshake(connection, answers_seen)
    ended = refused_unseen(connection) or _closed_and_refused(connection) or _reset(connection)
    unheard = _silent(connection) or _never_acknowledged(connection)
    return ended or _reset_while_closed(connection, slow_ns) or unheard or given_up(connection) or _stalled(connection, slow_ns)


def _closed_and_refused(connection: Connection) -> Failure | None:
    """The client closed, and the RST is its host's answer to what came later: that it closed is the failure, not the RST."""
    first = next((segment for segment in connection.segments if segment.is_fin or segment.is_reset), None)
    if first is None or first.is_reset or first.sender != "client" or not connection.resets:
        return None
    return given_up(connection) if connection.resets[0].sender == "client" else None


def _reset_while_closed(connection: Connection, slow_ns: int) -> Failure | None:
    """The connection was reset while one end waited for the other's window to open."""
    if not connection.resets:
        return None
    reset = connection.resets[0]
    for stall in stalls(connection, slow_ns):
        if stall.kind is StallKind.WINDOW and not stall.ended and reset in stall.segments:
            symptom = f"the {reset.sender} sent RST while the {stall.side} had waited {_seconds(stall)} for the other end's window to open"
            return Failure(Kind.RESET, symptom, stall.segments, reset.aligned_ns)
    return None


def _never_acknowledged(connection: Connection) -> Failure | None:
    """Data that was repeated to the end, although the other end was heard meanwhile: it closed, or acknowledged less."""
    for stall in stalls(connection, SILENT_SPAN_NS):
        repeats = [one for one in stall.segments if one.sender == stall.side][1:]
        if stall.kind is not StallKind.LOSS or stall.ended or len(repeats) < SILENT_REPEATS:
            continue
        ends = [one for one in connection.segments if one.sender != stall.side and (one.is_fin or one.is_reset)]
        if ends and ends[0].aligned_ns < repeats[0].aligned_ns:
            continue  # The other end was done before: nobody missed what it did not take.
        symptom = f"{len(repeats)} retransmissions of the {stall.side} over {_seconds(stall)} were never acknowledged"
        return Failure(Kind.SILENT, symptom, tuple(repeats), stall.end_ns)
    return None


def _stalled(connection: Connection, slow_ns: int) -> Failure | None:
    """The longest time that loss or a closed window held it up; a closed window need not have opened again."""
    found = [stall for stall in stalls(connection, slow_ns) if stall.ended or stall.kind is StallKind.WINDOW]
    if not found:
        return None
    longest = max(found, key=lambda stall: stall.length_ns)
    end = "and then went on" if longest.ended else "to the end of what was captured"
    match longest.kind:
        case StallKind.HANDSHAKE:
            symptom = f"the handshake took {_seconds(longest)}, for it was tried again and again"
        case StallKind.WINDOW:
            symptom = f"the {other_side(longest.side)}'s window was closed for {_seconds(longest)}, {end}"
        case StallKind.LOSS:
            symptom = f"data of the {longest.side} was repeated for {_seconds(longest)}, {end}"
    return Failure(Kind.STALLED, symptom, longest.segments, longest.end_ns)


def _seconds(stall: Stall) -> str:
    return f"{stall.length_ns / SECOND_NS:.1f} s"


def _reset(connection: Connection) -> Failure | None:
    reset = next((one for one in connection.resets if not _is_in_syn_sent(connection, one)), None)
    if reset is None or took_leave(connection, reset):
        return None
    progress = progress_of(connection.segments, until=reset)
    evidence: list[Segment] = []
    symptom = ""
    for side, own in progress.items():
        if own.unacknowledged and own.last_data is not None:
            symptom = symptom or (f"the {reset.sender} sent RST while {own.unacknowledged} bytes of the {side} were not acknowledged")
            evidence.append(own.last_data)
    if not symptom:
        question = unanswered_request(connection, reset) or open_at(connection, reset)
        if question is not None:
            symptom = f"the {reset.sender} sent RST before the client's request was answered"
            evidence.append(question)
    short = cut_short(connection, reset) if reset.sender == "server" else None
    if not symptom and short is not None:
        symptom = f"a RST in the name of the server came when {short[0]} of {short[1]} bytes of its answer had"
    if not symptom:
        again = _refused_later(connection, reset)
        if again is not None:
            request, reset = again
            what = f"{request.length} bytes of the client were" if request.length else "what the client acknowledged of an answer was"
            symptom = f"{what} answered with RST"
            evidence.append(request)
    refused = [] if symptom else _still_coming(connection, reset)
    if refused:
        symptom = f"the client sent RST, and {sum(one.length for one in refused)} more bytes of the server came"
        evidence.append(refused[0])
    goes_on = _goes_on(connection, reset)
    if not symptom and goes_on is not None:
        symptom = f"a RST in the name of the {reset.sender} ended the connection, and the {reset.sender} goes on sending"
        evidence.append(goes_on)
    if not symptom and _reset_at_birth(connection, reset):
        symptom = "the handshake's last ACK, or what followed it, was answered with RST"
    if not symptom:
        return None
    return Failure(Kind.RESET, symptom, (*evidence, reset), reset.aligned_ns)


def _refused_later(connection: Connection, reset: Segment) -> tuple[Segment, Segment] | None:
    """What the client still said after the server's RST, and the RST for that: the first one did not come to it in time.

    It sent data, or acknowledged more data than before, of which this place saw none: it was being answered when it was reset.
    """
    if reset.sender != "server":
        return None
    at = connection.segments.index(reset)
    answered = any(one.sender == "server" and one.length for one in connection.segments)
    acks = [one.ack for one in connection.segments[:at] if one.sender == "client" and one.flags & ACK]
    said: Segment | None = None
    for one in connection.segments[at + 1 :]:
        if one.sender == "server":
            if said is not None and one.is_reset:
                return said, one
            said = None
        elif said is None and not one.is_reset and not is_tls_alert(one):
            said = one if one.length or (acks and not answered and seq_before(acks[-1], one.ack)) else None
    # Of RSTs with the same numbers, those that follow at once may be taken for copies of the first.
    again = said is not None and said.first.vantage_point == reset.first.vantage_point
    if said is not None and again and max(copy.time_ns for copy in reset.first.copies) > said.first.time_ns:
        return said, reset
    return None


def _still_coming(connection: Connection, reset: Segment) -> list[Segment]:
    """What the server was sending when the client's socket aborted: more than last words, and behind all that the client had taken."""
    if reset.sender != "client" or not reset.flags & ACK:
        return []
    later = connection.segments[connection.segments.index(reset) + 1 :]
    late = [one for one in later if one.sender == "server" and one.length and not one.is_reset and not seq_before(one.seq, reset.ack)]
    late = [one for one in late if one.retransmits is None and not is_tls_alert(one)]
    return late if sum(one.length for one in late) > FAREWELL_BYTES else []


def _is_in_syn_sent(connection: Connection, reset: Segment) -> bool:
    """The client refuses an ACK that it did not ask for while it waits for the SYN-ACK: that ends what the ACK is of, not this connection.

    RFC 9293 section 3.10.7.3: <SEQ=SEG.ACK><CTL=RST>, and the attempt goes on.
    """
    if reset.sender != "client" or reset.flags & ACK or not connection.syns or not connection.syn_acks:
        return False
    return reset.aligned_ns < connection.syn_acks[0].aligned_ns


def _goes_on(connection: Connection, reset: Segment) -> Segment | None:
    """Data that the end which is said to have sent the RST sends afterwards: the real end never reset the connection.

    None where the end that got the RST had closed before: then it was done, and the RST met what was left.
    """
    for segment in connection.segments:
        if segment is reset:
            break
        if segment.is_fin and segment.sender != reset.sender:
            return None
    return next(
        (
            segment
            for segment in connection.segments
            if segment.sender == reset.sender and segment.length and segment.aligned_ns > reset.aligned_ns and not segment.is_reset
        ),
        None,
    )


def _reset_at_birth(connection: Connection, reset: Segment) -> bool:
    """A stateless RST right behind the handshake, before the server said anything and although the client had not closed."""
    if reset.sender != "server" or not reset.packet.is_stateless_reset or not connection.syn_acks:
        return False
    spoke = any(segment.sender == "server" and segment.length for segment in connection.segments)
    closed = any(segment.sender == "client" and segment.is_fin for segment in connection.segments)
    acks = [segment for segment in connection.segments if segment.sender == "client" and segment.flags & ACK]
    soon = bool(acks) and reset.aligned_ns - acks[0].aligned_ns < RESET_AT_BIRTH_NS
    return soon and not spoke and not closed


def _silent(connection: Connection) -> Failure | None:
    for side in SIDES:
        segments = heard_at_home(connection, side)
        progress = progress_of(segments)
        own = progress[side]
        # What the other end repeats says only that it, too, hears nothing.
        heard = [segment for segment in segments if segment.sender != side and segment.retransmits is None]
        last_heard = max((segment.aligned_ns for segment in heard), default=segments[0].aligned_ns)
        if not any(segment.sender != side for segment in segments):
            # One direction only was captured: what is repeated counts once nothing new is sent any more. Whether a keep-alive is
            # answered, nobody knows.
            segments = [segment for segment in segments if segment.length or segment.flags & (SYN | FIN | RST)]
            new = [segment for segment in segments if segment.length and segment.retransmits is None]
            last_heard = new[-1].aligned_ns if new else last_heard
        tries = [
            segment
            for segment in segments
            if segment.sender == side
            and segment.aligned_ns > last_heard
            and ((segment.length and segment.retransmits is not None) or _is_probe(segment, own))
        ]
        outstanding = own.unacknowledged or (own.acked is None and own.data_end is not None)
        probing = bool(tries) and not tries[-1].length
        question = progress["client"].last_data if probing else None
        if len(tries) < SILENT_REPEATS or tries[-1].aligned_ns - last_heard < SILENT_SPAN_NS:
            continue
        if not outstanding and question is None:
            continue
        word = "probes" if probing else "retransmissions"
        seconds = (tries[-1].aligned_ns - last_heard) / SECOND_NS
        symptom = f"{len(tries)} {word} of the {side} over {seconds:.1f} s drew nothing from the {other_side(side)}"
        return Failure(Kind.SILENT, symptom, tuple(tries), tries[-1].aligned_ns)
    return None


def _is_probe(segment: Segment, own: Progress) -> bool:
    """A keep-alive probe: one sequence number behind what was sent, with no byte or one (RFC 9293 section 3.8.4)."""
    if segment.flags & (SYN | FIN | RST) or segment.length > 1 or own.data_end is None:
        return False
    return segment.seq == (own.data_end - 1) & 0xFFFF_FFFF
