"""What one base chain makes of a packet: the ways that it can go from there, each with its verdict, packet, steps and doubts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from tcpwhy.evidence.source import Source
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.trace import Doubt, Step
from tcpwhy.tables.host import HostTables

Hook = Literal["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]
NatKind = Literal["DNAT", "SNAT", "REDIRECT", "MASQUERADE", "NETMAP"]

MOST_WAYS = 32
"""Ways that are followed of one packet; beyond, its fate is unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Nat:
    """An address translation that a nat rule orders; the walk carries it out, for it binds the connection."""

    kind: NatKind
    addresses: tuple[Address, Address] | None
    """First and last of the range; None where the kernel chooses (REDIRECT, MASQUERADE, a port alone)."""
    ports: tuple[int, int] | None
    """First and last; None keeps the port where it is free."""
    is_random: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """How a base chain ends."""

    kind: Literal["accept", "drop", "reject", "nat", "queue", "tproxy", "stolen"]
    rule: str = ""
    """The rule or policy that ended it, as it stands in its file."""
    source: Source | None = None
    chain: str = ""
    """The path of chains to it: `nat OUTPUT > ISTIO_OUTPUT > ISTIO_REDIRECT`."""
    nat: Nat | None = None
    reject_with: str = ""
    """`icmp-port-unreachable`, `tcp-reset`, … in iptables' words."""
    port: int | None = None
    """Of tproxy."""
    address: Address | None = None
    """Of tproxy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Passage:
    """One way through one base chain."""

    verdict: Verdict
    packet: Packet
    """After it: marks, DSCP, TTL, notrack."""
    steps: tuple[Step, ...]
    """One for each rule that matched and did something (also jumps), and one for the end."""
    doubts: tuple[Doubt, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What a match may look at beside the packet."""

    host: HostTables
    hook: Hook
    address_type: Callable[[Address, str], str | None]
    """`LOCAL`, `UNICAST`, `BROADCAST`, `MULTICAST`, `BLACKHOLE`, … of an address, restricted to an interface where that is not empty, by
    the host's routing tables (the kernel's inet_addr_type); None where they do not tell."""
    reverse_path: Callable[[Packet, bool], bool | None]
    """Whether the packet passes `-m rpfilter` or `fib saddr . iif oif exists`; the flag is loose. None where it cannot be told."""
    route_of: Callable[[Address, Packet], str | None]
    """The interface by which an address is reached (nft's `fib daddr oif`); empty for none, None where it cannot be told."""
    has_socket: Callable[[Packet], bool | None]
    """Whether a socket of this host would take the packet (`-m socket`); None where sockets were not collected."""
