"""A case folder comes in; every smaller case that is to be judged too goes out: places alone, files and states away, pairs of these."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path, PurePosixPath
from typing import Literal

Kind = Literal["all", "one place", "one removal", "two removals"]

STATE_FILES_AWAY = 2
"""Single files of states that are taken away from a case, drawn at random: it may have a hundred."""

PAIRS_AWAY = 5
"""Pairs of removals of a case, drawn at random."""


@dataclass(frozen=True)
class Evidence:
    """A part of a case: the files that stay, relative to its folder."""

    name: str
    kind: Kind
    files: frozenset[str]

    def lay_out(self, case: Path, target: Path) -> None:
        """Make `target` the folder of this part; its files are links to the case's."""
        for name in sorted(self.files):
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(case / name, copy)


def files_of(case: Path) -> frozenset[str]:
    """All files of a case, indexes apart, which may stand in a place's folder too."""
    names = (path.relative_to(case) for path in case.rglob("*") if path.is_file())
    return frozenset(name.as_posix() for name in names if ".tcpwhy" not in name.parts)


def parts_of(case: Path, *, states: int = STATE_FILES_AWAY, pairs: int = PAIRS_AWAY) -> Iterator[Evidence]:
    """The whole case first, then less and less of it, each part once; the same parts each time, drawn by the case's name."""
    whole = files_of(case)
    places = sorted({name.partition("/")[0] for name in whole if "/" in name})
    draw = random.Random(case.name)
    told: set[frozenset[str]] = set()

    def fresh(name: str, kind: Kind, files: frozenset[str]) -> Iterator[Evidence]:
        if files not in told and any(is_packets(one) for one in files):
            told.add(files)
            yield Evidence(name, kind, files)

    yield from fresh("all", "all", whole)
    for place in places:
        yield from fresh(f"{place} alone", "one place", frozenset(name for name in whole if "/" not in name or _in(name, place)))
    removals = _removals(whole, places)
    for name, away in removals.items():
        yield from fresh(f"without {name}", "one removal", whole - away)
    single = sorted(name for name in whole if is_state(name) and (case / name).stat().st_size)
    for name in draw.sample(single, min(states, len(single))):
        yield from fresh(f"without {name}", "one removal", whole - {name})
    couples = list(combinations(removals, 2))
    draw.shuffle(couples)
    pairs_of = (
        part
        for one, other in couples
        for part in fresh(f"without {one} and {other}", "two removals", whole - removals[one] - removals[other])
    )
    yield from islice(pairs_of, pairs)


def _removals(whole: frozenset[str], places: list[str]) -> dict[str, frozenset[str]]:
    """What is taken away at once, by its name: a place, a capture, a log, the state of a place, all states, all logs."""
    found = {place: frozenset(name for name in whole if _in(name, place)) for place in places}
    found |= {name: frozenset([name]) for name in sorted(whole) if "/" in name and not is_state(name)}
    for place in places:
        found[f"{place}'s state"] = frozenset(name for name in whole if _in(name, place) and is_state(name))
    found["any state"] = frozenset(filter(is_state, whole))
    found["any log"] = frozenset(name for name in whole if "/" in name and not is_state(name) and not is_packets(name))
    return {name: away for name, away in found.items() if away and away != whole}


def _in(name: str, place: str) -> bool:
    return name.partition("/")[0] == place


def is_state(name: str) -> bool:
    """Whether a file is part of a host's state."""
    parts = PurePosixPath(name).parts
    return len(parts) > 2 and parts[1].startswith("state")


def is_packets(name: str) -> bool:
    """Whether a file is a capture."""
    return ".pcap" in PurePosixPath(name).name
