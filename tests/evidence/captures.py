"""Times and link types go in, small pcap and pcapng files come out."""

import struct


def pcap(*times_s: float, order: str = "<", nanoseconds: bool = False, link_type: int = 1, size: int = 60) -> bytes:
    """A capture with one record of `size` bytes at each time."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    units = 10**9 if nanoseconds else 10**6
    out = bytearray(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link_type))
    for time in times_s:
        whole = round(time * units)
        out += struct.pack(order + "IIII", whole // units, whole % units, size, size) + bytes(size)
    return bytes(out)


def pcapng(*times_s: float, order: str = "<", resolution: int = 6) -> bytes:
    """The same as pcapng, of one interface with if_tsresol 10^-resolution."""

    def block(kind: int, body: bytes) -> bytes:
        length = 12 + len(body)
        return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)

    out = bytearray(block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)))
    options = struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    out += block(1, struct.pack(order + "HHI", 1, 0, 0) + options)
    for time in times_s:
        ticks = round(time * 10**resolution)
        out += block(6, struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, 60, 60) + bytes(60))
    return bytes(out)
