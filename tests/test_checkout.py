"""The checkout's commands: what they say where something is missing; no failure may look like success."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.requirements import requirements
from scripts.test import CARGO_RESULT, Suite, summary

ROOT = Path(__file__).parent.parent


def program(folder: Path, name: str, body: str) -> None:
    """A small shell program of this name."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def run(command: list[str], path: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": "/nonexistent", "PATH": path, **more}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_bare_make_lists_every_target() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in listed.splitlines()] == targets
    assert {"demo", "test", "lint", "lab", "bench"} <= set(targets)
    assert all(re.match(r"make \w+ +\S", line) for line in listed.splitlines())


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("1.87.0", False), ("1.88.0", True), ("1.100.1 (abc 2027-01-01)", True), ("0.60.0", False)],
)
def test_rust_too_old_is_named_with_the_minimum(tmp_path: Path, version: str, accepted: bool) -> None:
    program(tmp_path, "cargo", f"echo 'cargo {version}'")
    done = run(["scripts/check-prerequisites"], f"{tmp_path}:{os.environ['PATH']}", CC="true")
    assert (done.returncode == 0) is accepted, done.stderr
    if not accepted:
        assert f"Rust 1.88 or newer (found: cargo {version}" in done.stderr


def test_everything_missing_is_named_at_once(tmp_path: Path) -> None:
    program(tmp_path, "python3", "[ \"$1\" = --version ] && echo 'Python 3.9.2'")
    program(tmp_path, "cc", "exit 1")
    check = (ROOT / "scripts/check-prerequisites").read_text()
    script = tmp_path / "check"
    # An interpreter at a fixed place is looked for too; this machine may well have one there.
    script.write_text(check.replace("/usr/bin/python3", "/nonexistent/python3"))
    done = run(["/bin/sh", str(script)], str(tmp_path))
    assert done.returncode == 1
    assert "Python 3.11 or newer with venv (found: Python 3.9.2" in done.stderr
    assert "a C compiler" in done.stderr
    assert "Rust 1.88 or newer with cargo (found: none" in done.stderr


def test_a_python_without_ensurepip_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "python3", "exit 1")
    program(tmp_path, "cargo", "echo 'cargo 1.88.0'")
    program(tmp_path, "python3.14", "exit 0")
    path = f"{tmp_path}:{os.environ['PATH']}"
    check = (ROOT / "scripts/check-prerequisites").read_text()
    script = tmp_path / "check"
    script.write_text(check.replace("/usr/bin/python3", "/nonexistent/python3"))
    done = run(["/bin/sh", str(script), "python"], path, CC="true")
    assert done.stdout.strip() == f"{tmp_path}/python3.14"
    chosen = run(["/bin/sh", str(script), "python"], path, CC="true", PYTHON="/bin/true")
    assert chosen.stdout.strip() == "/bin/true"


def test_the_demo_passes_on_a_found_failure_only(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").mkdir()
    for status, expected in ((1, 0), (0, 1), (2, 1), (70, 1)):
        program(tmp_path / ".venv/bin", "tcpwhy", f'echo "verdict of $*"; exit {status}')
        done = run([str(tmp_path / "scripts/demo")], os.environ["PATH"])
        assert done.returncode == expected
        assert "verdict of diagnose examples/gateway-502" in done.stdout


def test_missing_packages_are_named_where_they_may_not_be_installed(tmp_path: Path) -> None:
    for name in ("sed", "dirname"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    program(tmp_path, "id", "echo 1000")
    program(tmp_path, "sudo", "exit 1")
    program(tmp_path, "tshark", "exit 0")
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "scripts/install-debian-packages"
    # Without the folders that it adds to PATH, so that this machine's own programs do not count.
    script.write_text(re.sub(r"^PATH=.*$", "", script.read_text(), flags=re.MULTILINE))
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/debian-packages", tmp_path / ".ci")
    done = run(["/bin/sh", str(script)], str(tmp_path))
    assert done.returncode == 1
    named = done.stderr.split()
    assert {"nginx-light", "user-mode-linux", "golang-go"} <= set(named)
    assert "tshark" not in named


def test_the_package_list_is_well_formed() -> None:
    rows = [line.split() for line in (ROOT / ".ci/debian-packages").read_text().splitlines() if line[:1] != "#"]
    assert all(len(row) == 2 for row in rows), rows
    assert rows == sorted(rows)


def test_requirements_are_those_of_the_extra() -> None:
    assert any(line.startswith("pytest>") for line in requirements("test"))
    with pytest.raises(KeyError):
        requirements("no such extra")


def test_results_of_cargo_are_counted() -> None:
    text = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
    assert CARGO_RESULT.findall(text) == [("12", "0", "1")]


@pytest.mark.parametrize(
    ("suite", "succeeded"),
    [
        (Suite("pytest", 0, 1.0, passed=3), True),
        (Suite("pytest", 0, 1.0, passed=3, skipped=1, reasons=["a.b: no kernel"]), True),
        (Suite("pytest", 1, 1.0, passed=3, failed=1), False),
        (Suite("pytest", 5, 1.0), False),
        (Suite("pytest", 0, 1.0), False),
        (Suite("pytest", 2, 1.0, passed=3), False),
    ],
)
def test_only_a_full_and_green_run_counts_as_passed(suite: Suite, succeeded: bool) -> None:
    text = summary([Suite("cargo test", 0, 1.0, passed=1), suite])
    assert suite.succeeded is succeeded
    assert text.endswith("result: all tests passed" if succeeded else "result: FAILED")
    for reason in suite.reasons:
        assert reason in text
