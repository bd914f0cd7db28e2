"""Lab cases with those pieces taken away without which something else once seemed sure go in; nothing wrong may be said of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tcpwhy
from tests.lab.cases import LabCases
from tests.verdicts.truth import missed, wrong

pytestmark = pytest.mark.lab

AWAY = (
    # The director's tables, and how else the address stands on real servers: one of these seemed to be the only end of the way.
    ("vip-missing-director", ("client/*.pcap*", "*/state/*ip*vs*", "app-02/state")),
    # The real servers that drop everything: the one that is left looked like the only one.
    ("lvs-tun-rp-filter-loose", ("app-01", "app-03", "director/state/*ip*vs*")),
    ("lvs-tun-rp-filter-loose", ("app-01", "app-03", "director/state", "app-02/state")),
    # What drops all packets of some connections has a rate of loss, and loses none by chance.
    ("asymmetric-drop", ("firewall",)),
    # The server answers by an interface of which nothing was captured; and a router between the captures drops because of the source.
    ("reverse-path-filter-client", ("client", "server/eth1.pcap")),
    ("reverse-path-filter-router", ("router-a",)),
    # What moves to another way, and is dropped by a firewall there, has not come to another backend.
    ("asymmetric-drop-moved", ("server", "*/state")),
)


@pytest.mark.parametrize(("name", "away"), AWAY, ids=[f"{name} without {' and '.join(away)}" for name, away in AWAY])
def test_less_evidence_weakens_and_never_turns_wrong(all_lab_cases: LabCases, name: str, away: tuple[str, ...], tmp_path: Path) -> None:
    case = all_lab_cases.case(name)
    shutil.copytree(case.folder, tmp_path / "case", ignore=shutil.ignore_patterns(".tcpwhy"))
    for pattern in away:
        found = sorted((tmp_path / "case").glob(pattern))
        assert found, pattern
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    with tcpwhy.open_case(tmp_path / "case", index=False) as opened:
        report = opened.diagnosis().report
    assert wrong(case, report) == []
    assert missed(case, report, "possible") == []
