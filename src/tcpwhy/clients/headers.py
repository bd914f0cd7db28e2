"""Values of X-Forwarded-For, Forwarded and their like go in; the hops that they name, from the client to the last proxy, come out."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection, Sequence

from tcpwhy.clients.story import End

CLIENT_HEADERS = ("x-forwarded-for", "forwarded", "x-real-ip", "x-envoy-external-address")
"""Headers that name a client, the ones that proxies append to first (nginx $proxy_add_x_forwarded_for, RFC 7239, nginx's custom,
Envoy config/http/http_conn_man/headers)."""

MOST_HOPS = 64
"""Hops read of one value, from its right end: nobody has longer chains, and the left end is whatever the client wrote."""

_QUOTED_OR_PART = re.compile(r'"(?:[^"\\]|\\.)*"?|[^",;]+|[,;]')
_V4_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?", re.ASCII)
_V6_PORT = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::(\d{1,5}))?", re.ASCII)


@functools.lru_cache(maxsize=1 << 14)
def plain_address(text: str) -> str | None:
    """An address in its shortest form, an IPv4 address inside IPv6 (RFC 4291 section 2.5.5.2) as IPv4; None for anything else."""
    if len(text) > 45 or "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


@functools.lru_cache(maxsize=1 << 14)
def can_be_client(ip: str) -> bool:
    """False for what no host sends from: unspecified, multicast, broadcast, this network (RFC 1122 section 3.2.1.3), and loopback."""
    address = ipaddress.ip_address(ip)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return False
    return not isinstance(address, ipaddress.IPv4Address) or not (int(address) >> 24 == 0 or int(address) == 0xFFFF_FFFF)


def read_node(text: str) -> End | None:
    """One hop: `192.0.2.1`, `192.0.2.1:4711`, `[2001:db8::1]:4711`, `2001:db8::1`; None for `unknown`, `_hidden` and anything else."""
    text = text.strip(" \t")
    found = _V4_PORT.fullmatch(text) or _V6_PORT.fullmatch(text)
    ip = plain_address(found[1] if found else text)
    if ip is None:
        return None
    port = int(found[2]) if found and found[2] else None
    return None if port is not None and port > 65535 else (ip, port or None)


def hops_of(name: str, value: str) -> list[End | None]:
    """The hops of one header's value, client first; None for one that names no address. At most MOST_HOPS, the last ones."""
    if name == "forwarded":
        return _forwarded(value)
    parts = value.split(",") if name == "x-forwarded-for" else [value]
    return [read_node(part.strip(' \t"')) for part in parts[-MOST_HOPS:]]


def _forwarded(value: str) -> list[End | None]:
    """`for=` of each element (RFC 7239 section 4); an element without one names nobody."""
    elements: list[End | None] = []
    found: End | None = None
    for match in _QUOTED_OR_PART.finditer(value + ","):
        piece = match[0]
        if piece == ",":
            elements.append(found)
            found = None
        elif piece == ";" or piece.startswith('"'):
            continue
        else:
            key, equals, rest = piece.partition("=")
            if equals and key.strip(" \t").lower() == "for":
                text = rest.strip(" \t") or _quoted(value, match.end())
                found = read_node(text)
    return elements[-MOST_HOPS:]


def _quoted(value: str, at: int) -> str:
    """The quoted string that begins at `at`, its quoted pairs resolved (RFC 9110 section 5.6.4); empty where there is none."""
    match = re.compile(r'"((?:[^"\\]|\\.)*)"').match(value, at)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else ""


def chosen_hop(hops: Sequence[End | None], trusted_hops: int) -> End | None:
    """The trusted_hops-th from the right: each trusted proxy appended the one that it was asked by."""
    return hops[-trusted_hops] if 0 < trusted_hops <= len(hops) else None


def beyond_proxies(hops: Sequence[End | None], proxies: Collection[str]) -> End | None:
    """The first hop from the right that is no known proxy, as nginx's real_ip_recursive finds it; None where a hop names nobody."""
    for hop in reversed(hops):
        if hop is None or hop[0] not in proxies:
            return hop
    return None
