"""Failing log lines and failed connections go in; which line speaks of which connection comes out, and which of none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from tcpwhy.connections.connection import Connection
from tcpwhy.connections.packet import Endpoint
from tcpwhy.diagnosis.finding import Evidence, Unexplained
from tcpwhy.diagnosis.telling import iso
from tcpwhy.tables.logs._event import LogEvent

BEFORE_NS = 2_000_000_000
"""A line may carry a time so much earlier than the packet: its clock is cut to a second, and the program's own."""

AFTER_NS = 5_000_000_000
"""A program logs a failure within this time of the packet that ends it."""

LONGEST_TIMEOUT_NS = 75_000_000_000
"""A program that waits for a connect or an answer waits at most so long beyond the last packet (nginx: proxy_connect_timeout may not
exceed 75 s; Go's Dialer waits 30 s)."""

TIMEOUTS = ("timeout_connecting", "timeout_reading", "timeout_writing")


@dataclasses.dataclass(frozen=True, slots=True)
class Tied:
    """A line and the connections that it can speak of."""

    event: LogEvent
    connections: tuple[Connection, ...]
    by_ports: bool
    """By both addresses and ports; else by the server's address and the time."""


def tie(events: Sequence[LogEvent], failed: Sequence[Connection], align: Callable[[str, int], int | None]) -> list[Tied]:
    """Ties each failing line to the failed connection with its addresses and time.

    A line without ports is tied where time and address leave connections that all fit; the report says so. None is forced: a line that
    fits no failed connection is tied to none.
    """
    by_ends: dict[frozenset[Endpoint], list[Connection]] = {}
    by_server: dict[Endpoint, list[Connection]] = {}
    for connection in failed:
        for view in connection.views.values():
            own = by_ends.setdefault(frozenset((view.client, view.server)), [])
            if connection not in own:
                own.append(connection)
            listed = by_server.setdefault(view.server, [])
            if connection not in listed:
                listed.append(connection)
    tied = []
    for event in events:
        if not event.failing:
            continue
        time_ns = None if event.time_ns is None else (align(event.source.vantage_point, event.time_ns) or event.time_ns)
        pairs = [*([(event.local, event.remote)] if event.local and event.remote else []), *event.also]
        found: list[Connection] = []
        for local, remote in pairs:
            ends = frozenset((Endpoint.parse(local), Endpoint.parse(remote)))
            found += [one for one in by_ends.get(ends, []) if _in_time(one, event, time_ns) and one not in found]
        if pairs:
            tied.append(Tied(event, tuple(_nearest(found, time_ns)), True))
            continue
        candidates = by_server.get(Endpoint.parse(event.remote), []) if event.remote else []
        # Without ports only the time tells connections apart: without a time, nothing does.
        fitting = [one for one in candidates if time_ns is not None and _in_time(one, event, time_ns) and _same_kind(one, event)]
        tied.append(Tied(event, tuple(fitting), False))
    return tied


def _nearest(connections: list[Connection], time_ns: int | None) -> list[Connection]:
    """Of several attempts with the same addresses, the one that ended nearest to the line."""
    if len(connections) < 2 or time_ns is None:
        return connections[:1]
    return [min(connections, key=lambda one: abs(_end_ns(one) - time_ns))]


def _end_ns(connection: Connection) -> int:
    return connection.failure.at_ns if connection.failure else connection.segments[-1].aligned_ns


def _in_time(connection: Connection, event: LogEvent, time_ns: int | None) -> bool:
    if time_ns is None:
        return True
    end_ns = _end_ns(connection)
    start_ns = connection.segments[0].aligned_ns
    late_ns = LONGEST_TIMEOUT_NS if event.kind in TIMEOUTS else AFTER_NS
    early_ns = start_ns if event.kind in TIMEOUTS else end_ns
    return early_ns - BEFORE_NS <= time_ns + event.time_precision_ns and time_ns <= max(end_ns, start_ns) + late_ns


def _same_kind(connection: Connection, event: LogEvent) -> bool:
    if connection.failure is None:
        return False
    if event.kind in ("timeout_connecting", "refused", "unreachable"):
        return connection.failure.kind.in_handshake
    if event.kind in ("reset", "broken_pipe"):
        return bool(connection.resets)
    return True


def log_evidence(tied: Tied, align: Callable[[str, int], int | None], shared: int) -> Evidence:
    """A line as evidence of a finding; `shared` connections of the finding fit it."""
    event = tied.event
    aligned = None if event.time_ns is None else align(event.source.vantage_point, event.time_ns)
    how = "" if tied.by_ports else (
        " (no port printed: tied by time and address)" if shared == 1
        else f" (no port printed: by time and address it is one of {shared} connections)"
    )  # fmt: skip
    return Evidence(
        kind="log",
        vantage_point=event.source.vantage_point,
        file=event.source.file,
        line=event.source.line,
        time=None if event.time_ns is None else iso(event.time_ns),
        aligned_time=None if aligned is None else iso(aligned),
        text=event.message + how,
    )


def untied(tied: Tied) -> Unexplained:
    """A failing line that no failed connection explains."""
    event = tied.event
    time = None if event.time_ns is None else iso(event.time_ns)
    return Unexplained(
        client=event.local,
        server=event.remote,
        first=time,
        last=time,
        symptom=f"{event.source.file}:{event.source.line}: {event.message} (no failed connection in the captures fits this line)",
    )
