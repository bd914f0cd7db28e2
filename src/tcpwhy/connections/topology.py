"""Joined flows and what is known of the hosts go in; which vantage points lie on the way of a connection comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import duckdb

from tcpwhy.connections.packet import Side
from tcpwhy.tables.flows import query

ENOUGH = 8
"""So many healthy connections must have passed a place, and all of them, before the absence of another one there says anything: fewer
may all have met the same one of several backends by chance."""

ENOUGH_OF_PORT = 20
"""The same for connections of one port, where those of other ports went elsewhere."""


@dataclasses.dataclass(frozen=True, slots=True)
class Siblings:
    """Where other connections towards one server address were seen, of those that one place saw."""

    at: Mapping[str, int]
    """By vantage point: how many of them it saw too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Passage:
    """Of the healthy connections towards a server that one place saw in one direction: how many another place saw in that direction."""

    total: int
    seen: int

    @property
    def is_complete(self) -> bool:
        """All of them: the other place lies on the way of that direction."""
        return self.total > 0 and self.seen == self.total


NO_PASSAGE = Passage(0, 0)

Passages = tuple[dict[tuple[Side, str, str, str, int], Passage], dict[tuple[Side, str, str, int], Passage]]
"""By pair of places, and by place for all beyond together: see `Topology`."""


def _told(of_port: Passage, of_address: Passage) -> bool | None:
    if of_address.is_complete and of_address.total >= ENOUGH:
        return True
    if of_port.is_complete and of_port.total >= ENOUGH_OF_PORT:
        return True
    return None if of_address.is_complete or not of_address.total else False


@dataclasses.dataclass(slots=True)
class Topology:
    """What the healthy connections teach about the ways that the failed ones should have gone."""

    names: tuple[str, ...]
    running: Mapping[str, tuple[int, int] | None]
    """By vantage point: when its capture began and ended, aligned; None without capture."""
    windows: Mapping[str, Mapping[str, tuple[int, int]]]
    """The same for each file by itself, by its name: between rotated files some may be missing."""
    sees_syns: Mapping[str, frozenset[Side]]
    """By vantage point: whose SYNs and SYN-ACKs it saw of any connection; a capture's filter may leave out either."""
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
    seen_twice: frozenset[tuple[str, str]]
    """Vantage points and server addresses whose packets the capture there holds more than once: a host between the ends, as a rule."""
    tunnelled: frozenset[tuple[str, str]]
    """Vantage points and server addresses whose connections come there inside IPIP or GRE."""
    passages: Mapping[tuple[Side, str, str, str, int], Passage]
    """By sender, place, other place, server address and port as the first place saw them (port 0: any)."""
    group_passages: Mapping[tuple[Side, str, str, int], Passage]
    """By sender, place, server address and port: how many of the connections were seen at any place beyond."""
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

    def is_before(self, place: str, other: str) -> bool:
        """True where `place` lies nearer to the clients than `other` in most connections that both saw."""
        return self.before.get((place, other), 0) > self.before.get((other, place), 0)

    def passes(self, sender: Side, place: str, other: str, server_ip: str, server_port: int) -> bool | None:
        """Whether `sender`'s packets seen at `place` pass `other`, by healthy connections; None where too few of them tell."""
        exact = self.passages.get((sender, place, other, server_ip, server_port), NO_PASSAGE)
        return _told(exact, self.passages.get((sender, place, other, server_ip, 0), NO_PASSAGE))

    def some_pass(self, sender: Side, place: str, server_ip: str, server_port: int) -> bool | None:
        """The same for all places beyond taken together: backends behind one address, parallel routers."""
        exact = self.group_passages.get((sender, place, server_ip, server_port), NO_PASSAGE)
        return _told(exact, self.group_passages.get((sender, place, server_ip, 0), NO_PASSAGE))

    def was_running(self, place: str, aligned_ns: int) -> bool:
        """True where the capture of a place surely ran at a moment of the common clock: between packets of one of its files."""
        return any(begin_ns <= aligned_ns <= end_ns for begin_ns, end_ns in self.windows.get(place, {}).values())

    def all_ran(self, place: str, files: Iterable[str], begin_ns: int, end_ns: int) -> bool:
        """True where each of these files of a place surely captured all the time between two moments of the common clock."""
        windows = self.windows.get(place, {})
        return all(file in windows and windows[file][0] <= begin_ns and end_ns <= windows[file][1] for file in files)


def server_ttls(db: duckdb.DuckDBPyConnection, names: Sequence[str]) -> dict[tuple[str, str], frozenset[int]]:
    """The TTLs with which each server's packets arrive at each place, from connections whose handshake was answered and not reset."""
    rows = query(
        db,
        """
        SELECT vantage, server_ip, list(DISTINCT server_ttl_min) || list(DISTINCT server_ttl_max) FROM flow
        WHERE server_syn_acks > 0 AND server_resets = 0 AND server_ttl_max > 0
            -- What a host redirects to itself answers in the server's name, and with its own TTL.
            AND id NOT IN (SELECT x FROM pair WHERE basis = 'numbers of a redirect')
            AND id NOT IN (SELECT y FROM pair WHERE basis = 'numbers of a redirect')
        GROUP BY ALL ORDER BY ALL
        """,
    )
    return {(names[vantage], ip): frozenset(ttls) for vantage, ip, ttls in rows}


