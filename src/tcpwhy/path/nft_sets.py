"""A set or map of nft and a value go in; whether the value is in it, and what it is mapped to, come out, also where that is not known."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from tcpwhy.path.nft_types import NUMBER, Span, Type, span_of
from tcpwhy.path.nft_values import Absent, Number, Unknown, Value, equals
from tcpwhy.tables.nft import Nft, NftChain

MOST_CANDIDATES = 64
"""Elements that a value may be mapped to of which each is followed."""


class Element(NamedTuple):
    """One element."""

    key: Any
    data: Any
    """Of a map; None in a set."""


@dataclasses.dataclass(slots=True)
class Elements:
    """The elements of one set."""

    elements: list[Element]
    fallback: Element | None
    """The element `*`, which takes what no other does."""
    is_complete: bool
    ordered: dict[Type, tuple[list[int], list[tuple[Span, Element]]] | None] = dataclasses.field(default_factory=dict)
    """By the type of the keys: their first numbers and themselves, in order; None where they overlap or are not all understood."""

    def in_order(self, type_: Type) -> tuple[list[int], list[tuple[Span, Element]]] | None:
        """The elements as ranges that do not overlap, sorted once."""
        if type_ not in self.ordered:
            self.ordered[type_] = self._sort(type_)
        return self.ordered[type_]

    def _sort(self, type_: Type) -> tuple[list[int], list[tuple[Span, Element]]] | None:
        ranges: list[tuple[Span, Element]] = []
        for element in self.elements:
            span = span_of(element.key, type_)
            if span is None:
                return None
            ranges.append((span, element))
        ranges.sort(key=lambda pair: pair[0])
        if any(one[0].last >= other[0].first for one, other in itertools.pairwise(ranges)):
            return None
        return [span.first for span, _ in ranges], ranges


class Found(NamedTuple):
    """What a look-up may find."""

    certain: Element | None
    """The element that surely takes the value."""
    possible: tuple[Element, ...] = ()
    """Those that may, where that is not known."""
    may_miss: bool = False
    """Whether it may be that none does."""
    because: str = ""


def elements_of(nft: Nft, chain: NftChain, right: Any) -> Elements | None:
    """The elements of `{"set": [...]}` or `"@name"`; None where there is no such set in the file."""
    if isinstance(right, str):
        key = (chain.family, chain.table, right[1:])
        if key not in nft.compiled:
            named = nft.sets.get(key)
            nft.compiled[key] = None if named is None else _sorted_out(named.elements, named.is_map, named.is_complete)
        found: Elements | None = nft.compiled[key]
        return found
    if not isinstance(right, dict) or "set" not in right:
        return None
    body = right["set"]
    elements = body if isinstance(body, list) else [body]
    # An anonymous set has no name but its place in memory; it is kept beside, so that no other takes that place.
    if id(right) not in nft.compiled:
        nft.compiled[id(right)] = right, _sorted_out(elements, False, True)
    anonymous: Elements = nft.compiled[id(right)][1]
    return anonymous


def _sorted_out(elements: Sequence[Any], is_map: bool, is_complete: bool) -> Elements:
    found: list[Element] = []
    fallback = None
    for element in elements:
        is_pair = isinstance(element, list) and len(element) == 2
        key, data = element if is_pair else (element, None)
        if is_map and not is_pair:
            is_complete = False
            continue
        if isinstance(key, dict) and "elem" in key and isinstance(key["elem"], dict):
            key = key["elem"].get("val")
        if key == "*":
            fallback = Element(key, data)
        else:
            found.append(Element(key, data))
    return Elements(found, fallback, is_complete)


def look_up(elements: Elements | None, value: Value) -> Found:
    """The element for a value: net/netfilter/nft_lookup.c, with `*` for what is in no other (NFT_SET_ELEM_CATCHALL)."""
    if isinstance(value, Absent):
        return Found(None)
    if elements is None:
        return Found(None, (), may_miss=True, because="the set is not in the file")
    if isinstance(value, Number) and not value.unsure and (ordered := elements.in_order(value.type)) is not None:
        starts, ranges = ordered
        at = bisect.bisect_right(starts, value.value) - 1
        if at >= 0 and value.value <= ranges[at][0].last:
            return Found(ranges[at][1])
        return _missed(elements)
    return _search(elements, value)


def _missed(elements: Elements) -> Found:
    if elements.is_complete:
        return Found(elements.fallback)
    possible = () if elements.fallback is None else (elements.fallback,)
    return Found(None, possible, may_miss=True, because="the elements of the set could not all be read")


def _search(elements: Elements, value: Value) -> Found:
    possible: list[Element] = []
    covered = 0
    for element in elements.elements:
        answer = equals(value, element.key)
        if answer:
            return Found(element)
        if answer is None:
            possible.append(element)
            span = span_of(element.key, NUMBER) if isinstance(value, Unknown) else None
            covered += span.last - span.first + 1 if span is not None else 0
    if not possible:
        return _missed(elements)
    because = value.because if isinstance(value, Unknown) else "part of what is looked up is not known"
    if isinstance(value, Unknown) and value.among is not None and covered > value.among.last - value.among.first:
        return Found(None, tuple(possible), may_miss=False, because=because)
    if elements.fallback is not None:
        return Found(None, (*possible, elements.fallback), may_miss=not elements.is_complete, because=because)
    return Found(None, tuple(possible), may_miss=True, because=because)


def is_set(right: Any) -> bool:
    """Whether the right side of a match is a set."""
    if isinstance(right, str):
        return right.startswith("@") and len(right) > 1
    return isinstance(right, dict) and "set" in right
