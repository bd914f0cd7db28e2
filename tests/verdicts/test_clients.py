"""Every lab case of real clients: each named right with all its evidence, and with less of it named right or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy import lab
from tcpwhy.clients.row import ClientRow
from tests.verdicts.opened import OpenedCase
from tests.verdicts.real_clients import HEADER, KnownClient, disputed, known, less, misnamed, paired, values

CASES = sorted(lab.matching("real-client-*"))
#: what an HTTP proxy says is to be trusted only where somebody says how many there are
BEHIND_HTTP = {name: 1 for name in CASES if "haproxy-http" in name}

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("lab_case", CASES, indirect=True)]


def is_state(file: str) -> bool:
    return file.startswith("state/")


#: name → which files (vantage point, file) stay
LESS: dict[str, Callable[[str, str], bool]] = {
    "servers alone": lambda place, file: place.startswith("nginx"),
    "no balancer": lambda place, file: place != "balancer",
    "no nat node": lambda place, file: place != "nat",
    "no state": lambda place, file: not is_state(file),
    "no captures but the servers'": lambda place, file: is_state(file) or place.startswith("nginx"),
    "the balancer's captures and the NAT node's state": lambda place, file: is_state(file) == (place == "nat") or place.startswith("nginx"),
}
#: evidence → the file that holds it
HELD_BY = {
    "toa": ("nginx-01", "eth0.pcap"),
    "proxy": ("nginx-01", "eth0.pcap"),
    "lb-table": ("balancer", "state/ipvsadm-connections.txt"),
    "lb-capture": ("balancer", "eth0.pcap"),
}


def ask(case: tcpwhy.Case, name: str) -> list[ClientRow]:
    return list(case.clients(headers=[HEADER], trusted_hops=BEHIND_HTTP.get(name)))


def test_all_evidence_names_each_client_and_nobody_else(lab_case: lab.LabCase, opened: OpenedCase) -> None:
    wrong = disputed(known(lab_case.truth), ask(opened.case, lab_case.scenario))
    assert not wrong, "\n".join(wrong)


def test_no_hop_is_trusted_unasked(lab_case: lab.LabCase, opened: OpenedCase) -> None:
    wrong = misnamed(known(lab_case.truth), opened.case.clients(headers=[HEADER]))
    assert not wrong, "\n".join(wrong)


def test_less_evidence_names_fewer_clients_and_none_wrong(lab_case: lab.LabCase, tmp_path: Path) -> None:
    truth = known(lab_case.truth)
    wrong = []
    for name, keeps in LESS.items():
        with tcpwhy.open_case(less(lab_case, tmp_path, keeps), index=False) as case:
            rows = ask(case, lab_case.scenario)
        wrong += [f"{name}: {problem}" for problem in misnamed(truth, rows)]
        for one, row in paired(truth, rows):
            if row is None or values(row.headers) != one.teams:
                wrong.append(f"{name}: {one} has the row {row}")
            elif row.real_client is None and can_be_named(one, keeps, lab_case.folder):
                wrong.append(f"{name}: {one} was not named, candidates {row.candidates}")
    assert not wrong, "\n".join(wrong)


def can_be_named(one: KnownClient, keeps: Callable[[str, str], bool], folder: Path) -> bool:
    """Whether what stays names the client, as the balancer sees it at least."""
    held = (place_and_file for evidence, place_and_file in HELD_BY.items() if evidence in one.evidence)
    return any(keeps(place, file) and (is_state(file) or (folder / place / file).exists()) for place, file in held)
