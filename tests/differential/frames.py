"""A packet's fields go in and bytes come out, or the other way round: what the differential tests send, and what they see."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import struct

ICMP, IPIP, TCP, UDP = 1, 4, 6, 17
NAMES = {ICMP: "icmp", IPIP: "ipip", TCP: "tcp", UDP: "udp"}
ICMP_ERRORS = frozenset({3, 11, 12})  # RFC 792: destination unreachable, time exceeded, parameter problem
FLAGS = "FSRPAUEW"
"""tcpdump's letters, from the lowest bit of the flags byte (print-tcp.c; here A for the dot)."""
ETHERTYPE_IPV4 = b"\x08\x00"


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One IPv4 packet as its bytes say it."""

    protocol: str
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    flags: str = ""
    sequence: int = 0
    """Of TCP; of UDP the first four bytes of payload, which the tests put there."""
    acknowledged: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    ttl: int = 0
    dscp: int = 0
    inside: Seen | None = None
    """What an ICMP error quotes, or an IPIP packet carries."""

    def __str__(self) -> str:
        ports = self.protocol in ("tcp", "udp")
        source = f"{self.source}:{self.source_port}" if ports else self.source
        destination = f"{self.destination}:{self.destination_port}" if ports else self.destination
        text = f"{self.protocol} {source} > {destination}" + (f" {self.flags}" if self.flags else "")
        if self.protocol == "icmp":
            text += f" type {self.icmp_type} code {self.icmp_code}"
        return f"{text} ( {self.inside} )" if self.inside else text


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def build(packet: Seen) -> bytes:
    """The IPv4 packet: TCP without options, UDP with eight bytes, or IPIP around another packet."""
    source, destination = socket.inet_aton(packet.source), socket.inet_aton(packet.destination)
    if packet.protocol == "ipip":
        assert packet.inside is not None
        number, payload = IPIP, build(packet.inside)
    elif packet.protocol == "tcp":
        number = TCP
        bits = sum(1 << FLAGS.index(letter) for letter in packet.flags)
        payload = struct.pack(
            "!HHIIBBHHH", packet.source_port, packet.destination_port, packet.sequence, packet.acknowledged, 5 << 4, bits, 64240, 0, 0
        )
        payload = payload[:16] + struct.pack("!H", _transport_checksum(source, destination, number, payload)) + payload[18:]
    else:
        number = UDP
        payload = struct.pack("!HHHHIxxxx", packet.source_port, packet.destination_port, 16, 0, packet.sequence)
        payload = payload[:6] + struct.pack("!H", _transport_checksum(source, destination, number, payload)) + payload[8:]
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        packet.dscp << 2,
        20 + len(payload),
        packet.sequence & 0xFFFF,
        0x4000,
        packet.ttl,
        number,
        0,
        source,
        destination,
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def _transport_checksum(source: bytes, destination: bytes, number: int, payload: bytes) -> int:
    return checksum(source + destination + struct.pack("!BBH", 0, number, len(payload)) + payload)


def decode(data: bytes) -> Seen | None:
    """An IPv4 packet, also a quoted and cut one; None for what the tests do not send or ask about."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    start = (data[0] & 15) * 4
    number, ttl, dscp = data[9], data[8], data[1] >> 2
    source, destination = (str(ipaddress.IPv4Address(data[at : at + 4])) for at in (12, 16))
    rest = data[start:]
    ports = struct.unpack("!HH", rest[:4]) if len(rest) >= 4 else (0, 0)
    if number == TCP and len(rest) >= 8:
        whole = len(rest) >= 14
        bits = rest[13] if whole else 0
        return Seen(
            "tcp",
            source,
            destination,
            ports[0],
            ports[1],
            flags="".join(letter for bit, letter in enumerate(FLAGS) if bits >> bit & 1),
            sequence=struct.unpack("!I", rest[4:8])[0],
            acknowledged=struct.unpack("!I", rest[8:12])[0] if whole else 0,
            ttl=ttl,
            dscp=dscp,
        )
    if number == UDP and len(rest) >= 12:
        return Seen("udp", source, destination, ports[0], ports[1], sequence=struct.unpack("!I", rest[8:12])[0], ttl=ttl, dscp=dscp)
    if number == ICMP and len(rest) >= 8:
        inside = decode(rest[8:]) if rest[0] in ICMP_ERRORS or rest[0] == 5 else None  # 5: redirect, quotes as errors do
        return Seen("icmp", source, destination, icmp_type=rest[0], icmp_code=rest[1], ttl=ttl, dscp=dscp, inside=inside)
    if number == IPIP:
        return Seen("ipip", source, destination, ttl=ttl, dscp=dscp, inside=decode(rest))
    return None
