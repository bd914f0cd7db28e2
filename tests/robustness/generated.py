"""A layout and TCP segments go in; captures of many kinds, whole or damaged, come out: the same seed, the same bytes."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

START_S = 1_700_000_000
STEP_NS = 13_000_000


@dataclass(frozen=True)
class Sent:
    """One TCP segment, as it must be found again."""

    source: tuple[bytes, int]
    destination: tuple[bytes, int]
    seq: int
    flags: int
    time_ns: int
    payload: bytes = b""


def conversations(count: int, segments: int = 9, first_port: int = 40_000) -> list[Sent]:
    """Segments of `count` connections, woven into each other, in the order of time."""
    chance = random.Random(count)
    client, server = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    numbers = [chance.getrandbits(30) for _ in range(count)]
    sent = []
    for turn in range(segments):
        for number in range(count):
            time_ns = START_S * 10**9 + (turn * count + number) * STEP_NS
            ends = ((client, first_port + number), (server, 80))
            if turn == 0:
                sent.append(Sent(*ends, numbers[number], 0x02, time_ns))
            elif turn % 2:
                sent.append(Sent(ends[1], ends[0], numbers[number] + 7 * turn, 0x12 if turn == 1 else 0x10, time_ns))
            else:
                sent.append(Sent(*ends, numbers[number] + 10 * turn, 0x18, time_ns, b"0123456789"))
    return sent


def ipv4(sent: Sent, number: int) -> bytes:
    """The IPv4 packet of a segment."""
    tcp = struct.pack("!HHIIBBHHH", sent.source[1], sent.destination[1], sent.seq, 1, 0x50, sent.flags, 512, 0, 0) + sent.payload
    return ip_header(20 + len(tcp), number, 6, sent.source[0], sent.destination[0]) + tcp


def ip_header(length: int, number: int, protocol: int, source: bytes, destination: bytes) -> bytes:
    """An IPv4 header without options; its checksum is left out, as offload leaves it."""
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, number & 0xFFFF, 0x4000, 64, protocol, 0, source, destination)


ETHERNET = bytes.fromhex("020000000002020000000001")
OUTER = (bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))


def _outer(protocol: int, body: bytes) -> bytes:
    return ETHERNET + b"\x08\x00" + ip_header(20 + len(body), 1, protocol, *OUTER) + body


def _udp(port: int, body: bytes) -> bytes:
    return _outer(17, struct.pack("!HHHH", 50_000, port, 8 + len(body), 0) + body)


def _nested(packet: bytes) -> bytes:
    for _ in range(4):
        packet = ip_header(20 + len(packet), 1, 4, *OUTER) + packet
    return ETHERNET + b"\x08\x00" + packet


LAYOUTS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "ethernet": (1, lambda packet: ETHERNET + b"\x08\x00" + packet),
    "ethernet padded": (1, lambda packet: (ETHERNET + b"\x08\x00" + packet).ljust(60, b"\0")),
    "vlan": (1, lambda packet: ETHERNET + b"\x81\x00\x00\x05\x08\x00" + packet),
    "qinq": (1, lambda packet: ETHERNET + b"\x88\xa8\x00\x07\x81\x00\x00\x05\x08\x00" + packet),
    "sll": (113, lambda packet: struct.pack("!HHH8sH", 4, 1, 6, b"\2\0\0\0\0\1", 0x0800) + packet),
    "sll2": (276, lambda packet: struct.pack("!HHIHBB8s", 0x0800, 0, 3, 1, 4, 6, b"\2\0\0\0\0\1") + packet),
    "raw": (101, lambda packet: packet),
    "ipv4": (228, lambda packet: packet),
    "null little": (0, lambda packet: struct.pack("<I", 2) + packet),
    "null big": (0, lambda packet: struct.pack(">I", 2) + packet),
    "loop": (108, lambda packet: struct.pack(">I", 2) + packet),
    "ppp": (9, lambda packet: b"\xff\x03\x00\x21" + packet),
    "ipip": (1, lambda packet: _outer(4, packet)),
    "ipip four times": (1, _nested),
    "gre": (1, lambda packet: _outer(47, b"\x00\x00\x08\x00" + packet)),
    "gretap with key": (1, lambda packet: _outer(47, b"\x20\x00\x65\x58\0\0\0\5" + ETHERNET + b"\x08\x00" + packet)),
    "vxlan": (1, lambda packet: _udp(4789, b"\x08\0\0\0\0\0\x4d\0" + ETHERNET + b"\x08\x00" + packet)),
    "geneve": (1, lambda packet: _udp(6081, b"\0\0\x65\x58\0\0\x4d\0" + ETHERNET + b"\x08\x00" + packet)),
    "mpls": (1, lambda packet: ETHERNET + b"\x88\x47" + bytes.fromhex("0000504000006140") + packet),
    "pppoe": (1, lambda packet: ETHERNET + b"\x88\x64\x11\0\0\4" + struct.pack("!HH", len(packet) + 2, 0x21) + packet),
}  # fmt: skip
"""By name: the link type and what a packet is wrapped in."""


def frames(layout: str, sent: Sequence[Sent]) -> list[tuple[int, bytes]]:
    """Time in nanoseconds and bytes of each record."""
    wrap = LAYOUTS[layout][1]
    return [(one.time_ns, wrap(ipv4(one, number + 1))) for number, one in enumerate(sent)]


def pcap(
    link_type: int, records: Sequence[tuple[int, bytes]], order: str = "<", nanoseconds: bool = False, modified: bool = False
) -> bytes:
    """A pcap file in either byte order, of micro- or nanoseconds, or with Kuznetzov's longer record headers."""
    magic = 0xA1B2CD34 if modified else 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = bytearray(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, link_type))
    for time_ns, data in records:
        fraction = time_ns % 10**9 // (1 if nanoseconds else 1_000)
        out += struct.pack(order + "IIII", time_ns // 10**9, fraction, len(data), len(data))
        out += struct.pack(order + "IHBB", 1, 0x0800, 0, 0) if modified else b""
        out += data
    return bytes(out)


def block(order: str, kind: int, body: bytes) -> bytes:
    """One pcapng block, padded."""
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def option(order: str, code: int, value: bytes) -> bytes:
    """One pcapng option, padded."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    """A section header of unknown length."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link_type: int, resolution: int = 6, name: bytes = b"") -> bytes:
    """An interface description with if_tsresol and perhaps if_name."""
    options = option(order, 2, name) if name else b""
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, 0) + options + option(order, 9, bytes([resolution])) + bytes(4))


