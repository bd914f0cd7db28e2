"""The one notation for a connection's packets: rows in aligned time, a column a place; drawn by the reports, built by `draw`."""

from __future__ import annotations

import msgspec

from tcpwhy.connections.packet import Side


class LadderCell(msgspec.Struct, frozen=True):
    """What one place saw of a segment."""

    place: str
    file: str
    frame: int
    time_ns: int
    """By the place's own clock."""
    copies: int = 1
    """How many records show it, copies included."""
    partial: bool = False
    """The place saw these bytes cut into other segments (offload); the frame is the first of them."""
    line: int | None = None
    """Of a listing in text, whose frames nobody sees."""

    @property
    def position(self) -> str:
        """`#13` of a capture, `:13` of a listing."""
        return f"#{self.frame}" if self.line is None else f":{self.line}"


class LadderRow(msgspec.Struct, frozen=True):
    """One segment, from its sender to the other end."""

    offset_ns: int
    """Aligned time since the ladder's first row."""
    sender: Side
    flags: str
    label: str
    """What it carries in the field's words: `POST /upload 1448 B`, `seq 7594 ack 1115`, …; relative sequence numbers."""
    cells: tuple[LadderCell, ...]
    lost_before: str | None = None
    """The first place on its way that did not see it, where it was lost."""
    note: str = ""
    """Why this row matters to the finding: `an effect: the gateway's socket is gone`."""
    marked: bool = False
    """The finding rests on this row."""


class Ladder(msgspec.Struct, frozen=True):
    """One connection as a ladder."""

    client: str
    server: str
    places: tuple[str, ...]
    """Nearest to the client first."""
    clocks: tuple[str, ...]
    """A line for each clock that was shifted: `clock of backend-03: +5.019 s ±40 µs`; or that could not be aligned."""
    start: str
    """ISO 8601 of the first row, aligned, UTC."""
    rows: tuple[LadderRow, ...]
    left_out: int = 0
    """Rows not drawn, because they are alike and many."""
