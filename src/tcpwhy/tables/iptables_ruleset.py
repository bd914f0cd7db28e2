"""What a reader of iptables found goes in; tables, chains and rules come out as values, in the kernel's order."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from tcpwhy.evidence.source import Source
from tcpwhy.tables.unread import UnreadPieces

Variant = Literal["legacy", "nft", "unknown"]


class Option(NamedTuple):
    """One option of a rule: `! --dport 80:90` after `-m tcp`."""

    module: str
    """The match or target that owns it; empty for the rule's own (-s, -d, -i, -o, -p, -f)."""
    name: str
    """Long form without dashes: `source`, `in-interface`, `dport`, `ctstate`, `to-ports`."""
    values: tuple[str, ...]
    """As written; empty for an option that takes none."""
    negated: bool
    match: int = -1
    """Which of the rule's `matches` it belongs to, by position, for a match may stand twice; -1 for the rule's own and the target's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    source: Source
    text: str
    """The rule as `iptables-save` would write it, without counters: `-A INPUT -p tcp -j DROP`."""
    table: str
    chain: str
    matches: tuple[str, ...]
    """The names after -m, and what -p loads by itself, in order."""
    options: tuple[Option, ...]
    """Of the rule itself and its matches, in order."""
    target: str | None
    """`ACCEPT`, `REDIRECT`, a user chain's name; None where the rule only counts."""
    is_goto: bool
    target_options: tuple[Option, ...]
    packets: int | None
    """None where counters were not collected."""
    bytes: int | None
    unread: str = ""
    """Why part of the rule could not be understood; such a rule can neither be said to match nor not to."""

    def option(self, name: str) -> Option | None:
        """The first option of that name."""
        return next((one for one in self.options if one.name == name), None)


@dataclasses.dataclass(slots=True)
class Chain:
    """A chain of one table."""

    source: Source
    table: str
    name: str
    policy: str | None
    """ACCEPT or DROP of a built-in chain, None for a user's."""
    packets: int | None
    bytes: int | None
    rules: list[Rule] = dataclasses.field(default_factory=list)
    lost: str = ""
    """Why rules may be missing at its end; empty where it is whole."""


@dataclasses.dataclass(slots=True)
class Iptables:
    """One ruleset."""

    family: Literal[4, 6]
    variant: Variant
    source: Source
    tables: dict[str, dict[str, Chain]] = dataclasses.field(default_factory=dict)
    """By table name (`filter`, `nat`, …), by chain name; in the file's order."""
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)
    lost: dict[str, str] = dataclasses.field(default_factory=dict)
    """By table name: why chains of it may be missing, as of a table that only `nft` can show."""
    unseen_legacy: str = ""
    """The line that says that legacy tables exist beside these, where those were not collected; else empty."""

    @property
    def rules(self) -> list[Rule]:
        """All rules of all tables."""
        return [rule for chains in self.tables.values() for chain in chains.values() for rule in chain.rules]
