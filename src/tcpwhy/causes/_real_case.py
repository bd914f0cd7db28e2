"""A cause's id comes in, the ladder of a real case of it goes out: a file of ladders/, which `python -m scripts.ladders` writes."""

from __future__ import annotations

import dataclasses
import importlib.resources


@dataclasses.dataclass(frozen=True, slots=True)
class RealCase:
    """One connection of a case that happened on a real kernel."""

    source: str
    """The case: `examples/NAME`, or the command of the lab that makes one like it."""
    ladder: str
    """The decisive rows, as the reports draw them."""

    def as_text(self) -> str:
        """The file's text."""
        return f"{self.source}\n\n{self.ladder}\n"


def read(text: str) -> RealCase:
    """The same from a file's text."""
    source, _, ladder = text.partition("\n\n")
    return RealCase(source, ladder.rstrip("\n"))


def real_case(cause: str) -> RealCase | None:
    """The real case of a cause, None where no file has been made for it."""
    file = importlib.resources.files("tcpwhy.causes") / "ladders" / f"{cause}.txt"
    return read(file.read_text(encoding="utf-8")) if file.is_file() else None
