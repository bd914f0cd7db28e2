"""A case and what is asked of its clients go in; the table of its clients comes out."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tcpwhy.clients.clients import CLIENT_COLUMNS, Clients, table_names
from tcpwhy.clients.headers import plain_address
from tcpwhy.clients.hosts import Hosts
from tcpwhy.clients.lookup import TranslationTable
from tcpwhy.clients.nodes import Nodes
from tcpwhy.clients.resolving import Resolver
from tcpwhy.clients.row import Translation
from tcpwhy.clients.story import End
from tcpwhy.clients.tables import ENDS, Narrowed, choose_roots, draw_edges, follow_edges, load_ends, seat_flows
from tcpwhy.clients.translations import translations
from tcpwhy.connections.behind import find_behind
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query
from tcpwhy.tables.revealed import load_revealed

if TYPE_CHECKING:
    import duckdb

    from tcpwhy.case import Case
    from tcpwhy.connections.assembly import Assembly

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
"""A header's name (RFC 9110 section 5.6.2 token)."""

MOST_HEADERS = 64
"""Names of headers that one question may have."""

_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9}


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of a case's clients; the fields are the arguments of `Case.clients()`."""

    headers: tuple[str, ...] = ()
    vantage: str | None = None
    trusted_hops: int | None = None
    old: str | None = None
    filter: str | None = None


def parse_header_name(text: str) -> str:
    """A header's name as it is; EvidenceError where it is none."""
    if not _NAME.fullmatch(text):
        raise EvidenceError("--header", f"read `{text}`, expected a header's name such as X-Team")
    return text


def parse_age(text: str) -> int:
    """`1h`, `90s`, `1.5d` in nanoseconds; EvidenceError where it is none."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)([smhd])", text, re.ASCII)
    if found is None:
        raise EvidenceError("--old", f"read `{text}`, expected a duration such as 30m, 1h or 2d")
    return round(float(found[1]) * _UNITS_NS[found[2]])


def make_clients(case: Case, question: Question, number: int) -> Clients:
    """The table of a case's clients; `number` makes its tables' names its own. Raises EvidenceError as `Case.clients()` says."""
    headers = tuple(dict.fromkeys(parse_header_name(name) for name in question.headers))
    if len(headers) > MOST_HEADERS:
        raise EvidenceError("--header", f"read {len(headers)} names, expected at most {MOST_HEADERS}")
    old_ns = None if question.old is None else parse_age(question.old)
    if question.trusted_hops is not None and question.trusted_hops < 0:
        raise EvidenceError("--trusted-hops", f"read {question.trusted_hops}, expected 0 or more")
    assembly = case.assembly()
    if question.vantage is not None and question.vantage not in assembly.names:
        there = ", ".join(assembly.names)
        raise EvidenceError("--vantage", f"there is no vantage point `{question.vantage}` with captures", f"there are: {there}")
    vantage = None if question.vantage is None else assembly.names.index(question.vantage)
    db = assembly.db
    assembly.connections([])  # aligns the clocks
    load_revealed(db, case.vantage_indexes(), sorted({name.lower() for name in headers}), case.progress)
    counts = find_behind(assembly)
    with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder:
        ends, answers = Path(folder) / "translations.jsonl", Path(folder) / "answers.jsonl"
        table = TranslationTable(_written(translations(case), ends), _aligner(case, assembly))
        load_ends(db, str(ends))
        offsets = {at: fit.mean_offset_ns for at, name in enumerate(assembly.names) if (fit := assembly.clocks.get(name)) is not None}
        own = {at: assembly.topology.addresses.get(name, frozenset()) for at, name in enumerate(assembly.names)}
        seat_flows(db, offsets, own)
        draw_edges(db)
        choose_roots(db, Narrowed(vantage, old_ns, question.filter))
        follow_edges(db)
        resolver = Resolver(_hosts(case, assembly, table), table, question.trusted_hops)
        _write_answers(Nodes(db, assembly.names, assembly.file_names), resolver, answers)
        _load_rows(db, number, answers, headers, assembly.names)
    notes = []
    if counts.pairs_withheld:
        notes.append(f"{counts.pairs_withheld} pairs of a balancer's two sides may belong together and could not be told apart")
    return Clients(db, number, headers, [*notes, *_left_out(db, table_names(number)[1])])


def _left_out(db: duckdb.DuckDBPyConnection, values: str) -> list[str]:
    """What of the listed connections' requests was not kept."""
    cut = query(db, f"SELECT count(*) FROM {values} WHERE is_cut")[0][0]
    headers, claims, heads = query(
        db,
        """SELECT coalesce(sum(headers_lost), 0)::BIGINT, coalesce(sum(claims_lost), 0)::BIGINT, coalesce(sum(heads_lost), 0)::BIGINT
           FROM root JOIN member USING (connection) JOIN request USING (id) WHERE from_client""",
    )[0]
    said = []
    if cut:
        said.append(
            f"{cut} values of headers were longer than 512 bytes and are cut, marked with … at their ends: cut values may be different ones"
        )
    if headers:
        said.append(f"{headers} values of headers are left out, for a connection keeps 16 different ones of each name")
    if claims:
        said.append(f"{claims} TCP options and PROXY headers are left out, for a connection keeps 16 different ones")
    if heads:
        said.append(f"at {heads} places a request's head was lost or cut off by the capture, so that requests and headers may be missing")
    return said


