"""The joined flows go in; when each address was last heard, and who still spoke to it afterwards, comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import duckdb

from tcpwhy.tables.flows import query


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """Connections whose one end still sent something to an address at a place, and got nothing from it."""

    established: int
    """Had been established before."""
    begun: int
    """Were begun in vain: SYNs."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.established + self.begun


class Presence:
    """Who was heard until when, by columns of all flows; times are of the common clock."""

    def __init__(self, db: duckdb.DuckDBPyConnection, names: Iterable[str], offsets_ns: Mapping[str, int]) -> None:
        """`names`: the vantage points by their numbers; `offsets_ns`: each clock minus the common one."""
        self._db = db
        self._names = tuple(names)
        self._number = {name: number for number, name in enumerate(self._names)}
        self._offsets_ns = offsets_ns
        self._heard: dict[str, dict[str, int]] = {}
        self._asked: dict[tuple[str, str, int], Asked] = {}
        self._lively: dict[str, int] | None = None
        self._is_indexed = False

    def heard(self, address: str) -> Mapping[str, int]:
        """By place that ever saw a packet from the address: when it saw the last one."""
        if address not in self._heard:
            self._index()
            rows = query(self._db, "SELECT vantage, heard_ns FROM presence WHERE ip = ?", [address])
            self._heard[address] = {self._names[vantage]: heard - self._offset_ns(vantage) for vantage, heard in rows}
        return self._heard[address]

    def asked(self, address: str, place: str, since_ns: int) -> Asked:
        """How many connections at a place sent something to the address after a moment since which it was silent there."""
        key = address, place, since_ns
        if key not in self._asked:
            number = self._number[place]
            at_ns = since_ns + self._offset_ns(number)
            sql = """
                SELECT count(*) FILTER (NOT begun), count(*) FILTER (begun) FROM (
                    SELECT server_packets = 0 AND client_syns > 0 AS begun
                    FROM flow WHERE vantage = $1 AND server_ip = $2 AND client_last_ns > $3
                    UNION ALL
                    SELECT client_packets = 0 AND server_syn_acks > 0 AS begun
                    FROM flow WHERE vantage = $1 AND client_ip = $2 AND server_last_ns > $3
                )
            """
            self._asked[key] = Asked(*query(self._db, sql, [number, address, at_ns])[0])
        return self._asked[key]

    def lively_ns(self, place: str) -> int | None:
        """Until when two ends spoke with each other at a place; None where they never did."""
        if self._lively is None:
            both = "client_packets > 0 AND server_packets > 0"
            rows = query(self._db, f"SELECT vantage, max(least(client_last_ns, server_last_ns)) FROM flow WHERE {both} GROUP BY 1")
            self._lively = {self._names[vantage]: last - self._offset_ns(vantage) for vantage, last in rows}
        return self._lively.get(place)

    def _offset_ns(self, vantage: int) -> int:
        return self._offsets_ns.get(self._names[vantage], 0)

    def _index(self) -> None:
        """Once for the case: many silent addresses may be asked for, and there may be millions of flows."""
        if self._is_indexed:
            return
        query(
            self._db,
            """
            CREATE OR REPLACE TABLE presence AS SELECT ip, vantage, max(last_ns) AS heard_ns FROM (
                SELECT client_ip AS ip, vantage, client_last_ns AS last_ns FROM flow WHERE client_packets > 0
                UNION ALL SELECT server_ip, vantage, server_last_ns FROM flow WHERE server_packets > 0
            ) GROUP BY ALL ORDER BY ALL
            """,
        )
        query(self._db, "CREATE INDEX presence_of ON presence (ip)")
        self._is_indexed = True
