"""List connections as a table.

A case goes in, a row for each connection comes out: as text, JSON, CSV or Parquet.
"""

from __future__ import annotations

import sys

import click

from tcpwhy.cli import OK
from tcpwhy.cli._options import case_argument, filter_option, index_option, utc_option
from tcpwhy.cli._terminal import ScanProgress, paint_for, table_width, warn, write_answer
from tcpwhy.report.table import FORMATS, encode_table


@click.command()
@case_argument
@click.option("--failed", is_flag=True, help="Only connections that failed.")
@click.option("--where", metavar="EXPR", help="Only rows for which this holds: \"retransmissions > 3 and client_ip = '10.0.0.5'\".")
@filter_option
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How the table is written.")
@utc_option
@index_option
@click.pass_obj
def command(
    color: str, case: tuple[str, ...], failed: bool, where: str | None, filter_text: str | None, form: str, utc: bool, no_index: bool
) -> int:
    """List the connections of CASE as a table.

    EXPR compares the columns (docs/commands.md lists them) with =, !=, <, <=, >, >=, in (...), is null, joined by and, or, not and
    brackets; texts stand in single quotes. Times are in UTC but in the format table.
    """
    import tcpwhy
    from tcpwhy.expression import ExpressionError

    wanted = next(one for one in FORMATS if one == form)
    if wanted == "parquet" and sys.stdout.isatty():
        raise click.UsageError("parquet is binary, expected standard output to be a file or a pipe")
    with ScanProgress() as progress, tcpwhy.open_case(case, index=not no_index, progress=progress) as opened:
        try:
            table = opened.connections(where=where, failed=failed, filter=filter_text)
        except ExpressionError as error:
            raise click.BadParameter(str(error), param_hint="--where") from None
        progress.close()
        encoded = encode_table(table, wanted, width=table_width(), utc=utc, paint=paint_for(color))
    write_answer(encoded.data)
    if encoded.left_out:
        warn(f"not shown for want of room: {', '.join(encoded.left_out)} (--format csv has all)")
    return OK
