"""A cause's paragraphs go in; beside their heading or under it, they must come out as their author laid them out."""

from tcpwhy.causes import RealCase
from tcpwhy.report.page import render_catalogue, render_page

HEADINGS = {
    "Mechanism": "One sentence that goes on\n    here.",
    "Signature": "    0.000  client > server  S\n    0.000  server > client  RA\n      deeper",
    "Fix": "",
}


def test_paragraphs_keep_their_layout() -> None:
    assert render_page("syn-lost", "The SYN is lost.", HEADINGS) == (
        "syn-lost\n\nThe SYN is lost.\n\n"
        "Mechanism\n   One sentence that goes on\n   here.\n\n"
        "Signature\n   0.000  client > server  S\n   0.000  server > client  RA\n     deeper\n\n"
        "Fix\n"
    )


def test_the_ladder_of_a_real_case_stands_behind_the_signature_as_it_was_drawn() -> None:
    page = render_page("syn-lost", "The SYN is lost.", HEADINGS, RealCase("tcpwhy lab run syn-lost", "   a → b\n > +0  S"))
    assert "deeper\n\nIn a real case\n   tcpwhy lab run syn-lost\n\n   a → b\n > +0  S\n\nFix\n" in page


def test_the_catalogue_is_a_line_for_each_cause() -> None:
    assert render_catalogue({"syn-lost": "The SYN is lost.", "x": "Another."}) == "syn-lost  The SYN is lost.\nx         Another.\n"
