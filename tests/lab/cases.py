"""The lab's cases for tests: nothing comes in, every scenario's case goes out, made once a session.

With TCPWHY_LAB_DIR set the cases are kept there and used again; else they lie in pytest's folder of the session.
`python -m tests.lab.cases FOLDER` makes them ahead of the tests, which wait for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tcpwhy import lab
from tcpwhy.lab.options import Options, with_words


@dataclass(frozen=True)
class LabCases:
    """`cases` by scenario; `cannot_run` and `did_not_happen` say why the others are not there."""

    cases: Mapping[str, lab.LabCase]
    cannot_run: Mapping[str, str]
    did_not_happen: str


@cache
def lab_cases(folder: Path) -> LabCases:
    """Every scenario's case with its default options and seed 1, made in `folder` unless it is there already."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cannot_run, wanted = {}, []
        for name, scenario in lab.catalogue().items():
            try:
                lab.choose(scenario.needs)
            except lab.CannotRun as reason:
                cannot_run[name] = str(reason)
            else:
                wanted.append(name)
        missing = [name for name in wanted if not (folder / f"{name}.expected.json").exists()]
        told = folder / "did-not-happen"  # so that the next worker does not try again what five attempts did not do
        if missing and not _of_this_session(told):
            told.unlink(missing_ok=True)
            try:
                lab.run_scenarios(missing, folder)
            except lab.RunFailed as failure:
                told.write_text(f"{_session()}\n{failure}")
        did_not_happen = told.read_text().partition("\n")[2] if told.exists() else ""
    cases = {name: read_case(folder, name) for name in wanted if (folder / f"{name}.expected.json").exists()}
    return LabCases(cases, cannot_run, did_not_happen)


def read_case(folder: Path, name: str) -> lab.LabCase:
    """A case as an earlier run left it."""
    expected = folder / f"{name}.expected.json"
    truth = json.loads(expected.read_text())
    return lab.LabCase(
        name=name,
        scenario=truth["scenario"],
        seed=truth["seed"],
        kernel=truth["kernel"],
        options=with_words(Options(), truth["options"]),
        folder=folder / name,
        expected=expected,
        truth=truth,
    )


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder of this session's cases, the same one for all parallel workers."""
    named = os.environ.get("TCPWHY_LAB_DIR")
    if named:
        folder = Path(named)
    else:
        base = factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "lab-cases"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _session() -> str:
    """What the processes of one run of the tests have in common: scripts/test.py sets the first, pytest-xdist the second."""
    return os.environ.get("TCPWHY_LAB_SESSION") or os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())


def _of_this_session(told: Path) -> bool:
    return told.exists() and told.read_text().partition("\n")[0] == _session()


def main(folder: Path) -> int:
    """Make what `folder` lacks; ended by SIGTERM, it ends its worlds and removes their scratch as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lab_cases(folder)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
