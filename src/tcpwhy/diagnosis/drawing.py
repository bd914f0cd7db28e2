"""A connection and the evidence of a finding go in; its ladder comes out."""

from __future__ import annotations

from collections.abc import Mapping

from tcpwhy.causes._verdict import describe, relative
from tcpwhy.connections.clocks import ClockFit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import HTTP_METHODS
from tcpwhy.connections.packet import ACK, SYN, flag_text
from tcpwhy.connections.path import fate
from tcpwhy.diagnosis.ladder import Ladder, LadderCell, LadderRow
from tcpwhy.diagnosis.telling import iso

AROUND = 2
"""Rows drawn before and after each that a finding rests on."""

SHORT = 16
"""A connection with so many segments is drawn whole."""


def draw(
    connection: Connection,
    clocks: Mapping[str, ClockFit],
    notes: Mapping[int, str] | None = None,
    *,
    whole: bool = False,
) -> Ladder:
    """The ladder of a connection; `notes` says, by the identity of a segment, what it means for the finding."""
    notes = notes or {}
    segments = connection.segments
    marked = [number for number, segment in enumerate(segments) if id(segment) in notes]
    keep = set(range(len(segments)))
    if not whole and len(segments) > SHORT:
        keep = {near for number in marked for near in range(number - AROUND, number + AROUND + 1)}
        keep |= {0, 1, 2, len(segments) - 1}
        if not marked and connection.failure:
            keep |= {number for number, segment in enumerate(segments) if segment in connection.failure.segments}
    rows = [
        _row(connection, segment, segments[0].aligned_ns, notes.get(id(segment), ""), id(segment) in notes)
        for number, segment in enumerate(segments)
        if number in keep
    ]
    return Ladder(
        client=str(connection.client),
        server=str(connection.server),
        places=connection.places,
        clocks=tuple(line for place in connection.places for line in [_clock(place, clocks, len(connection.places))] if line),
        start=iso(segments[0].aligned_ns) if segments else iso(connection.first_ns),
        rows=tuple(rows),
        left_out=len(segments) - len(rows) + sum(view.left_out for view in connection.views.values()),
    )


def _clock(place: str, clocks: Mapping[str, ClockFit], places: int) -> str:
    fit = clocks.get(place)
    if fit is None:
        return f"clock of {place}: could not be aligned" if places > 1 else ""
    if fit.relative_to == place:
        return ""
    return f"clock of {place}: {fit.mean_offset_ns / 1e9:+.6f} s ±{_short(fit.uncertainty_ns)} against {fit.relative_to}"


def _short(nanoseconds: int) -> str:
    if nanoseconds < 10_000_000:
        return f"{max(1, round(nanoseconds / 1_000))} µs"
    return f"{nanoseconds / 1_000_000:.0f} ms"


def _row(connection: Connection, segment: Segment, start_ns: int, note: str, marked: bool) -> LadderRow:
    cells = []
    for place in connection.places:
        sighting = segment.sighting_at(place)
        if sighting is not None:
            packet = sighting.packet
            cells.append(
                LadderCell(
                    place,
                    packet.file,
                    packet.frame,
                    packet.time_ns,
                    len(sighting.copies),
                    place not in segment.sightings,
                )
            )
    lost = None
    if len(connection.places) > 1:
        reached = fate(connection, segment)
        if reached.missing_at is not None and reached.doubt is None and not _seen_beyond(connection, segment):
            lost = reached.missing_at
    return LadderRow(
        offset_ns=segment.aligned_ns - start_ns,
        sender=segment.sender,
        flags=flag_text(segment.flags),
        label=label(segment, connection),
        cells=tuple(cells),
        lost_before=lost,
        note=note,
        marked=marked,
    )


def _seen_beyond(connection: Connection, segment: Segment) -> bool:
    """True where a place at the segment's own end of the way saw it: backends behind one address are each an end."""
    order = connection.places if segment.sender == "client" else tuple(reversed(connection.places))
    return segment.seen_at(order[-1])


def label(segment: Segment, connection: Connection) -> str:
    """What a segment carries: the request line where one begins, numbers relative to the connection's first ones."""
    parts = []
    line = segment.packet.payload.split(b"\r\n", 1)[0][:60]
    if segment.length and line.startswith((*HTTP_METHODS, b"HTTP/1.")):
        parts.append(line.decode("latin-1"))
    if segment.flags & SYN:
        parts.append(f"seq {segment.seq}")
    else:
        parts.append(f"seq {relative(segment, connection, own=True)}")
    if segment.flags & ACK:
        parts.append(f"ack {relative(segment, connection, own=False)}")
    if segment.length:
        parts.append(f"{segment.length} B")
    if segment.retransmits is not None:
        parts.append("again")
    return " ".join(parts)


def comment(segment: Segment, connection: Connection, note: str) -> str:
    """What `tcpwhy extract` writes beside a packet."""
    return f"tcpwhy: {note} ({describe(segment, connection)})"
