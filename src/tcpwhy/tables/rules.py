"""`ip -j -d rule` (or its text form) goes in; the rules that choose a routing table come out, in order of priority."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.routes import Network
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule of `ip rule`."""

    source: Source
    text: str
    priority: int
    is_inverted: bool
    """`not`: holds where its selectors do not."""
    from_network: Network | None
    """None: all."""
    to_network: Network | None
    in_interface: str
    out_interface: str
    mark: int | None
    mask: int
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
    unread: str = ""


@dataclasses.dataclass(slots=True)
class PolicyRules:
    """All rules of one family."""

    family: Literal[4, 6]
    rules: list[PolicyRule] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_policy_rules(state: State, family: Literal[4, 6]) -> PolicyRules | None:
    """The rules of a family; None where they were not collected."""
    return None
