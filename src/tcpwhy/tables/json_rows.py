"""Lines that should hold JSON of ip go in; the objects of its arrays come out, each with its line; what is no JSON is kept as unread."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tcpwhy.evidence.source import Source
from tcpwhy.tables.unread import UnreadPieces

MOST_BREAKS = 100
"""Places in one file where reading is taken up again behind damage; each may cost a look at the rest of the file."""
MOST_LOOKS = 8
"""Times the length of a text that reading may cost where objects do not end."""
WARNING_LINES = 50
"""Lines of warnings that may stand before the JSON."""
_BETWEEN = re.compile(r"[\s,]*")
_NEXT_OBJECT = re.compile(r",\s*+\{|\n[^\S\n]*+[\[{]")
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class JsonRow(NamedTuple):
    """One object of an array at the top of the file."""

    line: int
    """Where it begins, from 1."""
    value: dict[str, Any]
    text: str
    """As it stands in the file."""

    def lines_of(self, key: str, behind: str) -> list[int]:
        """The lines on which `"key":` stands behind the first `"behind":`, in order; in pretty-printed JSON they differ."""
        start = self.text.find(f'"{behind}"')
        found, at, line = [], 0, self.line
        for match in re.finditer(rf'"{re.escape(key)}"\s*:', self.text[start:]) if start >= 0 else ():
            line += self.text.count("\n", at, start + match.start())
            at = start + match.start()
            found.append(line)
        return found


def looks_like_json(lines: Sequence[str]) -> bool:
    """Whether a file is JSON, perhaps behind a few lines of warnings; older programs print text although asked for JSON."""
    seen = 0
    for line in lines:
        if line.lstrip("\ufeff \t")[:1] in ("[", "{"):
            return True
        seen += bool(line.strip())
        if seen > WARNING_LINES:
            return False
    return False


def read_json_rows(lines: Sequence[str], source: Source, unread: UnreadPieces) -> Iterator[JsonRow]:
    """The objects of one array or of several that follow each other, in order, without the empty ones.

    iproute2 4.15 to 4.19 prints `{}` for each entry that its filter leaves out (ip/ipaddress.c, ip/iproute.c). Lines around
    the arrays, damage, and an end in the middle are counted as unread. Time is linear in the text.
    """
    text = _LONE_SURROGATE.sub(r"\\ufffd", "\n".join(lines)).lstrip("\ufeff")
    scanner = _Scanner(text, source, unread)
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=lambda _: None, strict=False)
    position, inside = 0, False
    while True:
        position = scanner.skip(position)
        if position >= len(text):
            break
        mark = text[position]
        if mark == "[" and not inside:
            inside, position = True, position + 1
        elif mark == "]" and inside:
            inside, position = False, position + 1
        elif mark == "{" or inside:
            try:
                value, end = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                position = scanner.skip_damage(position, getattr(error, "pos", len(text)))
                continue
            if not isinstance(value, dict):
                scanner.note(position, end, "an element that is no object")
            elif value:
                yield JsonRow(scanner.line_of(position), value, text[position:end])
            position = end
        else:
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            scanner.note(position, end, "a line that is no JSON")
            position = end
    if inside:
        scanner.note(len(text), len(text), "the JSON ends in the middle")


class _Scanner:
    def __init__(self, text: str, source: Source, unread: UnreadPieces) -> None:
        self._text = text
        self._source = source
        self._unread = unread
        self._at, self._line, self._breaks, self._looked = 0, 1, 0, 0

    def line_of(self, position: int) -> int:
        """Positions are asked for in rising order, so that no part of the text is counted twice."""
        self._line += self._text.count("\n", self._at, position)
        self._at = max(self._at, position)
        return self._line

    def skip(self, position: int) -> int:
        found = _BETWEEN.match(self._text, position)
        return found.end() if found else position

    def note(self, start: int, end: int, because: str) -> None:
        line = self.line_of(start)
        source = Source(self._source.vantage_point, self._source.file, line=line)
        self._unread.add(source, self._text[start : min(end, start + 300)].strip(), because)

    def skip_damage(self, position: int, seen: int) -> int:
        """Where an object may begin next; `seen` is how far the text was read when the damage showed."""
        self._breaks += 1
        self._looked += seen - position
        if self._breaks > MOST_BREAKS or self._looked > max(MOST_LOOKS * len(self._text), 1 << 20):
            self.note(position, len(self._text), "the rest: too much of the file is damaged")
            return len(self._text)
        found = _NEXT_OBJECT.search(self._text, position + 1)
        end = found.end() - 1 if found else len(self._text)
        self.note(position, end, "damaged JSON")
        return end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands twice the last counts, of `dst` the first, and all of `nexthop`, as `nexthops`.

    A route with an encapsulation has two destinations: its own, then the tunnel's (iproute2, ip/iproute_lwtunnel.c print_encap_ip()).
    """
    found = dict(pairs)
    if "nexthop" in found:  # of old_route_json.py
        found["nexthops"] = [value for key, value in pairs if key == "nexthop"]
    if len(found) < len(pairs) and "dst" in found:
        found["dst"] = next(value for key, value in pairs if key == "dst")
    return found
