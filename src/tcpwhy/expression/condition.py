"""The two ends of an expression: the SQL condition that it becomes, and the error that says where it is wrong."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

LONGEST = 10_000
"""Characters of an expression; nobody types more."""

DEEPEST = 100
"""Brackets and negations inside each other, so that no expression exhausts Python's stack."""


class ExpressionError(ValueError):
    """An expression that cannot be understood; `str()` names the column and what was expected."""

    def __init__(self, message: str, position: int) -> None:
        """position: characters before the place that is wrong."""
        super().__init__(f"column {position + 1}: {message}")
        self.message = message
        self.position = position


@dataclasses.dataclass(frozen=True)
class Condition:
    """A boolean SQL expression for DuckDB, with a `?` for each parameter; no text of the user stands in `sql`."""

    sql: str
    parameters: list[str | int | float | bool]

    @staticmethod
    def joined(word: str, parts: Sequence[Condition]) -> Condition:
        """Conditions joined by AND or OR, in brackets."""
        if len(parts) == 1:
            return parts[0]
        sql = "(" + f" {word} ".join(part.sql for part in parts) + ")"
        return Condition(sql, [parameter for part in parts for parameter in part.parameters])

    def negated(self) -> Condition:
        """The opposite; null stays null, as in SQL."""
        return Condition(f"(NOT {self.sql})", self.parameters)


@dataclasses.dataclass(frozen=True)
class Token:
    """A piece of an expression; `kind` is the name of the group that matched it, `end` at its end."""

    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"`{self.text}`"


def tokens_of(text: str, pattern: re.Pattern[str]) -> list[Token]:
    """All tokens of a text, blanks left out; the last one is of the kind `end`.

    pattern: alternatives with one named group each. ExpressionError where none matches.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"the expression has {len(text)} characters, expected at most {LONGEST}", LONGEST)
    tokens = []
    at = 0
    while at < len(text):
        if text[at] in " \t\n\r":
            at += 1
            continue
        match = pattern.match(text, at)
        if match is None or not match[0]:
            raise ExpressionError(f"read `{text[at]}`, which means nothing here", at)
        tokens.append(Token(match.lastgroup or "", match[0], at))
        at = match.end()
    return [*tokens, Token("end", "", len(text))]


class TokenStream:
    """Tokens, read one by one."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        """The last token is of the kind `end`, and stays the next one once reached."""
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one further on."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token, which is then behind us."""
        token = self.peek()
        self._at += 1
        return token

    def take_if(self, *texts: str) -> Token | None:
        """The next token where it is one of these words or signs, in any case."""
        if self.peek().kind != "string" and self.peek().text.lower() in texts and self.peek().kind != "end":
            return self.take()
        return None

    def expect(self, text: str, why: str) -> Token:
        """The next token, which must be this one."""
        token = self.take_if(text)
        if token is None:
            raise ExpressionError(f"read {self.peek()}, expected `{text}` {why}", self.peek().position)
        return token

    def enter(self) -> None:
        """One level deeper; ExpressionError beyond DEEPEST."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExpressionError(f"more than {DEEPEST} levels inside each other", self.peek().position)

    def leave(self) -> None:
        """One level back."""
        self._depth -= 1
