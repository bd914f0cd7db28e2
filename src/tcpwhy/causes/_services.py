"""Hosts' states go in; the SYNs that their balanced services bring to real servers come out, each walked through the real server."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tcpwhy.causes._arrivals import own_addresses
from tcpwhy.causes._counted import Counted, counted
from tcpwhy.causes._ends import NOT_FOR_HERE, deciding
from tcpwhy.causes._verdict import Exhibit
from tcpwhy.path import walk
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Trace, Walk

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.ipvs import RealServer, VirtualService

STRANGER = ipaddress.ip_address("198.51.100.7")
"""A client from anywhere (RFC 5737: no host has this address)."""

EPHEMERAL = 40_000

MOST_CLIENTS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """A SYN of a service at one of its real servers, and where it ends there."""

    host: HostTables
    service: str
    """`ip:port` of the virtual service."""
    virtual_ip: str
    method: str
    """TUN or DR."""
    packets: tuple[Packet, ...]
    trace: Trace
    """Of the first; all of them end alike."""
    because: str
    """Why such SYNs come there: a sentence."""
    exhibits: tuple[Exhibit, ...]

    @property
    def fate(self) -> Fate:
        """On which all agree."""
        return self.trace.fate

    def counter(self, name: str) -> Counted | None:
        """A counter of the real server, over its whole life."""
        return counted(self.host, name, None)


def delivered(hosts: Mapping[str, HostTables]) -> list[Delivered]:
    """The SYNs of all services by tunnel or direct return whose real servers' states were taken.

    By the director's table where it was collected; else a real server of LVS-TUN is known by its shape: an address of its own on lo or
    on the tunnel, a tunnel without routes, and a program that listens.
    """
    found = []
    told = set()
    for director in hosts.values():
        for service in (director.ipvs.services if director.ipvs is not None else None) or ():
            for real in service.real_servers:
                for name, host in hosts.items():
                    one = _to_real_server(director, service, real, host) if real.ip in (own_addresses(host) or ()) else None
                    if one is not None:
                        told.add((name, service.ip))
                        found.append(one)
    found += [one for name, host in hosts.items() for one in _by_shape(host) if (name, one.virtual_ip) not in told]
    return found


def _to_real_server(director: HostTables, service: VirtualService, real: RealServer, host: HostTables) -> Delivered | None:
    if real.method not in ("TUN", "DR") or real.weight == 0 or service.protocol != "tcp" or not service.ip or director is host:
        return None
    if real.tunnel_type not in ("", "ipip") or ":" in service.ip or not service.port:
        return None
    clients = _clients(director, service) or ([STRANGER] if _has_default_route(host) else [])
    interface = _interface_of(host, real.ip)
    if not clients or interface is None:
        return None
    packets = []
    for client in clients:
        syn = Packet(protocol="tcp", source=client, destination=ipaddress.ip_address(service.ip), source_port=EPHEMERAL,
                     destination_port=service.port, flags="S", in_interface=interface)  # fmt: skip
        if real.method == "TUN":
            outer = _address_towards(director, real.ip)
            if outer is None:
                return None
            syn = Packet(protocol="ipip", source=outer, destination=ipaddress.ip_address(real.ip), in_interface=interface,
                         encapsulated=dataclasses.replace(syn, in_interface=""))  # fmt: skip
        packets.append(syn)
    how = "in IPIP" if real.method == "TUN" else "unchanged, by its hardware address"
    because = f"{director.name} sends the packets of {service.ip}:{service.port} to {host.name} {how} ({real.source})."
    shown = (Exhibit("state", director.name, real.source.file, real.text, line=real.source.line),)
    return _walked(host, f"{service.ip}:{service.port}", service.ip, real.method, packets, because, shown)


def _by_shape(host: HostTables) -> Iterator[Delivered]:
    """What LVS-TUN looks like on the real server alone."""
    if host.links is None or host.addresses is None or host.routes is None or host.sockets is None or not _has_default_route(host):
        return
    tunnels = [link for link in host.links.by_name.values() if link.kind == "ipip" and link.is_up]
    own = own_addresses(host) or frozenset()
    for tunnel in tunnels:
        onward = [route for route in host.routes.routes if route.type == "unicast" and str(route.destination.network_address) not in own
                  and any(hop.interface == tunnel.name for hop in route.next_hops)]  # fmt: skip
        if onward or tunnel.details.get("remote") not in (None, "any", "", "0.0.0.0"):
            continue
        for address in host.addresses.entries:
            single = address.prefix_length == 32 and address.interface in ("lo", tunnel.name) and not address.ip.startswith("127.")
            if not single:
                continue
            ports = sorted({one.local_port for one in host.sockets.sockets if one.is_listener and one.local_ip in (None, address.ip)})
            served = [port for port in ports if host.sockets.listeners_for(address.ip, port) and port != 22]
            if not served:
                continue
            syn = Packet(protocol="tcp", source=STRANGER, destination=ipaddress.ip_address(address.ip), source_port=EPHEMERAL,
                         destination_port=served[0], flags="S", in_interface=tunnel.name)  # fmt: skip
            because = (
                f"{host.name} looks like a real server of LVS-TUN: it has {address.ip} on {address.interface} ({address.source}) and an "
                f"IPIP tunnel {tunnel.name} without routes of its own ({tunnel.source})."
            )
            facts = ((address.source, f"{address.ip}/32 on {address.interface}"), (tunnel.source, f"{tunnel.name}, an IPIP tunnel, is up"))
            shown = tuple(Exhibit("state", host.name, source.file, text, line=source.line) for source, text in facts)
            yield _walked(host, f"{address.ip}:{served[0]}", address.ip, "TUN", [syn], because, shown)


def _walked(
    host: HostTables, service: str, virtual_ip: str, method: str, packets: list[Packet], because: str, shown: tuple[Exhibit, ...]
) -> Delivered:
    walks: list[Walk] = [walk(host, packet) for packet in packets]
    fates = {one.forward.fate for one in walks}
    trace = walks[0].forward if len(fates) == 1 else dataclasses.replace(walks[0].forward, fate=Fate.UNKNOWN)
    return Delivered(host, service, virtual_ip, method, tuple(packets), trace, because, shown)


def _clients(director: HostTables, service: VirtualService) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Clients that the director's table holds for the service."""
    entries = (director.ipvs.connections if director.ipvs is not None else None) or []
    found = dict.fromkeys(one.client_ip for one in entries if (one.virtual_ip, one.virtual_port) == (service.ip, service.port))
    return [ipaddress.ip_address(ip) for ip in list(found)[:MOST_CLIENTS]]


