"""Captures of a folder go in, sets that one tcpdump wrote by turns come out, in the order of time."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tcpwhy.evidence.capture_times import CaptureTimes
from tcpwhy.evidence.kind import plain_name

Times = Callable[[Path], CaptureTimes]
"""The times of a capture, to tell a rotated set from captures of several hosts that were numbered."""

OVERLAP_NS = 50_000_000
"""A rotated set's next file may begin this much before the last one's end: packets of several CPUs are
written out of order."""

_ENDING = re.compile(r"\.(?:pcapng|pcap|cap|ntar|dmp|trc)(?=\d*$|\.\d)", re.IGNORECASE)
_TIME = (
    r"(?:\d{4}-?\d\d-?\d\d(?:[T_.\- ]?\d\d[:.\-_]?\d\d(?:[:.\-_]?\d\d)?(?:\.\d+)?)?"
    r"(?:Z|[+-]\d\d:?\d\d)?|1\d{9})"
)
_DUMPCAP = re.compile(r"[._-]?(?:\d{5,}[._-]\d{14}|\d{14}[._-]\d{5,})$")
_TIMED = re.compile(rf"[._\- ]?{_TIME}$")
_COUNTED = re.compile(r"[._-]?\d+$")


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Captures that are one vantage point, in the order of time."""

    name: str
    paths: tuple[Path, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Name:
    base: str
    stem: str
    counter: int
    certain: bool
    """The form is one that only rotation writes; a bare number may as well name a host."""


def stem(name: str) -> str:
    """The name of a capture or log without its endings.

    `gateway` of `gateway.pcap.gz` and `gateway.log.1`.
    """
    name = plain_name(name)
    found = _ENDING.search(name)
    if found and found.start():
        return name[: found.start()]
    for ending in (".log", ".ndjson", ".jsonl", ".txt"):
        at = name.find(ending)
        if at > 0:
            return name[:at]
    return name.removesuffix(Path(name).suffix) or name


def _taken_apart(path: Path) -> _Name:
    name = plain_name(path.name)
    own_stem = stem(path.name)
    found = _ENDING.search(name)
    behind = name[found.end() :] if found else ""
    if behind:  # x.pcap0, x.pcap.1, x.pcap.2026-01-01: what tcpdump -C and logrotate write
        digits = re.sub(r"\D", "", behind)
        return _Name(own_stem, own_stem, int(digits[:30] or 0), certain=True)
    for pattern in (_DUMPCAP, _TIMED):
        rotated = pattern.search(own_stem)
        if rotated and rotated.start():
            return _Name(own_stem[: rotated.start()], own_stem, 0, certain=True)
        if rotated:  # the name is a time and nothing else: tcpdump -G -w %Y%m%d%H%M.pcap
            return _Name("", own_stem, 0, certain=len(own_stem) >= 8)
    counted = _COUNTED.search(own_stem)
    if counted:
        return _Name(own_stem[: counted.start()], own_stem, int(re.sub(r"\D", "", counted.group())[:30]), certain=False)
    return _Name(own_stem, own_stem, -1, certain=True)


def in_order(paths: Sequence[Path], times: Times) -> list[Path]:
    """Captures in the order of their first packet; where that is not known, of their counters and names."""

    def key(path: Path) -> tuple[bool, int, int, str]:
        first = times(path).first_ns
        return (first is None, first or 0, _taken_apart(path).counter, path.name)

    return sorted(paths, key=key)


def group_rotated(paths: Sequence[Path], times: Times) -> list[Group]:
    """One group a vantage point, in the order of names.

    Captures whose names differ by a counter or a time only are one group if their link types are the same and
    each begins when the one before has ended. Where an end is not known (a long compressed capture), a form
    of name that only rotation writes (`x.pcap1`, `x_00001_20260101120000.pcap`, `x-2026-01-01T12.pcap`) is
    believed, a bare number is not.
    """
    bases: dict[tuple[Path, str, str], list[tuple[Path, _Name]]] = {}
    for path in sorted(paths):
        taken = _taken_apart(path)
        ending = _ENDING.search(plain_name(path.name))
        bases.setdefault((path.parent, taken.base, ending.group().lower() if ending else ""), []).append((path, taken))
    groups: list[Group] = []
    for (_folder, base, _ending), members in sorted(bases.items()):
        ordered = in_order([path for path, _ in members], times)
        if len(members) > 1 and _follow(ordered, times, certain=all(name.certain for _, name in members)):
            groups.append(Group(base.rstrip("._- ") or stem(ordered[0].name), tuple(ordered)))
        else:
            groups += [Group(name.stem, (path,)) for path, name in members]
    return sorted(groups, key=lambda group: (group.name, group.paths))


def _follow(ordered: Sequence[Path], times: Times, *, certain: bool) -> bool:
    known = [times(path) for path in ordered]
    if len({found.link_types for found in known if found.link_types}) > 1:
        return False
    held = [found for found in known if found.first_ns is not None]  # a file without packets overlaps nothing
    for before, after in itertools.pairwise(held):
        if before.first_ns is None or after.first_ns is None:
            continue
        if before.last_ns is None:
            if not certain:
                return False
            continue
        allowed = min(OVERLAP_NS, (before.last_ns - before.first_ns) // 10)
        if after.first_ns < before.last_ns - max(allowed, 0):
            return False
    return True
