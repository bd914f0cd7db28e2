"""A packet in words goes in, such as `in eth0: tcp 10.1.0.2:49880 > 10.20.73.29:80 S`; the packet comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
import re

from tcpwhy.evidence import EvidenceError
from tcpwhy.path.packet import Address, Packet

EXPECTED = (
    "`in IFACE: tcp A:PORT > B:PORT S` or `out: …`; outside it `ipip A > B:`, behind it mark, dscp, ttl, length, uid, gid, ct, type, code"
)

PROTOCOLS = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "icmp": "icmp", "icmp6": "icmpv6", "icmpv6": "icmpv6", "IP": "tcp", "IP6": "tcp"}
"""Of a packet; `IP` and `IP6` so that a line of tcpdump can be pasted."""

TUNNELS = {"ipip": "ipip", "sit": "ipv6", "gre": "gre", "vxlan": "udp", "geneve": "udp"}
"""Of what is around it."""

TUNNEL_PORTS = {"vxlan": 4789, "geneve": 6081}
"""IANA's ports of them."""

NUMBERS = {
    "mark": ("mark", 0xFFFFFFFF),
    "dscp": ("dscp", 63),
    "ttl": ("ttl", 255),
    "length": ("length", 65535),
    "uid": ("uid", 0xFFFFFFFF),
    "gid": ("gid", 0xFFFFFFFF),
    "type": ("icmp_type", 255),
    "code": ("icmp_code", 255),
}
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED")
LONGEST = 1000
MOST_TUNNELS = 4

_START = re.compile(r"\s*(?:in\s+([^\s:]{1,15})|(out))\s*:\s*", re.ASCII)
_FLAGS = re.compile(r"(?:\[([SFRPAUEW.]{1,8})\]|([SFRPAUEW.]{1,8})),?", re.ASCII)
_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]{2,45})\](?::(\d{1,5}))?,?:?", re.ASCII)
_IPV4 = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?:[:.](\d{1,5}))?,?:?", re.ASCII)


def parse_packet(text: str) -> Packet:
    """The packet that the words describe. Raises EvidenceError that says what was read and what was expected."""
    if len(text) > LONGEST:
        raise _wrong(text[:60], "is too long for a packet")
    start = _START.match(text)
    if start is None:
        raise _wrong(text, "does not say where the packet is")
    words = text[start.end() :].replace("(", " ").replace(")", " ").split()
    outer: list[Packet] = []
    while words and words[0] in TUNNELS:
        if len(outer) >= MOST_TUNNELS:
            raise _wrong(text, f"has more than {MOST_TUNNELS} tunnels within each other")
        kind = words.pop(0)
        source, destination = _ends(words, text)
        port = TUNNEL_PORTS.get(kind)
        outer.append(Packet(protocol=TUNNELS[kind], source=source[0], destination=destination[0],
                            source_port=source[1], destination_port=destination[1] or port))  # fmt: skip
        if words and words[0] == ":":
            words.pop(0)
    packet = _inner(words, text)
    for around in reversed(outer):
        packet = dataclasses.replace(around, encapsulated=packet, mark=packet.mark)
    if start.group(1):
        packet = dataclasses.replace(packet, in_interface=start.group(1))
    return packet


def _inner(words: list[str], text: str) -> Packet:
    if not words or words[0] not in PROTOCOLS:
        raise _wrong(text, "names no protocol")
    protocol = PROTOCOLS[words.pop(0)]
    source, destination = _ends(words, text)
    if protocol in ("tcp", "udp", "sctp") and (source[1] is None or destination[1] is None):
        raise _wrong(text, "lacks a port")
    values: dict[str, int] = {}
    flags: str | None = None
    state: str | None = None
    while words:
        word = words.pop(0)
        if word in NUMBERS and words:
            name, largest = NUMBERS[word]
            values[name] = _number(words.pop(0), largest, text)
        elif word == "ct" and words and words[0] in STATES:
            state = words.pop(0)
        elif word == "Flags":
            continue
        elif protocol == "tcp" and flags is None and _FLAGS.fullmatch(word):
            flags = word.strip("[],").replace(".", "A")
        else:
            raise _wrong(text, f"has `{word}`, which says nothing of a packet")
    if protocol == "tcp" and flags is None:
        raise _wrong(text, "lacks TCP flags")
    if protocol == "icmp" and source[0].version == 6:
        protocol = "icmpv6"
    return Packet(
        protocol=protocol,
        source=source[0],
        destination=destination[0],
        source_port=source[1],
        destination_port=destination[1],
        flags=flags,
        ct_state=state,  # type: ignore[arg-type]
        **values,  # type: ignore[arg-type]
    )


def _ends(words: list[str], text: str) -> tuple[tuple[Address, int | None], tuple[Address, int | None]]:
    if len(words) < 3 or words[1] != ">":
        raise _wrong(text, "lacks `A > B`")
    source, destination = _end(words[0], text), _end(words[2], text)
    if source[0].version != destination[0].version:
        raise _wrong(text, "has addresses of both families")
    del words[:3]
    return source, destination


def _end(word: str, text: str) -> tuple[Address, int | None]:
    found = _BRACKETED.fullmatch(word) or _IPV4.fullmatch(word)
    try:
        if found is None:
            return ipaddress.IPv6Address(word.rstrip(",")), None
        port = int(found.group(2)) if found.group(2) else None
        if port is not None and port > 65535:
            raise _wrong(text, f"has the port {port}")
        return ipaddress.ip_address(found.group(1)), port
    except ValueError:
        raise _wrong(text, f"has `{word}`, which is no address") from None


def _number(word: str, largest: int, text: str) -> int:
    try:
        number = int(word.rstrip(","), 0)
    except ValueError:
        number = -1
    if not 0 <= number <= largest:
        raise _wrong(text, f"has `{word}`, which is no number from 0 to {largest}")
    return number


def _wrong(text: str, what: str) -> EvidenceError:
    return EvidenceError("PACKET", f"`{text.strip()}` {what}, expected {EXPECTED}")
