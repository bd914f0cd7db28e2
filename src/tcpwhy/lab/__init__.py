"""The lab: real failures on a real Linux kernel; scenario names come in, cases whose truth is known go out."""

from __future__ import annotations

from .options import CHOICES, Options, UnknownOption
from .run import LabCase, RunFailed, run_scenarios
from .runners import CannotRun
from .scenario import Scenario
from .scenarios import by_name, catalogue

__all__ = [
    "CHOICES",
    "CannotRun",
    "LabCase",
    "Options",
    "RunFailed",
    "Scenario",
    "UnknownOption",
    "by_name",
    "catalogue",
    "run_scenarios",
]