def ticks_of(time_ns: int, resolution: int) -> int:
    """A time as if_tsresol counts it: a power of ten, or of two with the top bit set."""
    units = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
    assert isinstance(units, int)
    return -(-time_ns * units // 10**9)


def enhanced(order: str, number: int, ticks: int, data: bytes, comment: bytes = b"") -> bytes:
    """An enhanced packet block, perhaps with a comment."""
    options = option(order, 1, comment) + bytes(4) if comment else b""
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, 6, head + data + bytes(-len(data) % 4) + options)


def obsolete(order: str, number: int, ticks: int, data: bytes) -> bytes:
    """The packet block that enhanced ones replaced."""
    return block(order, 2, struct.pack(order + "HHIIII", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data)


def simple(order: str, data: bytes) -> bytes:
    """A simple packet block, which has no time."""
    return block(order, 3, struct.pack(order + "I", len(data)) + data)


def damage(whole: bytes, other: bytes, chance: random.Random) -> bytes:
    """One way of being broken: cut, flipped, spliced, joined, with a hole, with noise or with a wrong size in it."""
    data = bytearray(whole)
    at = chance.randrange(len(data))
    way = chance.randrange(7)
    if way == 0:
        del data[at:]
    elif way == 1:
        for _ in range(chance.choice([1, 5, 50])):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif way == 2:
        data[at:] = other[chance.randrange(len(other)) :]
    elif way == 3:
        data += other
    elif way == 4:
        del data[at : at + chance.randrange(2_000)]
    elif way == 5:
        data[at:at] = chance.choice([b"\0", b"\xff", b"\x0a\x0d\x0d\x0a", chance.randbytes(1)]) * chance.randrange(3_000)
    else:
        sizes = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\1\0", b"\0\0\0\1", b"\x0c\0\0\0"]
        data[at : at + 4] = chance.choice(sizes)
    return bytes(data)
