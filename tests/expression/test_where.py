"""Expressions over columns go in; they must mean in DuckDB what they say, and whatever else is typed is an ExpressionError."""

import datetime
import string

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.expression import ExpressionError, parse_where

COLUMNS = {
    "client_ip": "VARCHAR",
    "retransmissions": "UBIGINT",
    "duration_s": "DOUBLE",
    "failed": "BOOLEAN",
    "ipv6": "BOOLEAN",
    "first": "TIMESTAMP_NS",
    "last": "TIMESTAMP WITH TIME ZONE",
    "cause": "VARCHAR",
}
ROWS = """
    ('10.0.0.5', 4, 1.5, true, false, '2026-11-21 09:30:00.000000123', '2026-11-21 09:31:00+00', 'syn-lost'),
    ('10.0.0.6', 0, 0.0, false, false, '2026-11-21 09:30:01', '2026-11-21 09:30:02+00', NULL),
    ('it''s', 9, 99.0, true, true, '2026-11-22 00:00:00', '2026-11-22 00:00:01+00', 'port-closed')
"""


@pytest.fixture(scope="module")
def db() -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(":memory:")
    db.execute("SET TimeZone = 'UTC'")
    db.execute("CREATE TABLE t (" + ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items()) + ")")
    db.execute("INSERT INTO t VALUES " + ROWS)
    return db


def rows(db: duckdb.DuckDBPyConnection, text: str) -> list[int]:
    condition = parse_where(text, COLUMNS)
    sql = f"SELECT retransmissions FROM t WHERE {condition.sql} ORDER BY 1"
    return [row[0] for row in db.execute(sql, condition.parameters).fetchall()]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("client_ip = '10.0.0.5' and retransmissions > 3", [4]),
        ("CLIENT_IP == '10.0.0.5' AND Retransmissions >= 4", [4]),
        ("retransmissions != 4", [0, 9]),
        ("3 < retransmissions", [4, 9]),
        ("9 = retransmissions", [9]),
        ("retransmissions > duration_s", [4]),
        ("failed", [4, 9]),
        ("not failed", [0]),
        ("failed = false", [0]),
        ("failed and not ipv6", [4]),
        ("cause is null", [0]),
        ("cause is not null", [4, 9]),
        ("cause in ('syn-lost', 'x')", [4]),
        ("cause not in ('syn-lost')", [9]),
        ("retransmissions in (0, 9)", [0, 9]),
        ("client_ip = 'it''s'", [9]),
        ("retransmissions = 0 or retransmissions = 4 and failed", [0, 4]),
        ("(retransmissions = 0 or retransmissions = 4) and failed", [4]),
        ("not (retransmissions = 0 or retransmissions = 4)", [9]),
        ("not not failed", [4, 9]),
        ("duration_s <= 1.5e0", [0, 4]),
        ("duration_s > -1", [0, 4, 9]),
        ("first = '2026-11-21T09:30:00.000000123Z'", [4]),
        ("first > '2026-11-21T10:30:00.5+01:00'", [0, 9]),
        ("last >= '2026-11-22 00:00:00Z'", [9]),
        ("first < '2026-11-21T09:30:01Z' or ipv6", [4, 9]),
    ],
)
def test_it_means_what_it_says(db: duckdb.DuckDBPyConnection, text: str, found: list[int]) -> None:
    assert rows(db, text) == found


