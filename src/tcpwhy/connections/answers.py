"""A connection goes in; which request of it was never answered, and whether somebody gave up waiting, come out."""

from __future__ import annotations

import re

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, Failure, Kind
from tcpwhy.connections.packet import ACK, Side, seq_before, seq_distance

HTTP_METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")
HTTP_CONTINUE = b"HTTP/1.1 100"
"""An interim answer, behind which the real one follows (RFC 9110 section 15.2.1)."""

TLS_RECORDS = range(20, 24)
"""TLS record types: change of cipher, alert, handshake, application data (RFC 8446 section 5.1)."""

TLS_ALERT = 21
"""TLS record type (RFC 8446 section 5.1); close_notify is one, and nothing answers it."""

LONGEST_ALERT = 69
"""Bytes of an alert in TLS 1.2 with a block cipher and SHA-256: 5 + 16 + 48 (RFC 5246 section 6.2.3.2)."""

TLS_13_ALERTS = tuple(bytes([23, 3, minor, 0, 19]) for minor in (3, 1))
"""An alert in TLS 1.3 looks like application data of 19 bytes: level, description, type and a tag of 16 (RFC 8446 section 5.2).

Drafts up to 21 said 3.1 in the record (draft-ietf-tls-tls13-21 section 5.1)."""

WAITED_NS = SECOND_NS
"""A client that closes so long after its request waited for the answer; one that closes at once only says that it has no more to ask."""

FAREWELL_BYTES = 512
"""A server's last words to a client that has closed (`221 closing connection`, a WebSocket's close) are shorter."""

TLS_FAREWELL_BYTES = 160
"""GOAWAY and close_notify of both ends, encrypted: 46 and 31 bytes each in TLS 1.2 with AES-GCM (RFC 9113 section 6.8, RFC 5288)."""

AT_ONCE_NS = SECOND_NS // 100
"""A client that closes so soon behind its last message (`QUIT`) did not wait for an answer to it."""


def is_tls_alert(segment: Segment) -> bool:
    """A segment that carries nothing but the end of TLS."""
    payload = segment.packet.payload
    if segment.packet.is_listed and not payload:
        # What is so short and not shown can be one; where that is in doubt nobody is accused.
        return 0 < segment.length <= LONGEST_ALERT
    # One record, however far it is padded: of a block cipher up to 255 bytes (RFC 5246 section 6.2.3.2).
    whole = len(payload) >= 5 and segment.length == 5 + int.from_bytes(payload[3:5])
    old = payload[:2] == bytes([TLS_ALERT, 3]) and (whole or segment.length <= 64)
    return old or (payload[:5] in TLS_13_ALERTS and segment.length == 5 + 19)


def unanswered_request(connection: Connection, end: Segment) -> Segment | None:
    """The client's last message, if it wanted an answer that had not begun when `end` came."""
    message: Segment | None = None
    speaker: Side | None = None
    closed: set[Side] = set()
    if not any(segment.sender == "server" for segment in connection.segments):
        return None  # One direction only was captured (direct return): nobody knows what was answered.
    for segment in connection.segments:
        if segment is end:
            break
        if segment.is_fin:
            closed.add(segment.sender)
        if segment.length and not segment.is_reset and segment.retransmits is None:
            if segment.sender == "client" and (speaker != "client" or segment.packet.payload.startswith(HTTP_METHODS)):
                message = segment
            speaker = segment.sender
    if speaker != "client" or message is None or is_answered(connection, message):
        return None
    payload = message.packet.payload
    if payload.startswith(HTTP_METHODS):
        return message
    # Without HTTP nobody knows whether an answer was due: an open connection that the server resets is an error to the client all
    # the same; a client's own close is not, nor is an alert that ends TLS.
    if end.is_reset and end.sender == "server" and not closed and not is_tls_alert(message):
        return message
    return None


def is_answered(connection: Connection, message: Segment) -> bool:
    """True where the client got data that acknowledges the message: by its numbers, which no clock can put in another order.

    What is seen at the place nearest to the client counts as got, and what the client acknowledges; also where it acknowledges more than
    any capture holds: the captures lost the answer, the client did not.
    """
    end = (message.seq + message.length) & 0xFFFF_FFFF
    seen_end = taken = message.ack
    nearest = connection.places[0]
    for segment in connection.segments:
        if segment.sender == "client" and segment.flags & ACK and not segment.is_reset and seq_before(taken, segment.ack):
            taken = segment.ack
    for segment in connection.segments:
        if segment.sender != "server" or not segment.length:
            continue
        own_end = (segment.seq + segment.length) & 0xFFFF_FFFF
        if segment.flags & ACK and not seq_before(segment.ack, end) and (segment.seen_at(nearest) or seq_before(segment.seq, taken)):
            return True
        seen_end = own_end if seq_before(seen_end, own_end) else seen_end
    # One number more is the server's FIN.
    return any(
        segment.sender == "client" and segment.flags & ACK and not segment.is_reset and seq_distance(seen_end, segment.ack) > 1
        for segment in connection.segments
        if not seq_before(segment.seq, end)
    )


