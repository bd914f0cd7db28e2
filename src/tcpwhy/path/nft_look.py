"""An nft expression and a packet go in; the value that the kernel would find comes out, or that it finds none, or that it is not known."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from tcpwhy.path import nft_types as types
from tcpwhy.path.nft_headers import look_at_header, protocol_number
from tcpwhy.path.nft_types import Span, Type
from tcpwhy.path.nft_values import ABSENT, Concat, Name, Number, Unknown, Value, combine, constant_value
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Surroundings
from tcpwhy.tables.nft import NftChain

CONNTRACK_PRIORITY = -200
"""NF_IP_PRI_CONNTRACK: chains before it see no connection."""
DEEPEST = 20
_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,4})", re.ASCII)
_ASSURED, _CONFIRMED, _EXPECTED, _SEEN_REPLY, _SNAT, _DNAT = 4, 8, 1, 2, 16, 32
_STATUS_BITS = 0xFFFF


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Looks at packets as one base chain does."""

    chain: NftChain
    """The base chain: whether conntrack came before it is told by its hook and priority."""
    around: Surroundings

    def at(self, expression: Any, packet: Packet, like: Type = types.NUMBER, depth: int = 0) -> Value:
        """The value of an expression; a constant is read as being of type `like`."""
        if not isinstance(expression, dict) or len(expression) != 1 or depth > DEEPEST:
            return constant_value(expression, like)
        kind, body = next(iter(expression.items()))
        if kind == "concat" and isinstance(body, list):
            parts = tuple(self.at(one, packet, like, depth + 1) for one in body[:32])
            return ABSENT if ABSENT in parts else Concat(parts)
        if kind in ("&", "|", "^", "<<", ">>") and isinstance(body, list) and body:
            value = self.at(body[0], packet, like, depth + 1)
            inner = value.type if isinstance(value, Number) else like
            for operand in body[1:64]:
                value = combine(kind, value, self.at(operand, packet, inner, depth + 1))
            return value
        look = _LOOKS.get(kind)
        if look is None or not isinstance(body, dict):
            return constant_value(expression, like)
        return look(self, body, packet)

    def _payload(self, body: dict[str, Any], packet: Packet) -> Value:
        return look_at_header(body, packet, self.around)

    def _meta(self, body: dict[str, Any], packet: Packet) -> Value:
        look = _META.get(body.get("key", "")) if isinstance(body.get("key"), str) else None
        return Unknown(f"meta {body.get('key')} is not known of a packet") if look is None else look(self, packet)

    def _length(self, packet: Packet) -> Value:
        return Unknown("the length of the packet is not known") if packet.length is None else Number(packet.length, types.NUMBER)

    def _in_name(self, packet: Packet) -> Value:
        """Linux 5.7 and later know it in POSTROUTING too (net/ipv4/ip_output.c ip_output(), `indev`)."""
        if self.around.hook == "POSTROUTING" and packet.in_interface:
            found = _RELEASE.match(self.around.host.about.kernel or "")
            if found is None or (int(found.group(1)), int(found.group(2))) < (5, 7):
                return Unknown("kernels before 5.7 do not know in POSTROUTING by which interface a packet came")
        return Name(packet.in_interface) if self.around.hook != "OUTPUT" else Name("")

    def _out_name(self, packet: Packet) -> Value:
        if self.around.hook in ("PREROUTING", "INPUT"):
            return Name("")
        return Name(packet.out_interface) if packet.out_interface else Unknown("the interface by which it leaves is not known")

    def _interface_type(self, name: Value) -> Value:
        """include/uapi/linux/if_arp.h ARPHRD_*, by ip's names of them; without an interface the rule is left."""
        if not isinstance(name, Name):
            return name
        if not name.value:
            return ABSENT
        links = self.around.host.links
        link = links.get(name.value) if links is not None else None
        kind = link.details.get("link_type") if link is not None else None
        if not isinstance(kind, str) or kind not in types.INTERFACE_TYPE.symbols:
            return Unknown(f"the type of {name.value} is not known")
        return Number(types.INTERFACE_TYPE.symbols[kind], types.INTERFACE_TYPE)

    def interface_named(self, constant: Any) -> Any:
        """`iif 7` names an interface that was gone when nft listed it; no packet comes by one of no name."""
        if isinstance(constant, bool) or not isinstance(constant, int) or constant == 0:
            return constant
        links = self.around.host.links
        if links is None:
            return constant
        return next((link.name for link in links.by_name.values() if link.index == constant), f"(index {constant})")

    def _socket_owner(self, packet: Packet, number: int | None) -> Value:
        """Only a packet of a socket has an owner; those that arrive meet theirs at INPUT by early demux (net/ipv4/ip_input.c)."""
        if not packet.is_from_here and not (self.around.hook == "INPUT" and packet.is_established_socket):
            return ABSENT
        if number is None or not packet.is_from_here:
            return Unknown("the user of the socket is not known")
        return Number(number, types.USER)

    def _packet_type(self, packet: Packet) -> Value:
        """include/uapi/linux/if_packet.h PACKET_*; a packet on its way out has PACKET_HOST."""
        if packet.is_from_here:
            return Number(0, types.PACKET_TYPE)
        if packet.destination.is_multicast:
            return Number(2, types.PACKET_TYPE)
        kind = self.around.address_type(packet.destination, "")
        if kind is None:
            return Unknown("it is not known whether the destination is a broadcast address")
        return Number(1 if kind == "BROADCAST" else 0, types.PACKET_TYPE)

    def _has_connection(self, packet: Packet) -> bool | None:
        if packet.ct_state is not None:
            return packet.ct_state not in ("INVALID", "UNTRACKED")
        if not packet.ct_is_tracked or self._is_before_conntrack():
            return False
        return None

    def _is_before_conntrack(self) -> bool:
        priority = self.chain.priority
        return self.around.hook in ("PREROUTING", "OUTPUT") and priority is not None and priority < CONNTRACK_PRIORITY

    def _ct(self, body: dict[str, Any], packet: Packet) -> Value:
        """net/netfilter/nft_ct.c nft_ct_get_eval(): without a connection only the state has a value."""
        key = str(body.get("key"))
        if key == "state":
            return self._ct_state(packet)
        has_connection = self._has_connection(packet)
        if has_connection is False:
            return ABSENT
        if has_connection is None:
            return Unknown("it is not known whether the packet belongs to a tracked connection")
        if key == "mark":
            return Unknown("the mark of the connection is not known") if packet.ct_mark is None else Number(packet.ct_mark, types.MARK)
        if key == "direction":
            return Number(int(packet.is_reply), types.CT_DIRECTION)
        if key == "status":
            return self._ct_status(packet)
        if key == "l3proto":
            return Number(2 if packet.version == 4 else 10, types.NFPROTO)
        if key == "protocol":
            return _protocol(packet)
        direction = body.get("dir")
        if direction in ("original", "reply"):
            return self._ct_tuple(key, direction == "reply", packet)
        return Unknown(f"ct {key} is not known of a connection")

    def _ct_state(self, packet: Packet) -> Value:
        """Before conntrack, and where nothing tracks, the state is invalid; after notrack it is untracked."""
        if packet.ct_state is not None:
            return Number(types.CT_STATE.symbols[packet.ct_state.lower()], types.CT_STATE)
        if not packet.ct_is_tracked:
            return Number(0, types.CT_STATE, types.CT_STATE.symbols["invalid"] | types.CT_STATE.symbols["untracked"])
        if self._is_before_conntrack():
            return Number(types.CT_STATE.symbols["invalid"], types.CT_STATE)
        return Unknown("the conntrack state of the packet is not known")

    def _ct_status(self, packet: Packet) -> Value:
        """A first packet is neither expected, nor answered, nor assured; an established connection is answered and confirmed."""
        value = (_SNAT if packet.ct_is_snat else 0) | (_DNAT if packet.ct_is_dnat else 0)
        known = _SNAT | _DNAT
        if packet.ct_state == "NEW":
            known |= _EXPECTED | _SEEN_REPLY | _ASSURED
        elif packet.ct_state == "ESTABLISHED":
            known |= _SEEN_REPLY | _CONFIRMED
            value |= _SEEN_REPLY | _CONFIRMED
        return Number(value, types.CT_STATUS, _STATUS_BITS & ~known)

    def _ct_tuple(self, key: str, is_reply: bool, packet: Packet) -> Value:
        ends = self._ends(packet)
        if ends is None:
            return Unknown("the tuple of the connection is not known")
        (source, source_port), (destination, destination_port) = ends
        if is_reply:
            if packet.ct_is_dnat or packet.ct_is_snat:
                return Unknown("the reply tuple of a translated connection is not known")
            source, source_port, destination, destination_port = destination, destination_port, source, source_port
        field = key.rpartition(" ")[2]
        if field in ("saddr", "daddr"):
            address = source if field == "saddr" else destination
            if key.startswith("ip ") and address.version == 6 or key.startswith("ip6 ") and address.version == 4:  # noqa: RUF021
                return ABSENT
            return Number(int(address), types.IPV4 if address.version == 4 else types.IPV6)
        port = {"proto-src": source_port, "proto-dst": destination_port}.get(field)
        return Unknown(f"ct {key} is not known of a connection") if port is None else Number(port, types.PORT)

    def _ends(self, packet: Packet) -> tuple[tuple[Address, int | None], tuple[Address, int | None]] | None:
        """Source and destination of the original direction; of a first packet that nothing translated they are its own."""
        original = packet.ct_original
        if original is not None:
            return (original.source, original.source_port), (original.destination, original.destination_port)
        if packet.is_reply or packet.ct_is_dnat or packet.ct_is_snat:
            return None
        return (packet.source, packet.source_port), (packet.destination, packet.destination_port)

    def _fib(self, body: dict[str, Any], packet: Packet) -> Value:
        """net/ipv4/netfilter/nft_fib_ipv4.c."""
        given = body.get("flags")
        flags = given if isinstance(given, list) else [given]
        address = packet.source if "saddr" in flags else packet.destination
        if body.get("result") == "type":
            interface = packet.in_interface if "iif" in flags else packet.out_interface if "oif" in flags else ""
            kind = self.around.address_type(address, interface)
            if kind is None or kind.lower() not in types.ADDRESS_TYPE.symbols:
                return Unknown(f"the routing tables do not tell the type of {address}")
            return Number(types.ADDRESS_TYPE.symbols[kind.lower()], types.ADDRESS_TYPE)
        if self.around.hook == "PREROUTING" and self._is_loopback(packet.in_interface):
            return Name(packet.in_interface)
        if "saddr" in flags and "iif" in flags:
            passes = self.around.reverse_path(packet, False)
            if passes is None:
                return Unknown(f"it is not known whether {address} is reached by {packet.in_interface}")
            return Name(packet.in_interface if passes else "")
        interface_name = self.around.route_of(address, packet)
        if interface_name is None:
            return Unknown(f"it is not known by which interface {address} is reached")
        wanted = packet.in_interface if "iif" in flags else packet.out_interface if "oif" in flags else ""
        if wanted and interface_name and interface_name != wanted:
            return Unknown(f"it is not known whether {address} has a route by {wanted}")
        return Name(interface_name)

    def _is_loopback(self, interface: str) -> bool:
        links = self.around.host.links
        link = links.get(interface) if links is not None else None
        return link.is_loopback if link is not None else interface == "lo"

    def _socket(self, body: dict[str, Any], packet: Packet) -> Value:
        """net/netfilter/nft_socket.c: without a socket the rule is left."""
        if packet.protocol not in ("tcp", "udp") or self.around.has_socket(packet) is False:
            return ABSENT
        return Unknown(f"`socket {body.get('key')}` of the socket is not known")

    def _numgen(self, body: dict[str, Any], _: Packet) -> Value:
        return _one_of(body, "it takes turns, or draws lots")

    def _hash(self, body: dict[str, Any], _: Packet) -> Value:
        return _one_of(body, "it depends on a hash of the packet")

    def _extension(self, body: dict[str, Any], packet: Packet) -> Value:
        """A described packet has no extension headers."""
        if packet.version == 4:
            return ABSENT
        return ABSENT if "field" in body else Number(0, types.BOOLEAN)

    def _option(self, body: dict[str, Any], packet: Packet) -> Value:
        if packet.protocol != "tcp":
            return ABSENT
        return Unknown(f"TCP option {body.get('name', body.get('base'))} of the packet is not known")

    def _ip_option(self, body: dict[str, Any], packet: Packet) -> Value:
        if packet.version == 6:
            return ABSENT
        return Unknown(f"IP option {body.get('name')} of the packet is not known")

    def _not_known(self, body: dict[str, Any], _: Packet) -> Value:
        return Unknown(f"{body.get('key', 'it')} is not known of a packet")


