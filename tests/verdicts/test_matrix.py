"""Every lab case against every cause: Found on its own cases, as far as evidence allows; with less evidence weaker, never wrong."""

from __future__ import annotations

import pytest

import tcpwhy
from tcpwhy import lab
from tcpwhy.causes import Found, Open, catalogue
from tests.verdicts.opened import OpenedCase
from tests.verdicts.truth import failed, missed, places, tolerated, wrong

pytestmark = pytest.mark.lab


def test_all_evidence_gives_the_right_verdict(lab_case: lab.LabCase, opened: OpenedCase) -> None:
    report = opened.diagnosis.report
    assert wrong(lab_case, report) == []
    least = lab_case.truth["confidence_with_all"]
    if least is not None:
        assert missed(lab_case, report, str(least)) == []
    else:
        assert report.totals.failed == 0 or tolerated(lab_case)
    assert report.totals.connections >= len(failed(lab_case)) + 20
    assert not report.incomplete


def test_one_vantage_point_weakens_a_verdict_and_never_turns_it_wrong(lab_case: lab.LabCase) -> None:
    for place in places(lab_case):
        with tcpwhy.open_case([f"{place.name}={place}"], index=False) as case:
            report = case.diagnosis().report
        sure = [one for one in wrong(lab_case, report) if "is healthy" not in one or failed(lab_case) == {}]
        assert sure == [], f"with {place.name} alone"
        assert all(finding.confidence != "confirmed" for finding in report.findings if not _has_state(lab_case))


def _has_state(case: lab.LabCase) -> bool:
    return any(case.folder.glob("*/state"))


def test_each_cause_is_found_on_its_own_cases_only_and_its_columns_never_hide_it(lab_case: lab.LabCase, opened: OpenedCase) -> None:
    truth, spared = failed(lab_case), tolerated(lab_case)
    # Where the evidence of both places allows no more than a possible cause, the cause must be left standing.
    enough = Found if lab_case.truth["confidence_with_all"] != "possible" else (Found, Open)
    hit: set[tuple[str, str]] = set()
    problems = []
    for connection in opened.connections:
        ends = (str(connection.client), str(connection.server))
        for cause in catalogue():
            verdict = cause.examine(connection)
            if isinstance(verdict, enough) and truth.get(ends) == cause.id:
                hit.add(ends)
            if not isinstance(verdict, Found):
                continue
            if not verdict.exhibits:
                problems.append(f"{cause.id} on {ends} shows nothing")
            if truth.get(ends) != cause.id and ends not in spared:
                problems.append(f"{cause.id} on {ends}: {verdict.statement}")
            if cause.id not in opened.suspected[connection.number]:
                problems.append(f"SUSPECT of {cause.id} hides {ends}")
    assert problems == []
    assert set(truth) <= hit


def test_the_columns_hide_no_failure(opened: OpenedCase) -> None:
    by_columns = {one.connection.number for one in opened.diagnosis.judged}
    by_packets = {one.number for one in opened.connections if one.failure is not None}
    assert by_packets == by_columns
