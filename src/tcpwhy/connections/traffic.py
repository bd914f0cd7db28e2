"""The joined flows and the measured links go in; what else passed between two places while a connection lost packets comes out."""

from __future__ import annotations

import bisect
import functools
import itertools
from array import array
from collections.abc import Iterable, Mapping

import duckdb

from tcpwhy.connections.connection import Connection
from tcpwhy.connections.kinds import Failure, Kind
from tcpwhy.connections.link_loss import LinkLoss, Rate, is_by_size, is_proven_lost
from tcpwhy.connections.losses import Crossing, crossings
from tcpwhy.connections.packet import RST, SYN, Side
from tcpwhy.connections.presence import Presence
from tcpwhy.connections.silences import Deaths, Survived
from tcpwhy.tables.flows import query

MOMENTS = {
    "any": ("{side}_first_ns", "{side}_last_ns"),
    "syn": ("{side}_syn_ns", "{side}_syn_last_ns"),
}
"""Columns of the flow table that tell moments in which an end's packets passed a place."""

MOST_ASKED = 2_000
"""Of so many failed connections at most is asked how a link treated them."""


class Traffic:
    """What all connections of the case met, for causes that compare one with the others."""

    def __init__(
        self, db: duckdb.DuckDBPyConnection, names: Iterable[str], offsets_ns: Mapping[str, int], links: Iterable[LinkLoss]
    ) -> None:
        """`names`: the vantage points by their numbers; `offsets_ns`: each clock minus the common one."""
        names = tuple(names)
        self.links = tuple(links)
        self.presence = Presence(db, names, offsets_ns)
        self.survived = Survived(db, names)
        self.failed: tuple[Connection, ...] = ()
        """All connections of the case that failed, as soon as that is known."""
        self._db = db
        self._number = {name: number for number, name in enumerate(names)}
        self._offsets_ns = offsets_ns
        self._through: dict[tuple[str, str, str, str], int] = {}
        self._random: dict[tuple[Side, str, str], bool] = {}
        self._moments: dict[tuple[str, Side, str], array[int]] = {}

    @functools.cached_property
    def deaths(self) -> Deaths:
        """How long those that failed had been silent before; to be asked for when all that failed are known."""
        return Deaths(self.failed)

    def link_of(self, crossing: Crossing) -> LinkLoss | None:
        """The measured link of a crossing; None where the captures at its ends do not allow to measure it."""
        return next((link for link in self.links if link.crossed_by(crossing)), None)

    def rate_of(self, crossing: Crossing) -> Rate:
        """What the link loses of all connections' packets in the crossing's direction; nothing of nothing where it is not measured."""
        link = self.link_of(crossing)
        return Rate(0, 0) if link is None else link.rates[crossing.side]

    def is_random(self, crossing: Crossing) -> bool:
        """True where the link's losses in that direction do not pick connections: one lost packets there of which later ones passed.

        What drops all packets of some connections, as a device does that does not know them, loses none by chance, however many.
        """
        key = crossing.side, crossing.near, crossing.far
        if key not in self._random:
            self._random[key] = any(
                missing.followed and not missing.segment.flags & (SYN | RST)
                for connection in itertools.islice(self.failed, MOST_ASKED)
                for one in crossings(connection)
                if (one.side, one.near, one.far) == key
                for missing in one.missing
            )
        return self._random[key]

    def others(self, connection: Connection, place: str, side: Side, begin_ns: int, end_ns: int, *, what: str = "any") -> int:
        """How often packets that this end of other connections sent are seen at a place between two moments: begins and ends of flows.

        `what`: `any` packets, or `syn` for SYNs and SYN-ACKs only.
        """
        moments = self._moments_of(place, side, what)
        own = [one.aligned_ns for one in connection.views[place].sent_by(side) if what == "any" or one.packet.flags & SYN]
        own_ends = (own[0], own[-1]) if own else ()
        count = bisect.bisect_left(moments, end_ns) - bisect.bisect_right(moments, begin_ns)
        return max(0, count - sum(begin_ns < moment < end_ns for moment in own_ends))

    def came_through(self, connection: Connection, near: str, far: str) -> int:
        """How many answered connections of the same client address to the same server address both places saw."""
        view = connection.views[near]
        key = near, far, view.client.ip, view.server.ip
        if key not in self._through:
            sql = """
                SELECT count(DISTINCT mx.connection) FROM flow x JOIN member mx ON mx.id = x.id
                JOIN member my ON my.connection = mx.connection JOIN flow y ON y.id = my.id AND y.vantage = $2
                WHERE x.vantage = $1 AND x.client_ip = $3 AND x.server_ip = $4 AND y.server_packets > y.server_resets
            """
            self._through[key] = query(self._db, sql, [self._number[near], self._number[far], *key[2:]])[0][0]
        return self._through[key]

    def _moments_of(self, place: str, side: Side, what: str) -> array[int]:
        key = place, side, what
        if key not in self._moments:
            columns = [name.format(side=side) for name in MOMENTS[what]]
            union = " UNION ALL ".join(f"SELECT {name} AS at_ns FROM flow WHERE vantage = ? AND {name} IS NOT NULL" for name in columns)
            number = self._number[place]
            rows = query(self._db, f"SELECT at_ns FROM ({union}) ORDER BY at_ns", [number] * len(columns))
            offset_ns = self._offsets_ns.get(place, 0)
            self._moments[key] = array("q", (row[0] - offset_ns for row in rows))
        return self._moments[key]

    def lossy_crossings(self, connection: Connection) -> list[Crossing]:
        """Where a connection lost packets on a link that loses many, by whatever their sizes."""
        found = []
        for crossing in crossings(connection):
            link = self.link_of(crossing)
            if link is None or not link.is_lossy or not is_proven_lost(connection, crossing):
                continue
            if not is_by_size(crossing, link.rates[crossing.side]):
                found.append(crossing)
        return found

    def lossy(self, connection: Connection) -> Failure | None:
        """The failure of a connection that lost packets on a link that loses many, although all was made good (docs/json.md)."""
        crossed = self.lossy_crossings(connection)
        if not crossed:
            return None
        missing = sorted((one.segment for crossing in crossed for one in crossing.missing), key=lambda segment: segment.aligned_ns)
        lost = sum(crossing.lost for crossing in crossed)
        near, far = crossed[0].between
        symptom = f"{lost} of its packets were lost between {near} and {far}, where many are"
        return Failure(Kind.LOSSY, symptom, tuple(missing), missing[-1].aligned_ns)
