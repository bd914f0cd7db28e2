"""Connections behind a balancer in a few words go in; a case of captures with options, PROXY headers and HTTP requests comes out."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from tests.packets import FLAGS, MS, START_NS


@dataclasses.dataclass(frozen=True)
class Talk:
    """One connection at one place."""

    client: str
    server: str = "10.9.0.11:80"
    requests: Sequence[bytes] = ()
    toa: str | None = None
    """On the packets before the server's first byte is acknowledged, as DPVS does it."""
    at_ms: float = 0.0
    every_ms: float = 10.0
    has_begin: bool = True
    has_end: bool = False
    isn: int | None = None
    """None: one of its own for each pair of ends, as hosts choose them."""
    server_isn: int | None = None
    ttl: int = 63
    answers_later_ms: float = 0.0
    """So much later than at the server its packets pass here."""


def request(team: str | None = None, *lines: str) -> bytes:
    """The head of a GET."""
    named = [f"X-Team: {team}"] if team is not None else []
    return "\r\n".join(["GET / HTTP/1.1", "Host: old", *named, *lines, "", ""]).encode("utf-8", "surrogateescape")


def proxy_v1(client: str, server: str = "203.0.113.80:80") -> bytes:
    """A PROXY header of version 1."""
    (cip, cport), (sip, sport) = client.rsplit(":", 1), server.rsplit(":", 1)
    return f"PROXY TCP4 {cip} {sip} {cport} {sport}\r\n".encode()


PROXY_LOCAL = b"\r\n\r\n\0\r\nQUIT\n" + bytes((0x20, 0x00)) + b"\0\0"
"""A PROXY header of version 2 with the command LOCAL (haproxy doc/proxy-protocol.txt section 2.2)."""


def option(client: str, kind: int = 254) -> bytes:
    """TOA: kind, length, port, address."""
    ip, port = client.rsplit(":", 1)
    packed = ipaddress.ip_address(ip.strip("[]")).packed
    return struct.pack(">BBH", kind, 4 + len(packed), int(port)) + packed


def write_talks(path: Path, talks: Sequence[Talk], *, clock_s: float = 0.0) -> Path:
    """A pcap of Ethernet frames, in the order of time."""
    frames = sorted((frame for talk in talks for frame in _frames(talk)), key=lambda frame: frame[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for at_ms, frame in frames:
        time_ns = START_NS + round(at_ms * MS) + round(clock_s * 1e9)
        out.append(struct.pack("<IIII", time_ns // 10**9, time_ns % 10**9, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(out))
    return path


def _frames(talk: Talk) -> list[tuple[float, bytes]]:
    own = zlib.crc32(f"{talk.client} {talk.server}".encode()) >> 4
    c = (own if talk.isn is None else talk.isn) + 1
    s = (own * 7 & 0xFFF_FFFF if talk.server_isn is None else talk.server_isn) + 1
    at = talk.at_ms
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    toa = option(talk.toa) if talk.toa else b""
    found: list[tuple[float, bytes]] = []

    def add(from_client: bool, flags: str, options: bytes, payload: bytes) -> None:
        nonlocal at
        ends = (talk.client, talk.server) if from_client else (talk.server, talk.client)
        numbers = (c, s) if from_client else (s, c)
        when = at if from_client else at + talk.answers_later_ms
        found.append((when, _frame(*ends, *numbers, flags, options, payload, talk.ttl if from_client else 64)))
        at += 0.1

    if talk.has_begin:
        c, s = c - 1, s - 1
        found.append((at, _frame(talk.client, talk.server, c, 0, "S", b"", b"", talk.ttl)))
        found.append((at + 0.1, _frame(talk.server, talk.client, s, c + 1, "SA", b"", b"", 64)))
        c, s, at = c + 1, s + 1, at + 0.2
        add(True, "A", toa, b"")
    for number, payload in enumerate(talk.requests):
        at = max(at, talk.at_ms + number * talk.every_ms)
        add(True, "PA", toa if number == 0 and talk.has_begin else b"", payload)
        c += len(payload)
        add(False, "PA", b"", answer)
        s += len(answer)
        add(True, "A", b"", b"")
    if talk.has_end:
        add(True, "FA", b"", b"")
        c += 1
        add(False, "FA", b"", b"")
        s += 1
        add(True, "A", b"", b"")
    return found


def _frame(source: str, target: str, seq: int, ack: int, flags: str, options: bytes, payload: bytes, ttl: int) -> bytes:
    (sip, sport), (dip, dport) = source.rsplit(":", 1), target.rsplit(":", 1)
    padded = options + b"\1" * (-len(options) % 4)
    bits = sum(FLAGS[letter] for letter in flags)
    tcp = struct.pack(">HHIIHHHH", int(sport), int(dport), seq, ack, (20 + len(padded)) // 4 << 12 | bits, 502, 0, 0) + padded + payload
    one, other = ipaddress.ip_address(sip.strip("[]")).packed, ipaddress.ip_address(dip.strip("[]")).packed
    if len(one) == 16:
        return b"\2\0\0\0\0\1\2\0\0\0\0\2\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(tcp), 6, ttl) + one + other + tcp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 7, 0x4000, ttl, 6, 0) + one + other
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + ip + tcp


def write_state(folder: Path, *, taken_ms: float, **files: str) -> Path:
    """A state folder: `ipvsadm_connections="…"` becomes ipvsadm-connections.txt; host.json says when it was taken."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = datetime.datetime.fromtimestamp((START_NS + round(taken_ms * MS)) / 1e9, datetime.UTC).isoformat()
    (folder / "host.json").write_text(json.dumps({"name": folder.parent.name, "time": taken, "utc_offset": "+00:00"}))
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.txt").write_text(text)
    return folder
