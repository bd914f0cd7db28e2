"""Any text goes in; what comes out steers no terminal and says which characters stood there."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.report.escape import columns_of, is_unsafe, padded, shortened, visible, wrapped

ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text 1.2.3.4:80", "plain text 1.2.3.4:80"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\tb\r\n", "a\\tb\\r\\n"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066\u200b\ufeff", "\\u2066\\u200b\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\u2028", "\\u2028"),
        ("file-\udcff", "file-\\xff"),
        ("\ud800", "\\ud800"),
        ("größer 中文 ü", "größer 中文 ü"),
        ("e\u0301\u0301\u0301", "e\u0301\\u0301\\u0301"),
    ],
)
def test_it_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY_TEXT)
def test_nothing_unsafe_is_left(text: str) -> None:
    shown = visible(text)
    assert not any(map(is_unsafe, shown))
    assert visible(shown) == shown
    shown.encode()


@given(ANY_TEXT, st.integers(1, 60))
def test_wrapping_loses_nothing_but_spaces_and_keeps_the_width(text: str, columns: int) -> None:
    shown = visible(text)
    lines = wrapped(shown, columns)
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")
    assert all(columns_of(line) <= max(columns, 2) for line in lines)


def test_columns_are_those_of_a_terminal() -> None:
    assert columns_of("中文") == 4
    assert columns_of("e\u0301") == 1
    assert padded("中", 4) == "中  "
    assert unicodedata.east_asian_width("中") == "W"


def test_what_is_too_long_says_how_much_is_left_out() -> None:
    assert shortened("x" * 10, 4) == "xxxx… (6 more characters)"
    assert shortened("\x1b" * 4, 4) == "\\x1b" * 4
