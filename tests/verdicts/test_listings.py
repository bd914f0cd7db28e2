"""Lab cases whose captures are given as text only: the verdict is the same as from the captures, or weaker, and never wrong."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy import lab
from tests.listings.printing import printed
from tests.verdicts.truth import places, wrong

pytestmark = pytest.mark.lab

FORMS = ("tcpdump -n", "tcpdump -nv", "tcpdump -nevvSXtttt")
ONE_OF = 6
"""So many of the cases are printed: each takes as long as the case itself."""


def test_a_listing_says_no_other_cause_than_the_capture(lab_case: lab.LabCase, tmp_path: Path) -> None:
    number = zlib.crc32(lab_case.folder.name.encode())
    if number % ONE_OF:
        pytest.skip("another case is printed")
    form = FORMS[number // ONE_OF % len(FORMS)]
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
