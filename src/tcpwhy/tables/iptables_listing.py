"""`iptables [-t TABLE] -nvL [--line-numbers]` goes in; the table's chains and rules come out, doubtful where a listing does not tell."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from tcpwhy.evidence.source import Source
from tcpwhy.tables.iptables_listed import translate
from tcpwhy.tables.iptables_rule import read_rule
from tcpwhy.tables.iptables_ruleset import Chain, Iptables, Rule
from tcpwhy.tables.iptables_save import INCOMPATIBLE, LEGACY_PRESENT, LONGEST_LINE, MOST_RULES

_CHAIN = re.compile(
    r"Chain (\S{1,255}) \((?:policy (\S{1,16})(?: (\S{1,24}) packets, (\S{1,24}) bytes)?|\d{1,12} references|ERROR obtaining refs)\)"
)
_HEAD = re.compile(r"\s*(num\s+)?(pkts\s+bytes\s+)?target\s+prot\s+opt\s+(in\s+out\s+)?source\s+destination\s*")
_PROTOCOLS = {
    "1": "icmp", "4": "ipencap", "6": "tcp", "17": "udp", "33": "dccp", "41": "ipv6", "47": "gre", "50": "esp", "51": "ah",
    "58": "ipv6-icmp", "108": "ipcomp", "132": "sctp", "135": "ipv6-mh", "136": "udplite",
}  # fmt: skip
"""As iptables-save writes them (libxtables xtables_chain_protos, /etc/protocols); -n shows numbers since iptables 1.8.9."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:/,+@%~^=*#-]+", re.ASCII)


def parse_listing(lines: Iterable[str], source: Source, table: str, family: Literal[4, 6]) -> Iptables:
    """The chains of one table (iptables/xshared.c print_header, print_rule_details, print_ifaces).

    Each rule is given the text that iptables-save would write, where all of it is understood, else its line. Counters that a listing
    rounds (`12K`) are None. Without -v a listing has no interfaces, so that each of its rules is `unread`. The variant is not told.
    """
    ruleset = Iptables(family, "unknown", source)
    rows = [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + ' "' for line in lines]
    chains: dict[str, Chain] = {}
    for number, line in enumerate(rows, 1):
        found = _CHAIN.match(line)
        if found:
            name, policy, packets, octets = found.groups()
            place = dataclasses.replace(source, line=number)
            chains.setdefault(name, Chain(place, table, name, policy, _number(packets), _number(octets)))
    if chains:
        ruleset.tables[table] = chains
    else:
        ruleset.lost[table] = "the listing has no chain"
        ruleset.unread.add(source, rows[0] if rows else "", ruleset.lost[table])
    _read_rows(rows, ruleset, table)
    return ruleset


def _read_rows(rows: list[str], ruleset: Iptables, table: str) -> None:
    chains = ruleset.tables.get(table, {})
    chain: Chain | None = None
    columns: _Columns | None = None
    count = 0
    for number, line in enumerate(rows, 1):
        found = _CHAIN.match(line)
        if found:
            chain, columns = chains[found.group(1)], None
        elif _is_notice(line, ruleset, table, number):
            continue
        elif found := _HEAD.fullmatch(line):
            columns = _Columns(*(part is not None for part in found.groups()))
        elif line.strip() and chain is not None:
            count += 1
            if count > MOST_RULES:
                chain.lost = f"the file has more than {MOST_RULES} rules"
                ruleset.unread.add(chain.source, line, chain.lost)
                continue
            rule = _row(line, columns, dataclasses.replace(ruleset.source, line=number), chain, chains)
            chain.rules.append(rule)
            if rule.unread:
                ruleset.unread.add(rule.source, rule.text, rule.unread)
        elif line.strip() and chains:
            ruleset.unread.add(dataclasses.replace(ruleset.source, line=number), line, "it stands before any chain")


