"""TCP segments in IPv4 and IPv6: a packet's bytes come in, its fields may be changed, bytes with right checksums go out."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

TCP = 6  # IANA protocol numbers
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10  # RFC 9293 section 3.1
END, NOP, MSS, SACK, TIMESTAMPS = 0, 1, 2, 5, 8  # IANA TCP option kinds
OPTION_ROOM = 40  # bytes: a data offset of 15 words less the 20 of the fixed header (RFC 9293 section 3.1)

End = tuple[bytes, int]
"""An address, packed, and a port."""


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class Segment:
    """One TCP segment in one IP packet. `options` holds each option's bytes; a NOP is one byte, the end is not kept."""

    source: End
    target: End
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    urgent: int = 0
    options: list[bytes] = field(default_factory=list)
    payload: bytes = b""
    hops: int = 64
    identification: int = 0
    fragment: int = 0x4000  # don't fragment (RFC 791)
    traffic: int = 0  # IPv4 type of service; IPv6 traffic class and flow label, 28 bits

    @property
    def is_ipv6(self) -> bool:
        """Whether the addresses are those of IPv6."""
        return len(self.source[0]) == 16

    @property
    def option_length(self) -> int:
        """Bytes of the options, without what fills the last word."""
        return sum(map(len, self.options))

    @property
    def size(self) -> int:
        """Bytes of the whole packet."""
        return (40 if self.is_ipv6 else 20) + 20 + (self.option_length + 3) // 4 * 4 + len(self.payload)

    @property
    def length(self) -> int:
        """Sequence numbers that it takes: its payload, SYN and FIN."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def to_bytes(self) -> bytes:
        """The whole IP packet. Raises ValueError where the options have no room."""
        options = b"".join(self.options)
        options += bytes([NOP]) * (-len(options) % 4)
        if len(options) > OPTION_ROOM:
            raise ValueError(f"{len(options)} bytes of TCP options, expected {OPTION_ROOM} at most")
        offset = (20 + len(options)) // 4 << 12
        ports = (self.source[1], self.target[1])
        head = struct.pack("!HHIIHHHH", *ports, self.sequence, self.acknowledgement, offset | self.flags, self.window, 0, self.urgent)
        body = head + options + self.payload
        addresses = self.source[0] + self.target[0]
        # the pseudo-headers of RFC 9293 section 3.1 and RFC 8200 section 8.1 have the same sum
        total = checksum(addresses + struct.pack("!II", len(body), TCP) + body)
        body = body[:16] + struct.pack("!H", total) + body[18:]
        if self.is_ipv6:
            return struct.pack("!IHBB", 6 << 28 | self.traffic, len(body), TCP, self.hops) + addresses + body
        words = (0x45, self.traffic, 20 + len(body), self.identification, self.fragment, self.hops, TCP, 0)
        header = struct.pack("!BBHHHBBH", *words) + addresses
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def read_segment(packet: bytes) -> Segment | None:
    """The TCP segment of an IP packet; None for anything else, for fragments, and for what is cut off or malformed."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        size = (packet[0] & 15) * 4
        traffic, total, identification, fragment, hops, protocol = struct.unpack_from("!xBHHHBB", packet)
        addresses = packet[12:16], packet[16:20]
        if fragment & 0x3FFF:  # more fragments, or an offset
            return None
    elif version == 6 and len(packet) >= 40:
        size, identification, fragment = 40, 0, 0
        traffic, payload, protocol, hops = struct.unpack_from("!IHBB", packet)
        traffic, total = traffic & 0x0FFFFFFF, 40 + payload
        addresses = packet[8:24], packet[24:40]
    else:
        return None
    if protocol != TCP or not size + 20 <= total <= len(packet):
        return None
    ports = struct.unpack_from("!HH", packet, size)
    sequence, acknowledgement, offset, window, urgent = struct.unpack_from("!IIHHxxH", packet, size + 4)
    data = size + (offset >> 12) * 4
    if not size + 20 <= data <= total:
        return None
    return Segment(
        source=(addresses[0], ports[0]),
        target=(addresses[1], ports[1]),
        sequence=sequence,
        acknowledgement=acknowledgement,
        flags=offset & 0x1FF,
        window=window,
        urgent=urgent,
        options=read_options(packet[size + 20 : data]),
        payload=packet[data:total],
        hops=hops,
        identification=identification,
        fragment=fragment,
        traffic=traffic,
    )


def read_options(data: bytes) -> list[bytes]:
    """The options one by one, up to the end option or to one whose length is impossible (RFC 9293 section 3.2)."""
    options, place = [], 0
    while place < len(data) and data[place] != END:
        size = 1 if data[place] == NOP else data[place + 1] if place + 1 < len(data) else 0
        if size < (1 if data[place] == NOP else 2) or place + size > len(data):
            break
        options.append(data[place : place + size])
        place += size
    return options
