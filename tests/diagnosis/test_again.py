"""One opened case is asked twice: the second answer is the first."""

from __future__ import annotations

from pathlib import Path

import tcpwhy
from tests.packets import Tcp, exchange, write_pcap


def test_a_case_can_be_diagnosed_again(tmp_path: Path) -> None:
    silent = [Tcp(1_000 + at, "10.0.0.9:40009", "10.0.0.1:80", "S", 5, ip_id=at % 7 + 1, stamps=(at, 0)) for at in (0, 1_000, 3_000, 7_000)]
    others = [one for number in range(4) for one in exchange(f"10.0.0.9:{41_000 + number}", "10.0.0.1:80", number * 2_500, isn=number * 9)]
    capture = write_pcap(tmp_path / "client.pcap", sorted([*silent, *others], key=lambda one: one.at_ms))
    with tcpwhy.open_case(capture, index=False) as case:
        first = case.diagnosis().report
        assert first.totals.failed == 1
        assert case.diagnosis().report == first
