"""The installed program is run as a user runs it: pipes that close, ^C, start-up, and what it must not import."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tcpwhy.cli import CommandFolder, main

TCPWHY = Path(sys.executable).with_name("tcpwhy")
COMMANDS = ("clients", "collect", "connections", "diagnose", "explain", "extract", "filter", "follow", "index", "lab", "path", "show")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TCPWHY, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def imported(*arguments: str) -> set[str]:
    """The modules that a call imports."""
    code = "import sys\nfrom tcpwhy.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_the_version_is_the_package_s() -> None:
    from tcpwhy import __version__

    assert run("--version").stdout == f"tcpwhy {__version__}\n"


def test_the_help_lists_the_files_of_the_folder() -> None:
    listed = run("--help").stdout.partition("Commands:\n")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
    assert names == sorted(COMMANDS)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    modules = imported(*arguments)
    heavy = {"duckdb", "rich", "msgspec", "tcpwhy._core", "tcpwhy.case", "tcpwhy.lab", "tcpwhy.cli.diagnose"}
    assert not modules & heavy


def test_explain_needs_no_database() -> None:
    assert "rich" not in imported("explain", "syn-lost")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: tcpwhy {name} ")
    assert not done.stderr


def test_a_reader_that_stops_ends_nothing_badly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([TCPWHY, "explain"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [("explain",), ("filter", "real-client", "192.0.2.1"), ("connections", "nowhere")])
def test_a_closed_standard_output_is_an_unusable_call(arguments: tuple[str, ...]) -> None:
    """Python has no `sys.stdout` then; and the next file that is opened would take its number."""
    done = subprocess.run(["sh", "-c", '"$0" "$@" >&-', TCPWHY, *arguments], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "standard output: is closed, expected a file, a pipe or a terminal\n")


def test_a_closed_standard_error_costs_no_answer() -> None:
    done = subprocess.run(["sh", "-c", '"$0" explain 2>&-', TCPWHY], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert "syn-lost" in done.stdout


def test_interrupt_gives_130_and_says_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    process = subprocess.Popen([TCPWHY, "diagnose", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (130, b"", b"\n")


def test_interrupt_while_the_database_works_gives_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB takes the signal for itself and raises this in place of KeyboardInterrupt; when, depends on its threads."""

    @click.command()
    def interrupted() -> None:
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr(CommandFolder, "get_command", lambda *_: interrupted)
    done = CliRunner().invoke(main, ["interrupted"])
    assert (done.exit_code, done.stderr) == (130, "")


def test_no_color_is_heeded_and_nothing_is_coloured_in_a_pipe() -> None:
    assert "\x1b" not in run("explain").stdout
    assert "\x1b" in run("--color", "always", "explain").stdout


def test_start_up_is_quick() -> None:
    best = min(_seconds("--help") for _ in range(5))
    assert best < 0.5, "100 ms is the aim on an idle machine; half a second is a bug"


def _seconds(*arguments: str) -> float:
    begin = time.monotonic()
    run(*arguments)
    return time.monotonic() - begin
