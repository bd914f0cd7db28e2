"""Captures go in; the tables of what they say of clients come out as rows, and what tshark says of the same packets."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tcpwhy.tables.flows import connect, load_flows, query
from tcpwhy.tables.index import ensure_index
from tcpwhy.tables.revealed import load_revealed


@dataclasses.dataclass(frozen=True)
class Told:
    """The three tables, each row as a dict, with `client` as `ip:port` of the flow's client."""

    claims: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    headers: list[dict[str, Any]]


def told(captures: Sequence[Path], names: Sequence[str] = ()) -> Told:
    """Scans the captures as one vantage point, and reads what they reveal."""
    with tempfile.TemporaryDirectory() as home, connect() as db:
        index, _ = ensure_index("here", captures, Path(home))
        load_flows(db, [index])
        load_revealed(db, [index], names)
        tables = []
        for table in ("claim", "request", "header"):
            client = "client_ip || ' ' || client_port AS client"
            rows = query(db, f"SELECT {client}, {table}.* FROM {table} JOIN flow USING (id) ORDER BY id, from_client, {table}.rowid")
            columns = ["client", *(name for name, *_ in query(db, f"DESCRIBE {table}"))]
            tables.append([dict(zip(columns, row, strict=True)) for row in rows])
        return Told(*tables)


def tshark(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
    """The fields of each packet that tshark's own dissectors find; several of one kind are parted by tabs of their own (`|`)."""
    command = ["tshark", "-n", "-r", str(capture), "-o", "tcp.reassemble_out_of_order:TRUE", "-Y", display_filter, "-T", "fields"]
    command += ["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"]
    for field in fields:
        command += ["-e", field]
    env = {**os.environ, "HOME": str(capture.parent)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return [line.split("\t") for line in done.stdout.splitlines()]
