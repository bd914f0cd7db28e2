"""All test suites run, and one plain summary goes out; exit status 0 only where every test of each passed.

A suite without a single test counts as failed: an empty run proves nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
SESSION = f"{os.getpid()} {time.time_ns()}"  # of all processes that this run starts
CARGO = ("cargo", "test", "--locked", "--manifest-path", "rust/Cargo.toml")
WORKERS = max(2, min(8, os.cpu_count() or 1))
"""Processes of pytest: some of the tests wait most of their time."""

BESIDE = ("-m", "not alone", "-n", str(WORKERS), "--dist", "loadscope", "--no-loadscope-reorder")
ALONE = ("-m", "alone")

CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;", re.MULTILINE)


@dataclass
class Suite:
    """What one suite did; `status` is its process's exit status."""

    name: str
    status: int
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)
    """Why each skipped test was skipped."""

    @property
    def succeeded(self) -> bool:
        """Whether every test that ran passed, and at least one ran."""
        return self.status == 0 and self.failed == 0 and self.passed > 0


@contextmanager
def lab_cases_ahead(folder: Path) -> Iterator[None]:
    """Have the lab's cases made in `folder` while the tests that need none of them run: making them is mostly waiting.

    What goes wrong with it shows in the tests that need a case: they wait for it, and make what is missing themselves.
    """
    with subprocess.Popen([sys.executable, "-m", "tests.lab.cases", str(folder)], cwd=ROOT, env=lab_environment(folder)) as making:
        try:
            yield
        finally:
            making.terminate()


def lab_environment(folder: Path) -> dict[str, str]:
    """The environment in which pytest takes the lab's cases from `folder`."""
    return {**os.environ, "TCPWHY_LAB_DIR": str(folder), "TCPWHY_LAB_SESSION": SESSION}


@dataclass
class RustTests:
    """`cargo test`, which runs beside other things; what it writes is shown when it has ended, whole."""

    process: subprocess.Popen[bytes]
    begun: float
    output: BinaryIO

    def finish(self) -> Suite:
        """Wait for the end, show the output, and count from its result lines."""
        status = self.process.wait()
        self.output.seek(0)
        text = self.output.read().decode("utf-8", "replace")
        print("--- " + " ".join(CARGO) + "\n" + text, flush=True)
        suite = Suite("cargo test", status, time.monotonic() - self.begun)
        for passed, failed, ignored in CARGO_RESULT.findall(text):
            suite.passed += int(passed)
            suite.failed += int(failed)
            suite.skipped += int(ignored)
        return suite


@contextmanager
def rust_tests_beside() -> Iterator[RustTests]:
    """Have `cargo test` run while the Python tests do; most of it is compiling, which no time depends on, so that it yields to them."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(["nice", *CARGO], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield RustTests(process, time.monotonic(), output)
        finally:
            process.terminate()
            process.wait()


def run_python_tests(arguments: list[str], environment: Mapping[str, str], name: str = "pytest") -> Suite:
    """Run pytest with these further arguments, and count from its JUnit report."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tcpwhy-test-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments]
        print("--- pytest " + " ".join(arguments), flush=True)
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        suite = Suite(name, status, time.monotonic() - begun)
        if report.exists():
            count(ElementTree.parse(report).getroot(), suite)
    return suite


def count(report: ElementTree.Element, suite: Suite) -> None:
    """Add a JUnit report's test cases to the suite."""
    for case in report.iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            suite.failed += 1
        elif skipped is not None:
            suite.skipped += 1
            suite.reasons.append(f"{case.get('classname')}.{case.get('name')}: {skipped.get('message')}")
        else:
            suite.passed += 1


def summary(suites: list[Suite]) -> str:
    """The closing lines: a row a suite, each skipped test with its reason, and the outcome."""
    rows = ["", "summary"]
    for suite in suites:
        rows.append(
            f"  {suite.name:<14}{suite.passed:>6} passed {suite.failed:>5} failed {suite.skipped:>5} skipped {suite.seconds:>7.0f} s"
        )
        rows.extend(f"    skipped: {reason}" for reason in suite.reasons)
        if suite.status != 0 and suite.failed == 0:
            rows.append(f"    {suite.name} ended with status {suite.status}")
        elif suite.passed == 0:
            rows.append(f"    {suite.name} ran no test")
    rows.append("result: all tests passed" if all(s.succeeded for s in suites) else "result: FAILED")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    """Run all suites, whatever the others do; a whole run has the lab's cases made ahead, and keeps them where it failed.

    With arguments pytest runs once, in one process: they may name a single test.
    """
    if arguments:
        with rust_tests_beside() as rust:
            alone = run_python_tests(arguments, os.environ)
            suites = [rust.finish(), alone]
    else:
        named = os.environ.get("TCPWHY_LAB_DIR")
        folder = Path(named or tempfile.mkdtemp(prefix="tcpwhy-lab-cases-"))
        folder.mkdir(parents=True, exist_ok=True)
        with lab_cases_ahead(folder), rust_tests_beside() as rust:
            python = [run_python_tests(list(BESIDE), lab_environment(folder))]
            python += [run_python_tests(list(ALONE), lab_environment(folder), "pytest, alone")]
            suites = [rust.finish(), *python]
        if not named and all(suite.succeeded for suite in suites):
            shutil.rmtree(folder)
        elif not named:
            print(f"\nthe lab's cases are kept in {folder}")
    print(summary(suites))
    return 0 if all(suite.succeeded for suite in suites) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
