"""Captures printed by the real tcpdump and tshark, and read back: what the listing shows is what the capture holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import tcpwhy
from tests.listings.printing import FORMS, TCPDUMP, packets, printed
from tests.packets import START_NS, Icmp, Tcp, exchange, write_pcap

CLIENT, OTHER, SERVER = "10.0.0.1:40000", "10.0.0.1:40001", "10.0.0.2:80"
ALWAYS = ("source", "source_port", "destination", "destination_port", "flags", "length", "window", "ts_value", "ts_echo")
DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segments = [*exchange(CLIENT, SERVER, isn=3_000_000_000), *exchange(OTHER, SERVER, 3, isn=4_000_000_000)]
    return write_pcap(tmp_path_factory.mktemp("printed") / "a.pcap", sorted(segments, key=lambda one: one.at_ms))


@pytest.mark.parametrize("form", FORMS)
def test_every_field_that_is_shown_comes_back(capture: Path, form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(printed(capture, form))
    expected, found = packets(str(capture)), packets(str(path))
    assert len(expected) == len(found) == 16
    absolute = form in TCPDUMP or "absolute" in form
    has_ip = form in TCPDUMP and any(letter in form.removeprefix("tcpdump") for letter in "vX")
    fields = [*ALWAYS, *(("seq", "ack") if absolute else ()), *(("ip_id", "ttl") if has_ip else ())]
    inferred = ("flags", "window", "ts_value", "ts_echo") if "tshark" in form else ()
    for before, after in zip(expected, found, strict=True):
        named = after["ts_value"] is None  # tshark names the message and not the header
        assert {name: before[name] for name in fields if not (named and name in inferred)} == {
            name: after[name] for name in fields if not (named and name in inferred)
        }
        # tcpdump prints microseconds unless it is asked for more.
        assert abs((after["time_ns"] - found[0]["time_ns"]) - (before["time_ns"] - expected[0]["time_ns"])) < 1_000
    dated = {"tcpdump -tt", "tcpdump -tttt", "tcpdump -nevvSXtttt", "tshark -t ad", "tshark -t e"}
    of_day = {"tcpdump -ttt", "tcpdump -ttttt", "tshark", "tshark -t d", "tshark absolute"}
    start = START_NS if form in dated else 0 if form in of_day else START_NS % DAY_NS
    assert found[0]["time_ns"] == start


@pytest.mark.parametrize("form", ["tshark", "tshark -t d"])
def test_relative_numbers_keep_their_distances(capture: Path, form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(printed(capture, form))
    bases: dict[tuple[str, int], set[int]] = {}
    for before, after in zip(packets(str(capture)), packets(str(path)), strict=True):
        bases.setdefault((before["source"], before["source_port"] + before["destination_port"]), set()).add(
            (after["seq"] - before["seq"]) & 0xFFFF_FFFF
        )
    assert all(len(distances) == 1 for distances in bases.values())


@pytest.mark.parametrize("form", FORMS)
def test_evidence_is_cited_by_the_line_on_which_it_stands(form: str, tmp_path: Path) -> None:
    segments: list[Tcp | Icmp] = [*exchange(OTHER, SERVER, isn=900_000_000)]
    segments += [Tcp(100, CLIENT, SERVER, "S", 3_100_000_000, ip_id=9, stamps=(50, 0))]
    segments += [Tcp(101, SERVER, CLIENT, "RA", 0, 3_100_000_001)]
    path = tmp_path / "a.txt"
    text = printed(write_pcap(tmp_path / "a.pcap", segments), form)
    path.write_text("A ticket.\n\n" + text)
    with tcpwhy.open_case(str(path), index=False) as case:
        report = case.diagnosis().report
        ladder = case.ladders(f"{CLIENT}-{SERVER}")[0]
    assert report.totals.failed == 1
    lines = path.read_text().split("\n")
    cited = [one for finding in report.findings for one in finding.evidence]
    assert cited
    for one in cited:
        assert one.kind == "packet"
        assert one.frame is None
        assert one.line is not None
        assert one.file == "a.txt"
        # With -v the addresses stand on the line below.
        assert "40000" in " ".join(lines[one.line - 1 : one.line + 1])
    assert [cell.line for row in ladder.rows for cell in row.cells] == sorted({one.line for one in cited if one.line is not None})


@pytest.mark.parametrize("form", ["tcpdump -n", "tcpdump -nv", "tshark"])
def test_an_icmp_error_is_given_to_the_connection_that_it_is_about(form: str, tmp_path: Path) -> None:
    syn = Tcp(100, CLIENT, SERVER, "S", 3_100_000_000, ip_id=9, stamps=(50, 0))
    segments: list[Tcp | Icmp] = [*exchange(OTHER, SERVER, isn=900_000_000), syn, Icmp(100.2, "10.0.0.254", 3, 13, syn)]
    path = tmp_path / "a.txt"
    path.write_text(printed(write_pcap(tmp_path / "a.pcap", segments), form))
    with tcpwhy.open_case(str(path), index=False) as case:
        (connection,) = list(case.diagnosis().judged)
    assert str(connection.connection.client) == CLIENT
    assert [(error.packet.icmp_type, error.packet.icmp_code) for error in connection.connection.icmp] == [(3, 13)]


def test_an_icmp_error_that_several_can_have_caused_is_given_to_none(tmp_path: Path) -> None:
    first, second = (Tcp(100, f"10.0.0.1:{port}", SERVER, "S", 3_100_000_000, stamps=(50, 0)) for port in (40_000, 40_001))
    path = tmp_path / "a.txt"
    path.write_text(printed(write_pcap(tmp_path / "a.pcap", [first, second, Icmp(100.2, "10.0.0.254", 3, 13, second)]), "tcpdump -n"))
    with tcpwhy.open_case(str(path), index=False) as case:
        report = case.diagnosis().report
    assert report.findings == ()
    assert report.totals.failed == 0
    assert any("do not tell to which connection they belong" in note for point in report.vantage_points for note in point.notes)


def test_what_is_not_shown_is_unknown_and_not_zero(capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for form, known in (("tcpdump -n", False), ("tcpdump -nv", True)):
        path.write_text(printed(capture, form))
        with tcpwhy.open_case(str(path), index=False) as case:
            (connection,) = case.find(f"{CLIENT}-{SERVER}")
        assert {segment.ip_id is not None for segment in connection.segments} == {known}
        assert {bool(segment.packet.ttl) for segment in connection.segments} == {known}


def test_connections_of_two_places_are_joined_by_what_both_listings_show(tmp_path: Path) -> None:
    again = [
        dataclasses.replace(one, stamps=(one.stamps[0] + 70_000, one.stamps[1] and one.stamps[1] + 70_000))
        for one in exchange(CLIENT, SERVER, 70_000, isn=1_000_000_000)
        if one.stamps is not None
    ]
    near = [*exchange(CLIENT, SERVER, isn=3_000_000_000), *again]
    far = [one for one in near if one.at_ms >= 2]  # it begins in the middle of the first connection
    for name, segments, clock_s in (("near", near, 0.0), ("far", far, 5.0)):
        capture = write_pcap(tmp_path / f"{name}.pcap", segments, clock_s=clock_s)
        for form in ("tcpdump -n", "tshark"):
            (tmp_path / f"{name}-{form.split()[0]}.txt").write_text(printed(capture, form))
    for one, other in (("tshark", "tshark"), ("tcpdump", "tshark"), ("tshark", "tcpdump"), ("tcpdump", "tcpdump")):
        with tcpwhy.open_case([f"near={tmp_path}/near-{one}.txt", f"far={tmp_path}/far-{other}.txt"], index=False) as case:
            assert case.diagnosis().report.totals.failed == 0
            found = case.find(f"{CLIENT}-{SERVER}")
        assert [set(connection.places) for connection in found] == [{"near", "far"}] * 2, (one, other)
        assert all(len(segment.places) == 2 for segment in found[1].segments), (one, other)
