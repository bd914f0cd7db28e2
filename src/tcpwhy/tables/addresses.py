"""A host's `ip -j -d addr`, `ip address` or `ip -o address` goes in; the addresses that are its own come out."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Any

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.ip_blocks import Block, split_blocks
from tcpwhy.tables.ip_names import number_of, text_of, words_of
from tcpwhy.tables.json_rows import JsonRow, looks_like_json, read_json_rows
from tcpwhy.tables.unread import UnreadPieces

FILE = "ip-addr.json"

_FLAGS = frozenset(
    (
        *("secondary", "temporary", "nodad", "optimistic", "dadfailed", "home", "deprecated", "tentative", "permanent", "dynamic"),
        *("mngtmpaddr", "noprefixroute", "autojoin", "stable-privacy"),
    )
)
"""iproute2, ip/ipaddress.c ifa_flag_data."""

_VALUES = {
    "peer": "address", "brd": "broadcast", "any": "anycast", "mcast": "multicast", "metric": "metric", "scope": "scope",
    "flags": "ifa_flags", "proto": "protocol",
}  # fmt: skip
"""Words of one value each → the key that JSON has for them, by ip/ipaddress.c print_addrinfo()."""


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

    def stands_alone(self, ip: str) -> bool | None:
        """True where an address has no network (/32, /128) and stands on lo, or on a host that has others in one.

        So virtual addresses stand on real servers and on hosts that take over from each other: another host may have it too. None where
        this host does not have it.
        """
        own = [one for one in self.entries if one.ip == ip]
        if not own:
            return None
        whole = 128 if ":" in ip else 32
        others = (ipaddress.ip_interface(f"{one.ip}/{one.prefix_length}") for one in self.entries if (":" in one.ip) == (":" in ip))
        networks = any(other.network.prefixlen < whole and not other.is_loopback and not other.is_link_local for other in others)
        return all(one.prefix_length == whole and (networks or one.interface == "lo") for one in own)


def read_addresses(state: State) -> frozenset[str] | None:
    """All addresses of all interfaces, loopback's 127.0.0.0/8 and ::1 left out; None where the file was not collected.

    What is no output of ip gives an empty set: nothing is then said of the host's addresses.
    """
    table = read_address_table(state)
    if table is None:
        return None
    return frozenset(one.ip for one in table.entries if not ipaddress.ip_address(one.ip).is_loopback)


def read_address_table(state: State) -> Addresses | None:
    """The addresses; None where they were not collected."""
    lines = state.read_lines(FILE)
    if lines is None:
        return None
    source = state.source(FILE)
    table = Addresses()
    if looks_like_json(lines):
        for row in read_json_rows(lines, source, table.unread):
            _read_interface(table, row, source)
        return table
    for found in split_blocks(lines):
        if isinstance(found, Block):
            _read_block(table, found, source)
        else:
            table.unread.add(dataclasses.replace(source, line=found[0]), found[1], "it belongs to no interface")
    return table


def _read_interface(table: Addresses, row: JsonRow, source: Source) -> None:
    infos = row.value.get("addr_info", [])
    begins = dataclasses.replace(source, line=row.line)
    if not isinstance(infos, list):
        table.unread.add(begins, str(infos), "addr_info is no list")
        return
    listed = [info for info in infos if info != {}]  # iproute2 before 4.20 leaves one for each entry that its filter omits
    lines = row.lines_of("local", "addr_info")
    for at, info in enumerate(listed):
        place = dataclasses.replace(source, line=lines[at]) if len(lines) == len(listed) else begins
        if isinstance(info, dict):
            _add(table, text_of(row.value.get("ifname")) or text_of(info.get("dev")), info, str(info), place)
        else:
            table.unread.add(place, str(info), "an address that is no object")


def _read_block(table: Addresses, block: Block, source: Source) -> None:
    for line, words in block.rest:
        if words[0] in ("inet", "inet6") and len(words) > 1:
            place = dataclasses.replace(source, line=line)
            _add(table, block.name, _info(words), " ".join(words), place)


def _info(words: Sequence[str]) -> dict[str, Any]:
    """A line `inet 10.0.0.1/24 brd 10.0.0.255 scope global secondary eth0:1` in the form of JSON."""
    info: dict[str, Any] = {"family": words[0], "unknown": []}
    info["local"], _, info["prefixlen"] = words[1].partition("/")
    rest = iter(words[2:])
    for word in rest:
        if word in _VALUES and "label" not in info:
            info[_VALUES[word]] = next(rest, "")
        elif word in _FLAGS:
            info[word] = True
        else:
            if "label" in info:
                info["unknown"].append(info["label"])
            info["label"] = word
    if words[0] == "inet" and len(words) > 2 and "label" not in info and words[-1] in _FLAGS:
        info["label"] = words[-1]  # IPv4 always ends with the label (net/ipv4/devinet.c inet_fill_ifaddr()), here a flag's name
        info.pop(words[-1])
    if "address" in info:
        info["address"], _, info["prefixlen"] = info["address"].partition("/")
    return info


def _add(table: Addresses, interface: str, info: dict[str, Any], text: str, source: Source) -> None:
    peer = text_of(info.get("address"))
    length = number_of(info.get("prefixlen"))
    try:
        ip = ipaddress.ip_address(text_of(info.get("local")))
        other = str(ipaddress.ip_address(peer)) if peer else None
    except ValueError:
        table.unread.add(source, text, "its address is not understood")
        return
    if info.get("prefixlen") in (None, ""):
        length = ip.max_prefixlen
    if length is None or not 0 <= length <= ip.max_prefixlen or not interface:
        table.unread.add(source, text, "its prefix length or interface is not understood")
        return
    if info.get("unknown"):
        table.unread.add(source, text, "the words " + words_of(info["unknown"]))
    table.entries.append(
        Address(
            source=source,
            interface=interface,
            ip=str(ip),
            prefix_length=length,
            scope=text_of(info.get("scope")),
            is_secondary=info.get("secondary") is True,
            peer=other,
            label=text_of(info.get("label")),
            flags=frozenset(flag for flag in _FLAGS if info.get(flag) is True),
        )
    )
