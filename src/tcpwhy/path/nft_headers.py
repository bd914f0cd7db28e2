"""A field of a header and a packet go in; the field's value comes out, or that the packet has no such header."""

from __future__ import annotations

from typing import Any

from tcpwhy.path import nft_types as types
from tcpwhy.path.nft_types import Type
from tcpwhy.path.nft_values import ABSENT, Number, Unknown, Value
from tcpwhy.path.packet import Packet
from tcpwhy.path.passage import Surroundings

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "W": 128}
"""tcpdump's letters → bits of the header (RFC 9293, RFC 3168)."""
_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipip": 4, "ipv6": 41, "gre": 47, "sctp": 132, "dccp": 33, "udplite": 136}
_WITH_PORTS = frozenset(("tcp", "udp", "sctp", "dccp", "udplite"))
_DONT_FRAGMENT = 0x4000

_RAW = {
    ("th", 0, 16): ("th", "sport"), ("th", 16, 16): ("th", "dport"),
    (4, 72, 8): ("ip", "protocol"), (4, 96, 32): ("ip", "saddr"), (4, 128, 32): ("ip", "daddr"), (4, 64, 8): ("ip", "ttl"),
    (6, 48, 8): ("ip6", "nexthdr"), (6, 56, 8): ("ip6", "hoplimit"), (6, 64, 128): ("ip6", "saddr"), (6, 192, 128): ("ip6", "daddr"),
}  # fmt: skip
"""Base (of the network header: the version), offset and length in bits → the field that lies there (RFC 791, RFC 8200)."""


def protocol_number(packet: Packet) -> int | None:
    """IANA's number of the packet's protocol."""
    text = packet.protocol
    return _NUMBERS.get(text, int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else types.PROTOCOLS.get(text))


def look_at_header(body: dict[str, Any], packet: Packet, around: Surroundings) -> Value:
    """The field that a payload expression names.

    nft adds to each such rule that the header must be there (src/payload.c payload_gen_dependency()), and may not list that.
    """
    if "tunnel" in body:
        return Unknown("what a tunnel carries is not looked at")
    if "base" in body:
        base = packet.version if body.get("base") == "nh" else body.get("base")
        place = _RAW.get((base, body.get("offset"), body.get("len")))  # type: ignore[arg-type]
        if place is None:
            return Unknown(f"@{body.get('base')},{body.get('offset')},{body.get('len')} is not known of a packet")
        protocol, field = place
    else:
        protocol, field = str(body.get("protocol")), str(body.get("field"))
    if protocol in ("ip", "ip6"):
        if packet.version != (4 if protocol == "ip" else 6):
            return ABSENT
        return _ip(field, packet)
    if protocol == "ether":
        return _ether(field, packet)
    if protocol in ("arp", "vlan"):
        return ABSENT if protocol == "arp" else Unknown("VLAN headers are not known of a packet")
    return _transport(protocol, field, packet)


def _ip(field: str, packet: Packet) -> Value:
    address = types.IPV4 if packet.version == 4 else types.IPV6
    if field in ("saddr", "daddr"):
        return Number(int(packet.source if field == "saddr" else packet.destination), address)
    if field in ("protocol", "nexthdr"):
        number = protocol_number(packet)
        return Unknown(f"{packet.protocol} has no known number") if number is None else Number(number, types.PROTOCOL)
    if field in ("ttl", "hoplimit"):
        return _known(packet.ttl, field, types.NUMBER)
    if field == "dscp":
        return Number(packet.dscp, types.DSCP)
    if field == "version":
        return Number(packet.version, types.NUMBER)
    if field == "length":
        return _known(None if packet.length is None else packet.length - (40 if packet.version == 6 else 0), field, types.NUMBER)
    if field == "frag-off":
        # A packet that is described is a whole one; whether it may be fragmented is not said.
        return Number(0, types.NUMBER, _DONT_FRAGMENT)
    return Unknown(f"the field {field} of the IP header is not known")


def _ether(field: str, packet: Packet) -> Value:
    """A packet on its way out has no such header yet (net/netfilter/nft_payload.c nft_payload_eval())."""
    if packet.is_from_here:
        return ABSENT
    if field == "type":
        return Number(0x800 if packet.version == 4 else 0x86DD, types.ETHERTYPE)
    return Unknown(f"the field {field} of the Ethernet header is not known")


def _transport(protocol: str, field: str, packet: Packet) -> Value:
    if protocol == "th":
        if packet.protocol not in _WITH_PORTS:
            return Unknown(f"what lies in the place of a {field} in {packet.protocol} is not known")
    elif protocol != packet.protocol and types.PROTOCOLS.get(protocol, -1) != protocol_number(packet):
        return ABSENT
    if field == "sport":
        return _known(packet.source_port, field, types.PORT)
    if field == "dport":
        return _known(packet.destination_port, field, types.PORT)
    if protocol == "tcp" and field == "flags":
        if packet.flags is None or any(letter not in FLAGS for letter in packet.flags):
            return Unknown("the flags of the packet are not known")
        return Number(sum(FLAGS[letter] for letter in set(packet.flags)), types.TCP_FLAG)
    if protocol in ("icmp", "icmpv6"):
        if field == "type":
            return _known(packet.icmp_type, field, types.ICMP_TYPE if protocol == "icmp" else types.ICMPV6_TYPE)
        if field == "code":
            return _known(packet.icmp_code, field, types.ICMP_CODE if protocol == "icmp" else types.ICMPV6_CODE)
    return Unknown(f"the field {field} of the {protocol} header is not known")


def _known(number: int | None, field: str, type_: Type) -> Value:
    return Unknown(f"the {field} of the packet is not known") if number is None else Number(number, type_)
