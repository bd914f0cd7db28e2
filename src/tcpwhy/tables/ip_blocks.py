"""`ip link` or `ip address` in text goes in; one block an interface comes out, its lines told apart by what they say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

_HEAD = re.compile(r"(\d{1,10}): (\S+?):? +(?:<([^>]*)>)?(.*)", re.ASCII)
_ONE_LINE = re.compile(r"(\d{1,10}): (\S+) +(inet6?|family) (.*)", re.ASCII)


@dataclasses.dataclass(slots=True)
class Block:
    """One interface's lines."""

    line: int
    """Where it begins, from 1."""
    index: int
    name: str
    """Without `@peer`."""
    peer: str
    """What stands behind the `@`: `if5`, `NONE`, a name; empty without one."""
    flags: tuple[str, ...]
    words: list[str]
    """Of the first line, behind the flags: `mtu 1500 qdisc …`."""
    rest: list[tuple[int, list[str]]] = dataclasses.field(default_factory=list)
    """Line and words of the lines below."""
    is_link: bool = True
    """False where the block is a line of `ip -o address` alone, which says nothing of the interface."""


def split_blocks(lines: Sequence[str]) -> Iterator[Block | tuple[int, str]]:
    r"""The blocks in order; a line that belongs to none, with its number, as it is.

    Understands `ip -o`, where a backslash stands for the line's end. One interface may have several blocks under `ip -o address`.
    """
    block: Block | None = None
    for number, line in enumerate(lines, 1):
        first, *more = line.split("\\")
        if line[:1] in (" ", "\t"):
            if block is None:
                yield number, line.strip()
            else:
                block.rest += [(number, words) for words in (part.split() for part in (first, *more)) if words]
            continue
        if not line.strip():
            continue
        if block is not None:
            yield block
        block = _block(number, first)
        if block is None:
            yield number, line.strip()
        else:
            block.rest += [(number, words) for words in (part.split() for part in more) if words]
    if block is not None:
        yield block


def _block(number: int, line: str) -> Block | None:
    found = _ONE_LINE.fullmatch(line)
    if found is not None:
        index, name, family, rest = found.groups()
        return Block(number, int(index), name, "", (), [], [(number, [family, *rest.split()])], is_link=False)
    found = _HEAD.fullmatch(line)
    if found is None or found.group(3) is None:
        return None
    index, name, flags, rest = found.groups()
    name, _, peer = name.rpartition("@") if "@" in name else (name, "", "")
    return Block(number, int(index), name, peer, tuple(flag for flag in flags.split(",") if flag), rest.split())
