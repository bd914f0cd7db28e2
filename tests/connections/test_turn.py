"""Which end is the client, where nobody saw the SYN and no port tells."""

from __future__ import annotations

from pathlib import Path

import tcpwhy
from tcpwhy.tables.flows import query
from tests.connections.full_nat import REAL, Said, back, front, get, ok, window
from tests.packets import Tcp, write_pcap


def turned(folder: Path, packets: list[Tcp]) -> set[tuple[str, int]]:
    """(client, by what it was told) of each flow."""
    write_pcap(folder / "backend/a.pcap", sorted(packets, key=lambda packet: packet.at_ms))
    with tcpwhy.open_case(folder, index=False) as case:
        rows = query(case.database(), "SELECT client_ip || ':' || client_port, turned_by FROM flow")
    return {(client, by) for client, by in rows}


def open_since_long(local: str, request: bytes, answer: bytes) -> list[Tcp]:
    """A connection from a balancer's low local port, of which the first packet seen is an answer."""
    said = [Said(10, True, request), Said(20, False, answer), Said(500, True, request), Said(510, False, answer)]
    return window(back(front("203.0.113.7:50112", said), local, delta=5), 15, 9_000)


def test_the_server_of_another_connection_is_the_server(tmp_path: Path) -> None:
    known = open_since_long("10.9.0.2:41003", b"ask", b"told")
    assert turned(tmp_path, [*open_since_long("10.9.0.2:1025", b"ask", b"told"), *known]) == {("10.9.0.2:1025", 7), ("10.9.0.2:41003", 4)}


def test_an_http_answer_comes_from_the_server(tmp_path: Path) -> None:
    assert turned(tmp_path, open_since_long("10.9.0.2:1025", get(), ok())) == {("10.9.0.2:1025", 8)}


def test_the_first_data_decides_where_nothing_else_does(tmp_path: Path) -> None:
    assert turned(tmp_path, open_since_long("10.9.0.2:1025", b"ask", b"told")) == {(REAL, 5)}