def open_at(connection: Connection, end: Segment) -> Segment | None:
    """The client's HTTP request of which the client had got nothing when it sent `end`, by its numbers: no clock can put these in order.

    What the server sent in between, the client's acknowledgment would cover. None where `end` is not the client's, or tells nothing.
    """
    sent = [one for one in connection.segments if one.sender == "client" and not one.is_reset and one.retransmits is None]
    spoken = [one for one in sent if one.length and not is_tls_alert(one) and one is not end and not seq_before(end.seq, one.seq_end)]
    heads = [one for one in spoken if one.packet.payload.startswith(HTTP_METHODS)]
    if end.sender != "client" or not heads or not any(one.sender == "server" for one in connection.segments):
        return None
    request, last = heads[-1], spoken[-1]
    known = end if end.flags & ACK else max((one for one in sent if one.flags & ACK), key=lambda one: one.aligned_ns, default=None)
    if known is None or known.ack != last.ack:
        return None
    between = [one for one in connection.segments if one.sender == "server" and one.length and _is_between(one, request.ack, last.ack)]
    return (
        request if all(one.packet.payload.startswith(HTTP_CONTINUE) for one in between) and (between or request.ack == last.ack) else None
    )


def _is_between(segment: Segment, start: int, end: int) -> bool:
    return not seq_before(segment.seq, start) and seq_before(segment.seq, end)


_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]{0,8}(\d{1,15})[ \t]*\r\n", re.IGNORECASE)
_NO_BODY = re.compile(rb"HTTP/1\.[01] (?:1\d\d|204|304)\b")


def cut_short(connection: Connection, end: Segment) -> tuple[int, int] | None:
    """How many bytes of the last HTTP answer the server had sent when `end` came, and of how many, where that is less than it promised.

    RFC 9112 section 8: such an answer is incomplete, and the client's program has to treat it as an error.
    """
    if any(view.unseen_acked_bytes for view in connection.views.values()):
        return None  # A capture that dropped packets makes any answer look short.
    head: Segment | None = None
    method = b""
    reach: Segment | None = None
    for segment in connection.segments:
        if segment is end:
            break
        if not segment.length or segment.is_reset:
            continue
        if segment.sender == "client" and segment.packet.payload.startswith(HTTP_METHODS):
            method, head = segment.packet.payload[:5], None
        elif segment.sender == "server" and segment.packet.payload.startswith(b"HTTP/1.") and segment.retransmits is None:
            head, reach = segment, segment
        elif segment.sender == "server" and reach is not None and seq_before(reach.seq_end, segment.seq_end):
            reach = segment
    if head is None or reach is None or method == b"HEAD " or method == b"CONNE" or _NO_BODY.match(head.packet.payload):
        return None
    fields, blank, _ = head.packet.payload.partition(b"\r\n\r\n")
    length = _LENGTH.search(fields + b"\r\n")
    if not blank or length is None:
        return None
    promised = len(fields) + len(blank) + int(length[1])
    got = seq_distance(head.seq, reach.seq_end) - reach.is_fin
    # What is longer than half the sequence space is not measured by it.
    return (got, promised) if 0 <= got < promised < 1 << 31 else None


def given_up(connection: Connection) -> Failure | None:
    """Somebody closed before the answer was there, and took none that came later."""
    fin = next((segment for segment in connection.segments if segment.is_fin), None)
    if fin is None or fin.length:
        return None
    if fin.sender == "client":
        return _given_up_by_client(connection, fin)
    request = unanswered_request(connection, fin)
    if request is None or _answers_after(connection, fin):
        return None
    symptom = f"the server closed {_waited(request, fin)} after the client's request, which was never answered"
    return Failure(Kind.GAVE_UP, symptom, (request, fin), fin.aligned_ns)


