"""A NAT or tproxy statement of nft and a packet go in; the translations that it can order come out."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, NamedTuple

from tcpwhy.path import nft_types as types
from tcpwhy.path.nft_look import Look
from tcpwhy.path.nft_outcomes import Outcome, anything
from tcpwhy.path.nft_sets import MOST_CANDIDATES, elements_of, look_up
from tcpwhy.path.nft_types import Span, Type, span_of
from tcpwhy.path.nft_values import Absent, Number
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Nat, NatKind
from tcpwhy.tables.nft import Nft

_KINDS: dict[str, NatKind] = {"snat": "SNAT", "dnat": "DNAT", "masquerade": "MASQUERADE", "redirect": "REDIRECT"}


class Choice(NamedTuple):
    """A value that a map or expression can give; `found` is False where the map has none for the packet."""

    value: Any
    found: bool
    assumed: str
    because: str


def choices(nft: Nft, look: Look, expression: Any, packet: Packet, like: Type) -> list[Choice]:
    """The constants that an expression can stand for: itself, or what a map gives. Empty where they are too many or not understood."""
    if isinstance(expression, dict) and "map" in expression:
        body = expression["map"]
        if not isinstance(body, dict):
            return []
        key = look.at(body.get("key"), packet)
        if isinstance(key, Absent):
            return [Choice(None, False, "", "")]
        found = look_up(elements_of(nft, look.chain, body.get("data")), key)
        if found.certain is not None:
            return [Choice(found.certain.data, True, "", "")]
        if not found.possible and not found.may_miss:
            return [Choice(None, False, "", "")]
        if len(found.possible) > MOST_CANDIDATES or not found.possible:
            return []
        given = [Choice(one.data, True, f"is mapped to element {number}", found.because) for number, one in enumerate(found.possible, 1)]
        return [*given, Choice(None, False, "is not in the map", found.because)] if found.may_miss else given
    if isinstance(expression, dict) and next(iter(expression), "") in (
        "payload",
        "meta",
        "ct",
        "numgen",
        "jhash",
        "symhash",
        "fib",
        "&",
        "|",
        "^",
    ):
        value = look.at(expression, packet, like)
        if isinstance(value, Absent):
            return [Choice(None, False, "", "")]
        return [Choice(value.value, True, "", "")] if isinstance(value, Number) and not value.unsure else []
    return [Choice(expression, True, "", "")]


def translate(nft: Nft, look: Look, kind: str, body: Any, packet: Packet) -> list[Outcome]:
    """`snat`, `dnat`, `masquerade`, `redirect`: net/netfilter/nft_nat.c, nft_masq.c, nft_redir.c."""
    body = body if isinstance(body, dict) else {}
    if body.get("family") in ("ip", "ip6") and packet.version != (4 if body["family"] == "ip" else 6):
        # nft_nat_inet_eval() does nothing for the other family, and the rule goes on.
        return [Outcome(packet)]
    address_type = types.IPV4 if packet.version == 4 else types.IPV6
    flags = body.get("flags")
    flags = flags if isinstance(flags, list) else [flags]
    is_random = "random" in flags or "fully-random" in flags
    addresses = choices(nft, look, body["addr"], packet, address_type) if "addr" in body else [Choice(None, True, "", "")]
    ports = choices(nft, look, body["port"], packet, types.PORT) if "port" in body else [Choice(None, True, "", "")]
    if not addresses or not ports:
        return anything(packet, "the address or port that it translates to is not known")
    found: list[Outcome] = []
    for address in addresses:
        for port in ports if address.found else ports[:1]:
            because = address.because or port.because
            assumed = " and ".join(part for part in (address.assumed, port.assumed) if part)
            if not address.found or not port.found:
                found.append(Outcome(packet, "leave", assumed=assumed, because=because))
                continue
            nat = _nat(kind, address.value, port.value, is_random, "netmap" in flags, packet)
            if nat is None:
                return anything(packet, "the address or port that it translates to is not understood")
            found.append(Outcome(packet, "nat", _sentence(nat), nat=nat, assumed=assumed, because=because))
    return found


def _nat(kind: str, address: Any, port: Any, is_random: bool, is_netmap: bool, packet: Packet) -> Nat | None:
    if isinstance(address, dict) and isinstance(parts := address.get("concat"), list):
        # `dnat to tcp dport map { 80 : 10.0.0.1 . 8080 }` gives both at once.
        if not 1 <= len(parts) <= 2 or (port is not None and len(parts) == 2):
            return None
        address, port = parts[0], parts[1] if len(parts) == 2 else port
    first_last = None
    if address is not None:
        span = span_of(address, types.IPV4 if packet.version == 4 else types.IPV6)
        first_last = None if span is None else addresses_of(span, packet.version)
        if first_last is None:
            return None
    ports: tuple[int, int] | None = None
    if port is not None:
        span = span_of(port, types.PORT)
        if span is None or not 0 <= span.first <= span.last <= 65535:
            return None
        ports = (span.first, span.last)
    return Nat("NETMAP" if is_netmap else _KINDS[kind], first_last, ports, is_random)


def addresses_of(span: Span, version: int) -> tuple[Address, Address] | None:
    """First and last address of a range; None where the numbers are no addresses of that version."""
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    if not 0 <= span.first <= span.last < 1 << (32 if version == 4 else 128):
        return None
    return make(span.first), make(span.last)


def _sentence(nat: Nat) -> str:
    what = {"SNAT": "translates the source", "DNAT": "translates the destination", "NETMAP": "maps the network of the address"}.get(
        nat.kind
    )
    if what is None:
        what = (
            "gives the packet the address of the interface it leaves by"
            if nat.kind == "MASQUERADE"
            else "redirects the packet to this host"
        )
    where = ""
    if nat.addresses is not None:
        first, last = nat.addresses
        where = f" to {first}" if first == last else f" to one of {first}-{last}"
    if nat.ports is not None:
        low, high = nat.ports
        where += f", port {low}" if low == high else f", one of the ports {low}-{high}"
    return what + where


def hand_to_proxy(nft: Nft, look: Look, body: Any, packet: Packet) -> list[Outcome]:
    """`tproxy to [address]:port`: net/netfilter/nft_tproxy.c; without a socket that takes it the rule is left."""
    body = body if isinstance(body, dict) else {}
    if packet.protocol not in ("tcp", "udp"):
        return [Outcome(packet, "leave")]
    if body.get("family") in ("ip", "ip6") and packet.version != (4 if body["family"] == "ip" else 6):
        return [Outcome(packet, "leave")]
    address_type = types.IPV4 if packet.version == 4 else types.IPV6
    addresses = choices(nft, look, body["addr"], packet, address_type) if "addr" in body else [Choice(None, True, "", "")]
    ports = choices(nft, look, body["port"], packet, types.PORT) if "port" in body else [Choice(packet.destination_port, True, "", "")]
    if len(addresses) != 1 or len(ports) != 1:
        return anything(packet, "the socket that it hands the packet to is not known")
    if not addresses[0].found or not ports[0].found:
        return [Outcome(packet, "leave")]
    nat = _nat("dnat", addresses[0].value, ports[0].value, False, False, packet)
    if nat is None or nat.ports is None:
        return anything(packet, "the socket that it hands the packet to is not known")
    address, port = (nat.addresses[0] if nat.addresses else None), nat.ports[0]
    target = dataclasses.replace(packet, destination=address or packet.destination, destination_port=port)
    where = f"{address}, port {port}" if address is not None else f"port {port}"
    handed = Outcome(packet, text=f"hands the packet to the socket at {where}", tproxy=(address, port))
    has_socket = look.around.has_socket(target)
    if has_socket:
        return [handed]
    if has_socket is False and address is not None:
        return [Outcome(packet, "leave", f"finds no socket at {where}, so that the rule ends")]
    because = "it is not known whether a socket waits there"
    return [
        handed._replace(assumed="finds a socket", because=because),
        Outcome(packet, "leave", assumed="finds no socket", because=because),
    ]
