"""The table of joined flows goes in; pairs of flows that may be one connection before and behind a balancer come out, by columns alone."""

from __future__ import annotations

import duckdb

from tcpwhy.tables.flows import query, seq_distance_sql

CROWD = 32
"""Flows that share one number or anchor, at most: more of them are no sign of anything, and their pairs would be without end."""

INSERTED_MAX = 1_024
"""Bytes by which two shifts of one pair may differ: a PROXY header between the handshake and the first data."""

SAME_PLACE_NS = 100_000_000
"""A host forwards a packet within this time; what it receives and sends is captured by one clock."""

BUCKET_BITS = (16, 20, 24, 28)
"""Sizes of the pieces of the sequence space in which ranges are looked for; a flow is looked up at the first that it fills at most
sixteen pieces of."""

BUCKETS_A_FLOW = 16

OVERLAPS_MAX = 20_000_000
"""Ranges compared at one size of piece: beyond it chance alone would fill the answer."""

OVERLAPS_A_FLOW = 64
"""Ranges that lie over a flow's own, at most: of more, nothing is read."""


def make_ends(db: duckdb.DuckDBPyConnection) -> None:
    """Makes the table `ends`: what of each flow tells where it stands in the two spaces of numbers."""
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE ends AS
        SELECT id, vantage, connection, client_ip, client_port, server_ip, server_port,
            client_isn, server_isn, client_seq_first, client_seq_end, server_ack_end, server_seq_end,
            coalesce(server_seq_first, (server_isn::BIGINT + 1) % 4294967296) AS server_low,
            CASE WHEN server_seq_end IS NULL THEN client_ack_end WHEN client_ack_end IS NULL THEN server_seq_end
                 WHEN {seq_distance_sql("server_seq_end", "client_ack_end")} > 0 THEN client_ack_end
                 ELSE server_seq_end END AS server_high,
            client_syn_ns, server_syn_ns, client_payload_last_ns, server_payload_last_ns, first_ns, last_ns,
            client_packets + server_packets AS packets, client_bytes, server_bytes, server_mss, toa,
            len(timestamp_anchors) > 0 AS stamped
        FROM flow JOIN member USING (id)
        WHERE client_packets + server_packets > client_resets + server_resets
            AND coalesce(server_isn, server_seq_first, client_ack_end) IS NOT NULL
        """,
    )


def meet_by_numbers(db: duckdb.DuckDBPyConnection) -> int:
    """Makes the table `meeting` (p, q, numbers, anchors, by_range): flows with an equal server number or anchor; how many crowds were left.

    Numbers are the server's first and last ones, as sent or as acknowledged; an anchor is a message of the server with its number.
    """
    query(
        db,
        """
        CREATE OR REPLACE TEMP TABLE sign AS
        SELECT id, connection, 0::UTINYINT AS kind, unnest(list_distinct([
            (server_isn::BIGINT + 1) % 4294967296, server_seq_first::BIGINT, server_seq_end::BIGINT, client_ack_end::BIGINT
        ]))::UBIGINT AS sign
        FROM ends JOIN (SELECT id, server_seq_first, client_ack_end FROM flow) USING (id)
        UNION ALL
        SELECT id, connection, 1::UTINYINT, sign
        FROM (SELECT id, connection, unnest(payload_anchors) AS sign FROM ends JOIN (SELECT id, payload_anchors FROM flow) USING (id))
        WHERE sign & 1 = 1
        """,
    )
    query(
        db,
        "CREATE OR REPLACE TEMP TABLE shared AS SELECT kind, sign, count(*) AS holders FROM sign GROUP BY ALL HAVING count(*) > 1",
    )
    crowds = query(db, f"SELECT count(*) FROM shared WHERE holders > {CROWD}")[0][0]
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE meeting AS
        WITH few AS (SELECT id, connection, kind, sign FROM sign JOIN shared USING (kind, sign) WHERE holders <= {CROWD})
        SELECT a.id AS p, b.id AS q, count(*) FILTER (kind = 0) AS numbers, count(*) FILTER (kind = 1) AS anchors, false AS by_range
        FROM few a JOIN few b USING (kind, sign) WHERE a.id < b.id AND a.connection <> b.connection GROUP BY ALL
        """,
    )
    query(db, "DROP TABLE sign")
    query(db, "DROP TABLE shared")
    return int(crowds)


