"""Where a fact was read goes in, a value that every fact carries comes out."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Source:
    """The place of one fact: a file of a vantage point, and the frame or the line in it."""

    vantage_point: str
    file: str
    """Relative to the case, with `/` between the parts."""
    frame: int | None = None
    """The number that Wireshark shows for that file, from 1."""
    line: int | None = None
    """The line of a text file, from 1."""

    def __str__(self) -> str:
        """`001.cap #13` or `gateway.log:1`."""
        if self.frame is not None:
            return f"{self.file} #{self.frame}"
        return self.file if self.line is None else f"{self.file}:{self.line}"


def plain_text(name: str) -> str:
    """A file name as text that JSON and databases take: bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
