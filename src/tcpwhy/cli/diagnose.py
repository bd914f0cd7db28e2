"""Find what failed and say why.

Captures, state and logs go in; findings with their proof come out, as text or JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tcpwhy.cli import FAILED, INCOMPLETE, OK
from tcpwhy.cli._options import case_argument, filter_option, index_option, utc_option
from tcpwhy.cli._terminal import ScanProgress, paint_for, text_width, write_answer

if TYPE_CHECKING:
    from tcpwhy.diagnosis.finding import Report


@click.command()
@case_argument
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON (docs/json.md).")
@click.option("--connection", metavar="A:p-B:p", help="Only this connection, either way round; @TIME picks one of several.")
@click.option("--since", metavar="TIME", help="Only connections that went on at or after this time.")
@click.option("--until", metavar="TIME", help="Only connections that began at or before this time.")
@click.option(
    "--log",
    "logs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A log, of the vantage point NAME; repeatable. Only connections that its lines of failures can speak of are examined.",
)
@click.option("--cause", metavar="ID", help="Only findings of this cause.")
@click.option(
    "--slow",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long loss or a stall must hold up a connection to be a finding.",
)
@filter_option
@utc_option
@index_option
@click.pass_obj
def command(
    color: str,
    case: tuple[str, ...],
    as_json: bool,
    connection: str | None,
    since: str | None,
    until: str | None,
    logs: tuple[str, ...],
    cause: str | None,
    slow: float,
    filter_text: str | None,
    utc: bool,
    no_index: bool,
) -> int:
    """Find what failed in CASE and say why.

    With --log and nothing else that narrows, only the connections are examined of which failing lines of these logs can speak: by their
    addresses and ports, else by the server and the time. Logs in CASE itself narrow nothing.

    Exit status: 0 nothing failed, 1 a failed connection, a lossy link or a failing log line was found, 2 the call or the input was
    unusable, 3 nothing failed but part of the input could not be read.
    """
    import tcpwhy
    from tcpwhy.causes import ALL_IDS
    from tcpwhy.expression import ExpressionError, parse_filter

    if cause is not None and cause not in ALL_IDS:
        raise click.BadParameter(f"there is no cause `{cause}`; `tcpwhy explain` lists them", param_hint="--cause")
    if filter_text is not None:
        try:
            parse_filter(filter_text)
        except ExpressionError as error:
            raise click.BadParameter(str(error), param_hint="--filter") from None
    with ScanProgress() as progress, tcpwhy.open_case(case, index=not no_index, progress=progress, logs=logs) as opened:
        diagnosis = opened.diagnosis(connection=connection, since=since, until=until, cause=cause, slow_s=slow, filter=filter_text)
        progress.close()
        if connection is not None and not diagnosis.report.totals.connections:
            raise tcpwhy.CaseError(connection, "no such connection in the case", "`tcpwhy connections CASE` lists them")
        if as_json:
            from tcpwhy.report.json import encode_report

            write_answer(encode_report(diagnosis.report))
        else:
            from tcpwhy.report.terminal import render_report

            text = render_report(diagnosis.report, diagnosis.ladders, width=text_width(), utc=utc, paint=paint_for(color))
            write_answer(text)
    return status_of(diagnosis.report)


def status_of(report: Report) -> int:
    """1 before 3 before 0; a finding without a connection, which state alone predicts, gives no 1."""
    if report.totals.failed or report.unexplained or any(finding.connection_count for finding in report.findings):
        return FAILED
    return INCOMPLETE if report.incomplete else OK
