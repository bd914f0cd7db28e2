"""Cases whose captures are cut down to TCP go in, as a filter `tcp` makes them; no second claimant is then ruled out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import tcpwhy
from tests.lab.cases import LabCases
from tests.verdicts.truth import wrong

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("name", ["arp-conflict", "arp-conflict-dr", "gateway-502-nexthop-go"])
def test_a_capture_of_tcp_alone_does_not_rule_out_a_second_claimant(all_lab_cases: LabCases, name: str, tmp_path: Path) -> None:
    case = all_lab_cases.case(name)
    shutil.copytree(case.folder, tmp_path / "case", ignore=shutil.ignore_patterns(".tcpwhy"))
    captures = sorted((tmp_path / "case").rglob("*.pcap"))
    assert captures
    for capture in captures:
        whole = capture.rename(capture.with_suffix(".whole"))
        subprocess.run(["tcpdump", "-r", str(whole), "-w", str(capture), "tcp"], check=True, capture_output=True)
        whole.unlink()
    with tcpwhy.open_case(tmp_path / "case", index=False) as opened:
        report = opened.diagnosis().report
    assert wrong(case, report) == []
    sure = {finding.cause for finding in report.findings if finding.confidence != "possible"}
    # Backends behind links of their own are two networks by their hardware addresses; hosts of one network may both claim the address.
    assert sure <= ({"mid-connection-rehash"} if name.startswith("gateway") else set())
