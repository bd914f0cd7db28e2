"""Joined flows go in; which connection a balancer in full NAT, or a NAT node, carried on as which other one comes out, as a table.

A balancer in full NAT (DPVS src/ipvs/ip_vs_proto_tcp.c tcp_fnat_in_handler(), Alibaba LVS, Jupiter) gives a connection other addresses
at both ends, shifts the client's numbers by a constant and leaves the server's; with a PROXY header the shift grows by its length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import duckdb

from tcpwhy.connections.assembly import Assembly
from tcpwhy.connections.clocks import align_clocks
from tcpwhy.connections.meeting import SAME_PLACE_NS, make_ends, meet_by_numbers, meet_by_ranges, weigh
from tcpwhy.connections.shift import RST, Piece, Shift, Spoken, compare
from tcpwhy.tables.flows import query

PAIRS_READ = 100_000
"""Pairs of flows whose packets are read, at most (0.3 ms each); half as many again may come from ranges."""

PACKETS_READ = 5_000_000
"""Packets read for them, at most."""

PROVEN_READ = 2_000
"""Pairs that columns prove already are read too where they are at most so many."""

FRAMES_PER_FLOW = 40_000
"""Packets read of one flow: the first and the last half. Windows may overlap anywhere in it."""

PACKETS_AT_ONCE = 80_000
"""Packets held at once, about 1 kB each."""

CHANCE_MAX = 1e-3
"""Pairs that chance alone may make among the flows of two places before numbers without times no longer name anybody."""

NUMBERS_A_PAIR = 16
"""Comparisons of one number with another that a pair of flows offers (meeting.meet_by_numbers)."""

AGREEING = 3
"""Pairs that must agree on how far two clocks are apart, and times as many as agree on any other distance."""

DELAY_MAX_NS = 5_000_000_000
"""A balancer is not taken to hold packets back for longer."""

CLOCKS_HOLD_NS = 600_000_000_000
"""A clock that drifts by 100 ppm, as cheap ones do, is 60 ms off after so long."""

LAG_CONTRADICTS_NS = 1_000_000
"""By so much a packet must pass the wrong side first to speak against timestamps, TOA or a PROXY header."""

NO_CLOCK = "the clocks of the two places cannot be compared, and numbers alone may meet by chance"
NO_ORDER = "which of the two is nearer to the server cannot be told"
SEVERAL_BEFORE = "several connections fit before the balancer"
SEVERAL_BEHIND = "several connections fit behind the balancer"


@dataclasses.dataclass(frozen=True, slots=True)
class BehindCounts:
    """What `find_behind` did, and what it left."""

    pairs_compared: int
    """Pairs of flows that columns brought up."""
    pairs_read: int
    """Of these, pairs whose packets were read."""
    pairs_withheld: int
    """Pairs that columns leave open and that were not read, for the bound was reached."""
    flows_crowded: int
    """Numbers, anchors and ranges that so many flows share that they were not followed."""


def find_behind(assembly: Assembly) -> BehindCounts:
    """Makes the table `behind` (x, y, basis, anchors, delta, doubt) in the database of `assembly`, in place of an older one.

    `x` is a flow behind the balancer (nearer to the server), `y` the flow before it that was compared; every flow of x's connection has
    a row, further flows of y's connection are in `member`. `delta` is x's client numbers minus y's, modulo 2**32, 0 at plain NAT; it may
    be null. `anchors` counts what is equal in both. `doubt` is empty, or says why the pair names nobody by itself: then it is a candidate.
    Through two balancers the rows form a chain. Raises EvidenceError where a capture was changed since it was indexed.

    A pair needs the server's bytes or ISN at equal numbers, one shift that the client's numbers and bytes bear out, and times that fit:
    by one clock where one place saw both, by the clocks as they were aligned, or as the other pairs of the two places agree on them.
    Without any of these only a few flows are joined, so few that chance does not make a pair.
    """
    db = assembly.db
    query(db, "CREATE OR REPLACE TABLE behind (x BIGINT, y BIGINT, basis TEXT, anchors INTEGER, delta BIGINT, doubt TEXT)")
    query(
        db,
        """
        CREATE OR REPLACE TEMP TABLE fit (p BIGINT, q BIGINT, vp INTEGER, vq INTEGER, cp BIGINT, cq BIGINT, at_ns BIGINT,
            anchors INTEGER, delta BIGINT, inserted BIGINT, offset_ns BIGINT, lag_ns BIGINT, certain BOOLEAN)
        """,
    )
    make_ends(db)
    _know_clocks(assembly)
    crowds = meet_by_numbers(db)
    weigh(db)
    budget = _Budget(PAIRS_READ, PACKETS_READ)
    compared = query(db, "SELECT count(*) FROM weighed")[0][0]
    _read_pairs(assembly, budget)
    query(
        db,
        """
        INSERT INTO fit SELECT p, q, vp, vq, cp, cq, at_ns, anchors + 1, delta, inserted, offset_ns, lag_ns, false
        FROM weighed WHERE proven AND NOT was_read
        """,
    )
    withheld = query(db, "SELECT count(*) FROM weighed WHERE NOT proven AND NOT was_read")[0][0]
    _decide(db)
    crowds += meet_by_ranges(db)
    weigh(db)
    compared += query(db, "SELECT count(*) FROM weighed")[0][0]
    budget.pairs = max(budget.pairs, PAIRS_READ // 2)
    budget.packets = max(budget.packets, PACKETS_READ // 2)
    read = budget.read
    _read_pairs(assembly, budget)
    withheld += query(db, "SELECT count(*) FROM weighed WHERE NOT was_read")[0][0]
    if budget.read > read:
        _decide(db)
    for table in ("ends", "meeting", "weighed", "fit", "clock"):
        query(db, f"DROP TABLE {table}")
    return BehindCounts(compared, budget.read, withheld, crowds)


@dataclasses.dataclass(slots=True)
class _Budget:
    """How many pairs and packets may still be read, and how many pairs were."""

    pairs: int
    packets: int
    read: int = 0


def _know_clocks(assembly: Assembly) -> None:
    """Makes the table `clock` (vp, vq, offset_ns, slack_ns): what is known beforehand of one clock minus another."""
    query(assembly.db, "CREATE OR REPLACE TEMP TABLE clock (vp INTEGER, vq INTEGER, offset_ns BIGINT, slack_ns BIGINT)")
    fits = align_clocks(assembly.links, assembly.names, {})
    for vp, name in enumerate(assembly.names):
        query(assembly.db, "INSERT INTO clock VALUES (?, ?, 0, 0)", (vp, vp))
        for vq, other in enumerate(assembly.names):
            mine, its = fits.get(name), fits.get(other)
            if vp < vq and mine is not None and its is not None and mine.relative_to == its.relative_to:
                values = [point.offset_ns for point in mine.offsets] + [point.offset_ns for point in its.offsets]
                slack = mine.uncertainty_ns + its.uncertainty_ns + sum(abs(value - values[0]) for value in values if len(values) > 2)
                offset = mine.mean_offset_ns - its.mean_offset_ns
                query(assembly.db, "INSERT INTO clock VALUES (?, ?, ?, ?)", (vp, vq, offset, slack))


def _read_pairs(assembly: Assembly, budget: _Budget) -> None:
    """Compares the packets of `weighed` pairs into `fit`, those first that columns leave open; the column `was_read` says which."""
    db = assembly.db
    query(db, "ALTER TABLE weighed ADD COLUMN was_read BOOLEAN DEFAULT false")
    pairs = query(
        db,
        f"""
        WITH queue AS (
            SELECT p, q, packets, row_number() OVER best AS place, sum(least(packets, {2 * FRAMES_PER_FLOW})) OVER best AS so_far
            FROM weighed WHERE NOT proven OR (SELECT count(*) FROM weighed WHERE proven) <= {PROVEN_READ}
            WINDOW best AS (ORDER BY proven, numbers + anchors DESC, p, q)
        )
        SELECT p, q, packets FROM queue WHERE so_far <= ? AND place <= ? ORDER BY p, q
        """,
        (budget.packets, budget.pairs),
    )
    if not pairs:
        return
    query(db, "CREATE OR REPLACE TEMP TABLE reading (p BIGINT, q BIGINT)")
    rows: list[tuple[int | None, ...]] = []
    for batch in _batches([(p, q, min(packets, 2 * FRAMES_PER_FLOW)) for p, q, packets in pairs]):
        spoken = _fetch(assembly, sorted({flow for p, q, _ in batch for flow in (p, q)}))
        for p, q, packets in batch:
            budget.pairs -= 1
            budget.packets -= packets
            budget.read += 1
            shift = compare(spoken[p], spoken[q])
            if isinstance(shift, Shift) and shift.anchors >= 1:
                rows.append((p, q, shift.anchors, shift.delta, shift.inserted, shift.offset_ns, shift.lag_ns, _is_certain(shift)))
    _insert(db, "reading", [(p, q) for p, q, _ in pairs])
    query(db, "UPDATE weighed SET was_read = true FROM reading WHERE weighed.p = reading.p AND weighed.q = reading.q")
    query(
        db,
        """CREATE OR REPLACE TEMP TABLE found (p BIGINT, q BIGINT, anchors INTEGER, delta BIGINT, inserted BIGINT, offset_ns BIGINT,
            lag_ns BIGINT, certain BOOLEAN)""",
    )
    _insert(db, "found", rows)
    query(
        db,
        """INSERT INTO fit SELECT p, q, vp, vq, cp, cq, at_ns, f.anchors, f.delta, f.inserted, f.offset_ns, f.lag_ns, f.certain
           FROM found f JOIN weighed USING (p, q)""",
    )
    query(db, "DROP TABLE found")
    query(db, "DROP TABLE reading")


def _is_certain(shift: Shift) -> bool:
    """True where the bytes of both ends are equal at their numbers, or handshake and acknowledgments: no clock is needed among few."""
    return shift.server_anchors > 0 and (shift.client_anchors > 0 or shift.acknowledgments > 1)


def _batches(pairs: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    batch: list[tuple[int, int, int]] = []
    held = 0
    for pair in pairs:
        if batch and held + pair[2] > PACKETS_AT_ONCE:
            yield batch
            batch, held = [], 0
        batch.append(pair)
        held += pair[2]
    if batch:
        yield batch


def _insert(db: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[int | None, ...]]) -> None:
    """Adds rows of numbers; as lists, for a statement of many values is slow to read."""
    for start in range(0, len(rows), 10_000):
        columns = list(zip(*rows[start : start + 10_000], strict=True))
        query(db, f"INSERT INTO {table} SELECT {', '.join('unnest(?::BIGINT[])' for _ in columns)}", [list(column) for column in columns])


def _fetch(assembly: Assembly, flows: list[int]) -> dict[int, Spoken]:
    """What the ends of these flows said."""
    db = assembly.db
    spoken = {flow: Spoken() for flow in flows}
    listed = ", ".join(map(str, flows))
    found = query(db, f"SELECT id, vantage, client_ip, client_port, chains FROM flow WHERE id IN ({listed}) ORDER BY id")
    for vantage in sorted({row[1] for row in found}):
        own = [row for row in found if row[1] == vantage]
        table, _ = assembly.packets(vantage, [row[4] for row in own], FRAMES_PER_FLOW)
        db.register("behind_packets", table)
        rows = query(
            db,
            f"""SELECT flow, source, source_port, time_ns, flags, seq, ack, length, payload FROM behind_packets
                WHERE kind = 0 AND copy_of IS NULL AND flags & {RST} = 0""",
        )
        db.unregister("behind_packets")
        for number, source, port, time_ns, flags, seq, ack, length, payload in rows:
            id_, _, client_ip, client_port, _ = own[number]
            half = spoken[id_].client if (source, port) == (client_ip, client_port) else spoken[id_].server
            half.append(Piece(time_ns, flags, seq, ack, length, payload))
    return spoken


def _agree_on_clocks(db: duckdb.DuckDBPyConnection) -> None:
    """Makes the table `usual` (vp, vq, part, offset_ns): by how much most pairs of two places say that one clock is ahead.

    Pairs that chance made say anything; the true ones say the same. `part` is a piece of time, for clocks drift, or null for all of it.
    """
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE usual AS
        WITH binned AS (
            SELECT vp, vq, at_ns // {CLOCKS_HOLD_NS} AS part, offset_ns, offset_ns // {SAME_PLACE_NS} AS bin
            FROM fit WHERE vp <> vq AND offset_ns IS NOT NULL
        ),
        both_ways AS (FROM binned UNION ALL SELECT vp, vq, NULL AS part, offset_ns, bin FROM binned),
        counted AS (SELECT vp, vq, part, bin, count(*) AS pairs FROM both_ways GROUP BY ALL),
        wide AS (
            SELECT vp, vq, part, bin, sum(pairs) AS pairs
            FROM (SELECT vp, vq, part, unnest([bin - 1, bin, bin + 1]) AS bin, pairs FROM counted) GROUP BY vp, vq, part, bin
        ),
        peak AS (SELECT vp, vq, part, arg_max(bin, (pairs, -bin)) AS bin, max(pairs) AS pairs FROM wide GROUP BY ALL),
        rival AS (
            SELECT p.vp, p.vq, p.part, p.bin, p.pairs, max(w.pairs) FILTER (abs(w.bin - p.bin) > 2) AS others
            FROM peak p JOIN wide w ON w.vp = p.vp AND w.vq = p.vq AND w.part IS NOT DISTINCT FROM p.part GROUP BY ALL
        )
        SELECT r.vp, r.vq, r.part, median(b.offset_ns)::BIGINT AS offset_ns
        FROM rival r JOIN both_ways b ON b.vp = r.vp AND b.vq = r.vq AND b.part IS NOT DISTINCT FROM r.part AND abs(b.bin - r.bin) <= 1
        WHERE r.pairs >= {AGREEING} AND r.pairs >= {AGREEING} * coalesce(r.others, 0)
        GROUP BY ALL
        """,
    )


