"""A host and a hook go in; what the matches of its rules may ask beside the packet comes out."""

from __future__ import annotations

from tcpwhy.path.delivery import find_socket
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Hook, Surroundings
from tcpwhy.path.routing import LOOPBACK, Query, Routing
from tcpwhy.path.settings import Settings
from tcpwhy.tables.host import HostTables


def surroundings(host: HostTables, hook: Hook, routing: Routing, settings: Settings) -> Surroundings:
    """The questions of `-m addrtype`, `-m rpfilter`, `-m socket` and nft's fib, bound to one host."""

    def reverse_path(packet: Packet, is_loose: bool) -> bool | None:
        return _passes_reverse_path(packet, is_loose, routing, settings)

    def route_of(address: Address, packet: Packet) -> str | None:
        answers = routing.lookup(Query(destination=address, in_interface=LOOPBACK, mark=packet.mark, dscp=packet.dscp, uid=0))
        found = {_interface(one.type, [hop.interface for hop in one.next_hops]) for one in answers}
        return found.pop() if len(found) == 1 else None

    def has_socket(packet: Packet) -> bool | None:
        return None if host.sockets is None else find_socket(packet, host) is not None

    return Surroundings(host, hook, routing.type_of, reverse_path, route_of, has_socket)


def _interface(kind: str, interfaces: list[str]) -> str | None:
    if kind == "unknown":
        return None
    # An own address has none for fib (net/ipv4/netfilter/nft_fib_ipv4.c nft_fib4_eval: RTN_LOCAL).
    return interfaces[0] if kind == "unicast" and interfaces else ""


def _passes_reverse_path(packet: Packet, is_loose: bool, routing: Routing, settings: Settings) -> bool | None:
    """net/ipv4/netfilter/ipt_rpfilter.c rpfilter_mt() and rpfilter_lookup_reverse()."""
    if packet.in_interface == LOOPBACK or packet.is_from_here:
        return True
    valid_mark = settings.either("src_valid_mark", packet.in_interface)
    mark = packet.mark if valid_mark.number else 0
    results: set[bool | None] = set()
    for answer in routing.lookup(Query(destination=packet.source, source=packet.destination, in_interface=LOOPBACK, mark=mark, uid=0)):
        if answer.type == "unknown":
            results.add(None)
        else:
            results.add(answer.type == "unicast" and (is_loose or answer.uses(packet.in_interface)))
    return results.pop() if len(results) == 1 else None
