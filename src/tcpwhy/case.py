"""Evidence goes in; its index, its connections and its diagnosis come out: the object behind `tcpwhy.open_case()`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from tcpwhy import _core
from tcpwhy.evidence import Evidence, EvidenceError, VantagePoint, open_evidence, plain_text
from tcpwhy.tables.index import WORTH_A_THREAD_BYTES, VantageIndex, ensure_index, index_home

if TYPE_CHECKING:
    import duckdb

    from tcpwhy.clients.clients import Clients
    from tcpwhy.connections.assembly import Assembly
    from tcpwhy.connections.connection import Connection
    from tcpwhy.diagnosis.diagnose import Diagnosis
    from tcpwhy.diagnosis.finding import Finding
    from tcpwhy.diagnosis.ladder import Ladder
    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.listings import Listed
    from tcpwhy.tables.logs import LogEvent

Progress = Callable[[str, int, int], None]
"""Called with a vantage point's name, the bytes of its captures read so far, and all of them."""


class ArrowTable(Protocol):
    """Rows in columns; speaks the Arrow PyCapsule interface, which pyarrow, Polars, DuckDB, pandas and others read."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples, in the order of `columns`."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The table as an Arrow C stream."""


@dataclasses.dataclass(frozen=True, slots=True)
class Indexed:
    """One vantage point's index, as `tcpwhy index` reports it."""

    name: str
    files: int
    packets: int
    flows: int
    index_bytes: int
    seconds: float
    refreshed: bool
    """False where the index was there and still good."""


@dataclasses.dataclass(frozen=True, slots=True)
class _ToScan:
    """A vantage point's captures, where its index goes, and how many bytes there are."""

    name: str
    captures: list[Path]
    home: Path
    total: int


