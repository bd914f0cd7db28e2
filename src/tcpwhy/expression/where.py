"""`client_ip = '10.0.0.5' and retransmissions > 3` goes in, a condition over the documented columns comes out; nothing else is in reach."""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Mapping

from tcpwhy.expression.condition import Condition, ExpressionError, Token, TokenStream, tokens_of

_TOKENS = re.compile(
    r"""(?P<string>'(?:[^']|'')*')
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<operator><=|>=|<>|!=|==|=|<|>)
      | (?P<bracket>[(),])""",
    re.VERBOSE,
)
_OPERATORS = {"=": "=", "==": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_LARGEST = 2**63 - 1  # BIGINT
_KINDS = {
    "text": "a text such as 'x'",
    "number": "a number",
    "truth": "true or false",
    "time": "a time such as '2026-11-21T09:30:00Z'",
}

Value = tuple[str, str | int | float | bool, Token]
"""Kind, value and token of a literal."""


def parse_where(text: str, columns: Mapping[str, str]) -> Condition:
    """An expression over a table's columns as parametrised SQL.

    Comparisons (`=`, `!=`, `<`, `<=`, `>`, `>=`) of a column with a value or another column, `COLUMN in (…)`, `COLUMN is null`,
    a truth column by itself, `and` before `or`, `not`, brackets. Texts and times stand in single quotes, `''` is a quote in one;
    a time without a zone is local.

    columns: name to DuckDB type; texts, numbers, BOOLEAN and TIMESTAMP types can be compared.
    Raises ExpressionError, and nothing else, for whatever else the text holds.
    """
    return _Where(TokenStream(tokens_of(text, _TOKENS)), columns).parse()


def kind_of(column_type: str) -> str:
    """What a column of this DuckDB type is compared with: `text`, `number`, `truth` or `time`."""
    name = column_type.upper()
    if name.startswith(("TIMESTAMP", "DATETIME")):
        return "time"
    if name.startswith(("VARCHAR", "TEXT", "STRING", "ENUM")):
        return "text"
    return "truth" if name.startswith("BOOL") else "number"


class _Where:
    def __init__(self, stream: TokenStream, columns: Mapping[str, str]) -> None:
        self._stream = stream
        self._columns = {name.lower(): (name, column_type) for name, column_type in columns.items()}

    def parse(self) -> Condition:
        condition = self._either()
        left = self._stream.peek()
        if left.kind != "end":
            raise ExpressionError(f"read {left}, expected `and`, `or` or the end", left.position)
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._stream.take_if("or"):
            parts.append(self._both())
        return Condition.joined("OR", parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._stream.take_if("and"):
            parts.append(self._one())
        return Condition.joined("AND", parts)

    def _one(self) -> Condition:
        self._stream.enter()
        if self._stream.take_if("not"):
            condition = self._one().negated()
        elif self._stream.take_if("("):
            condition = self._either()
            self._stream.expect(")", "to close the bracket")
        else:
            condition = self._comparison()
        self._stream.leave()
        return condition

    def _comparison(self) -> Condition:
        token = self._stream.peek()
        if token.kind != "name" or token.text.lower() in ("true", "false"):
            value = self._value()
            operator = self._operator()
            return self._compare(self._column(), _MIRRORED[operator], value)
        column = self._column()
        name, column_type = column
        if self._stream.take_if("is"):
            negation = "NOT " if self._stream.take_if("not") else ""
            self._stream.expect("null", "after `is`")
            return Condition(f'("{name}" IS {negation}NULL)', [])
        negated = self._stream.peek().text.lower() == "not" and self._stream.peek(1).text.lower() == "in"
        if negated:
            self._stream.take()
        if self._stream.take_if("in"):
            condition = self._membership(column)
            return condition.negated() if negated else condition
        if self._stream.peek().kind != "operator":
            if kind_of(column_type) == "truth":
                return Condition(f'("{name}")', [])
            left = self._stream.peek()
            raise ExpressionError(f"read {left}, expected a comparison with `{name}`", left.position)
        operator = self._operator()
        right = self._stream.peek()
        if right.kind == "name" and right.text.lower() not in _WORDS:
            other, other_type = self._column()
            if kind_of(other_type) != kind_of(column_type):
                raise ExpressionError(
                    f"`{other}` is {_article(other_type)}, expected {_article(column_type)} as `{name}` is",
                    right.position,
                )
            return Condition(f'("{name}" {operator} "{other}")', [])
        return self._compare(column, operator, self._value())

    def _operator(self) -> str:
        token = self._stream.take()
        if token.kind != "operator":
            raise ExpressionError(f"read {token}, expected a comparison such as `=` or `>`", token.position)
        return _OPERATORS[token.text]

    def _column(self) -> tuple[str, str]:
        token = self._stream.take()
        if token.kind != "name" or token.text.lower() in _WORDS:
            raise ExpressionError(f"read {token}, expected a column", token.position)
        found = self._columns.get(token.text.lower())
        if found is None:
            near = difflib.get_close_matches(token.text.lower(), self._columns, n=1)
            guess = f", did you mean `{self._columns[near[0]][0]}`?" if near else ""
            raise ExpressionError(f"there is no column `{token.text}`{guess}", token.position)
        return found

    def _value(self) -> Value:
        token = self._stream.take()
        word = token.text.lower()
        if token.kind == "string":
            return "text", token.text[1:-1].replace("''", "'"), token
        if token.kind == "number":
            return "number", _number(token), token
        if token.kind == "name" and word in ("true", "false"):
            return "truth", word == "true", token
        if token.kind == "name" and word == "null":
            raise ExpressionError("nothing equals null, expected `is null` or `is not null`", token.position)
        raise ExpressionError(f"read {token}, expected a value", token.position)

    def _membership(self, column: tuple[str, str]) -> Condition:
        self._stream.expect("(", "after `in`")
        parts = [self._parameter(column, self._value())]
        while self._stream.take_if(","):
            parts.append(self._parameter(column, self._value()))
        self._stream.expect(")", "to close the list")
        places = ", ".join(part.sql for part in parts)
        return Condition(f'("{column[0]}" IN ({places}))', [value for part in parts for value in part.parameters])

    def _compare(self, column: tuple[str, str], operator: str, value: Value) -> Condition:
        parameter = self._parameter(column, value)
        return Condition(f'("{column[0]}" {operator} {parameter.sql})', parameter.parameters)

    def _parameter(self, column: tuple[str, str], value: Value) -> Condition:
        """The `?` for a value, once it is of the column's kind."""
        name, column_type = column
        wanted = kind_of(column_type)
        kind, content, token = value
        if wanted == "time" and kind == "text":
            return Condition(f"CAST(? AS {_time_type(column_type)})", [_time(token, str(content), column_type)])
        if wanted != kind:
            raise ExpressionError(f"read {token}, expected {_KINDS[wanted]} for `{name}`", token.position)
        return Condition("?", [content])


def _article(column_type: str) -> str:
    return {"text": "a text", "number": "a number", "truth": "true or false", "time": "a time"}[kind_of(column_type)]


def _number(token: Token) -> int | float:
    if len(token.text) > 40:
        raise ExpressionError("a number of more than 40 characters", token.position)
    if re.fullmatch(r"[+-]?\d+", token.text):
        number = int(token.text)
        if abs(number) > _LARGEST:
            raise ExpressionError(f"read {token}, expected a number up to {_LARGEST}", token.position)
        return number
    value = float(token.text)
    if not math.isfinite(value):
        raise ExpressionError(f"read {token}, expected a smaller number", token.position)
    return value


def _time_type(column_type: str) -> str:
    name = column_type.upper()
    if "TIME ZONE" in name or name == "TIMESTAMPTZ":
        return "TIMESTAMPTZ"
    return "TIMESTAMP_NS" if name == "TIMESTAMP_NS" else "TIMESTAMP"


def _time(token: Token, text: str, column_type: str) -> str:
    """An ISO 8601 time in UTC that DuckDB reads; digits beyond microseconds are kept where the column has them."""
    wrong = ExpressionError(f"read {token}, expected {_KINDS['time']}", token.position)
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?", text.strip(), re.ASCII)
    if match is None:
        raise wrong
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone or ''}").astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if not 1970 <= moment.year <= 2261:  # what nanoseconds in 64 bits can hold
        raise wrong
    digits = (fraction or "0").ljust(9, "0")
    digits = digits if _time_type(column_type) == "TIMESTAMP_NS" else digits[:6]
    zone_name = "+00:00" if _time_type(column_type) == "TIMESTAMPTZ" else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}.{digits}{zone_name}"