def _written(found: Iterable[Translation], path: Path) -> Iterator[Translation]:
    """The translations, each written as a line of `path` on the way."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as out:
        for one in found:
            ends = [
                getattr(getattr(one, side), f"{end}_{part}")
                for side in ("behind", "before")
                for end in ("client", "server")
                for part in ("ip", "port")
            ]
            out.write(encoder.encode(dict(zip(ENDS, ends, strict=True))) + b"\n")
            yield one


def _aligner(case: Case, assembly: Assembly) -> Callable[[str, int], int]:
    """A host's moment on the common clock: measured, else as tcpwhy.toml says, else taken for right."""
    offsets = {point.name: round(point.clock_offset_s * 1e9) for point in case.evidence.vantage_points if point.clock_offset_s is not None}

    def align(place: str, time_ns: int) -> int:
        if place in assembly.clocks:
            return assembly.aligned_ns(place, time_ns)
        return time_ns - offsets.get(place, 0)

    return align


def _hosts(case: Case, assembly: Assembly, table: TranslationTable) -> Hosts:
    """What the case shows of its hosts."""
    db = assembly.db
    addresses = dict(assembly.topology.addresses)
    roles = {point.name: point.role for point in case.evidence.vantage_points if point.role is not None}
    callers: dict[str, set[str]] = {}
    for vantage, ip in query(
        db,
        """SELECT DISTINCT vantage, client_ip FROM flow JOIN own_address USING (vantage)
           WHERE own_address.ip = server_ip AND client_ip <> server_ip AND server_packets > server_resets AND client_packets > 0""",
    ):
        callers.setdefault(assembly.names[vantage], set()).add(ip)
    balancing = frozenset(table.balancing)
    known = Hosts(addresses, roles, {}, balancing)
    query(db, "CREATE OR REPLACE TEMP TABLE front (ip VARCHAR)")
    for front in sorted(known.fronts):
        query(db, "INSERT INTO front VALUES (?)", (front,))
    fronted: frozenset[End] = frozenset(
        (ip, port)
        for ip, port in query(
            db, "SELECT DISTINCT server_ip, server_port FROM flow JOIN front ON front.ip = client_ip WHERE server_packets > server_resets"
        )
    )
    many = frozenset(
        ip
        for (ip,) in query(
            db,
            """SELECT client_ip FROM claim JOIN flow USING (id) WHERE from_client AND what = 'client'
               GROUP BY client_ip HAVING count(DISTINCT claim.ip) > 1""",
        )
    )
    relays = frozenset(
        ip
        for (ip,) in query(
            db,
            """SELECT client_ip FROM claim JOIN flow USING (id) WHERE from_client AND what = 'client' AND NOT ambiguous AND ip <> client_ip
               UNION SELECT client_ip FROM behind JOIN flow ON flow.id = behind.x WHERE coalesce(doubt, '') = ''""",
        )
    )
    repeated: frozenset[End] = frozenset(
        (plain_address(ip) or ip, port)
        for ip, port in query(
            db,
            """
            WITH claimed AS (
                SELECT DISTINCT connection, flow.vantage, server_ip, server_port, claim.ip, claim.port, flow.first_ns, flow.last_ns
                FROM claim JOIN flow USING (id) JOIN member USING (id)
                WHERE from_client AND what = 'client' AND basis = 'toa' AND claim.port > 0
            )
            SELECT DISTINCT ip, port FROM claimed
            QUALIFY lead(first_ns) OVER (PARTITION BY vantage, server_ip, server_port, ip, port ORDER BY first_ns, connection)
                < last_ns
            """,
        )
    )
    layouts = frozenset(
        (ip, layout)
        for ip, layout in query(
            db,
            """SELECT DISTINCT client_ip, layout FROM claim JOIN flow USING (id)
               WHERE from_client AND what = 'client' AND basis = 'toa' AND NOT ambiguous""",
        )
    )
    return Hosts(
        addresses=addresses,
        roles=roles,
        callers={place: frozenset(found) for place, found in callers.items()},
        serving=_serving(case),
        accounted=frozenset(name for name, tables in case.hosts().items() if tables.sockets is not None),
        balancing=balancing,
        fronted=fronted,
        relays=relays,
        speaking_for_many=many,
        repeated=repeated,
        trusted_layouts=layouts,
    )


