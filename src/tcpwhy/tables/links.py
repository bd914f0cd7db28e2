"""`ip -j -d -s link` or `ip -d -s link` goes in; the host's interfaces come out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.addresses import FILE as ADDRESS_FILE
from tcpwhy.tables.ip_blocks import Block, split_blocks
from tcpwhy.tables.ip_names import number_of, text_of
from tcpwhy.tables.json_rows import looks_like_json, read_json_rows
from tcpwhy.tables.unread import UnreadPieces

FILE = "ip-link.json"


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
    """The kind's own data by the names that `ip -j` gives them: `local`, `remote`, `id`, `external`, `table`, `mode`, …

    With them, of the link itself: `link` (the device below, or the peer of a veth), `link_index` where that is in another
    namespace, `link_type` (`ether`, `ipip`, …), `operstate`, `slave_kind`, `altnames`,
    `ifalias`. From text only those that TEXT_DETAILS names.
    """

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


TEXT_DETAILS = {
    "id": "id", "remote": "remote", "local": "local", "dev": "link", "group": "group", "table": "table", "mode": "mode",
    "protocol": "protocol", "dstport": "port", "key": "key", "ikey": "ikey", "okey": "okey", "type": "type",
}  # fmt: skip
"""Words of one value each in a kind's line → the key of JSON, by iproute2's ip/iplink_*.c and link_*.c."""

_OF_LINK = ("link", "link_index", "link_netnsid", "link_type", "operstate", "altnames", "ifalias")
_NO_KIND = frozenset(("inet", "inet6", "valid_lft", "RX", "TX", "RX:", "TX:", "alias", "altname", "vf", "family", "prog/xdp", "Alternate"))
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,30}", re.ASCII)
_PROTOCOLS = frozenset(("any", "ipip", "ip6ip", "mplsip", "ipip6", "ip6ip6"))


def read_links(state: State) -> Links | None:
    """The interfaces, from ip-link.json or else from ip-addr.json, which names them too; None where neither was collected."""
    name = FILE if state.is_collected(FILE) else ADDRESS_FILE
    lines = state.read_lines(name)
    if lines is None:
        return None
    source = state.source(name)
    table = Links()
    if looks_like_json(lines):
        for row in read_json_rows(lines, source, table.unread):
            _add_row(table, row.value, dataclasses.replace(source, line=row.line))
        return table
    seen = 0
    for found in split_blocks(lines):
        if not isinstance(found, Block):
            table.unread.add(dataclasses.replace(source, line=found[0]), found[1], "it belongs to no interface")
        elif found.is_link:
            seen += 1
            _add(table, _link_of(found, dataclasses.replace(source, line=found.line)))
    return table if seen or name == FILE else None  # `ip -o address` says nothing of interfaces


def _add(table: Links, link: Link) -> None:
    if link.name in table.by_name:
        table.unread.add(link.source, link.name, "a second interface of that name")
    else:
        table.by_name[link.name] = link


def _add_row(table: Links, row: dict[str, Any], source: Source) -> None:
    name, index, flags = text_of(row.get("ifname")), number_of(row.get("ifindex")), row.get("flags")
    if not name or index is None or not isinstance(flags, list):
        table.unread.add(source, str(row)[:300], "it has no name, no index or no flags")
        return
    info = row.get("linkinfo")
    info = info if isinstance(info, dict) else {}
    data = info.get("info_data")
    details: dict[str, Any] = dict(data) if isinstance(data, dict) else {}
    details |= {key: row[key] for key in _OF_LINK if row.get(key) is not None}
    if text_of(info.get("info_slave_kind")):
        details["slave_kind"] = text_of(info["info_slave_kind"])
    named = frozenset(flag for flag in flags if isinstance(flag, str))
    _add(
        table,
        Link(
            source=source,
            index=index,
            name=name,
            kind=text_of(info.get("info_kind")),
            is_up="UP" in named,
            is_running="LOWER_UP" in named,
            flags=named,
            mtu=number_of(row.get("mtu")),
            mac=text_of(row.get("address")),
            master=text_of(row.get("master")),
            details=details,
        ),
    )


def _link_of(block: Block, source: Source) -> Link:
    kind, mac = "", ""
    details: dict[str, Any] = {}
    found = re.fullmatch(r"if(\d{1,9})", block.peer, re.ASCII)
    if found is not None:
        details["link_index"] = int(found.group(1))
    elif block.peer not in ("", "NONE"):
        details["link"] = block.peer
    if operstate := _after("state", block.words):
        details["operstate"] = operstate
    for _line, words in block.rest:
        first = words[0]
        if first.startswith("link/"):
            details["link_type"] = first[5:]
            mac = words[1] if len(words) > 1 and re.fullmatch(r"[0-9a-fA-F.:]+", words[1]) else ""
        elif first == "altname" and len(words) > 1:
            details.setdefault("altnames", []).append(words[1])
        elif first == "alias" and len(words) > 1:
            details["ifalias"] = " ".join(words[1:])
        elif first.endswith("_slave"):
            details["slave_kind"] = first.removesuffix("_slave")
        elif not kind and first not in _NO_KIND and _KIND.fullmatch(first):
            kind = first
            details |= _kind_details(words)
    mtu = number_of(_after("mtu", block.words))
    flags = frozenset(block.flags)
    return Link(
        source=source,
        index=block.index,
        name=block.name,
        kind=kind,
        is_up="UP" in flags,
        is_running="LOWER_UP" in flags,
        flags=flags,
        mtu=mtu,
        mac=mac,
        master=_after("master", block.words),
        details=details,
    )


def _kind_details(words: Sequence[str]) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if words[1:] and words[1] in _PROTOCOLS:
        details["proto"] = words[1]
    for at, word in enumerate(words[1:-1], 1):
        key = TEXT_DETAILS.get(word)
        if key is not None and key not in details:
            number = number_of(words[at + 1]) if key in ("id", "table", "port") else None
            details[key] = words[at + 1] if number is None else number
    if "external" in words:
        details["external"] = True
    return details


def _after(word: str, words: Sequence[str]) -> str:
    return next((words[at + 1] for at, one in enumerate(words[:-1]) if one == word), "")