def _given_up_by_client(connection: Connection, fin: Segment) -> Failure | None:
    request = open_at(connection, fin)
    if request is None:
        return None
    late = _answers_after(connection, fin)
    after = [one for one in connection.segments if one.sender == "client" and one is not fin and one.aligned_ns >= fin.aligned_ns]
    if any(not one.is_reset and one.flags & ACK and seq_distance(fin.ack, one.ack) > 1 for one in after):
        return None  # It closed its own half only, and took the answer.
    refused = next((one for one in after if one.is_reset), None)
    if late and refused is not None:
        came = (late[0].aligned_ns - request.aligned_ns) / SECOND_NS
        symptom = (
            f"the client closed {_waited(request, fin)} after its request; the answer came {came:.1f} s after it and was refused with RST"
        )
        return Failure(Kind.GAVE_UP, symptom, (request, fin, late[0], refused), fin.aligned_ns)
    if late:
        return None  # Whether it was taken, no capture shows.
    closed = any(one.sender == "server" and (one.is_fin or one.is_reset) for one in connection.segments)
    if not closed and fin.aligned_ns - request.aligned_ns < WAITED_NS:
        return None
    symptom = f"the client closed {_waited(request, fin)} after its request, which was never answered"
    return Failure(Kind.GAVE_UP, symptom, (request, fin), fin.aligned_ns)


def took_leave(connection: Connection, reset: Segment) -> bool:
    """True where the client closed at once behind its last words, and its RST refuses but a few that the server had for the close.

    So end SMTP, POP3 and WebSocket where the client says `QUIT` and closes: nobody waits for the answer. HTTP is left out, whose last
    request is open then. TLS hides what is asked: there all must have been answered before, just before.
    """
    fin = next((segment for segment in connection.segments if segment.is_fin or segment is reset), None)
    if fin is None or not fin.is_fin or fin.is_reset or fin.sender != "client" or reset.sender != "client":
        return False
    data = [one for one in connection.segments if one.length and not one.is_reset]
    late = [one for one in data if one.sender == "server" and seq_before(fin.ack, (one.seq + one.length) & 0xFFFF_FFFF)]
    if sum(one.length for one in late) > FAREWELL_BYTES or any(seq_before(one.seq, fin.ack) for one in late):
        return False
    said = [one for one in data if one.sender == "client" and not seq_before(fin.seq, one.seq)]
    if not said or any(one.retransmits is not None for one in said):
        return False
    last, at_once = said[-1].packet.payload, fin.aligned_ns - said[-1].aligned_ns <= AT_ONCE_NS
    if not last or last.startswith(HTTP_METHODS):
        return False
    if last[0] in TLS_RECORDS and last[1:2] == b"\3":
        return at_once and is_tls_alert(said[-1]) and _was_answered_before(fin, said, [one for one in data if one.sender == "server"], late)
    # Its acknowledgment covers the FIN: the server said it to a client that had closed, and nothing before was under way.
    return at_once and all(one.ack == fin.seq_end for one in late)


def _was_answered_before(fin: Segment, said: list[Segment], heard: list[Segment], late: list[Segment]) -> bool:
    """True where the client took leave in TLS (close_notify, HTTP/2's GOAWAY) just behind an answer to all that it had said before.

    What the server says then is no more than the same: an alert, a GOAWAY, an acknowledgment of SETTINGS (RFC 9113 section 6).
    """
    asked = [one for one in said if fin.aligned_ns - one.aligned_ns > AT_ONCE_NS]
    came = [one for one in heard if not seq_before(fin.ack, (one.seq + one.length) & 0xFFFF_FFFF)]
    leave = [*said[len(asked) :], *late]
    if not asked or not came or sum(one.length for one in leave) > TLS_FAREWELL_BYTES:
        return False
    return not seq_before(came[-1].ack, asked[-1].seq_end) and fin.aligned_ns - came[-1].aligned_ns < WAITED_NS


def _answers_after(connection: Connection, fin: Segment) -> list[Segment]:
    """What the server said when `fin` had been sent: by numbers where the client sent it, else by time."""
    if fin.sender == "client":
        later = [one for one in connection.segments if one.sender == "server" and one.length and not seq_before(one.seq, fin.ack)]
    else:
        later = [one for one in connection.segments if one.sender == "server" and one.length and one.aligned_ns >= fin.aligned_ns]
    return [one for one in later if one.retransmits is None]


def _waited(request: Segment, end: Segment) -> str:
    return f"{(end.aligned_ns - request.aligned_ns) / SECOND_NS:.1f} s"
