"""Segments in a few words go in, captures come out: for stories that no kernel needs to tell."""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
START_NS = 1_790_000_000_000_000_000
MS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Tcp:
    """One segment; `at_ms` is since START_NS."""

    at_ms: float
    source: str
    destination: str
    flags: str
    seq: int
    ack: int = 0
    payload: bytes = b""
    ip_id: int = 0
    ttl: int = 64
    stamps: tuple[int, int] | None = None
    window: int | None = None
    """None: 502, and 0 with a RST."""
    mss: int | None = None
    sack: tuple[tuple[int, int], ...] = ()
    goes_to: int = 1
    """The last byte of the hardware address that the frame goes to."""

    def ip_packet(self) -> bytes:
        """The IPv4 packet."""
        (source, sport), (destination, dport) = (_end(self.source), _end(self.destination))
        options = b"" if self.stamps is None else struct.pack(">BBBBII", 1, 1, 8, 10, *self.stamps)
        options += b"" if self.mss is None else struct.pack(">BBH", 2, 4, self.mss)
        if self.sack:
            options += struct.pack(">BBBB", 1, 1, 5, 2 + 8 * len(self.sack)) + b"".join(struct.pack(">II", *block) for block in self.sack)
        flags = sum(FLAGS[letter] for letter in self.flags)
        window = self.window if self.window is not None else 0 if "R" in self.flags else 502
        offset = (20 + len(options)) // 4 << 12
        head = struct.pack(">HHIIHHHH", sport, dport, self.seq, self.ack, offset | flags, window, 0, 0)
        body = head + options + self.payload
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), self.ip_id, 0x4000, self.ttl, 6, 0, source, destination)
        return ip + body


@dataclasses.dataclass(frozen=True)
class Icmp:
    """An ICMP error about a segment, sent to the segment's source."""

    at_ms: float
    sender: str
    type: int
    code: int
    quoted: Tcp
    mtu: int = 0

    def ip_packet(self) -> bytes:
        """The IPv4 packet, which quotes IP and 8 bytes of TCP (RFC 792)."""
        body = struct.pack(">BBHI", self.type, self.code, 0, self.mtu) + self.quoted.ip_packet()[:28]
        source, destination = ipaddress.IPv4Address(self.sender).packed, _end(self.quoted.source)[0]
        return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0, source, destination) + body


def _end(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    return ipaddress.IPv4Address(host).packed, int(port)


def write_pcap(path: Path, segments: Sequence[Tcp | Icmp], *, clock_s: float = 0.0) -> Path:
    """A nanosecond pcap of Ethernet frames; `clock_s` is how far this capture's clock is ahead."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for segment in segments:
        goes_to = segment.goes_to if isinstance(segment, Tcp) else 1
        frame = b"\x02\0\0\0\0%c\x02\0\0\0\0\x02\x08\0" % goes_to + segment.ip_packet()
        time_ns = START_NS + round(segment.at_ms * MS) + round(clock_s * 1e9)
        out.append(struct.pack("<IIII", time_ns // 10**9, time_ns % 10**9, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(out))
    return path


def shifted(segments: Sequence[Tcp], later_ms: float, *, ttl: int | None = None) -> list[Tcp]:
    """The same segments as another place sees them, later."""
    return [dataclasses.replace(one, at_ms=one.at_ms + later_ms, ttl=one.ttl if ttl is None else ttl) for one in segments]


def exchange(client: str, server: str, at_ms: float = 0.0, *, isn: int = 1000, step_ms: float = 1.0) -> list[Tcp]:
    """A whole HTTP exchange: handshake, request, answer, both FINs."""
    request, answer = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
    c, s = isn + 1, isn + 500_001
    at = [at_ms + step_ms * number for number in range(8)]
    return [
        Tcp(at[0], client, server, "S", isn, ip_id=1, stamps=(10, 0)),
        Tcp(at[1], server, client, "SA", s - 1, c, stamps=(90, 10)),
        Tcp(at[2], client, server, "A", c, s, ip_id=2, stamps=(11, 90)),
        Tcp(at[3], client, server, "PA", c, s, request, ip_id=3, stamps=(12, 90)),
        Tcp(at[4], server, client, "PA", s, c + len(request), answer, ip_id=7, stamps=(91, 12)),
        Tcp(at[5], client, server, "FA", c + len(request), s + len(answer), ip_id=4, stamps=(13, 91)),
        Tcp(at[6], server, client, "FA", s + len(answer), c + len(request) + 1, ip_id=8, stamps=(92, 13)),
        Tcp(at[7], client, server, "A", c + len(request) + 1, s + len(answer) + 1, ip_id=5, stamps=(14, 92)),
    ]
