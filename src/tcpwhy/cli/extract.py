"""Write one connection's packets from every vantage point as pcapng.

A case and a connection go in, a capture with comments where a finding points comes out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from tcpwhy.cli import OK
from tcpwhy.cli._options import case_argument, connection_argument, index_option
from tcpwhy.cli._terminal import ScanProgress, warn, write_file


@click.command()
@case_argument
@connection_argument
@click.option("-w", "out", required=True, metavar="OUT.pcapng", help="The file to write, `-` for standard output.")
@index_option
def command(case: tuple[str, ...], connection: str, out: str, no_index: bool) -> int:
    """Write the packets of CONNECTION from every vantage point of CASE, with comments where a finding points."""
    import tcpwhy

    if out == "-" and sys.stdout.isatty():
        raise click.UsageError("a capture is binary, expected standard output to be a file or a pipe")
    with ScanProgress() as progress, tcpwhy.open_case(case, index=not no_index, progress=progress) as opened:
        if out == "-":
            with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder:
                path = Path(folder) / "out.pcapng"
                count = opened.extract(connection, path)
                progress.close()
                write_file(path)
        else:
            count = opened.extract(connection, Path(out))
            progress.close()
    warn(f"{out}: {count} packets written")
    return OK
