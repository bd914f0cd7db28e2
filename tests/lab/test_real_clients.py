"""What a cluster's programs noted goes in, written by hand; who may be named for a connection comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcpwhy.lab.options import Options
from tcpwhy.lab.real_clients import Conversation, Served, _Known
from tcpwhy.lab.view import CaseView, Packet

SERVER, PROXY = "192.0.2.80:80", "192.0.2.1:33858"
ENTRY = "tcp 6 9 TIME_WAIT src=10.1.0.{0} dst=192.0.2.10 sport={1} dport=80 src=192.0.2.10 dst=192.0.2.99 sport=80 dport={1} [ASSURED]"
CONNTRACK = f"{ENTRY.format(5, 4001)}\n{ENTRY.format(6, 4002)}"


def shared_by(folder: Path, *clients: tuple[str, str]) -> _Known:
    """A connection of an HTTP proxy to its server that carries a request of each client (host, ip:port)."""
    notes = {"inside": ["in-1", "in-2"], "servers": ["nginx-01"], "apps": [], "conntrack": CONNTRACK, "forwards": "haproxy"}
    (folder / "notes.json").write_text(json.dumps(notes))
    view = CaseView(folder, folder, Options(), fault=False, form="http-shared")
    talks = [Conversation(end, host, 0, 10, ((f"r{at}", {}, 5),)) for at, (host, end) in enumerate(clients)]
    served = Served("nginx-01", PROXY, SERVER, 1, 9, talks, {f"r{at}" for at in range(len(clients))})
    syn = Packet("nginx-01", "eth0.pcap", 1, 1, PROXY, SERVER, 0, 0, 2, 0, None, 0, b"", 0)
    return _Known(view, served, [syn], 0)


@pytest.mark.parametrize(
    ("clients", "named"),
    [
        pytest.param([("in-1", "10.1.0.5:4001"), ("in-2", "10.1.0.6:4002")], ["192.0.2.99"], id="both behind one NAT node"),
        pytest.param([("in-1", "10.1.0.5:4001"), ("out-1", "192.0.2.7:4003")], [], id="one of them not"),
    ],
)
def test_several_clients_behind_one_nat_node_are_one_to_the_proxy(tmp_path: Path, clients: list[tuple[str, str]], named: list[str]) -> None:
    row = shared_by(tmp_path, *clients).row("", header_only=True)
    assert (row.real_client, row.also_right) == (None, named)
