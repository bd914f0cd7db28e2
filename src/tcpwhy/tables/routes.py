"""`ip -j -d route show table all` (or its text form) goes in; the routes of all tables come out."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Literal

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, slots=True)
class NextHop:
    """One way of a route."""

    gateway: str | None
    """None: the destination is on the link itself."""
    interface: str
    weight: int
    flags: frozenset[str]
    """onlink, dead, linkdown, pervasive, offload, …"""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One route."""

    source: Source
    text: str
    """As `ip route` would write it."""
    table: str
    """`main`, `local`, `default`, or a number."""
    type: str
    """unicast, local, broadcast, multicast, blackhole, unreachable, prohibit, throw, anycast, nat."""
    destination: Network
    """0.0.0.0/0 or ::/0 for default."""
    next_hops: tuple[NextHop, ...]
    """One, several of a multipath route, or none for blackhole and its like."""
    preferred_source: str | None
    metric: int
    scope: str
    """global, link, host, nowhere, site; empty for IPv6."""
    tos: int
    unread: str = ""
    """What of it is not understood (a next-hop object that was not listed, an encapsulation)."""


@dataclasses.dataclass(slots=True)
class Routes:
    """All routes of one family."""

    family: Literal[4, 6]
    routes: list[Route] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_routes(state: State, family: Literal[4, 6]) -> Routes | None:
    """The routes of a family; None where they were not collected."""
    return None
