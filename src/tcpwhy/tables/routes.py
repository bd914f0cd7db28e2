"""`ip -j -d route show table all` (or its text form) goes in; the routes of all tables come out."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.ip_names import Network, family_of, network_of, number_of, table_name, text_of, tos_of, words_of
from tcpwhy.tables.json_rows import looks_like_json, read_json_rows
from tcpwhy.tables.old_route_json import mend_route_json
from tcpwhy.tables.route_words import TYPES, WORDS, flags_of, line_of_row, row_of_words
from tcpwhy.tables.unread import UnreadPieces

__all__ = ["Network", "NextHop", "Route", "Routes", "read_routes"]

FILE, FILE6 = "ip-route.json", "ip6-route.json"

MOST_HOPS = 4096
"""Next hops of one route that are kept; the kernel takes what fits one netlink message of 64 KiB, some two thousand."""


@dataclasses.dataclass(frozen=True, slots=True)
class NextHop:
    """One way of a route."""

    gateway: str | None
    """None: the destination is on the link itself. May be IPv6 for an IPv4 route (`via inet6 …`)."""
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
    """`main`, `local`, `default`, a name of /etc/iproute2/rt_tables, or a number."""
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
    """The routes of a family; None where they were not collected.

    `ip route show table all` lists both families (iproute2, ip/iproute.c iproute_list_flush_or_save()), so that IPv6 is read from
    ip-route.json where there is no ip6-route.json; without any IPv6 route in it, nothing is known of them. Entries of the
    route cache and MPLS routes are no routes of the family and left out.
    """
    if family == 6 and not state.is_collected(FILE6):
        found = _read(state, FILE, 6)
        return found if found is not None and found.routes else None
    return _read(state, FILE6 if family == 6 else FILE, family)


def _read(state: State, name: str, family: Literal[4, 6]) -> Routes | None:
    lines = state.read_lines(name)
    if lines is None:
        return None
    source = state.source(name)
    table = Routes(family)
    if looks_like_json(lines):
        rows = [(row.line, row.value, "") for row in read_json_rows(mend_route_json(lines), source, table.unread)]
    else:
        rows = list(_text_rows(lines, source, table.unread))
    families = _families([row for _, row, _ in rows], family)
    for (line, row, text), its_family in zip(rows, families, strict=True):
        if its_family == family and "cache" not in row:
            _add(table, row, text or line_of_row(row), dataclasses.replace(source, line=line))
    return table


def _text_rows(lines: Sequence[str], source: Source, unread: UnreadPieces) -> Iterator[tuple[int, dict[str, Any], str]]:
    """A route begins at the margin; what belongs to it is indented, or follows a backslash under `ip -o`."""
    head: list[str] = []
    more: list[list[str]] = []
    begun = 0
    for number, line in enumerate([*lines, "end"], 1):
        first, *rest = line.split("\\")
        parts = [words for words in (part.split() for part in ([first, *rest] if line[:1] in " \t" else rest)) if words]
        if line[:1] in (" ", "\t") or not line.strip():
            if head:
                more += parts
            elif parts:
                unread.add(dataclasses.replace(source, line=number), line.strip(), "it belongs to no route")
            continue
        if head:
            yield begun, row_of_words(head, more), " ".join(word for words in (head, *more) for word in words)
        if number > len(lines):
            return
        begun, head, more = number, first.split(), parts
        if not _begins_route(head):
            unread.add(dataclasses.replace(source, line=number), line, "no route begins like this")
            head = []


def _begins_route(words: list[str]) -> bool:
    at = 1 if words[:1] == ["Deleted"] else 0
    at += len(words) > at and words[at] in TYPES
    if len(words) <= at:
        return False
    destination, rest = words[at], words[at + 1 :]
    if _is_label(destination):
        return bool(rest) and rest[0] in WORDS
    known = destination == "default" or network_of(destination, 6 if ":" in destination else 4) is not None
    return known and (not rest or rest[0] in WORDS)


def _is_label(destination: str) -> bool:
    """Routes of MPLS have a label of 20 bits where others have a prefix (lib/mpls_ntop.c)."""
    return destination.isascii() and destination.isdecimal() and destination != "0" and len(destination) <= 7


def _families(rows: Sequence[dict[str, Any]], asked: Literal[4, 6]) -> Iterator[int]:
    """The family of each row, 0 for neither.

    Nothing in `default dev tun0` says of which family it is; the kernel lists IPv4 before IPv6 (net/core/rtnetlink.c
    rtnl_dump_all()), and a list of one family was asked for by its file's name.
    """
    told = [_family(row) for row in rows]
    mixed = 4 in told and 6 in told
    before = 4 if mixed else next((family for family in told if family), asked)
    for family in told:
        if family == 6:
            before = 6
        yield before if family is None else family


def _family(row: dict[str, Any]) -> int | None:
    destination = text_of(row.get("dst"))
    if _is_label(destination):
        return 0
    hops = row.get("nexthops")
    gateways = [hop.get("gateway") for hop in hops[:1] if isinstance(hop, dict)] if isinstance(hops, list) else []
    for value in (destination, row.get("from"), row.get("gateway"), row.get("prefsrc"), *gateways):
        found = family_of(text_of(value))
        if found is not None:
            return found
    return 6 if "pref" in row else None  # RTA_PREF is of IPv6 alone


def _add(table: Routes, row: dict[str, Any], text: str, source: Source) -> None:
    destination = network_of(text_of(row.get("dst")), table.family)
    if destination is None:
        table.unread.add(source, text or str(row)[:300], "its destination is not understood")
        return
    kind = text_of(row.get("type")) or "unicast"
    doubts = [] if kind in TYPES else [f"the type {kind}"]
    tos = tos_of(row["tos"]) if "tos" in row and "encap" not in row else 0
    metric = number_of(row["metric"]) if "metric" in row else 0
    for name, value in (("TOS", tos), ("metric", metric)):
        if value is None:
            doubts.append(f"its {name}")
    if "to" in row:
        doubts.append("a destination rewritten by the route (as to)")
    if text_of(row.get("from") or row.get("src") if "encap" not in row else row.get("from")):
        doubts.append("it holds for some sources only (from)")
    if row.get("unknown"):
        doubts.append("the words " + words_of(row["unknown"]))
    hops: tuple[NextHop, ...] = ()
    if kind not in ("blackhole", "unreachable", "prohibit", "throw"):
        hops = _hops(row, doubts)
    preferred = text_of(row.get("prefsrc")) or None
    if preferred is not None:
        try:
            preferred = str(ipaddress.ip_address(preferred))
        except ValueError:
            doubts.append("its source address")
    unread = "; ".join(dict.fromkeys(doubts))[:500]
    if unread:
        table.unread.add(source, text, unread)
    table.routes.append(
        Route(
            source=source,
            text=text,
            table=table_name(row.get("table")) or "main",
            type=kind,
            destination=destination,
            next_hops=hops,
            preferred_source=preferred,
            metric=metric or 0,
            scope="" if table.family == 6 else text_of(row.get("scope")) or "global",
            tos=tos or 0,
            unread=unread,
        )
    )


def _hops(row: dict[str, Any], doubts: list[str]) -> tuple[NextHop, ...]:
    listed = row.get("nexthops")
    if isinstance(listed, list) and listed:
        if len(listed) > MOST_HOPS:
            doubts.append(f"{len(listed) - MOST_HOPS} more next hops")
        found = [_hop(hop, doubts) for hop in listed[:MOST_HOPS] if isinstance(hop, dict)]
        if len(found) < len(listed[:MOST_HOPS]):
            doubts.append("one of its next hops")
        return tuple(found)
    if any(text_of(row.get(key)) for key in ("dev", "gateway")) or isinstance(row.get("via"), dict):
        return (_hop(row, doubts),)
    info = row.get("nh_info")  # printed with -d where the kernel gives the number alone (net.ipv4.nexthop_compat_mode=0)
    if isinstance(info, dict) and "group" not in info and (text_of(info.get("dev")) or text_of(info.get("gateway"))):
        return (_hop(info, doubts),)
    doubts.append(f"the next-hop object {text_of(row['nhid'])} was not listed" if "nhid" in row else "it has no next hop")
    return ()


def _hop(row: dict[str, Any], doubts: list[str]) -> NextHop:
    via = row.get("via")
    gateway = text_of(row.get("gateway") or (via.get("host") if isinstance(via, dict) else None)) or None
    if gateway is not None:
        try:
            gateway = str(ipaddress.ip_address(gateway))
        except ValueError:
            doubts.append(f"the gateway {gateway[:60]}")
    weight = number_of(row["weight"]) if "weight" in row else 1
    if weight is None or not 1 <= weight <= 256:  # rtnh_hops is one byte, and one less
        doubts.append("the weight of a next hop")
        weight = 1
    if "encap" in row:
        doubts.append(f"the encapsulation {text_of(row['encap'])[:40]}")
    if row.get("unknown") and "dst" not in row:
        doubts.append("the words " + words_of(row["unknown"]))
    return NextHop(gateway, text_of(row.get("dev")), weight, frozenset(flags_of(row)))
