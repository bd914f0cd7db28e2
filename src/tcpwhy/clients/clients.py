"""A case goes in; a row for each connection with its real client, and groups of them, come out as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tcpwhy.clients.row import Candidate, ClientRow
from tcpwhy.tables.flows import query
from tcpwhy.tables.relation import DuckTable

if TYPE_CHECKING:
    import duckdb

CLIENT_COLUMNS = {
    "client": "VARCHAR",
    "server": "VARCHAR",
    "real_client": "VARCHAR",
    "basis": "VARCHAR[]",
    "confidence": "VARCHAR",
    "because": "VARCHAR[]",
    "candidates": "STRUCT(real_client VARCHAR, basis VARCHAR[], confidence VARCHAR, because VARCHAR)[]",
    "requests": "UBIGINT",
    "bytes": "UBIGINT",
    "first": "TIMESTAMP_NS",
    "last": "TIMESTAMP_NS",
    "age_at_least_s": "DOUBLE",
    "open_before_capture": "BOOLEAN",
    "vantage_point": "VARCHAR",
    "also_seen_as": "STRUCT(vantage_point VARCHAR, client VARCHAR, server VARCHAR)[]",
}
"""The columns of a case's clients, and their types; behind `candidates` comes a column `header:NAME` for each header asked for."""


class Clients:
    """Each connection of a case with its real client. Speaks the Arrow PyCapsule interface; iterating gives `ClientRow`s."""

    def __init__(self, db: duckdb.DuckDBPyConnection, number: int, headers: tuple[str, ...], notes: Sequence[str]) -> None:
        """Use `Case.clients()`. `number`: that of its own tables in the database."""
        self.database = db
        """Where the rows lie: the tables `row_table` and `value_table`."""
        self.row_table, self.value_table = table_names(number)
        self.headers = headers
        """Names of the headers that were asked for, as asked."""
        self.notes = tuple(notes)
        """What limits the answers."""
        self._table = DuckTable(db, f"SELECT {', '.join(map(quoted_name, self.column_types))} FROM {self.row_table} ORDER BY n")

    @property
    def column_types(self) -> dict[str, str]:
        """The columns and their types in DuckDB's words, in order."""
        found: dict[str, str] = {}
        for name, kind in CLIENT_COLUMNS.items():
            found[name] = kind
            if name == "candidates":
                found.update({f"header:{header}": "VARCHAR" for header in self.headers})
        return found

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.column_types)

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples, in the order of `columns`."""
        return self._table.rows()

    def __len__(self) -> int:
        return int(query(self.database, f"SELECT count(*) FROM {self.row_table}")[0][0])

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow C stream (Arrow PyCapsule interface)."""
        return self._table.__arrow_c_stream__(requested_schema)

    def __iter__(self) -> Iterator[ClientRow]:
        """The rows in the order of time, read in batches."""
        for row in self.stream(f"SELECT {self.exact_columns()} FROM {self.row_table} ORDER BY n"):
            yield self.client_row(row)

    def exact_columns(self) -> str:
        """SQL for the columns in order, times as nanoseconds since 1970: Python's own datetime would cut them to six digits."""
        return ", ".join(f"epoch_ns({name}) AS {name}" if name in ("first", "last") else quoted_name(name) for name in self.columns)

    def client_row(self, row: tuple[Any, ...]) -> ClientRow:
        """A row of `exact_columns` as a struct."""
        value = dict(zip(self.columns, row, strict=True))
        return ClientRow(
            client=value["client"],
            server=value["server"],
            real_client=value["real_client"],
            basis=tuple(value["basis"]),
            confidence=value["confidence"],
            candidates=tuple(
                Candidate(one["real_client"], tuple(one["basis"]), one["confidence"], one["because"]) for one in value["candidates"]
            ),
            headers={name: value[f"header:{name}"] for name in self.headers if value[f"header:{name}"] is not None},
            requests=value["requests"],
            bytes=value["bytes"],
            first_ns=value["first"],
            last_ns=value["last"],
            open_before_capture=value["open_before_capture"],
            vantage_point=value["vantage_point"],
            also_seen_as=tuple((one["vantage_point"], one["client"], one["server"]) for one in value["also_seen_as"]),
            because=tuple(value["because"]),
            age_at_least_s=value["age_at_least_s"],
        )

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """A query's rows, read in batches."""
        cursor = self.database.cursor()
        try:
            cursor.execute(sql, list(parameters))
            while rows := cursor.fetchmany(5_000):
                yield from rows
        finally:
            cursor.close()


def table_names(number: int) -> tuple[str, str]:
    """The tables of one answer: a row a connection, and a row a value of a header."""
    return f"client_row_{number}", f"client_value_{number}"


def quoted_name(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'
