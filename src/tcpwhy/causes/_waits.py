"""A connection that somebody gave up goes in; the request that waited, its ACK, and what proves that no answer was sent, come out."""

from __future__ import annotations

import dataclasses

from tcpwhy.connections.answers import is_tls_alert, open_at
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import Failure, Kind
from tcpwhy.connections.packet import ACK, seq_before, seq_distance


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """The request, who ended the wait for its answer and when, and what came too late."""

    request: Segment
    last: Segment
    """The request's last segment."""
    end: Segment | None
    """The client's FIN or RST; None where only a log says that it gave up."""
    end_ns: int
    late: tuple[Segment, ...]

    @property
    def waited_ns(self) -> int:
        """From the request's end until somebody gave up."""
        return self.end_ns - self.last.aligned_ns


def wait_of(connection: Connection, failure: Failure) -> Wait | None:
    """The request that the client gave up."""
    ends = [one for one in connection.segments if one.sender == "client" and (one.is_fin or one.is_reset)]
    request: Segment | None = failure.segments[0]
    if failure.kind is Kind.GAVE_UP:
        end = failure.segments[1] if len(failure.segments) > 1 else None
    else:
        end = ends[0] if ends else None
        request = open_at(connection, end) or _unread_request(connection, end) if end is not None else None
        if end is None or connection.resets[0].sender != "client":
            return None
    if request is None or (end is not None and end.sender != "client"):
        return None
    told = [one for one in connection.segments if one.sender == "client" and one.length and one.retransmits is None and not one.is_reset]
    run = [one for one in told if one is request or (not seq_before(one.seq, request.seq) and not is_tls_alert(one))]
    end_ns = end.aligned_ns if end is not None else failure.at_ns
    last = max((one for one in run if one.aligned_ns <= end_ns), key=lambda one: one.aligned_ns, default=request)
    expected = end.ack if end is not None and end.flags & ACK else last.ack
    late = [one for one in connection.segments if one.sender == "server" and one.length and not seq_before(one.seq, expected)]
    return Wait(request, last, end, end_ns, tuple(one for one in late if one.aligned_ns >= end_ns))


def _unread_request(connection: Connection, end: Segment) -> Segment | None:
    """Where nobody can read what was asked (TLS): the client's last words, if the server's next ones came when the client had closed."""
    if not end.is_fin or not end.flags & ACK:
        return None
    said = [one for one in connection.segments if one.sender == "client" and one.length and not is_tls_alert(one) and not one.is_reset]
    late = [one for one in connection.segments if one.sender == "server" and one.length and not is_tls_alert(one)]
    refused = any(not seq_before(one.seq, end.ack) for one in late)
    last = max((one for one in said if one.aligned_ns <= end.aligned_ns), key=lambda one: one.aligned_ns, default=None)
    return last if refused and last is not None and last.ack == end.ack else None


def request_of(connection: Connection, wait: Wait) -> list[Segment]:
    """Its segments, repetitions included."""
    return [one for one in connection.segments if one.sender == "client" and one.length and not seq_before(one.seq, wait.request.seq)]


def acknowledged(connection: Connection, wait: Wait) -> tuple[Segment | None, int]:
    """The server's ACK of the whole request before the end, and how long it took, by the clock of one place."""
    for place in connection.places:
        asked = wait.last.sighting_at(place)
        if asked is None:
            continue
        for one in connection.segments:
            seen = one.sighting_at(place)
            if one.sender != "server" or seen is None or one.is_reset or not one.flags & ACK or seq_before(one.ack, wait.last.seq_end):
                continue
            if seen.aligned_ns >= asked.aligned_ns and (wait.end is None or one not in wait.late):
                return one, seen.aligned_ns - asked.aligned_ns
    return None, 0


def lost_answer(connection: Connection, wait: Wait) -> Segment | None:
    """What the server sent before it can have known that the client gave up, and before its clock says so."""
    for one in connection.segments:
        if one.sender != "server" or not one.length or one.is_reset or is_tls_alert(one):
            continue
        answers = not seq_before(one.seq, wait.last.ack) and not seq_before(one.ack, wait.last.seq_end)
        knows = wait.end is not None and wait.end.is_fin and not seq_before(one.ack, wait.end.seq_end)
        if answers and not knows and one.aligned_ns < wait.end_ns:
            return one
    return None


def unseen_answer(connection: Connection, wait: Wait) -> tuple[Segment, int] | None:
    """The first of the server's packets whose number says that it had sent bytes of an answer which are not seen, and how many."""
    reach = wait.last.ack
    for one in connection.segments:
        passed_over = one.is_reset or one.packet.is_inferred or seq_before(one.ack, wait.last.seq_end)
        if one.sender != "server" or not one.flags & ACK or passed_over:
            continue
        if seq_before(reach, one.seq):
            return one, seq_distance(reach, one.seq)
        if seq_before(reach, one.seq_end):
            reach = one.seq_end
    return None


def silent_until(connection: Connection, wait: Wait) -> tuple[Segment | None, str | None]:
    """What proves that the server had sent nothing: its ACK of the FIN, which carries its next number; or its own host's capture."""
    if wait.end is not None and wait.end.is_fin:
        unheard = False  # The FIN is repeated, and no ACK of it was seen: what comes then may be a repetition, too.
        for one in connection.segments:
            unheard = unheard or one.retransmits is wait.end
            acks_end = one.sender == "server" and one.flags & ACK and not one.is_reset and not seq_before(one.ack, wait.end.seq_end)
            if not acks_end:
                continue
            if one.seq == wait.end.ack and ((one.length and not unheard) or (not one.length and not one.packet.is_inferred)):
                return one, None
            if unheard or (one.seq != wait.end.ack and not one.packet.is_inferred):
                break  # Its number was ahead by then: bytes had been sent, and did not come.
    for place in connection.places:
        if connection.is_server_host(place) and wait.last.seen_at(place) and place not in connection.topology.lossy:
            return None, place
    return None, None
