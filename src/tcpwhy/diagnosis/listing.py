"""A case goes in; its connections and the packets of one of them come out as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpwhy import _core
from tcpwhy.connections.selecting import filter_sql, numbers_of, parse_connection
from tcpwhy.diagnosis.diagnose import judge_connections
from tcpwhy.diagnosis.scope import can_have_failed, parse_time
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query
from tcpwhy.tables.relation import DuckTable

if TYPE_CHECKING:
    from tcpwhy.case import ArrowTable, Case

CONNECTION_COLUMNS = {
    "client_ip": "VARCHAR",
    "client_port": "USMALLINT",
    "server_ip": "VARCHAR",
    "server_port": "USMALLINT",
    "ipv6": "BOOLEAN",
    "first": "TIMESTAMP_NS",
    "last": "TIMESTAMP_NS",
    "duration_s": "DOUBLE",
    "vantage_points": "VARCHAR",
    "established": "BOOLEAN",
    "client_packets": "UBIGINT",
    "server_packets": "UBIGINT",
    "client_bytes": "UBIGINT",
    "server_bytes": "UBIGINT",
    "retransmissions": "UBIGINT",
    "resets": "UBIGINT",
    "syns": "UBIGINT",
    "zero_windows": "UBIGINT",
    "icmp_errors": "UBIGINT",
    "copies": "UBIGINT",
    "failed": "BOOLEAN",
    "cause": "VARCHAR",
    "confidence": "VARCHAR",
    "symptom": "VARCHAR",
}
"""The columns of a case's connections, and their types; what they mean is in docs/tables.md."""


def connection_table(case: Case, where: str | None, failed: bool, filter: str | None = None) -> ArrowTable:
    """A row a connection, in the order of time; addresses and counts are those of the place nearest to the client."""
    assembly = case.assembly()
    db = assembly.db
    _tell_failures(case)
    names = ", ".join(f"({number}, ?)" for number in range(len(assembly.names)))
    condition, parameters = "true", []
    if where is not None:
        from tcpwhy.expression import ExpressionError, parse_where

        try:
            parsed = parse_where(where, CONNECTION_COLUMNS)
        except ExpressionError as error:
            raise EvidenceError("--where", str(error)) from None
        condition, parameters = parsed.sql, list(parsed.parameters)
    scope, scope_parameters = filter_sql(filter)
    columns = ", ".join(CONNECTION_COLUMNS)
    sql = f"""
        WITH vantage_name(vantage, name) AS (VALUES {names}),
        ranked AS (
            SELECT flow.*, member.connection, name,
                row_number() OVER (PARTITION BY member.connection ORDER BY
                    (SELECT count(*) FROM before_count b JOIN flow o ON o.vantage = b.x JOIN member mo ON mo.id = o.id
                     WHERE b.y = flow.vantage AND mo.connection = member.connection AND b.n > 0), flow.id) AS place
            FROM flow JOIN member USING (id) JOIN vantage_name USING (vantage)
        ),
        listed AS (
            SELECT connection, client_ip, client_port, server_ip, server_port, ipv6,
                {_timestamp("first_ns")} AS first, {_timestamp("last_ns")} AS last,
                (last_ns - first_ns) / 1e9 AS duration_s,
                client_packets > client_syns + client_resets OR server_packets > server_syn_acks + server_resets AND client_syns = 0
                    AS established,
                client_packets, server_packets, client_bytes, server_bytes,
                (client_retransmissions + server_retransmissions)::UBIGINT AS retransmissions,
                (client_resets + server_resets)::UBIGINT AS resets, client_syns::UBIGINT AS syns,
                (client_zero_windows + server_zero_windows)::UBIGINT AS zero_windows, icmp_errors::UBIGINT AS icmp_errors, copies
            FROM ranked WHERE place = 1 AND {scope}
        ),
        seen AS (
            SELECT connection, string_agg(DISTINCT name, ', ' ORDER BY name) AS vantage_points FROM ranked GROUP BY connection
        ),
        connection_row AS (
            SELECT listed.*, vantage_points, judged.cause IS NOT NULL AS failed,
                nullif(judged.cause, '') AS cause, nullif(judged.confidence, '') AS confidence, judged.symptom
            FROM listed JOIN seen USING (connection) LEFT JOIN judged USING (connection)
        )
        SELECT {columns} FROM connection_row WHERE {condition} AND {"failed" if failed else "true"} ORDER BY first, connection
    """
    return DuckTable(db, sql, [*assembly.names, *scope_parameters, *parameters])


def _timestamp(column: str) -> str:
    """SQL for a time; a damaged capture can hold any, and the two outermost values stand for infinity."""
    return f"make_timestamp_ns(greatest(least({column}, 9223372036854775806), -9223372036854775806))"


def _tell_failures(case: Case) -> None:
    """Makes the table `judged`: a row a failed connection; cause and confidence are empty where several are possible."""
    assembly = case.assembly()
    db = assembly.db
    if query(db, "SELECT 1 FROM information_schema.tables WHERE table_name = 'judged'"):
        return
    query(db, "CREATE TABLE judged (connection BIGINT, cause VARCHAR, confidence VARCHAR, symptom VARCHAR)")
    for one in judge_connections(case, assembly, can_have_failed(assembly, case.log_events())).judged:
        single = one.causes[0] if len(one.causes) == 1 else ("", "possible" if one.causes else "", None)
        symptom = one.connection.failure.symptom if one.connection.failure else ""
        number = one.connection.number
        query(db, "INSERT INTO judged VALUES (?, ?, ?, ?)", (number, single[0], single[1], symptom))


def packet_table(case: Case, connection: str) -> ArrowTable:
    """The packets of a connection at all vantage points, as the core reads them, with the vantage point and the file of each."""
    assembly = case.assembly()
    _, _, moment = parse_connection(connection)
    numbers = numbers_of(assembly.db, connection, parse_time(moment) if moment else None)
    if not numbers:
        raise EvidenceError(connection, "no packet of this connection is in the captures")
    marks = ", ".join("?" for _ in numbers)
    rows = query(
        assembly.db,
        f"SELECT vantage, chains FROM flow JOIN member USING (id) WHERE connection IN ({marks}) ORDER BY id",
        numbers,
    )
    parts = []
    db = assembly.db
    for vantage in sorted({row[0] for row in rows}):
        index = case.vantage_indexes()[vantage]
        table, _ = assembly.packets(vantage, [chains for number, chains in rows if number == vantage], 1 << 40)
        name = f"packets_{vantage}"
        _load(db, name, table)
        files = ", ".join("(?, ?)" for _ in index.files)
        parameters: list[object] = [index.name]
        for number, file in enumerate(case.files_of(index)):
            parameters += [number, file]
        parts.append(((f"SELECT ? AS vantage_point, path AS file_name, {name}.* EXCLUDE (flow, file) FROM {name} "
                      f"JOIN (VALUES {files}) AS f(file, path) USING (file)"), parameters))  # fmt: skip
    sql = " UNION ALL ".join(part for part, _ in parts) + " ORDER BY time_ns, vantage_point, frame"
    return DuckTable(db, sql, [value for _, values in parts for value in values])


def _load(db, name: str, table: _core.Table) -> None:  # type: ignore[no-untyped-def]
    """Brings a table of the core into the database."""
    db.register("core_table", table)
    query(db, f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM core_table")
    db.unregister("core_table")
