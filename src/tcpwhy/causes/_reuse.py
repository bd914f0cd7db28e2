"""A connection that the server ended goes in; whether that crossed, or came before, the next request on an idle connection comes out."""

from __future__ import annotations

import dataclasses
import re

from tcpwhy.causes._forgery import (
    is_of_its_socket,
)
from tcpwhy.causes._resets import (
    MS,
    SECOND_NS,
    is_socket_reset,
    sent_at_home,
)
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import HTTP_METHODS
from tcpwhy.connections.packet import ACK, seq_before, seq_distance

IDLE_NS = SECOND_NS
"""A server that aborts so long after the last answer ends an idle connection; the shortest default in use is 2 s (gunicorn)."""

SHUT_IDLE_NS = 300 * MS
"""A FIN so long after the last answer belongs to no answer any more: a server sends both in one go, or in one round trip."""

KEY_BYTES = 3
"""What a key sends: a letter, CR LF, an escape sequence."""

TRIP_SHARE, TRIP_ROOM_NS = 1.5, 20 * MS
"""A kernel answers within a round trip; half as much and 20 ms are left for busy hosts."""

SAMPLES = 20
"""Packets by which a round trip is measured: the first ones, the handshake among them."""

UNKNOWN_TRIP_NS = 300 * MS
"""A round trip of which nothing is known: across an ocean and back."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Reuse:
    """A request on a connection that the server had ended, or was ending."""

    request: Segment
    """Its first bytes."""
    end: Segment
    """The FIN, or the RST of the live socket, with which the server ended the connection."""
    is_crossing: bool
    """The server had not got the request when it sent the end."""
    is_late: bool
    """The client had acknowledged the FIN before it sent the request."""
    idle_ns: int
    """From the last bytes of either end to the request, at the place nearest to the client."""
    server_idle_ns: int
    """From the last bytes of either end to the server's end, at the place nearest to the server."""
    is_least: bool
    """The capture began within the pause: the idle times are at least so long."""
    answered_before: bool
    doubt: str | None
    """What else it may be, by what the packets show."""


def reuse(connection: Connection) -> Reuse | str:
    """The request that met the server's end, or why there is none, in a clause."""
    end = next((one for one in connection.segments if one.sender == "server" and (one.is_fin or is_socket_reset(one))), None)
    if end is None or not end.flags & ACK:
        return "the server neither closed its side nor aborted the connection"
    sent = [one for one in connection.segments if one.sender == "client" and one.length and not one.is_reset and one.retransmits is None]
    uncovered = [one for one in sent if not seq_before(one.seq, end.ack)]
    message = uncovered or (_covered(connection, sent, end) if is_socket_reset(end) else [])
    if not message:
        return "the server had got all that the client sent when it closed"
    request = message[0]
    if uncovered and request.seq != end.ack:
        return "bytes that the client sent before were missing when the server closed"
    if any(_came_first(connection, reset, end) for reset in connection.resets[:1]):
        return "the connection was reset before the server closed"
    last = _last_before(connection, request, end)
    near, far = _both_seen(connection, request, end), _both_seen(connection, request, end, at_server=True)
    idle = _time(request, near) - _time(last, near) if last is not None else _since_begin(connection, request, near)
    shut = _time(end, far) - _time(last, far) if last is not None else _since_begin(connection, end, far)
    answered = any(one.sender == "server" and one.length and not seq_before(request.ack, one.seq_end) for one in connection.segments)
    late = end.is_fin and bool(request.flags & ACK) and not seq_before(request.ack, end.seq_end)
    found = Reuse(
        request=request,
        end=end,
        is_crossing=bool(uncovered) and not late,
        is_late=late,
        idle_ns=max(0, idle),
        server_idle_ns=max(0, shut),
        is_least=last is None and not connection.syns,
        answered_before=answered,
        doubt=None,
    )
    return _judged(connection, found, last, bool(uncovered))


