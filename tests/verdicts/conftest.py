"""The lab's cases, shared with tests/lab."""

from __future__ import annotations

from tests.lab.conftest import all_lab_cases, lab_case

__all__ = ["all_lab_cases", "lab_case"]