def test_a_time_without_a_zone_is_local(db: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert rows(db, "first < '2026-11-21 17:30:01'") == [4]
        assert datetime.datetime(2026, 11, 21).astimezone().utcoffset() == datetime.timedelta(hours=8)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected a value"),
        ("retransmision > 3", 0, "there is no column `retransmision`, did you mean `retransmissions`?"),
        ("retransmissions > 'x'", 18, "expected a number for `retransmissions`"),
        ("client_ip = 5", 12, "expected a text"),
        ("failed = 1", 9, "expected true or false"),
        ("first > 5", 8, "expected a time"),
        ("first > 'yesterday'", 8, "expected a time"),
        ("first > '2026-13-41'", 8, "expected a time"),
        ("client_ip > retransmissions", 12, "`retransmissions` is a number, expected a text"),
        ("client_ip = null", 12, "expected `is null`"),
        ("retransmissions", 15, "expected a comparison with `retransmissions`"),
        ("retransmissions >", 17, "read the end, expected a value"),
        ("(failed", 7, "expected `)`"),
        ("failed)", 6, "expected `and`, `or` or the end"),
        ("failed or", 9, "expected a value"),
        ("failed; drop table t", 6, "`;`"),
        ("failed -- x", 7, "`-`"),
        ("client_ip = 'x", 12, "`'`"),
        ('client_ip = "x"', 12, '`"`'),
        ("client_ip like '%'", 10, "read `like`"),
        ("read_csv('/etc/passwd') is null", 0, "there is no column `read_csv`"),
        ("(select 1) = 1", 1, "there is no column `select`"),
        ("client_ip in (select 1)", 14, "expected a value"),
        ("retransmissions = 99999999999999999999", 18, "expected a number up to"),
        ("duration_s < 1e999", 13, "expected a smaller number"),
        ("retransmissions > 3x", 18, "`3`"),
        ("(" * 500 + "failed", 100, "levels"),
        ("not " * 500 + "failed", 400, "levels"),
        ("failed" * 5000, 10_000, "characters"),
    ],
)
def test_an_error_says_where_and_what(text: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        parse_where(text, COLUMNS)
    assert error.value.position == position
    assert message in str(error.value)
    assert str(error.value).startswith(f"column {position + 1}: ")


WORDS = st.sampled_from(
    [*COLUMNS, "and", "or", "not", "in", "is", "null", "true", "(", ")", ",", "=", "<>", ">", "'x'", "'2026-11-21'", "5", "-1.5", "''"]
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.text(alphabet=string.printable), st.lists(WORDS, max_size=14).map(" ".join)))
def test_anything_is_a_condition_or_an_expression_error(db: duckdb.DuckDBPyConnection, text: str) -> None:
    try:
        condition = parse_where(text, COLUMNS)
    except ExpressionError as error:
        position = error.position
    else:
        db.execute(f"SELECT 1 FROM t WHERE {condition.sql}", condition.parameters).fetchall()
        position = 0
    assert 0 <= position <= len(text)


@settings(deadline=None)
@given(st.text())
def test_no_text_of_the_user_reaches_the_sql(db: duckdb.DuckDBPyConnection, text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    condition = parse_where(f"client_ip = {quoted} or cause in ({quoted})", COLUMNS)
    assert condition.sql == '(("client_ip" = ?) OR ("cause" IN (?)))'
    assert condition.parameters == [text, text]


def _comparisons() -> st.SearchStrategy[tuple[str, str]]:
    numbers = st.integers(-5, 12)
    return st.one_of(
        st.tuples(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), numbers).map(
            lambda pair: (f"retransmissions {pair[0]} {pair[1]}",) * 2
        ),
        st.sampled_from([("failed", "failed"), ("cause is null", "cause IS NULL"), ("not ipv6", "NOT ipv6")]),
    )


def _expressions() -> st.SearchStrategy[tuple[str, str]]:
    return st.recursive(
        _comparisons(),
        lambda inner: st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: (f"({parts[0][0]} {parts[1]} {parts[2][0]})", f"({parts[0][1]} {parts[1].upper()} {parts[2][1]})")
        ),
        max_leaves=12,
    )


@settings(deadline=None)
@given(_expressions())
def test_it_means_what_the_same_words_mean_in_sql(db: duckdb.DuckDBPyConnection, pair: tuple[str, str]) -> None:
    text, sql = pair
    expected = [row[0] for row in db.execute(f"SELECT retransmissions FROM t WHERE {sql} ORDER BY 1").fetchall()]
    assert rows(db, text) == expected
