"""A segment that a host saw goes in; the packet that its kernel met comes out, ready to be walked, once for each possible interface."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import Endpoint, Sighting, flag_text
from tcpwhy.connections.packet import Packet as Record
from tcpwhy.path.packet import CtState, Packet

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.links import Link

UNDER_A_MASTER = frozenset(("bridge", "bond", "team", "openvswitch"))
"""Kinds of interfaces that take over what their ports receive (net/core/dev.c rx_handler): the kernel routes it as theirs."""

TUNNEL_PROTOCOLS = {"ipip": "ipip", "gre": "gre", "6in4": "ipv6"}
"""Tunnels that are an IP protocol of their own, by the capture's word: the walk's."""

TUNNEL_KINDS = frozenset(("ipip", "gre", "sit", "ip6tnl", "ip6gre", "vti", "vti6", "tun", "wireguard", "xfrm", "ppp"))
"""Kinds of interfaces without hardware addresses (include/uapi/linux/if_arp.h: ARPHRD_TUNNEL, IPGRE, SIT, NONE, PPP)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """A packet at a host, as far as is known."""

    host: HostTables
    segment: Segment
    sighting: Sighting | None
    """None where nobody captured it there."""
    packets: tuple[Packet, ...]
    """One for each interface by which it may have come; one without interface where the host itself sent it."""

    @property
    def is_own(self) -> bool:
        """The host itself sent it."""
        return all(packet.is_from_here for packet in self.packets)

    @property
    def interfaces(self) -> tuple[str, ...]:
        """By which it may have come."""
        return tuple(packet.in_interface for packet in self.packets)


def own_addresses(host: HostTables) -> frozenset[str] | None:
    """The addresses of a host's interfaces; None where they were not collected."""
    return None if host.addresses is None else frozenset(one.ip for one in host.addresses.entries)


def arrival(connection: Connection, place: str, segment: Segment) -> Arrival | None:
    """How a segment that `place` saw came to its host, or left it; None where the place has no state or the interfaces are unknown."""
    host, sighting = connection.hosts.get(place), segment.sighting_at(place)
    if host is None or sighting is None:
        return None
    own = own_addresses(host)
    if own is None:
        return None
    view = connection.views[place]
    source, destination = (view.client, view.server) if segment.sender == "client" else (view.server, view.client)
    if source.ip in own:
        tracking: CtState | None = None if segment.opens else "ESTABLISHED"
        packet = tcp_packet(source, destination, segment, sighting.packet, tracking=tracking, is_reply=segment.sender == "server")
        return Arrival(host, segment, sighting, (packet,))
    came = [copy for copy in sighting.copies if _came_in(copy, host)]
    if not came:
        return None
    deepest = came[-1]
    interfaces = interfaces_of(deepest, host)
    if not interfaces:
        return None
    tracking = None if segment.opens else "ESTABLISHED"
    packet = tcp_packet(deepest.source, deepest.destination, segment, deepest, tracking=tracking, is_reply=segment.sender == "server")
    outer = _outer(deepest, packet)
    if outer is None:
        return None
    return Arrival(host, segment, sighting, tuple(dataclasses.replace(outer, in_interface=name) for name in interfaces))


def unseen_arrival(host: HostTables, segment: Segment, packet: Packet) -> Arrival | None:
    """A packet that must have come to a host where nobody captured it: by any interface that is up.

    A packet that no tunnel carries may also have come out of one that ends there, for whoever saw it before saw it without.
    """
    if host.links is None:
        return None
    names = [
        link.name
        for link in host.links.by_name.values()
        if link.is_up and not link.is_loopback and link.kind != "dummy" and not link.master
        and not (packet.encapsulated is not None and _has_no_mac(link))
    ]  # fmt: skip
    near = _on_its_network(host, names, packet)
    packets = tuple(dataclasses.replace(packet, in_interface=name, out_interface="") for name in near or names)
    return Arrival(host, segment, None, packets) if packets else None


