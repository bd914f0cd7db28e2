"""What a command says goes in; bytes go to standard output, progress and warnings to standard error."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from tcpwhy.report.color import Paint, colored, plain
from tcpwhy.report.escape import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_S = 0.3
"""Seconds of work before a progress bar appears: a quick answer needs none, and rich is not imported for it."""

NOT_A_TERMINAL_COLUMNS = 80


def paint_for(color: str) -> Paint:
    """Colour for standard output as `--color` says; `auto` heeds NO_COLOR (no-color.org) and TERM=dumb."""
    if color == "always":
        return colored
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return colored if color == "auto" and wanted else plain


def text_width() -> int:
    """Columns of the terminal, or COLUMNS, or 80 where standard output is none."""
    return shutil.get_terminal_size((NOT_A_TERMINAL_COLUMNS, 24)).columns


def table_width() -> int | None:
    """Columns that a table must fit; none where standard output is no terminal and COLUMNS is not set."""
    return text_width() if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def write_answer(answer: str | bytes) -> None:
    """The answer on standard output. A reader that closed it has heard enough: what was found, and the exit status, stay."""
    data = answer.encode("utf-8", "backslashreplace") if isinstance(answer, str) else answer
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        forget_output()


def write_file(path: Path) -> None:
    """A file's bytes on standard output, as `write_answer` does it."""
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        forget_output()


def forget_output() -> None:
    """Lets what is still in the buffer go nowhere, so that Python's own flush at the exit does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def warn(text: str) -> None:
    """One line on standard error."""
    click.echo(visible(text), err=True)


class ScanProgress:
    """A progress bar on standard error while captures are scanned, where that is a terminal; call it with what was read so far."""

    def __init__(self) -> None:
        """Nothing is shown before the first call, nor before QUIET_S have passed."""
        self._begun = time.monotonic()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar away: the answer comes, and nothing of the bar stays."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, name: str, bytes_done: int, bytes_total: int) -> None:
        """Shows how far the scan of one file or vantage point is; a total of 0 is an unknown one."""
        if not self._shown or time.monotonic() - self._begun < QUIET_S:
            return
        if self._progress is None:
            self._progress = _new_bar()
            self._progress.start()
            self._tasks.clear()
        total = bytes_total or None
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(visible(name), total=total)
        self._progress.update(self._tasks[name], completed=bytes_done, total=total)


def _new_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
