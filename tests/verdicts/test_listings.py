"""Lab cases whose captures are given as text only: the verdict is the same as from the captures, or weaker, and never wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy import lab
from tcpwhy.causes import catalogue
from tests.listings.printing import printed
from tests.verdicts.truth import places, wrong

pytestmark = pytest.mark.lab

PRINTED = {
    "tcpdump -n": (
        "accept-queue-overflow", "gateway-502-hash-seed-go", "healthy-port-reuse", "peer-vanished-unreachable", "rejected-server",
        "syn-lost-server-policy", "zero-window-killed",
    ),
    "tcpdump -nv": (
        "asymmetric-drop", "healthy-mid-stream", "injected-reset-both", "keepalive-race", "lvs-tun-rp-filter-loose",
        "stale-connection-time-wait", "synack-lost-reused-port-inside",
    ),
    "tcpdump -nevvSXtttt": (
        "arp-conflict", "gateway-502-nexthop-go", "healthy-direct-return", "mtu-blackhole-download", "port-closed-stopped",
        "reset-with-unread-data-early", "vip-missing-dr",
    ),
    "tcpdump -ttt": (
        "idle-timeout-reset", "keepalive-race-nginx", "packet-loss-most", "port-closed", "reverse-path-filter-server-healthy",
        "slow-server-client", "timestamp-rejected-rfc1337",
    ),
    "tshark": (
        "arp-conflict-deaf", "asymmetric-drop-answers", "idle-timeout", "local-redirect-hang-up-healthy", "local-redirect-healthy",
        "real-client-haproxy-http", "timestamp-rejected-reset-eaten-healthy",
    ),
    "tshark absolute": (
        "keepalive-race-late", "local-redirect-istio", "local-redirect-stranger", "rejected-client-icmp", "reverse-path-filter-rule",
        "slow-server-nginx", "synack-lost-nginx-504",
    ),
}  # fmt: skip
"""Which cases are printed in which form: a printed case takes as long to judge as the case itself."""

FORM = {name: form for form, names in PRINTED.items() for name in names}


def test_each_cause_is_printed_at_least_once() -> None:
    causes = {cause.id for cause in catalogue()}
    assert {lab.by_name(name).cause for name in FORM} & causes == causes


@pytest.mark.parametrize("lab_case", sorted(FORM), indirect=True)
def test_a_listing_says_no_other_cause_than_the_capture(lab_case: lab.LabCase, tmp_path: Path) -> None:
    form = FORM[lab_case.scenario]
    for place in places(lab_case):
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            copy = tmp_path / place.name / file.relative_to(place)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".pcap":
                copy.with_suffix(".txt").write_text(printed(file, form))
            else:
                shutil.copy(file, copy)
    with tcpwhy.open_case(str(tmp_path), index=False) as case:
        report = case.diagnosis().report
    assert wrong(lab_case, report) == [], form
    packets = [one for finding in report.findings for one in finding.evidence if one.kind == "packet"]
    assert all(one.line is not None and one.frame is None for one in packets)
