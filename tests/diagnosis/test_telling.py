"""Many connections of one symptom go in; one finding for each possible cause comes out, not one for each address."""

from __future__ import annotations

from pathlib import Path

import tcpwhy
from tests.packets import Tcp, exchange, write_pcap


def test_a_scan_of_many_ports_is_one_finding_for_each_possible_cause(tmp_path: Path) -> None:
    answered = [one for at in range(4) for one in exchange(f"10.0.0.1:{41000 + at}", "10.0.0.2:80", at * 500, isn=at * 9_000_000)]
    scan = [
        Tcp(at + again, f"10.0.0.1:{50000 + port}", f"10.0.0.2:{port}", "S", 7_000 + port, ip_id=port + again)
        for port in range(1, 41)
        for at in (port * 2,)
        for again in (0, 1_000, 3_000)
    ]
    late = exchange("10.0.0.1:42000", "10.0.0.2:80", 9_000, isn=77_000_000)
    capture = write_pcap(tmp_path / "scanner.pcap", sorted([*answered, *scan, *late], key=lambda one: one.at_ms))
    with tcpwhy.open_case(capture, index=False) as case:
        findings = case.diagnose()
    lost = [finding for finding in findings if finding.cause == "syn-lost"]
    assert [(finding.confidence, finding.connection_count, finding.where) for finding in lost] == [("possible", 40, None)]
    assert len({finding.cause for finding in findings}) == len(findings)
