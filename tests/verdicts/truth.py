"""A lab case's truth goes in; what a report says against it comes out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tcpwhy import lab
from tcpwhy.diagnosis.finding import CONFIDENCES, Report

Ends = tuple[str, str]


class Said(NamedTuple):
    """What a report says of one connection."""

    cause: str
    confidence: str


def failed(case: lab.LabCase) -> dict[Ends, str]:
    """The cause of each failed connection."""
    return {(entry["client"], entry["server"]): entry["cause"] for entry in lab.failed_of(case)}


def tolerated(case: lab.LabCase) -> set[Ends]:
    """Connections on which neither verdict is wrong."""
    listed = case.truth["tolerated"]
    assert isinstance(listed, list)
    ends = [str(entry).partition("-") for entry in listed]
    return {(client, server) for client, _, server in ends}


def said(report: Report) -> dict[Ends, set[Said]]:
    """All that the findings say, by connection."""
    found: dict[Ends, set[Said]] = {}
    for finding in report.findings:
        for one in finding.connections:
            found.setdefault((one.client, one.server), set()).add(Said(finding.cause, finding.confidence))
    return found


def wrong(case: lab.LabCase, report: Report) -> list[str]:
    """Accusations of healthy connections, wrong causes that are more than possible, and lists that lack the true cause."""
    truth, spared, problems = failed(case), tolerated(case), []
    for ends, verdicts in said(report).items():
        if ends not in truth:
            if ends not in spared:
                problems.append(f"{ends} is healthy, and was said to have failed of {sorted(verdicts)}")
            continue
        sure = [one for one in verdicts if one.confidence != "possible" and one.cause != truth[ends]]
        if sure:
            problems.append(f"{ends} failed of {truth[ends]}, and was said to have failed of {sure}")
        elif truth[ends] not in {one.cause for one in verdicts}:
            problems.append(f"{ends} failed of {truth[ends]}, which is not among {sorted(verdicts)}")
    return problems


def missed(case: lab.LabCase, report: Report, least: str) -> list[str]:
    """Failed connections without the true cause at `least` so sure."""
    found = said(report)
    wanted = CONFIDENCES[: [str(one) for one in CONFIDENCES].index(least) + 1]
    return [
        f"{ends}: {cause} is not among {sorted(found.get(ends, set()))}"
        for ends, cause in failed(case).items()
        if not any(one.cause == cause and one.confidence in wanted for one in found.get(ends, set()))
    ]


def places(case: lab.LabCase) -> list[Path]:
    """The folders of the vantage points."""
    return sorted(path for path in case.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