def _has_default_route(host: HostTables) -> bool:
    routes = host.routes.routes if host.routes is not None else []
    return any(route.type == "unicast" and route.destination.prefixlen == 0 and route.table == "main" for route in routes)


def _interface_of(host: HostTables, ip: str) -> str | None:
    entries = host.addresses.entries if host.addresses is not None else []
    return next((one.interface for one in entries if one.ip == ip), None)


def _address_towards(director: HostTables, ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The director's own address on the real server's network, else its first one (ip_vs_tunnel_xmit takes that of the route)."""
    entries = [one for one in (director.addresses.entries if director.addresses is not None else []) if ":" not in one.ip]
    wide = [one for one in entries if not one.ip.startswith("127.") and one.prefix_length < 32]
    target = ipaddress.ip_address(ip)
    near = [one for one in wide if target in ipaddress.ip_network(f"{one.ip}/{one.prefix_length}", strict=False)]
    chosen = near or wide
    return ipaddress.ip_address(chosen[0].ip) if chosen else None


def is_not_for_here(one: Delivered) -> bool:
    """True where the real server does not take the address for its own."""
    return one.fate in NOT_FOR_HERE and one.virtual_ip not in (own_addresses(one.host) or frozenset())


def ends_by(one: Delivered) -> str:
    """The step that decides, with its lines."""
    step = deciding(one.trace)
    if step is None:
        return str(one.fate.value)
    where = f" ({', '.join(str(source) for source in step.sources[:3])})" if step.sources else ""
    return f"{step.text}{where}"
