"""A case's clients go in; text for a terminal, JSON, CSV or Parquet comes out, written in batches to a file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from tcpwhy.clients.clients import Clients
from tcpwhy.clients.grouping import ClientGroup, ClientTotals, Grouping, groups
from tcpwhy.clients.row import Candidate, ClientRow
from tcpwhy.report.color import Paint, plain
from tcpwhy.report.escape import columns_of, padded, shortened, visible, wrapped
from tcpwhy.report.json import encode_json
from tcpwhy.report.table import Format
from tcpwhy.report.times import iso_utc, show_time

GAP = "  "

LONGEST_CELL = 60
"""Characters of one cell of the terminal's table; CSV and JSON have all of them."""

NAMES_IN_A_CELL = 3

UNKNOWN = "?"


class SeenAs(msgspec.Struct, frozen=True):
    """The connection's addresses at another place."""

    vantage_point: str
    client: str
    server: str


class ClientConnection(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, and whose it is."""

    client: str
    """The client's end as the backend's vantage point saw it: the balancer's, behind full NAT."""
    server: str
    real_client: str | None
    """The outermost client that is proven; null where nothing identifies it, or witnesses contradict each other."""
    basis: tuple[Literal["toa", "proxy", "header", "lb-table", "lb-capture", "conntrack", "log", "capture"], ...]
    """What it rests on, outwards from the server."""
    confidence: Literal["confirmed", "likely", "possible"] | None
    candidates: tuple[Candidate, ...]
    """Who it may be, where several may, or where a witness speaks that others could have written."""
    headers: dict[str, str]
    """Values of the headers that were asked for; several different ones are joined by `, `."""
    requests: int
    """HTTP/1 requests whose heads were read."""
    bytes: int
    """Payload of both directions at that vantage point, retransmitted bytes included."""
    first: str
    last: str
    open_before_capture: bool
    """No SYN of it was seen there."""
    because: tuple[str, ...] = ()
    """The witnesses, by file and frame or line; why there is no answer where there is none."""
    age_at_least_s: float
    """Seconds between its first and its last packet there."""
    vantage_point: str
    also_seen_as: tuple[SeenAs, ...] = ()


class ClientsReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that `tcpwhy clients --json` says."""

    schema: Literal["tcpwhy-clients/1"]
    connections: tuple[ClientConnection, ...]
    groups: tuple[ClientGroup, ...] | None = None
    """With `--group-by` only."""
    totals: ClientTotals
    next_evidence: tuple[str, ...]
    """What to take next where clients are not identified, and what it would tell."""
    notes: tuple[str, ...]
    """Limits of the evidence."""
    incomplete: bool
    """Part of the input could not be read; the notes say which (exit status 3)."""


def write_clients(
    path: Path,
    clients: Clients,
    form: Format,
    *,
    grouping: Grouping | None,
    totals: ClientTotals,
    next_evidence: Sequence[str],
    notes: Sequence[str],
    incomplete: bool,
    width: int | None = None,
    utc: bool = False,
    paint: Paint = plain,
) -> tuple[str, ...]:
    """Writes the answer to `path`; the columns that a narrow terminal had no room for.

    With `grouping` a table, CSV and Parquet hold the groups, JSON both. `width`: columns of the terminal, None for no limit.
    """
    if form == "parquet":
        _write_parquet(path, clients, grouping)
        return ()
    with path.open("wb") as out:
        match form:
            case "json":
                _write_json(out, clients, grouping, totals, next_evidence, notes, incomplete)
            case "csv":
                _write_csv(out, clients, grouping)
            case _:
                left_out = _write_text(out, clients, grouping, width, utc, paint)
                _write_below(out, clients, totals, next_evidence, notes, width, paint)
                return left_out
    return ()


def as_connection(row: ClientRow) -> ClientConnection:
    """A row in the form of the JSON."""
    return ClientConnection(
        client=row.client,
        server=row.server,
        real_client=row.real_client,
        basis=row.basis,
        confidence=row.confidence,
        candidates=row.candidates,
        headers=row.headers,
        requests=row.requests,
        bytes=row.bytes,
        first=iso_utc(row.first_ns),
        last=iso_utc(row.last_ns),
        open_before_capture=row.open_before_capture,
        because=row.because,
        age_at_least_s=row.age_at_least_s,
        vantage_point=row.vantage_point,
        also_seen_as=tuple(SeenAs(*seen) for seen in row.also_seen_as),
    )


def _write_json(
    out: BinaryIO,
    clients: Clients,
    grouping: Grouping | None,
    totals: ClientTotals,
    next_evidence: Sequence[str],
    notes: Sequence[str],
    incomplete: bool,
) -> None:
    """The struct `ClientsReport`, written piece by piece: a million rows are never one object."""
    out.write(b'{\n  "schema": "tcpwhy-clients/1",\n  "connections": ')
    _write_list(out, map(as_connection, clients))
    if grouping is not None:
        out.write(b',\n  "groups": ')
        _write_list(out, groups(clients, grouping))
    rest = {"totals": totals, "next_evidence": list(next_evidence), "notes": list(notes), "incomplete": incomplete}
    out.write(b"," + encode_json(rest).removeprefix(b"{"))


def _write_list(out: BinaryIO, items: Iterable[msgspec.Struct]) -> None:
    begun = False
    for item in items:
        out.write((b",\n    " if begun else b"[\n    ") + encode_json(item).rstrip(b"\n").replace(b"\n", b"\n    "))
        begun = True
    out.write(b"\n  ]" if begun else b"[]")


_GROUP_COLUMNS = tuple(field.name for field in msgspec.structs.fields(ClientGroup))


def _write_csv(out: BinaryIO, clients: Clients, grouping: Grouping | None) -> None:
    """RFC 4180 but for the line ends, which are line feeds; empty for null, lists joined by `; `."""
    text = io.TextIOWrapper(out, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    if grouping is not None:
        writer.writerow(_GROUP_COLUMNS)
        for group in groups(clients, grouping):
            writer.writerow([_csv_cell(getattr(group, name)) for name in _GROUP_COLUMNS])
    else:
        writer.writerow(map(visible, clients.columns))
        times = [name in ("first", "last") for name in clients.columns]
        for row in clients.stream(f"SELECT {clients.exact_columns()} FROM {clients.row_table} ORDER BY n"):
            writer.writerow([iso_utc(value) if time else _csv_cell(value) for value, time in zip(row, times, strict=True)])
    text.flush()
    text.detach()


def _csv_cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return "; ".join(map(_csv_cell, value))
        case {"real_client": name, "basis": basis, "confidence": confidence}:
            return visible(f"{name} ({' '.join(basis)}, {confidence})")
        case {"vantage_point": place, "client": client, "server": server}:
            return visible(f"{place} {client} > {server}")
        case _:
            return visible(str(value))


def _write_parquet(path: Path, clients: Clients, grouping: Grouping | None) -> None:
    """Parquet with the table's own types; groups with theirs."""
    from tcpwhy.clients.clients import quoted_name

    db = clients.database.cursor()
    if grouping is None:
        columns = ", ".join(map(quoted_name, clients.columns))
        db.sql(f"SELECT {columns} FROM {clients.row_table} ORDER BY n").write_parquet(os.fspath(path))
        return
    lines = path.with_suffix(".jsonl")
    with lines.open("wb") as out:
        for group in groups(clients, grouping):
            out.write(msgspec.json.encode(group) + b"\n")
    kinds = {"group": "VARCHAR", "real_clients": "VARCHAR[]", "first": "TIMESTAMP_NS", "last": "TIMESTAMP_NS"}
    declared = ", ".join(f"{quoted_name(name)}: '{kinds.get(name, 'BIGINT')}'" for name in _GROUP_COLUMNS)
    quoted = str(lines).replace("'", "''")
    db.sql(f"SELECT * FROM read_json('{quoted}', format = 'newline_delimited', columns = {{{declared}}})").write_parquet(os.fspath(path))
    lines.unlink()


# ---- text

Rows = Callable[[], Iterator[list[str]]]
"""Gives the rows anew each time: they are read once for their widths and once to be written."""


def _write_text(out: BinaryIO, clients: Clients, grouping: Grouping | None, width: int | None, utc: bool, paint: Paint) -> tuple[str, ...]:
    if grouping is not None:
        names = [visible(grouping.heading), "connections", "requests", "since", "real clients", "how sure", "bytes", "last"]
        return _aligned(out, names, lambda: _group_rows(clients, grouping, utc), width, paint)
    asked = [visible(name) for name in clients.headers]
    names = [
        *asked,
        "real client",
        "how sure",
        "requests",
        "since",
        "basis",
        "bytes",
        "seen as",
        "server",
        "last",
        "age at least",
        "also seen as",
    ]
    return _aligned(out, names, lambda: _connection_rows(clients, utc), width, paint)


def _group_rows(clients: Clients, grouping: Grouping, utc: bool) -> Iterator[list[str]]:
    for group in groups(clients, grouping):
        since = "before the capture" if group.open_before_capture else show_time(group.first, utc=utc, digits=0)
        counted = (("confirmed", group.confirmed), ("likely", group.likely), ("possible", group.possible))
        sure = [f"{count} {word}" for word, count in counted if count]
        if group.connections > group.identified:
            sure.append(f"{group.connections - group.identified} not identified")
        named = group.real_clients[:NAMES_IN_A_CELL]
        more = group.clients - len(named)
        yield [
            UNKNOWN if group.group is None else shortened(group.group, LONGEST_CELL),
            str(group.connections),
            str(group.requests),
            since,
            ", ".join(named) + (f" and {more} more" if more else "") or UNKNOWN,
            ", ".join(sure),
            str(group.bytes),
            show_time(group.last, utc=utc, digits=0),
        ]


def _connection_rows(clients: Clients, utc: bool) -> Iterator[list[str]]:
    from tcpwhy.clients.clients import quoted_name

    by_header = "".join(f"{quoted_name(f'header:{name}')} NULLS LAST, " for name in clients.headers)
    order = f"{by_header}real_client IS NULL, requests DESC, n"
    for row in clients.stream(f"SELECT {clients.exact_columns()} FROM {clients.row_table} ORDER BY {order}"):
        one = clients.client_row(row)
        since = "before the capture" if one.open_before_capture else show_time(iso_utc(one.first_ns), utc=utc, digits=0)
        yield [
            *(shortened(one.headers.get(name, UNKNOWN), LONGEST_CELL) for name in clients.headers),
            one.real_client or _counted(len(one.candidates)),
            one.confidence or "not identified",
            str(one.requests),
            since,
            " ".join(one.basis),
            str(one.bytes),
            one.client,
            one.server,
            show_time(iso_utc(one.last_ns), utc=utc, digits=0),
            f"{one.age_at_least_s:.0f} s",
            "; ".join(f"{place} {client} > {server}" for place, client, server in one.also_seen_as),
        ]


def _counted(candidates: int) -> str:
    """What stands for a client that is not known."""
    return f"{UNKNOWN} ({candidates} candidate{'s' if candidates > 1 else ''})" if candidates else UNKNOWN


def _aligned(out: BinaryIO, names: Sequence[str], rows: Rows, width: int | None, paint: Paint) -> tuple[str, ...]:
    """Rows under their headings; columns that do not fit are left out from the right, and named."""
    widths = [columns_of(name) for name in names]
    numbers = [True] * len(names)
    for row in rows():
        for at, cell in enumerate(row):
            widths[at] = max(widths[at], columns_of(cell))
            numbers[at] = numbers[at] and cell.isdecimal()
    kept: list[int] = []
    room = (width or 0) + len(GAP)
    for at in range(len(names)):
        if width is None or not kept or widths[at] + len(GAP) <= room:
            kept.append(at)
            room -= widths[at] + len(GAP)

    def line(cells: Sequence[str]) -> str:
        return GAP.join(cells[at].rjust(widths[at]) if numbers[at] else padded(cells[at], widths[at]) for at in kept).rstrip()

    out.write((paint("heading", line(names)) + "\n").encode("utf-8", "backslashreplace"))
    for row in rows():
        out.write((line(row) + "\n").encode("utf-8", "backslashreplace"))
    return tuple(name for at, name in enumerate(names) if at not in kept)


def _write_below(
    out: BinaryIO,
    clients: Clients,
    totals: ClientTotals,
    next_evidence: Sequence[str],
    notes: Sequence[str],
    width: int | None,
    paint: Paint,
) -> None:
    """What the table alone does not say: how many are not identified, what evidence would tell, and the limits."""
    columns = min(max(width or 100, 60), 160)
    lines = ["", f"{totals.connections} connections: {totals.identified} identified, {totals.unidentified} not identified."]
    for heading, texts in (("to identify the rest, take", next_evidence), ("notes", notes)):
        if texts:
            lines += ["", paint("heading", heading)]
            for text in texts:
                first, *rest = wrapped(shortened(text), columns - 2)
                lines += [f"- {first}", *(f"  {part}" for part in rest)]
    out.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
