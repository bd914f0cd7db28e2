"""Joined flows go in; each vantage point's clock against a common one, with its uncertainty, comes out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Mapping, Sequence

import duckdb

from tcpwhy.tables.flows import query

MAX_WINDOWS = 16
"""Pieces of time in which a pair of clocks is compared, so that drift shows."""

WINDOW_NS = 30_000_000_000

CROSSED_NS = 100_000
"""Bounds may cross by so much before drift is assumed: timestamps are taken before or after a queue."""

LEAST_UNCERTAINTY_NS = 1_000
"""No statement is made about less than a microsecond: that is the resolution of most captures."""


@dataclasses.dataclass(frozen=True, slots=True)
class Offset:
    """How far one clock is ahead of another at a moment, and how far the truth may lie from that."""

    at_ns: int
    """By the clock that is compared."""
    offset_ns: int
    uncertainty_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class ClockFit:
    """A vantage point's clock against the common one; between the measured moments it runs straight."""

    relative_to: str
    offsets: tuple[Offset, ...]
    basis: str
    """What it rests on, in words."""

    def offset_ns(self, time_ns: int) -> int:
        """This clock minus the common one at a moment of this clock."""
        points = self.offsets
        if time_ns <= points[0].at_ns or len(points) == 1:
            return points[0].offset_ns
        for before, after in itertools.pairwise(points):
            if time_ns <= after.at_ns:
                share = (time_ns - before.at_ns) / max(1, after.at_ns - before.at_ns)
                return before.offset_ns + round(share * (after.offset_ns - before.offset_ns))
        return points[-1].offset_ns

    @property
    def uncertainty_ns(self) -> int:
        """The largest of the measured moments."""
        return max(point.uncertainty_ns for point in self.offsets)

    @property
    def mean_offset_ns(self) -> int:
        """The middle of the measured moments."""
        return self.offsets[len(self.offsets) // 2].offset_ns


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """What two clocks were found to differ by: `y` minus `x`."""

    x: int
    y: int
    offsets: tuple[Offset, ...]
    basis: str

    @property
    def uncertainty_ns(self) -> int:
        """The largest of the measured moments."""
        return max(point.uncertainty_ns for point in self.offsets)


def align_clocks(links: Sequence[Link], names: Sequence[str], given_s: Mapping[str, float]) -> dict[str, ClockFit]:
    """A fit for each vantage point that could be related to another one, or whose offset is given (seconds, from tcpwhy.toml).

    Of several links between two places the one with the least uncertainty counts.
    """
    best: dict[tuple[int, int], Link] = {}
    for link in links:
        key = (min(link.x, link.y), max(link.x, link.y))
        if key not in best or link.uncertainty_ns < best[key].uncertainty_ns:
            best[key] = link
    fits: dict[str, ClockFit] = {}
    for name, seconds in given_s.items():
        if name in names:
            fits[name] = ClockFit("true time", (Offset(0, round(seconds * 1e9), LEAST_UNCERTAINTY_NS),), "given in tcpwhy.toml")
    degree = [sum(number in key for key in best) for number in range(len(names))]
    # The place that shares connections with most others is the common clock, the first of them by name order of the case.
    for root in sorted(range(len(names)), key=lambda number: (-degree[number], number)):
        if degree[root] == 0:
            continue
        if names[root] not in fits:
            if any(names[other] in fits for key in best if root in key for other in key if other != root):
                continue
            fits[names[root]] = ClockFit(names[root], (Offset(0, 0, 0),), "the common clock")
        _spread(root, names, best, fits)
    return fits


def _spread(root: int, names: Sequence[str], links: Mapping[tuple[int, int], Link], fits: dict[str, ClockFit]) -> None:
    """Carries a clock over from `root` to all that are linked with it, the surest links first."""
    reached = {number for number, name in enumerate(names) if name in fits}
    while True:
        open_links = [link for link in links.values() if (link.x in reached) != (link.y in reached)]
        if not open_links:
            return
        link = min(open_links, key=lambda link: (link.uncertainty_ns, link.x, link.y))
        known, new, sign = (link.x, link.y, 1) if link.x in reached else (link.y, link.x, -1)
        base = fits[names[known]]
        offsets = tuple(
            Offset(
                point.at_ns,
                base.offset_ns(point.at_ns) + sign * point.offset_ns,
                base.uncertainty_ns + point.uncertainty_ns,
            )
            for point in link.offsets
        )
        fits[names[new]] = ClockFit(base.relative_to, offsets, link.basis)
        reached.add(new)


def handshake_links(db: duckdb.DuckDBPyConnection) -> list[Link]:
    """Bounds from SYNs and SYN-ACKs that were sent once and seen at both places.

    A SYN seen at x and at y bounds how far y is ahead from above (it took some time), its SYN-ACK seen at both from below, as NTP does
    (RFC 5905 section 8). The bounds are as narrow as the fastest packets allow, in windows of time.
    """
    rows = query(
        db,
        f"""
        WITH sample AS (
            SELECT fx.vantage AS x, fy.vantage AS y, fy.client_syn_ns AS at_ns,
                fy.client_syn_ns - fx.client_syn_ns AS forward,
                fy.server_syn_ns - fx.server_syn_ns AS back
            FROM pair JOIN flow fx ON fx.id = pair.x JOIN flow fy ON fy.id = pair.y
            WHERE fx.vantage < fy.vantage AND fx.client_syns = 1 AND fy.client_syns = 1
                AND fx.server_syn_acks = 1 AND fy.server_syn_acks = 1 AND fx.server_isn = fy.server_isn
        ),
        turned AS (
            -- The SYN reaches the place nearer to the server later, the SYN-ACK sooner: whichever way round the pair stands.
            SELECT x, y, at_ns, least(forward, back) AS low, greatest(forward, back) AS high FROM sample
            WHERE forward IS NOT NULL AND back IS NOT NULL
        ),
        placed AS (
            SELECT *, least({MAX_WINDOWS - 1}, (at_ns - min(at_ns) OVER (PARTITION BY x, y)) // greatest({WINDOW_NS},
                1 + (max(at_ns) OVER (PARTITION BY x, y) - min(at_ns) OVER (PARTITION BY x, y)) // {MAX_WINDOWS})) AS part
            FROM turned
        )
        SELECT x, y, part, min(at_ns) AS at_ns, max(low) AS low, min(high) AS high, count(*) AS samples
        FROM placed GROUP BY x, y, part ORDER BY x, y, part
        """,
    )
    pairs: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    for x, y, _, at_ns, low, high, samples in rows:
        pairs.setdefault((x, y), []).append((at_ns, low, high, samples))
    links = []
    for (x, y), parts in pairs.items():
        low, high = max(part[1] for part in parts), min(part[2] for part in parts)
        samples = sum(part[3] for part in parts)
        basis = f"{samples} handshake{'s' if samples > 1 else ''} seen at both places"
        if low <= high + CROSSED_NS:
            offsets: tuple[Offset, ...] = (_middle(parts[0][0], low, high),)
        else:
            offsets = tuple(_middle(at_ns, part_low, part_high) for at_ns, part_low, part_high, _ in parts)
        links.append(Link(x, y, offsets, basis))
    return links


def _middle(at_ns: int, low: int, high: int) -> Offset:
    return Offset(at_ns, (low + high) // 2, max(LEAST_UNCERTAINTY_NS, abs(high - low + 1) // 2))


def packet_links(sightings: Mapping[int, Mapping[Hashable, tuple[str, int]]]) -> list[Link]:
    """Bounds from packets of one connection seen at two places: by place, what identifies a packet, who sent it and when."""
    links = []
    for x, y in itertools.combinations(sorted(sightings), 2):
        both = sightings[x].keys() & sightings[y].keys()
        forward = [sightings[y][key][1] - sightings[x][key][1] for key in both if sightings[x][key][0] == "client"]
        back = [sightings[y][key][1] - sightings[x][key][1] for key in both if sightings[x][key][0] == "server"]
        if not forward or not back:
            continue
        # Whichever way round the places stand, the offset lies between the fastest packets of the two directions.
        if min(forward) >= max(back):
            low, high = max(back), min(forward)
        elif min(back) >= max(forward):
            low, high = max(forward), min(back)
        else:
            continue
        at_ns = min(sightings[y][key][1] for key in both)
        links.append(Link(x, y, (_middle(at_ns, low, high),), f"{len(both)} packets seen at both places"))
    return links


TIMESTAMP_TICK_NS = 1_000_000
"""Linux counts TSval in milliseconds (include/net/tcp.h TCP_TS_HZ)."""

TIMESTAMP_UNCERTAINTY_NS = 3_000_000
"""A tick at either end, and the difference between two ways through one data centre."""


def timestamp_link(x: int, y: int, at_x: Sequence[tuple[int, int]], at_y: Sequence[tuple[int, int]]) -> Link | None:
    """Relates two clocks by the sender's own: (time_ns, TSval) of one end's packets of one connection, some seen at x, others at y.

    None where the sender does not count milliseconds.
    """
    start = at_x[0][1]
    points = [(time_ns, ((value - start + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000) for time_ns, value in at_x]
    spread_ns, spread_ticks = points[-1][0] - points[0][0], points[-1][1] - points[0][1]
    if spread_ns > 200_000_000 and not 0.9 < spread_ticks * TIMESTAMP_TICK_NS / spread_ns < 1.1:
        return None
    base_x = min(time_ns - ticks * TIMESTAMP_TICK_NS for time_ns, ticks in points)
    base_y = min(time_ns - (((value - start + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000) * TIMESTAMP_TICK_NS for time_ns, value in at_y)
    offset = Offset(at_y[0][0], base_y - base_x, TIMESTAMP_UNCERTAINTY_NS)
    return Link(x, y, (offset,), "the sender's TCP timestamps, seen at one place and then at the other")
