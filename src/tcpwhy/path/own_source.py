"""An address goes in; the source that a host takes for its own packets towards it comes out."""

from __future__ import annotations

import ipaddress

from tcpwhy.path.packet import Address
from tcpwhy.path.routing import LOOPBACK, Query, Routing
from tcpwhy.tables.addresses import Addresses
from tcpwhy.tables.host import HostTables


def source_towards(host: HostTables, destination: Address) -> Address | None:
    """The route's preferred source, else an address of its interface (net/ipv4/route.c ip_route_output_key_hash_rcu); None if unknown."""
    answers = Routing(host, destination.version).lookup(Query(destination=destination, in_interface=LOOPBACK))
    answer = answers[0]
    if len(answers) > 1 or answer.type == "unknown":
        return None
    if answer.type == "local":
        return destination
    if answer.route is not None and answer.route.preferred_source:
        return ipaddress.ip_address(answer.route.preferred_source)
    if not answer.next_hops or host.addresses is None:
        return None
    hop = answer.next_hops[0]
    return select_address(host.addresses, hop.interface, ipaddress.ip_address(hop.gateway) if hop.gateway else destination)


def select_address(addresses: Addresses, interface: str, towards: Address) -> Address | None:
    """net/ipv4/devinet.c inet_select_addr(): the next hop's network first, then any primary address; another interface's where none is."""
    version = towards.version
    entries = addresses.of_interface(interface, version)
    primary = [entry for entry in entries if not entry.is_secondary and entry.scope != "host"]
    near = [
        entry for entry in primary if towards in ipaddress.ip_network(f"{entry.ip.partition('%')[0]}/{entry.prefix_length}", strict=False)
    ]
    others = [entry for entry in addresses.entries if entry.scope == "global" and (":" in entry.ip) == (version == 6)]
    chosen = near or primary or others
    return ipaddress.ip_address(chosen[0].ip.partition("%")[0]) if chosen else None
