"""`ip -j -d neigh` or `ip neigh` goes in; the neighbour table comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.ip_names import text_of
from tcpwhy.tables.json_rows import looks_like_json, read_json_rows
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry."""

    source: Source
    ip: str
    interface: str
    mac: str
    """Empty where it is not resolved."""
    states: frozenset[str]
    """REACHABLE, STALE, DELAY, PROBE, FAILED, INCOMPLETE, PERMANENT, NOARP."""


@dataclasses.dataclass(slots=True)
class Neighbours:
    """All entries."""

    entries: list[Neighbour] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


FILE = "ip-neigh.json"

_STATES = frozenset(("INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT", "NONE"))
"""iproute2, ip/ipneigh.c print_neigh_state(); NONE of versions before 4.17 is a state of no bit."""


def read_neighbours(state: State) -> Neighbours | None:
    """The table; None where it was not collected. Proxy entries and those of a bridge's own table, which have no address, are left out."""
    lines = state.read_lines(FILE)
    if lines is None:
        return None
    source = state.source(FILE)
    table = Neighbours()
    if looks_like_json(lines):
        for begins, row, _ in read_json_rows(lines, source, table.unread):
            states = row.get("state")
            named = [one for one in states if isinstance(one, str)] if isinstance(states, list) else text_of(states).split()
            if "proxy" not in row:
                _add(table, row, named, str(row), dataclasses.replace(source, line=begins))
        return table
    for number, line in enumerate(lines, 1):
        words = line.split()
        place = dataclasses.replace(source, line=number)
        if "dev" not in words[1:-1]:
            if words:
                table.unread.add(place, line.strip(), "no neighbour entry is like this")
            continue
        row = {"dst": words[0], "dev": words[words.index("dev", 1) + 1]}
        if "lladdr" in words[3:-1]:
            row["lladdr"] = words[words.index("lladdr", 3) + 1]
        if "proxy" not in words[3:]:
            _add(table, row, [word for word in words[3:] if word in _STATES], line.strip(), place)
    return table


def _add(table: Neighbours, row: dict[str, Any], states: list[str], text: str, source: Source) -> None:
    try:
        ip = str(ipaddress.ip_address(text_of(row.get("dst"))))
    except ValueError:
        table.unread.add(source, text, "its address is not understood")
        return
    table.entries.append(Neighbour(source, ip, text_of(row.get("dev")), text_of(row.get("lladdr")).lower(), frozenset(states)))
