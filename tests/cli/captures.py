"""Stories of one TCP connection in a few words go in, captures on disk come out."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
LETTERS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
BEGIN_S = 1_795_000_000


def segment(sender: str, flags: str, seq: int, ack: int, payload: bytes = b"", number: int = 0) -> bytes:
    """An Ethernet frame from `client` or `server`; RSTs have window 0."""
    source, destination = (CLIENT, SERVER) if sender == "client" else (SERVER, CLIENT)
    bits = sum(LETTERS[letter] for letter in flags)
    tcp = struct.pack("!HHIIBBHHH", source[1], destination[1], seq, ack, 0x50, bits, 0 if "R" in flags else 60000, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), number, 0x4000, 64, 6, 0)
    ends = ipaddress.ip_address(source[0]).packed + ipaddress.ip_address(destination[0]).packed
    return b"\2" * 6 + b"\4" * 6 + b"\x08\0" + ip + ends + tcp


def record(time_s: float, frame: bytes) -> bytes:
    """A pcap record."""
    microseconds = round(time_s * 1_000_000)
    return struct.pack("<IIII", BEGIN_S + microseconds // 1_000_000, microseconds % 1_000_000, len(frame), len(frame)) + frame


def healthy() -> list[bytes]:
    """A request, its answer, and an orderly end."""
    request, answer = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    end, after = 1001 + len(request), 5001 + len(answer)
    story = [
        ("client", "S", 1000, 0, b""), ("server", "SA", 5000, 1001, b""), ("client", "A", 1001, 5001, b""),
        ("client", "PA", 1001, 5001, request), ("server", "PA", 5001, end, answer), ("client", "A", end, after, b""),
        ("client", "FA", end, after, b""), ("server", "FA", after, end + 1, b""), ("client", "A", end + 1, after + 1, b""),
    ]  # fmt: skip
    return [record(n * 0.001, segment(*words, number=n + 1)) for n, words in enumerate(story)]


def unanswered() -> list[bytes]:
    """A SYN, repeated after 1, 3 and 7 seconds, and never answered."""
    return [record(time_s, segment("client", "S", 1000, 0, number=n + 1)) for n, time_s in enumerate((0, 1, 3, 7))]


def write(path: Path, records: list[bytes]) -> Path:
    """A pcap file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PCAP + b"".join(records))
    return path
