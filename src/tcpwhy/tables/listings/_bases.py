"""Segments of several listings go in; which of them are the same connections comes out, where no listing tells a first number.

What listings do tell of a segment, both timestamps and the length, is compared: equal ones give the distance of two bases.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from tcpwhy.connections.packet import ACK, FIN, RST, SYN
from tcpwhy.tables.listings._numbers import MASK, Numbering, Tuple, synthetic, tuple_of
from tcpwhy.tables.listings._whose import Settled

SAMPLES_OF_A_FLOW = 48
FLOWS_SAMPLED = 50_000

Sign = tuple[bool, int, int, int, int]
"""Whether of the first end, which of SYN, FIN and RST, TSval, TSecr, bytes of payload."""


@dataclasses.dataclass(slots=True)
class Sample:
    """What is compared of one connection at one place."""

    is_guessed: list[bool]
    signs: dict[Sign, tuple[int | None, int | None]] = dataclasses.field(default_factory=dict)
    """Sequence and acknowledgment numbers by sign; None where they are not shown, or two segments have the sign."""
    times: dict[Sign, int] = dataclasses.field(default_factory=dict)
    """When each was seen first."""
    has_syn: bool = False


class Samples:
    """The connections of one place."""

    def __init__(self) -> None:
        self.flows: dict[tuple[Tuple, int], Sample] = {}

    def add(self, settled: Settled, numbering: Numbering) -> None:
        """Takes a settled segment in."""
        segment = settled.row.segment
        if segment is None or settled.row.raw or segment.seq is None:
            return
        found = numbering.flow_of(settled.row)
        if found is None:
            return
        key, flow = found
        sample = self.flows.get((key, flow.incarnation))
        if sample is None:
            if len(self.flows) >= FLOWS_SAMPLED:
                return
            sample = self.flows[key, flow.incarnation] = Sample(flow.is_guessed)
        sample.is_guessed = flow.is_guessed
        if segment.flags & SYN:
            sample.has_syn = True
        at = segment.options.find(b"\x08\x0a")
        if at < 0 or not segment.is_told or segment.flags & RST or len(sample.signs) >= SAMPLES_OF_A_FLOW:
            return
        stamps = segment.options[at + 2 : at + 10]
        sign = (
            tuple_of(settled.row)[1] == 0, segment.flags & (SYN | FIN | RST),
            int.from_bytes(stamps[:4]), int.from_bytes(stamps[4:]), segment.length,
        )  # fmt: skip
        numbers = (None if settled.is_inferred else segment.seq, segment.ack if segment.flags & ACK else None)
        sample.times.setdefault(sign, settled.time_ns)
        sample.signs[sign] = numbers if sample.signs.get(sign, numbers) == numbers else (None, None)


def time_between(one: Samples, other: Samples) -> int | None:
    """How far the times of `other` lie behind those of `one`, by segments that both show; None where there is none."""
    apart = sorted(
        at_ns - other.flows[flow].times[sign]
        for flow, sample in one.flows.items()
        if flow in other.flows
        for sign, at_ns in sample.times.items()
        if sign in other.flows[flow].times
    )
    return apart[len(apart) // 2] if apart else None


def find_bases(places: Mapping[str, Sequence[Samples]]) -> dict[str, dict[tuple[Tuple, int, bool], int]]:
    """By place: the bases with which guessed numbers of one connection are the same at all places, and those of others are not.

    A connection whose SYN both places show without timestamps keeps the stand-in that its addresses give; so does one that only one place
    shows.
    """
    by_tuple: dict[Tuple, list[tuple[str, int, Sample]]] = collections.defaultdict(list)
    for place, several in sorted(places.items()):
        for samples in several:
            for (key, incarnation), sample in samples.flows.items():
                by_tuple[key].append((place, incarnation, sample))
    found: dict[str, dict[tuple[Tuple, int, bool], int]] = {place: {} for place in places}
    for key, members in by_tuple.items():
        if len({place for place, _, _ in members}) < 2:
            continue
        # Those that tell their numbers come first; the others are set to them, or to the first of their own kind.
        members.sort(key=lambda member: sum(member[2].is_guessed))
        settled: list[tuple[str, Sample, dict[bool, int]]] = []
        for place, incarnation, sample in members:
            shift = _shift_to(settled, place, sample)
            if shift is None and any(sample.is_guessed):
                alone = sample.has_syn and not sample.signs
                shift = {
                    end == 0: 0 if alone or not settled
                    else (synthetic(key, incarnation, end, place) - synthetic(key, incarnation, end)) & MASK
                    for end in (0, 1)
                }  # fmt: skip
            shift = {end == 0: (shift or {}).get(end == 0, 0) if sample.is_guessed[end] else 0 for end in (0, 1)}
            for end in (0, 1):
                if shift[end == 0]:
                    base = synthetic(key, incarnation, end)
                    found[place][key, incarnation, end == 0] = (base + shift[end == 0]) & MASK
            settled.append((place, sample, shift))
    return found


def _shift_to(settled: Sequence[tuple[str, Sample, dict[bool, int]]], place: str, sample: Sample) -> dict[bool, int] | None:
    """What is to be added to a sample's numbers to be those of the same connection at another place; None where none is the same."""
    for other, known, own_shift in settled:
        if other == place:
            continue
        votes: dict[bool, collections.Counter[int]] = {True: collections.Counter(), False: collections.Counter()}
        for sign, numbers in sample.signs.items():
            there = known.signs.get(sign, (None, None))
            for first, here, other_number in ((sign[0], numbers[0], there[0]), (not sign[0], numbers[1], there[1])):
                if here is not None and other_number is not None:
                    votes[first][(other_number + own_shift.get(first, 0) - here) & MASK] += 1
        if votes[True] or votes[False]:
            shift = {first: counted.most_common(1)[0][0] for first, counted in votes.items() if counted}
            if len(shift) == 1 and any(sample.is_guessed) and sample.has_syn and known.has_syn:
                shift[not next(iter(shift))] = 0
            return {True: shift.get(True, 0), False: shift.get(False, 0)}
    return None
