"""The text of `nft list ruleset`, with or without handles, goes in; the objects of `nft -j list ruleset` come out, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tcpwhy.tables.nft_object_text import parse_object, parse_set
from tcpwhy.tables.nft_statement_text import StatementReader
from tcpwhy.tables.nft_tokens import NotUnderstood, Reader, Token, split_tokens
from tcpwhy.tables.nft_words import BRIDGE_PRIORITIES, PRIORITIES

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
MOST_TOKENS = 2_000_000
"""Words and marks of one rule or set that are kept; a set of a million addresses has as many."""
OBJECTS = ("set", "map", "meter", "counter", "quota", "limit", "synproxy", "secmark", "flowtable", "tunnel", "ct")


_OF_IPTABLES = re.compile(r"\bcounter packets \d+ bytes \d+|# handle \d+\s*\Z", re.ASCII)
HIDDEN = "an extension of iptables stands in it, which nft shows as a comment"
"""nft 0.8 to 1.0.5 write `#` and iptables' own words for a match or target that they cannot translate, and go on in the same line.

`ip saddr 10.0.0.0/8 # owner UID match 5 counter packets 0 bytes 0 return` (src/xt.c xt_stmt_xlate()); rules of iptables-nft count always.
"""


class Entry(NamedTuple):
    """One object of a ruleset, or a piece that is none."""

    line: int
    kind: str
    """`table`, `chain`, `rule`, `set`, `map`, …; empty for what could not be read, `text` and `unread` saying what and why."""
    body: dict[str, Any]
    """As libnftables-json(5) has it."""
    text: str = ""
    """The rule as the file has it; empty where the file is JSON."""
    unread: str = ""


def parse_nft_text(text: str) -> Iterator[Entry]:
    """The objects in the file's order: a table, its objects and sets, its chains, each with its rules. Linear in the text."""
    yield from _Blocks(text).tables()


