"""A case's flows and what they reveal go in; the tables `seat`, `root`, `edge` and `reach` come out, from which connections are resolved.

`seat`: a row a flow, `place` counting a connection's flows from the client to the server. `root`: the connections that are listed, `n` in
the order of time. `edge`: connection `a` may lie behind connection `b`. `reach`: all connections that lie before each root.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tcpwhy.clients.lookup import STILL_OPEN_NS
from tcpwhy.clients.resolving import STEPS
from tcpwhy.connections.selecting import filter_sql
from tcpwhy.tables.flows import query

if TYPE_CHECKING:
    import duckdb

MOST_EDGES = 16
"""Connections looked at that may lie before one: more of them cannot be told apart anyway, and two already make no answer."""

_HOPS = "(CASE WHEN {0} <= 64 THEN 64 WHEN {0} <= 128 THEN 128 ELSE 255 END) - {0}"


@dataclasses.dataclass(frozen=True)
class Narrowed:
    """Which connections are listed."""

    vantage: int | None = None
    """The number of a vantage point: only what it saw, with its addresses."""
    old_ns: int | None = None
    """Only connections that were open before the capture began, or at least so long."""
    filter: str | None = None


def seat_flows(db: duckdb.DuckDBPyConnection, offsets_ns: Mapping[int, int], addresses: Mapping[int, frozenset[str]]) -> None:
    """Makes `seat`: id, connection, vantage, place, places, offset_ns, opened, closed (whether begin and end were seen), followed_ns.

    offsets_ns: by vantage point, its clock minus the common one; addresses: by vantage point, the host's own.
    """
    query(db, "CREATE OR REPLACE TABLE clock (vantage INTEGER, offset_ns BIGINT)")
    for vantage, offset in offsets_ns.items():
        query(db, "INSERT INTO clock VALUES (?, ?)", (vantage, offset))
    query(db, "CREATE OR REPLACE TABLE own_address (vantage INTEGER, ip VARCHAR)")
    for vantage, own in addresses.items():
        for ip in sorted(own):
            query(db, "INSERT INTO own_address VALUES (?, ?)", (vantage, ip))
    client_hops, server_hops = _HOPS.format("client_ttl_max"), _HOPS.format("server_ttl_max")
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE seat AS
        WITH several AS (SELECT connection FROM member GROUP BY connection HAVING count(*) > 1),
        part AS (
            SELECT id, connection, vantage, client_ttl_max, server_ttl_max, server_ip
            FROM member JOIN several USING (connection) JOIN flow USING (id)
        ),
        nearer AS (
            -- How many of the connection's other places lie nearer to the client, by what most connections showed.
            SELECT here.id, count(DISTINCT there.vantage) AS depth
            FROM part here JOIN part there USING (connection)
            JOIN before_count b ON b.x = there.vantage AND b.y = here.vantage
            LEFT JOIN before_count r ON r.x = here.vantage AND r.y = there.vantage
            WHERE here.vantage <> there.vantage AND b.n > coalesce(r.n, 0) GROUP BY here.id
        ),
        ranked AS (
            SELECT part.id, row_number() OVER (PARTITION BY connection ORDER BY coalesce(depth, 0),
                    CASE WHEN client_ttl_max > 0 THEN {client_hops} ELSE 0 END - CASE WHEN server_ttl_max > 0 THEN {server_hops} ELSE 0 END,
                    own.ip IS NOT NULL, part.id) AS place,
                count(*) OVER (PARTITION BY connection) AS places
            FROM part LEFT JOIN nearer ON nearer.id = part.id
            LEFT JOIN own_address own ON own.vantage = part.vantage AND own.ip = part.server_ip
        )
        SELECT flow.id, connection, flow.vantage, coalesce(place, 1) AS place, coalesce(places, 1) AS places,
            coalesce(offset_ns, 0) AS offset_ns,
            client_syns > 0 OR server_syn_acks > 0 AS opened,
            client_resets + server_resets > 0 OR client_fins > 0 AND server_fins > 0 AS closed,
            lead(first_ns) OVER (PARTITION BY flow.vantage, client_ip, client_port, server_ip, server_port ORDER BY first_ns, flow.id)
                - coalesce(offset_ns, 0) AS followed_ns
        FROM flow JOIN member USING (id) LEFT JOIN ranked ON ranked.id = flow.id LEFT JOIN clock ON clock.vantage = flow.vantage
        WHERE client_packets + server_packets > 0
        ORDER BY connection, place
        """,
    )