def _came_first(connection: Connection, reset: Segment, end: Segment) -> bool:
    """True where a RST came before the server's end: by a place that saw both, for between places only clocks tell."""
    both = [place for place in reset.sightings if place in end.sightings]
    for place in both:
        mine, other = reset.sightings[place], end.sightings[place]
        return (mine.time_ns, mine.packet.frame) < (other.time_ns, other.packet.frame)
    return connection.segments.index(reset) < connection.segments.index(end)


def _judged(connection: Connection, found: Reuse, last: Segment | None, uncovered: bool) -> Reuse | str:
    """The same with what is doubtful about it, or why it is no such race."""
    request, end = found.request, found.end
    new = begins_a_request(connection, request)
    if new is False:
        return "the client was in the middle of a request: what met the server's end does not begin one"
    if last is not None and last.sender == "client" and found.idle_ns < IDLE_NS:
        return "the client's message before was still unanswered"
    if last is not None and _CLOSES.search(last.packet.payload) and last.sender == "server":
        return dataclasses.replace(found, doubt="the server's last answer had announced that it would close (Connection: close)")
    delay, prompt = _delay(connection, request, end), TRIP_SHARE * _round_trip_ns(connection, request) + TRIP_ROOM_NS
    if uncovered and delay > prompt and _was_repeated(connection, request, end):
        lost = f"the request had been repeated before the close came, {delay / MS:.0f} ms after it: it may have been lost first"
        return dataclasses.replace(found, doubt=lost)
    if new is None and request.length <= KEY_BYTES:
        return dataclasses.replace(
            found, doubt=f"what crossed it has {request.length} bytes: a key pressed in a terminal, hardly a request"
        )
    if end.is_fin:
        if new is None and found.idle_ns < IDLE_NS:
            return dataclasses.replace(found, doubt="it cannot be read whether the client's bytes begin a request or go on with one")
        if found.server_idle_ns < SHUT_IDLE_NS:
            return dataclasses.replace(found, doubt="the server closed right behind its last bytes, so that it was hardly an idle timeout")
        return found
    if found.server_idle_ns < IDLE_NS and found.is_least:
        return dataclasses.replace(found, doubt="the capture began just before, so that it is unknown whether the connection was idle")
    if found.server_idle_ns < IDLE_NS:
        return "the connection was not idle when the server aborted it"
    if not is_of_its_socket(connection, end) and sent_at_home(connection, end) is None:
        return dataclasses.replace(found, doubt="it is not shown that the server's own socket sent the RST")
    if uncovered:
        return found
    if is_unfinished(connection):
        return "the request had not arrived whole"
    if not found.answered_before and not found.is_least:
        return "no request had been answered on this connection before"
    if delay > prompt:
        return f"the server had had the request for {delay / MS:.0f} ms when it aborted: it was at work on it"
    return found


def _covered(connection: Connection, sent: list[Segment], end: Segment) -> list[Segment]:
    """What the client sent since the server's last bytes, all of which the server's RST acknowledges."""
    answers = [one for one in connection.segments if one.sender == "server" and one.length and not one.is_reset]
    heard = answers[-1].ack if answers else connection.client_isn
    return [one for one in sent if heard is None or not seq_before(one.seq, heard)]


def _last_before(connection: Connection, request: Segment, end: Segment) -> Segment | None:
    """The last bytes of either end before the request, by their numbers; the end of the handshake where there were none."""
    mine = [one for one in connection.segments if one.sender == "client" and one.length and seq_before(one.seq, request.seq)]
    its = [
        one
        for one in connection.segments
        if one.sender == "server" and one.length and not one.is_reset and seq_before(one.seq, end.seq_end)
    ]
    return max((*mine[-1:], *its[-1:], *connection.syn_acks[-1:]), key=lambda one: one.aligned_ns, default=None)


def _both_seen(connection: Connection, request: Segment, end: Segment, *, at_server: bool = False) -> str:
    """The place nearest to an end that saw the request and the end; else the one that saw the end."""
    order = tuple(reversed(connection.places)) if at_server else connection.places
    both = [place for place in order if request.seen_at(place) and end.seen_at(place)]
    return (both or [end.first.vantage_point])[0]


