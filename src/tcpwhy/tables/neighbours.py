"""`ip -j -d neigh` or `ip neigh` goes in; the neighbour table comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
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


def read_neighbours(state: State) -> Neighbours | None:
    """The table; None where it was not collected."""
    return None
