"""`conntrack -L -o extended` or /proc/net/nf_conntrack goes in; the tracked connections come out, both tuples of each."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a tracked connection. Addresses in their shortest form."""

    source_ip: str
    destination_ip: str
    source_port: int | None
    destination_port: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Tracked:
    """One entry."""

    source: Source
    protocol: str
    """tcp, udp, icmp, …"""
    state: str
    """TCP's state in the kernel's words: ESTABLISHED, SYN_SENT, …; empty for other protocols."""
    timeout_s: int | None
    original: Tuple
    """As the first packet came."""
    reply: Tuple
    """As answers are awaited: NAT is the difference of the two."""
    flags: frozenset[str]
    """ASSURED, UNREPLIED, OFFLOAD, DYING."""
    mark: int
    zone: int

    @property
    def is_destination_translated(self) -> bool:
        """DNAT or REDIRECT: answers come from elsewhere than the client asked."""
        return (self.reply.source_ip, self.reply.source_port) != (self.original.destination_ip, self.original.destination_port)

    @property
    def is_source_translated(self) -> bool:
        """SNAT or MASQUERADE."""
        return (self.reply.destination_ip, self.reply.destination_port) != (self.original.source_ip, self.original.source_port)


@dataclasses.dataclass(slots=True)
class Conntrack:
    """All entries."""

    entries: list[Tracked] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_conntrack(state: State) -> Conntrack | None:
    """The entries; None where they were not collected."""
    return None
