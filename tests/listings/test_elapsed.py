"""Times since the packet before: each packet moves them on, also one that is not of TCP, or that was captured late."""

from __future__ import annotations

from pathlib import Path

import pytest

import tcpwhy
from tests.listings.printing import converted, packets, printed
from tests.packets import START_NS, exchange, write_pcap

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"

OTHERS = """\
 00:00:00.000000 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 3040698484, win 64240, options [mss 1460], length 0
 00:00:01.000000 ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28
 00:00:02.000000 STP 802.1d, Config, Flags [none], bridge-id 8000.02:00:00:00:00:01.8001, length 35
 00:00:04.000000 IP 10.0.0.1.5353 > 224.0.0.251.5353: 0 PTR (QM)? _x._tcp.local. (30)
-00:00:00.500000 IP 10.0.0.2.80 > 10.0.0.1.40000: Flags [S.], seq 3787423806, ack 3040698485, win 65160, options [mss 1460], length 0
 00:00:08.000000 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack 1, win 502, length 0
"""


def test_every_line_with_a_time_moves_it_on(tmp_path: Path) -> None:
    made, lines = converted(OTHERS, tmp_path)
    assert [lines.line(frame) for frame in (1, 2, 3)] == [1, 5, 6]
    assert made.packets == 3
    assert [one["time_ns"] / 1e9 for one in packets(str(tmp_path / "listing.txt"))] == [0, 6.5, 14.5]


@pytest.mark.parametrize("form", ["tcpdump -ttt", "tshark -t d"])
def test_what_the_programs_print_of_other_protocols_counts(form: str, tmp_path: Path) -> None:
    segments = exchange(CLIENT, SERVER, isn=3_000_000_000, step_ms=1_000)
    capture = write_pcap(tmp_path / "a.pcap", segments)
    data = capture.read_bytes()
    record = 16 + 14 + len(segments[0].ip_packet())
    udp = bytearray(data[24 : 24 + record])
    udp[16 + 14 + 9] = 17  # the same frame 0.9 s later, as one of UDP
    udp[:8] = (START_NS // 10**9).to_bytes(4, "little") + (900_000_000).to_bytes(4, "little")
    capture.write_bytes(data[: 24 + record] + bytes(udp) + data[24 + record :])
    path = tmp_path / "a.txt"
    path.write_text(printed(capture, form))
    assert [round(one["time_ns"] / 1e6) for one in packets(str(path))] == [number * 1_000 for number in range(8)]


def test_listings_of_one_place_are_set_onto_one_clock(tmp_path: Path) -> None:
    """A router's two interfaces show the same connection; each listing begins at a time of its own."""
    inside = exchange(CLIENT, SERVER, isn=3_000_000_000)
    outside = [one for one in inside if one.at_ms >= 2]
    for name, segments in (("a", inside), ("b", outside)):
        path = tmp_path / "case" / "router" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(printed(write_pcap(tmp_path / "a.pcap", segments, clock_s=2e-5 * (name == "b")), "tcpdump -ttt"))
    with tcpwhy.open_case(str(tmp_path / "case"), index=False) as case:
        report = case.diagnosis().report
        (connection,) = case.find(f"{CLIENT}-{SERVER}")
    assert report.totals.failed == 0
    assert len(connection.segments) == 8
    assert not any(segment.retransmits for segment in connection.segments)
