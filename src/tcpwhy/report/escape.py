"""Text of packets, logs and file names goes in, text that is safe on a terminal comes out: the one place where this is done."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 600
"""Characters of one fact that a terminal report shows; a log line can be megabytes long. The JSON has all of it."""

_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode general categories that steer a terminal, reorder or break lines, or show nothing (UAX 44 section 5.7.1)."""

_PLAIN = re.compile(r"[\x20-\x7e]*")


def is_unsafe(character: str) -> bool:
    """True for control, escape, bidirectional and other format characters, line separators, surrogates, unassigned ones."""
    return unicodedata.category(character) in _INVISIBLE


def escaped(character: str) -> str:
    r"""A character as `\x1b`, `\u202e` or `\U000e0001`; bytes of a file name that is no UTF-8 as `\xff`."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that Python could not decode (PEP 383)
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(character, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def visible(text: str) -> str:
    """The text with every unsafe character written out; more than one combining mark on a letter is written out too."""
    if _PLAIN.fullmatch(text):
        return text
    shown: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        shown.append(escaped(character) if marks > 1 or is_unsafe(character) else character)
    return "".join(shown)


def shortened(text: str, longest: int = LONGEST) -> str:
    """The visible text, cut where it is longer than `longest` characters, saying how much is left out."""
    if len(text) <= longest:
        return visible(text)
    return f"{visible(text[:longest])}… ({len(text) - longest} more characters)"


def columns_of(text: str) -> int:
    """How many columns of a terminal the visible text takes: wide East Asian characters take two (UAX 11), combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text)


def padded(text: str, columns: int) -> str:
    """The text with spaces behind it up to this many columns."""
    return text + " " * (columns - columns_of(text))


def wrapped(text: str, columns: int) -> list[str]:
    """The text in lines of at most `columns` columns, broken at spaces, and within a word only where it is longer than a line."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if columns_of(joined) <= columns:
            line = joined
            continue
        if line:
            lines.append(line)
        line = ""
        for piece in _pieces(word, columns):
            if line:
                lines.append(line)
            line = piece
    if line or not lines:
        lines.append(line)
    return lines


def _pieces(word: str, columns: int) -> list[str]:
    pieces = [""]
    room = columns
    for character in word:
        taken = columns_of(character)
        if taken > room and pieces[-1]:
            pieces.append("")
            room = columns
        pieces[-1] += character
        room -= taken
    return pieces
