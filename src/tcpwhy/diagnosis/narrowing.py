"""Failing log lines go in; the connections that they can speak of come out, by columns alone: no connection is built for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tcpwhy.connections.packet import Endpoint
from tcpwhy.diagnosis.log_book import named_end
from tcpwhy.diagnosis.logs import AFTER_NS, BEFORE_NS, LONGEST_TIMEOUT_NS, TIMEOUTS
from tcpwhy.tables.flows import query
from tcpwhy.tables.logs._event import LogEvent

if TYPE_CHECKING:
    from tcpwhy.connections.assembly import Assembly

SLACK_NS = 2_000_000_000
"""Clocks that could not be aligned are at most so far apart, or the line's own words must do."""

ALWAYS = (-(1 << 62), 1 << 62)
"""The window of a line whose time is not known."""

WAITS = "(client_packets > 0 AND coalesce(client_payload_last_ns, client_syn_ns) > coalesce(server_payload_last_ns, 0))"
"""Over the table `flow`: the client asked last."""

MOST_NAMED = 20_000
"""Connections that are examined only because a line names both their ends."""


_COLUMNS = {"client_ip": "VARCHAR", "client_port": "BIGINT", "server_ip": "VARCHAR", "server_port": "BIGINT", "place": "BIGINT"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """What a line says of the connections that it can speak of; None is anything."""

    client_ip: str | None = None
    client_port: int | None = None
    server_ip: str | None = None
    server_port: int | None = None
    place: str | None = None
    early_ns: int = ALWAYS[0]
    late_ns: int = ALWAYS[1]


def named_by(assembly: Assembly, events: Iterable[LogEvent]) -> list[int]:
    """The connections of which a failing line names both ends with their ports, or the client's, at any time."""
    wanted: set[_Wanted] = set()
    for event in events:
        if event.failing:
            pairs = _pairs(event)
            wanted.update(_between(*ends) for pair in pairs for ends in (pair, pair[::-1]))
            named = named_end(event)
            if not pairs and named is not None and named[0] == "client":
                wanted.add(_Wanted(client_ip=named[1].ip, client_port=named[1].port))
    return sorted(_numbers(assembly, wanted))[:MOST_NAMED]


def is_seen(assembly: Assembly, event: LogEvent) -> bool:
    """Some connection in the captures is one that this failing line can speak of."""
    return bool(connections_of(assembly, (event,)))


def connections_of(assembly: Assembly, events: Iterable[LogEvent], only: str = "true") -> set[int]:
    """The connections that failing lines can speak of: by both ends, by one, by the server's or client's address, or by place and time.

    Times are compared on the common clock, each with as much slack as diagnosis/logs.py gives a line. `only`: a condition over the table
    `flow`.
    """
    wanted: set[_Wanted] = set()
    for event in events:
        if event.failing:
            wanted.update(_wanted(assembly, event))
    return _numbers(assembly, wanted, only)


def waiting_for(assembly: Assembly, events: Iterable[LogEvent]) -> set[int]:
    """The connections that may have waited for an answer when a line tells of a timeout, although their packets show no end."""
    timeouts = [event for event in events if event.kind in TIMEOUTS and event.time_ns is not None]
    return connections_of(assembly, timeouts, WAITS) if timeouts else set()


def narrowing_note(files: Sequence[str], lines: int, examined: int, all_connections: int) -> str:
    """What a diagnosis that given logs narrow examined, and why."""
    names = ", ".join(files)
    if not lines:
        return f"{names}: no line of a failure was found, so that all connections were examined"
    one = lines == 1
    return (
        f"{names}: {lines} line{'' if one else 's'} of failures; examined were the {examined} of {all_connections} connections that"
        f" {'it' if one else 'they'} can speak of, by addresses, ports and time; without --log all are examined"
    )


def _pairs(event: LogEvent) -> list[tuple[Endpoint, Endpoint]]:
    pairs = [*([(event.local, event.remote)] if event.local and event.remote else []), *event.also]
    return [(Endpoint.parse(local), Endpoint.parse(remote)) for local, remote in pairs]


def _between(client: Endpoint, server: Endpoint, early_ns: int = ALWAYS[0], late_ns: int = ALWAYS[1]) -> _Wanted:
    return _Wanted(client.ip, client.port, server.ip, server.port, None, early_ns, late_ns)


def _wanted(assembly: Assembly, event: LogEvent) -> Iterable[_Wanted]:
    place = event.source.vantage_point
    early, late = _window(assembly, event)
    pairs = _pairs(event)
    if pairs:
        for pair in pairs:
            for client, server in (pair, pair[::-1]):
                yield _between(client, server, early, late)
        return
    own_port, other_port = event.ports
    if own_port is not None and other_port is not None:
        yield _Wanted(client_port=own_port, server_port=other_port, early_ns=early, late_ns=late)
        yield _Wanted(client_port=other_port, server_port=own_port, early_ns=early, late_ns=late)
        return
    named = named_end(event)
    if named is not None:
        side, end = named
        if side == "client":
            yield _Wanted(client_ip=end.ip, client_port=end.port, early_ns=early, late_ns=late)
        else:
            yield _Wanted(server_ip=end.ip, server_port=end.port, early_ns=early, late_ns=late)
    elif event.about == "client" and event.client:
        yield _Wanted(client_ip=event.client, place=place, early_ns=early, late_ns=late)
    else:
        yield _Wanted(place=place, early_ns=early, late_ns=late)


def _window(assembly: Assembly, event: LogEvent) -> tuple[int, int]:
    """Between which times a packet of the connection must have been seen, on the common clock, rounded to whole seconds."""
    if event.time_ns is None:
        return ALWAYS
    place = event.source.vantage_point
    at_ns = assembly.aligned_ns(place, event.time_ns) if place in assembly.clocks else event.time_ns
    back_ns = LONGEST_TIMEOUT_NS if event.kind in TIMEOUTS else AFTER_NS
    early, late = at_ns - back_ns - SLACK_NS, at_ns + event.time_precision_ns + BEFORE_NS + SLACK_NS
    second = 1_000_000_000
    return early // second * second, -(-late // second) * second


def _numbers(assembly: Assembly, wanted: Iterable[_Wanted], only: str = "true") -> set[int]:
    """The connections that meet any of these, by one join for each set of columns that they name."""
    shapes: dict[tuple[str, ...], dict[tuple[str | int, ...], list[tuple[int, int]]]] = {}
    for one in wanted:
        named = tuple(column for column in _COLUMNS if getattr(one, column) is not None)
        key = tuple(_value(assembly, one, column) for column in named)
        shapes.setdefault(named, {}).setdefault(key, []).append((one.early_ns, one.late_ns))
    offsets = [assembly.clocks[name].mean_offset_ns if name in assembly.clocks else 0 for name in assembly.names]
    found: set[int] = set()
    for named, windows in shapes.items():
        rows = [(*key, *window) for key, own in windows.items() for window in _merged(own)]
        columns = "".join(f"unnest(?::{_COLUMNS[column]}[]) AS {column}, " for column in named)
        meets = "".join(f"seen.{column} = line.{column} AND " for column in named)
        sql = f"""
            WITH line AS (SELECT {columns}unnest(?::BIGINT[]) AS early_ns, unnest(?::BIGINT[]) AS late_ns),
            clock AS (SELECT unnest(?::BIGINT[]) AS offset_ns, unnest(?::BIGINT[]) AS place),
            seen AS (
                SELECT connection, client_ip, client_port::BIGINT AS client_port, server_ip, server_port::BIGINT AS server_port, place,
                    first_ns::BIGINT - offset_ns AS first_ns, last_ns::BIGINT - offset_ns AS last_ns
                FROM flow JOIN member USING (id) JOIN clock ON place = vantage WHERE {only}
            )
            SELECT DISTINCT connection FROM seen
            JOIN line ON {meets}seen.last_ns >= line.early_ns AND seen.first_ns <= line.late_ns
        """
        parameters = [*(list(values) for values in zip(*rows, strict=True)), offsets, list(range(len(offsets)))]
        found.update(row[0] for row in query(assembly.db, sql, parameters))
    return found


def _merged(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Windows of the same addresses, those that overlap made one: many lines speak of one bad minute."""
    merged: list[tuple[int, int]] = []
    for early, late in sorted(windows):
        if merged and early <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(late, merged[-1][1]))
        else:
            merged.append((early, late))
    return merged


def _value(assembly: Assembly, one: _Wanted, column: str) -> str | int:
    if column == "place":
        return assembly.names.index(one.place) if one.place in assembly.names else -1
    value: str | int = getattr(one, column)
    return value
