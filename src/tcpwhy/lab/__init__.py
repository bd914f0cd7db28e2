"""The lab: real failures on a real Linux kernel; scenario names come in, cases whose truth is known go out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from .options import CHOICES, Options, UnknownOption
from .run import LabCase, RunFailed, run_scenarios
from .runners import CannotRun, choose
from .scenario import Scenario
from .scenarios import UnknownScenario, by_name, catalogue

__all__ = [
    "CHOICES",
    "CannotRun",
    "LabCase",
    "Options",
    "RunFailed",
    "Scenario",
    "UnknownOption",
    "UnknownScenario",
    "as_json",
    "by_name",
    "catalogue",
    "choose",
    "failed_of",
    "matching",
    "run_scenarios",
]


def matching(pattern: str) -> list[str]:
    """The names that a pattern with `*` stands for; raises UnknownScenario where it stands for none."""
    names = [name for name in catalogue() if fnmatchcase(name, pattern)]
    if not names:
        raise UnknownScenario(f"no scenario is called `{pattern}`, `tcpwhy lab list` names them")
    return names


def failed_of(case: LabCase) -> Sequence[Mapping[str, str]]:
    """The failed connections of a case's truth: client, server, cause, first."""
    failed = case.truth["failed"]
    assert isinstance(failed, list)
    return failed


def as_json(rows: object) -> str:
    """Rows as one JSON text."""
    return json.dumps(rows, indent=1, ensure_ascii=False)
