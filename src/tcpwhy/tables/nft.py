"""`nft -j list ruleset` or `nft list ruleset` goes in; tables, chains, rules, sets and maps come out, expressions in nft's JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.nft_json import looks_like_json, parse_nft_json
from tcpwhy.tables.nft_managed import BUILT_IN, SavedTable, is_built_in, is_from_iptables, read_listed_table, read_saved_tables
from tcpwhy.tables.nft_ruleset import Key, is_dormant, key_of, name_of, number_of, packets_of, why_unread, with_inner_chains, words_of
from tcpwhy.tables.nft_text import Entry, parse_nft_text
from tcpwhy.tables.nft_words import OBJECTS, SETS
from tcpwhy.tables.nft_written import write_rule
from tcpwhy.tables.unread import UnreadPieces

LARGEST = 32 << 20
"""Characters of a ruleset that are read; one of a hundred thousand rules has about half as many in JSON."""


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
    """Of ingress and egress; empty where the file does not tell: nft 1.0.6 and earlier leave several devices, or all, out of JSON."""
    rules: list[NftRule] = dataclasses.field(default_factory=list)

    @property
    def key(self) -> Key:
        """Family, table and name."""
        return self.family, self.table, self.name


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
    """False where its elements could not all be read. Without elements in the file it counts as empty: `nft -t`, which hides them, is
    not what is collected."""


@dataclasses.dataclass(slots=True)
class Nft:
    """The whole ruleset."""

    source: Source
    chains: dict[Key, NftChain] = dataclasses.field(default_factory=dict)
    """By family, table, name; in the file's order."""
    sets: dict[Key, NftSet] = dataclasses.field(default_factory=dict)
    objects: dict[Key, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Counters, quotas, limits, ct helpers, flowtables, as JSON; `kind` says which."""
    dormant: frozenset[tuple[str, str]] = frozenset()
    """Tables (family, name) whose chains are not hooked in (flag dormant)."""
    perhaps_dormant: frozenset[tuple[str, str]] = frozenset()
    """Tables whose flag is there and cannot be read; see nft_ruleset.is_dormant()."""
    left_out: frozenset[tuple[str, str]] = frozenset()
    """Tables that iptables-nft made and iptables-save shows: they are read there."""
    tables: tuple[tuple[str, str], ...] = ()
    """Tables (family, name) that have chains, those left out too, in the file's order: the order in which they were made."""
    misprinted: frozenset[tuple[str, str]] = frozenset()
    """Tables that stand here and in iptables-save or its listings both, there without conditions that iptables does not know, or less
    exactly: only this form is to be walked."""
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)
    compiled: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """Sets in the form that look-ups take, made when first asked (path/nft_sets.py)."""


def read_nft(state: State) -> Nft | None:
    """The ruleset; None where it was not collected.

    From nft-ruleset.json, else nft-ruleset.txt; each may hold either form. Tables that iptables-nft made are left out where
    iptables-save.txt (ip6tables-save.txt) shows them, for nft's JSON hides the inside of their `xt` expressions. Where only the
    listings of a sosreport show them, nft's text is the better form as far as it is understood.
    """
    name = next((one for one in ("nft-ruleset.json", "nft-ruleset.txt") if state.is_collected(one)), None)
    lines = state.read_lines(name) if name is not None else None
    if name is None or lines is None:
        return None
    nft, is_text = parse_nft("\n".join(lines), state.source(name))
    nft.tables = tuple(dict.fromkeys(key[:2] for key in nft.chains))
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        saved = state.read_lines(f"{program}-save.txt")
        if saved is not None:
            _leave_out_iptables(nft, family, read_saved_tables(saved), is_text)
            continue
        for table in BUILT_IN:
            listed = state.read_lines(f"{program}-listing-{table}.txt")
            if listed is not None:
                _choose_form(nft, family, table, read_listed_table(listed))
    return nft


def parse_nft(text: str, source: Source) -> tuple[Nft, bool]:
    """A ruleset in either form, and whether it was the text form."""
    nft = Nft(source)
    if len(text) > LARGEST:
        nft.unread.add(source, "", f"the ruleset is longer than {LARGEST >> 20} MiB; the rest was not read")
        text = text[:LARGEST]
    is_text = not looks_like_json(text)
    _Builder(nft).build(parse_nft_text(text) if is_text else parse_nft_json(text))
    return nft, is_text


