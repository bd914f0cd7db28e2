"""A connection and what ended it go in; how far the answer had come by then comes out."""

from __future__ import annotations

from tcpwhy.causes._resets import before_at, began_before
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import ACK, other_side, seq_before


def waited_ns(connection: Connection, fin: Segment) -> int:
    """How long nothing had come from the other end when this one closed, by the clock of the place that saw it close first."""
    place = fin.first.vantage_point
    came = [one for one in before_at(connection, place, fin, other_side(fin.sender)) if one.length]
    last = came[-1].sighting_at(place) if came else None
    return fin.first.time_ns - last.time_ns if last is not None else 0


def has_taken_some(connection: Connection, end: Segment) -> bool:
    """True where the client's FIN or RST acknowledges some of the answer to its last message, by its numbers."""
    sent = [one for one in connection.segments if one.sender == "client" and one.length and not one.is_reset]
    before = [one for one in sent if one.retransmits is None and not seq_before(end.seq, one.seq)]
    if not before:
        return began_before(connection) and any(one.sender == "server" and one.length for one in connection.segments)
    return bool(end.flags & ACK) and seq_before(before[-1].ack, end.ack)


def answer_had_begun(connection: Connection, reset: Segment) -> bool:
    """True where the server's bytes had come for the client's last message when the RST was sent."""
    before = [one for one in connection.segments[: connection.segments.index(reset)] if one.length and not one.is_reset]
    before = [one for one in before if one.retransmits is None]
    return bool(before) and before[-1].sender == "server"
