"""A case that answers what a test tells it to, in place of one that is read from captures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import duckdb

from tcpwhy.diagnosis.finding import Report
from tcpwhy.diagnosis.ladder import Ladder


class StandIn:
    """Remembers how it was opened and asked; `failure` is raised by whatever is asked."""

    def __init__(self, report: Report, ladders: tuple[Ladder | None, ...] = (), failure: BaseException | None = None) -> None:
        self.report = report
        self.drawn = ladders
        self.failure = failure
        self.opened: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.closed = False

    def open_case(self, paths: Sequence[str], **options: Any) -> Self:
        self.opened = {"paths": paths, **options}
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def _answer(self, **asked: Any) -> None:
        self.asked = asked
        progress: Callable[[str, int, int], None] = self.opened["progress"]
        progress("gateway", 5, 10)
        if self.failure is not None:
            raise self.failure

    def diagnosis(self, **narrowed: Any) -> SimpleNamespace:
        self._answer(**narrowed)
        return SimpleNamespace(report=self.report, ladders=self.drawn)

    def ladders(self, connection: str) -> tuple[Ladder | None, ...]:
        self._answer(connection=connection)
        return self.drawn

    def connections(self, where: str | None = None, failed: bool = False, filter: str | None = None) -> StandInTable:
        self._answer(where=where, failed=failed, **({} if filter is None else {"filter": filter}))
        return StandInTable()

    def extract(self, connection: str, path: Path) -> int:
        self._answer(connection=connection, path=path)
        path.write_bytes(b"\x0a\x0d\x0d\x0a")
        return 12

    def index(self) -> list[SimpleNamespace]:
        self._answer()
        names = ("name", "files", "packets", "flows", "index_bytes", "seconds", "refreshed")
        rows = (("gateway", 2, 100, 7, 2_500_000, 1.25, True), ("b1\x1b", 1, 5, 1, 900, 0.0, False))
        return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]


class StandInTable:
    """One connection."""

    columns: Sequence[str] = ["client_ip", "client_port", "server_ip", "server_port"]

    def rows(self) -> list[tuple[Any, ...]]:
        return [("10.0.0.1", 4000, "10.0.0.2", 80)]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        db = duckdb.connect(":memory:")
        relation = db.sql("SELECT '10.0.0.1' AS client_ip, 4000 AS client_port, '10.0.0.2' AS server_ip, 80 AS server_port")
        assert relation is not None
        return relation.__arrow_c_stream__(requested_schema)