def draw_edges(db: duckdb.DuckDBPyConnection) -> None:
    """Makes `claimed` (ip, port, connection, followed_ns), and `edge` (a, b, kind, sure, …): by the same bytes, or by an address.

    The table `translation` holds the client's and server's ends behind and before each host.
    """
    query(
        db,
        """
        CREATE OR REPLACE TABLE claimed AS
        WITH once AS (
            SELECT claim.ip, claim.port, seat.connection, min(first_ns - offset_ns) AS first_ns
            FROM claim JOIN seat USING (id) JOIN flow USING (id) WHERE from_client AND what = 'client' AND claim.port > 0 GROUP BY ALL
        )
        SELECT ip, port, connection, lead(first_ns) OVER (PARTITION BY ip, port ORDER BY first_ns, connection) AS followed_ns FROM once
        """,
    )
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE edge AS
        WITH span AS (
            SELECT connection, min(first_ns - offset_ns) AS first_ns, max(last_ns - offset_ns) AS last_ns
            FROM seat JOIN flow USING (id) GROUP BY connection
        ),
        bytes AS (
            SELECT mx.connection AS a, my.connection AS b, 'bytes' AS kind, bool_and(coalesce(doubt, '') = '') AS sure,
                max(anchors)::INTEGER AS anchors, min(basis) AS basis, max(coalesce(doubt, '')) AS doubt
            FROM behind JOIN member mx ON mx.id = behind.x JOIN member my ON my.id = behind.y
            WHERE mx.connection <> my.connection GROUP BY ALL
        ),
        named AS (
            SELECT connection AS a, ip, port FROM claimed
            UNION
            SELECT DISTINCT connection, before_client_ip, before_client_port
            FROM flow JOIN member USING (id) JOIN translation
                ON behind_client_ip = client_ip AND behind_client_port = client_port
                AND behind_server_ip = server_ip AND behind_server_port = server_port
            WHERE (behind_client_ip, behind_client_port) IS DISTINCT FROM (before_client_ip, before_client_port)
        ),
        address AS (
            SELECT DISTINCT named.a, member.connection AS b
            FROM named JOIN flow ON flow.client_ip = named.ip AND flow.client_port = named.port JOIN member USING (id)
            JOIN span sa ON sa.connection = named.a JOIN span sb ON sb.connection = member.connection
            WHERE member.connection <> named.a
                AND sa.first_ns <= sb.last_ns + {STILL_OPEN_NS} AND sb.first_ns <= sa.last_ns + {STILL_OPEN_NS}
            QUALIFY row_number() OVER (PARTITION BY named.a ORDER BY member.connection) <= {MOST_EDGES}
        )
        SELECT a, b, kind, sure, anchors, basis, doubt FROM bytes
        UNION ALL SELECT a, b, 'address', true, 0, '', '' FROM address
        """,
    )


def choose_roots(db: duckdb.DuckDBPyConnection, narrowed: Narrowed) -> None:
    """Makes `root` (n, connection, flow_id): the listed connections in the order of time, each with its flow nearest to the server.

    A balancer's client side is no row beside its server side. Raises EvidenceError where the filter cannot be read.
    """
    scope, parameters = filter_sql(narrowed.filter)
    at, values = "place = places", []
    if narrowed.vantage is not None:
        at = "vantage = ?"
        values.append(narrowed.vantage)
    old = "true"
    if narrowed.old_ns is not None:
        old = f"(NOT opened OR last_ns - first_ns >= {int(narrowed.old_ns)})"
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE root AS
        WITH listed AS (
            SELECT * FROM seat WHERE {at} QUALIFY row_number() OVER (PARTITION BY connection ORDER BY place DESC) = 1
        ),
        inside AS (SELECT DISTINCT connection FROM seat JOIN flow USING (id) WHERE {scope})
        SELECT row_number() OVER (ORDER BY first_ns, listed.connection) AS n, listed.connection, listed.id AS flow_id
        FROM listed JOIN flow USING (id)
        WHERE {old} AND listed.connection IN (SELECT connection FROM inside)
            AND listed.connection NOT IN (
                SELECT b FROM edge JOIN listed side ON side.connection = edge.a WHERE kind = 'bytes' AND sure)
        ORDER BY n
        """,
        [*values, *parameters],
    )


def follow_edges(db: duckdb.DuckDBPyConnection) -> None:
    """Makes `reach` (n, connection): each root and all that lie before it, at most STEPS edges away."""
    query(db, "CREATE OR REPLACE TABLE reach AS SELECT n, connection, 0 AS depth FROM root")
    if not query(db, "SELECT 1 FROM edge LIMIT 1"):
        return
    for depth in range(STEPS):
        query(
            db,
            f"""
            INSERT INTO reach
            SELECT DISTINCT n, edge.b, {depth + 1} FROM reach JOIN edge ON edge.a = reach.connection
            WHERE depth = {depth} AND (n, edge.b) NOT IN (SELECT n, connection FROM reach)
            """,
        )
        if not query(db, f"SELECT 1 FROM reach WHERE depth = {depth + 1} LIMIT 1"):
            break
    query(db, "CREATE OR REPLACE TABLE reach AS SELECT * FROM reach ORDER BY n, depth, connection")


def load_ends(db: duckdb.DuckDBPyConnection, path: str) -> None:
    """Makes `translation` from lines of JSON, one for each translation: the eight ends, by ENDS."""
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in ENDS.items())
    quoted = path.replace("'", "''")
    query(
        db,
        f"""CREATE OR REPLACE TABLE translation AS
            SELECT * FROM read_json('{quoted}', format = 'newline_delimited', columns = {{{columns}}})""",
    )


ENDS: Mapping[str, str] = {
    f"{side}_{end}_{part}": kind
    for side in ("behind", "before")
    for end in ("client", "server")
    for part, kind in (("ip", "VARCHAR"), ("port", "INTEGER"))
}
"""The columns of the table `translation`."""
