"""Segments in a few words go in, captures come out: with any TCP options, over IPv4 and IPv6, in VLANs and tunnels, cut short."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.packets import FLAGS, START_NS

End = tuple[str, int]
Wrap = Callable[[bytes], bytes]

MACS = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02"


def words(content: bytes) -> int:
    """The sum of 16-bit words, folded (RFC 1071)."""
    total: int = sum(struct.unpack(f">{(len(content) + 1) // 2}H", content + b"\0" * (len(content) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclasses.dataclass(frozen=True)
class Segment:
    """One TCP segment of either family; `cut` bytes of its end were not captured."""

    source: End
    destination: End
    flags: str
    seq: int
    ack: int = 0
    payload: bytes = b""
    options: bytes = b""
    ip_id: int = 0
    cut: int = 0

    def ip_packet(self) -> bytes:
        """The IP packet, its checksums right."""
        options = self.options + b"\0" * (-len(self.options) % 4)
        offset = (20 + len(options)) // 4 << 12
        flags = sum(FLAGS[letter] for letter in self.flags)
        fields = (self.source[1], self.destination[1], self.seq % 2**32, self.ack % 2**32, offset | flags, 502)
        source, destination = (ipaddress.ip_address(end[0]) for end in (self.source, self.destination))
        length = 20 + len(options) + len(self.payload)
        pseudo = source.packed + destination.packed + struct.pack(">II", length, 6)
        checksum = 0
        for _ in range(2):
            body = struct.pack(">HHIIHHHH", *fields, checksum, 0) + options + self.payload
            checksum = checksum or ~words(pseudo + body) & 0xFFFF
        if source.version == 6:
            return struct.pack(">IHBB", 6 << 28, length, 6, 64) + source.packed + destination.packed + body
        return ipv4(6, source.packed, destination.packed, body, self.ip_id)


def ipv4(protocol: int, source: bytes, destination: bytes, body: bytes, ip_id: int = 0) -> bytes:
    """An IPv4 packet."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), ip_id, 0x4000, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack(">H", ~words(head) & 0xFFFF) + head[12:] + body


def ethernet(packet: bytes) -> bytes:
    """An Ethernet frame around an IP packet."""
    return MACS + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + packet


def vlan(packet: bytes) -> bytes:
    """The same with two VLAN tags."""
    frame = ethernet(packet)
    return frame[:12] + b"\x88\xa8\x00\x64\x81\x00\x00\x2a" + frame[12:]


OUTER = (bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))


def ipip(packet: bytes) -> bytes:
    """In IPv4 in Ethernet."""
    return ethernet(ipv4(41 if packet[0] >> 4 == 6 else 4, *OUTER, packet))


def gre(packet: bytes) -> bytes:
    """In GRE with a key."""
    return ethernet(ipv4(47, *OUTER, b"\x20\0" + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + b"\0\0\0\x4d" + packet))


def vxlan(packet: bytes) -> bytes:
    """In VXLAN."""
    inner = b"\x08\0\0\0\0\0\x4d\0" + ethernet(packet)
    return ethernet(ipv4(17, *OUTER, struct.pack(">HHHH", 50_000, 4789, 8 + len(inner), 0) + inner))


WRAPS: dict[str, Wrap] = {"ethernet": ethernet, "vlan": vlan, "ipip": ipip, "gre": gre, "vxlan": vxlan}


def write(path: Path, segments: Iterable[Segment], wrap: Wrap = ethernet, step_ns: int = 1_000_000) -> Path:
    """A nanosecond pcap, one segment each step."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for number, segment in enumerate(segments):
        frame = wrap(segment.ip_packet())
        kept = frame[: len(frame) - segment.cut]
        time_ns = START_NS + number * step_ns
        out.append(struct.pack("<IIII", time_ns // 10**9, time_ns % 10**9, len(kept), len(frame)) + kept)
    path.write_bytes(b"".join(out))
    return path


@dataclasses.dataclass
class Talk:
    """One connection being written: what the client said and the server answered, segment by segment."""

    client: End
    server: End
    isn: int = 1000
    said: int = 0
    answered: int = 0
    ip_id: int = 1

    def _segment(self, from_client: bool, flags: str, seq: int, ack: int, payload: bytes = b"", options: bytes = b"") -> Segment:
        ends = (self.client, self.server) if from_client else (self.server, self.client)
        self.ip_id = self.ip_id % 65_000 + 1
        return Segment(*ends, flags, seq, ack, payload, options, self.ip_id)

    def opens(self, options: bytes = b"", third: bytes = b"") -> list[Segment]:
        """The handshake; `options` on its SYN, `third` on its last ACK."""
        return [
            self._segment(True, "S", self.isn, 0, b"", options),
            self._segment(False, "SA", 500_000, self.isn + 1),
            self._segment(True, "A", self.isn + 1, 500_001, b"", third),
        ]

    def says(self, payload: bytes, options: bytes = b"") -> Segment:
        """The next bytes of the client."""
        segment = self._segment(True, "PA", self.isn + 1 + self.said, 500_001 + self.answered, payload, options)
        self.said += len(payload)
        return segment

    def hears(self, payload: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> Segment:
        """The server's answer to all of it."""
        segment = self._segment(False, "PA", 500_001 + self.answered, self.isn + 1 + self.said, payload)
        self.answered += len(payload)
        return segment


def pieces(chance: random.Random, content: bytes, most: int = 1400) -> list[bytes]:
    """Content cut at random places."""
    out = []
    while content:
        size = chance.randint(1, min(most, len(content)))
        out.append(content[:size])
        content = content[size:]
    return out
