"""`ipset save` (or `ipset list`) goes in; the sets come out, and whether an address is in one."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(slots=True)
class IpSet:
    """One set."""

    source: Source
    name: str
    type: str
    """hash:ip, hash:net, hash:ip,port, bitmap:port, list:set, …"""
    options: dict[str, str]
    """family, hashsize, timeout, …"""
    entries: list[tuple[str, Source]] = dataclasses.field(default_factory=list)
    """As written: `10.0.0.0/24,tcp:80`, with `nomatch` behind where it is an exception."""


@dataclasses.dataclass(slots=True)
class IpSets:
    """All sets."""

    sets: dict[str, IpSet] = dataclasses.field(default_factory=dict)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_ipsets(state: State) -> IpSets | None:
    """The sets; None where they were not collected."""
    return None
