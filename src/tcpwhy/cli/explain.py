"""Tell what a cause is and how it shows, or list all causes.

The catalogue of causes goes in, one cause's page or a line for each comes out.
"""

from __future__ import annotations

import difflib

import click

from tcpwhy.cli import OK
from tcpwhy.cli._terminal import paint_for, write_answer


@click.command()
@click.argument("cause", required=False)
@click.pass_obj
def command(color: str, cause: str | None) -> int:
    """Tell what CAUSE is, how it shows at each place and in a real case, what it is confused with and what mends it.

    Without CAUSE list all.
    """
    from tcpwhy.causes import ALL_IDS, catalogue, real_case
    from tcpwhy.report.page import render_catalogue, render_page

    pages = {page.id: page for page in catalogue()}
    paint = paint_for(color)
    if cause is None:
        write_answer(render_catalogue({name: pages[name].title for name in ALL_IDS}, paint))
        return OK
    if cause not in ALL_IDS:
        near = difflib.get_close_matches(cause, ALL_IDS, n=1)
        guess = f", did you mean `{near[0]}`?" if near else "; `tcpwhy explain` lists them"
        raise click.BadParameter(f"there is no cause `{cause}`{guess}", param_hint="CAUSE")
    write_answer(render_page(cause, pages[cause].title, pages[cause].headings, real_case(cause), paint))
    return OK
