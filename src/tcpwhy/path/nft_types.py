"""A constant of an nft rule and the type of what it is compared with go in; the numbers or names that it stands for come out."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

DEEPEST = 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A data type of nft (nft(8) DATA TYPES)."""

    name: str
    bits: int
    symbols: Mapping[str, int] = dataclasses.field(default_factory=dict)
    holds_flags: bool = False
    """Then a list of values is the sum of them, and `in` asks whether one is set."""


class Span(NamedTuple):
    """All numbers from the first to the last; one number has both the same."""

    first: int
    last: int


_UNREACHABLE = {"net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3, "frag-needed": 4}
ICMP_CODES = _UNREACHABLE | {"net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13}
"""src/datatype.c icmp_code_tbl."""
ICMPV6_CODES = {
    "no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4, "policy-fail": 5, "reject-route": 6
}  # fmt: skip
"""src/datatype.c icmpv6_code_tbl."""
ICMPX_CODES = {"no-route": 0, "port-unreachable": 1, "host-unreachable": 2, "admin-prohibited": 3}
"""include/uapi/linux/netfilter/nf_tables.h enum nft_reject_inet_code."""

PROTOCOLS = {
    "ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "ipip": 4, "tcp": 6, "egp": 8, "igp": 9, "udp": 17, "dccp": 33,
    "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58,
    "ipv6-nonxt": 59, "ipv6-opts": 60, "eigrp": 88, "ospf": 89, "ospfigp": 89, "etherip": 97, "encap": 98, "pim": 103, "comp": 108,
    "ipcomp": 108, "vrrp": 112, "l2tp": 115, "sctp": 132, "mh": 135, "mobility-header": 135, "udplite": 136, "mptcp": 262,
}  # fmt: skip
"""IANA's numbers by the names of Debian's /etc/protocols, which nft prints (src/datatype.c inet_protocol_type_print())."""

_ICMP = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8, "router-advertisement": 9,
    "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14,
    "info-request": 15, "info-reply": 16, "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip
_ICMPV6 = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128, "echo-reply": 129,
    "mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "mld-listener-reduction": 132,
    "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137,
    "router-renumbering": 138, "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip
_DSCP = {f"cs{number}": number << 3 for number in range(8)} | {
    f"af{row}{column}": (row << 3) | (column << 1) for row in range(1, 5) for column in range(1, 4)
} | {"df": 0, "be": 0, "lephb": 1, "va": 0x2C, "ef": 0x2E}  # fmt: skip

NUMBER = Type("integer", 64)
PORT = Type("inet_service", 16)
IPV4 = Type("ipv4_addr", 32)
IPV6 = Type("ipv6_addr", 128)
PROTOCOL = Type("inet_proto", 8, PROTOCOLS)
NFPROTO = Type("nf_proto", 8, {"ipv4": 2, "ipv6": 10})
ETHERTYPE = Type("ether_type", 16, {"ip": 0x800, "arp": 0x806, "ip6": 0x86DD, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88A8})
DSCP = Type("dscp", 6, _DSCP)
ICMP_TYPE = Type("icmp_type", 8, _ICMP)
ICMPV6_TYPE = Type("icmpv6_type", 8, _ICMPV6)
ICMP_CODE = Type("icmp_code", 8, ICMP_CODES)
ICMPV6_CODE = Type("icmpv6_code", 8, ICMPV6_CODES)
TCP_FLAG = Type("tcp_flag", 8, {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}, holds_flags=True)
MARK = Type("mark", 32)
CT_STATE = Type("ct_state", 32, {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}, holds_flags=True)
"""include/uapi/linux/netfilter/nf_conntrack_common.h NF_CT_STATE_BIT()."""
CT_STATUS = Type(
    "ct_status", 32,
    {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512}, holds_flags=True,
)  # fmt: skip
"""The same file, enum ip_conntrack_status."""
CT_DIRECTION = Type("ct_dir", 8, {"original": 0, "reply": 1})
PACKET_TYPE = Type("pkt_type", 8, {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3})
ADDRESS_TYPE = Type(
    "fib_addrtype", 32,
    {"unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6, "unreachable": 7, "prohibit": 8},
)  # fmt: skip
"""include/uapi/linux/rtnetlink.h RTN_*."""
INTERFACE_TYPE = Type(
    "iface_type",
    16,
    {"ether": 1, "ppp": 512, "ipip": 768, "ipip6": 769, "tunnel6": 769, "loopback": 772, "sit": 776, "ipgre": 778, "gre": 778},
)
"""src/meta.c arphrd_tbl, and the names of ip(8)."""
USER = Type("uid", 32, {"root": 0})
BOOLEAN = Type("boolean", 1)
NAME = Type("ifname", 0)
"""Of interfaces, by name or (`iif`, `oif`) by index: here both are names."""

_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,32}|\d{1,39}", re.ASCII)


def span_of(constant: Any, type_: Type, depth: int = 0) -> Span | None:
    """The numbers that a constant stands for; None where it is not understood."""
    if depth > DEEPEST:
        return None
    if isinstance(constant, bool):
        return Span(int(constant), int(constant))
    if isinstance(constant, int):
        return Span(constant, constant)
    if isinstance(constant, str):
        number = _number(constant, type_)
        return None if number is None else Span(number, number)
    if isinstance(constant, list):
        return _folded("|", constant, type_, depth)
    if not isinstance(constant, dict) or len(constant) != 1:
        return None
    kind, body = next(iter(constant.items()))
    if kind == "elem" and isinstance(body, dict):
        return span_of(body.get("val"), type_, depth + 1)
    if kind == "range" and isinstance(body, list) and len(body) == 2:
        first, last = span_of(body[0], type_, depth + 1), span_of(body[1], type_, depth + 1)
        return None if first is None or last is None else Span(first.first, last.last)
    if kind == "prefix" and isinstance(body, dict):
        return _prefix(body, type_, depth)
    return _folded(kind, body, type_, depth) if kind in ("&", "|", "^", "<<", ">>") else None


def _number(word: str, type_: Type) -> int | None:
    if word in type_.symbols:
        return type_.symbols[word]
    if _NUMBER.fullmatch(word):
        return int(word, 16) if word.startswith("0x") else int(word)
    if type_ in (IPV4, IPV6):
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            return None
        return int(address) if address.version == (4 if type_ is IPV4 else 6) else None
    return None


def _prefix(body: dict[str, Any], type_: Type, depth: int) -> Span | None:
    address, length = span_of(body.get("addr"), type_, depth + 1), body.get("len")
    if address is None or not isinstance(length, int) or not 0 <= length <= type_.bits:
        return None
    host = (1 << (type_.bits - length)) - 1
    return Span(address.first & ~host, address.first | host)


def _folded(operator: str, operands: Any, type_: Type, depth: int) -> Span | None:
    """Two operands; newer nft writes longer chains as one list."""
    if not isinstance(operands, list) or not 0 < len(operands) <= 256:
        return None
    spans = [span_of(one, NUMBER if operator in ("<<", ">>") and number else type_, depth + 1) for number, one in enumerate(operands)]
    found = spans[0]
    for span in spans[1:]:
        if found is None or span is None or found.first != found.last or span.first != span.last:
            return None
        result = calculate(operator, found.first, span.first, type_.bits)
        found = Span(result, result)
    return found


def calculate(operator: str, left: int, right: int, bits: int) -> int:
    """One of nft's operations on whole numbers of so many bits."""
    full = (1 << max(bits, 1)) - 1
    if operator == "&":
        return left & right
    if operator == "|":
        return (left | right) & full
    if operator == "^":
        return (left ^ right) & full
    shift = min(max(right, 0), 128)
    return (left << shift) & full if operator == "<<" else left >> shift
