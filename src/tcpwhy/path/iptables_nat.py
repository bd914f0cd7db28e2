"""A rule whose target is a translation goes in; the translation that it orders comes out."""

from __future__ import annotations

import re

from tcpwhy.path.iptables_values import address_range, network, number_range
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Nat, NatKind
from tcpwhy.tables.iptables_ruleset import Rule

KINDS: dict[str, NatKind] = {"DNAT": "DNAT", "SNAT": "SNAT", "REDIRECT": "REDIRECT", "MASQUERADE": "MASQUERADE", "NETMAP": "NETMAP"}

_TO = re.compile(r"(?:\[([^\]]{1,100})\]|([^\[\]]*?))(?::(\d{1,5}(?:-\d{1,5})?)(?:/(\d{1,5}))?)?", re.ASCII)
_PORT_ALONE = re.compile(r":\d{1,5}(?:-\d{1,5})?(?:/\d{1,5})?", re.ASCII)


def nat_of(rule: Rule, packet: Packet) -> Nat | str:
    """The translation (extensions/libxt_NAT.c, libipt_NETMAP.c); a sentence where its options are not understood.

    Of NETMAP `addresses` are the first and last of the network: the host's bits stay those of the packet.
    """
    kind = KINDS[rule.target or ""]
    values = {one.name: one.values[0] for one in rule.target_options if one.values}
    is_random = any(one.name in ("random", "random-fully") for one in rule.target_options)
    if kind == "NETMAP":
        return _netmap(values.get("to", ""))
    to = [one.values[0] for one in rule.target_options if one.name in ("to-source", "to-destination") and one.values]
    if len(to) > 1:
        return "it has several ranges, of which the kernel chooses one"
    addresses: tuple[Address, Address] | None = None
    ports: tuple[int, int] | None = None
    if to:
        read = _range(to[0], packet)
        if read is None:
            return f"`{to[0][:80]}` is no range of addresses and ports"
        addresses, ports = read
    if "to-ports" in values:
        ports = number_range(values["to-ports"], "-")
        if ports is None:
            return f"`{values['to-ports'][:40]}` is no range of ports"
    if kind in ("DNAT", "SNAT") and addresses is None and ports is None:
        return "it does not say to which address"
    return Nat(kind, addresses, ports if ports != (0, 0) else None, is_random)


def _netmap(text: str) -> Nat | str:
    found = network(text)
    if found is None:
        return f"`{text[:80]}` is no network"
    version, first, mask = found
    last = first | (~mask & ((1 << (128 if version == 6 else 32)) - 1))
    bounds = address_range(f"{_address(version, first)}-{_address(version, last)}")
    return f"`{text[:80]}` is no network" if bounds is None else Nat("NETMAP", bounds, None)


def _address(version: int, value: int) -> str:
    if version == 4:
        return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
    return ":".join(f"{value >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def _range(text: str, packet: Packet) -> tuple[tuple[Address, Address] | None, tuple[int, int] | None] | None:
    """`10.0.0.1-10.0.0.9:80-90/80`, `[fd00::1]:80`, `fd00::1`, `:80`."""
    if packet.version == 6 and not text.startswith("[") and not _PORT_ALONE.fullmatch(text):
        bounds = address_range(text)
        return None if bounds is None else (bounds, None)
    found = _TO.fullmatch(text)
    if found is None:
        return None
    host = found[1] or found[2]
    bounds = address_range(host) if host else None
    ports = number_range(found[3], "-") if found[3] else None
    if (host and bounds is None) or (ports is not None and ports[0] > ports[1]):
        return None
    return bounds, _shifted(ports, found[4], packet)


def _shifted(ports: tuple[int, int] | None, base: str | None, packet: Packet) -> tuple[int, int] | None:
    """`1000-2000/5000`: the port is moved as far into the range as it is behind the base (nf_nat_core.c nf_nat_l4proto_unique_tuple)."""
    if ports is None or base is None or packet.destination_port is None:
        return ports
    port = ports[0] + (packet.destination_port - int(base)) % 65536 % (ports[1] - ports[0] + 1)
    return port, port
