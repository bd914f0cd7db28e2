"""Rows of the real tshark that name a message, or that a second connection follows: what they do not tell accuses nobody."""

from __future__ import annotations

from pathlib import Path

import tcpwhy
from tests.listings.printing import TSHARK, packets, printed
from tests.packets import Tcp, exchange, write_pcap

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"
PIECE = 1_000


def _upload(client: str, at_ms: float, isn: int, name: bytes = b"a") -> list[Tcp]:
    """A request is answered as soon as its head is there; its body comes in three more segments, and then the client closes."""
    head = b"POST /upload HTTP/1.1\r\nHost: " + name + b"\r\nContent-Length: %d\r\n\r\n" % (3 * PIECE - len(name))
    answer = b"HTTP/1.1 200 OK\r\nX-Host: " + name + b"\r\nContent-Length: 2\r\n\r\nok"
    c, s = isn + 1, isn + 500_001
    body, done = c + len(head), s + len(answer)
    last = b"a" * (PIECE - len(name))
    end = body + 2 * PIECE + len(last)
    return [
        *exchange(client, SERVER, at_ms, isn=isn)[:3],
        Tcp(at_ms + 3, client, SERVER, "PA", c, s, head, stamps=(12, 90)),
        Tcp(at_ms + 4, SERVER, client, "PA", s, body, answer, stamps=(91, 12)),
        Tcp(at_ms + 5, client, SERVER, "A", body, done, b"a" * PIECE, stamps=(13, 91)),
        Tcp(at_ms + 5.1, client, SERVER, "A", body + PIECE, done, b"a" * PIECE, stamps=(13, 91)),
        Tcp(at_ms + 5.2, client, SERVER, "PA", body + 2 * PIECE, done, last, stamps=(13, 91)),
        Tcp(at_ms + 6, SERVER, client, "A", done, end, stamps=(92, 13)),
        Tcp(at_ms + 7, client, SERVER, "FA", end, done, stamps=(14, 92)),
        Tcp(at_ms + 8, SERVER, client, "FA", done, end + 1, stamps=(93, 14)),
        Tcp(at_ms + 9, client, SERVER, "A", end + 1, done + 1, stamps=(15, 93)),
    ]


def test_the_row_that_completes_a_message_is_not_taken_for_its_head(tmp_path: Path) -> None:
    capture = write_pcap(tmp_path / "a.pcap", _upload(CLIENT, 0, 3_000_000_000))
    for form in TSHARK:
        path = tmp_path / "a.txt"
        path.write_text(printed(capture, form))
        assert path.read_text().count("POST /upload") == 2  # once with its head, once where it is complete
        with tcpwhy.open_case(str(path), index=False) as case:
            report = case.diagnosis().report
            (connection,) = case.find(f"{CLIENT}-{SERVER}")
        heads = [one.seq for one in connection.segments if one.packet.payload.startswith(b"POST")]
        assert heads == [connection.segments[3].seq], form
        assert report.totals.failed == 0, form


def test_an_answer_is_not_given_to_a_connection_only_because_another_ones_request_waits(tmp_path: Path) -> None:
    """Whose the two requests of one moment are, their own connections' next rows tell; until then either can be answered."""
    other = "10.0.0.1:40001"
    segments = [*_upload(CLIENT, 0, 3_000_000_000), *_upload(other, 0.05, 900_000_000, b"another")]
    capture = write_pcap(tmp_path / "a.pcap", sorted(segments, key=lambda one: one.at_ms))
    expected = packets(str(capture))
    for form in TSHARK:
        path = tmp_path / "a.txt"
        path.write_text(printed(capture, form))
        with tcpwhy.open_case(str(path), index=False) as case:
            assert case.diagnosis().report.totals.failed == 0, form
        whose = [(one["source_port"], one["destination_port"], one["length"]) for one in packets(str(path))]
        assert whose == [(one["source_port"], one["destination_port"], one["length"]) for one in expected], form


def test_a_syn_that_is_repeated_after_a_challenge_is_the_same_attempt(tmp_path: Path) -> None:
    """RFC 9293 section 3.10.7.4: the old connection's host answers ACK, the client resets that one and sends its SYN again."""
    old = exchange(CLIENT, SERVER, isn=3_000_000_000)
    new = [
        Tcp(2_000, CLIENT, SERVER, "S", 3_500_000_000, stamps=(5_000, 0)),
        Tcp(2_001, SERVER, CLIENT, "A", 3_000_500_021, 3_000_000_020, stamps=(2_090, 14)),
        Tcp(2_002, CLIENT, SERVER, "R", 3_000_000_020),
        Tcp(2_010, CLIENT, SERVER, "S", 3_500_000_000, stamps=(5_010, 0)),
        Tcp(2_011, SERVER, CLIENT, "SA", 77_000, 3_500_000_001, stamps=(2_100, 5_010)),
        Tcp(2_012, CLIENT, SERVER, "A", 3_500_000_001, 77_001, stamps=(5_011, 2_100)),
    ]
    capture = write_pcap(tmp_path / "a.pcap", [*old, *new])
    with tcpwhy.open_case(str(capture), index=False) as case:
        as_captured = [len(connection.segments) for connection in case.find(f"{CLIENT}-{SERVER}")]
    for form in TSHARK:
        path = tmp_path / "a.txt"
        path.write_text(printed(capture, form))
        with tcpwhy.open_case(str(path), index=False) as case:
            found = case.find(f"{CLIENT}-{SERVER}")
            assert case.diagnosis().report.totals.failed == 0, form
        # Without the numbers of either nobody knows that the challenge and its RST are the older connection's.
        expected = as_captured if "absolute" in form else [8, 6]
        assert [len(connection.segments) for connection in found] == expected, form


def test_a_listing_whose_times_fit_to_no_other_of_its_place_is_passed_over(tmp_path: Path) -> None:
    """Times since a listing's own beginning say nothing of when that was; what both show would tell it, and nothing is shown by both."""
    inside, outside = exchange(CLIENT, SERVER, isn=3_000_000_000), exchange("192.0.2.7:40000", SERVER, 5_000, isn=900_000_000)
    for name, segments in (("gw/inside", inside), ("gw/outside", outside), ("far/outside", [*inside, *outside])):
        path = tmp_path / "case" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        form = "tshark" if name.startswith("gw") else "tcpdump -ttt"  # which tells the numbers
        path.write_text(printed(write_pcap(tmp_path / "a.pcap", segments), form))
    with tcpwhy.open_case(str(tmp_path / "case"), index=False) as case:
        far, gateway = case.diagnosis().report.vantage_points
    assert (far.packets, gateway.packets) == (16, 8)
    assert any("passed over" in note for note in gateway.notes)