class _Blocks:
    """Reads blocks in braces; statements end with a line, a `;`, or the block."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = split_tokens(text)
        self._next: Token | None = next(self._tokens, None)
        self._is_cut = False
        self._note: Token | None = None
        """The end of the last statement's line, where a comment stands before it."""

    def _peek(self) -> Token | None:
        return self._next

    def _take(self) -> Token | None:
        token = self._next
        self._next = next(self._tokens, None)
        return token

    def _shown(self, tokens: list[Token]) -> str:
        return " ".join(self._text[tokens[0].start : tokens[-1].end].split()) if tokens else ""

    def _statement(self, stop_at_block: bool) -> tuple[list[Token], int | None, str]:
        """The tokens up to the end of the statement, the handle told behind it, and the mark that ended it (`{`, `}`, or a line's end).

        With `stop_at_block`, an opening brace ends it: what follows is a block.
        """
        found: list[Token] = []
        depth = 0
        self._is_cut, self._note = False, None
        while (token := self._take()) is not None:
            if token.kind == "mark":
                if token.text == "{":
                    if stop_at_block and depth == 0:
                        return found, None, "{"
                    depth += 1
                elif token.text == "}":
                    if depth == 0:
                        return found, None, "}"
                    depth -= 1
                elif token.text == ";" and depth == 0:
                    return found, None, ";"
            elif token.kind == "newline" and depth == 0:
                self._note = token if token.note else None
                return found, token.handle, "\n"
            if len(found) < MOST_TOKENS:
                found.append(token)
            else:
                self._is_cut = True
        return found, None, ""

    def tables(self) -> Iterator[Entry]:
        while self._peek() is not None:
            head, _, ended = self._statement(stop_at_block=True)
            if not head and ended in ("\n", ";"):
                continue
            words = [token.text for token in head if token.kind in ("word", "string")]
            is_table = len(words) in (2, 3) and words[0] == "table" and (len(words) == 2 or words[1] in FAMILIES)
            if is_table and ended == "{":
                family, name = ("ip", words[1]) if len(words) == 2 else (words[1], words[2])
                yield from self._table(family, name, head[0].line)
            elif head or ended:
                yield self._lost(head, "it belongs to no table")
                if ended == "{":
                    self._skip_block()

    def _lost(self, tokens: list[Token], because: str) -> Entry:
        upcoming = self._peek()
        line = tokens[0].line if tokens else (upcoming.line if upcoming else 1)
        return Entry(line, "", {}, self._shown(tokens)[:300], because)

    def _skip_block(self) -> None:
        depth = 1
        while depth and (token := self._take()) is not None:
            if token.kind == "mark":
                depth += (token.text == "{") - (token.text == "}")

    def _table(self, family: str, name: str, line: int) -> Iterator[Entry]:
        table: dict[str, Any] = {"family": family, "name": name}
        held: list[Entry] = []
        announced = False
        while True:
            head, handle, ended = self._statement(stop_at_block=True)
            if not head and ended in ("\n", ";"):
                if handle is not None:
                    table["handle"] = handle
                continue
            words = [token.text for token in head]
            if ended == "{" and not announced:
                announced = True
                yield Entry(line, "table", table)
            if ended == "{" and words and words[0] == "chain" and len(words) == 2:
                yield from self._chain(family, name, words[1], head[0].line)
            elif ended == "{" and words and words[0] in OBJECTS:
                yield self._object(family, name, head)
            elif ended == "{":
                held.append(self._lost(head, "a block of no known kind"))
                self._skip_block()
            elif words[:1] == ["flags"]:
                table["flags"] = [word for word in words[1:] if word != ","]
            elif words[:1] == ["comment"] and len(words) == 2:
                table["comment"] = words[1]
            elif head:
                held.append(self._lost(head, "it is no known part of a table"))
            if ended in ("}", ""):
                break
        if not announced:
            yield Entry(line, "table", table)
        yield from held
        if not ended:
            yield Entry(line, "", {}, f"table {family} {name}"[:300], "the file ends in the middle of this table")

    def _chain(self, family: str, table: str, name: str, line: int) -> Iterator[Entry]:
        chain: dict[str, Any] = {"family": family, "table": table, "name": name}
        held: list[Entry] = []
        while True:
            tokens, handle, ended = self._statement(stop_at_block=False)
            if not tokens and ended in ("\n", ";"):
                if self._note is not None and _OF_IPTABLES.search(self._note.note):
                    held.append(self._commented_out(chain, self._note))
                elif handle is not None:
                    chain["handle"] = handle
                continue
            if tokens:
                held += self._chain_statement(chain, tokens, handle)
            if ended in ("}", ""):
                break
        yield Entry(line, "chain", chain)
        yield from held
        if not ended:
            yield Entry(line, "", {}, f"chain {name}", "the file ends in the middle of this chain")

    def _commented_out(self, chain: dict[str, Any], end: Token) -> Entry:
        body = {"family": chain["family"], "table": chain["table"], "chain": chain["name"], "expr": []}
        return Entry(end.line, "rule", body | ({} if end.handle is None else {"handle": end.handle}), end.note[:2000], HIDDEN)

    def _chain_statement(self, chain: dict[str, Any], tokens: list[Token], handle: int | None) -> list[Entry]:
        words = [token.text for token in tokens]
        try:
            if words[0] == "type" and "hook" in words:
                chain |= parse_hook(Reader(tokens), chain["family"])
                return []
            if words[0] == "policy" and len(words) == 2 and words[1] in ("accept", "drop"):
                chain["policy"] = words[1]
                return []
            if words[0] == "comment" and len(words) == 2 and tokens[1].kind == "string":
                chain["comment"] = words[1]
                return []
            if words == ["flags", "offload"]:
                return []
        except NotUnderstood as why:
            return [Entry(tokens[0].line, "", {}, self._shown(tokens)[:300], str(why))]
        return self.rule(chain["family"], chain["table"], chain["name"], tokens, handle)

    def rule(self, family: str, table: str, chain: str, tokens: list[Token], handle: int | None) -> list[Entry]:
        """The rule, and behind it the chains that stand inside it."""
        reader = StatementReader(tokens, family, chain)
        body: dict[str, Any] = {"family": family, "table": table, "chain": chain}
        if handle is not None:
            body["handle"] = handle
        try:
            body["expr"] = reader.statements()
            unread = reader.unread
        except (NotUnderstood, ValueError) as why:
            body["expr"], unread = [], str(why)
        if reader.comment:
            body["comment"] = reader.comment
        text = self._shown(tokens)
        if self._note is not None and (_OF_IPTABLES.search(self._note.note) or _is_counter(body["expr"][-1:])):
            text, unread = f"{text} {self._note.note}", unread or HIDDEN
        found = [Entry(tokens[0].line, "rule", body, text[:2000], unread)]
        for inner in reader.inner if not unread else ():
            found.append(Entry(tokens[0].line, "chain", {"family": family, "table": table, "name": inner.name}))
            for line in _lines_of(list(inner.tokens)):
                found += self.rule(family, table, inner.name, line, None)
        return found

    def _object(self, family: str, table: str, head: list[Token]) -> Entry:
        kind, name = (f"ct {head[1].text}", head[2:3]) if head[0].text == "ct" and len(head) > 1 else (head[0].text, head[1:2])
        body: dict[str, Any] = {"family": family, "table": table, "name": name[0].text if name else ""}
        statements: list[list[Token]] = []
        is_cut = False
        while True:
            tokens, handle, ended = self._statement(stop_at_block=False)
            is_cut = is_cut or self._is_cut
            if handle is not None and not tokens:
                body["handle"] = handle
            if tokens:
                statements.append(tokens)
            if ended in ("}", ""):
                break
        unread = f"it is longer than {MOST_TOKENS} words" if is_cut else "" if ended else "the file ends in the middle of it"
        try:
            body |= parse_set(statements) if kind in ("set", "map", "meter") else parse_object(kind, statements)
        except (NotUnderstood, ValueError) as why:
            unread = unread or str(why)
        shown = " ".join(self._shown(tokens) for tokens in [head, *statements])
        return Entry(head[0].line, "set" if kind == "meter" else kind, body, shown[:300], unread)


