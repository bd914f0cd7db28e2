"""Joined flows and what is known of the hosts go in; which vantage points lie on the way of a connection comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import duckdb

from tcpwhy.tables.flows import query

MARGIN_NS = 500_000_000
"""A capture counts as running at a moment only if it runs so much before and after it, clocks being uncertain."""


@dataclasses.dataclass(frozen=True, slots=True)
class Siblings:
    """Where other connections towards one server address were seen, of those that one place saw."""

    total: int
    at: Mapping[str, int]
    """By vantage point: how many of them it saw too."""
    alone_at: Mapping[str, int]
    """By vantage point: how many it saw that no other place behind it did."""


@dataclasses.dataclass(slots=True)
class Topology:
    """What the healthy connections teach about the ways that the failed ones should have gone."""

    names: tuple[str, ...]
    running: Mapping[str, tuple[int, int] | None]
    """By vantage point: when its capture began and ended, aligned; None without capture."""
    aligned: Mapping[str, bool]
    """By vantage point: its clock is related to the common one."""
    lossy: Mapping[str, str]
    """By vantage point: why its capture is known to have lost packets."""
    addresses: Mapping[str, frozenset[str]]
    """By vantage point: addresses that are the host's own, from its state or tcpwhy.toml."""
    arp_claims: Mapping[str, frozenset[str]]
    """By IPv4 address: hardware addresses that answered ARP for it, anywhere in the case."""
    server_ttls: Mapping[tuple[str, str], frozenset[int]]
    """By vantage point and server address: the TTLs of established connections' packets from it, as seen there."""
    by_server: Mapping[tuple[str, str, int], Siblings]
    """By vantage point, server address and port as seen there."""
    by_server_ip: Mapping[tuple[str, str], Siblings]
    before: Mapping[tuple[str, str], int]
    """How many connections showed the first place nearer to the client than the second."""

    def beyond(self, place: str, server_ip: str, server_port: int) -> dict[str, int]:
        """Places that saw connections towards the same server that `place` saw too, and lie behind it; how many each."""
        for siblings in (
            self.by_server.get((place, server_ip, server_port)),
            self.by_server_ip.get((place, server_ip)),
        ):
            if siblings is not None:
                found = {other: count for other, count in siblings.at.items() if self.is_before(place, other)}
                if found:
                    return found
        return {
            other: 0 for other, own in self.addresses.items() if other != place and server_ip in own and self.running.get(other) is not None
        }

    def alternatives(self, place: str, server_ip: str, server_port: int) -> bool:
        """True where connections from `place` to this server end now at one place, now at another: backends behind one address."""
        siblings = self.by_server.get((place, server_ip, server_port)) or self.by_server_ip.get((place, server_ip))
        if siblings is None:
            return False
        return sum(count > 0 for count in siblings.alone_at.values()) > 1 or sum(siblings.at.values()) == 0

    def is_before(self, place: str, other: str) -> bool:
        """True where `place` lies nearer to the clients than `other` in most connections that both saw."""
        return self.before.get((place, other), 0) > self.before.get((other, place), 0)

    def was_running(self, place: str, aligned_ns: int) -> bool:
        """True where the capture of a place surely ran at a moment of the common clock."""
        window = self.running.get(place)
        if window is None:
            return False
        return window[0] - MARGIN_NS <= aligned_ns <= window[1] + MARGIN_NS


def server_ttls(db: duckdb.DuckDBPyConnection, names: Sequence[str]) -> dict[tuple[str, str], frozenset[int]]:
    """The TTLs with which each server's packets arrive at each place, from connections whose handshake was answered and not reset."""
    rows = query(
        db,
        """
        SELECT vantage, server_ip, list(DISTINCT server_ttl_min) || list(DISTINCT server_ttl_max) FROM flow
        WHERE server_syn_acks > 0 AND server_resets = 0 AND server_ttl_max > 0 GROUP BY ALL ORDER BY ALL
        """,
    )
    return {(names[vantage], ip): frozenset(ttls) for vantage, ip, ttls in rows}


