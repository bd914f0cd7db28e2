"""A match of an nft rule and a packet go in; yes, no or not known comes out, with the reason."""

from __future__ import annotations

from typing import Any, NamedTuple

from tcpwhy.path.nft_look import Look
from tcpwhy.path.nft_sets import Found, elements_of, is_set, look_up
from tcpwhy.path.nft_values import ABSENT, Concat, Name, Number, Unknown, Value, compare, equals, holds_any, invert
from tcpwhy.path.packet import Packet
from tcpwhy.tables.nft import Nft

_LOOKED_AT = frozenset(("payload", "meta", "ct", "fib", "socket", "rt", "numgen", "jhash", "symhash", "exthdr", "tcp option"))


class Answer(NamedTuple):
    """Whether a packet matches."""

    matches: bool | None
    because: str = ""
    """Why it is not known."""


def match(nft: Nft, look: Look, body: Any, packet: Packet) -> Answer:
    """`{"op": …, "left": …, "right": …}`. What the packet does not have matches nothing, negated or not (NFT_BREAK)."""
    if not isinstance(body, dict):
        return Answer(None, "the match has no known form")
    operator, right = body.get("op"), body.get("right")
    value = look.at(body.get("left"), packet)
    if value == ABSENT:
        return Answer(False)
    if is_set(right):
        found = look_up(elements_of(nft, look.chain, right), value)
        answer = is_in(found)
        return Answer(invert(answer) if operator == "!=" else answer, found.because)
    if isinstance(value, Name):
        right = look.interface_named(right)
    if isinstance(right, dict) and next(iter(right), "") in _LOOKED_AT:
        right = _plain(look.at(right, packet))
        if right is None:
            return Answer(None, "what it is compared with is not known")
    answer = _compare(value, str(operator), right)
    return Answer(answer, _why(value) if answer is None else "")


def is_in(found: Found) -> bool | None:
    """Whether a look-up finds an element."""
    if found.certain is not None:
        return True
    if not found.possible:
        return None if found.may_miss else False
    return None if found.may_miss else True


def _compare(value: Value, operator: str, right: Any) -> bool | None:
    if operator in ("<", ">", "<=", ">="):
        return compare(value, operator, right)
    if operator == "!=":
        return invert(equals(value, right))
    holds_flags = isinstance(value, Number) and value.type.holds_flags
    if operator == "!":
        return invert(holds_any(value, right))
    if operator == "in" and holds_flags:
        return holds_any(value, right)
    if isinstance(right, list) and not holds_flags:
        answers = [equals(value, one) for one in right]
        return True if True in answers else None if None in answers else False
    return equals(value, right) if operator in ("==", "in") else None


def _plain(value: Value) -> Any:
    return value.value if isinstance(value, Number) and not value.unsure else value.value if isinstance(value, Name) else None


def _why(value: Value) -> str:
    if isinstance(value, Unknown):
        return value.because
    if isinstance(value, Concat):
        return next((_why(part) for part in value.parts if isinstance(part, Unknown)), "part of the match is not understood")
    if isinstance(value, Number) and value.unsure:
        return "part of what it looks at is not known"
    return "what it compares with is not understood"
