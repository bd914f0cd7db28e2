"""The values of iptables options go in as text; numbers, ranges, masks and networks come out, None for what is no such value."""

from __future__ import annotations

import functools
import ipaddress
import re

_NUMBER = re.compile(r"(?:0[xX]([0-9A-Fa-f]{1,16})|(\d{1,20}))", re.ASCII)


def number(text: str) -> int | None:
    """Decimal or 0x hexadecimal."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return None
    return int(found[1], 16) if found[1] else int(found[2])


def masked(text: str, width: int = 32) -> tuple[int, int] | None:
    """`0x1/0xff` as value and mask; all bits of `width` where no mask is given."""
    value, slash, mask = text.partition("/")
    first, second = number(value), number(mask) if slash else (1 << width) - 1
    return None if first is None or second is None else (first, second)


@functools.lru_cache(maxsize=65_536)
def number_range(text: str, separator: str = ":", most: int = 65_535) -> tuple[int, int] | None:
    """`80`, `1024:65535`, `:1023`, `1024:` as first and last."""
    first, separated, last = text.partition(separator)
    low = number(first) if first or not separated else 0
    high = (number(last) if last else most) if separated else low
    return None if low is None or high is None else (low, high)


@functools.lru_cache(maxsize=65_536)
def network(text: str) -> tuple[int, int, int] | None:
    """`10.0.0.0/8`, `10.0.12.0/255.0.255.0`, `fd00::/8` as family, address and mask; None for a host name."""
    host, slash, mask = text.partition("/")
    try:
        address = ipaddress.ip_address(host)
        if not slash:
            bits = (1 << address.max_prefixlen) - 1
        elif mask.isascii() and mask.isdigit():
            if len(mask) > 3 or int(mask) > address.max_prefixlen:
                return None
            bits = (1 << address.max_prefixlen) - (1 << (address.max_prefixlen - int(mask)))
        else:
            other = ipaddress.ip_address(mask)
            if other.version != address.version:
                return None
            bits = int(other)
    except ValueError:
        return None
    return address.version, int(address) & bits, bits


@functools.lru_cache(maxsize=65_536)
def address_range(
    text: str,
) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | tuple[ipaddress.IPv6Address, ipaddress.IPv6Address] | None:
    """`10.0.0.1-10.0.0.9` or one address, as first and last."""
    first, dash, last = text.partition("-")
    try:
        low = ipaddress.ip_address(first)
        high = ipaddress.ip_address(last) if dash else low
    except ValueError:
        return None
    if isinstance(low, ipaddress.IPv4Address) and isinstance(high, ipaddress.IPv4Address):
        return low, high
    if isinstance(low, ipaddress.IPv6Address) and isinstance(high, ipaddress.IPv6Address):
        return low, high
    return None
