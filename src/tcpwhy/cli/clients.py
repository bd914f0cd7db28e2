"""Tell who the real clients are, behind balancers and NAT.

A case goes in; a row for each connection with its real client, or groups of them, come out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from tcpwhy.cli import INCOMPLETE, OK
from tcpwhy.cli._options import case_argument, filter_option, index_option, utc_option
from tcpwhy.cli._terminal import ScanProgress, paint_for, table_width, warn, write_file
from tcpwhy.report.table import FORMATS


@click.command()
@case_argument
@click.option("--group-by", metavar="WHAT", help="Group by `client`, `network/24` (any prefix length) or `header:NAME`.")
@click.option("--header", "headers", multiple=True, metavar="NAME", help="Show this HTTP header's values; repeatable.")
@click.option("--old", metavar="TIME", help="Only connections open since before the capture began, or for so long: 90s, 30m, 1h, 2d.")
@click.option("--vantage", metavar="NAME", help="Only connections that this vantage point saw, with its addresses.")
@click.option("--trusted-hops", type=click.IntRange(min=0), metavar="N",
              help="So many proxies before the server append to X-Forwarded-For or Forwarded: the Nth from the right counts.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How the answer is written.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json (docs/clients.md).")
@filter_option
@utc_option
@index_option
@click.pass_obj
def command(
    color: str,
    case: tuple[str, ...],
    group_by: str | None,
    headers: tuple[str, ...],
    old: str | None,
    vantage: str | None,
    trusted_hops: int | None,
    form: str,
    as_json: bool,
    filter_text: str | None,
    utc: bool,
    no_index: bool,
) -> int:
    """Tell whose the connections of CASE are, behind balancers and NAT.

    A row is a connection as it was seen nearest to its server, with its real client, what that rests on and how sure it is. What
    nothing identifies stays `?`; a peer's own address is no answer. Exit status: 0 done, 2 the call or the input was unusable, 3 part
    of the input could not be read.
    """
    import tcpwhy
    from tcpwhy.clients.grouping import next_evidence, parse_grouping, total
    from tcpwhy.diagnosis.places import report_places
    from tcpwhy.report.clients import write_clients

    wanted = "json" if as_json else next(one for one in FORMATS if one == form)
    if wanted == "parquet" and sys.stdout.isatty():
        raise click.UsageError("parquet is binary, expected standard output to be a file or a pipe")
    grouping = None if group_by is None else parse_grouping(group_by)
    if grouping is not None and grouping.kind == "header" and grouping.header.lower() not in {name.lower() for name in headers}:
        headers = (*headers, grouping.header)
    with ScanProgress() as progress, tcpwhy.open_case(case, index=not no_index, progress=progress) as opened:
        found = opened.clients(headers=headers, vantage=vantage, trusted_hops=trusted_hops, old=old, filter=filter_text)
        progress.close()
        places, notes, incomplete = report_places(opened, opened.assembly())
        notes = [*found.notes, *notes, *(f"{place.name}: {note}" for place in places for note in place.notes)]
        totals = total(found)
        with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder:
            path = Path(folder) / "answer"
            left_out = write_clients(
                path,
                found,
                wanted,
                grouping=grouping,
                totals=totals,
                next_evidence=next_evidence(found, totals),
                notes=notes,
                incomplete=incomplete,
                width=table_width(),
                utc=utc,
                paint=paint_for(color),
            )
            write_file(path)
    if wanted in ("csv", "parquet"):
        for note in notes if incomplete else ():
            warn(note)
    if left_out:
        warn(f"not shown for want of room: {', '.join(left_out)} (--format csv has all)")
    return INCOMPLETE if incomplete else OK