class _Builder:
    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._elements: dict[Key, list[Any]] = {}

    def _source(self, line: int) -> Source:
        return dataclasses.replace(self._nft.source, line=line)

    def build(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.kind == "rule":
                for part in with_inner_chains(entry):
                    self._add(part)
            else:
                self._add(entry)
        for key, more in self._elements.items():
            known = self._nft.sets[key]
            self._nft.sets[key] = dataclasses.replace(known, elements=(*known.elements, *more))

    def _add(self, entry: Entry) -> None:
        nft, body = self._nft, entry.body
        if entry.kind == "table":
            self._add_table(body)
        elif entry.kind == "chain":
            self._add_chain(entry)
        elif entry.kind == "rule":
            self._add_rule(entry)
        elif entry.kind in SETS:
            self._add_set(entry)
        elif entry.kind == "element" and key_of(body, "name") in nft.sets:
            elements = body.get("elem")
            self._elements.setdefault(key_of(body, "name"), []).extend(elements if isinstance(elements, list) else [elements])
        elif entry.kind in OBJECTS:
            nft.objects[key_of(body, "name")] = {"kind": entry.kind} | body
        if entry.unread or entry.kind not in {"table", "chain", "rule", *SETS, *OBJECTS}:
            nft.unread.add(self._source(entry.line), entry.text or write_rule([body]), entry.unread or f"`{entry.kind[:60]}` is not known")

    def _add_table(self, body: dict[str, Any]) -> None:
        nft, key = self._nft, (name_of(body.get("family")), name_of(body.get("name")))
        state = is_dormant(body)
        if state:
            nft.dormant |= {key}
        elif state is None:
            nft.perhaps_dormant |= {key}

    def _add_chain(self, entry: Entry) -> None:
        body, key = entry.body, key_of(entry.body, "name")
        known = self._nft.chains.get(key)
        policy = body.get("policy")
        hook, priority = name_of(body.get("hook")) or None, number_of(body.get("prio"))
        self._nft.chains[key] = NftChain(
            source=self._source(entry.line),
            family=key[0],
            table=key[1],
            name=key[2],
            type=name_of(body.get("type")) or None,
            hook=hook,
            priority=priority,
            policy="drop" if policy == "drop" else "accept",
            device=words_of(body.get("dev")),
            rules=known.rules if known is not None else [],
        )
        if hook is not None and (priority is None or policy not in ("accept", "drop", None)):
            self._nft.unread.add(self._source(entry.line), f"chain {' '.join(key)}", "its priority or policy cannot be read")

    def _add_rule(self, entry: Entry) -> None:
        nft, body, key = self._nft, entry.body, key_of(entry.body, "chain")
        if key not in nft.chains:
            nft.unread.add(
                self._source(entry.line), f"chain {' '.join(key)}", "a rule stands in it, but the chain is not in the file before"
            )
            self._add_chain(Entry(entry.line, "chain", {"family": key[0], "table": key[1], "name": key[2]}))
        expressions = body.get("expr")
        expressions = expressions if isinstance(expressions, list) else []
        comment = name_of(body.get("comment"))
        unread = entry.unread or ("" if "expr" in body else "it has no statements") or why_unread(expressions)
        rule = NftRule(
            source=self._source(entry.line),
            family=key[0],
            table=key[1],
            chain=key[2],
            handle=number_of(body.get("handle")),
            comment=comment,
            expressions=tuple(one for one in expressions if isinstance(one, dict)),
            text=entry.text or write_rule(expressions, comment),
            packets=packets_of(expressions),
            unread=unread,
        )
        nft.chains[key].rules.append(rule)
        if unread and not entry.unread:
            nft.unread.add(rule.source, rule.text, unread)

    def _add_set(self, entry: Entry) -> None:
        body, key = entry.body, key_of(entry.body, "name")
        elements = body.get("elem")
        self._nft.sets[key] = NftSet(
            source=self._source(entry.line),
            family=key[0],
            table=key[1],
            name=key[2],
            is_map="map" in body,
            type=body.get("type"),
            flags=words_of(body.get("flags")),
            elements=tuple(elements) if isinstance(elements, list) else () if elements is None else (elements,),
            is_complete=not entry.unread,
        )


def _is_made(chain: NftChain, saved: list[str], is_text: bool) -> bool:
    """Whether iptables-nft can have made all rules of a chain; of text that is asked line by line, where there are as many."""
    if not is_text:
        return all(is_from_iptables(rule.expressions, None) for rule in chain.rules)
    if len(saved) != len(chain.rules):
        return True
    return all(rule.unread or is_from_iptables(rule.expressions, line) for rule, line in zip(chain.rules, saved, strict=True))


def _chains_of(nft: Nft, family: str, table: str) -> list[NftChain]:
    return [chain for chain in nft.chains.values() if (chain.family, chain.table) == (family, table)]


def _is_shown(chains: list[NftChain], table: str, shown: SavedTable) -> bool:
    """Whether iptables shows these chains: they are its own, with as many rules where no heading says that nft is below."""
    if shown.is_legacy or not is_built_in(table, ((chain.name, chain.type, chain.hook, chain.priority) for chain in chains)):
        return False
    return shown.is_legacy is False or all(len(chain.rules) == len(shown.rules.get(chain.name, ())) for chain in chains)


def _leave_out_iptables(nft: Nft, family: str, saved: dict[str, SavedTable], is_text: bool) -> None:
    """Takes out the tables of a family that iptables-nft made and iptables-save shows."""
    for table, shown in saved.items():
        chains = _chains_of(nft, family, table)
        if not _is_shown(chains, table, shown):
            continue
        has_sets = any(key[:2] == (family, table) for key in nft.sets)
        if has_sets or not all(_is_made(chain, shown.rules.get(chain.name, []), is_text) for chain in chains):
            nft.misprinted |= {(family, table)}
        else:
            _take_out(nft, family, table, chains)


def _choose_form(nft: Nft, family: str, table: str, listed: SavedTable) -> None:
    """Of a table that nft and a listing of iptables show both, one form is to be walked."""
    chains = _chains_of(nft, family, table)
    if _is_shown(chains, table, listed):
        if any(rule.unread for chain in chains for rule in chain.rules):
            _take_out(nft, family, table, chains)
        else:
            nft.misprinted |= {(family, table)}


def _take_out(nft: Nft, family: str, table: str, chains: list[NftChain]) -> None:
    nft.left_out |= {(family, table)}
    for chain in chains:
        del nft.chains[chain.key]
    gone = {(rule.source, rule.text[:300]) for chain in chains for rule in chain.rules if rule.unread}
    pieces = nft.unread
    kept = [piece for piece in pieces.pieces if (piece.source, piece.text) not in gone]
    pieces.count -= len(pieces.pieces) - len(kept)
    pieces.pieces = kept
