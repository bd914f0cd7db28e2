"""Build or refresh the index beside the captures.

A case goes in, its index and a line for each vantage point come out; other commands do it by themselves.
"""

from __future__ import annotations

import click

from tcpwhy.cli import OK
from tcpwhy.cli._options import case_argument
from tcpwhy.cli._terminal import ScanProgress, write_answer
from tcpwhy.report.escape import columns_of, padded, visible


@click.command()
@case_argument
def command(case: tuple[str, ...]) -> int:
    """Build or refresh the index of CASE. Other commands do it by themselves.

    It lies in CASE/.tcpwhy (for loose captures: beside them), where that cannot be written in your cache folder. It holds headers,
    offsets and times, never payload.
    """
    import tcpwhy

    with ScanProgress() as progress, tcpwhy.open_case(case, progress=progress) as opened:
        report = opened.index()
        progress.close()
    width = max((columns_of(visible(one.name)) for one in report), default=0)
    lines = []
    for one in report:
        did = f"indexed in {one.seconds:.1f} s" if one.refreshed else "was up to date"
        size = f"{one.files} files, {one.packets} packets, {one.flows} flows, {_megabytes(one.index_bytes)} of index"
        lines.append(f"{padded(visible(one.name), width)}  {size}, {did}\n")
    write_answer("".join(lines))
    return OK


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
