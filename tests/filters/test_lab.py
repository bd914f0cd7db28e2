"""Cases of a real balancer in full NAT go in; each printed expression must pick that client's connections and nobody else's."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tcpwhy import lab
from tcpwhy.filters import Wanted, parse_target, pick_layouts
from tcpwhy.filters.tcpdump import tcpdump_expression
from tests.lab.cases import LabCases
from tests.lab.conftest import all_lab_cases

pytestmark = pytest.mark.lab

__all__ = ["all_lab_cases"]

_ENDS = re.compile(r"IP6? (\S+)\.(\d+) > (\S+)\.(\d+):")


@pytest.mark.parametrize("name", ["real-client-dpvs-ipv6", "real-client-offsets"])
def test_tcpdump_picks_each_clients_connections(all_lab_cases: LabCases, name: str) -> None:
    try:
        case = all_lab_cases.case(name)
    except lab.CannotRun as reason:
        pytest.skip(f"{name}: {reason}")
    rows = json.loads(case.expected.read_text())["clients"]
    names: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        for right in (row["real_client"], *row.get("also_right", ())):
            if right and parse_target(right).port is not None:
                names[right].add((row["client"], row["server"]))
    captures = sorted(case.folder.glob("nginx-*/*.pcap*"))
    picked = {client: {pair for capture in captures for pair in _pairs(capture, client)} for client in names}
    assert {client: pairs - names[client] for client, pairs in picked.items() if pairs - names[client]} == {}
    told = [row for row in rows if "toa" in row["evidence"]]
    found = set().union(*picked.values())
    assert [row["client"] for row in told if (row["client"], row["server"]) not in found] == []
    assert len(told) > 10


def _pairs(capture: Path, client: str) -> set[tuple[str, str]]:
    target = parse_target(client)
    expression = tcpdump_expression(Wanted(target, pick_layouts((), target)))
    done = subprocess.run(["tcpdump", "-nn", "-r", str(capture), expression], capture_output=True, text=True, check=True)
    return {(_end(found[1], found[2]), _end(found[3], found[4])) for found in _ENDS.finditer(done.stdout)}


def _end(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
