"""The name or number of an IP protocol goes in, its number comes out."""

from __future__ import annotations

_NUMBERS = {
    "hopopt": 0, "icmp": 1, "igmp": 2, "ipip": 4, "ipencap": 4, "ipv4": 4, "tcp": 6, "egp": 8, "igp": 9, "udp": 17, "dccp": 33, "ipv6": 41,
    "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ipsec-esp": 50, "ah": 51, "ipsec-ah": 51, "ipv6-icmp": 58,
    "icmpv6": 58, "icmp6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "eigrp": 88, "ospf": 89, "pim": 103, "ipcomp": 108, "vrrp": 112,
    "l2tp": 115, "sctp": 132, "mh": 135, "ipv6-mh": 135, "mobility-header": 135, "udplite": 136, "mpls-in-ip": 137, "ethernet": 143,
}  # fmt: skip
"""From Debian's /etc/protocols, libxtables' xtables_chain_protos, and `ipip` as ip(8) says it."""


def protocol_number(text: str) -> int | None:
    """0 to 255; None for a name that is not known or a number that is none."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 3 and int(text) <= 255 else None
    return _NUMBERS.get(text.lower())
