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
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import pytest

from tcpwhy import lab
from tcpwhy.lab.options import Options, with_words

BETWEEN_LOOKS_S = 0.2


@dataclass(frozen=True)
class LabCases:
    """Every scenario's case with its default options and seed 1, in `folder`."""

    folder: Path

    def case(self, name: str) -> lab.LabCase:
        """One scenario's case: at once if it is there, else when whoever makes cases has made it; here, if nobody does.

        Raises lab.CannotRun where this machine cannot make it, and lab.RunFailed where it did not happen.
        """
        lab.choose(lab.by_name(name).needs)
        with (self.folder / "lock").open("w") as lock:
            while (case := self._look_for(name)) is None and not _got(lock):
                time.sleep(BETWEEN_LOOKS_S)
            if case is None:
                self._make_missing()
                case = self._look_for(name)
        if case is None:
            raise lab.RunFailed((self.folder / "did-not-happen").read_text().partition("\n")[2])
        return case

    def make(self) -> None:
        """Makes all that is missing and that this machine can make; waits where another process does."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._make_missing()

    def _make_missing(self) -> None:
        missing = [name for name in lab.catalogue() if _can_be_made(name) and self._look_for(name) is None]
        told = self.folder / "did-not-happen"  # so that the next process does not try again what five attempts did not do
        if missing and not _of_this_session(told):
            told.unlink(missing_ok=True)
            try:
                lab.run_scenarios(missing, self.folder)
            except lab.RunFailed as failure:
                told.write_text(f"{_session()}\n{failure}")

    def _look_for(self, name: str) -> lab.LabCase | None:
        try:
            return read_case(self.folder, name)
        except (FileNotFoundError, json.JSONDecodeError):  # not there, or its truth, the last of it, is being written
            return None


def _got(lock: IO[str]) -> bool:
    """Whether the lock is this process's now, for it was nobody's."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _can_be_made(name: str) -> bool:
    try:
        lab.choose(lab.by_name(name).needs)
    except lab.CannotRun:
        return False
    return True


@cache
def comes_late(name: str) -> bool:
    """Whether a scenario's case is among the last to be made: those in User Mode Linux are."""
    return _can_be_made(name) and lab.choose(lab.by_name(name).needs) == "uml"


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
        LabCases(folder).make()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
