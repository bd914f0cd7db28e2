"""A section of a text goes in; its records come out: each packet's own line, with the lines that belong to it."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator
from pathlib import Path

from tcpwhy.evidence.pasted import Section, read_lines
from tcpwhy.tables.listings._stamps import STAMPED

MOST_LINES = 5_000
"""Lines of one record: a dump of 64 KiB has 4,096."""

MOST_DUMPED = 1 << 17
"""Bytes of a dump that are kept."""

_QUOTE = re.compile(r"^[>|`*]*[>|`]\s?")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\u200b\u200e\u200f\ufeff]")
_PREFIX = re.compile(
    r".{0,100}\btcpdump\[\d{1,8}\]: (?=\d|IP|\s)"  # what a journal puts before each line
    r"|\d{4}-\d\d-\d\dT\S{8,26} (?:std(?:out|err) [FP] )?(?=\d\d:\d\d:\d\d\.\d{6}|\d{10}\.\d{6}|\s{4}|\t)"  # a container's log
)
_DUMP = re.compile(r"^\s*0x[0-9a-f]{4,8}:\s+((?:[0-9a-f]{2,4} ?)+)")


@dataclasses.dataclass(slots=True)
class Record:
    """A packet's line and what stands below it."""

    line: int
    lines: list[str]
    size: int = 0
    dump: bytearray = dataclasses.field(default_factory=bytearray)
    is_packet: bool = True
    """False for a line of which only its time is understood."""

    @property
    def text(self) -> str:
        """All of it in one line."""
        return self.lines[0] if len(self.lines) == 1 else " ".join(line.strip() for line in self.lines)


def cleaned(line: bytes) -> str:
    """A line as it was printed: without quoting, escapes and what browsers and ticket systems make of blanks and arrows."""
    text = line.decode("utf-8", "replace").rstrip("\r\n").replace("\xa0", " ")
    if "\x1b" in text or "\u200b" in text or "\ufeff" in text or "\u200e" in text:
        text = _ESCAPES.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    prefix = _PREFIX.match(text)
    if prefix is not None:
        text = text[prefix.end() :]
    stripped = text.lstrip()
    while quote := _QUOTE.match(stripped):
        stripped = stripped[quote.end() :].lstrip()
        text = stripped
    return text


def read_records(path: Path, section: Section, begins: re.Pattern[str], ends: re.Pattern[str]) -> Iterator[Record]:
    """The records of a section: `begins` matches a packet's first line, `ends` a line that belongs to none. Raises OSError.

    Other lines that begin with a time are records too, for packets of protocols that no dialect reads.
    """
    now: Record | None = None
    for number, (_, line) in enumerate(read_lines(path, section.start, section.end), section.first_line):
        text = cleaned(line)
        is_packet = begins.match(text) is not None
        if is_packet or STAMPED.match(text):
            if now is not None:
                yield now
            now = Record(number, [text], is_packet=is_packet)
        elif now is not None:
            dump = _DUMP.match(text)
            if dump is not None:
                if len(now.dump) < MOST_DUMPED:
                    digits = dump[1].replace(" ", "")
                    now.dump += bytes.fromhex(digits[: len(digits) // 2 * 2])
            elif ends.search(text):
                yield now
                now = None
            elif text.strip() and len(now.lines) < MOST_LINES and now.size < MOST_DUMPED:
                now.lines.append(text)
                now.size += len(text)
    if now is not None:
        yield now
