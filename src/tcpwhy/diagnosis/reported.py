"""Log lines about answers that nobody expected go in; the connections that TCP delivered well and that failed all the same come out.

An HTTP error is no failure of the network, except where the answer comes from a program that was never asked: only connections of
which that is found are kept, or that are seen to be turned by their own host to itself, where it may be so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import duckdb

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Failure, Kind
from tcpwhy.connections.packet import Endpoint
from tcpwhy.diagnosis.logs import Tied
from tcpwhy.tables.flows import query
from tcpwhy.tables.logs._event import LogEvent

MOST = 500
"""Connections that are looked at for such lines."""

_URL = re.compile(r'"(?:https?://)[^/"\s]{1,300}(/[^"\s?]{0,300})', re.ASCII)
_STATUS = re.compile(r"\bstatus\D{0,12}(\d{3})\b", re.ASCII)

AFTER_NS = 5_000_000_000
"""A program logs an answer that it did not expect within this time."""


def unexpected_answers(events: Iterable[LogEvent]) -> list[LogEvent]:
    """The lines that tell of an HTTP status that the caller did not expect, and of whom it was asked."""
    return [event for event in events if event.kind == "unexpected_answer" and event.remote is not None]


def numbers_of_reports(db: duckdb.DuckDBPyConnection, events: Sequence[LogEvent]) -> list[int]:
    """The connections towards the servers that such lines name."""
    servers = {Endpoint.parse(event.remote) for event in events if event.remote}
    found: list[int] = []
    for server in sorted(servers):
        sql = "SELECT DISTINCT connection FROM flow JOIN member USING (id) WHERE server_ip = ? AND server_port = ? ORDER BY 1 LIMIT ?"
        found += [row[0] for row in query(db, sql, (server.ip, server.port, MOST))]
    return found[:MOST]


def mark(connections: Iterable[Connection], events: Iterable[LogEvent]) -> None:
    """Gives each connection that did not fail otherwise, and of which a line speaks, its failure: by server, path, status and time."""
    asked: dict[Endpoint, list[LogEvent]] = {}
    for event in events:
        if event.remote is not None:
            asked.setdefault(Endpoint.parse(event.remote), []).append(event)
    for connection in connections:
        if connection.failure is not None:
            continue
        for event in asked.get(connection.server, ()):
            exchange = _exchange(connection, event)
            if exchange is not None:
                symptom = "the client's log reports an answer that it did not expect"
                connection.failure = Failure(Kind.REPORTED, symptom, exchange, exchange[-1].aligned_ns)
                break


def tie_reports(connections: Iterable[Connection], events: Iterable[LogEvent]) -> list[Tied]:
    """The lines that speak of connections which failed by their report."""
    reported: dict[Endpoint, list[Connection]] = {}
    for one in connections:
        if one.failure is not None and one.failure.kind is Kind.REPORTED:
            reported.setdefault(one.server, []).append(one)
    return [
        Tied(event, (one,), "address")
        for event in events
        if event.remote is not None
        for one in reported.get(Endpoint.parse(event.remote), ())
        if _exchange(one, event) is not None
    ]


def _exchange(connection: Connection, event: LogEvent) -> tuple[Segment, Segment] | None:
    """The request and the answer that the line speaks of."""
    path, status = _URL.search(event.message), _STATUS.search(event.message)
    if path is None or status is None:
        return None
    asked = f" {path.group(1)}".encode()
    request = next((one for one in connection.segments if one.sender == "client" and asked in one.packet.payload[:400]), None)
    if request is None:
        return None
    begin = re.compile(rb"HTTP/1\.[01] " + status.group(1).encode())
    answer = next(
        (
            one
            for one in connection.segments
            if one.sender == "server" and one.aligned_ns >= request.aligned_ns and begin.match(one.packet.payload)
        ),
        None,
    )
    if answer is None:
        return None
    at_ns = answer.sighting_at(event.source.vantage_point)
    if event.time_ns is not None and at_ns is not None:
        late = event.time_ns + event.time_precision_ns - at_ns.time_ns
        if not 0 <= late <= AFTER_NS + event.time_precision_ns:
            return None
    return request, answer