def _one_of(body: dict[str, Any], because: str) -> Value:
    modulus, offset = body.get("mod"), body.get("offset", 0)
    if not isinstance(modulus, int) or not isinstance(offset, int) or not 0 < modulus <= 1 << 32:
        return Unknown(because)
    return Unknown(because, Span(offset, offset + modulus - 1))


def _protocol(packet: Packet) -> Value:
    number = protocol_number(packet)
    return Unknown(f"{packet.protocol} has no known number") if number is None else Number(number, types.PROTOCOL)


_LOOKS: dict[str, Callable[[Look, dict[str, Any], Packet], Value]] = {
    "payload": Look._payload,
    "meta": Look._meta,
    "ct": Look._ct,
    "fib": Look._fib,
    "socket": Look._socket,
    "numgen": Look._numgen,
    "jhash": Look._hash,
    "symhash": Look._hash,
    "exthdr": Look._extension,
    "tcp option": Look._option,
    "ip option": Look._ip_option,
    "sctp chunk": lambda _, body, packet: Unknown("chunks of SCTP are not known") if packet.protocol == "sctp" else ABSENT,
    "rt": Look._not_known,
    "osf": Look._not_known,
    "ipsec": Look._not_known,
}

_META: dict[str, Callable[[Look, Packet], Value]] = {
    "length": Look._length,
    "protocol": lambda _, packet: Number(0x800 if packet.version == 4 else 0x86DD, types.ETHERTYPE),
    "nfproto": lambda _, packet: Number(2 if packet.version == 4 else 10, types.NFPROTO),
    "l4proto": lambda _, packet: _protocol(packet),
    "mark": lambda _, packet: Number(packet.mark, types.MARK),
    "iif": Look._in_name,
    "iifname": Look._in_name,
    "oif": Look._out_name,
    "oifname": Look._out_name,
    "skuid": lambda look, packet: look._socket_owner(packet, packet.uid),
    "skgid": lambda look, packet: look._socket_owner(packet, packet.gid),
    "iiftype": lambda look, packet: look._interface_type(look._in_name(packet)),
    "oiftype": lambda look, packet: look._interface_type(look._out_name(packet)),
    "pkttype": Look._packet_type,
}
