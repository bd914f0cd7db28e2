"""Captures of clocks far beyond any year go in: each command still answers, as of other damaged captures."""

import struct
from pathlib import Path

import pytest

import tcpwhy
from tests.packets import Tcp

LAST = 2**64 - 1
TIMES = [
    ((0, LAST, 1, LAST - 1), 9, 0),
    ((LAST,), 0, 0),
    ((2**63 - 1, 2**63), 9, 0),
    ((5, 2**62), 9, -(2**63)),
    ((5, 1), 9, 2**63 - 1),
    ((0, LAST), 0x80, -(2**40)),
]
"""Ticks of the packets in turn, if_tsresol, if_tsoffset (draft-ietf-opsawg-pcapng section 4.2)."""


def pcapng(path: Path, packets: list[bytes], ticks: tuple[int, ...], resolution: int, offset_s: int) -> None:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    options = struct.pack("<HHB3xHHqHH", 9, 1, resolution, 14, 8, offset_s, 0, 0)
    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 0) + options)
    for at, packet in enumerate(packets):
        tick, frame = ticks[at % len(ticks)], b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0" + packet
        out += block(6, struct.pack("<IIIII", 0, tick >> 32, tick & 0xFFFFFFFF, len(frame), len(frame)) + frame)
    path.parent.mkdir(parents=True)
    path.write_bytes(out)


@pytest.mark.parametrize(("ticks", "resolution", "offset_s"), TIMES)
def test_clocks_far_apart_end_nothing(tmp_path: Path, ticks: tuple[int, ...], resolution: int, offset_s: int) -> None:
    packets = []
    for number in range(3):
        client, server = f"10.1.1.{number + 1}:4000", "10.9.9.9:80"
        isn, server_isn = 1000 + number * 1_000_003, 5000 + number * 7_000_003
        head = b"GET / HTTP/1.1\r\nX-Team: a\r\nX-Forwarded-For: 192.0.2.4\r\n\r\n"
        packets += [
            Tcp(0, client, server, "S", isn).ip_packet(),
            Tcp(0, server, client, "SA", server_isn, isn + 1).ip_packet(),
            Tcp(0, client, server, "A", isn + 1, server_isn + 1).ip_packet(),
            Tcp(0, client, server, "PA", isn + 1, server_isn + 1, head).ip_packet(),
        ]
    pcapng(tmp_path / "case/web/a.pcapng", packets, ticks, resolution, offset_s)
    pcapng(tmp_path / "case/lb/a.pcapng", packets, ticks[::-1], resolution, offset_s)
    with tcpwhy.open_case(tmp_path / "case", index=False) as case:
        assert case.connections().rows()
        assert len(case.clients(headers=("X-Team",))) > 0
        case.diagnose()
