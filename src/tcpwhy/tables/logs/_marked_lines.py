"""A log and words go in; the lines that hold one of the words come out with their numbers, and those around them on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from tcpwhy import _core

BLOCK = 1 << 20
"""Bytes that are read at once."""

LONGEST_LINE = 16_384
"""Bytes of a line that are looked at; the rest is skipped."""

KEPT = 64 << 10
"""Bytes of the block before that `before` reaches back into."""


class MarkedLines:
    """The lines of a stream that hold one of some words. All others are passed over at the speed of the core."""

    def __init__(self, stream: BinaryIO, words: Sequence[bytes]) -> None:
        self.number = 0
        """Of the line that was given last, from 1."""
        self.lines = 0
        """Lines of all blocks that were read."""
        # What a damaged stream gives before its damage must not be lost with it: one read of what lies below at a time.
        self._read_some: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._words = list(words)
        self._rest = b""
        self._skipping = False
        self._block = b""
        self._kept = b""
        """The end of the block before."""
        self._at = 0
        """Where the next line of the block begins."""
        self._passed = 0
        """Lines before `_at`."""
        self._first = 0
        """Lines before the block."""
        self._marks: Iterator[tuple[int, int, int]] = iter(())
        self._given = 0
        """Where the line that was given last begins."""
        self._ended = False

    def next_marked(self) -> bytes | None:
        """The next line that holds one of the words, without its end; None at the end of the stream."""
        while True:
            for number, start, end in self._marks:
                if start >= self._at:
                    return self._give(self._first + number, start, end)
            if not self._read():
                return None

    def next_line(self) -> bytes | None:
        """The next line, whatever it holds."""
        while self._at >= len(self._block):
            if not self._read():
                return None
        end = self._block.find(b"\n", self._at)
        return self._give(self._passed, self._at, len(self._block) if end < 0 else end)

    @property
    def here(self) -> bytes:
        """The line that was given last."""
        return self._block[self._given : min(self._at - 1, self._given + LONGEST_LINE)]

    def before(self, most: int) -> Iterator[bytes]:
        """The lines before the one that was given last, the nearest first, as far as they are still in memory."""
        for block, end in ((self._block, self._given), (self._kept, len(self._kept))):
            while end > 0 and most > 0:
                start = block.rfind(b"\n", 0, end - 1) + 1
                yield block[start : min(end - 1, start + LONGEST_LINE)]
                end, most = start, most - 1

    def _give(self, before: int, start: int, end: int) -> bytes:
        self._at, self._given = end + 1, start
        self._passed = before + 1
        self.number = before + 1
        return self._block[start : min(end, start + LONGEST_LINE)]

    def _read(self) -> bool:
        """The next block of whole lines; a line longer than any program writes keeps its begin only."""
        while not self._ended:
            data = self._read_some(BLOCK)
            self._ended = not data
            if self._skipping:
                end = data.find(b"\n")
                data, self._skipping = (data[end:], False) if end >= 0 else (b"", not self._ended)
            cut = data.rfind(b"\n") + 1
            if not cut and not self._ended:
                self._rest += data
                if len(self._rest) > LONGEST_LINE:
                    self._rest, self._skipping = self._rest[:LONGEST_LINE], True
                continue
            block = self._rest + (data if self._ended else data[:cut])
            self._rest = b"" if self._ended else data[cut:]
            if block:
                self._take(block)
                return True
        return False

    def _take(self, block: bytes) -> None:
        self._kept = self._block[-KEPT:]
        self._first = self.lines
        self._block, self._at, self._passed, self._given = block, 0, self.lines, 0
        self.lines += block.count(b"\n") + (not block.endswith(b"\n"))
        self._marks = iter(_core.marked_lines(block, self._words))
