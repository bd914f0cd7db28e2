"""Reports built by hand go in; each line of the terminal's text must be the golden one, or safe and narrow enough."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.diagnosis.finding import ConnectionReference, Evidence, Finding, RuledOutCause, Totals
from tcpwhy.diagnosis.ladder import Ladder, LadderCell, LadderRow
from tcpwhy.report.color import colored
from tcpwhy.report.escape import columns_of
from tcpwhy.report.terminal import healthy_sentence, render_ladders, render_report
from tests.report.builders import (
    HOSTILE,
    healthy_report,
    hostile_ladder,
    hostile_report,
    rehash_finding,
    rehash_ladder,
    rehash_report,
    report,
)

GOLDEN = Path(__file__).parent / "golden"
SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_is_the_golden_one(width: int) -> None:
    text = render_report(rehash_report(), [rehash_ladder(), None], width=width, utc=True)
    assert text == (GOLDEN / f"rehash-{width}.txt").read_text()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = render_report(rehash_report(), [rehash_ladder(), None], width=width, utc=True)
    assert max(map(columns_of, text.splitlines())) <= width


def test_colour_adds_nothing_but_colour() -> None:
    plain = render_report(rehash_report(), [rehash_ladder(), None], utc=True)
    bright = render_report(rehash_report(), [rehash_ladder(), None], utc=True, paint=colored)
    assert SGR.search(bright)
    assert "\n".join(line.rstrip() for line in SGR.sub("", bright).split("\n")) == plain


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_from_a_packet_or_log_steers_the_terminal(width: int) -> None:
    texts = (
        render_report(hostile_report(), [hostile_ladder()], width=width),
        render_ladders([hostile_ladder(), hostile_ladder()], width=width),
    )
    for text in texts:
        assert "\\x1b" in text
        assert {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} == {"\n"}
        text.encode()


@given(st.text(max_size=60), st.integers(1, 400))
def test_any_text_stays_within_the_width_and_visible(text: str, width: int) -> None:
    finding = rehash_finding(title=text, fix=(text,), ruled_out=(RuledOutCause("syn-lost", text),))
    shown = render_report(report(finding), [None], width=width)
    assert max(map(columns_of, shown.splitlines())) <= max(60, min(width, 160))
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)


def test_a_log_line_of_a_megabyte_is_cut_and_says_so() -> None:
    finding = rehash_finding(evidence=(Evidence("log", "gateway", "gateway/x.log", "x" * 1_000_000, line=1),))
    text = render_report(report(finding), [None])
    assert len(text) < 10_000
    assert "(999400 more" in " ".join(text.split())


def test_each_fact_stands_once_and_names_file_and_frame_or_line() -> None:
    text = render_report(rehash_report(), [rehash_ladder(), None], width=120, utc=True)
    assert "any.pcap #1\n" in text
    assert "drawn in the ladder" not in text
    assert "backend-03/any.pcap #9" in text
    assert "gateway/gateway.log:1" in text
    assert "injected-reset, reset-with-unread-data: backend-03 itself sent the RST" in text
    assert text.index("confirmed") < text.index("possible") < text.index("unexplained: 2") < text.index("vantage points")


def test_many_connections_are_counted_and_the_json_is_named() -> None:
    connection = rehash_finding().connections[0]
    text = render_report(report(rehash_finding(connections=(connection,) * 300_000, connection_count=300_000)), [None])
    assert "300000 connections" in text
    assert "… and 299992 more; --json lists them all" in text
    assert len(text.splitlines()) < 80


def test_possible_causes_of_the_same_connections_are_told_together() -> None:
    shared = RuledOutCause("port-closed", "nobody refused it")
    own = RuledOutCause("vip-missing", "there is no balancer")
    log = Evidence("log", "gateway", "gateway/x.log", "timed out", line=7)
    one = rehash_finding(cause="syn-lost", confidence="possible", title="one title", ruled_out=(shared, own), evidence=(log,))
    two = rehash_finding(cause="synack-lost", confidence="possible", title="other title", ruled_out=(shared,), evidence=(log,))
    text = render_report(report(rehash_finding(), one, two), [None, rehash_ladder(), rehash_ladder()], width=100, utc=True)
    assert "\n2-3 possible   2 connections   2 causes fit; their order says nothing\n" in text
    assert "\n2  syn-lost\n   one title\n" in text
    assert "\n3  synack-lost\n   other title\n" in text
    for fact in ("from 2026-11-21", "gateway/x.log:7", "port-closed: nobody refused it", "vip-missing: there is no balancer"):
        assert text.count(fact) == 1, fact
    assert text.count("next     the routes") == 2  # of the first finding, and once of both that follow


def test_other_findings_of_the_same_connections_stand_alone() -> None:
    text = render_report(report(rehash_finding(), rehash_finding(cause="syn-lost", confidence="likely")), [None, None])
    assert "causes fit" not in text


def test_many_packets_of_evidence_are_counted() -> None:
    evidence = tuple(Evidence("packet", "gateway", "gateway/any.pcap", "a SYN", frame=100 + n) for n in range(50))
    log = Evidence("log", "gateway", "gateway/x.log", "timed out", line=7)
    text = render_report(report(rehash_finding(evidence=(*evidence, log))), [None])
    assert text.count("#1") == 8
    assert "… and 42 more; --json lists them all" in text
    assert "gateway/x.log:7" in text


def test_a_healthy_case_is_one_sentence_before_its_vantage_points() -> None:
    text = render_report(healthy_report(), [], width=100, utc=True)
    assert text.startswith("No connection failed: 142 connections examined, 61 packets of 3 vantage points read.\n\nvantage points")
    assert "0 failed" not in text


def test_what_could_not_be_read_and_what_is_empty_are_said() -> None:
    assert healthy_sentence(healthy_report(incomplete=True)).endswith("Part of the input could not be read, as the notes say.")
    assert healthy_sentence(healthy_report(totals=Totals(0, 0, 0, 0))).startswith("No TCP connection stands in the evidence")


def test_a_finding_about_a_link_alone_is_no_healthy_case() -> None:
    text = render_report(report(rehash_finding(cause="packet-loss"), totals=Totals(50, 0, 0, 0)), [None])
    assert "No connection failed" not in text
    assert text.endswith("50 connections, 0 failed.\n")


def test_times_are_local_with_the_zone_or_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        text = render_report(rehash_report(), [rehash_ladder(), None], width=120)
        assert "from 2026-11-21 15:00:00.000000 +05:30" in text
        assert "UTC" not in text
    finally:
        monkeypatch.undo()
        time.tzset()


class TestLadder:
    def test_beside_below_letters_and_one_below_the_other(self) -> None:
        wide = render_ladders([rehash_ladder()], width=140, utc=True)
        assert "+0.000 000  PA  104 B           ─► any.pcap #14     ✗ not seen" in wide
        narrow = render_ladders([rehash_ladder()], width=80, utc=True)
        assert re.search(r"\+0\.000 000  PA   ─► any.pcap #14     ✗ not seen +─► any.pcap #1\n +104 B\n", narrow)
        many = tuple(f"a-rather-long-name-of-place-{number}" for number in range(8))
        cells = tuple(LadderCell(place, f"{place}/capture.pcapng", 7, 0) for place in many)
        ladder = Ladder("1.2.3.4:5", "6.7.8.9:80", many, (), "2026-11-21T09:30:00Z", (LadderRow(0, "server", "SA", "seq 0", cells),))
        compact = render_ladders([ladder], width=80, utc=True)
        assert "+0.000 000  ◄─ SA  seq 0\n" in compact
        for place in many:
            assert f"{place}  capture.pcapng #7" in compact

    def test_several_files_of_a_place_have_letters(self) -> None:
        places = ("gw-with-a-long-name", "b1", "b2")
        rows = tuple(
            LadderRow(0, "client", "S", "", tuple(LadderCell(p, f"{p}/interface-number-{n}.pcap", n, 0) for p in places)) for n in (1, 2)
        )
        text = render_ladders([Ladder("a", "b", places, (), "", rows)], width=80)
        assert "b1 C: b1/interface-number-1.pcap" in text
        assert "b1 D: b1/interface-number-2.pcap" in text
        assert "─► A#1" in text
        assert "─► F#2" in text

    def test_marks_losses_notes_copies_and_offload_are_explained(self) -> None:
        text = render_ladders([rehash_ladder()], width=120, utc=True)
        assert text.count("\n > ") == 2
        assert "✗ lost before 10.20.32.11:80" in text
        assert "└ an effect: the gateway's socket is gone" in text
        assert "… 3 more segments are not drawn" in text
        assert "×2: the capture holds the packet twice" in text
        assert "~: seen there cut into other segments" in text
        assert "+1.000 123" in text

    def test_incarnations_are_numbered(self) -> None:
        text = render_ladders([rehash_ladder(), rehash_ladder()], width=80)
        assert "2 of 2 connections with these addresses and ports" in text

    @given(
        st.lists(st.text(max_size=12), max_size=5, unique=True),
        st.text(max_size=30),
        st.integers(-(10**12), 10**12),
        st.integers(40, 200),
    )
    def test_any_ladder_fits(self, places: list[str], text: str, offset: int, width: int) -> None:
        cells = tuple(LadderCell(place, text, 2**40, 0, 3) for place in places)
        rows = (LadderRow(offset, "client", "PA", text, cells, lost_before=text, note=text, marked=True),)
        shown = render_ladders([Ladder(text, text, tuple(places), (text,), text, rows)], width=width)
        assert max(map(columns_of, shown.splitlines()), default=0) <= max(60, min(width, 160))
        assert str(2**40) in shown or not places


def test_the_hostile_text_is_hostile() -> None:
    assert isinstance(rehash_finding(), Finding)
    assert isinstance(rehash_finding().connections[0], ConnectionReference)
    assert {unicodedata.category(c) for c in HOSTILE} >= {"Cc", "Cf", "Cs", "Zl"}


def test_what_splits_all_possible_causes_is_asked_for_once() -> None:
    """The request that all of them make stands above them, each one's own below it."""
    capture = "`tcpdump -ni any` on 10.0.0.1"
    note = " (it decides between syn-lost, synack-lost)"
    own = "`tcpwhy collect` on 10.0.0.1: sockets in SYN-RECV"
    said = "It never got an answer. This fits: {} was lost. What was captured does not decide it."
    one = rehash_finding(
        cause="syn-lost", confidence="possible", explanation=said.format("it"), next_evidence=(f"{capture}: no SYN there{note}",)
    )
    two = rehash_finding(
        cause="synack-lost",
        confidence="possible",
        explanation=said.format("the answer"),
        next_evidence=(f"{capture}: SYN-ACKs there{note}", own),
    )
    text = " ".join(render_report(report(one, two), [None, None], width=100).split())
    assert text.count(f"{capture}: it decides between syn-lost, synack-lost") == 1
    assert text.count(capture) == 1
    assert text.count(own) == 1
    assert text.count("It never got an answer.") == 1
    assert "1 syn-lost" in text
    assert text.index(capture) < text.index("1 syn-lost") < text.index(own)
    assert "This fits: it was lost." in text
    assert "This fits: the answer was lost." in text
