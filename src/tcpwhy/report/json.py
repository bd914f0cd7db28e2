"""A report goes in, the JSON of `tcpwhy diagnose --json` comes out: the same bytes for the same report, safe on a terminal too."""

from __future__ import annotations

from typing import Any

import msgspec

from tcpwhy.diagnosis.finding import Report
from tcpwhy.report.escape import escaped, is_unsafe


def encode_report(report: Report) -> bytes:
    r"""UTF-8, indented by two, a line feed at the end; fields in the order of the contract.

    Characters that would steer a terminal are written as JSON escapes (RFC 8259 section 7), which every reader turns back. Bytes of a
    file name that are no UTF-8 cannot stand in JSON and are written out (`\xff`), as in the text.
    """
    return encode_json(report)


def encode_json(value: Any) -> bytes:
    """Any value of structs and JSON's own types, in the form of `encode_report`."""
    try:
        compact = msgspec.json.encode(value)
    except UnicodeEncodeError:
        compact = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value)))
    text = msgspec.json.format(compact, indent=2).decode()
    return (_with_escapes(text) + "\n").encode()


def _with_escapes(text: str) -> str:
    r"""Unsafe characters as `\uXXXX`; outside of strings JSON has none but line feeds, inside of them it has no bare line feed."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(_json_escape(c) if c != "\n" and is_unsafe(c) else c for c in text)


def _json_escape(character: str) -> str:
    code_units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{code_units[at : at + 4]}" for at in range(0, len(code_units), 4))


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return "".join(escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
        case dict():
            return {_without_surrogates(key): _without_surrogates(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_without_surrogates(inner) for inner in value]
        case _:
            return value
