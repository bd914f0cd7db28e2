"""Every scenario really happens: its own assertions held, and its case has the form that the contract promises."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tcpwhy import lab
from tcpwhy.causes import ALL_IDS

pytestmark = pytest.mark.lab

GATEWAYS = sorted(lab.matching("gateway-502*"))
#: what can name a client (tcpwhy.lab.scenario.RealClient)
EVIDENCE = {"toa", "proxy", "header", "lb-table", "lb-capture", "conntrack", "nat-capture"}
ENDPOINT = re.compile(r"(\d+(\.\d+){3}|\[[0-9a-f:]+\]):\d+")


def test_the_truth_says_what_the_scenario_declares(lab_case: lab.LabCase) -> None:
    scenario = lab.by_name(lab_case.scenario)
    failed = lab.failed_of(lab_case)
    assert {entry["cause"] for entry in failed} == ({scenario.cause} if scenario.cause else set())
    assert lab_case.truth["cause"] == scenario.cause
    assert (lab_case.truth["confidence_with_all"] is None) == (scenario.cause is None)
    assert json.loads(lab_case.expected.read_text()) == lab_case.truth


def test_the_failed_are_named_and_among_healthy_ones(lab_case: lab.LabCase) -> None:
    for entry in lab.failed_of(lab_case):
        assert ENDPOINT.fullmatch(entry["client"])
        assert ENDPOINT.fullmatch(entry["server"])
        assert entry["first"].endswith("Z")
    healthy = lab_case.truth["healthy_connections"]
    assert isinstance(healthy, int)
    assert 20 <= healthy <= 250


def test_each_vantage_point_has_evidence_and_the_captures_are_intact(lab_case: lab.LabCase) -> None:
    captures = sorted(lab_case.folder.glob("*/*.pcap*"))
    places = {capture.parent.name for capture in captures}
    assert places
    named = lab_case.truth["vantage_points"]
    assert isinstance(named, list)
    for place in set(named) - places:
        assert (lab_case.folder / place / "state").is_dir(), f"{place} has neither captures nor state"
    assert places <= set(named)
    read = subprocess.run(["capinfos", "-Mc", *map(str, captures)], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert read.stdout.count("Number of packets") == len(captures)


@pytest.mark.parametrize("lab_case", GATEWAYS, indirect=True)
def test_a_gateway_has_its_log(lab_case: lab.LabCase) -> None:
    logs = list((lab_case.folder / "gateway").glob("*.log"))
    assert [log.name for log in logs] in (["error.log"], ["proxy.log"])
    if lab.failed_of(lab_case) and "spray" not in lab_case.scenario:
        assert logs[0].read_text().strip()


@pytest.mark.parametrize("lab_case", sorted(lab.matching("real-client-*")), indirect=True)
def test_the_truth_about_clients_rests_on_what_the_case_holds(lab_case: lab.LabCase) -> None:
    rows = lab_case.truth["clients"]
    assert isinstance(rows, list)
    assert len({(row["client"], row["server"], row["first"]) for row in rows}) == len(rows)
    assert any(row["open_before_capture"] for row in rows)
    assert any(row["headers"] for row in rows)
    for row in rows:
        assert ENDPOINT.fullmatch(row["client"])
        assert ENDPOINT.fullmatch(row["server"])
        assert set(row["evidence"]) <= EVIDENCE
        assert row["evidence"] or row["real_client"] is None
        assert row["real_client"] not in row["also_right"]
        assert not ({"toa", "proxy"} & set(row["evidence"]) and row["open_before_capture"])
    if lab_case.scenario == "real-client-unknown":
        assert {row["real_client"] for row in rows} == {None}
        assert not any(row["also_right"] for row in rows)


def test_every_faulty_scenario_has_a_healthy_twin() -> None:
    scenarios = lab.catalogue()
    for name, scenario in scenarios.items():
        if scenario.cause is not None:
            assert scenario.cause in ALL_IDS
            assert scenarios[f"{name}-healthy"].twin_of == name