def passed_through(db: duckdb.DuckDBPyConnection, names: Sequence[str]) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """`Topology.seen_twice` and `tunnelled`, of answered connections: captured as they come in and leave, and carried by IPIP or GRE."""
    rows = query(
        db,
        """
        SELECT vantage, server_ip, bool_or(copies > 0), bool_or(tunnel BETWEEN 1 AND 4) -- rust/src/decode/packet.rs, Tunnel
        FROM flow WHERE server_packets > 0 AND (copies > 0 OR tunnel BETWEEN 1 AND 4) GROUP BY ALL ORDER BY ALL
        """,
    )
    twice = frozenset((names[vantage], ip) for vantage, ip, copied, _ in rows if copied)
    return twice, frozenset((names[vantage], ip) for vantage, ip, _, carried in rows if carried)


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
        grouped: dict[tuple[str, str, int], dict[str, int]] = {}
        siblings_sql = f"""
            WITH reach AS (
                SELECT px.vantage AS x, px.server_ip, {port} AS server_port, py.vantage AS y
                FROM position px JOIN position py USING (connection)
                JOIN before_count b ON b.x = px.vantage AND b.y = py.vantage
                LEFT JOIN before_count r ON r.x = py.vantage AND r.y = px.vantage
                WHERE px.vantage <> py.vantage AND b.n > coalesce(r.n, 0)
            )
            SELECT x, server_ip, server_port, y, count(*) AS seen
            FROM reach GROUP BY ALL ORDER BY ALL
        """
        for x, ip, server_port, y, seen in query(db, siblings_sql):
            grouped.setdefault((names[x], ip, server_port), {})[names[y]] = seen
        found.append({key: Siblings(at) for key, at in grouped.items()})
    by_ip = {(place, ip): siblings for (place, ip, _), siblings in found[1].items()}
    return found[0], by_ip, before


ANY_PORT = 0
"""Stands for all ports of a server's address together."""


def _sent_by(side: Side) -> str:
    """SQL: what each place saw of a healthy connection's packets from one end, and when that began."""
    return f"""
        SELECT '{side}' AS side, connection, vantage, any_value(server_ip) AS server_ip, any_value(server_port)::INTEGER AS server_port,
            min({side}_first_ns) - any_value(offset_ns) AS at_ns
        FROM flow JOIN member USING (id) JOIN healthy USING (connection) JOIN ran USING (vantage)
        WHERE {side}_packets > {side}_resets GROUP BY connection, vantage
    """


MATCHED = f"""
    CREATE OR REPLACE TEMP TABLE matched AS
    WITH healthy AS (
        SELECT DISTINCT connection FROM flow JOIN member USING (id)
        WHERE client_packets > client_syns + client_resets AND server_packets > server_resets
           OR client_packets > 3 AND client_syns <= 1 AND client_retransmissions < 3
           OR server_packets > 3 AND server_syn_acks <= 1 AND server_retransmissions < 3
    ),
    sent AS ({_sent_by("client")} UNION ALL {_sent_by("server")}),
    ordered AS (
        SELECT b.x, b.y FROM before_count b LEFT JOIN before_count r ON r.x = b.y AND r.y = b.x WHERE b.n > coalesce(r.n, 0)
    ),
    on_the_way AS (SELECT 'client' AS side, x, y FROM ordered UNION ALL SELECT 'server', y, x FROM ordered)
    SELECT here.side, here.connection, x, y, here.server_ip, here.server_port, sent.connection IS NOT NULL AS seen
    FROM sent here JOIN on_the_way ON on_the_way.side = here.side AND x = here.vantage
    JOIN ran there ON there.vantage = y AND here.at_ns BETWEEN there.begin_ns AND there.end_ns
    LEFT JOIN sent ON sent.side = here.side AND sent.connection = here.connection AND sent.vantage = y
    WHERE x <> y
"""
"""For each healthy connection and place that saw an end's packets: each further place on their way, and whether it saw them too."""


def learn_passages(
    db: duckdb.DuckDBPyConnection, names: Sequence[str], windows: Mapping[str, tuple[int, int] | None], offsets_ns: Mapping[str, int]
) -> Passages:
    """Which places the packets of healthy connections pass, by direction: `Topology.passages` and `group_passages`.

    A connection counts for a pair of places where it began while both captures ran (`windows`, aligned; `offsets_ns`, each clock minus
    the common one).
    """
    query(db, "CREATE OR REPLACE TABLE ran (vantage INTEGER, begin_ns BIGINT, end_ns BIGINT, offset_ns BIGINT)")
    for number, name in enumerate(names):
        window = windows.get(name)
        if window is not None:
            query(db, "INSERT INTO ran VALUES (?, ?, ?, ?)", (number, *window, offsets_ns.get(name, 0)))
    query(db, MATCHED)
    pairs: dict[tuple[Side, str, str, str, int], Passage] = {}
    groups: dict[tuple[Side, str, str, int], Passage] = {}
    of_pairs = f"""
        SELECT side, x, y, server_ip, coalesce(server_port, {ANY_PORT}), count(*), count(*) FILTER (seen) FROM matched
        GROUP BY GROUPING SETS ((side, x, y, server_ip, server_port), (side, x, y, server_ip))
    """
    for side, x, y, ip, server_port, total, seen in query(db, of_pairs):
        pairs[side, names[x], names[y], ip, server_port] = Passage(total, seen)
    of_groups = f"""
        SELECT side, x, server_ip, coalesce(server_port, {ANY_PORT}), count(*), count(*) FILTER (anywhere) FROM (
            SELECT side, x, server_ip, server_port, connection, bool_or(seen) AS anywhere FROM matched GROUP BY ALL
        ) GROUP BY GROUPING SETS ((side, x, server_ip, server_port), (side, x, server_ip))
    """
    for side, x, ip, server_port, total, seen in query(db, of_groups):
        groups[side, names[x], ip, server_port] = Passage(total, seen)
    return pairs, groups
