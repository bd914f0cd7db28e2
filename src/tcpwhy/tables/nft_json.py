"""The JSON of `nft -j list ruleset` goes in, also damaged or cut off; its objects come out, each with the line it begins at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tcpwhy.tables.nft_text import Entry

_HEAD = re.compile(r'[^\[{]{0,10000}?(?:\{\s*"nftables"\s*:\s*)?\[', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_COMMANDS = ("add", "create", "insert", "replace")


def looks_like_json(text: str) -> bool:
    """Whether it is JSON, perhaps behind a line of warnings; the text form begins with `table` or `#`."""
    found = _HEAD.match(text)
    return found is not None and "table" not in text[: found.start()] and found.group().rstrip().endswith("[") and _is_start(found.group())


def _is_start(head: str) -> bool:
    return not head.lstrip().startswith(("table ", "#")) or '"nftables"' in head


def parse_nft_json(text: str) -> Iterator[Entry]:
    """The objects of the array `nftables`, in order. Where the JSON is damaged the rest is one unread entry. Linear in the text."""
    text = _LONE_SURROGATE.sub(r"\\ufffd", text)
    head = _HEAD.match(text)
    if head is None:
        if text.strip():
            yield Entry(1, "", {}, text.strip()[:300], "it is neither the JSON nor the text of nft")
        return
    decoder = json.JSONDecoder(parse_constant=lambda _: None, strict=False)
    position, line, counted = head.end(), 1, 0
    while True:
        between = _BETWEEN.match(text, position)
        position = between.end() if between else position
        line += text.count("\n", counted, position)
        counted = position
        if position >= len(text):
            yield Entry(line, "", {}, "", "the JSON ends in the middle")
            return
        if text[position] == "]":
            break
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield Entry(line, "", {}, text[position : position + 300], f"the JSON is damaged from here on ({str(error)[:80]})")
            return
        yield from _entries(value, line)
        position = end
    rest = text[position + 1 :].strip()
    if rest not in ("", "}"):
        yield Entry(line + text.count("\n", counted, position + 1), "", {}, rest[:300], "it stands behind the end of the JSON")


def _entries(value: Any, line: int) -> Iterator[Entry]:
    if not isinstance(value, dict) or not value:
        yield Entry(line, "", {}, _shown(value), "it is no object of a ruleset")
        return
    for kind, body in value.items():
        if kind == "metainfo":
            continue
        if kind in _COMMANDS and isinstance(body, dict):
            for inner_kind, inner in body.items():
                yield _entry(str(inner_kind), inner, line)
        else:
            yield _entry(str(kind), body, line)


def _entry(kind: str, body: Any, line: int) -> Entry:
    if isinstance(body, dict):
        return Entry(line, "set" if kind == "meter" else kind, body)
    return Entry(line, "", {}, _shown({kind: body}), "it is no object of a ruleset")


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, default=str)[:300]
    except (ValueError, RecursionError):
        return ""