def _serving(case: Case) -> frozenset[str]:
    """The vantage points whose state shows their host to serve others."""
    found = set()
    for name, tables in case.hosts().items():
        if tables.haproxy_sessions is not None or (tables.ipvs is not None and (tables.ipvs.services or tables.ipvs.connections)):
            found.add(name)
        sockets = tables.sockets.sockets if tables.sockets is not None else []
        listening = {one.local_port for one in sockets if one.state == "LISTEN"}
        if any(one.state == "ESTABLISHED" and one.local_port in listening and one.remote_ip != one.local_ip for one in sockets):
            found.add(name)
    return frozenset(found)


def _write_answers(nodes: Nodes, resolver: Resolver, path: Path) -> None:
    """Resolves batch by batch; a line of JSON for each connection of which anything is to be said."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as out:
        for batch in nodes.batches():
            lines = []
            for n, root, before in batch:
                answer = resolver.resolve(root, before)
                if answer.real_client is not None or answer.candidates or answer.because:
                    lines.append(
                        encoder.encode(
                            {
                                "n": n,
                                "real_client": answer.real_client,
                                "basis": answer.basis,
                                "confidence": answer.confidence,
                                "because": answer.because,
                                "candidates": answer.candidates,
                            }
                        )
                    )
            out.write(b"\n".join([*lines, b""]))


_ANSWER = {
    "n": "BIGINT",
    **{name: CLIENT_COLUMNS[name] for name in ("real_client", "basis", "confidence", "because", "candidates")},
}


def _end(end: str) -> str:
    """SQL for an end as reports print it."""
    return f"CASE WHEN contains({end}_ip, ':') THEN '[' || {end}_ip || ']:' ELSE {end}_ip || ':' END || {end}_port"


def address_sql(column: str) -> str:
    """SQL for the address of an end in text: of `ip:port`, `[ip6]:port`, or an address alone."""
    bare = f"CASE WHEN length({column}) - length(replace({column}, ':', '')) > 1 THEN {column} ELSE split_part({column}, ':', 1) END"
    return f"CASE WHEN starts_with({column}, '[') THEN split_part(ltrim({column}, '['), ']', 1) ELSE {bare} END"


def _moment(column: str) -> str:
    """SQL for a time; a damaged capture can hold any, and the two outermost values stand for infinity."""
    return f"make_timestamp_ns(greatest(least({column}, 9223372036854775806), -9223372036854775806))"


def _load_rows(db: duckdb.DuckDBPyConnection, number: int, answers: Path, headers: tuple[str, ...], names: list[str]) -> None:
    """Makes the tables of one answer: the rows, and the values of the headers that were asked for."""
    rows, values = table_names(number)
    quoted = str(answers).replace("'", "''")
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _ANSWER.items())
    asked = ", ".join("?" for _ in headers) or "NULL"
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE {values} AS
        WITH kin AS (
            -- The balancer's other side carries the same requests: it stands in where this side's capture lost them.
            SELECT n, root.connection AS own, root.connection, 0 AS distance FROM root
            UNION ALL SELECT n, root.connection, edge.b, 1 FROM root JOIN edge ON edge.a = root.connection WHERE kind = 'bytes' AND sure
        ),
        seen AS (
            SELECT n, distance, name, CASE WHEN cut THEN value || '…' ELSE value END AS value, bool_or(cut) AS is_cut,
                max(header.count)::UBIGINT AS count, min(time_ns) AS time_ns
            FROM kin JOIN member USING (connection) JOIN header USING (id) WHERE from_client AND name IN ({asked})
            GROUP BY n, distance, name, CASE WHEN cut THEN value || '…' ELSE value END
        )
        SELECT n, name, value, is_cut, count, time_ns FROM seen
        QUALIFY distance = min(distance) OVER (PARTITION BY n, name)
        """,
        [name.lower() for name in headers],
    )
    vantage_names = ", ".join(f"({at}, ?)" for at in range(len(names)))
    header_columns = "".join(
        f""", (SELECT string_agg(value, ', ' ORDER BY time_ns, value) FROM {values} AS v WHERE v.n = root.n AND v.name = ?)
            AS "header:{name.replace('"', '""')}" """
        for name in headers
    )
    query(
        db,
        f"""
        CREATE OR REPLACE TABLE {rows} AS
        WITH vantage_name(vantage, name) AS (VALUES {vantage_names}),
        answer AS (SELECT * FROM read_json('{quoted}', format = 'newline_delimited', columns = {{{columns}}})),
        asked AS (
            SELECT root.n, max(requests)::UBIGINT AS requests
            FROM root JOIN member USING (connection) JOIN request USING (id) WHERE from_client GROUP BY root.n
        ),
        elsewhere AS (
            SELECT root.n, list({{'vantage_point': name, 'client': {_end("o.client")}, 'server': {_end("o.server")}}}
                ORDER BY seat.place, o.id) AS also_seen_as
            FROM root JOIN seat USING (connection) JOIN flow o ON o.id = seat.id JOIN flow own ON own.id = root.flow_id
            JOIN vantage_name ON vantage_name.vantage = o.vantage
            WHERE seat.places > 1 AND (o.client_ip, o.client_port, o.server_ip, o.server_port)
                IS DISTINCT FROM (own.client_ip, own.client_port, own.server_ip, own.server_port)
            GROUP BY root.n
        )
        SELECT root.n, {_end("client")} AS client, {_end("server")} AS server, real_client, coalesce(basis, []) AS basis, confidence,
            coalesce(because, []) AS because, coalesce(candidates, []) AS candidates{header_columns},
            coalesce(requests, 0)::UBIGINT AS requests, (client_bytes + server_bytes)::UBIGINT AS bytes,
            {_moment("first_ns")} AS first, {_moment("last_ns")} AS last, (last_ns - first_ns) / 1e9 AS age_at_least_s,
            NOT opened AS open_before_capture, name AS vantage_point, coalesce(also_seen_as, []) AS also_seen_as,
            root.connection, {address_sql("real_client")} AS real_ip
        FROM root JOIN flow ON flow.id = root.flow_id JOIN seat ON seat.id = root.flow_id
        JOIN vantage_name ON vantage_name.vantage = flow.vantage
        LEFT JOIN answer ON answer.n = root.n LEFT JOIN asked ON asked.n = root.n LEFT JOIN elsewhere ON elsewhere.n = root.n
        ORDER BY root.n
        """,
        [*names, *(name.lower() for name in headers)],
    )
