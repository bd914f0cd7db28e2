"""`ipvsadm -S -n`, `ipvsadm -L -n`, `ipvsadm -L -n -c` (stock, Alibaba, DPVS) or /proc/net/ip_vs and ip_vs_conn go in; services come out.

With them their real servers, and the connections of the director.
"""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class RealServer:
    """One real server of a service."""

    source: Source
    text: str
    ip: str
    port: int
    method: str
    """NAT, DR, TUN, FULLNAT, LOCAL (the director itself), SNAT, TUNNEL forms are TUN."""
    weight: int
    tunnel_type: str
    """ipip, gue, gre of TUN; empty where it is not shown (ipip)."""
    active: int | None
    inactive: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class VirtualService:
    """One virtual service."""

    source: Source
    text: str
    protocol: str
    """tcp, udp, sctp; empty for a service by mark."""
    ip: str
    """Empty for a service by mark."""
    port: int
    """0: any (persistent)."""
    mark: int | None
    scheduler: str
    flags: frozenset[str]
    """persistent, ops, sched flags, `synproxy`, …"""
    real_servers: tuple[RealServer, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class BalancedConnection:
    """One entry of the director's connection table."""

    source: Source
    protocol: str
    state: str
    """SYN_RECV, ESTABLISHED, …; NONE for templates of persistence."""
    expires_s: int | None
    client_ip: str
    client_port: int
    virtual_ip: str
    virtual_port: int
    local_ip: str
    """The director's own address towards the real server (full NAT); empty otherwise."""
    local_port: int | None
    real_ip: str
    real_port: int


@dataclasses.dataclass(slots=True)
class Ipvs:
    """The director's tables."""

    services: list[VirtualService] | None = None
    """None where the rules were not collected."""
    connections: list[BalancedConnection] | None = None
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_ipvs(state: State) -> Ipvs | None:
    """The director's tables; None where none was collected."""
    return None
