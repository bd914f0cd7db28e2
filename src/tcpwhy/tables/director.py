"""What a load balancer of the kernel (IPVS) or of DPVS holds: a virtual service, its real servers, a connection; the readers fill them."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re

from tcpwhy.evidence.source import Source
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class RealServer:
    """One real server of a service."""

    source: Source
    text: str
    ip: str
    port: int
    method: str
    """NAT, DR, TUN, FULLNAT, SNAT; LOCAL (the director itself) where the kernel shows it: `ipvsadm -S` writes DR for it (`-g`)."""
    weight: int
    tunnel_type: str
    """ipip, gue, gre of TUN; empty where it is not shown (ipip)."""
    active: int | None
    inactive: int | None
    tunnel_port: int | None = None
    """The UDP port of gue."""
    flags: frozenset[str] = frozenset()
    """`inhibited`, `overload` of DPVS."""


@dataclasses.dataclass(frozen=True, slots=True)
class VirtualService:
    """One virtual service."""

    source: Source
    text: str
    protocol: str
    """tcp, udp, sctp, icmp (DPVS); empty for a service by mark."""
    ip: str
    """Empty for a service by mark."""
    port: int
    """0: any (persistent)."""
    mark: int | None
    scheduler: str
    flags: frozenset[str]
    """persistent, ops, sched flags, `synproxy`, …"""
    real_servers: tuple[RealServer, ...]
    family: int = 4
    persistence_s: int | None = None
    """None where it is not persistent, and where /proc shows it in the kernel's ticks."""
    persistence_mask: str = ""
    """Of the clients' addresses: `255.255.255.0`, or a prefix length of IPv6; empty for one address each."""
    local_addresses: tuple[str, ...] = ()
    """The addresses that full NAT takes towards the real servers (Alibaba's `-P`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class BalancedConnection:
    """One entry of the director's connection table."""

    source: Source
    protocol: str
    """tcp, udp, sctp, …; `ip` for a template of a service by mark."""
    state: str
    """SYN_RECV, ESTABLISHED, …; NONE and ASSURED for templates of persistence; empty where a misprint hides it."""
    expires_s: int | None
    client_ip: str
    client_port: int
    """0 for a template of persistence, whose client_ip is masked."""
    virtual_ip: str
    virtual_port: int
    local_ip: str
    """The director's own address towards the real server (full NAT); empty otherwise."""
    local_port: int | None
    real_ip: str
    real_port: int
    """0 for a template of a service on any port, and where a misprint hides it."""

    @property
    def is_template(self) -> bool:
        """True for what persistence remembers of a client, which is no connection (ip_vs_core.c ip_vs_sched_persist)."""
        return self.client_port == 0


@dataclasses.dataclass(slots=True)
class Ipvs:
    """The director's tables."""

    services: list[VirtualService] | None = None
    """None where the rules were not collected."""
    connections: list[BalancedConnection] | None = None
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    def services_for(self, protocol: str, ip: str, port: int, mark: int = 0) -> list[VirtualService]:
        """The services that take a packet, in the kernel's order: by mark, by address and port, by address and any port.

        The first of them takes it (net/netfilter/ipvs/ip_vs_ctl.c ip_vs_service_find; its FTP case is left out).
        """
        services = self.services or []
        family = 6 if ":" in ip else 4
        by_mark = [service for service in services if mark and service.mark == mark and service.family == family]
        by_address = [service for service in services if service.mark is None and (service.protocol, service.ip) == (protocol, ip)]
        exact = [service for service in by_address if service.port == port]
        any_port = [service for service in by_address if service.port == 0 and port != 0]
        return [*by_mark, *exact, *any_port]


_DECIMAL = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|(\d{1,3}(?:\.\d{1,3}){3})):(\d{1,5})", re.ASCII)
_HEXADECIMAL = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Fa-f]{8})):([0-9A-Fa-f]{4})", re.ASCII)


def end_of(word: str) -> tuple[str, int] | None:
    """`10.0.0.1:80` or `[2001:db8::1]:80` as address in its shortest form, and port."""
    found = _DECIMAL.fullmatch(word)
    if found is None:
        return None
    ip = shortest(found.group(1) or found.group(2))
    port = int(found.group(3))
    return None if ip is None or port > 65535 else (ip, port)


def hex_end_of(word: str) -> tuple[str, int] | None:
    """`0A000001:0050` or `[2001:0db8:…:0001]:0050` of /proc/net/ip_vs."""
    found = _HEXADECIMAL.fullmatch(word)
    if found is None:
        return None
    ip = shortest(found.group(1)) if found.group(1) else hex_ip(found.group(2))
    return None if ip is None else (ip, int(found.group(3), 16))


@functools.lru_cache(maxsize=1 << 14)
def hex_ip(word: str) -> str | None:
    """`0A000001` in reading order (the kernel prints ntohl()), or IPv6 with all its zeros, in its shortest form."""
    if len(word) == 8 and word.isascii() and re.fullmatch(r"[0-9A-Fa-f]{8}", word):
        return str(ipaddress.IPv4Address(int(word, 16)))
    return shortest(word) if ":" in word else None


@functools.lru_cache(maxsize=1 << 14)
def shortest(text: str) -> str | None:
    """An address in its shortest form, None for anything else."""
    try:
        return None if len(text) > 45 or "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None
