"""A seed and the lab's catalogue come in; which scenario is run how, and how often, goes out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from tcpwhy import lab
from tcpwhy.lab.options import Options

DRAWS = 4
"""So often a slot's variants are drawn; the last draw leaves the scenario as its file has it."""

ZONES = ("UTC", "Europe/Berlin", "Asia/Shanghai", "America/New_York", "Asia/Kolkata")


@dataclass(frozen=True)
class Slot:
    """One case that is wanted: of this scenario, the `number`th. `healthy` ones are run with a heavy load."""

    scenario: str
    number: int
    healthy: bool

    @property
    def name(self) -> str:
        """The folder of the case."""
        return f"{self.scenario}.{self.number}"


@dataclass(frozen=True)
class Draw:
    """How a slot's scenario is run."""

    seed: int
    variants: dict[str, str]


def faulty(causes: frozenset[str] = frozenset(), runs: int = 20) -> Iterator[Slot]:
    """`runs` slots for each of these causes (all where none is named), spread over the cause's scenarios that can be run here."""
    scenarios: dict[str, list[str]] = {}
    for name, scenario in lab.catalogue().items():
        if scenario.cause is not None and (not causes or scenario.cause in causes) and runner_of(name):
            scenarios.setdefault(scenario.cause, []).append(name)
    # round by round, so that what is there of an unfinished run speaks of all causes
    for number in range(max(runs, *map(len, scenarios.values())) if scenarios else 0):
        for names in scenarios.values():
            if number < max(runs, len(names)):
                yield Slot(names[number % len(names)], number // len(names), healthy=False)


def healthy() -> Iterator[Slot]:
    """Slots without end: every scenario in which nothing fails, twins too, in turn; the caller ends it when there is enough."""
    names = [name for name, scenario in lab.catalogue().items() if scenario.cause is None and runner_of(name)]
    for turn in count():
        for name in names:
            yield Slot(name, turn, healthy=True)


def runner_of(name: str, needs: frozenset[str] = frozenset()) -> str | None:
    """Where a scenario runs here, None where it cannot."""
    try:
        return lab.choose(lab.by_name(name).needs | needs)
    except lab.CannotRun:
        return None


def draws(slot: Slot, seed: int) -> Iterator[Draw]:
    """The ways in which a slot is tried, one after the other, until one of them happens; the same for the same seed."""
    numbers = random.Random(f"{seed} {slot.name}")
    for turn in range(DRAWS):
        variants = variants_of(slot, numbers) if turn < DRAWS - 1 else {}
        yield Draw(numbers.randrange(2, 1_000_000), variants)


def variants_of(slot: Slot, numbers: random.Random) -> dict[str, str]:
    """Options drawn at random: those that need another kernel than the scenario itself are drawn seldom, for such a kernel is slow."""
    defaults = lab.by_name(slot.scenario).defaults
    drawn: dict[str, str] = {
        "capture": numbers.choice(["iface", "iface", "any", "any-sll"]),
        "ip": numbers.choices(["4", "6"], [7, 3])[0],
        "format": numbers.choice(["pcap", "pcapng", "nano"]),
        "clocks": numbers.choice(["together", "apart"]),
        "state": numbers.choice([defaults.get("state", "none"), "none", "ss", "full", "both"]),
        "zone": numbers.choice(ZONES),
    }
    if numbers.random() < 0.25:
        drawn["snap"] = str(numbers.choice([128, 160, 256]))
    tagged = numbers.choice(["vlan", "vxlan"])
    here = runner_of(slot.scenario)
    if numbers.random() < (0.2 if runner_of(slot.scenario, frozenset({tagged})) == here else 0.04):
        drawn[tagged] = str(numbers.randrange(1, 4000))
    slow = here == "uml" or "vlan" in drawn or "vxlan" in drawn
    if slot.healthy:
        drawn["load"] = str(numbers.randrange(2, 5) if slow else numbers.randrange(15, 50))
    elif not slow:
        drawn["load"] = str(numbers.choice([1, 1, 2, 3]))
    usual = Options().as_words() | dict(defaults)
    return {name: value for name, value in drawn.items() if value != usual.get(name, str(getattr(Options(), name)))}
