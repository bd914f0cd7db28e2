"""A host's counters and the time of a packet go in; whether they bear out that it was dropped, or contradict it, comes out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tcpwhy.causes._rules import NamedRule
from tcpwhy.causes._verdict import Exhibit

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables

CLOCK_NS = 1_000_000_000
"""host.json gives the begin of a snapshot, and a collection takes about so long."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """What one counter says."""

    name: str
    value: int
    rise: int | None
    """Between two snapshots around the packet; None with one snapshot."""
    contradiction: str
    """Why what was said to happen cannot have happened; empty where the counter bears it out, or says nothing."""
    exhibit: Exhibit

    @property
    def proves(self) -> bool:
        """It rose while the packet came: what it counts happened then."""
        return bool(self.rise)

    @property
    def happened(self) -> bool:
        """What it counts happened at some time since the host's start."""
        return self.value > 0


def counted(host: HostTables, name: str, at_ns: int | None) -> Counted | None:
    """What a counter of the kernel says of a packet at `at_ns` of the host's own clock; None where nothing was collected of it.

    The difference of two snapshots around the packet proves, one snapshot shows only that it happened some time. A counter that stands
    at 0 after the packet, or did not rise across it, contradicts.
    """
    table = host.counters
    counter = table.get(name) if table is not None else None
    if counter is None or table is None:
        return None
    rise = None
    if host.before is not None and host.before.counters is not None and _is_before(host.before, at_ns):
        rise = table.rise(host.before.counters, name)
    contradiction = ""
    if is_after(host, at_ns):
        if rise == 0:
            contradiction = f"{name} did not rise between the two snapshots around it ({counter.source})"
        elif counter.value == 0:
            contradiction = f"{name} is 0 ({counter.source})"
    else:
        rise = None
    told = f"rose by {rise}" if rise is not None else f"is {counter.value} since the host's start"
    exhibit = Exhibit("counter", host.name, counter.source.file, f"{name} {told}", line=counter.source.line)
    return Counted(name, counter.value, rise, contradiction, exhibit)


def rule_counted(host: HostTables, rule: NamedRule, at_ns: int | None) -> str:
    """Why a rule's own counter contradicts that it met a packet at `at_ns`; empty where it does not."""
    if rule.packets == 0 and is_after(host, at_ns):
        return f"the rule's counter is 0 ({rule.place})"
    return ""


def is_after(host: HostTables, at_ns: int | None) -> bool:
    """False where the snapshot was surely taken before the packet came, so that its counters cannot know of it."""
    taken = host.about.time_ns
    return at_ns is None or taken is None or taken + CLOCK_NS >= at_ns


def _is_before(before: HostTables, at_ns: int | None) -> bool:
    taken = before.about.time_ns
    return at_ns is None or taken is None or taken <= at_ns
