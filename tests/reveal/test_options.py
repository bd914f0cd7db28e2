"""Options of every layout go into segments, at every offset and in every encapsulation; the claims are held against them and tshark."""

from __future__ import annotations

import ipaddress
import random
import struct
from pathlib import Path

import pytest

from tests.reveal.reading import Told, told, tshark
from tests.reveal.wire import WRAPS, Segment, Talk, write

SERVER = ("10.0.0.80", 80)
SERVER6 = ("2001:db8::80", 80)


def toa(kind: int, ip: str, port: int) -> bytes:
    """Port and address behind kind and length."""
    packed = ipaddress.ip_address(ip).packed
    return struct.pack(">BBH", kind, 4 + len(packed), port) + packed


def clients(rows: Told) -> list[tuple[str, str | None, int | None, bool, int]]:
    return [
        (row["layout"], row["ip"], row["port"], row["ambiguous"], row["count"])
        for row in rows.claims
        if row["what"] == "client" and row["from_client"]
    ]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_every_offset_is_read_and_counted(tmp_path: Path, wrap: str, server: tuple[str, int]) -> None:
    """A TOA of each size at each offset, IPv6 in IPv4 and the reverse among them; tshark walks the same options."""
    segments: list[Segment] = []
    expected: dict[int, tuple[str, str, int]] = {}
    for offset in range(33):
        for kind, ip in ((254, "1.2.3.4"), (200, "5.6.7.8"), (254, "2001:db8::9"), (253, "2001:db8::7")):
            option = toa(kind, ip, 2000 + offset)
            if offset + len(option) > 40:
                continue
            port = 40_000 + len(expected)
            client = ("10.0.0.1" if server is SERVER else "2001:db8::1", port)
            expected[port] = (f"{kind}/{len(option)}", ip, 2000 + offset)
            segments += Talk(client, server).opens(third=b"\x01" * offset + option)
    capture = write(tmp_path / "a.pcap", segments, WRAPS[wrap])
    rows = told([capture])
    assert {int(row["client"].split()[1]): (row["layout"], row["ip"], row["port"]) for row in rows.claims} == expected
    assert all(row["from_client"] and not row["ambiguous"] and row["count"] == 1 for row in rows.claims)
    frames = tshark(capture, "tcp.option_kind == 254 or tcp.option_kind == 200 or tcp.option_kind == 253", "frame.number", "tcp.options")
    assert sorted(row["frame"] for row in rows.claims) == sorted(int(frame) for frame, _ in frames)
    shown = {int(frame): options for frame, options in frames}
    for row in rows.claims:
        assert ipaddress.ip_address(row["ip"]).packed.hex() in shown[row["frame"]]


def test_different_values_are_kept_apart_with_their_count_and_first_frame(tmp_path: Path) -> None:
    """A SYN that carries one client and data that carries another are two claims."""
    talk = Talk(("10.0.0.1", 40_000), SERVER)
    one, other = toa(254, "1.1.1.1", 1111), toa(254, "2.2.2.2", 2222)
    segments = [*talk.opens(options=one, third=one), talk.says(b"GET / HTTP/1.1\r\n\r\n", other)]
    rows = told([write(tmp_path / "a.pcap", segments)])
    assert [(row["ip"], row["count"], row["frame"]) for row in rows.claims] == [("1.1.1.1", 2, 1), ("2.2.2.2", 1, 4)]


def test_names_and_numbers_beside_the_client(tmp_path: Path) -> None:
    """Tencent's three options: client, network, VIP."""
    options = toa(200, "1.2.3.4", 4660) + b"\x01\x01\xc9\x06\0\0\x30\x39" + toa(202, "9.9.9.9", 80)
    rows = told([write(tmp_path / "a.pcap", Talk(("10.0.0.1", 40_000), SERVER).opens(third=options))])
    assert [(row["what"], row["ip"], row["port"], row["text"]) for row in rows.claims] == [
        ("client", "1.2.3.4", 4660, ""),
        ("vpc", None, None, "12345"),
        ("vip", "9.9.9.9", 80, ""),
    ]