def _time(segment: Segment, place: str) -> int:
    """When a place saw it, by its own clock; where it did not, aligned."""
    sighting = segment.sighting_at(place)
    return sighting.time_ns if sighting is not None else segment.aligned_ns


def _since_begin(connection: Connection, segment: Segment, place: str) -> int:
    """How long the capture of a place had run, without a packet of this connection."""
    ran, seen = connection.topology.running.get(place), segment.sighting_at(place)
    return seen.aligned_ns - ran[0] if ran is not None and seen is not None else 0


def _was_repeated(connection: Connection, request: Segment, end: Segment) -> bool:
    """True where the request was sent again before the end came, at the place nearest to the client."""
    place = _both_seen(connection, request, end)
    again = [one for one in connection.segments if one.sender == "client" and one.retransmits is request and one.seen_at(place)]
    return any(_time(one, place) < _time(end, place) for one in again)


def _delay(connection: Connection, request: Segment, end: Segment) -> int:
    """How long the request had been sent when the server's end was; 0 where the end came first."""
    place = _both_seen(connection, request, end, at_server=True)
    return max(0, _time(end, place) - _time(request, place))


def _round_trip_ns(connection: Connection, request: Segment) -> int:
    """A round trip at the place nearest to the client: the shortest until the server's ACK came, else until the RST for the request did."""
    place = connection.places[0]
    own = [(one, seen.time_ns) for one in connection.segments for seen in [one.sighting_at(place)] if seen is not None]
    acks = [(one, at_ns) for one, at_ns in own if one.sender == "server" and one.flags & ACK and not one.is_reset]
    trips: list[int] = []
    for asked, at_ns in own:
        if asked.sender == "client" and asked.seq != asked.seq_end and not asked.is_reset and len(trips) < SAMPLES:
            back = next((then for one, then in acks if then >= at_ns and not seq_before(one.ack, asked.seq_end)), None)
            trips += [back - at_ns] if back is not None else []
    refused = [at_ns for one, at_ns in own if one.sender == "server" and one.is_reset]
    asked_at = request.sighting_at(place)
    if not trips and refused and asked_at is not None:
        trips = [at_ns - asked_at.time_ns for at_ns in refused if at_ns >= asked_at.time_ns]
    return min(trips, default=UNKNOWN_TRIP_NS)


def begins_a_request(connection: Connection, segment: Segment) -> bool | None:
    """Whether bytes of the client begin an HTTP request; None where the connection does not show that it speaks plain HTTP."""
    payload = segment.packet.payload
    if payload.startswith(HTTP_METHODS):
        return True
    heads = [one for one in connection.segments if one.sender == "client" and one.packet.payload.startswith(HTTP_METHODS)]
    return False if heads and payload else None


def is_unfinished(connection: Connection) -> bool:
    """True where the client's last HTTP request is known to lack bytes: its head or its body was not sent to the end."""
    sent = [one for one in connection.segments if one.sender == "client" and one.length and not one.is_reset]
    head = next((one for one in reversed(sent) if one.packet.payload.startswith(HTTP_METHODS)), None)
    if head is None:
        return False
    start = sent.index(head)
    whole = b"".join(one.packet.payload for one in sent[start : start + 4] if one.retransmits is None)
    text, blank, _ = whole.partition(b"\r\n\r\n")
    gapless = all(len(one.packet.payload) == one.length for one in sent[start : start + 4])
    if not blank:
        return gapless and len(sent) - start <= 4
    text += b"\r\n"
    length = _LENGTH.search(text)
    reached = max((seq_distance(head.seq, one.seq_end) for one in sent[start:]), default=0)
    if length is not None:
        return reached < len(text) + 2 + int(length[1])
    return bool(_CHUNKED.search(text)) and not sent[-1].packet.payload.endswith(b"0\r\n\r\n") and sent[-1].length <= len(
        sent[-1].packet.payload
    )  # fmt: skip
