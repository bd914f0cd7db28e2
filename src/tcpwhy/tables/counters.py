"""nstat or /proc/net/netstat and snmp of a host go in, its counters by name come out, each with its line.

#kernel
IpInReceives                    8462               0.0
TcpExtListenOverflows           3                  0.0
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import msgspec

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces

LARGEST = 1 << 64
"""Counters are 64 bits wide; larger numbers are damage."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counter:
    """One counter since the host's start."""

    name: str
    """Group and name in one, as nstat writes them: `TcpExtListenOverflows`, `IpOutNoRoutes`."""
    value: int
    source: Source


@dataclasses.dataclass(slots=True)
class Counters:
    """The counters of one snapshot."""

    values: dict[str, Counter] = dataclasses.field(default_factory=dict)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    @property
    def not_understood_count(self) -> int:
        """How many lines, or values of JSON, are no counters."""
        return self.unread.count

    def get(self, name: str) -> Counter | None:
        """The counter, or None where this kernel or collection does not have it.

        Which is not the same as 0.
        """
        return self.values.get(name)

    def rise(self, before: Counters, name: str) -> int | None:
        """How much a counter rose since an earlier snapshot.

        None where either lacks it or the host restarted.
        """
        now, then = self.values.get(name), before.values.get(name)
        if now is None or then is None or now.value < then.value:
            return None
        return now.value - then.value


def read_counters(state: State) -> Counters | None:
    """The counters of a snapshot, from nstat and from /proc where nstat lacks them.

    None where none was collected.
    """
    found: Counters | None = None
    lines = state.read_lines("nstat.txt")
    if lines is not None:
        found = parse_nstat(lines, state.source("nstat.txt"))
    for name in ("proc-net-netstat.txt", "proc-net-snmp.txt"):
        lines = state.read_lines(name)
        if lines is None:
            continue
        more = parse_proc_pairs(lines, state.source(name))
        found = found or Counters()
        found.unread.add_all(more.unread)
        for counter in more.values.values():
            found.values.setdefault(counter.name, counter)
    return found


_NSTAT = re.compile(r"([A-Za-z][A-Za-z0-9_]{1,63})\s+(-?\d{1,20})(?:\s+\S+)?\s*", re.ASCII)


def parse_nstat(lines: Sequence[str], source: Source) -> Counters:
    """`nstat -asz`, `-az`, `-a`, or `-j` (JSON).

    Without -z, a counter that is 0 is not printed and so not there.
    """
    table = Counters()
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        _from_json(lines, source, table)
        return table
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _NSTAT.fullmatch(line[:400])
        if found is None or not 0 <= int(found.group(2)) < LARGEST:
            table.unread.add(dataclasses.replace(source, line=number), line, "this is no counter with its value")
            continue
        table.values[found.group(1)] = Counter(found.group(1), int(found.group(2)), dataclasses.replace(source, line=number))
    return table


def _from_json(lines: Sequence[str], source: Source, table: Counters) -> None:
    try:
        raw = msgspec.json.decode("\n".join(lines))
    except (msgspec.DecodeError, RecursionError):
        table.unread.add(dataclasses.replace(source, line=1), lines[0] if lines else "", "this is no JSON")
        return
    kernel = raw.get("kernel") if isinstance(raw, dict) else None
    if not isinstance(kernel, dict):
        table.unread.add(dataclasses.replace(source, line=1), lines[0] if lines else "", "expected an object `kernel` of counters")
        return
    where: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        for name in re.findall(r'"([A-Za-z0-9_]{2,64})"\s*:', line[: 1 << 20]):
            where.setdefault(name, number)
    for name, value in kernel.items():
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST:
            table.values[name] = Counter(name, value, dataclasses.replace(source, line=where.get(name, 1)))
        else:
            table.unread.add(dataclasses.replace(source, line=where.get(name, 1)), str(name), "its value is no number of a counter")


def parse_proc_pairs(lines: Iterable[str], source: Source) -> Counters:
    """/proc/net/netstat or snmp: a line of names after `TcpExt:`, then one of values after the same word.

    Names become `TcpExt` + `ListenOverflows`. Negative values (Tcp: MaxConn -1) are no counters.
    """
    table = Counters()
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        words = line[: 1 << 16].split()
        if not words:
            continue
        here = dataclasses.replace(source, line=number)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,30}:", words[0], re.ASCII):
            table.unread.add(here, line, "expected a group of counters, such as `TcpExt:`")
            continue
        if names and names[0] == words[0] and _are_numbers(words[1:]):
            if len(words) != len(names):
                table.unread.add(here, line, f"{len(names) - 1} names stand before {len(words) - 1} values")
            for name, value in zip(names[1:], words[1:], strict=False):
                if 0 <= int(value) < LARGEST:
                    full = words[0][:-1] + name
                    table.values[full] = Counter(full, int(value), here)
            names = []
        elif _are_numbers(words[1:]) and len(words) > 1:
            table.unread.add(here, line, "these are values without their names")
        else:
            names = words
    return table


def _are_numbers(words: Sequence[str]) -> bool:
    return all(re.fullmatch(r"-?[0-9]{1,20}", word, re.ASCII) for word in words)