def _decide(db: duckdb.DuckDBPyConnection) -> None:
    """Fills `behind` anew from `fit`: times must fit, the order be told, and one name be left."""
    _agree_on_clocks(db)
    query(
        db,
        f"""
        CREATE OR REPLACE TEMP TABLE held AS
        WITH timed AS (
            -- A balancer that holds packets of one direction back moves the middle by half of what it delays.
            SELECT f.*, abs(f.offset_ns - coalesce(c.offset_ns, near.offset_ns, far.offset_ns))
                <= {SAME_PLACE_NS} + coalesce(c.slack_ns, 0) + least(abs(coalesce(lag_ns, 0)) // 2, {DELAY_MAX_NS}) AS agrees
            FROM fit f LEFT JOIN clock c ON c.vp = f.vp AND c.vq = f.vq
            LEFT JOIN usual near ON near.vp = f.vp AND near.vq = f.vq AND near.part = f.at_ns // {CLOCKS_HOLD_NS}
            LEFT JOIN usual far ON far.vp = f.vp AND far.vq = f.vq AND far.part IS NULL
        ),
        -- Where one flow fits several and no clock tells them apart, numbers meet by more than chance.
        alike AS (
            SELECT DISTINCT vp, vq FROM (
                SELECT vp, vq FROM timed WHERE agrees IS NULL GROUP BY vp, vq, cp HAVING count(DISTINCT cq) > 1
                UNION ALL SELECT vp, vq FROM timed WHERE agrees IS NULL GROUP BY vp, vq, cq HAVING count(DISTINCT cp) > 1)
        ),
        many AS (SELECT vantage, count(*) AS flows FROM ends GROUP BY 1),
        ordered AS (
            SELECT timed.*, coalesce(agrees, false)
                    OR certain AND fp.flows::DOUBLE * fq.flows * {NUMBERS_A_PAIR} / 4294967296 <= {CHANCE_MAX}
                        AND (timed.vp, timed.vq) NOT IN (SELECT (vp, vq) FROM alike) AS sure,
                CASE WHEN inserted <> 0 THEN inserted > 0 WHEN p.stamped <> q.stamped THEN q.stamped WHEN p.toa <> q.toa THEN p.toa
                     WHEN lag_ns <> 0 THEN lag_ns > 0 END AS told, coalesce(told, true) AS p_is_behind
            FROM timed JOIN many fp ON fp.vantage = vp JOIN many fq ON fq.vantage = vq
            JOIN ends p ON p.id = timed.p JOIN ends q ON q.id = timed.q
            WHERE coalesce(agrees, true) AND anchors + coalesce(agrees, false)::INT >= 2
                -- Full NAT changes both ends; what changes one end only leaves the numbers.
                AND (delta = 0 OR (p.client_ip, p.client_port) <> (q.client_ip, q.client_port)
                                  AND (p.server_ip, p.server_port) <> (q.server_ip, q.server_port))
        )
        SELECT CASE WHEN p_is_behind THEN p ELSE q END AS x, CASE WHEN p_is_behind THEN q ELSE p END AS y,
            CASE WHEN p_is_behind THEN cp ELSE cq END AS cx, CASE WHEN p_is_behind THEN cq ELSE cp END AS cy,
            anchors, CASE WHEN p_is_behind THEN delta ELSE (4294967296 - delta) % 4294967296 END AS delta,
            abs(inserted) AS inserted, coalesce(agrees, false) AS agrees,
            CASE WHEN NOT sure THEN '{NO_CLOCK}'
                 WHEN told IS NULL OR CASE WHEN p_is_behind THEN -lag_ns ELSE lag_ns END > {LAG_CONTRADICTS_NS} THEN '{NO_ORDER}'
                 ELSE '' END AS doubt
        FROM ordered
        """,
    )
    query(
        db,
        """
        CREATE OR REPLACE TEMP TABLE edge AS
        SELECT cx, cy, arg_min(held, (doubt <> '', NOT agrees, -anchors, x, y)) AS best FROM held GROUP BY cx, cy
        """,
    )
    # What reaches the server by way of another connection is told by that one.
    query(
        db,
        """
        CREATE OR REPLACE TEMP TABLE direct AS
        SELECT * FROM edge e WHERE NOT EXISTS (
            FROM edge first JOIN edge second ON second.cx = first.cy
            WHERE first.cx = e.cx AND second.cy = e.cy AND first.best.doubt = '' AND second.best.doubt = '')
        """,
    )
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE behind AS
        WITH named AS (
            SELECT d.cx, d.cy, d.best, (x.client_ip, x.client_port, x.server_ip, x.server_port) AS tuple_x,
                (y.client_ip, y.client_port) AS name_y
            FROM direct d JOIN ends x ON x.id = d.best.x JOIN ends y ON y.id = d.best.y
        ),
        before AS (SELECT cx FROM named WHERE best.doubt = '' GROUP BY cx HAVING count(DISTINCT name_y) > 1),
        after AS (SELECT cy FROM named WHERE best.doubt = '' GROUP BY cy HAVING count(DISTINCT tuple_x) > 1),
        mutual AS (SELECT a.cx, a.cy FROM named a JOIN named b ON a.cx = b.cy AND a.cy = b.cx)
        SELECT m.id AS x, best.y AS y,
            CASE WHEN best.agrees THEN 'numbers, payload and times' ELSE 'numbers and payload' END
                || CASE WHEN best.inserted > 0 THEN ', with ' || best.inserted || ' bytes inserted' ELSE '' END AS basis,
            best.anchors::INTEGER AS anchors, best.delta AS delta,
            CASE WHEN best.doubt <> '' THEN best.doubt WHEN (cx, cy) IN (SELECT (cx, cy) FROM mutual) THEN '{NO_ORDER}'
                 WHEN cx IN (FROM before) THEN '{SEVERAL_BEFORE}' WHEN cy IN (FROM after) THEN '{SEVERAL_BEHIND}' ELSE '' END AS doubt
        FROM named JOIN member m ON m.connection = cx ORDER BY ALL
        """,
    )
    for table in ("usual", "held", "edge", "direct"):
        query(db, f"DROP TABLE {table}")
