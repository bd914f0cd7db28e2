"""Roles, addresses and what the captures show of each host go in; whether an address is a proxy's, a balancer's or a client's comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping

from tcpwhy.clients.story import End, Node
from tcpwhy.evidence.settings import Role

INITIAL_TTLS = (64, 128, 255)
"""What hosts send with: Linux and the BSDs, Windows, routers (RFC 1700 page 64 and the systems' defaults); a forwarded packet has less."""

PASSING_ON = ("proxy", "balancer", "router")
"""Roles of hosts that other hosts' connections come from."""

NEIGHBOURS = {4: 24, 6: 64}
"""Prefix in which a balancer's own addresses lie together: pools of full NAT are seldom listed whole."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """What is known of the vantage points' hosts."""

    addresses: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    """By vantage point: the host's own, where they are known."""
    roles: Mapping[str, Role] = dataclasses.field(default_factory=dict)
    """By vantage point, where tcpwhy.toml gives one."""
    callers: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    """By vantage point: the addresses that its host answered as a server, at its own addresses; absent where it answered none."""
    serving: frozenset[str] = frozenset()
    """Vantage points whose state shows their host to serve others: a listener with peers, sessions of a proxy, services of a balancer."""
    accounted: frozenset[str] = frozenset()
    """Vantage points whose sockets were listed, so that their host would be among `serving` if it served others then."""
    balancing: frozenset[str] = frozenset()
    """Addresses that balancers' tables give to connections."""
    fronted: frozenset[End] = frozenset()
    """Servers that some connection reached from a known proxy's or balancer's address."""
    relays: frozenset[str] = frozenset()
    """Addresses whose connections named another client, or were another connection's other side."""
    speaking_for_many: frozenset[str] = frozenset()
    """Addresses whose connections claimed different clients, as those of a balancer do."""
    repeated: frozenset[End] = frozenset()
    """Clients that TCP options claim in several connections to one server that were open at the same time."""
    trusted_layouts: frozenset[tuple[str, str]] = frozenset()
    """(peer's address, layout) of TCP options that were met with a port that is no ExID, too."""

    def owners(self, ip: str) -> list[str]:
        """The vantage points whose host has this address, in order of their names."""
        return sorted(place for place, own in self.addresses.items() if ip in own)

    def is_front(self, ip: str) -> bool:
        """True for an address of a host that is a proxy or balancer by tcpwhy.toml, or that a balancer's table gives."""
        return ip in self.balancing or any(self.roles.get(place) in ("proxy", "balancer") for place in self.owners(ip))

    def writes_headers(self, ip: str) -> str | None:
        """Why the host of this address can be held to write its peer into HTTP headers; None where nothing shows it."""
        for place in self.owners(ip):
            role = self.roles.get(place)
            if role in ("proxy", "balancer"):
                return f"{place} is a {role} by tcpwhy.toml"
            if role is None and place in self.callers:
                return f"{place} has the address {ip} and answers clients itself"
        return None

    def was_called_by(self, proxy_ip: str, client_ip: str) -> bool:
        """True where a role vouches for the proxy, or its own capture shows that client asking it."""
        return any(
            self.roles.get(place) in ("proxy", "balancer") or client_ip in self.callers.get(place, frozenset())
            for place in self.owners(proxy_ip)
        )

    def is_http_proxy(self, ip: str) -> bool:
        """True where tcpwhy.toml calls the host of this address a proxy: a balancer may know nothing of HTTP."""
        return any(self.roles.get(place) == "proxy" for place in self.owners(ip))

    def is_stranger_beside_fronts(self, node: Node) -> bool:
        """True where others reach the same server from known balancers, and this peer is none of them nor near one."""
        ip = node.client[0]
        if node.server not in self.fronted or self.is_front(ip):
            return False
        return not any(_near(ip, front) for front in self.fronts)

    @property
    def fronts(self) -> frozenset[str]:
        """All known addresses of proxies and balancers."""
        by_role = (own for place, own in self.addresses.items() if self.roles.get(place) in ("proxy", "balancer"))
        return self.balancing.union(*by_role)

    def sent_itself(self, node: Node) -> bool | None:
        """True where a capture on the client's own host shows it sending; None where that host may only pass on what others send.

        A proxy that was captured on its back side alone looks like a client: only a list of the host's sockets, or its role, tells.
        """
        place, ip = node.outer_place, node.outer[0]
        if ip not in self.addresses.get(place, frozenset()) or node.outer_ttl not in INITIAL_TTLS:
            return False
        role = self.roles.get(place)
        if role == "client":
            return True
        if role in PASSING_ON or self.is_front(ip):
            return False
        serves = place in self.callers or place in self.serving or ip in self.speaking_for_many
        return None if serves or node.headers or place not in self.accounted else True


def _near(ip: str, other: str) -> bool:
    one, two = ipaddress.ip_address(ip), ipaddress.ip_address(other)
    if one.version != two.version:
        return False
    bits = one.max_prefixlen - NEIGHBOURS[one.version]
    return int(one) >> bits == int(two) >> bits
