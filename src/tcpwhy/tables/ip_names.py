"""A word or value as iproute2 prints it goes in; the one form in which the tables hold it comes out."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Any, Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TABLES = {"255": "local", "254": "main", "253": "default"}
"""include/uapi/linux/rtnetlink.h, enum rt_class_t; `ip -N` prints the numbers."""

_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "47": "gre", "50": "esp", "51": "ah", "58": "ipv6-icmp", "132": "sctp"}

_TOS = {
    "default": 0x00, "lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04, "mincost": 0x02,
    "AF11": 0x28, "AF12": 0x30, "AF13": 0x38, "AF21": 0x48, "AF22": 0x50, "AF23": 0x58, "AF31": 0x68, "AF32": 0x70, "AF33": 0x78,
    "AF41": 0x88, "AF42": 0x90, "AF43": 0x98, "CS1": 0x20, "CS2": 0x40, "CS3": 0x60, "CS4": 0x80, "CS5": 0xA0, "CS6": 0xC0, "CS7": 0xE0,
    "EF": 0xB8,
}  # fmt: skip
"""iproute2, etc/iproute2/rt_dsfield; the lower-case names but the first are of iproute2 before 2.6."""

_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})", re.ASCII)


def text_of(value: Any) -> str:
    """A string or a number as text; the empty text for anything else."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def number_of(value: Any) -> int | None:
    """A number, or one written in decimal or with 0x; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 64 else None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        digits = value.strip().lower()
        return int(digits, 16) if "x" in digits else int(digits)
    return None


def words_of(value: Any) -> str:
    """The first words of a list that stands where words were not understood; other JSON than a list of text as it is."""
    words = [word if isinstance(word, str) else repr(word) for word in value[:100]] if isinstance(value, list) else [repr(value)]
    return " ".join(words)[:100]


def table_name(value: Any) -> str:
    """`local`, `main`, `default` for their numbers; another name (of /etc/iproute2/rt_tables) or number as it is."""
    text = text_of(value)
    return _TABLES.get(text, text)


def protocol_name(value: Any) -> str:
    """A transport protocol by its name where it is a usual one, else as it is."""
    text = text_of(value)
    if text.lower().startswith("ipproto-"):  # iproute2, lib/inet_proto.c: what /etc/protocols does not name
        text = text[8:]
    return _PROTOCOLS.get(text, text.lower())


def tos_of(value: Any) -> int | None:
    """A TOS byte by number or by name; None where the name is unknown."""
    number = number_of(value)
    if number is not None:
        return number if 0 <= number <= 255 else None
    return _TOS.get(text_of(value))


@functools.lru_cache(maxsize=65536)
def network_of(text: str, family: Literal[4, 6]) -> Network | None:
    """`default`, `all`, an address, or a prefix (`10.0.0.0/8`, `0/8`) of that family; None for anything else."""
    if text in ("default", "all", "any"):
        text = "0/0"
    address, slash, length = text.partition("/")
    if address == "0":
        address = "0.0.0.0" if family == 4 else "::"
    try:
        network = ipaddress.ip_network(address + slash + length, strict=False)
    except ValueError:
        return None
    return network if network.version == family and (not slash or length.isdecimal()) else None


def family_of(text: str) -> Literal[4, 6] | None:
    """Which family an address or prefix is of; None for `default`, `all` and what is neither."""
    if ":" in text:
        return 6
    return 4 if "." in text else None
