"""How far a scan is goes in; a bar on a terminal comes out, and nothing where standard error is none."""

import os
import pty
import subprocess
import sys

SCAN = """
import sys, time
from tcpwhy.cli import _terminal
_terminal.QUIET_S = {quiet}
with _terminal.ScanProgress() as progress:
    for done in range(0, 101, 20):
        progress("gate\\x1bway [red]", done * 1000, 100_000)
        progress("b1", done, 0)
        time.sleep(0.03)
    progress.close()
    print("answer")
print("rich" in sys.modules)
"""


def run(quiet: float, stderr: int) -> list[str]:
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", SCAN.format(quiet=quiet)], stdout=subprocess.PIPE, stderr=stderr, env=environment, check=True, timeout=60
    )
    return done.stdout.decode().split()


def on_a_terminal(quiet: float) -> tuple[list[str], bytes]:
    main_end, terminal = pty.openpty()
    out = run(quiet, terminal)
    os.set_blocking(main_end, False)
    try:
        shown = os.read(main_end, 1 << 20)
    except BlockingIOError:
        shown = b""
    os.close(terminal)
    os.close(main_end)
    return out, shown


def test_a_terminal_shows_a_bar_that_goes_away() -> None:
    out, shown = on_a_terminal(0)
    assert out == ["answer", "True"]
    assert b"gate\\x1bway [red]" in shown
    assert b"100.0/100.0 kB" in shown
    assert shown.rstrip(b"\r\n").endswith(b"\x1b[2K"), "the last thing done is to clear the bar's line"


def test_a_quick_answer_shows_none_and_imports_no_rich() -> None:
    assert on_a_terminal(60) == (["answer", "False"], b"")


def test_no_terminal_no_bar() -> None:
    assert run(0, subprocess.DEVNULL) == ["answer", "False"]
