"""Fixtures of the lab's tests: every scenario's case, and each of them by itself."""

from __future__ import annotations

import os

import pytest

from tcpwhy import lab
from tests.lab.cases import LabCases, lab_cases, shared_folder


@pytest.fixture(scope="session")
def all_lab_cases(tmp_path_factory: pytest.TempPathFactory) -> LabCases:
    """Every scenario's case."""
    return lab_cases(shared_folder(tmp_path_factory))


@pytest.fixture(scope="module", params=sorted(lab.catalogue()))
def lab_case(request: pytest.FixtureRequest, all_lab_cases: LabCases) -> lab.LabCase:
    """One case after the other, each for all tests of a module; skipped where it cannot be made here, failed where it did not happen."""
    name = str(request.param)
    if name in all_lab_cases.cannot_run:
        if os.environ.get("CI"):
            pytest.fail(f"{name} cannot be made here: {all_lab_cases.cannot_run[name]}")
        pytest.skip(f"{name}: {all_lab_cases.cannot_run[name]}")
    if name not in all_lab_cases.cases:
        pytest.fail(f"{name} did not happen: {all_lab_cases.did_not_happen}")
    return all_lab_cases.cases[name]
