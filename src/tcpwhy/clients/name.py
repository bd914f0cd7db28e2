"""What single witnesses say of a client goes in; names that agree are merged, and names on the way to another one fold into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tcpwhy.clients.row import Basis
from tcpwhy.clients.story import End, same_client

PROVEN, LIKELY, LOWERED, DOUBTED = 3, 2, 1, 0
"""How far a name can be relied on: packets of both sides show it; one witness says it; one witness that may be something else says it,
beside others that are surely none; others could have written it, or it may be another connection's."""

TABLES: frozenset[Basis] = frozenset(("lb-table", "conntrack", "log", "lb-capture"))
"""Witnesses that neither the client nor a proxy writes into the connection itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """One name of a connection's client."""

    end: End
    bases: tuple[Basis, ...]
    """What it rests on, outwards from the server."""
    because: tuple[str, ...]
    grade: int
    witnesses: frozenset[Basis] = frozenset()
    """The first links of independent chains that lead to it."""
    passes: frozenset[End] = frozenset()
    """Ends that lie on the way to it: addresses of balancers and NAT hosts, as a chain showed."""
    followed_ns: int | None = None
    """When another connection was first seen of which the same was said."""
    is_end: bool = False
    """The client's own capture shows it: nobody is behind it."""

    def __post_init__(self) -> None:
        if not self.witnesses:
            object.__setattr__(self, "witnesses", frozenset(self.bases[:1]))

    def passing(self, *ends: End) -> Name:
        """The same with further ends on the way."""
        return dataclasses.replace(self, passes=(self.passes | frozenset(ends)) - {self.end})

    def then(self, outer: Name) -> Name:
        """The name that lies outwards of this one, reached through it."""
        return Name(
            end=outer.end,
            bases=_in_order(self.bases, outer.bases),
            because=_in_order(self.because, outer.because),
            grade=min(self.grade, outer.grade),
            witnesses=self.witnesses,
            passes=(self.passes | outer.passes | {self.end}) - {outer.end},
            followed_ns=outer.followed_ns,
            is_end=outer.is_end,
        )

    def with_witness(self, other: Name) -> Name:
        """The same, told by another witness too."""
        return dataclasses.replace(
            self,
            end=self.end if self.end[1] is not None else (self.end[0], other.end[1] if other.end[0] == self.end[0] else None),
            bases=_in_order(self.bases, other.bases),
            because=_in_order(self.because, other.because),
            grade=max(self.grade, other.grade),
            witnesses=self.witnesses | other.witnesses,
            passes=(self.passes | other.passes) - {self.end},
            is_end=self.is_end or other.is_end,
        )


def merged(names: Sequence[Name]) -> list[Name]:
    """Names of one client as one, those on the way to another folded into it; told names before doubted ones, else in order."""
    told = _folded(_grouped([name for name in names if name.grade > DOUBTED]))
    doubted = [name for name in names if name.grade == DOUBTED and not any(same_client(name.end, other.end) for other in told)]
    on_the_way = [end for name in told for end in name.passes]
    doubted = [name for name in doubted if not any(same_client(name.end, end) for end in on_the_way)]
    return [*told, *_grouped(doubted)]


def _grouped(names: Sequence[Name]) -> list[Name]:
    """One name for each client; an address without port joins the one name that has that address, or stays where there are several."""
    groups: list[Name] = []
    for name in sorted(names, key=lambda one: one.end[1] is None):
        same = [at for at, group in enumerate(groups) if same_client(name.end, group.end)]
        if len(same) == 1:
            groups[same[0]] = groups[same[0]].with_witness(name)
        elif not same:
            groups.append(name)
    return groups


def _folded(names: Sequence[Name]) -> list[Name]:
    """Names without those that another one passes, which count as its witnesses; two that pass each other both stay."""
    kept = list(names)
    for inner in names:
        if inner.is_end:
            continue
        beyond = [at for at, outer in enumerate(kept) if _lies_within(inner, outer) and not _lies_within(outer, inner)]
        if beyond:
            for at in beyond:
                outer = kept[at]
                kept[at] = dataclasses.replace(
                    outer,
                    bases=_in_order(inner.bases, outer.bases),
                    because=_in_order(inner.because, outer.because),
                    witnesses=outer.witnesses | inner.witnesses,
                )
            kept = [name for name in kept if name.end != inner.end]
    return kept


def _lies_within(inner: Name, outer: Name) -> bool:
    return outer.end != inner.end and any(same_client(inner.end, end) for end in outer.passes)


def _in_order(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*first, *(one for one in second if one not in first))
