"""Flow tables of all vantage points go in; one table of flows, turned from client to server, comes out, in DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from tcpwhy.tables.index import VantageIndex

HALF_COLUMNS = (
    "packets", "data_packets", "bytes", "syns", "syn_acks", "fins", "resets", "retransmissions", "unseen_acked_bytes", "zero_windows",
    "stalled_ns", "sent_again_later", "closed_window_ns", "window_closed_ns", "window_closed_last_ns", "window_opened_ns", "payload_max",
    "isn", "seq_first", "seq_end", "ack_end", "mss", "window_scale", "ttl_min", "ttl_max", "last_payload", "reset_stateless",
    "reset_seq", "reset_ack", "first_ns", "last_ns", "syn_ns", "syn_last_ns", "payload_first_ns", "payload_last_ns",
    "occupied_last_ns", "fin_ns", "reset_ns",
)  # fmt: skip
"""What the core's flow table has for each end (rust/src/flows/row.rs `Half`); here with `client_` and `server_` before it."""

SHARED_COLUMNS = (
    "copies", "fragments", "icmp_errors", "icmp_type", "icmp_code", "icmp_v6", "vlan", "tunnel", "toa", "silence_survived_ns",
    "first_ns", "last_ns",
)  # fmt: skip

EPHEMERAL_FROM = 32_768
"""First port of Linux's default ip_local_port_range (Documentation/networking/ip-sysctl.rst)."""

MEMORY_LIMIT = "768MB"
"""Of DuckDB, which spills to disk beyond it."""

HTTP_REQUEST, HTTP_RESPONSE, TLS, TLS_ALERT, OTHER_PAYLOAD = 1, 2, 3, 4, 5
"""Values of the columns `client_last_payload` and `server_last_payload` (rust/src/flows/row.rs); 0 is none."""


def seq_distance_sql(start: str, end: str) -> str:
    """SQL for how far `end` lies ahead of `start` in sequence space; null where either is."""
    return f"(((({end})::BIGINT - ({start})::BIGINT) + 6442450944) % 4294967296 - 2147483648)"


def connect(temporary_folder: str | None = None) -> duckdb.DuckDBPyConnection:
    """A database in memory that reaches nothing outside what is read into it."""
    settings: dict[str, str | bool | int | float | list[str]] = {"memory_limit": MEMORY_LIMIT}
    if temporary_folder:
        settings["temp_directory"] = temporary_folder
    db = duckdb.connect(":memory:", config=settings)
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
        query(db, f"SET {setting} = false")
    return db


