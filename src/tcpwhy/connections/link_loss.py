"""The joined flows of all vantage points go in; the links between two complete captures that lose many packets come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import duckdb

from tcpwhy.connections.connection import SIDES, Connection
from tcpwhy.connections.losses import Crossing, crossings
from tcpwhy.connections.packet import RST, SYN, Side
from tcpwhy.connections.topology import Topology
from tcpwhy.tables.flows import query

LOSSY_RATE = 0.01
"""Part of its packets that a link loses from which it is a finding (docs/json.md) …"""

LOSSY_PACKETS = 500
"""… of at least so many."""

BY_CHANCE = 1e-4
"""What is less likely than this is not taken for chance."""

WORST_SHARE = 0.9
"""What a lossy link may lose for a while."""

DILUTED = 3
"""By so much a link may lose more than over the whole time, while it loses."""

EDGE_NS = 10_000_000
"""By so much a flow may begin before another capture did: packets are on their way, and clocks are known only so well."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """Packets that did not come to the other end of a link, out of all that entered it."""

    lost: int
    total: int

    @property
    def share(self) -> float:
        """0 … 1."""
        return self.lost / self.total if self.total else 0.0

    @property
    def is_lossy(self) -> bool:
        """At that rate somebody suffers."""
        return self.total >= LOSSY_PACKETS and self.share >= LOSSY_RATE

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.lost + other.lost, self.total + other.total)

    def __str__(self) -> str:
        return f"{self.lost} of {self.total} ({self.share:.1%})"


@dataclasses.dataclass(frozen=True, slots=True)
class LinkLoss:
    """Two neighbouring vantage points, and what all connections that both saw whole met between them."""

    near: str
    """Nearer to the clients."""
    far: str
    rates: Mapping[Side, Rate]
    """By who sent the packets."""
    connections: frozenset[int]
    """Numbers of those that seem to have lost packets there."""

    @property
    def is_lossy(self) -> bool:
        """One direction of it, or both together, lose too much."""
        return any(rate.is_lossy for rate in (*self.rates.values(), self.rates["client"] + self.rates["server"]))

    def crossed_by(self, crossing: Crossing) -> bool:
        """True where a crossing is one of this link, in either direction."""
        return {crossing.near, crossing.far} == {self.near, self.far}


def measure_links(db: duckdb.DuckDBPyConnection, topology: Topology) -> list[LinkLoss]:
    """All links between neighbouring vantage points with complete captures, measured by the columns of the flow tables alone.

    Payload bytes are the same however offload cuts them, and bare packets are never merged: their differences are what was lost. Only
    flows of which both places saw both directions count, from begin to end while both captured.
    """
    names = topology.names
    number = {name: at for at, name in enumerate(names)}
    pairs = [(number[x], number[y]) for x, y in _neighbours(topology)]
    if not pairs:
        return []
    _make_crossed(db, pairs, topology)
    links = []
    for x, y in pairs:
        rates: dict[Side, Rate] = {}
        numbers: set[int] = set()
        for side in SIDES:
            counted = f"coalesce(sum({side}_lost), 0)::BIGINT, coalesce(sum({side}_sent), 0)::BIGINT"
            [(lost, total)] = query(db, f"SELECT {counted} FROM crossed WHERE x = ? AND y = ? AND whole", (x, y))
            rates[side] = Rate(max(0, lost), total)
            rows = query(db, f"SELECT connection FROM crossed WHERE x = ? AND y = ? AND {side}_lost > 0", (x, y))
            numbers |= {row[0] for row in rows}
        links.append(LinkLoss(names[x], names[y], rates, frozenset(numbers)))
    query(db, "DROP TABLE crossed")
    return links


def _neighbours(topology: Topology) -> list[tuple[str, str]]:
    """Pairs of complete, aligned captures, the one nearer to the clients first, with no other between them."""
    usable = [name for name in topology.names if topology.aligned[name] and name not in topology.lossy and topology.running.get(name)]
    pairs = [(x, y) for x in usable for y in usable if topology.is_before(x, y)]
    return [(x, y) for x, y in pairs if not any((x, z) in pairs and (z, y) in pairs for z in usable)]


def _make_crossed(db: duckdb.DuckDBPyConnection, pairs: Iterable[tuple[int, int]], topology: Topology) -> None:
    """Makes the table `crossed`: for each connection and pair of places, packets sent and lost by each end."""
    query(db, "CREATE OR REPLACE TABLE neighbour (x INTEGER, y INTEGER)")
    for pair in pairs:
        query(db, "INSERT INTO neighbour VALUES (?, ?)", pair)
    payload = "greatest(536, least(coalesce(client_mss, 1460), coalesce(server_mss, 1460)) - 12)"
    columns = []
    for side in SIDES:
        columns += [
            f"max({side}_packets - {side}_data_packets) AS {side}_bare",
            f"max({side}_data_packets) AS {side}_data",
            f"max({side}_bytes) AS {side}_bytes",
            f"max({side}_payload_max) AS {side}_largest",
        ]
    # The sender's packets go from the client's side to the server's, or the other way round.
    counted = []
    for side, here, there in (("client", "x", "y"), ("server", "y", "x")):
        # A record that is no larger than a packet is one; what offload merged is as many packets as its bytes fill.
        counted.append(
            f"""{here}.{side}_bare + greatest({here}.{side}_data, ceil({here}.{side}_bytes / {here}.payload))::BIGINT AS {side}_sent,
                ({here}.{side}_bare::BIGINT - {there}.{side}_bare::BIGINT)
                + CASE WHEN greatest({here}.{side}_largest, {there}.{side}_largest) <= {here}.payload
                       THEN {here}.{side}_data::BIGINT - {there}.{side}_data::BIGINT
                       ELSE sign({here}.{side}_bytes::BIGINT - {there}.{side}_bytes::BIGINT)
                            * ceil(abs({here}.{side}_bytes::BIGINT - {there}.{side}_bytes::BIGINT) / {here}.payload) END::BIGINT
                AS {side}_lost"""
        )
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE crossed AS
        WITH own AS (
            SELECT connection, vantage, {", ".join(columns)}, any_value({payload}) AS payload,
                min(first_ns) - any_value(offset_ns) AS begin_at, max(last_ns) - any_value(offset_ns) AS end_at
            FROM flow JOIN member USING (id) JOIN ran USING (vantage)
            GROUP BY connection, vantage HAVING max(client_packets) > 0 AND max(server_packets) > 0
        )
        SELECT x.connection, neighbour.x, neighbour.y,
            least(x.begin_at, y.begin_at) >= greatest(rx.begin_ns, ry.begin_ns) - {EDGE_NS}
                AND greatest(x.end_at, y.end_at) <= least(rx.end_ns, ry.end_ns) + {EDGE_NS} AS whole,
            {", ".join(counted)}
        FROM neighbour JOIN own x ON x.vantage = neighbour.x JOIN own y ON y.vantage = neighbour.y AND y.connection = x.connection
        JOIN ran rx ON rx.vantage = neighbour.x JOIN ran ry ON ry.vantage = neighbour.y
        """,
    )