class Case:
    """A case, opened. A context manager: closing it leaves nothing behind but the index."""

    def __init__(self, evidence: Evidence, *, index: bool, progress: Progress | None) -> None:
        """Use `tcpwhy.open_case()`."""
        self.evidence = evidence
        for point in evidence.vantage_points:
            point.name = plain_text(point.name)
        self._keep = index
        self._progress = progress
        self._undo = contextlib.ExitStack()
        self._undo.callback(evidence.close)
        self._indexed: list[tuple[VantageIndex, Indexed]] | None = None
        self._assembly: Assembly | None = None
        self._hosts: dict[str, HostTables] | None = None
        self._log_events: list[LogEvent] | None = None
        self._db: duckdb.DuckDBPyConnection | None = None
        self._stopped = threading.Event()
        self._telling = threading.Lock()
        self._answers = 0
        self.listed: Listed | None = None
        """What was made of pasted listings, once the captures are indexed."""

    def __enter__(self) -> Case:
        """The case itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Closes it, whatever happened."""
        self.close()

    def close(self) -> None:
        """Removes what was unpacked or kept for the time being. May be called twice."""
        if self._db is not None:
            self._db.close()
            self._db = None
            self._assembly = None
        self._undo.close()

    # ---- the index

    def index(self) -> list[Indexed]:
        """Builds or refreshes the index of each vantage point, and says what it holds."""
        return [indexed for _, indexed in self._indexes()]

    def vantage_indexes(self) -> list[VantageIndex]:
        """The index of each vantage point that has captures, in the order of their names."""
        return [index for index, _ in self._indexes()]

    def _indexes(self) -> list[tuple[VantageIndex, Indexed]]:
        if self._indexed is None:
            self._convert_listings()
            homes: dict[tuple[Path, bool], Path] = {}
            self._indexed = self._index_all([self._to_scan(point, homes) for point in self.evidence.vantage_points if point.captures])
        return self._indexed

    def _index_all(self, scans: list[_ToScan]) -> list[tuple[VantageIndex, Indexed]]:
        """Each vantage point on a processor of its own, where none is larger than the others together; else one after the other."""
        processors = len(os.sched_getaffinity(0))
        total = sum(one.total for one in scans)
        if processors < 2 or total < WORTH_A_THREAD_BYTES or any(one.total * 2 > total for one in scans):
            return [self._index_of(one, None) for one in scans]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(processors, len(scans))) as pool:
            found = [pool.submit(self._index_of, one, 1) for one in sorted(scans, key=lambda one: -one.total)]
            try:
                indexed = {one.result()[0].name: one.result() for one in found}
            except BaseException:
                self._stopped.set()  # the others end at their next progress
                pool.shutdown(cancel_futures=True)
                raise
        return [indexed[one.name] for one in scans]

    def _convert_listings(self) -> None:
        """Listings of packets become captures, kept for the time being."""
        if not any(point.listings for point in self.evidence.vantage_points):
            return
        from tcpwhy.tables.listings import convert_listings

        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="tcpwhy-"))).resolve()
        self.evidence.temporary.append(folder)
        self.listed = convert_listings(self.evidence, folder)
        self._undo.callback(self.listed.close)

    def _to_scan(self, point: VantagePoint, homes: dict[tuple[Path, bool], Path]) -> _ToScan:
        captures = [self._on_disk(path) for path in point.captures]
        in_case = self.evidence.root.is_dir() and all(path.is_relative_to(self.evidence.root) for path in captures)
        beside = self.evidence.root if in_case else captures[0].parent
        keep = self._keep and not any(self.evidence.is_temporary(path) for path in captures)
        if (beside, keep) not in homes:
            homes[beside, keep] = self._undo.enter_context(index_home(beside, str(beside), keep))
        return _ToScan(point.name, captures, homes[beside, keep], sum(path.stat().st_size for path in captures))

    def _index_of(self, scan: _ToScan, threads: int | None) -> tuple[VantageIndex, Indexed]:
        def progress(done: int) -> None:
            if self._stopped.is_set():
                raise KeyboardInterrupt
            self._tell(scan.name, done, scan.total)

        start = time.monotonic()
        index, refreshed = ensure_index(scan.name, scan.captures, scan.home, progress, threads=threads)
        if refreshed:
            self._tell(scan.name, scan.total, scan.total)
        size = index.flows_path.stat().st_size + index.frames_path.stat().st_size
        seconds = time.monotonic() - start
        return index, Indexed(scan.name, len(scan.captures), index.packets, index.flows, size, seconds, refreshed)

    def _tell(self, name: str, done: int, total: int) -> None:
        if self._progress is not None:
            with self._telling:
                self._progress(name, done, total)

    def _on_disk(self, path: Path) -> Path:
        """The capture itself; standard input is kept in a private file, for its packets are read again."""
        if str(path) != "-":
            return path.resolve()
        import shutil
        import sys

        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="tcpwhy-")))
        kept = folder / "stdin"
        with kept.open("wb") as out:
            shutil.copyfileobj(sys.stdin.buffer, out)
        self.evidence.places.append((kept, "-"))
        self.evidence.temporary.append(folder)
        return kept

    def files_of(self, index: VantageIndex) -> list[str]:
        """The names of a vantage point's captures, as reports print them."""
        return [plain_text(self.evidence.shown(path)) for path in index.paths]

    @property
    def progress(self) -> Progress | None:
        """What is called while captures are read."""
        return self._progress

    # ---- tables

    def hosts(self) -> dict[str, HostTables]:
        """The tables of each vantage point that has a state, by its name; read when they are asked for, and once."""
        if self._hosts is None:
            from tcpwhy.tables.host import HostTables

            self._hosts = {
                point.name: HostTables(point.state, None if point.state_before is None else HostTables(point.state_before))
                for point in self.evidence.vantage_points
                if point.state is not None
            }
        return self._hosts

    def log_events(self) -> list[LogEvent]:
        """What the logs of all vantage points tell, read once; what could not be read of them is noted in the case."""
        if self._log_events is None:
            from tcpwhy.tables.logs import read_logs

            self._log_events = []
            for point in self.evidence.vantage_points:
                if point.logs:
                    reading = read_logs(self.evidence, point)
                    self._log_events += reading.events
                    self.evidence.losses += [loss for loss in reading.losses if loss not in self.evidence.losses]
                    point.notes += [note for note in reading.notes if note not in point.notes]
        return self._log_events

    def database(self) -> duckdb.DuckDBPyConnection:
        """The joined flows of all vantage points, in DuckDB: tables `flow`, `pair` and `member`."""
        if self._db is None:
            from tcpwhy.connections.joining import join_flows
            from tcpwhy.tables.flows import connect, load_flows

            indexes = self.vantage_indexes()
            if not indexes:
                raise EvidenceError(str(self.evidence.root), "holds no capture", "flows and connections come from captures")
            folder = self._undo.enter_context(tempfile.TemporaryDirectory(prefix="tcpwhy-"))
            self._db = connect(folder)
            load_flows(self._db, indexes)
            join_flows(self._db)
        return self._db

    def assembly(self) -> Assembly:
        """What builds connections from the joined flows."""
        if self._assembly is None:
            from tcpwhy.connections.assembly import Assembly
            from tcpwhy.tables.addresses import read_addresses

            addresses: dict[str, frozenset[str]] = {}
            offsets: dict[str, float] = {}
            for point in self.evidence.vantage_points:
                own = (read_addresses(point.state) if point.state else None) or frozenset()
                addresses[point.name] = own | frozenset(point.addresses)
                if point.clock_offset_s is not None:
                    offsets[point.name] = point.clock_offset_s
            indexes = self.vantage_indexes()
            self._assembly = Assembly(
                self.database(),
                indexes,
                file_names={index.name: self.files_of(index) for index in indexes},
                clock_offsets_s=offsets,
                addresses=addresses,
                lines=self.listed.lines if self.listed is not None else {},
            )
        return self._assembly

    def flows(self) -> ArrowTable:
        """A row a flow at a vantage point; columns as docs/tables.md lists them."""
        from tcpwhy.tables.relation import DuckTable

        names = ", ".join(f"({number}, '{_quoted(index.name)}')" for number, index in enumerate(self.vantage_indexes()))
        return DuckTable(
            self.database(),
            f"""SELECT name AS vantage_point, connection, flow.* EXCLUDE (id, vantage, timestamp_anchors, payload_anchors, chains)
                FROM flow JOIN member USING (id) JOIN (VALUES {names}) AS vantage_name(number, name) ON number = vantage
                ORDER BY id""",
        )

    def connections(self, where: str | None = None, failed: bool = False, filter: str | None = None) -> ArrowTable:
        """A row a connection; columns as docs/tables.md lists them. `where` compares them, `failed` keeps only failed ones.

        `filter` takes pcap-filter's everyday words. Raises EvidenceError where `where` or `filter` is none that can be read.
        """
        from tcpwhy.diagnosis.listing import connection_table

        return connection_table(self, where, failed, filter)

    def clients(
        self,
        *,
        headers: Sequence[str] = (),
        vantage: str | None = None,
        trusted_hops: int | None = None,
        old: str | None = None,
        filter: str | None = None,
    ) -> Clients:
        """A row a connection as the server's place saw it, with its real client; columns as docs/clients.md lists them.

        `headers`: names of HTTP headers whose values are wanted; `vantage`: only what this vantage point saw, with its addresses;
        `trusted_hops`: so many proxies before the server append to X-Forwarded-For or Forwarded; `old`: only connections that were open
        before the capture began, or at least so long (`90s`, `30m`, `1h`, `2d`); `filter` takes pcap-filter's everyday words.
        Raises EvidenceError where one of them cannot be read, or the case holds no capture.
        """
        from tcpwhy.clients.making import Question, make_clients

        self._answers += 1
        return make_clients(self, Question(tuple(headers), vantage, trusted_hops, old, filter), self._answers)

    def packets(self, connection: str) -> ArrowTable:
        """The packets of a connection (`A:p-B:p`) at all vantage points; columns as docs/tables.md lists them."""
        from tcpwhy.diagnosis.listing import packet_table

        return packet_table(self, connection)

    # ---- answers

    def diagnosis(
        self,
        *,
        connection: str | None = None,
        since: str | None = None,
        until: str | None = None,
        cause: str | None = None,
        slow_s: float = 3.0,
        filter: str | None = None,
    ) -> Diagnosis:
        """Finds what failed and says why: the report and its ladders. The arguments narrow what is examined.

        `connection` is `A:p-B:p`, either way round; `since` and `until` are ISO 8601 times, local where they name no zone; `cause` keeps
        one cause's findings; `filter` takes pcap-filter's everyday words. Raises EvidenceError where one of them cannot be read.
        """
        from tcpwhy.diagnosis.diagnose import diagnose
        from tcpwhy.diagnosis.scope import Narrowed

        return diagnose(self, Narrowed(connection, since, until, cause, filter, slow_s))

    def diagnose(self, **narrowed: Any) -> tuple[Finding, ...]:
        """The findings alone, as typed objects; arguments as for `diagnosis`."""
        return self.diagnosis(**narrowed).report.findings

    def ladders(self, connection: str) -> tuple[Ladder, ...]:
        """The ladder of each attempt with these addresses, in the order of time."""
        from tcpwhy.diagnosis.citing import cite_ladder, line_finder
        from tcpwhy.diagnosis.drawing import draw

        assembly = self.assembly()
        found = self.find(connection)
        line_of = line_finder(self)
        return tuple(cite_ladder(draw(one, assembly.clocks, whole=True), line_of) for one in found)

    def find(self, connection: str) -> list[Connection]:
        """All incarnations of a connection, by the addresses of any vantage point, with their failures told.

        Raises EvidenceError where the text is no connection or names none of this case.
        """
        from tcpwhy.connections.selecting import find_connections, parse_connection
        from tcpwhy.diagnosis.scope import parse_time

        moment = parse_connection(connection)[2]
        return find_connections(self.assembly(), connection, parse_time(moment) if moment else None)

    def extract(self, connection: str, path: str | Path) -> int:
        """Writes a connection's packets from every vantage point as pcapng, with comments where a finding points; how many."""
        from tcpwhy.diagnosis.slicing import extract

        return extract(self, connection, Path(path))


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def open_case(
    paths: str | Path | Sequence[str | Path],
    *,
    index: bool = True,
    progress: Progress | None = None,
    logs: Sequence[str | Path] = (),
) -> Case:
    """Opens a case: a folder, an archive of one, or captures, folders and archives, each plain or as `name=path`.

    `index=False` leaves no index behind; `logs` are further logs, plain or as `name=path`: where they hold lines of failures, a diagnosis
    that nothing else narrows examines only the connections of which these can speak.

    Raises EvidenceError (as `tcpwhy.CaseError`) where an argument does not exist or nothing is evidence.
    """
    return Case(open_evidence(paths, logs=logs, sniff=_core.sniff), index=index, progress=progress)
