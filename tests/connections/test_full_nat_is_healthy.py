"""What a balancer in full NAT does to a connection is no failure, wherever it was seen and without its handshake too."""

from __future__ import annotations

from pathlib import Path

import pytest

import tcpwhy
from tests.connections.full_nat import back, front, requests, window
from tests.packets import write_pcap

PROXY = b"PROXY TCP4 203.0.113.7 198.51.100.10 50112 80\r\n"


@pytest.mark.parametrize("header", [b"", PROXY])
@pytest.mark.parametrize("from_ms", [0, 600])
@pytest.mark.parametrize(
    "places", [("balancer",), ("client", "balancer", "backend"), ("client", "backend"), ("balancer front", "balancer back")]
)
def test_no_connection_through_full_nat_is_accused(tmp_path: Path, places: tuple[str, ...], from_ms: int, header: bytes) -> None:
    before, behind = [], []
    for number in range(12):
        seen = front(
            f"203.0.113.{number}:{50_112 + number}",
            requests(3, every_ms=4_000),
            at_ms=number * 37,
            isn=number * 300_000_000,
            server_isn=4_200_000_000 - number * 41_000_000,
            fin=number % 2 == 0,
        )
        before += seen
        behind += back(seen, f"10.9.0.2:{41_003 + number}", delta=(number + 1) * 77_777_777, header=header)
    for place in places:
        held = {"client": before, "backend": behind, "balancer front": before, "balancer back": behind}.get(place, [*before, *behind])
        held = sorted(window(held, from_ms, 1e9), key=lambda packet: packet.at_ms)
        write_pcap(tmp_path / place / "a.pcap", held, clock_s=2.5 if place == "backend" else 0.0)
    with tcpwhy.open_case(tmp_path, index=False) as case:
        told = case.diagnosis().report
    assert (told.totals.connections, told.totals.failed, told.findings) == (24, 0, ())
