"""`ip -j -d rule` (or its text form) goes in; the rules that choose a routing table come out, in order of priority."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.ip_names import Network, network_of, number_of, protocol_name, table_name, text_of, tos_of, words_of
from tcpwhy.tables.json_rows import looks_like_json, read_json_rows
from tcpwhy.tables.rule_words import ACTIONS, line_of_rule, row_of_line
from tcpwhy.tables.unread import UnreadPieces

FILE, FILE6 = "ip-rule.json", "ip6-rule.json"


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule of `ip rule`."""

    source: Source
    text: str
    """As `ip rule` would write it: `100: from 10.0.0.0/8 lookup 200`."""
    priority: int
    is_inverted: bool
    """`not`: holds where its selectors do not."""
    from_network: Network | None
    """None: all."""
    to_network: Network | None
    in_interface: str
    out_interface: str
    mark: int | None
    """None: any mark."""
    mask: int
    """The bits of the mark that are compared; all where none were named, 0 without `mark`."""
    tos: int
    protocol: str
    """`tcp`, `udp`, …; empty: all."""
    source_ports: tuple[int, int] | None
    destination_ports: tuple[int, int] | None
    uids: tuple[int, int] | None
    action: str
    """to_tbl, blackhole, unreachable, prohibit, goto, nop."""
    table: str
    """`local`, `main`, `default`, a number; empty without one. Of l3mdev: empty."""
    goto: int | None
    suppress_prefix_length: int | None
    suppress_interface_group: str
    is_l3mdev: bool
    """The table is that of the VRF that the packet's interface belongs to (FRA_L3MDEV)."""
    unread: str = ""
    """What of it is not understood; such a rule can neither be said to hold nor not to."""


@dataclasses.dataclass(slots=True)
class PolicyRules:
    """All rules of one family."""

    family: Literal[4, 6]
    rules: list[PolicyRule] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_policy_rules(state: State, family: Literal[4, 6]) -> PolicyRules | None:
    """The rules of a family; None where they were not collected."""
    name = FILE6 if family == 6 else FILE
    lines = state.read_lines(name)
    if lines is None:
        return None
    source = state.source(name)
    table = PolicyRules(family)
    if looks_like_json(lines):
        for begins, row, _ in read_json_rows(lines, source, table.unread):
            _add(table, row, line_of_rule(row), dataclasses.replace(source, line=begins))
    else:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = dataclasses.replace(source, line=number)
            found = row_of_line(line)
            if found is None:
                table.unread.add(place, line.strip(), "no rule begins like this")
            else:
                _add(table, found, " ".join(line.split()), place)
    table.rules.sort(key=lambda rule: rule.priority)
    return table


_UNWALKED = ("dscp", "flowlabel", "tun_id", "sport_mask", "dport_mask", "masquerade", "nat_gateway")
"""Selectors and actions of new and of very old kernels that PolicyRule does not hold."""


def _add(table: PolicyRules, row: dict[str, Any], text: str, source: Source) -> None:
    priority = number_of(row.get("priority"))
    if priority is None or not 0 <= priority < 1 << 32:
        table.unread.add(source, text, "it has no priority")
        return
    doubts = [f"the word {key}" for key in _UNWALKED if key in row]
    if row.get("unknown"):
        doubts.append("the words " + words_of(row["unknown"]))

    def number(key: str, highest: int, lowest: int = 0) -> int | None:
        if key not in row:
            return None
        found = number_of(row[key])
        if found is None or not lowest <= found <= highest:
            doubts.append(f"its {key}")
            return None
        return found

    def network(key: str) -> Network | None:
        value = text_of(row.get(key))
        if value in ("", "all"):
            return None
        length = text_of(row.get(f"{key}len"))
        found = network_of(f"{value}/{length}" if length else value, table.family)
        if found is None:
            doubts.append(f"its {key}")
        return found

    def pair(first: str, second: str, highest: int) -> tuple[int, int] | None:
        start, end = number(first, highest), number(second, highest)
        return None if start is None or end is None else (start, end)

    def ports(key: str) -> tuple[int, int] | None:
        return pair(f"{key}_start", f"{key}_end", 65535) if f"{key}_start" in row else pair(key, key, 65535)

    tos = tos_of(row["tos"]) if "tos" in row else 0
    if tos is None:
        doubts.append("its TOS")
    mark, mask = number("fwmark", (1 << 32) - 1), number("fwmask", (1 << 32) - 1)
    target = number("goto", (1 << 32) - 1) if row.get("goto") != "none" else None
    action = _action(row, doubts)
    from_network, to_network = network("src"), network("dst")
    source_ports, destination_ports, uids = ports("sport"), ports("dport"), pair("uid_start", "uid_end", (1 << 32) - 1)
    suppressed = number("suppress_prefixlen", 128, -1)
    unread = "; ".join(dict.fromkeys(doubts))[:500]
    if unread:
        table.unread.add(source, text, unread)
    table.rules.append(
        PolicyRule(
            source=source,
            text=text,
            priority=priority,
            is_inverted="not" in row,
            from_network=from_network,
            to_network=to_network,
            in_interface=text_of(row.get("iif")),
            out_interface=text_of(row.get("oif")),
            mark=mark,
            mask=0 if mark is None else 0xFFFFFFFF if mask is None else mask,
            tos=tos or 0,
            protocol=protocol_name(row.get("ipproto")),
            source_ports=source_ports,
            destination_ports=destination_ports,
            uids=uids,
            action=action,
            table=table_name(row.get("table")) if action == "to_tbl" else "",
            goto=target,
            suppress_prefix_length=None if suppressed == -1 else suppressed,
            suppress_interface_group=text_of(row.get("suppress_ifgroup")),
            is_l3mdev="l3mdev" in row,
            unread=unread,
        )
    )


def _action(row: dict[str, Any], doubts: list[str]) -> str:
    named = text_of(row.get("action") or row.get("to_tbl"))  # `to_tbl` of iproute2 4.17 to 5.0
    if named:
        if named not in ACTIONS:
            doubts.append(f"the action {named[:40]}")
        return named
    for key in ("goto", "nop"):
        if key in row:
            return key
    if not text_of(row.get("table")) and "l3mdev" not in row:
        doubts.append("it says no table")
    return "to_tbl"
