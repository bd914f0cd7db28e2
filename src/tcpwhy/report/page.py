"""A cause's page goes in, the text that `tcpwhy explain` prints comes out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tcpwhy.causes._real_case import RealCase
from tcpwhy.report.color import Paint, plain

REAL_CASE = "In a real case"
"""The heading of the ladder, behind the signature's, which it fills with a real kernel's packets."""


def render_page(cause: str, title: str, headings: Mapping[str, str], real: RealCase | None = None, paint: Paint = plain) -> str:
    """The title, then each heading with its text, laid out as its author did: a signature is a table; a ladder is as it was drawn."""
    blocks = [paint("heading", cause), title]
    for heading, text in headings.items():
        first, line_feed, rest = text.partition("\n")
        begins_beside_heading = first and not first.startswith(" ")
        body = first + line_feed + textwrap.dedent(rest) if begins_beside_heading else textwrap.dedent(text)
        blocks.append(paint("heading", heading) + "\n" + textwrap.indent(body.strip("\n"), "   "))
        if heading == "Signature" and real is not None:
            blocks += [f"{paint('heading', REAL_CASE)}\n   {real.source}", real.ladder]
    return "\n\n".join("\n".join(line.rstrip() for line in block.splitlines()) for block in blocks) + "\n"


def render_catalogue(titles: Mapping[str, str], paint: Paint = plain) -> str:
    """A line for each cause: its id and its title."""
    width = max(map(len, titles))
    lines = (f"{paint('heading', cause)}{' ' * (width - len(cause))}  {title}" for cause, title in titles.items())
    return "\n".join(lines) + "\n"