def test_ports_that_are_experiments_are_ambiguous(tmp_path: Path) -> None:
    """63881 is the identifier of experimental Fast Open: tshark takes it for that, and tcpwhy says that it may be."""
    capture = write(tmp_path / "a.pcap", Talk(("10.0.0.1", 40_000), SERVER).opens(options=toa(254, "1.2.3.4", 0xF989)))
    assert clients(told([capture])) == [("254/8", "1.2.3.4", 0xF989, True, 1)]
    assert tshark(capture, "tcp.options.experimental.exid == 0xf989", "frame.number") == [["1"]]


def test_look_alikes_are_no_claims(tmp_path: Path) -> None:
    """The bytes of a TOA in timestamps, in payload, and behind the end of the options."""
    inside = toa(254, "1.2.3.4", 4660)
    talk = Talk(("10.0.0.1", 40_000), SERVER)
    segments = [*talk.opens(options=b"\x08\x0a" + inside, third=b"\x00" + inside), talk.says(inside)]
    assert told([write(tmp_path / "a.pcap", segments)]).claims == []


def test_a_copy_of_a_packet_is_not_counted_again_but_its_own_option_is(tmp_path: Path) -> None:
    """A tap before and a tap behind what inserts the option: the second copy has it, the third repeats it."""
    talk = Talk(("10.0.0.1", 40_000), SERVER)
    syn, synack, ack = talk.opens()
    marked = Segment(ack.source, ack.destination, ack.flags, ack.seq, ack.ack, b"", toa(254, "1.2.3.4", 4660), ack.ip_id)
    rows = told([write(tmp_path / "a.pcap", [syn, synack, ack, marked, marked], step_ns=10_000)])
    assert [(row["ip"], row["count"], row["frame"]) for row in rows.claims] == [("1.2.3.4", 1, 4)]


def test_more_claims_than_are_kept_are_counted(tmp_path: Path) -> None:
    """Forty clients on one connection: sixteen are kept, and the loss is told."""
    talk = Talk(("10.0.0.1", 40_000), SERVER)
    segments = talk.opens() + [talk.says(b"x", toa(254, f"1.2.3.{number}", 4660)) for number in range(1, 41)]
    rows = told([write(tmp_path / "a.pcap", segments)])
    assert len(rows.claims) == 16
    assert sum(row["claims_lost"] for row in rows.requests) == 24


def test_any_option_bytes_at_all(tmp_path: Path) -> None:
    """Noise for options: the reader ends, and tshark's walk finds no client that it does not."""
    chance = random.Random(7)
    segments = []
    for number in range(3000):
        options = b""
        while len(options) < 40:
            size = chance.choice((2, 6, 7, 8, 10, 13, 20, chance.randrange(256)))
            options += bytes([chance.choice((0, 1, 1, 8, 28, 200, 201, 252, 253, 254, chance.randrange(256))), size])
            options += chance.randbytes(max(0, min(size - 2, 38)))
        segments.append(Segment(("10.0.0.1", 10_000 + number), SERVER, "A", 1, 1, b"", options[:40]))
    capture = write(tmp_path / "a.pcap", segments)
    rows = told([capture])
    ours = {row["frame"] for row in rows.claims if row["layout"] in ("254/8", "200/8", "254/20")}
    theirs = set()
    for frame, kinds, lengths in tshark(capture, "tcp", "frame.number", "tcp.option_kind", "tcp.option_len"):
        # tshark lists a length only for kinds that have one.
        known = [int(kind) for kind in kinds.split("|") if kind and int(kind) > 1]
        told_lengths = [int(length) for length in lengths.split("|") if length]
        if any(pair in ((254, 8), (200, 8), (254, 20)) for pair in zip(known, told_lengths, strict=False)):
            theirs.add(int(frame))
    assert len(ours) > 200
    assert theirs <= ours
