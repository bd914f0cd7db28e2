"""Segments with any options go in, Ethernet frames come out: for connections that no kernel would open."""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
from collections.abc import Iterator

SYN, ACK, FIN, RST = 2, 16, 1, 4
FAR_MAC, NEAR_MAC = b"\x02\0\0\0\0\x02", b"\x02\0\0\0\0\x01"
"""Locally administered, and of no interface: the kernel drops what it receives for them after the taps (net/ipv4/ip_input.c)."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment; addresses of either family as `ip:port` and `[ip]:port`."""

    source: str
    destination: str
    flags: int
    seq: int
    ack: int = 0
    payload: bytes = b""
    options: bytes = b""

    def frame(self) -> bytes:
        """The Ethernet frame, its checksums 0: neither tap nor reader looks at them."""
        (source, sport), (destination, dport) = _end(self.source), _end(self.destination)
        options = self.options + b"\x01" * (-len(self.options) % 4)
        offset = (20 + len(options)) // 4 << 12
        sequence = (sport, dport, self.seq % 2**32, self.ack % 2**32, offset | self.flags, 502, 0, 0)
        body = struct.pack(">HHIIHHHH", *sequence) + options + self.payload
        if len(source) == 4:
            kind, head = 0x0800, struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0x4000, 64, 6, 0, source, destination)
        else:
            kind, head = 0x86DD, struct.pack(">IHBB16s16s", 6 << 28, len(body), 6, 64, source, destination)
        return NEAR_MAC + FAR_MAC + struct.pack(">H", kind) + head + body


def _end(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).packed, int(port)


def toa(client: str, *, before: int = 0, kind: int = 254) -> bytes:
    """The option that names a client, behind `before` NOPs (kind 253 and length 20 for IPv6 as Alibaba LVS writes it)."""
    address, port = _end(client)
    return b"\x01" * before + bytes([kind, 4 + len(address)]) + struct.pack(">H", port) + address


@dataclasses.dataclass
class Conversation:
    """A connection from `client` to `server` whose third segment bears `options`, as DPVS writes them."""

    client: str
    server: str
    options: bytes
    isn: int = 1000
    options_on: int = 2
    """0: the SYN, as LVS does too; 2: the third segment; 3: the first request."""

    def opening(self) -> list[Segment]:
        """The handshake."""
        bare = [
            Segment(self.client, self.server, SYN, self.isn),
            Segment(self.server, self.client, SYN | ACK, self.isn + 7, self.isn + 1),
            Segment(self.client, self.server, ACK, self.isn + 1, self.isn + 8),
        ]
        return [self._with_options(number, segment) for number, segment in enumerate(bare)]

    def exchanges(self, count: int, fields: str = "", pad: int = 0) -> Iterator[Segment]:
        """Requests `/0`, `/1`… with these field lines, each answered and acknowledged."""
        seq, ack = self.isn + 1, self.isn + 8
        for number in range(count):
            request = f"GET /{number} HTTP/1.1\r\nHost: {self.client}\r\n{fields}\r\n".encode()
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % pad + b"x" * pad
            yield self._with_options(3 + number, Segment(self.client, self.server, ACK, seq, ack, request))
            seq += len(request)
            yield Segment(self.server, self.client, ACK, ack, seq, answer)
            ack += len(answer)
            yield Segment(self.client, self.server, ACK, seq, ack)

    def _with_options(self, number: int, segment: Segment) -> Segment:
        return dataclasses.replace(segment, options=self.options) if number == self.options_on else segment


def pcap(frames: list[bytes], *, start_ns: int = 1_790_000_000_000_000_000, step_ns: int = 1_000_000) -> bytes:
    """A nanosecond pcap."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for number, frame in enumerate(frames):
        at = start_ns + number * step_ns
        out.append(struct.pack("<IIII", at // 10**9, at % 10**9, len(frame), len(frame)) + frame)
    return b"".join(out)


def pcapng_frames(data: bytes) -> list[bytes]:
    """The packets of a little-endian pcapng file, whole blocks alone: anything else fails."""
    frames, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        if kind == 6:
            (captured,) = struct.unpack_from("<I", data, at + 20)
            frames.append(data[at + 28 : at + 28 + captured])
        at += length
    assert at == len(data)
    return frames