def query(db: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Runs one statement to its end and gives all its rows: a result left open would block the next statement."""
    return db.execute(sql, list(parameters)).fetchall()


def load_flows(db: duckdb.DuckDBPyConnection, indexes: Sequence[VantageIndex]) -> None:
    """Makes the table `flow`: a row a flow at a vantage point, turned from client to server.

    Columns: `id` (unique over the case), `vantage` (its number), `flow` (row in the vantage point's table), `client_ip`,
    `client_port`, `server_ip`, `server_port`, `ipv6`, SHARED_COLUMNS, HALF_COLUMNS of each end, anchors and `chains`. The lowest bit of
    a payload anchor is 0 where the client sent it, 1 where the server did.

    A tuple is turned the same way at all vantage points: by who sent a SYN, else who was sent a SYN-ACK, else who refused, else the
    ephemeral port, else by an end that one of these shows to be another connection's server, else by an HTTP request or answer, else
    who sent the first data, else the first packet (docs/json.md). A balancer's local ports begin at 1025 (DPVS src/sa_pool.c DEF_MIN_PORT).
    """
    parts = []
    for number, index in enumerate(indexes):
        path = str(index.flows_path).replace("'", "''")
        parts.append(f"SELECT {number}::INTEGER AS vantage, * FROM read_parquet('{path}')")
    if not parts:
        raise ValueError("no vantage point has a capture")
    query(db, "CREATE TABLE raw AS " + " UNION ALL BY NAME ".join(parts))
    low, high = f"< {EPHEMERAL_FROM}", f">= {EPHEMERAL_FROM}"
    # A RST with ACK and the sequence number 0 answers a packet without ACK, a SYN (RFC 9293 section 3.10.7.1): a server sends it.
    refused_by = "packets_{0} > 0 AND packets_{0} = resets_{0} AND packets_{1} = 0 AND reset_seq_{0} = 0 AND reset_ack_{0} > 0"
    asks_a = f"(last_payload_a = {HTTP_REQUEST} OR last_payload_b = {HTTP_RESPONSE})"
    asks_b = f"(last_payload_b = {HTTP_REQUEST} OR last_payload_a = {HTTP_RESPONSE})"
    refused_by_a, refused_by_b = refused_by.format("a", "b"), refused_by.format("b", "a")
    query(
        db,
        f"""
        CREATE TABLE turn AS
        WITH vote AS (
            SELECT ip_a, port_a, ip_b, port_b, first_ns,
                CASE
                    WHEN syns_a > 0 AND syns_b = 0 THEN 1 WHEN syns_b > 0 AND syns_a = 0 THEN 1
                    WHEN syns_a > 0 AND syns_b > 0 THEN 2
                    WHEN syn_acks_a > 0 OR syn_acks_b > 0 OR {refused_by_a} OR {refused_by_b} THEN 3
                    WHEN (port_a {high}) <> (port_b {high}) THEN 4
                    WHEN payload_first_ns_a IS NOT NULL OR payload_first_ns_b IS NOT NULL THEN 5
                    ELSE 6 END AS basis,
                CASE
                    WHEN syns_a > 0 AND syns_b = 0 THEN true WHEN syns_b > 0 AND syns_a = 0 THEN false
                    WHEN syns_a > 0 AND syns_b > 0 THEN syn_ns_a <= syn_ns_b
                    WHEN syn_acks_b > 0 THEN true WHEN syn_acks_a > 0 THEN false
                    WHEN {refused_by_b} THEN true WHEN {refused_by_a} THEN false
                    WHEN port_a {high} AND port_b {low} THEN true WHEN port_b {high} AND port_a {low} THEN false
                    WHEN payload_first_ns_a IS NOT NULL OR payload_first_ns_b IS NOT NULL
                        THEN coalesce(payload_first_ns_a <= payload_first_ns_b, payload_first_ns_a IS NOT NULL)
                    ELSE coalesce(first_ns_a <= first_ns_b, first_ns_a IS NOT NULL) END AS client_is_a,
                CASE WHEN {asks_a} <> {asks_b} THEN {asks_a} END AS asks
            FROM raw
        ),
        guess AS (
            SELECT ip_a, port_a, ip_b, port_b, arg_min(client_is_a, (basis, first_ns)) AS client_is_a, min(basis) AS basis,
                arg_min(asks, first_ns) AS asks
            FROM vote GROUP BY ALL
        ),
        service AS (
            SELECT DISTINCT CASE WHEN client_is_a THEN ip_b ELSE ip_a END AS ip, CASE WHEN client_is_a THEN port_b ELSE port_a END AS port
            FROM guess WHERE basis <= 4
        )
        SELECT ip_a, port_a, ip_b, port_b,
            CASE WHEN basis <= 4 THEN client_is_a WHEN (a.ip IS NULL) <> (b.ip IS NULL) THEN a.ip IS NULL
                 ELSE coalesce(asks, client_is_a) END AS client_is_a,
            CASE WHEN basis <= 4 THEN basis WHEN (a.ip IS NULL) <> (b.ip IS NULL) THEN 7 WHEN asks IS NOT NULL THEN 8
                 ELSE basis END AS turned_by
        FROM guess LEFT JOIN service a ON a.ip = ip_a AND a.port = port_a AND basis > 4
            LEFT JOIN service b ON b.ip = ip_b AND b.port = port_b AND basis > 4
        """,
    )
    ends = []
    for column in HALF_COLUMNS:
        ends.append(f"CASE WHEN client_is_a THEN {column}_a ELSE {column}_b END AS client_{column}")
        ends.append(f"CASE WHEN client_is_a THEN {column}_b ELSE {column}_a END AS server_{column}")
    query(
        db,
        f"""
        CREATE TABLE flow AS
        SELECT (vantage::BIGINT << 32) | flow AS id, vantage, flow, turned_by,
            CASE WHEN client_is_a THEN ip_a ELSE ip_b END AS client_ip,
            CASE WHEN client_is_a THEN port_a ELSE port_b END AS client_port,
            CASE WHEN client_is_a THEN ip_b ELSE ip_a END AS server_ip,
            CASE WHEN client_is_a THEN port_b ELSE port_a END AS server_port,
            ipv6, {", ".join(SHARED_COLUMNS)}, {", ".join(ends)},
            timestamp_anchors,
            list_transform(payload_anchors, lambda anchor: CASE WHEN client_is_a THEN anchor ELSE xor(anchor, 1::UBIGINT) END)
                AS payload_anchors, chains
        FROM raw JOIN turn USING (ip_a, port_a, ip_b, port_b)
        ORDER BY id
        """,
    )
    query(db, "DROP TABLE raw")
    query(db, "DROP TABLE turn")
