"""The ways of one packet through one base chain go in; the same ways come out without what makes no difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tcpwhy.path.packet import Packet
from tcpwhy.path.passage import Passage, Verdict
from tcpwhy.path.trace import Doubt, Stage, Step

MATCHES, DOES_NOT_MATCH = "matches", "does not match"


class Trail(NamedTuple):
    """Steps, the last first: ways that part share what lies before."""

    step: Step
    before: Trail | None

    @staticmethod
    def steps(trail: Trail | None) -> tuple[Step, ...]:
        """In the order in which they were taken."""
        found: list[Step] = []
        while trail is not None:
            found.append(trail.step)
            trail = trail.before
        return tuple(reversed(found))


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way, up to a rule."""

    packet: Packet
    trail: Trail | None = None
    doubts: tuple[Doubt, ...] = ()
    assumed: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """What it takes for true of parts of rules that cannot be told, by their text."""
    changed_sets: frozenset[str] = frozenset()

    @property
    def key(self) -> Hashable:
        """Ways that agree in it go on alike."""
        return self.packet, self.changed_sets

    def go(self, step: Step) -> Way:
        """One step further."""
        return dataclasses.replace(self, trail=Trail(step, self.trail))

    def doubt(self, doubt: Doubt, assumed: Mapping[str, bool] | None = None) -> Way:
        """With one more doubt, and what it takes for true by that."""
        return dataclasses.replace(self, doubts=(*self.doubts, doubt), assumed={**self.assumed, **(assumed or {})})


class End(NamedTuple):
    """A way that a verdict ended."""

    way: Way
    verdict: Verdict


@dataclasses.dataclass(slots=True)
class Outcome:
    """Where ways stand after a rule or a chain."""

    on: list[Way] = dataclasses.field(default_factory=list)
    """They go on with the next rule."""
    back: list[Way] = dataclasses.field(default_factory=list)
    """They go back to the chain before, in a base chain to its policy."""
    ended: list[End] = dataclasses.field(default_factory=list)


def merge_ways(ways: Sequence[Way]) -> list[Way]:
    """Ways that go on alike become one: that with the fewest doubts, which takes for true only what all of them do."""
    if len(ways) < 2:
        return list(ways)
    groups: dict[Hashable, list[Way]] = {}
    for way in ways:
        groups.setdefault(way.key, []).append(way)
    merged = []
    for group in groups.values():
        best = min(group, key=lambda way: len(way.doubts))
        if len(group) > 1:
            shared = {text: value for text, value in best.assumed.items() if all(one.assumed.get(text) is value for one in group)}
            best = dataclasses.replace(best, assumed=shared)
        merged.append(best)
    return merged


def collapse(entry: Way, outcome: Outcome) -> Outcome:
    """Where all ways that come from `entry` go on alike, what parted them made no difference, and its doubts are those of the entry."""
    ways = merge_ways(outcome.on)
    if outcome.ended or outcome.back or len(ways) != 1:
        return Outcome(ways, outcome.back, outcome.ended)
    only = ways[0]
    if len(outcome.on) > 1 or only.doubts != entry.doubts:
        trail = only.trail if len(outcome.on) == 1 else entry.trail
        only = dataclasses.replace(entry, packet=only.packet, changed_sets=only.changed_sets, trail=trail)
    return Outcome([only])


def _verdict_key(end: End) -> Hashable:
    """Ends that agree in it mean the same for the packet and for what is said of it."""
    verdict = end.verdict
    packet = None if verdict.kind in ("drop", "reject", "stolen") else end.way.packet
    if verdict.kind == "accept":
        return verdict.kind, packet
    return verdict.kind, packet, verdict.rule, verdict.source, verdict.nat, verdict.reject_with, verdict.port, verdict.address


def merge_ends(ends: Iterable[End]) -> list[tuple[End, list[End]]]:
    """One end of each kind, that with the fewest doubts, and all that are like it."""
    groups: dict[Hashable, list[End]] = {}
    for end in ends:
        groups.setdefault(_verdict_key(end), []).append(end)
    return [(min(group, key=lambda end: len(end.way.doubts)), group) for group in groups.values()]


def passages(ends: Iterable[End], base: str) -> list[Passage]:
    """The ways as the walk takes them: alike ones merged, doubts that change nothing dropped."""
    merged = merge_ends(ends)
    if len(merged) == 1:
        return [_certain(*merged[0], base)]
    found = []
    for best, group in merged:
        doubts = _fewest(group)
        found.append(Passage(best.verdict, best.way.packet, Trail.steps(best.way.trail), doubts))
    return found


def _certain(best: End, group: list[End], base: str) -> Passage:
    """All ways end alike: only steps that all of them take, and a rule only where it is the same one, are told."""
    verdict, way = best.verdict, best.way
    if not way.doubts:
        return Passage(verdict, way.packet, Trail.steps(way.trail), ())
    steps = _common([Trail.steps(end.way.trail) for end in group])
    if any((end.verdict.rule, end.verdict.source) != (verdict.rule, verdict.source) for end in group):
        verdict = dataclasses.replace(verdict, rule="", source=None, chain=base)
    last = way.trail.step if way.trail is not None else None
    if last is not None and last not in steps:
        if not verdict.rule:
            text = f"{base}: the packet is accepted, whichever way it takes"
            last = Step(Stage.POLICY, last.hook, text, (), "", last.before, way.packet)
        steps = (*steps, last)
    return Passage(verdict, way.packet, steps, ())


def _common(trails: list[tuple[Step, ...]]) -> tuple[Step, ...]:
    """The steps with which all trails begin; none of a single one, for the ways that joined it may have taken others."""
    shared = 0
    while len(trails) > 1 and all(len(trail) > shared and trail[shared] == trails[0][shared] for trail in trails):
        shared += 1
    return trails[0][:shared]


def _fewest(group: list[End]) -> tuple[Doubt, ...]:
    """The fewest doubts of a group: a rule that may match or not without leaving it does not count."""
    found = {end.way.doubts for end in group}
    changed = True
    while changed:
        changed = False
        for doubts in sorted(found, key=len, reverse=True):
            for place, doubt in enumerate(doubts):
                if doubt.assumed not in (MATCHES, DOES_NOT_MATCH):
                    continue
                other = dataclasses.replace(doubt, assumed=DOES_NOT_MATCH if doubt.assumed == MATCHES else MATCHES)
                without = (*doubts[:place], *doubts[place + 1 :])
                if (*doubts[:place], other, *doubts[place + 1 :]) in found and without not in found:
                    found.add(without)
                    changed = True
    return min(found, key=len)
