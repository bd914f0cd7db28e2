"""The table of flows goes in; which flows are the same TCP connection comes out, by its numbers and not by its addresses."""

from __future__ import annotations

import duckdb

from tcpwhy.tables.flows import query, seq_distance_sql

SLACK = 1 << 20
"""Bytes by which sequence ranges of one connection may lie apart at two places: a large receive window (RFC 7323 section 2.2 allows
1 GiB, Linux's default tcp_rmem ends at 6 MiB and is seldom reached between two packets)."""

ROUNDS = 12
"""Rounds of passing the smallest flow number on to neighbours; chains of joins are as short as a path has vantage points."""


def _near(start: str, end: str) -> str:
    """SQL: true where one number lies at most SLACK before the other; null counts as true (nothing speaks against it)."""
    return f"coalesce({seq_distance_sql(start, end)} >= -{SLACK}, true)"


def join_flows(db: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables `pair` (x, y, basis) and `member` (id, connection): `connection` is the smallest flow id in it.

    Flows with one 5-tuple join on one equal anchor: the client's ISN; else, where one of them has no SYN, on both directions' numbers
    lying near each other; so do flows of one client port towards different servers. Flows whose addresses differ
    otherwise (NAT) need two: both ISNs; the client's ISN and a (TSval, TSecr) pair; a payload anchor of each end; or
    one and a (TSval, TSecr) pair, with numbers that lie near each other. Flows whose client numbers differ are never one: a balancer in
    full NAT makes two of what was one connection (behind.py). The two directions of a connection that its own host redirects join at one
    place by the client's port and the numbers that each acknowledges. Ranges alone, or timestamps alone, never join: connections opened
    in the same millisecond between the same hosts share them. What a NAT that forgot a connection sends under another port goes on with
    both of its numbers.
    """
    numbers_near = " AND ".join(
        [
            _near("x.client_seq_first", "y.client_seq_end"),
            _near("y.client_seq_first", "x.client_seq_end"),
            _near("x.server_low", "y.server_high"),
            _near("y.server_low", "x.server_high"),
        ]
    )
    query(
        db,
        f"""
        CREATE TABLE pair AS
        WITH side AS (
            SELECT id, vantage, client_ip, client_port, server_ip, server_port, client_isn, server_isn,
                client_seq_first, client_seq_end,
                coalesce(server_seq_first, server_isn, client_ack_end) AS server_low,
                CASE WHEN server_seq_end IS NULL THEN client_ack_end
                     WHEN client_ack_end IS NULL THEN server_seq_end
                     WHEN {seq_distance_sql("server_seq_end", "client_ack_end")} > 0 THEN client_ack_end
                     ELSE server_seq_end END AS server_high,
                timestamp_anchors, payload_anchors, client_packets, server_packets, client_ack_end, server_ack_end, server_seq_end,
                server_reset_seq, server_reset_ack, server_resets, first_ns, last_ns
            FROM flow
        ),
        same_isn AS (
            SELECT x.id AS x, y.id AS y, 'address and ISN' AS basis
            FROM side x JOIN side y USING (client_ip, client_port, server_ip, server_port, client_isn)
            WHERE x.vantage <> y.vantage
        ),
        near AS (
            SELECT x.id AS x, y.id AS y, 'address and numbers' AS basis
            FROM side x JOIN side y USING (client_ip, client_port, server_ip, server_port)
            WHERE x.vantage <> y.vantage AND (x.client_isn IS NULL OR y.client_isn IS NULL)
                AND x.client_packets + x.server_packets > 0 AND y.client_packets + y.server_packets > 0
                AND (x.client_seq_first IS NOT NULL AND y.client_seq_first IS NOT NULL
                     OR x.server_low IS NOT NULL AND y.server_low IS NOT NULL)
                AND {numbers_near}
        ),
        same_client AS (
            -- A balancer that rewrites the server's address per packet: one client port, numbers near in both directions.
            SELECT x.id AS x, y.id AS y, 'client port and numbers' AS basis
            FROM side x JOIN side y USING (client_ip, client_port)
            WHERE x.id <> y.id AND (x.server_ip, x.server_port) IS DISTINCT FROM (y.server_ip, y.server_port)
                AND (x.client_isn IS NULL OR y.client_isn IS NULL)
                AND x.client_seq_first IS NOT NULL AND y.client_seq_first IS NOT NULL
                AND x.server_low IS NOT NULL AND y.server_low IS NOT NULL
                AND {numbers_near}
        ),
        both_isn AS (
            SELECT x.id AS x, y.id AS y, 'both ISNs' AS basis
            FROM side x JOIN side y USING (client_isn, server_isn)
            WHERE x.id <> y.id
                AND (x.client_ip, x.client_port, x.server_ip, x.server_port)
                    IS DISTINCT FROM (y.client_ip, y.client_port, y.server_ip, y.server_port)
        ),
        isn_and_timestamps AS (
            SELECT x.id AS x, y.id AS y, 'ISN and timestamps' AS basis
            FROM side x JOIN side y USING (client_isn)
            WHERE x.id <> y.id AND (x.server_isn IS NULL OR y.server_isn IS NULL)
                AND list_has_any(x.timestamp_anchors, y.timestamp_anchors)
                AND (x.client_ip, x.client_port, x.server_ip, x.server_port)
                    IS DISTINCT FROM (y.client_ip, y.client_port, y.server_ip, y.server_port)
        ),
        redirected AS (
            -- A host turns its own packets to another address of its own and turns the answers back: on lo the one direction has the new
            -- address, the other the old one. Both ends of the number spaces tie them, or the RST that names the SYN's number.
            SELECT x.id AS x, y.id AS y, 'numbers of a redirect' AS basis
            FROM side x JOIN side y USING (vantage, client_ip, client_port)
            WHERE x.id <> y.id AND x.server_packets = 0 AND y.client_packets = 0 AND x.client_isn IS NOT NULL
                AND x.first_ns <= y.last_ns AND y.first_ns <= x.last_ns + 1000000000
                AND (y.server_isn IS NULL AND y.server_reset_seq = 0
                        AND y.server_reset_ack::BIGINT = (x.client_isn::BIGINT + 1) % 4294967296
                     OR y.server_isn IS NOT NULL AND x.client_ack_end IS NOT NULL
                        AND (x.client_ack_end = y.server_seq_end OR x.client_seq_end = y.server_ack_end)
                        AND abs({seq_distance_sql("x.client_ack_end", "y.server_seq_end")}) <= {SLACK}
                        AND abs({seq_distance_sql("x.client_seq_end", "y.server_ack_end")}) <= {SLACK})
        ),
        forgotten AS (
            -- A NAT that forgot a connection gives it another port: the server answers a stranger with RST, or not at all. What the
            -- stranger sends goes on, in both number spaces, exactly where the connection stands.
            SELECT x.id AS x, y.id AS y, 'numbers behind a NAT that forgot' AS basis
            FROM side x JOIN side y USING (server_ip, server_port, client_ack_end)
            WHERE (x.client_ip, x.client_port) IS DISTINCT FROM (y.client_ip, y.client_port)
                AND x.client_isn IS NULL AND x.client_seq_first IS NOT NULL AND x.server_packets = x.server_resets
                AND y.server_packets > y.server_resets
                AND (x.client_seq_end = y.client_seq_end OR x.client_seq_first = y.client_seq_end)
        ),
        anchored AS (
            SELECT id, unnest(payload_anchors) AS anchor FROM side
        ),
        payload AS (
            -- A balancer in full NAT leaves the server's numbers and shifts the client's: both must be shown to be the same. Several
            -- anchors of one end are one: where its ISN meets another's by chance, equal requests make them all equal.
            SELECT x.id AS x, y.id AS y, 'payload and timestamps' AS basis
            FROM (SELECT a.id AS ax, b.id AS bx, bool_or(anchor & 1 = 0) AND bool_or(anchor & 1 = 1) AS both_ends
                  FROM anchored a JOIN anchored b USING (anchor) WHERE a.id <> b.id GROUP BY ALL) hit
            JOIN side x ON x.id = ax JOIN side y ON y.id = bx
            WHERE (x.client_ip, x.client_port, x.server_ip, x.server_port)
                    IS DISTINCT FROM (y.client_ip, y.client_port, y.server_ip, y.server_port)
                AND (x.client_isn IS NULL OR y.client_isn IS NULL OR x.client_isn = y.client_isn)
                AND (both_ends OR list_has_any(x.timestamp_anchors, y.timestamp_anchors) AND {numbers_near})
        )
        SELECT x, y, min(basis) AS basis FROM (
            FROM same_isn UNION ALL FROM near UNION ALL FROM same_client UNION ALL FROM redirected
            UNION ALL SELECT y, x, basis FROM redirected UNION ALL FROM forgotten UNION ALL SELECT y, x, basis FROM forgotten
            UNION ALL FROM both_isn UNION ALL FROM isn_and_timestamps UNION ALL FROM payload
        ) GROUP BY x, y ORDER BY x, y
        """,
    )
    query(db, "CREATE TABLE member AS SELECT id, id AS connection FROM flow")
    for _ in range(ROUNDS):
        changed = query(
            db,
            """
            SELECT count(*) FROM pair JOIN member mx ON mx.id = pair.x JOIN member my ON my.id = pair.y
            WHERE my.connection < mx.connection
            """,
        )
        if changed[0][0] == 0:
            break
        query(
            db,
            """
            CREATE OR REPLACE TABLE member AS
            SELECT m.id, least(m.connection, coalesce(min(other.connection), m.connection)) AS connection
            FROM member m LEFT JOIN pair ON pair.x = m.id LEFT JOIN member other ON other.id = pair.y
            GROUP BY m.id, m.connection ORDER BY m.id
            """,
        )