def _is_counter(last: list[Any]) -> bool:
    """Whether the rule ends with a counter and its numbers: then a target is hidden in the comment behind it."""
    return bool(last) and isinstance(last[0], dict) and isinstance(body := last[0].get("counter"), dict) and "packets" in body


def _lines_of(tokens: list[Token]) -> Iterator[list[Token]]:
    """The rules of a chain inside a rule."""
    line: list[Token] = []
    depth = 0
    for token in tokens:
        if token.kind == "mark":
            depth += (token.text == "{") - (token.text == "}")
        if depth == 0 and (token.kind == "newline" or (token.kind == "mark" and token.text == ";")):
            if line:
                yield line
            line = []
        else:
            line.append(token)
    if line:
        yield line


def parse_statements(text: str, family: str, chain: str) -> tuple[list[dict[str, Any]], list[Entry]]:
    """Statements in text form, as JSON has them where nft knows no JSON for one (src/json.c stmt_print_json()).

    The second are the chains inside them, with their rules; family and table are for the caller to add. Raises NotUnderstood.
    """
    tokens = list(split_tokens(text))[:-1]
    reader = StatementReader(tokens, family, chain)
    statements = reader.statements()
    if reader.unread:
        raise NotUnderstood(reader.unread)
    found: list[Entry] = []
    blocks = _Blocks(text)
    for inner in reader.inner:
        found.append(Entry(inner.tokens[0].line if inner.tokens else 1, "chain", {"name": inner.name}))
        for line in _lines_of(list(inner.tokens)):
            found += blocks.rule(family, "", inner.name, line, None)
    return statements, found


def parse_hook(reader: Reader, family: str) -> dict[str, Any]:
    """`type filter hook input priority filter + 10`. Raises NotUnderstood."""
    reader.expect("type")
    found: dict[str, Any] = {"type": reader.word()}
    reader.expect("hook")
    found["hook"] = reader.word()
    if word := reader.take_if("device", "devices"):
        found["dev"] = reader.word() if word == "device" else read_devices(reader)
    reader.expect("priority")
    found["prio"] = read_priority(reader, family)
    found["policy"] = "accept"
    return found


def read_devices(reader: Reader) -> list[str]:
    """`= { lo, eth0 }`. Raises NotUnderstood."""
    reader.expect("=")
    reader.expect("{")
    names = []
    while not reader.is_mark("}"):
        if reader.is_mark(",") or reader.peek().kind == "newline":
            reader.take()
        else:
            names.append(reader.word())
    reader.take()
    return names


def read_priority(reader: Reader, family: str) -> int:
    """`filter`, `dstnat + 5`, `-150`. Raises NotUnderstood."""
    word = reader.word()
    known = PRIORITIES | BRIDGE_PRIORITIES if family == "bridge" else PRIORITIES
    if word not in known:
        sign = -1 if word.startswith("-") else 1
        if not word.lstrip("-").isdigit() or len(word) > 11:
            raise NotUnderstood(f"`{word[:60]}` is no priority")
        return sign * int(word.lstrip("-"))
    if sign_word := reader.take_if("+", "-"):
        return known[word] + (reader.number() if sign_word == "+" else -reader.number())
    return known[word]
