"""TCP options and what stands around them go in; frames, captures, and the frames that tcpdump or tshark picked come out."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tcpwhy.filters import Layout, Target

NOP, END = b"\x01", b"\x00"
TIMESTAMPS = b"\x01\x01\x08\x0a\x00\x01\x02\x03\x00\x04\x05\x06"
ETHERNET, RAW, SLL, SLL2 = 1, 101, 113, 276
LINK_HEADERS = {
    ETHERNET: {4: b"\x02\0\0\0\0\x01\x02\0\0\0\0\x09\x08\x00", 6: b"\x02\0\0\0\0\x01\x02\0\0\0\0\x09\x86\xdd"},
    RAW: {4: b"", 6: b""},
    SLL: {4: struct.pack("!HHH8xH", 0, 1, 6, 0x0800), 6: struct.pack("!HHH8xH", 0, 1, 6, 0x86DD)},
    SLL2: {4: struct.pack("!HHIHBB8x", 0x0800, 0, 2, 1, 0, 6), 6: struct.pack("!HHIHBB8x", 0x86DD, 0, 2, 1, 0, 6)},
}


def option(layout: Layout, target: Target, port: int = 0x0A0A) -> bytes:
    """The option as a balancer writes it; `port` where the target names none, 0x5a in all other places."""
    known = layout.known_bytes(Target(target.address, target.port or port))
    return bytes(known.get(at, 1 if layout.kind == 28 and at == 2 else 0x5A) for at in range(layout.length))


def at_offset(offset: int, content: bytes, filling: bytes = NOP) -> bytes:
    """TCP options in which `content` begins at `offset` from the start of the TCP header, padded to words."""
    options = filling * (offset - 20) + content
    return options + END * (-len(options) % 4)


def segment(options: bytes = b"", payload: bytes = b"", *, source_port: int = 1000, number: int = 1) -> bytes:
    """A TCP segment with ACK set."""
    words = (20 + len(options)) // 4
    return struct.pack("!HHIIHHHH", source_port, 80, number, 1, words << 12 | 0x10, 500, 0, 0) + options + payload


def ipv4(content: bytes, *, options: bytes = b"", fragment: int = 0, protocol: int = 6) -> bytes:
    """An IPv4 packet from 10.0.0.9 to 10.0.0.1."""
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBB", 0x40 | words, 0, 4 * words + len(content), 7, fragment, 64, protocol)
    ends = ipaddress.IPv4Address("10.0.0.9").packed + ipaddress.IPv4Address("10.0.0.1").packed + options
    return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + content


def ipv6(content: bytes, *, extension: bytes = b"") -> bytes:
    """An IPv6 packet from fd00::9 to fd00::1; an extension header of hop-by-hop options may stand before the segment."""
    ends = ipaddress.IPv6Address("fd00::9").packed + ipaddress.IPv6Address("fd00::1").packed
    return struct.pack("!IHBB", 6 << 28, len(extension + content), 0 if extension else 6, 64) + ends + extension + content


def packet(version: int, content: bytes) -> bytes:
    """An IPv4 or IPv6 packet."""
    return ipv4(content) if version == 4 else ipv6(content)


def tagged(frame: bytes, *tags: int) -> bytes:
    """An Ethernet frame with VLAN tags of these types, from the outer one."""
    return frame[:12] + b"".join(struct.pack("!HH", kind, 5) for kind in tags) + frame[12:]


def linked(ip_packet: bytes, link: int = ETHERNET) -> bytes:
    """The packet with the header of its link type."""
    return LINK_HEADERS[link][ip_packet[0] >> 4] + ip_packet


def write_capture(path: Path, frames: Iterable[bytes], link: int = ETHERNET, snap_length: int = 262144) -> Path:
    """A pcap; each frame's seconds are its place, from 0."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap_length, link)]
    for number, frame in enumerate(frames):
        kept = frame[:snap_length]
        out.append(struct.pack("<IIII", number, 0, len(kept), len(frame)) + kept)
    path.write_bytes(b"".join(out))
    return path


def picked_by_tcpdump(capture: Path, expression: str) -> set[int]:
    """The places of the frames that tcpdump lets through."""
    _need("tcpdump")
    done = subprocess.run(["tcpdump", "-r", str(capture), "-w", "-", expression], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found, at = set(), 24
    while at < len(done.stdout):
        number, _, kept, _ = struct.unpack_from("<IIII", done.stdout, at)
        found.add(number)
        at += 16 + kept
    return found


def picked_by_tshark(capture: Path, display_filter: str) -> set[int]:
    """The places of the frames that tshark shows."""
    _need("tshark")
    command = ["tshark", "-n", "-r", str(capture), "-Y", display_filter, "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {int(line) - 1 for line in done.stdout.split()}


def others(target: Target) -> Sequence[Target]:
    """Addresses that differ from the target's in one bit of one byte: also in the one that makes a small letter a capital."""
    packed = target.address.packed
    changed = [packed[:at] + bytes([packed[at] ^ bit]) + packed[at + 1 :] for at in range(len(packed)) for bit in (1, 0x20, 0x80)]
    found = [Target(ipaddress.ip_address(one), target.port) for one in changed]
    return [*found, *([Target(target.address, target.port ^ bit) for bit in (1, 0x2000)] if target.port is not None else [])]


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing")
