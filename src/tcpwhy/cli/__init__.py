"""Words of a command line go in, an answer on standard output and an exit status come out; each file here is one command.

A file's name is the command's name, its attribute `command` the command, the first line of its docstring the command's line in
`tcpwhy --help`. A file is imported only where its command is called.
"""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

OK, FAILED, UNUSABLE, INCOMPLETE, BUG, INTERRUPTED = 0, 1, 2, 3, 70, 130
"""Exit statuses: nothing failed; a failed connection was found; the call or the input was unusable; nothing failed, but part of
the input could not be read; a bug of tcpwhy; ^C (docs/commands.md)."""


class CommandFolder(click.Group):
    """Finds commands by their files, and turns whatever goes wrong into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the files, in the order of the alphabet."""
        return sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's file."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"src/tcpwhy/cli/{cmd_name}.py: `command` is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands by the heads of their files, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(name)) for name in self.list_commands(ctx)])

    def main(self, args: Sequence[str] | None = None, *positional: Any, **extra: Any) -> Any:
        """Runs a command line and exits with the status that the contract gives it."""
        extra["standalone_mode"] = False
        if sys.stderr is None:  # closed by who called us: warnings go nowhere
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
        if sys.stdout is None:
            sys.exit(_complain("standard output", "is closed, expected a file, a pipe or a terminal", None))
        try:
            status = super().main(args, *positional, **extra)
            sys.stdout.flush()
            sys.exit(status if isinstance(status, int) else OK)
        except BrokenPipeError:  # who reads our answer or our warnings has heard enough
            _forget_output()
            sys.exit(OK)
        except (KeyboardInterrupt, click.Abort):
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            sys.exit(_complain(*_usage_error(error)))
        except Exception as error:  # noqa: BLE001 - the last boundary: a user meets a line, never a traceback
            sys.exit(INTERRUPTED if _is_interrupt(error) else _unexpected(error))


def _is_interrupt(error: Exception) -> bool:
    """True for what DuckDB makes of ^C while it works (duckdb-python, DuckDBPyConnection::CompletePendingQuery)."""
    return type(error) is RuntimeError and str(error) == "Query interrupted"


def _first_line(name: str) -> str:
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    head = source[: source.index('"""', 3) + 3]
    docstring = ast.get_docstring(ast.parse(head)) or ""
    return docstring.partition("\n")[0].rstrip(".")


def _usage_error(error: click.ClickException) -> tuple[str, str, str | None]:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tcpwhy"
    message = error.format_message().rstrip(".")
    return path, message[:1].lower() + message[1:], f"`{path} --help` shows what it takes"


def _unexpected(error: Exception) -> int:
    """What is no bug becomes status 2, with where and what; all else is a bug of tcpwhy."""
    from tcpwhy.evidence.error import EvidenceError
    from tcpwhy.expression import ExpressionError

    if isinstance(error, EvidenceError):
        return _complain(error.where, str(error).removeprefix(f"{error.where}: "), error.hint or None)
    if isinstance(error, ExpressionError):
        return _complain("expression", str(error), None)
    case_error = getattr(importlib.import_module("tcpwhy"), "CaseError", None)
    if case_error is not None and isinstance(error, case_error):
        return _complain(error.where, error.what, error.hint)
    if isinstance(error, OSError):
        where = "files" if error.filename is None else str(error.filename)
        return _complain(where, (error.strerror or str(error)).lower(), None)
    if os.environ.get("TCPWHY_DEBUG") == "1":
        traceback.print_exception(error)
    else:
        click.echo(_visible(f"tcpwhy: this is a bug in tcpwhy: {type(error).__name__}: {error}"), err=True)
        click.echo("\nhint: run it again with TCPWHY_DEBUG=1 and report what it prints", err=True)
    return BUG


def _complain(where: str, what: str, hint: str | None) -> int:
    click.echo(_visible(f"{where}: {what}"), err=True)
    if hint:
        click.echo("\n" + _visible(f"hint: {hint}"), err=True)
    return UNUSABLE


def _visible(text: str) -> str:
    from tcpwhy.report.escape import visible

    return visible(text)


def _forget_output() -> None:
    """Lets Python's own flush at exit go nowhere instead of failing again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):  # a stream of a test, or one that is closed: nothing is flushed to it
            continue
    os.close(nowhere)


def _print_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from tcpwhy import __version__

        click.echo(f"tcpwhy {__version__}")
        context.exit()


@click.group(
    "tcpwhy",
    cls=CommandFolder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colour on a terminal (NO_COLOR is heeded), always, or never.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
@click.pass_context
def main(context: click.Context, color: str) -> None:
    """Find what failed in captures of TCP connections, and why.

    tcpdump shows you the packets; tcpwhy tells you why. A CASE is a folder with a folder for each vantage point, a capture, or
    NAME=CAPTURE. Exit status: 0 nothing failed, 1 something did, 2 the call or the input was unusable, 3 nothing failed but part
    of the input could not be read.
    """
    context.obj = color