def weigh(db: duckdb.DuckDBPyConnection) -> None:
    """Makes the table `weighed` of `meeting`: how far the columns of the two flows bear out that they are one.

    `delta` is p's client numbers minus q's, `inserted` what p has more of before the first data; `proven` where two of the client's
    numbers bear out one shift and the server's ISN or a message of it with its number is equal; `offset_ns` is p's clock minus q's.
    """
    late, early = "(p.client_seq_end - q.client_seq_end)", "(p.client_isn - q.client_isn)"
    unsigned = "(({}::BIGINT + 4294967296) % 4294967296)"
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE weighed AS
        WITH side AS (
            SELECT * REPLACE (client_isn::BIGINT AS client_isn, client_seq_first::BIGINT AS client_seq_first,
                client_seq_end::BIGINT AS client_seq_end, server_ack_end::BIGINT AS server_ack_end)
            FROM ends
        ),
        -- Held whole before it is narrowed: else the planner joins p with q by what differs, a million times a million.
        shifts AS MATERIALIZED (
            SELECT m.*, p.vantage AS vp, q.vantage AS vq, p.connection AS cp, q.connection AS cq,
                {unsigned.format(early)} AS by_isn, {unsigned.format("(p.client_seq_first - q.client_seq_first)")} AS by_first,
                {unsigned.format(late)} AS by_end, {unsigned.format("(p.server_ack_end - q.server_ack_end)")} AS by_ack,
                p.server_isn IS NOT NULL AND p.server_isn = q.server_isn AS isn_equal,
                p.server_isn <> q.server_isn AS isn_other, p.server_seq_end = q.server_seq_end AS end_equal,
                p.client_syn_ns - q.client_syn_ns AS forth_syn, p.server_syn_ns - q.server_syn_ns AS back_syn,
                p.client_payload_last_ns - q.client_payload_last_ns AS forth_last,
                p.server_payload_last_ns - q.server_payload_last_ns AS back_last,
                p.last_ns AS at_ns, p.packets + q.packets AS packets,
                (p.client_ip, p.client_port, p.server_ip, p.server_port) <> (q.client_ip, q.client_port, q.server_ip, q.server_port)
                    AND (p.vantage <> q.vantage
                         OR p.first_ns <= q.last_ns + {SAME_PLACE_NS} AND q.first_ns <= p.last_ns + {SAME_PLACE_NS}) AS possible
            FROM meeting m JOIN side p ON p.id = m.p JOIN side q ON q.id = m.q
        ),
        settled AS (
            SELECT *, CASE WHEN by_end = by_ack THEN by_end WHEN by_isn = by_first THEN by_first
                           WHEN by_first = by_ack THEN by_first WHEN by_first = by_end THEN by_end
                           WHEN by_isn = by_end THEN by_end WHEN by_isn = by_ack THEN by_ack END AS delta
            FROM shifts WHERE possible AND NOT coalesce(isn_other, false)
        ),
        told AS (
            SELECT *, CASE WHEN by_isn IS NULL THEN 0 ELSE {seq_distance_sql("by_isn", "delta")} END AS inserted,
                CASE WHEN isn_equal AND forth_syn IS NOT NULL THEN forth_syn WHEN end_equal AND by_end = delta THEN forth_last END AS forth,
                CASE WHEN isn_equal THEN back_syn WHEN end_equal THEN back_last END AS back
            FROM settled
        )
        SELECT p, q, vp, vq, cp, cq, at_ns, packets, numbers, anchors + isn_equal::INT AS anchors, by_range, delta, inserted,
            forth - back AS lag_ns, coalesce((forth + back) // 2, back) AS offset_ns,
            coalesce(delta IS NOT NULL AND anchors + isn_equal::INT > 0 AND abs(inserted) <= {INSERTED_MAX} AND back IS NOT NULL
                AND abs(coalesce(forth - back, 0)) <= 1000000000, false) AS proven
        FROM told
        """,
    )


def meet_by_ranges(db: duckdb.DuckDBPyConnection) -> int:
    """Makes the table `meeting` anew: flows of connections not in `behind` whose server's ranges lie over each other.

    How many flows were left out because chance alone lays too many others over them comes back.
    """
    fits = " ".join(f"WHEN size < {BUCKETS_A_FLOW << bits} THEN {bits}" for bits in BUCKET_BITS)
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE range AS
        SELECT id, low, size, (CASE {fits} END)::INT AS bits
        FROM (SELECT id, server_low::BIGINT AS low, {seq_distance_sql("server_low", "server_high")} AS size FROM ends
              WHERE server_bytes > 0 AND connection NOT IN (
                  SELECT connection FROM behind JOIN member ON id = x UNION ALL SELECT connection FROM behind JOIN member ON id = y))
        WHERE size > 0
        """,
    )
    left = 0
    selects = []
    for bits in BUCKET_BITS:
        query(
            db,
            f"""
            CREATE OR REPLACE TEMP TABLE piece_{bits} AS
            SELECT id, low, size, bits = {bits} AS own,
                unnest(range(low >> {bits}, ((low + size) >> {bits}) + 1)) % {1 << (32 - bits)} AS piece
            FROM range WHERE bits <= {bits}
            """,
        )
        compared = query(
            db,
            f"SELECT sum(own * whole) FROM (SELECT count(*) FILTER (own) AS own, count(*) AS whole FROM piece_{bits} GROUP BY piece)",
        )[0][0]
        if not compared:
            continue
        if compared > OVERLAPS_MAX:
            left += query(db, f"SELECT count(*) FROM range WHERE bits = {bits}")[0][0]
            continue
        selects.append(
            f"""SELECT least(a.id, b.id) AS p, greatest(a.id, b.id) AS q FROM piece_{bits} a JOIN piece_{bits} b USING (piece)
            WHERE a.own AND a.id <> b.id
                AND {seq_distance_sql("a.low", "b.low")} < a.size AND {seq_distance_sql("b.low", "a.low")} < b.size"""
        )
    union = " UNION ".join(selects) or "SELECT 0 AS p, 0 AS q WHERE false"
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE over AS
        WITH pairs AS MATERIALIZED (
            SELECT o.p, o.q, p.connection <> q.connection
                AND (p.vantage <> q.vantage OR (p.server_ip, p.server_port) <> (q.server_ip, q.server_port)
                     AND p.first_ns <= q.last_ns + {SAME_PLACE_NS} AND q.first_ns <= p.last_ns + {SAME_PLACE_NS}) AS possible
            FROM ({union}) o JOIN ends p ON p.id = o.p JOIN ends q ON q.id = o.q
        )
        SELECT p, q FROM pairs WHERE possible
        """,
    )
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE crowded AS
        SELECT id FROM (SELECT p AS id FROM over UNION ALL SELECT q FROM over) GROUP BY id HAVING count(*) > {OVERLAPS_A_FLOW}
        """,
    )
    left += query(db, "SELECT count(*) FROM crowded")[0][0]
    query(
        db,
        """
        CREATE OR REPLACE TEMP TABLE meeting AS
        SELECT p, q, 0 AS numbers, 0 AS anchors, true AS by_range FROM over
        WHERE p NOT IN (FROM crowded) AND q NOT IN (FROM crowded)
        """,
    )
    for table in ["range", "over", "crowded", *(f"piece_{bits}" for bits in BUCKET_BITS)]:
        query(db, f"DROP TABLE {table}")
    return int(left)
