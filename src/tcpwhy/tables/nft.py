"""`nft -j list ruleset` or `nft list ruleset` goes in; tables, chains, rules, sets and maps come out, expressions in nft's JSON form."""

from __future__ import annotations

import dataclasses
from typing import Any

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class NftRule:
    """One rule."""

    source: Source
    family: str
    table: str
    chain: str
    handle: int | None
    comment: str
    expressions: tuple[dict[str, Any], ...]
    """Statements in libnftables-json(5)'s form: `{"match": {…}}`, `{"counter": {…}}`, `{"drop": null}`, …"""
    text: str
    """The rule as nft would write it, as far as it is understood; else its JSON."""
    packets: int | None
    """Of its counter statement; None without one."""
    unread: str = ""
    """Why part of it could not be understood (an `xt` expression, a statement of a newer nft)."""


@dataclasses.dataclass(slots=True)
class NftChain:
    """A chain; a base chain has a hook."""

    source: Source
    family: str
    """ip, ip6, inet, arp, bridge, netdev."""
    table: str
    name: str
    type: str | None
    """filter, nat, route; None for a chain that only others jump to."""
    hook: str | None
    """prerouting, input, forward, output, postrouting, ingress, egress."""
    priority: int | None
    policy: str
    """accept or drop."""
    device: tuple[str, ...]
    rules: list[NftRule] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class NftSet:
    """A named set or map."""

    source: Source
    family: str
    table: str
    name: str
    is_map: bool
    type: Any
    """Key type, or list of key types."""
    flags: tuple[str, ...]
    elements: tuple[Any, ...]
    """In libnftables-json(5)'s form; of a map, pairs."""
    is_complete: bool
    """False where the elements were not listed (`nft -t`)."""


@dataclasses.dataclass(slots=True)
class Nft:
    """The whole ruleset."""

    source: Source
    chains: dict[tuple[str, str, str], NftChain] = dataclasses.field(default_factory=dict)
    """By family, table, name; in the file's order."""
    sets: dict[tuple[str, str, str], NftSet] = dataclasses.field(default_factory=dict)
    objects: dict[tuple[str, str, str], dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Counters, quotas, limits, ct helpers, flowtables, as JSON."""
    dormant: frozenset[tuple[str, str]] = frozenset()
    """Tables (family, name) whose chains are not hooked in (flag dormant)."""
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_nft(state: State) -> Nft | None:
    """The ruleset; None where it was not collected."""
    return None
