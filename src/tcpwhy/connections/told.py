"""Log lines that speak of a connection, as facts that connections carry: mute data for failures and causes, read by diagnosis/logs.py."""

from __future__ import annotations

import dataclasses

from tcpwhy.connections.packet import Side
from tcpwhy.tables.logs._event import About, What


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One line of a log that speaks of this connection."""

    kind: What
    """What happened, from the point of view of the program that wrote it."""
    failing: bool
    """The program met an error or a timeout; False for lines that only mention the connection."""
    speaker: Side | None
    """The end whose program wrote it; None where neither addresses nor words tell."""
    about: About | None
    message: str
    vantage_point: str
    file: str
    line: int | None
    time_ns: int | None
    """By the clock of the host that wrote it; None where the zone is not known."""
    aligned_ns: int | None
    """On the common clock, where that host's clock could be aligned."""
    precision_ns: int
    """It was written at most this much later than its time says."""
    waited_ns: int | None
    """How long the program had waited, where the line says so."""
    by_ports: bool
    """Tied by both addresses and ports; else by the server's address, the time and what it says."""
    alone: bool
    """It can speak of no other connection of the case."""


def told_of(lines: list[Told], *kinds: What, by: Side | None = None) -> list[Told]:
    """The failing lines of these kinds that can speak of no other connection, in the order of time where it is known.

    `by`: only those that this end's program wrote.
    """
    fitting = [one for one in lines if one.failing and one.alone and one.kind in kinds and by in (None, one.speaker)]
    return sorted(fitting, key=lambda one: (one.aligned_ns is None, one.aligned_ns or 0, one.file, one.line or 0))
