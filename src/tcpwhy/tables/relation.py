"""A query goes in; its rows come out as tuples or as an Arrow stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb


class DuckTable:
    """A query over a case's tables. Speaks the Arrow PyCapsule interface; each use runs the query anew."""

    def __init__(self, db: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> None:
        """`sql` is one SELECT; `parameters` fill its `?`."""
        self._db = db
        self._sql = sql
        self._parameters = list(parameters)

    def _relation(self) -> duckdb.DuckDBPyRelation:
        # A cursor of its own: a stream that is not read to its end must not block the next query.
        return self._db.cursor().sql(self._sql, params=self._parameters or None)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._relation().columns)

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples, in the order of `columns`."""
        return self._relation().fetchall()

    def __len__(self) -> int:
        return len(self.rows())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow C stream (Arrow PyCapsule interface)."""
        return self._relation().__arrow_c_stream__(requested_schema)
