"""Write this host's network state, or that of other hosts over SSH, as archives.

Options come in, the paths of what was written come out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tcpwhy.cli import INCOMPLETE, OK, UNUSABLE
from tcpwhy.cli._terminal import warn, write_answer, write_file

if TYPE_CHECKING:
    from tcpwhy.record.collect import Collected


@click.command()
@click.argument("hosts", nargs=-1, metavar="[HOST...]")
@click.option("--ssh", "over_ssh", is_flag=True, help="Ask each HOST over your own ssh, all at the same time.")
@click.option(
    "-w",
    "out",
    metavar="OUT",
    help="An archive (OUT.tar), a folder, or `-` for standard output; with several hosts a folder. Else NAME.tar here.",
)
@click.option("--print-script", is_flag=True, help="Print the shell script that does it, for `| ssh HOST sh -s > host.tar`.")
def command(hosts: tuple[str, ...], over_ssh: bool, out: str | None, print_script: bool) -> int:
    """Write this host's network state (state/), which `diagnose` and `path` read, or that of each HOST with --ssh.

    It only reads, within seconds: no kernel module is loaded, nothing is installed, changed or left behind. Without root, rules,
    tracked connections and other users' processes are left out. What is left out, and why, is said and stands in state/host.json.
    """
    from tcpwhy.record.collect import CollectError, script
    from tcpwhy.record.signals import ended_by_signals

    if print_script:
        if hosts or over_ssh or out is not None:
            raise click.UsageError("--print-script stands alone")
        write_answer(script())
        return OK
    if bool(hosts) != over_ssh:
        raise click.UsageError("expected --ssh with one HOST or more, or neither")
    if out == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is binary, expected standard output to be a file or a pipe")
    try:
        with ended_by_signals():
            return _collect_over_ssh(hosts, out) if over_ssh else _collect_here(out)
    except CollectError as error:
        raise _Unusable(str(error)) from None


class _Unusable(click.ClickException):
    """Nothing was collected: one line and status 2."""

    exit_code = UNUSABLE


def _collect_here(out: str | None) -> int:
    from tcpwhy.record.collect import archive_name, check_folder, collect_here, unpack_state

    if out is None:
        out = f"{archive_name(os.uname().nodename or 'host')}.tar"
        if Path(out).exists():
            raise _Unusable(f"{out} is there already, expected a new name: `-w OUT`")
    folder = _folder_of(out) if out.endswith(".tar") else None
    if out != "-" and folder is None:
        check_folder(Path(out))
    with tempfile.TemporaryDirectory(prefix=".tcpwhy-", dir=folder) as private:
        path = Path(private) / "host.tar"
        with path.open("w+b") as archive:
            collect_here(archive, warn)
            if out != "-" and folder is None:
                unpack_state(archive, Path(out))
        if out == "-":
            write_file(path)
            return OK
        if folder is not None:
            path.replace(out)
    write_answer(f"{out if folder is not None else Path(out) / 'state'}\n")
    return OK


def _folder_of(archive: str) -> Path:
    """The folder that an archive is to be written to; one that is not there is refused before any host is asked."""
    folder = Path(archive).parent
    if not folder.is_dir():
        raise _Unusable(f"{folder} is no folder, expected one that is there for {Path(archive).name}")
    return folder


def _collect_over_ssh(hosts: tuple[str, ...], out: str | None) -> int:
    from tcpwhy.record.collect import archive_name, collect_over_ssh

    for host in hosts:
        archive_name(host)
    if out is not None and (out == "-" or out.endswith(".tar")):
        if len(hosts) > 1:
            raise click.UsageError("several hosts make several archives, expected a folder behind -w")
        if out == "-":
            with tempfile.TemporaryDirectory(prefix="tcpwhy-") as private:
                found = collect_over_ssh(hosts, Path(private), warn)
                if found[0].error is None:
                    write_file(found[0].path)
                return _status(found)
        found = collect_over_ssh(hosts, _folder_of(out), warn, name=Path(out).name)
    else:
        folder = Path(out or ".")
        folder.mkdir(parents=True, exist_ok=True)
        found = collect_over_ssh(hosts, folder, warn)
    write_answer("".join(f"{one.path}\n" for one in found if one.error is None))
    return _status(found)


def _status(found: list[Collected]) -> int:
    """Says which hosts failed; 0 where none did, 3 where some did, 2 where all did."""
    failed = [one for one in found if one.error is not None]
    for one in failed:
        warn(f"{one.host}: {one.error}")
    return OK if not failed else UNUSABLE if len(failed) == len(found) else INCOMPLETE