def _is_notice(line: str, ruleset: Iptables, table: str, number: int) -> bool:
    """What iptables-nft says of rules that it does not list: on standard error, so that it may stand between the rows."""
    if LEGACY_PRESENT.match(line):
        ruleset.unseen_legacy = line.strip()[:300]
        return True
    if INCOMPATIBLE.match(line) is None:
        return False
    ruleset.lost[table] = line.strip()[:300]
    ruleset.unread.add(dataclasses.replace(ruleset.source, line=number), line, "rules of that table are not in this file")
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class _Columns:
    has_number: bool
    has_counters: bool
    has_interfaces: bool


def _number(word: str | None) -> int | None:
    """None where the listing rounds: `12K`, `3M` (libxtables xtables_print_num)."""
    return int(word) if word and word.isascii() and word.isdigit() and len(word) <= 20 else None


def _row(line: str, columns: _Columns | None, source: Source, chain: Chain, chains: dict[str, Chain]) -> Rule:
    if columns is None:
        return _unread(line, source, chain, "no heading stands before it")
    words = line.split(None, 13)
    begin = columns.has_number + 2 * columns.has_counters
    at = next((k for k in range(begin + 1, len(words) - 1) if _is_address(words[k]) and _is_address(words[k + 1])), None)
    if at is None:
        return _unread(line, source, chain, "it has no source and destination where a listing has them")
    packets, octets = (_number(words[begin - 2]), _number(words[begin - 1])) if columns.has_counters else (None, None)
    frame = _frame(words[begin:at], words[at], words[at + 1], columns)
    if frame is None:
        return _unread(line, source, chain, "its columns are not those of the heading")
    target, own = frame
    tail = line.split(None, at + 2)
    extra = tail[at + 2].strip() if len(tail) > at + 2 else ""
    is_goto = extra.startswith("[goto]")
    listed = translate(extra.removeprefix("[goto]").strip(), target)
    text = " ".join(["-A", chain.name, *own, *listed.matches, *((["-g" if is_goto else "-j", target]) if target else []), *listed.target])
    rule = read_rule(text, source, chain.table, chains)
    unread = rule.unread
    if listed.rest:
        unread = f"`{listed.rest[:80]}` is not understood"
    elif not columns.has_interfaces:
        unread = unread or "a listing without -v does not show the interfaces"
    return dataclasses.replace(rule, packets=packets, bytes=octets, unread=unread, text=line.strip() if unread else text)


def _unread(line: str, source: Source, chain: Chain, because: str) -> Rule:
    return Rule(source, line.strip(), chain.table, chain.name, (), (), None, False, (), None, None, because)


def _frame(words: Sequence[str], origin: str, destination: str, columns: _Columns) -> tuple[str, list[str]] | None:
    """The target, empty for none, and the rule's own options, from `[target] prot [opt] [in out]` and the two addresses."""
    left = list(words)
    interfaces = [left.pop() for _ in range(2)][::-1] if columns.has_interfaces and len(left) >= 3 else []
    fragment = left.pop() if left and left[-1] in ("--", "-f", "!f") else "--"
    if not 1 <= len(left) <= 2 or (columns.has_interfaces and not interfaces):
        return None
    protocol = left.pop()
    own: list[str] = []
    for name, value in (("-s", origin), ("-d", destination)):
        if not (value in ("0.0.0.0/0", "::/0") or value == "anywhere"):
            own += _negatable(name, value if "/" in value or value == "anywhere" else f"{value}/{128 if ':' in value else 32}")
    for name, value in zip(("-i", "-o"), interfaces, strict=False):
        if value not in ("*", "any"):
            own += _negatable(name, value)
    if protocol not in ("all", "0"):
        number = protocol.removeprefix("!")
        own += _negatable("-p", protocol.replace(number, _PROTOCOLS.get(number, number)))
    if fragment != "--":
        own += ["-f"] if fragment == "-f" else ["!", "-f"]
    if not all(_PLAIN.fullmatch(word) for word in [*left, *(word for word in own if word != "!")]):
        return None
    return (left[0] if left else ""), own


def _negatable(name: str, value: str) -> list[str]:
    return ["!", name, value[1:]] if value.startswith("!") else [name, value]


def _is_address(word: str) -> bool:
    text = word.removeprefix("!")
    if text == "anywhere":
        return True
    host, _, mask = text.partition("/")
    if not any(letter in host for letter in ".:") or len(text) > 90:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not mask or mask.isascii()
