"""A director's services go in; how a connection of its table was forwarded, and so what the real server sees, comes out."""

from __future__ import annotations

from collections.abc import Iterable

from tcpwhy.tables.director import BalancedConnection, VirtualService

REWRITING = frozenset({"NAT"})
"""Methods that put the real server's address in place of the virtual one, and keep the client's."""

HANDING_ON = frozenset({"DR", "TUN", "LOCAL"})
"""Methods that leave both as they are; the real server has the virtual address itself (net/netfilter/ipvs/ip_vs_xmit.c)."""


class Forwarding:
    """The forwarding methods of a director, by service and real server."""

    def __init__(self, services: Iterable[VirtualService] | None) -> None:
        """`services` None: the rules were not collected."""
        self._is_known = services is not None
        self._by_real: dict[tuple[str, int, str, int], set[str]] = {}
        self._by_service: dict[tuple[str, int], set[str]] = {}
        self._ports: dict[tuple[str, int, str], set[int]] = {}
        for service in services or ():
            if service.protocol not in ("tcp", ""):
                continue
            key = (service.ip, service.port)
            for real in service.real_servers:
                self._by_real.setdefault((*key, real.ip, real.port), set()).add(real.method)
                self._by_service.setdefault(key, set()).add(real.method)
                self._ports.setdefault((*key, real.ip), set()).add(real.port)

    def methods(self, connection: BalancedConnection) -> frozenset[str]:
        """The methods that the connection may have been forwarded by: several where its entry cannot tell which service took it.

        Empty where the rules have no service for it: then it is not told, as for DPVS's outgoing connections, whose services have
        no address. A real server that was taken out is held to have been of the same method as the others of its service.
        """
        if not self._is_known:
            return REWRITING | HANDING_ON
        virtual, real = (connection.virtual_ip, connection.virtual_port), (connection.real_ip, connection.real_port)
        services = (virtual, (connection.virtual_ip, 0), ("", 0))  # the last is a service by mark, which the entry does not tell
        found: set[str] = set()
        for key in services:
            found |= self._by_real.get((*key, *real), set()) | self._by_real.get((*key, real[0], 0), set())
        if not found:
            found = next((self._by_service[key] for key in services[:2] if key in self._by_service), set())
        return frozenset(found)

    def real_port(self, connection: BalancedConnection) -> int | None:
        """The real server's port where the entry hides it and its service has that server with one port only; None otherwise."""
        if connection.real_port:
            return connection.real_port
        ports = self._ports.get((connection.virtual_ip, connection.virtual_port, connection.real_ip), set())
        return next(iter(ports)) or None if len(ports) == 1 else None
