"""What an nft expression finds in a packet goes in; whether it equals, holds or lies within a constant comes out: yes, no, or not known."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from tcpwhy.path.nft_types import IPV4, IPV6, NAME, NUMBER, Span, Type, calculate, span_of


class Number(NamedTuple):
    """A number, of which some bits may be not known."""

    value: int
    type: Type
    unsure: int = 0
    """The bits that are not known."""

    @property
    def smallest(self) -> int:
        """With all bits zero that are not known."""
        return self.value & ~self.unsure

    @property
    def largest(self) -> int:
        """With all bits one that are not known."""
        return self.value | self.unsure


class Name(NamedTuple):
    """The name of an interface; empty for none."""

    value: str


class Concat(NamedTuple):
    """Several values that are looked up together."""

    parts: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """The packet, or what was collected, does not tell."""

    because: str
    among: Span | None = None
    """All values that it can have, where that is known (`numgen`, hashes)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Absent:
    """The packet has no such thing: the kernel leaves the rule (NFT_BREAK), also where the rule asks for the contrary."""


ABSENT = Absent()
Value = Number | Name | Concat | Unknown | Absent


def invert(answer: bool | None) -> bool | None:
    """Not, of three values."""
    return None if answer is None else not answer


def equals(value: Value, constant: Any) -> bool | None:
    """Whether the value equals the constant or lies within its range."""
    if isinstance(constant, dict) and "elem" in constant and isinstance(constant["elem"], dict):
        constant = constant["elem"].get("val")
    if isinstance(value, Concat):
        return _concat_equals(value, constant)
    if isinstance(value, Name):
        return name_equals(value.value, constant)
    if isinstance(value, Number):
        span = span_of(constant, value.type)
        return None if span is None else lies_within(value, span)
    if isinstance(value, Unknown) and value.among is not None:
        span = span_of(constant, NUMBER)
        return None if span is None else bounds_within(value.among, span)
    return None


def lies_within(value: Number, span: Span) -> bool | None:
    """Whether a number lies in a range."""
    if span.first == span.last and (value.value ^ span.first) & ~value.unsure:
        return False
    return bounds_within(Span(value.smallest, value.largest), span)


def bounds_within(bounds: Span, span: Span) -> bool | None:
    """Whether a number between bounds lies in a range."""
    if bounds.last < span.first or bounds.first > span.last:
        return False
    return True if span.first <= bounds.first and bounds.last <= span.last else None


def _concat_equals(value: Concat, constant: Any) -> bool | None:
    parts = constant.get("concat") if isinstance(constant, dict) else None
    if not isinstance(parts, list) or len(parts) != len(value.parts):
        return None
    answers = [equals(part, one) for part, one in zip(value.parts, parts, strict=True)]
    return False if False in answers else None if None in answers else True


def name_equals(name: str, constant: Any) -> bool | None:
    """A name with `*` at its end stands for all that begin so; true and false ask whether there is an interface at all."""
    if isinstance(constant, bool):
        return bool(name) == constant
    if isinstance(constant, int) or (isinstance(constant, str) and constant == "0"):
        return not name if int(constant) == 0 else None
    if not isinstance(constant, str):
        return None
    if constant.endswith("\\*"):
        return name == constant[:-2] + "*"
    return name.startswith(constant[:-1]) if constant.endswith("*") else name == constant


def holds_any(value: Value, constant: Any) -> bool | None:
    """Whether one of the flags is set."""
    if not isinstance(value, Number):
        return None
    span = span_of(constant, value.type)
    if span is None or span.first != span.last:
        return None
    if value.smallest & span.first:
        return True
    return None if value.largest & span.first else False


def compare(value: Value, operator: str, constant: Any) -> bool | None:
    """`<`, `>`, `<=`, `>=`."""
    if isinstance(value, Number):
        low, high, type_ = value.smallest, value.largest, value.type
    elif isinstance(value, Unknown) and value.among is not None:
        low, high, type_ = value.among.first, value.among.last, NUMBER
    else:
        return None
    span = span_of(constant, type_)
    if span is None or span.first != span.last:
        return None
    limit = span.first
    if operator in (">", "<="):
        above = True if low > limit else False if high <= limit else None
        return above if operator == ">" else invert(above)
    below = True if high < limit else False if low >= limit else None
    return below if operator == "<" else invert(below)


def combine(operator: str, left: Value, right: Value) -> Value:
    """`&`, `|`, `^` and shifts; a bit that a mask fixes is known although the value is not."""
    for one in (left, right):
        if isinstance(one, Absent):
            return one
    if isinstance(left, Unknown) and isinstance(right, Number) and operator in ("&", "|"):
        left = Number(0, right.type, (1 << max(right.type.bits, 1)) - 1)
    if not isinstance(left, Number) or not isinstance(right, Number):
        unknown = next((one for one in (left, right) if isinstance(one, Unknown)), None)
        return unknown or Unknown("it calculates with names")
    bits = left.type.bits
    if operator in ("<<", ">>"):
        if right.unsure:
            return Unknown("it shifts by a number that is not known")
        return Number(calculate(operator, left.value, right.value, bits), left.type, calculate(operator, left.unsure, right.value, bits))
    unsure = left.unsure | right.unsure
    if operator == "&":
        unsure &= left.largest & right.largest
    elif operator == "|":
        unsure &= ~(left.smallest | right.smallest)
    return Number(calculate(operator, left.smallest, right.smallest, bits) & ~unsure, left.type, unsure)


def constant_value(constant: Any, type_: Type) -> Value:
    """A constant as a value of a type; ranges are none."""
    if type_ is NAME:
        return Name(constant) if isinstance(constant, str) else Unknown("it is no name of an interface")
    for one in (type_, IPV4, IPV6) if type_ is NUMBER else (type_,):
        # A constant among concatenated fields tells its type by its form alone.
        span = span_of(constant, one)
        if span is not None and span.first == span.last:
            return Number(span.first, one)
    return Unknown("its value is not understood")