def _on_its_network(host: HostTables, names: list[str], packet: Packet) -> list[str]:
    """Of these interfaces, those on whose network the sender lies: a neighbour's packet comes by no other."""
    found = []
    for one in host.addresses.entries if host.addresses is not None else ():
        network = ipaddress.ip_network(f"{one.ip}/{one.prefix_length}", strict=False)
        if one.interface in names and network.prefixlen < network.max_prefixlen and packet.source in network:
            found.append(one.interface)
    return list(dict.fromkeys(found))


def tcp_packet(
    source: Endpoint,
    destination: Endpoint,
    segment: Segment,
    record: Record | None,
    *,
    tracking: CtState | None = None,
    is_reply: bool = False,
) -> Packet:
    """A segment between two ends as the walk takes it, not yet on any interface."""
    return Packet(
        protocol="tcp",
        source=ipaddress.ip_address(source.ip),
        destination=ipaddress.ip_address(destination.ip),
        source_port=source.port,
        destination_port=destination.port,
        flags=flag_text(segment.flags),
        length=record.ip_length or None if record is not None else None,
        ttl=record.ttl or None if record is not None else None,
        ct_state=tracking,
        is_reply=is_reply,
    )


def _outer(record: Record, inner: Packet) -> Packet | None:
    """The packet as it stood on the interface: inside the tunnel that carried it; None for tunnels that the walk does not know."""
    if not record.tunnel_depth:
        return inner
    words = record.tunnels.split()
    if record.tunnel_depth != 1 or len(words) != 4 or words[2] != ">" or words[0] not in TUNNEL_PROTOCOLS:
        return None
    try:
        source, destination = ipaddress.ip_address(words[1]), ipaddress.ip_address(words[3])
    except ValueError:
        return None
    return Packet(protocol=TUNNEL_PROTOCOLS[words[0]], source=source, destination=destination, encapsulated=inner)


def _came_in(copy: Record, host: HostTables) -> bool:
    """False where a copy surely left the host."""
    if copy.direction:
        return copy.direction == "in"
    macs = _macs(host)
    return not (copy.source_mac in macs and copy.destination_mac not in macs)


def _macs(host: HostTables) -> frozenset[str]:
    return frozenset(link.mac.lower() for link in host.links.by_name.values() if link.mac) if host.links is not None else frozenset()


def interfaces_of(copy: Record, host: HostTables) -> tuple[str, ...]:
    """The interfaces by which a copy may have come, as the kernel's routing sees them; empty where nothing tells.

    By the capture's own word; else by the hardware addresses of frame and interfaces, by those of neighbours, and by which interfaces
    have none at all.
    """
    links = host.links
    if links is None:
        return ()
    word, _, number = copy.interface.partition(" ")
    if word == "ifindex":
        exact = next((link for link in links.by_name.values() if str(link.index) == number), None)
        return (_routed(exact, host),) if exact is not None else ()
    if copy.interface in links.by_name:
        return (_routed(links.by_name[copy.interface], host),)
    up = [link for link in links.by_name.values() if link.is_up and not link.is_loopback]
    candidates = up
    if copy.destination_mac and any(link.mac.lower() == copy.destination_mac for link in up):
        candidates = [link for link in up if link.mac.lower() == copy.destination_mac]
    elif copy.source_mac:
        candidates = [link for link in up if not _has_no_mac(link)]
        near = {one.interface for one in host.neighbours.entries if one.mac.lower() == copy.source_mac} if host.neighbours else set()
        candidates = [link for link in candidates if link.name in near] or candidates
    elif not copy.vlan and not copy.is_listed:
        candidates = [link for link in up if _has_no_mac(link)]
    return tuple(dict.fromkeys(_routed(link, host) for link in candidates))


def _has_no_mac(link: Link) -> bool:
    return link.kind in TUNNEL_KINDS or (bool(link.mac) and link.mac.count(":") != 5)


def _routed(link: Link, host: HostTables) -> str:
    """The interface for which the kernel routes what this one receives: its bridge or bond, else itself."""
    seen = {link.name}
    while link.master and host.links is not None and link.master not in seen:
        master = host.links.get(link.master)
        if master is None or master.kind not in UNDER_A_MASTER:
            break
        link = master
        seen.add(link.name)
    return link.name
