"""A host's state goes in; its iptables rulesets come out, from `iptables-save` of either variant or, without that, from listings."""

from __future__ import annotations

from typing import Literal

from tcpwhy.evidence.state import State
from tcpwhy.tables.iptables_listing import parse_listing
from tcpwhy.tables.iptables_ruleset import Chain, Iptables, Option, Rule, Variant
from tcpwhy.tables.iptables_save import parse_save

__all__ = ["TABLES", "Chain", "Iptables", "Option", "Rule", "Variant", "parse_listing", "parse_save", "read_iptables"]

TABLES = ("raw", "mangle", "nat", "filter", "security")
"""The tables that the kernel has (iptables(8), TABLES)."""


def read_iptables(state: State, family: Literal[4, 6]) -> tuple[Iptables, ...] | None:
    """All rulesets of a family: iptables-save.txt and iptables-legacy-save.txt; None where neither was collected.

    Where the first is itself of the legacy variant, both show the same rules and the second is left out. Without iptables-save.txt the
    listings `iptables-listing-TABLE.txt` are read, which are less exact: what they do not tell is `unread` at each rule. A table
    without a listing is `lost`, unless nft's ruleset was collected, which shows it if it is there.
    """
    tool = "iptables" if family == 4 else "ip6tables"
    found: list[Iptables] = []
    plain, legacy = f"{tool}-save.txt", f"{tool}-legacy-save.txt"
    lines = state.read_lines(plain)
    if lines is not None:
        found += _of_family(parse_save(lines, state.source(plain), family), family)
    else:
        found += _listings(state, tool, family)
    lines = state.read_lines(legacy)
    if lines is not None:
        for ruleset in found:
            ruleset.unseen_legacy = ""
        if not any(ruleset.variant == "legacy" for ruleset in found):
            more = _of_family(parse_save(lines, state.source(legacy), family, "legacy"), family)
            found += [one for one in more if not any(other.variant == "unknown" and _same_rules(one, other) for other in found)]
    return tuple(found) if found or lines is not None or state.is_collected(plain) else None


def _of_family(rulesets: list[Iptables], family: Literal[4, 6]) -> list[Iptables]:
    """Those of the family; what else stood in the file is counted as unread in the first of them."""
    mine = [one for one in rulesets if one.family == family]
    for other in rulesets:
        if other.family != family and mine:
            mine[0].unread.add(other.source, f"{len(other.rules)} rules", f"they are of IPv{other.family}, in the file of IPv{family}")
    return mine


def _same_rules(one: Iptables, other: Iptables) -> bool:
    return [(rule.table, rule.text) for rule in one.rules] == [(rule.table, rule.text) for rule in other.rules] and bool(one.rules)


def _listings(state: State, tool: str, family: Literal[4, 6]) -> list[Iptables]:
    whole: Iptables | None = None
    for table in TABLES:
        name = f"{tool}-listing-{table}.txt"
        lines = state.read_lines(name)
        if lines is None:
            continue
        part = parse_listing(lines, state.source(name), table, family)
        if whole is None:
            whole = part
            continue
        whole.tables.update(part.tables)
        whole.lost.update(part.lost)
        whole.unseen_legacy = whole.unseen_legacy or part.unseen_legacy
        whole.unread.add_all(part.unread)
    if whole is not None and not (state.is_collected("nft-ruleset.json") or state.is_collected("nft-ruleset.txt")):
        for table in TABLES:
            if table not in whole.tables:
                whole.lost.setdefault(table, f"the listing of table {table} was not collected")
    return [whole] if whole is not None else []
