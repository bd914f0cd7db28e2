"""Objects of an nft ruleset, from JSON or text alike, go in; their properties come out checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tcpwhy.tables.nft_text import Entry, parse_statements
from tcpwhy.tables.nft_tokens import NotUnderstood
from tcpwhy.tables.nft_words import STATEMENTS, TABLE_FLAGS

LONGEST_NAME = 255
Key = tuple[str, str, str]


def name_of(value: Any) -> str:
    """A name; empty where the file has something else in its place."""
    return value[:LONGEST_NAME] if isinstance(value, str) else ""


def key_of(body: dict[str, Any], name: str) -> Key:
    """Family, table and the object's own name, which stands under `name`."""
    return name_of(body.get("family")), name_of(body.get("table")), name_of(body.get(name))


def number_of(value: Any) -> int | None:
    """A whole number that the kernel can hold; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64 else None


def words_of(value: Any) -> tuple[str, ...]:
    """A word or a list of words."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(one[:LONGEST_NAME] for one in values[:1000] if isinstance(one, str))


def is_dormant(body: dict[str, Any]) -> bool | None:
    """Whether a table's chains are not hooked in; None where its flags cannot be read.

    nft 0.9 to 1.0.6 write one single flag from memory that they have given back (src/json.c table_flags_json()): any word may
    stand there.
    """
    flags = words_of(body.get("flags"))
    if "dormant" in flags:
        return True
    return None if any(flag not in TABLE_FLAGS for flag in flags) else False


def packets_of(expressions: list[Any]) -> int | None:
    """Of the counter statement."""
    for statement in expressions:
        if isinstance(statement, dict) and isinstance(body := statement.get("counter"), dict):
            return number_of(body.get("packets"))
    return None


def why_unread(expressions: list[Any]) -> str:
    """What of a rule's statements is not understood; empty for nothing."""
    for statement in expressions:
        if not isinstance(statement, dict) or len(statement) != 1:
            return "a statement has no known form"
        kind = next(iter(statement))
        if kind == "xt":
            inside = statement["xt"]
            name = inside.get("name") if isinstance(inside, dict) else None
            return f"{name or 'an extension'} of iptables stands in it, of which nft shows no more than the name"
        if kind not in STATEMENTS:
            return f"`{kind[:60]}` is no known statement"
    return ""


def with_inner_chains(entry: Entry) -> Iterator[Entry]:
    """A rule whose JSON holds a chain as text (`"jump { … }"`, as nft 1.0 writes) as rule, chain and the chain's rules."""
    expressions = entry.body.get("expr")
    if not isinstance(expressions, list) or not any(isinstance(one, str) for one in expressions):
        yield entry
        return
    family, table, chain = key_of(entry.body, "chain")
    name = f"{chain} {{rule {entry.body.get('handle') or entry.line}}}"
    found: list[Any] = []
    behind: list[Entry] = []
    unread = entry.unread
    for count, statement in enumerate(expressions):
        if not isinstance(statement, str):
            found.append(statement)
            continue
        try:
            statements, inner = parse_statements(statement, family, f"{name}{count}" if behind else name)
        except NotUnderstood as why:
            unread = str(why)
            found.append(statement)
            continue
        found += statements
        behind += [one._replace(line=entry.line, body=one.body | {"family": family, "table": table}) for one in inner]
    yield entry._replace(body=entry.body | {"expr": found}, unread=unread)
    yield from behind
