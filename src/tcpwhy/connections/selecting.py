"""What a user names goes in (a connection, a filter); the numbers of the connections that it means come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import find_failure
from tcpwhy.connections.packet import Endpoint
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query

if TYPE_CHECKING:
    import duckdb

    from tcpwhy.connections.assembly import Assembly

HINT = "write it as 10.0.0.5:49092-10.20.32.11:80, either way round; @2026-11-21T09:30:00Z behind it picks one of several"


def parse_connection(text: str) -> tuple[Endpoint, Endpoint, str | None]:
    """`A:p-B:p`, the arrow forms that reports and logs print (`->`, `→`, `>`) too, and the time behind `@`.

    Raises EvidenceError where the text is none.
    """
    ends, _, moment = text.partition("@")
    for arrow in ("->", "→", ">"):
        ends = ends.replace(arrow, "-")
    left, dash, right = ends.replace(" ", "").partition("-")
    try:
        if not dash:
            raise ValueError(f"read `{text}`, expected two ends with a dash between them")
        return Endpoint.parse(left), Endpoint.parse(right), moment or None
    except ValueError as error:
        raise EvidenceError("connection", str(error), HINT) from None


def numbers_of(db: duckdb.DuckDBPyConnection, text: str, moment_ns: int | None = None) -> list[int]:
    """The connections with these addresses at any vantage point, in the order of time; with a moment, the one alive then or nearest."""
    one, other, _ = parse_connection(text)
    rows = query(
        db,
        """
        WITH hit AS (
            SELECT DISTINCT connection FROM flow JOIN member USING (id)
            WHERE (client_ip = $1 AND client_port = $2 AND server_ip = $3 AND server_port = $4)
               OR (client_ip = $3 AND client_port = $4 AND server_ip = $1 AND server_port = $2)
        )
        SELECT connection, min(first_ns), max(last_ns) FROM hit JOIN member USING (connection) JOIN flow USING (id)
        GROUP BY connection ORDER BY min(first_ns), connection
        """,
        (one.ip, one.port, other.ip, other.port),
    )
    if moment_ns is None or not rows:
        return [row[0] for row in rows]
    at = moment_ns
    nearest = min(rows, key=lambda row: 0 if row[1] <= at <= row[2] else min(abs(row[1] - at), abs(row[2] - at)))
    return [nearest[0]]


def filter_sql(text: str | None) -> tuple[str, list[Any]]:
    """A filter in pcap-filter's everyday words as a condition over the table `flow`. Raises EvidenceError where it cannot be read."""
    if text is None:
        return "true", []
    from tcpwhy.expression import ExpressionError, parse_filter

    try:
        condition = parse_filter(text)
    except ExpressionError as error:
        raise EvidenceError("--filter", str(error)) from None
    return condition.sql, list(condition.parameters)


def find_connections(assembly: Assembly, text: str, moment_ns: int | None = None) -> list[Connection]:
    """All incarnations of a connection, in the order of time, with their failures told.

    Raises EvidenceError where there is none.
    """
    numbers = numbers_of(assembly.db, text, moment_ns)
    if not numbers:
        raise EvidenceError(text, "no packet of this connection is in the captures", HINT)
    built = assembly.connections(numbers)
    for connection in built.values():
        connection.failure = find_failure(connection, answers_seen=True)
    return [built[number] for number in numbers]
