"""A line of a state file that no reader understands goes in; it is kept here with its place, so that nothing is lost in silence."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source, plain_text

MOST_KEPT = 200
"""Unread pieces kept of one file; all are counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """One piece of a file that could not be understood, whole or in part."""

    source: Source
    text: str
    """As it stands in the file, cut after 300 characters."""
    because: str


@dataclasses.dataclass(frozen=True, slots=True)
class UnreadFile:
    """What of one file was not understood."""

    file: str
    """Relative to the case."""
    count: int
    """Pieces, at least: of those beyond MOST_KEPT it is not told whether two tables mean the same one."""
    first: Unread

    @property
    def note(self) -> str:
        """One line: the file, how much of it, and the first of it."""
        first = self.first
        where = "" if first.source.line is None else f"line {first.source.line}"
        shown = f"`{first.text.strip()[:120]}`" if first.text.strip() else ""
        many = "1 piece was" if self.count == 1 else f"{self.count} pieces were"
        begin = " ".join(part for part in ("the first is" if self.count > 1 else "", where, shown) if part)
        return f"{plain_text(self.file)}: {many} not understood; {begin}{': ' if begin else ''}{first.because}"


@dataclasses.dataclass(slots=True)
class UnreadPieces:
    """What of one or several files was not understood."""

    pieces: list[Unread] = dataclasses.field(default_factory=list)
    """The first MOST_KEPT of them, and the first of each file."""
    count: int = 0
    by_file: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many of each file."""

    def add(self, source: Source, text: str, because: str) -> None:
        """Counts a piece, and keeps it while there are few, and the first of each file."""
        if len(self.pieces) < MOST_KEPT or source.file not in self.by_file:
            self.pieces.append(Unread(source, text[:300], because))
        self._count(source.file, 1)

    def add_all(self, others: UnreadPieces) -> None:
        """Takes over what another reader did not understand."""
        for piece in others.pieces:
            if len(self.pieces) < MOST_KEPT or piece.source.file not in self.by_file:
                self.pieces.append(piece)
            self.by_file.setdefault(piece.source.file, 0)
        for file, count in others.by_file.items():
            self._count(file, count)

    def _count(self, file: str, count: int) -> None:
        self.count += count
        self.by_file[file] = self.by_file.get(file, 0) + count