def verified(link: LinkLoss, connections: Iterable[Connection]) -> LinkLoss:
    """The link as the packets of the connections that seem to have lost some there tell it: `connections` are all that count.

    Left out is what only seemed lost, what an ICMP error answered, and what is lost by its size, if chance is not as likely. Whether it
    is lossy, neither attempts, handshakes, RSTs nor ends decide: what drops these, or a connection for good, need not drop anything else.
    """
    crossed = [(one, crossing) for one in connections for crossing in crossings(one) if link.crossed_by(crossing)]
    crossed = [(one, crossing) for one, crossing in crossed if is_proven_lost(one, crossing)]
    strict: dict[Side, int] = {"client": 0, "server": 0}
    for _, crossing in crossed:
        if not crossing.spares_small:
            strict[crossing.side] += sum(one.packets for one in crossing.missing if one.followed and not one.segment.flags & (SYN | RST))
    sure = _with_lost(link, strict)
    if not sure.is_lossy:
        return dataclasses.replace(sure, connections=frozenset())
    crossed = [(one, crossing) for one, crossing in crossed if not is_by_size(crossing, sure.rates[crossing.side])]
    lost: dict[Side, int] = {"client": 0, "server": 0}
    for _, crossing in crossed:
        lost[crossing.side] += crossing.lost
    return dataclasses.replace(_with_lost(link, lost), connections=frozenset(one.number for one, _ in crossed))


def _with_lost(link: LinkLoss, lost: Mapping[Side, int]) -> LinkLoss:
    rates = {side: Rate(min(lost[side], rate.total), rate.total) for side, rate in link.rates.items()}
    return dataclasses.replace(link, rates=rates)


def is_proven_lost(connection: Connection, crossing: Crossing) -> bool:
    """True where packets of an established connection are surely lost there, and nobody says that they are too big."""
    if not crossing.missing or crossing.doubt is not None or not connection.established:
        return False
    return not any(error.is_too_big for error in connection.icmp)


def is_by_size(crossing: Crossing, rate: Rate) -> bool:
    """True where only the larger packets are lost, and a link with this rate would hardly ever lose just these by chance.

    A link that loses many at some time loses fewer over the whole time.
    """
    share = WORST_SHARE if rate.is_lossy else min(WORST_SHARE, DILUTED * rate.share)
    return crossing.spares_small and share ** len(crossing.missing) < BY_CHANCE


def without_sizes(link: LinkLoss, connections: Iterable[Connection]) -> LinkLoss:
    """A link that is not lossy, less what these connections may have lost there by its size."""
    by_size: dict[Side, int] = {"client": 0, "server": 0}
    for connection in connections:
        for crossing in crossings(connection):
            if link.crossed_by(crossing) and crossing.spares_small:
                by_size[crossing.side] += crossing.lost
    return _with_lost(link, {side: max(0, rate.lost - by_size[side]) for side, rate in link.rates.items()})
