"""A table of connections goes in; the same rows as aligned text, JSON, CSV or Parquet come out."""

from __future__ import annotations

import csv
import dataclasses
import decimal
import io
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from tcpwhy.report.color import Paint, plain
from tcpwhy.report.escape import columns_of, padded, visible
from tcpwhy.report.json import encode_json
from tcpwhy.report.times import iso_utc, show_time

Format = Literal["table", "json", "csv", "parquet"]

FORMATS: tuple[Format, ...] = ("table", "json", "csv", "parquet")

GAP = "  "

FIRST_OF_ALL = ("client", "server", "cause", "first", "confidence", "symptom", "duration_s", "retransmissions", "resets")
"""The columns that a narrow terminal keeps first."""


class Table(Protocol):
    """What `Case.connections()`, `flows()` and `packets()` give."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        ...

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows, values in the order of the columns."""
        ...

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule interface."""
        ...


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A table as bytes, and which of its columns a narrow terminal had no room for."""

    data: bytes
    left_out: tuple[str, ...] = ()


def encode_table(table: Table, form: Format, *, width: int | None = None, utc: bool = False, paint: Paint = plain) -> Encoded:
    """The table in one of FORMATS. Times are ISO 8601 in UTC but in `table`, which shows them as reports do.

    width: columns of the terminal that `table` must fit, None for no limit; FIRST_OF_ALL says which columns stay.
    """
    match form:
        case "table":
            return _text(table, width, utc, paint)
        case "json":
            names = table.columns
            return Encoded(encode_json([dict(zip(names, map(_json_value, row), strict=True)) for row in _exact_rows(table)]))
        case "csv":
            return Encoded(_csv(table).encode())
        case "parquet":
            return Encoded(_parquet(table))


def _exact_rows(table: Table) -> list[tuple[Any, ...]]:
    """All rows, times as ISO 8601 in UTC with all nine digits: Python's own datetime would cut them to six."""
    import duckdb

    with duckdb.connect(":memory:") as db:
        relation = db.from_arrow(table)
        columns = []
        for name, kind in zip(relation.columns, relation.types, strict=True):
            column = '"' + name.replace('"', '""') + '"'
            columns.append(f"epoch_ns({column}) AS {column}" if str(kind).startswith("TIMESTAMP") else column)
        times = [str(kind).startswith("TIMESTAMP") for kind in relation.types]
        rows = relation.project(", ".join(columns)).fetchall()
    if not any(times):
        return rows
    return [tuple(iso_utc(value) if time and value is not None else value for value, time in zip(row, times, strict=True)) for row in rows]


def _json_value(value: Any) -> Any:
    match value:
        case decimal.Decimal():
            return float(value)
        case list() | tuple():
            return [_json_value(inner) for inner in value]
        case bytes():
            return value.hex()
        case _:
            return value


def _csv(table: Table) -> str:
    """RFC 4180 but for the line ends, which are line feeds; empty for null, `true` and `false`, lists joined by blanks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    for row in _exact_rows(table):
        writer.writerow([_cell(_json_value(value)) for value in row])
    return out.getvalue()


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return " ".join(map(_cell, value))
        case _:
            return visible(str(value))


def _parquet(table: Table) -> bytes:
    """Parquet with the table's own types, written by DuckDB from the Arrow stream."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder, duckdb.connect(":memory:") as db:
        path = Path(folder) / "table.parquet"
        db.from_arrow(table).write_parquet(os.fspath(path))
        return path.read_bytes()


def _text(table: Table, width: int | None, utc: bool, paint: Paint) -> Encoded:
    names = list(table.columns)
    rows = [[_shown(value, utc) for value in row] for row in _exact_rows(table)]
    names, rows = _with_joined_ends(names, rows)
    widths = [max([columns_of(name), *(columns_of(row[at]) for row in rows)]) for at, name in enumerate(names)]
    kept = _fitting(names, widths, width)
    to_the_right = {at for at in kept if rows and all(_is_number(row[at]) for row in rows)}
    lines = [paint("heading", _line(names, widths, kept, to_the_right))]
    lines += [_line(row, widths, kept, to_the_right) for row in rows]
    left_out = tuple(name for at, name in enumerate(names) if at not in kept)
    return Encoded(("\n".join(lines) + "\n").encode(), left_out)


def _shown(value: Any, utc: bool) -> str:
    value = _json_value(value)
    if isinstance(value, str):
        return visible(show_time(value, utc=utc))
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return _cell(value)


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdecimal() or not text


def _fitting(names: Sequence[str], widths: Sequence[int], width: int | None) -> list[int]:
    """Which columns fit, in their own order; those of FIRST_OF_ALL are asked first, and the first one always stays."""
    if width is None:
        return list(range(len(names)))
    wanted = [names.index(name) for name in FIRST_OF_ALL if name in names]
    wanted += [at for at in range(len(names)) if at not in wanted]
    kept: list[int] = []
    room = width + len(GAP)
    for at in wanted:
        if widths[at] + len(GAP) <= room or not kept:
            kept.append(at)
            room -= widths[at] + len(GAP)
    return sorted(kept)


def _line(cells: Sequence[str], widths: Sequence[int], kept: Sequence[int], to_the_right: Collection[int]) -> str:
    parts = (" " * (widths[at] - columns_of(cells[at])) + cells[at] if at in to_the_right else padded(cells[at], widths[at]) for at in kept)
    return GAP.join(parts).rstrip()


def _with_joined_ends(names: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """`client_ip` and `client_port` as one column `client`, in the form that other commands take; the server's alike."""
    for end in ("client", "server"):
        ip, port = f"{end}_ip", f"{end}_port"
        if ip not in names or port not in names or end in names:
            continue
        ip_at, port_at = names.index(ip), names.index(port)
        for row in rows:
            row[ip_at] = f"[{row[ip_at]}]:{row[port_at]}" if ":" in row[ip_at] else f"{row[ip_at]}:{row[port_at]}"
            del row[port_at]
        names[ip_at] = end
        del names[port_at]
    return names, rows
