"""The text of an address, a network or a range of ports goes in, SQL that compares a flow's ends with it comes out.

Networks are compared in plain SQL: DuckDB's inet extension would have to be fetched from a network.
"""

from __future__ import annotations

import ipaddress
import re

from tcpwhy.expression.condition import Condition, ExpressionError, Token

IPv4 = re.compile(r"\d{1,3}(\.\d{1,3}){0,3}", re.ASCII)

_FOUR = "array_to_string(list_transform(string_split({ip}, '.'), lambda part: lpad(part, 3, '0')), '.')"
"""`10.0.0.5` as `010.000.000.005`: texts in the order of the addresses."""

_HALF = (
    "array_to_string(list_transform(list_filter(string_split({half}, ':'), lambda part: part <> ''), lambda part: lpad(part, 4, '0')), '')"
)

_DOTTED = "coalesce(TRY_CAST(regexp_extract({{ip}}, '([0-9]+)\\.([0-9]+)\\.([0-9]+)\\.([0-9]+)$', {number}) AS INTEGER), 0)"

_SIX_TEXT = (
    "CASE WHEN contains({ip}, '.') THEN regexp_replace({ip}, '[0-9.]+$', printf('%02x%02x:%02x%02x', "
    + ", ".join(_DOTTED.format(number=number) for number in (1, 2, 3, 4))
    + ")) ELSE {ip} END"
)
"""The last 32 bits in hexadecimal where they are written as IPv4 (RFC 4291 section 2.2, third form)."""


def six_in_order(ip: str) -> str:
    """SQL for an IPv6 address as 32 hexadecimal digits: texts in the order of the addresses."""
    text = f"lower({_SIX_TEXT.format(ip=ip)})"
    before = _HALF.format(half=f"split_part({text}, '::', 1)")
    after = _HALF.format(half=f"split_part({text}, '::', 2)")
    return f"concat(rpad({before}, (32 - length({after}))::INTEGER, '0'), {after})"


def ends_in(ends: str, ip_version: int, low: str, high: str) -> Condition:
    """True where the address of an end (`client` or `server`) lies in a range of ordered texts."""
    ip = f"{ends}_ip"
    if ip_version == 4:
        return Condition(f"(CASE WHEN ipv6 THEN false ELSE {_FOUR.format(ip=ip)} BETWEEN ? AND ? END)", [low, high])
    return Condition(f"(CASE WHEN ipv6 THEN {six_in_order(ip)} BETWEEN ? AND ? ELSE false END)", [low, high])


def host_at(end: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Condition:
    """True where an end has this address."""
    if isinstance(address, ipaddress.IPv6Address):
        return ends_in(end, 6, _ordered(address), _ordered(address))
    return Condition(f"({end}_ip = ?)", [str(address)])


def net_at(end: str, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Condition:
    """True where an end's address lies in this network."""
    return ends_in(end, net.version, _ordered(net.network_address), _ordered(net.broadcast_address))


def ports_at(end: str, low: int, high: int) -> Condition:
    """True where an end's port is one of these, both included."""
    if low == high:
        return Condition(f"({end}_port = ?)", [low])
    return Condition(f"({end}_port BETWEEN ? AND ?)", [low, high])


def _ordered(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return f"{int(address):032x}"
    return ".".join(f"{octet:03}" for octet in address.packed)


def read_address(token: Token) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 or IPv6 address; names are refused, for none is ever looked up."""
    try:
        return ipaddress.ip_address(token.text)
    except ValueError:
        raise ExpressionError(f"read {token}, expected an IP address (names are not looked up)", token.position) from None


def read_net(token: Token, mask: Token | None) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """`10.0.0.0/8`, `192.168` (as pcap-filter has it: a /16), `10.0.0.0 mask 255.0.0.0`, `2001:db8::/32`.

    Bits set behind the prefix are refused, as tcpdump refuses them.
    """
    text, _, prefix = token.text.partition("/")
    wrong = ExpressionError(f"read {token}, expected a network such as 10.0.0.0/8 or 2001:db8::/32", token.position)
    if IPv4.fullmatch(text):
        octets = text.split(".")
        prefix = prefix or str(8 * len(octets))
        text = ".".join([*octets, *["0"] * (4 - len(octets))])
    elif mask is not None:
        raise ExpressionError("`mask` is for IPv4, expected a prefix length such as /32", mask.position)
    if mask is not None:
        if "/" in token.text:
            raise ExpressionError("read both a prefix length and `mask`, expected one of them", mask.position)
        prefix = _prefix_of(mask)
    if "/" in token.text and not re.fullmatch(r"\d{1,3}", prefix, re.ASCII):
        raise wrong
    try:
        return ipaddress.ip_network(f"{text}/{prefix}" if prefix else text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ExpressionError(f"read {token}, which has bits set behind its prefix", token.position) from None
        raise wrong from None


def _prefix_of(mask: Token) -> str:
    try:
        bits = int(ipaddress.IPv4Address(mask.text))
    except ValueError:
        raise ExpressionError(f"read {mask}, expected a mask such as 255.255.0.0", mask.position) from None
    inverted = bits ^ 0xFFFF_FFFF
    if inverted & (inverted + 1):
        raise ExpressionError(f"read {mask}, expected a mask whose ones stand together", mask.position)
    return str(32 - inverted.bit_length())


def read_port(token: Token) -> int:
    """A port; names of services are refused."""
    if not re.fullmatch(r"\d{1,5}", token.text, re.ASCII) or int(token.text) > 65535:
        raise ExpressionError(f"read {token}, expected a port from 0 to 65535", token.position)
    return int(token.text)


def read_ports(token: Token) -> tuple[int, int]:
    """`80-90` as its two ends, the smaller first."""
    low, dash, high = token.text.partition("-")
    if not dash:
        raise ExpressionError(f"read {token}, expected a range of ports such as 8000-8080", token.position)
    ends = [read_port(Token(token.kind, end, token.position)) for end in (low, high)]
    return min(ends), max(ends)
