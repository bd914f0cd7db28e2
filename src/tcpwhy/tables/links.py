"""`ip -j -d -s link` or `ip -d -s link` goes in; the host's interfaces come out."""

from __future__ import annotations

import dataclasses
from typing import Any

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """One interface."""

    source: Source
    index: int
    name: str
    """Without `@peer`."""
    kind: str
    """`veth`, `ipip`, `vlan`, `bridge`, `dummy`, …; empty for hardware and loopback."""
    is_up: bool
    """IFF_UP: switched on."""
    is_running: bool
    """IFF_LOWER_UP: it has a carrier."""
    flags: frozenset[str]
    mtu: int | None
    mac: str
    master: str
    """Bridge, bond or vrf that it belongs to."""
    details: dict[str, Any]
    """The kind's own data by ip's names: `local`, `remote`, `id`, `link`, `external`, …"""

    @property
    def is_loopback(self) -> bool:
        """The interface lo."""
        return "LOOPBACK" in self.flags


@dataclasses.dataclass(slots=True)
class Links:
    """All interfaces of a host."""

    by_name: dict[str, Link] = dataclasses.field(default_factory=dict)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    def get(self, name: str) -> Link | None:
        """The interface of that name."""
        return self.by_name.get(name)


def read_links(state: State) -> Links | None:
    """The interfaces; None where they were not collected."""
    return None
