"""Connections go in; those that a log line can mean, by the most that it names of them, come out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from tcpwhy.connections.connection import Connection
from tcpwhy.connections.packet import Endpoint, Side
from tcpwhy.tables.logs._event import LogEvent

How = Literal["ports", "port", "address", "time"]
"""What ties a line: both ends with their ports; one end's own port; the server's or the client's address; the place and the time alone."""


def end_ns(connection: Connection) -> int:
    """When it failed, else when it was seen last, on the common clock."""
    if connection.failure is not None:
        return connection.failure.at_ns
    return max(connection.segments[-1].aligned_ns, connection.segments[0].aligned_ns) if connection.segments else connection.last_ns


def named_end(event: LogEvent) -> tuple[Side, Endpoint] | None:
    """The one end that a line names, and whose it is: towards its client a program is the server, else the client."""
    towards_client = event.about == "client"
    if event.local:
        return "server" if towards_client else "client", Endpoint.parse(event.local)
    if event.remote:
        return "client" if towards_client else "server", Endpoint.parse(event.remote)
    return None


class Book:
    """Connections by all that a line can name of them, each list in the order of their ends."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._by_ends: dict[frozenset[Endpoint], list[Connection]] = {}
        self._by_ports: dict[frozenset[int], list[Connection]] = {}
        self._by_client: dict[Endpoint, list[Connection]] = {}
        self._by_server: dict[Endpoint, list[Connection]] = {}
        self._by_client_ip: dict[tuple[str, str], list[Connection]] = {}
        self._from_place: dict[str, list[Connection]] = {}
        for connection in sorted(connections, key=end_ns):
            for place, view in connection.views.items():
                at_client, at_server = connection.is_client_host(place), connection.is_server_host(place)
                if at_client is not False and not at_server:
                    _enter(self._from_place, place, connection)
                for client, server in ((view.client, view.server), *view.translated):
                    _enter(self._by_ends, frozenset((client, server)), connection)
                    _enter(self._by_ports, frozenset((client.port, server.port)), connection)
                    _enter(self._by_client, client, connection)
                    _enter(self._by_server, server, connection)
                    if at_client is not True:
                        _enter(self._by_client_ip, (place, client.ip), connection)

    def candidates(self, event: LogEvent) -> tuple[How, list[Connection]]:
        """By the most that the line names."""
        pairs = [*([(event.local, event.remote)] if event.local and event.remote else []), *event.also]
        if pairs:
            found: list[Connection] = []
            for local, remote in pairs:
                ends = frozenset((Endpoint.parse(local), Endpoint.parse(remote)))
                found += [one for one in self._by_ends.get(ends, []) if one not in found]
            return "ports", found
        own_port, other_port = event.ports
        if own_port is not None and other_port is not None:
            return "port", self._by_ports.get(frozenset((own_port, other_port)), [])
        named = named_end(event)
        if named is not None:
            side, end = named
            known = self._by_client if side == "client" else self._by_server
            return "port" if event.local or side == "client" else "address", known.get(end, [])
        place = event.source.vantage_point
        if event.about == "client" and event.client:
            return "address", self._by_client_ip.get((place, event.client), [])
        return "time", self._from_place.get(place, []) if event.about == "upstream" else []


_Key = TypeVar("_Key")


def _enter(book: dict[_Key, list[Connection]], key: _Key, connection: Connection) -> None:
    listed = book.setdefault(key, [])
    if not listed or listed[-1] is not connection:
        listed.append(connection)
