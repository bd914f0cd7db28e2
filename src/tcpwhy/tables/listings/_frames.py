"""A row goes in, the frame that it describes comes out: headers as the listing prints them, payload as far as it shows any."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from tcpwhy.tables.listings._row import Error, Head, Row, Unreadable

ETHERNET, RAW, COOKED = 1, 101, 113
"""Link types (tcpdump.org/linktypes.html). Where nothing names the interface, a cooked header says just that."""

_NOBODY = b"\x02\0\0\0\0\x01"
"""A hardware address for tunnels, whose inner frames a listing shows without one (locally administered, IEEE 802 section 8.4)."""


class Frame(NamedTuple):
    """A record for a capture."""

    link_type: int
    data: bytes
    original_length: int


def frame_of(row: Row, *, one_interface: bool) -> Frame:
    """The row's frame; `one_interface`: it is known that all rows come from one interface, or which. Raises Unreadable."""
    if row.claim is not None:
        mac, nobody = row.claim.mac, bytes(6)
        sender, target = ipaddress.IPv4Address(row.claim.ip).packed, ipaddress.IPv4Address(row.claim.target).packed
        body = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, row.claim.operation, mac, sender, nobody, target)
        data = b"\xff" * 6 + mac + b"\x08\x06" + body
        return Frame(ETHERNET, data, len(data))
    packet, missing = _packet(row)
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    if row.macs is not None and row.macs[1] != bytes(6):
        tag = struct.pack(">HH", 0x8100, row.vlan) if row.vlan else b""
        data, link_type = row.macs[1] + row.macs[0] + tag + kind + packet, ETHERNET
    elif one_interface or row.interface:
        data, link_type = packet, RAW
    else:
        # Packet type 5: neither in nor out (linux/if_packet.h, PACKET_LOOPBACK). The address is of the sender, where it is told.
        way = {"": 5, "in": 0, "out": 4}[row.direction]
        mac = row.macs[0] if row.macs is not None else bytes(6)
        data, link_type = struct.pack(">HHH6sH", way, 1, 6, mac, 0) + kind + packet, COOKED
    return Frame(link_type, data, len(data) + missing)


def _packet(row: Row) -> tuple[bytes, int]:
    """The packet from its IP header on, and how many bytes of its end are not known."""
    if row.raw:
        return _dumped(row.raw)
    if row.error is not None:
        return _wrapped(row.heads, _icmp(row.error, row.heads[-1]), 58 if ":" in row.heads[-1].source else 1, 0)
    segment = row.segment
    if segment is None or segment.seq is None:
        raise Unreadable("no segment")
    offset = (20 + len(segment.options)) // 4 << 12
    header = struct.pack(
        ">HHIIHHHH",
        segment.source_port, segment.destination_port, segment.seq, segment.ack or 0,
        offset | segment.flags & 0xFF, segment.window or 0, 0, 0,
    )  # fmt: skip
    shown = row.payload[: segment.length]
    return _wrapped(row.heads, header + segment.options + shown, 6, segment.length - len(shown))


def _dumped(raw: bytes) -> tuple[bytes, int]:
    if len(raw) >= 20 and raw[0] >> 4 == 4:
        length = struct.unpack_from(">H", raw, 2)[0]
    elif len(raw) >= 40 and raw[0] >> 4 == 6:
        length = 40 + struct.unpack_from(">H", raw, 4)[0]
    else:
        raise Unreadable("a dump of no IP packet")
    return raw, max(0, length - len(raw))


def _wrapped(heads: list[Head], body: bytes, protocol: int, missing: int) -> tuple[bytes, int]:
    for number, head in reversed(list(enumerate(heads))):
        if number < len(heads) - 1:
            body, protocol = _tunnelled(head, body, missing)
        body = _ip(head, body, protocol, missing)
    return body, missing


def _ip(head: Head, body: bytes, protocol: int, missing: int) -> bytes:
    source, destination = ipaddress.ip_address(head.source), ipaddress.ip_address(head.destination)
    if source.version != destination.version:
        raise Unreadable("addresses of two families")
    if isinstance(source, ipaddress.IPv6Address):
        header = struct.pack(">IHBB", 6 << 28, (len(body) + missing) & 0xFFFF, protocol, head.ttl or 0)
        return header + source.packed + destination.packed + body
    flags = 0x4000 * head.dont_fragment | 0x2000 * head.more_fragments | (head.offset // 8 & 0x1FFF)
    length = min(20 + len(body) + missing, 0xFFFF)
    header = struct.pack(">BBHHHBBH", 0x45, 0, length, head.ip_id or 0, flags, head.ttl or 0, protocol, 0)
    return header + source.packed + destination.packed + body


def _tunnelled(head: Head, body: bytes, missing: int) -> tuple[bytes, int]:
    six = body[0] >> 4 == 6
    kind = 0x86DD if six else 0x0800
    if head.carries in ("vxlan", "geneve"):
        inner = _NOBODY + _NOBODY + struct.pack(">H", kind) + body
        if head.carries == "vxlan":
            shim = struct.pack(">II", 0x0800_0000, head.network << 8)
        else:
            shim = struct.pack(">BBHI", 0, 0, 0x6558, head.network << 8)
        length = 8 + len(shim) + len(inner) + missing
        return struct.pack(">HHHH", *head.ports, length & 0xFFFF, 0) + shim + inner, 17
    if head.carries == "gre":
        return struct.pack(">HH", 0, kind) + body, 47
    return body, 41 if six else 4


def _icmp(error: Error, head: Head) -> bytes:
    if error.quoted is None or error.quoted.segment is None:
        raise Unreadable("an ICMP error about nobody knows which packet")
    inner, segment = error.quoted.heads[-1], error.quoted.segment
    tcp = struct.pack(">HHI", segment.source_port, segment.destination_port, segment.seq or 0)
    quoted = _ip(inner, tcp, 6, 12 + len(segment.options) + segment.length)
    rest = struct.pack(">I", error.mtu) if ":" in head.source else struct.pack(">HH", 0, error.mtu)
    return struct.pack(">BBH", error.type, error.code, 0) + rest + quoted
