"""Captures go in once more; what their packets say of the real clients comes out as tables in DuckDB, beside the table of flows.

The core reads options, PROXY headers and HTTP request heads (rust/src/reveal/). They are payload: unlike the index they are not kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from tcpwhy import _core
from tcpwhy.evidence import EvidenceError
from tcpwhy.evidence.source import plain_text
from tcpwhy.tables.flows import query
from tcpwhy.tables.index import VantageIndex, threads_for

RevealProgress = Callable[[str, int, int], None]
"""Called with a vantage point's name, the bytes of its captures read so far, and all of them."""

CHANGED = "they have changed meanwhile: ask again when the capture has ended, or of a copy of it"

SEEN = "count::BIGINT AS count, file::INTEGER AS file, frame::BIGINT AS frame, time_ns"

COLUMNS = {
    "claim": f"basis, layout, what, ip, port::INTEGER AS port, ambiguous, text, {SEEN}",
    "request": "requests::BIGINT AS requests, resynchronised::BIGINT AS resynchronised, heads_lost::BIGINT AS heads_lost, "
    "gaps::BIGINT AS gaps, headers_lost::BIGINT AS headers_lost, claims_lost::BIGINT AS claims_lost, is_tls, is_http2",
    "header": f"name, value, cut, resynchronised::BIGINT AS resynchronised, {SEEN}",
}
"""What each table has behind `id` and `from_client` (rust/src/reveal/tables.rs)."""


def load_revealed(
    db: duckdb.DuckDBPyConnection, indexes: Sequence[VantageIndex], header_names: Sequence[str], progress: RevealProgress | None = None
) -> None:
    """Makes the tables `claim`, `request` and `header`; the table `flow` of the same indexes is there already (`load_flows`).

    Each has `id`, that of the flow, and `from_client`: whether the client's end sent it. `file` is the number of a capture in
    `VantageIndex.paths`, `frame` a record's number in it as Wireshark counts, `time_ns` its time; they tell where a thing was seen first,
    `count` how often.

    `claim`: what a TCP option (basis `toa`, layout `KIND/LENGTH`) or a PROXY header (`proxy`, `proxy-v1`, `proxy-v2`) says: `what` is
    `client`, `vip`, `vpc`, `host-id`, `local`, `unknown` or `unix`; `ip` and `port` are null where it says none; `ambiguous` where the
    bytes may mean something else; `text` is what it says beside addresses: TLVs, a VPC's number. At most 16 different ones a flow.

    `request`: complete HTTP/1 heads, and how many of them were found again after bytes had been lost (`resynchronised`); places where a
    head was, or may have been, lost (`heads_lost`); holes in the stream (`gaps`); header values and claims beyond the limits
    (`headers_lost`, `claims_lost`); `is_tls` and `is_http2` where nothing was read for that reason.

    `header`: values of `X-Forwarded-For`, `Forwarded`, `X-Real-IP`, Envoy's headers of the client, and of `header_names` in any case;
    `name` is lower-case. Lines of one name in one request are joined by ", "; a value is `cut` at 512 bytes. At most 16 different values
    a name, end and flow.

    Raises EvidenceError where the captures are not those that were indexed (a capture that is still being written), OSError where one
    vanished or the disk is full.
    """
    for table in COLUMNS:
        query(db, f"DROP TABLE IF EXISTS {table}")
    for number, index in enumerate(indexes):
        with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder:
            _read(index, Path(folder), header_names, progress)
            for table, columns in COLUMNS.items():
                path = str(Path(folder) / f"{table}.parquet").replace("'", "''")
                sent = f"""(SELECT ({number}::BIGINT << 32) | flow AS id, * EXCLUDE (flow)
                    FROM read_parquet('{path}', file_row_number = true)) AS sent
                    JOIN (SELECT id, client_ip, client_port, server_ip, server_port FROM flow) AS turned USING (id)"""
                ends = "(client_ip, client_port), (server_ip, server_port)"
                if query(db, f"SELECT count(*) FROM {sent} WHERE (sender_ip, sender_port) NOT IN ({ends})") != [(0,)]:
                    raise EvidenceError(index.name, "read other flows of its captures than were indexed", CHANGED)
                select = f"""SELECT id, (sender_ip, sender_port) = (client_ip, client_port) AS from_client, {columns}
                    FROM {sent} ORDER BY id, file_row_number"""
                query(db, f"CREATE TABLE {table} AS {select}" if number == 0 else f"INSERT INTO {table} {select}")
    if not indexes:
        raise ValueError("no vantage point has a capture")


def _read(index: VantageIndex, folder: Path, header_names: Sequence[str], progress: RevealProgress | None) -> None:
    """One pass over one vantage point's captures, held against what the scan found in them."""
    total = sum(file.size for file in index.files)
    tell = None if progress is None else lambda done: progress(index.name, done, total)
    summary = _core.reveal([str(path) for path in index.paths], str(folder), list(header_names), tell, threads_for(index.paths))
    for file, path, error in zip(index.files, index.paths, summary["errors"], strict=True):
        if error != file.error:
            what = error or "it can be read now"
            raise EvidenceError(plain_text(str(path)), f"{what}, expected the capture as it was indexed", CHANGED)
    if summary["flows"] != index.flows:
        raise EvidenceError(index.name, f"read {summary['flows']} flows of its captures, expected {index.flows} as indexed", CHANGED)
