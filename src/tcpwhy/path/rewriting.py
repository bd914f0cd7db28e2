"""A translation that a nat rule orders goes in; the packet with its new addresses comes out, and the binding that answers will follow."""

from __future__ import annotations

import dataclasses
import ipaddress

from tcpwhy.path.own_source import select_address
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Hook, Nat, Surroundings
from tcpwhy.path.trace import Doubt, Fate, Stage
from tcpwhy.path.way import Binding, Ending, Onward, Way, inverted, tuple_of
from tcpwhy.tables.addresses import Address as OwnAddress
from tcpwhy.tables.host import HostTables

MOST_CHOICES = 8
"""Addresses of a range that are followed one by one; of a longer range the first and the last."""


def rewrite(way: Way, nat: Nat, hook: Hook, host: HostTables, around: Surroundings) -> list[Onward]:
    """The ways after the translation; several where the kernel chooses one address of a range.

    net/netfilter/nf_nat_core.c nf_nat_setup_info(), nf_nat_redirect.c, nf_nat_masquerade.c.
    """
    packet = way.packet
    addresses, doubts = _addresses(nat, hook, way, host)
    if addresses is None:
        text = f"{nat.kind} finds no address on {packet.in_interface or packet.out_interface}: the packet is dropped"
        return [Ending(way.step(Stage.NAT, text, hook=hook), Fate.DROPPED_BY_RULE)]
    results: list[Onward] = []
    for address in addresses:
        chosen = doubts if len(addresses) == 1 else (*doubts, _chosen(way, nat, address))
        if nat.kind in ("DNAT", "REDIRECT") or (nat.kind == "NETMAP" and hook in ("PREROUTING", "OUTPUT")):
            port = packet.destination_port if nat.ports is None else _port(packet.destination_port, nat.ports)
            after = dataclasses.replace(packet, destination=address, destination_port=port)
        else:
            port = packet.source_port if nat.ports is None else _port(packet.source_port, nat.ports)
            after = dataclasses.replace(packet, source=address, source_port=port)
        original = packet.ct_original or tuple_of(packet)
        binding = Binding(original, inverted(tuple_of(after)))
        after = dataclasses.replace(after, ct_is_dnat=binding.is_dnat, ct_is_snat=binding.is_snat)
        last = way.steps[-1] if way.steps else None
        moved = way.step(
            Stage.NAT,
            f"{nat.kind}: {tuple_text(packet)} becomes {tuple_text(after)}",
            hook=hook,
            sources=last.sources if last is not None else (),
            rule=last.rule if last is not None else "",
            packet=after,
            doubts=chosen,
        )
        results.append(dataclasses.replace(moved, binding=binding))
    return results


def tuple_text(packet: Packet) -> str:
    """`10.0.0.1:40000 > 10.0.0.2:80`."""
    plain = dataclasses.replace(packet, flags=None, mark=0, encapsulated=None)
    return str(plain).partition(" ")[2]


def _addresses(nat: Nat, hook: Hook, way: Way, host: HostTables) -> tuple[list[Address] | None, tuple[Doubt, ...]]:
    """The addresses that the translation may take; None where there is none, which drops the packet."""
    packet = way.packet
    if nat.addresses is not None:
        first, last = nat.addresses
        count = int(last) - int(first) + 1
        if nat.kind == "NETMAP":
            # The network's bits are new, the host's stay (net/netfilter/xt_NETMAP.c netmap_tg4).
            own = packet.destination if hook in ("PREROUTING", "OUTPUT") else packet.source
            return [first + (int(own) & (count - 1))], ()
        if count <= MOST_CHOICES:
            return [first + number for number in range(max(count, 1))], ()
        return [first, last], ()
    if nat.kind in ("DNAT", "SNAT"):
        return [packet.destination if nat.kind == "DNAT" else packet.source], ()
    if nat.kind == "REDIRECT" and hook == "OUTPUT":
        return [ipaddress.ip_address("127.0.0.1" if packet.version == 4 else "::1")], ()
    interface = packet.in_interface if nat.kind == "REDIRECT" else packet.out_interface
    if host.addresses is None:
        doubt = Doubt(None, "ip-addr.json", "the addresses of the interfaces were not collected", f"an address of {interface} is taken")
        return [packet.destination if nat.kind == "REDIRECT" else packet.source], (doubt,)
    entries = host.addresses.of_interface(interface, packet.version)
    if nat.kind == "REDIRECT":
        return ([_address(entries[0])], ()) if entries else (None, ())
    chosen = select_address(host.addresses, interface, way.gateway or packet.destination)
    return (None, ()) if chosen is None else ([chosen], ())


def _address(entry: OwnAddress) -> Address:
    return ipaddress.ip_address(entry.ip.partition("%")[0])


def _chosen(way: Way, nat: Nat, address: Address) -> Doubt:
    last = way.steps[-1] if way.steps else None
    source = last.sources[0] if last is not None and last.sources else None
    return Doubt(source, last.rule if last is not None else nat.kind, "the kernel chooses one address of the range", str(address))


def _port(port: int | None, ports: tuple[int, int]) -> int | None:
    """The port kept where it lies in the range, else the first of it; a longer range leaves it open."""
    if port is not None and ports[0] <= port <= ports[1]:
        return port
    return ports[0] if ports[0] == ports[1] else None
