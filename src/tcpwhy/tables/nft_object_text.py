"""The statements inside a set or object of nft's text go in; its properties in libnftables-json(5)'s form come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tcpwhy.tables.nft_statement_text import StatementReader
from tcpwhy.tables.nft_tokens import NotUnderstood, Token, read_duration

_STATEMENTS = ("counter", "quota", "limit", "last", "ct")


def parse_set(statements: Sequence[Sequence[Token]]) -> dict[str, Any]:
    """Key type, flags, elements (src/rule.c set_print_declaration()). Raises NotUnderstood."""
    found: dict[str, Any] = {}
    for tokens in statements:
        reader = StatementReader(tokens)
        word = reader.word()
        if word in ("type", "typeof"):
            found |= _set_type(reader, word)
        elif word == "flags":
            found["flags"] = [token.text for token in tokens[1:] if token.text != ","]
        elif word == "elements":
            reader.expect("=")
            found["elem"] = reader.elements()
        elif word in ("timeout", "gc-interval"):
            found[word] = read_duration(reader.word())
        elif word == "auto-merge":
            found[word] = True
        elif word == "size":
            found[word] = reader.number()
        elif word in ("policy", "comment"):
            found[word] = reader.word()
        elif word in _STATEMENTS:
            found["stmt"] = [*found.get("stmt", []), reader.element_statement(word)]
        else:
            raise NotUnderstood(f"`{word[:60]}` is no known property of a set")
    return found


def _set_type(reader: StatementReader, word: str) -> dict[str, Any]:
    key = reader.expression() if word == "typeof" else _type_names(reader)
    found: dict[str, Any] = {"type": {"typeof": key} if word == "typeof" else key}
    if reader.take_if(":"):
        reader.take_if("interval")
        if word == "typeof" and reader.begins_expression():
            found["map"] = {"typeof": reader.expression()}
        else:
            value = _type_names(reader)
            found["map"] = value if isinstance(value, str) else " . ".join(value)
    return found


def _type_names(reader: StatementReader) -> str | list[str]:
    """A set may map to objects, whose kinds are one or two words: `: counter`, `: ct helper`."""
    names = [reader.word()]
    while reader.take_if("."):
        names.append(reader.word())
    if len(names) == 1 and names[0] == "ct":
        return f"ct {reader.word()}"
    return names[0] if len(names) == 1 else names


def parse_object(kind: str, statements: Sequence[Sequence[Token]]) -> dict[str, Any]:
    """The properties of a stateful object (src/rule.c obj_print_data()). Raises NotUnderstood."""
    found: dict[str, Any] = {}
    rest: list[Sequence[Token]] = []
    for tokens in statements:
        if tokens[0].text == "comment" and len(tokens) == 2:
            found["comment"] = tokens[1].text
        else:
            rest.append(tokens)
    parse = _PARSERS.get(kind)
    if parse is None:
        return found | {"text": "; ".join(" ".join(token.text.strip() for token in tokens) for tokens in rest)}
    for tokens in rest:
        found |= parse(StatementReader(tokens))
    return found


def _counter(reader: StatementReader) -> dict[str, Any]:
    return dict(reader.counted() or {})


def _quota(reader: StatementReader) -> dict[str, Any]:
    body: dict[str, Any] = {"inv": reader.take_if("over", "until") == "over"}
    body["bytes"] = _bytes(reader)
    body["used"] = _bytes(reader) if reader.take_if("used") else 0
    return body


def _bytes(reader: StatementReader) -> int:
    return reader.number() << {"bytes": 0, "kbytes": 10, "mbytes": 20, "gbytes": 30}[reader.expect("bytes", "kbytes", "mbytes", "gbytes")]


def _limit(reader: StatementReader) -> dict[str, Any]:
    return reader.limit_body()


def _synproxy(reader: StatementReader) -> dict[str, Any]:
    return reader.synproxy_body()


def _helper(reader: StatementReader) -> dict[str, Any]:
    body: dict[str, Any] = {}
    while word := reader.take_if("type", "protocol", "l3proto"):
        body[word] = reader.word()
    return body


def _timeout(reader: StatementReader) -> dict[str, Any]:
    """`policy = { established : 120 }`; newer nft writes `2m`."""
    if not reader.take_if("policy"):
        return _helper(reader)
    reader.expect("=")
    pairs = [pair for pair in reader.elements() if isinstance(pair, list) and len(pair) == 2]
    return {"policy": {str(state): read_duration(value) if isinstance(value, str) else value for state, value in pairs}}


def _expectation(reader: StatementReader) -> dict[str, Any]:
    body: dict[str, Any] = {}
    while word := reader.take_if("protocol", "dport", "timeout", "size", "l3proto"):
        text = reader.word()
        body[word] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
    return body


_PARSERS: dict[str, Callable[[StatementReader], dict[str, Any]]] = {
    "counter": _counter,
    "quota": _quota,
    "limit": _limit,
    "synproxy": _synproxy,
    "ct helper": _helper,
    "ct timeout": _timeout,
    "ct expectation": _expectation,
}