def learn(
    db: duckdb.DuckDBPyConnection, names: Sequence[str]
) -> tuple[dict[tuple[str, str, int], Siblings], dict[tuple[str, str], Siblings], dict[tuple[str, str], int]]:
    """What `Topology` keeps of the joined flows: siblings by server, by server address, and the order of places."""
    query(
        db,
        """
        CREATE OR REPLACE TABLE position AS
        SELECT connection, vantage, any_value(server_ip) AS server_ip, any_value(server_port) AS server_port,
            min(CASE WHEN client_ttl_max > 0 THEN
                (CASE WHEN client_ttl_max <= 64 THEN 64 WHEN client_ttl_max <= 128 THEN 128 ELSE 255 END) - client_ttl_max END)
              - min(CASE WHEN server_ttl_max > 0 THEN
                (CASE WHEN server_ttl_max <= 64 THEN 64 WHEN server_ttl_max <= 128 THEN 128 ELSE 255 END) - server_ttl_max END)
                AS hops,
            min(CASE WHEN client_syns = 1 AND server_syn_acks = 1 THEN server_syn_ns - client_syn_ns END) AS answered_ns
        FROM flow JOIN member USING (id) GROUP BY connection, vantage
        """,
    )
    before: dict[tuple[str, str], int] = {}
    for x, y, count in query(
        db,
        """
        SELECT px.vantage, py.vantage, count(*)
        FROM position px JOIN position py USING (connection)
        WHERE px.vantage <> py.vantage
            -- Fewer hops from the client is nearer to it; with equal hops (one network), whoever waits longer for the answer.
            AND (px.hops < py.hops OR px.hops = py.hops AND px.answered_ns > py.answered_ns
                 OR (px.hops IS NULL OR py.hops IS NULL) AND px.answered_ns > py.answered_ns)
        GROUP BY ALL ORDER BY ALL
        """,
    ):
        before[names[x], names[y]] = count
    query(db, "CREATE OR REPLACE TABLE before_count (x INTEGER, y INTEGER, n BIGINT)")
    number = {name: at for at, name in enumerate(names)}
    rows = [(number[x], number[y], count) for (x, y), count in before.items()]
    for row in rows:
        query(db, "INSERT INTO before_count VALUES (?, ?, ?)", row)
    found: list[dict[tuple[str, str, int], Siblings]] = []
    for port in ("px.server_port", "0"):
        grouped: dict[tuple[str, str, int], tuple[int, dict[str, int], dict[str, int]]] = {}
        siblings_sql = f"""
            WITH reach AS (
                SELECT px.vantage AS x, px.server_ip, {port} AS server_port, px.connection, py.vantage AS y,
                    count(*) OVER (PARTITION BY px.vantage, px.connection) AS others
                FROM position px JOIN position py USING (connection)
                JOIN before_count b ON b.x = px.vantage AND b.y = py.vantage
                LEFT JOIN before_count r ON r.x = py.vantage AND r.y = px.vantage
                WHERE px.vantage <> py.vantage AND b.n > coalesce(r.n, 0)
            )
            SELECT x, server_ip, server_port, y, count(*) AS seen, count(*) FILTER (others = 1) AS alone
            FROM reach GROUP BY ALL ORDER BY ALL
        """
        for x, ip, server_port, y, seen, alone in query(db, siblings_sql):
            entry = grouped.setdefault((names[x], ip, server_port), (0, {}, {}))
            entry[1][names[y]] = seen
            entry[2][names[y]] = alone
        found.append({key: Siblings(sum(at.values()), at, alone_at) for key, (_, at, alone_at) in grouped.items()})
    by_ip = {(place, ip): siblings for (place, ip, _), siblings in found[1].items()}
    return found[0], by_ip, before
