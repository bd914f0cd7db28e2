"""Fixtures of the lab's tests: every scenario's case, and each of them by itself."""

from __future__ import annotations

import os

import pytest

from tcpwhy import lab
from tests.lab.cases import LabCases, shared_folder


@pytest.fixture(scope="session")
def all_lab_cases(tmp_path_factory: pytest.TempPathFactory) -> LabCases:
    """Every scenario's case."""
    return LabCases(shared_folder(tmp_path_factory))


@pytest.fixture(scope="module", params=sorted(lab.catalogue()))
def lab_case(request: pytest.FixtureRequest, all_lab_cases: LabCases) -> lab.LabCase:
    """One case after the other, each for all tests of a module; skipped where it cannot be made here, failed where it did not happen."""
    name = str(request.param)
    try:
        return all_lab_cases.case(name)
    except lab.CannotRun as reason:
        if os.environ.get("CI"):
            pytest.fail(f"{name} cannot be made here: {reason}")
        pytest.skip(f"{name}: {reason}")
    except lab.RunFailed as failure:
        pytest.fail(f"{name} did not happen: {failure}")
