"""A tunnelled packet for this host goes in; the tunnel device that takes it comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Doubt
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.links import Link

KINDS = {
    "ipip": ("ipip", "ipip6", "any"),
    "ipv6": ("sit", "ip6tnl"),
    "gre": ("gre", "gretap", "erspan", "ip6gre", "ip6gretap"),
    "udp": ("vxlan", "geneve", "fou", "gue"),
}
"""By the outer packet's protocol: the kinds of devices that unwrap it."""

ANY = frozenset({"", "any", "0.0.0.0", "::", "None"})


@dataclasses.dataclass(frozen=True, slots=True)
class Tunnel:
    """The device, or why there is none."""

    device: str | None
    text: str
    sources: tuple[Source, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def find_tunnel(packet: Packet, host: HostTables) -> Tunnel:
    """net/ipv4/ip_tunnel.c ip_tunnel_lookup(): both ends first, then the remote end, the local end, and the device without ends.

    Only devices that are up count; without one, ipip answers ICMP port unreachable (net/ipv4/tunnel4.c tunnel4_rcv).
    """
    if host.links is None:
        return Tunnel(None, "which tunnel devices there are was not collected", (), (
            Doubt(None, "ip-link.json", "the interfaces were not collected", "a tunnel device takes it"),))  # fmt: skip
    kinds = KINDS.get(packet.protocol, ())
    candidates = [link for link in host.links.by_name.values() if link.kind in kinds and _fits_port(link, packet)]
    down: Link | None = None
    best: tuple[int, Link] | None = None
    for link in candidates:
        rank = _rank(link, packet)
        if rank is None:
            continue
        if not link.is_up:
            down = link
            continue
        if best is None or rank > best[0]:
            best = (rank, link)
    if best is not None:
        return Tunnel(best[1].name, f"unwrapped: its inside arrives by {best[1].name}", (best[1].source,))
    if down is not None:
        return Tunnel(None, f"{down.name} would take it, but is down: ICMP unreachable", (down.source,))
    return Tunnel(None, f"no tunnel device takes {packet.protocol} from {packet.source}: ICMP unreachable")


def _fits_port(link: Link, packet: Packet) -> bool:
    port = link.details.get("port")
    return packet.protocol != "udp" or port is None or str(port) == str(packet.destination_port)


def _rank(link: Link, packet: Packet) -> int | None:
    local, remote = str(link.details.get("local", "")), str(link.details.get("remote", ""))
    rank = 0
    if remote not in ANY:
        if remote != str(packet.source):
            return None
        rank += 2
    if local not in ANY:
        if local != str(packet.destination):
            return None
        rank += 1
    return rank
