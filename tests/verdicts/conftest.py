"""The lab's cases, shared with tests/lab, and each of them opened for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tcpwhy
from tcpwhy import lab
from tests.lab.conftest import all_lab_cases, lab_case
from tests.verdicts.opened import OpenedCase

__all__ = ["all_lab_cases", "lab_case", "opened"]


@pytest.fixture(scope="module")
def opened(lab_case: lab.LabCase) -> Iterator[OpenedCase]:
    """One case after the other with all its evidence; pytest runs a case's tests one after the other, so one is open at a time."""
    with tcpwhy.open_case(lab_case.folder, index=False) as case:
        yield OpenedCase(lab_case, case)
