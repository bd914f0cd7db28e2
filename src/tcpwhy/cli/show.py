"""Show one connection as a ladder across all vantage points, on one clock.

A case and a connection go in, a ladder for each of its incarnations comes out.
"""

from __future__ import annotations

import click

from tcpwhy.cli import OK
from tcpwhy.cli._options import case_argument, connection_argument, index_option, utc_option
from tcpwhy.cli._terminal import ScanProgress, paint_for, text_width, write_answer


@click.command()
@case_argument
@connection_argument
@utc_option
@index_option
@click.pass_obj
def command(color: str, case: tuple[str, ...], connection: str, utc: bool, no_index: bool) -> int:
    """Show CONNECTION as a ladder across all vantage points of CASE, on one clock.

    CONNECTION is A:p-B:p, either way round, with the addresses of any vantage point; @TIME behind it picks one of several.
    """
    import tcpwhy
    from tcpwhy.report.terminal import render_ladders

    with ScanProgress() as progress, tcpwhy.open_case(case, index=not no_index, progress=progress) as opened:
        ladders = opened.ladders(connection)
        progress.close()
        if not ladders:
            raise tcpwhy.CaseError(connection, "no such connection in the case", "`tcpwhy connections CASE` lists them")
        write_answer(render_ladders(ladders, width=text_width(), utc=utc, paint=paint_for(color)))
    return OK
