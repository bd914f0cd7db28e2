"""Words that listings print for numbers go in, the numbers come out: addresses, ports, TCP options."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
import struct
from functools import lru_cache

from tcpwhy.tables.listings._row import Unreadable

FLAG_BITS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, ".": 0x10, "U": 0x20, "E": 0x40, "W": 0x80, "e": 0}
"""tcpdump's letters for TCP flags (print-tcp.c, tcp_flag_values); the last is the ninth bit (RFC 3540), which nothing here needs."""

NAMED_NETWORK = 0xF000_0000
"""240.0.0.0/4, which nobody uses (RFC 1112 section 4): host names that were not numbered get an address there, each its own."""


@lru_cache(maxsize=8192)
def address(text: str) -> str:
    """An address in its canonical spelling; for a host's name a stand-in. Raises Unreadable."""
    text = text.strip("[]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9_](?:[\w.-]{0,253}\w)?\.?", text) or re.fullmatch(r"[\d.]+", text):
            raise Unreadable(f"`{text[:60]}` is no address") from None
        number = int.from_bytes(hashlib.sha256(text.lower().rstrip(".").encode()).digest()[:4]) & 0x0FFF_FFFF
        return str(ipaddress.IPv4Address(NAMED_NETWORK | min(number, 0x0FFF_FFFE)))


def is_named(ip: str) -> bool:
    """True for a stand-in."""
    return ip.startswith("2") and ":" not in ip and int(ip.split(".", 1)[0]) >= 240


@lru_cache(maxsize=4096)
def port(text: str) -> int:
    """A port's number, by the local table of services where it is named. Raises Unreadable."""
    if text.isascii() and text.isdigit():
        if int(text[:6]) > 65535:
            raise Unreadable(f"`{text[:10]}` is no port")
        return int(text)
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, UnicodeError, ValueError):
        raise Unreadable(f"`{text[:40]}` is no port that is known here") from None


def end(text: str) -> tuple[str, int]:
    """`10.0.0.1.80`, `2001:db8::1.80` or `web.example.http`: address and port. Raises Unreadable."""
    host, dot, service = text.rpartition(".")
    if not dot:
        raise Unreadable(f"`{text[:60]}` has no port")
    return address(host), port(service)


def tcpdump_options(text: str) -> bytes:
    """`mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7` as bytes (print-tcp.c); what is not understood is left out."""
    out = b""
    for word in re.split(r",\s*(?![^{]*\})", text):
        name, _, value = word.strip().partition(" ")
        numbers = [int(number) & 0xFFFF_FFFF for number in re.findall(r"(?<!\w)\d+", value)]
        if name == "nop":
            out += b"\1"
        elif name == "eol":
            out += b"\0"
        elif name == "mss" and numbers:
            out += struct.pack(">BBH", 2, 4, numbers[0] & 0xFFFF)
        elif name == "wscale" and numbers:
            out += struct.pack(">BBB", 3, 3, min(numbers[0], 255))
        elif name in ("sackOK", "sackok"):
            out += b"\4\2"
        elif name in ("TS", "timestamp") and len(numbers) >= 2:
            out += struct.pack(">BBII", 8, 10, numbers[0], numbers[1])
        elif name == "sack":
            edges = [int(number) for number in re.findall(r"\d+", value.partition("{")[2])]
            out += _sack([edge & 0xFFFF_FFFF for edge in edges])
        elif found := re.fullmatch(r"(?:unknown|exp)-(?:0x)?([0-9a-f]{1,4})\s+0x([0-9a-f]*)", word.strip()):
            body = bytes.fromhex(found[2][: len(found[2]) // 2 * 2])[:38]
            kind = 253 if word.strip().startswith("exp") else int(found[1]) & 0xFF if found[1].isdigit() else 253
            out += bytes((kind, len(body) + 2)) + body
    return padded(out)


def tshark_options(text: str) -> bytes:
    """`MSS=1460 SACK_PERM TSval=1 TSecr=0 WS=128` as bytes (packet-tcp.c); the order is not told, and without meaning."""
    out = b""
    numbers = {name: int(value[:20]) & 0xFFFF_FFFF for name, value in re.findall(r"\b(MSS|TSval|TSecr|WS)=(\d+)", text)}
    if "MSS" in numbers:
        out += struct.pack(">BBH", 2, 4, numbers["MSS"] & 0xFFFF)
    if "SACK_PERM" in text:
        out += b"\4\2"
    if "TSval" in numbers:
        out += struct.pack(">BBII", 8, 10, numbers["TSval"], numbers.get("TSecr", 0))
    if "WS" in numbers and numbers["WS"] > 0:
        out += struct.pack(">BBB", 3, 3, min(numbers["WS"].bit_length() - 1, 14))
    edges = [int(number[:20]) & 0xFFFF_FFFF for number in re.findall(r"\bS[LR]E=(\d+)", text)]
    return padded(out + _sack(edges))


def _sack(edges: list[int]) -> bytes:
    edges = edges[: min(len(edges) // 2, 4) * 2]
    return bytes((5, 2 + 4 * len(edges))) + struct.pack(f">{len(edges)}I", *edges) if edges else b""


def padded(options: bytes) -> bytes:
    """Options as long as a TCP header can hold, filled up to whole words (RFC 9293 section 3.1)."""
    options = options[:40]
    return options + b"\1" * (-len(options) % 4)
