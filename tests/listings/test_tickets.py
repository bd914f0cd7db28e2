"""Listings as people paste them: quoted, wrapped, behind prompts, cut, several in one text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy.evidence import EvidenceError
from tests.listings.printing import converted

LISTING = """\
10:00:00.000000 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 3040698484, win 64240, options [mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7], length 0
10:00:00.000100 IP 10.0.0.2.80 > 10.0.0.1.40000: Flags [S.], seq 3787423806, ack 3040698485, win 65160, options [mss 1460,sackOK,TS val 900 ecr 100,nop,wscale 7], length 0
10:00:00.000200 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack 1, win 502, options [nop,nop,TS val 101 ecr 900], length 0
10:00:00.000300 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [P.], seq 1:100, ack 1, win 502, options [nop,nop,TS val 102 ecr 900], length 99: HTTP: GET / HTTP/1.1
10:00:00.000400 IP 10.0.0.2.80 > 10.0.0.1.40000: Flags [R.], seq 1, ack 100, win 0, length 0
"""  # noqa: E501
LATER = LISTING.replace("10:00:00", "10:00:05")
WORDS = "tcpdump: verbose output suppressed, use -v[v]...\nlistening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"

PASTED: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "quoted": lambda text: textwrap.indent(text, "> "),
    "quoted twice": lambda text: textwrap.indent(text, "> > "),
    "indented": lambda text: textwrap.indent(text, "      "),
    "fenced": lambda text: f"Hello,\n\nwe see this:\n```\n$ tcpdump -ni eth0 port 80\n{WORDS}{text}^C\n5 packets captured\n```\nThanks\n",
    "with hard blanks": lambda text: text.replace(" ", "\xa0"),
    "as HTML": lambda text: text.replace(">", "&gt;"),
    "wrapped at 80 columns": lambda text: "".join(
        line[at : at + 80] + "\n" for line in text.splitlines() for at in range(0, len(line), 80)
    ),
    "wrapped between words": lambda text: "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, 70)),
    "from Windows": lambda text: text.replace("\n", "\r\n"),
    "with empty lines": lambda text: text.replace("\n", "\n\n"),
    "from a journal": lambda text: textwrap.indent(text, "Nov 21 10:00:00 gw tcpdump[812]: "),
    "coloured": lambda text: text.replace("10.0.0.1", "\x1b[01;31m10.0.0.1\x1b[0m"),
    "behind much prose": lambda text: "It began on Monday.\n" * 1_000 + text,
}


@pytest.mark.parametrize("manner", PASTED)
def test_however_it_was_pasted_the_packets_are_the_same(manner: str, tmp_path: Path) -> None:
    plain, _ = converted(LISTING, tmp_path / "plain")
    made, lines = converted(PASTED[manner](LISTING), tmp_path / "pasted")
    assert made.packets == plain.packets == 5
    # Names of interfaces and lines apart, the captures hold the same packets.
    assert _packets(made.path) == _packets(plain.path)
    text = (tmp_path / "pasted" / "listing.txt").read_text().replace("\xa0", " ").split("\n")
    assert all(f"10:00:00.000{frame - 1}00" in text[lines.line(frame) - 1] for frame in range(1, 6))


def _packets(path: Path) -> list[bytes]:
    """The packets of a capture from the IP header on."""
    data = path.read_bytes()
    return [data[at : at + 40] for at in range(len(data) - 40) if data[at : at + 2] == b"E\0" and data[at + 9] == 6]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"root@gw:~# tcpdump -ni eth0 port 80\n{LISTING}root@gw:~# ls\n", ["gw"]),
        (f"[root@gw ~]# tcpdump -ni any\n{LISTING}[root@b1 ~]# tcpdump -ni any\n{LATER}", ["b1", "gw"]),
        (f"$ ssh root@gw tcpdump -ni eth0\n{LISTING}$ ssh b1 tcpdump -ni eth0\n{LATER}", ["b1", "gw"]),
        (f"$ tcpdump -ni eth0\n{LISTING}$ tcpdump -ni eth0\n{LATER}", ["ticket-1", "ticket-2"]),
        (f"$ tcpdump -ni eth0\n{LISTING}$ tcpdump -ni any\n{LISTING}", ["ticket"]),
        (f"I ran tcpdump on the gateway:\n{LISTING}", ["ticket"]),
    ],
)
def test_command_lines_and_prompts_part_the_places(text: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "ticket.txt"
    path.write_text(text)
    with tcpwhy.open_case(str(path), index=False) as case:
        report = case.diagnosis().report
    assert [(point.name, point.packets) for point in report.vantage_points] == [(name, 5) for name in names]
    assert report.totals.connections == report.totals.failed == 1


def test_a_packet_that_one_place_shows_twice_is_no_retransmission(tmp_path: Path) -> None:
    path = tmp_path / "ticket.txt"
    path.write_text(f"$ tcpdump -ni eth0\n{LISTING}$ tcpdump -ni any\n{LISTING}")
    with tcpwhy.open_case(str(path), index=False) as case:
        (connection,) = case.find("10.0.0.1:40000-10.0.0.2:80")
    assert len(connection.segments) == 5
    assert not any(segment.retransmits for segment in connection.segments)


def test_a_listing_that_was_cut_in_front_keeps_its_relative_numbers(tmp_path: Path) -> None:
    path = tmp_path / "ticket.txt"
    path.write_text("".join(LISTING.splitlines(keepends=True)[2:]))
    with tcpwhy.open_case(str(path), index=False) as case:
        (connection,) = case.find("10.0.0.1:40000-10.0.0.2:80")
    request, reset = connection.segments[-2:]
    assert (request.seq_end, request.ack) == (reset.ack, reset.seq)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("10:00:00.000400", "...\n10:00:00.000400"), "lines were left out"),
        (lambda text: f"# tcpdump -ni eth0\n{text}9 packets captured\n", "at least 4 packets are not shown"),
        (lambda text: text.replace("10.0.0.2.80", "web.example.http"), "no name is looked up"),
        (lambda text: "".join(line[16:] + "\n" for line in text.splitlines()), "no times are shown"),
        (lambda text: text, "without a date"),
    ],
)
def test_what_a_listing_cannot_tell_is_said(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    made, _ = converted(change(LISTING), tmp_path)
    assert made.packets == 5
    assert any(said in note for note in made.notes), made.notes


def test_without_times_no_cause_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ticket.txt"
    path.write_text("".join(line[16:] + "\n" for line in LISTING.splitlines()))
    with tcpwhy.open_case(str(path), index=False) as case:
        report = case.diagnosis().report
    assert report.totals.failed == 1
    assert report.findings == ()
    assert len(report.unexplained) == 1


def test_addresses_of_ipv6_are_read(tmp_path: Path) -> None:
    text = LISTING.replace(" IP ", " IP6 ").replace("10.0.0.1.", "2001:db8::1.").replace("10.0.0.2.", "2001:db8::2.")
    made, _ = converted(text, tmp_path)
    assert made.packets == 5
    with tcpwhy.open_case(str(tmp_path / "listing.txt"), index=False) as case:
        (connection,) = case.find("[2001:db8::1]:40000-[2001:db8::2]:80")
    assert len(connection.segments) == 5


def test_times_past_midnight_stay_in_order(tmp_path: Path) -> None:
    text = LISTING.replace("10:00:00.000300", "23:59:59.999999").replace("10:00:00.000400", "00:00:00.5")
    made, _ = converted("".join(text.splitlines(keepends=True)[3:]), tmp_path)
    assert made.packets == 2
    path = tmp_path / "listing.txt"
    with tcpwhy.open_case(str(path), index=False) as case:
        (connection,) = case.find("10.0.0.1:40000-10.0.0.2:80")
    assert connection.segments[1].aligned_ns - connection.segments[0].aligned_ns == 500_001_000


def test_beside_a_capture_of_its_place_a_listing_is_passed_over(tmp_path: Path) -> None:
    from tests.packets import exchange, write_pcap

    write_pcap(tmp_path / "gw" / "a.pcap", exchange("10.0.0.1:40000", "10.0.0.2:80"))
    (tmp_path / "gw" / "a.txt").write_text(LISTING)
    with tcpwhy.open_case(str(tmp_path), index=False) as case:
        (point,) = case.diagnosis().report.vantage_points
    assert point.packets == 8
    assert "passed over, its capture says more" in " ".join(point.notes)


def test_a_text_without_packets_is_no_evidence(tmp_path: Path) -> None:
    path = tmp_path / "ticket.txt"
    path.write_text("tcpdump shows nothing at all.\n")
    with pytest.raises(EvidenceError):
        tcpwhy.open_case(str(path), index=False)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = tmp_path / "ticket.txt"
    path.write_text(LISTING)
    with tcpwhy.open_case(str(path)) as case:
        case.diagnosis()
        assert list(scratch.iterdir())
    assert list(scratch.iterdir()) == []
    assert [one.name for one in tmp_path.iterdir()] == ["ticket.txt", "scratch"] or {one.name for one in tmp_path.iterdir()} == {
        "ticket.txt",
        "scratch",
    }


def test_an_ack_that_nothing_asked_for_is_a_probe_of_a_closed_window(tmp_path: Path) -> None:
    """Without -vv tcpdump prints no number of a bare ACK; that of a probe is the one before the window's edge."""
    shut = """\
10:00:00.000400 IP 10.0.0.2.80 > 10.0.0.1.40000: Flags [.], ack 100, win 0, length 0
10:00:00.200400 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack 1, win 502, length 0
10:00:00.200500 IP 10.0.0.2.80 > 10.0.0.1.40000: Flags [.], ack 100, win 0, length 0
10:00:00.600400 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack 1, win 502, length 0
10:00:00.600500 IP 10.0.0.2.80 > 10.0.0.1.40000: Flags [P.], seq 1:11, ack 100, win 500, length 10
10:00:00.600600 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack 11, win 502, length 0
"""
    path = tmp_path / "ticket.txt"
    path.write_text("".join(LISTING.splitlines(keepends=True)[:4]) + shut)
    with tcpwhy.open_case(str(path), index=False) as case:
        (connection,) = case.find("10.0.0.1:40000-10.0.0.2:80")
    sent = [one for one in connection.segments if one.sender == "client" and not one.length]
    first = sent[0].seq
    assert [one.seq - first for one in sent] == [0, 1, 99, 99, 100]
