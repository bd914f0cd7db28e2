"""A role and a text go in, the text in that role's colour comes out; without colour the text itself. No meaning is in a colour alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Role = Literal["confirmed", "likely", "possible", "heading", "label", "marked", "lost", "healthy"]

Paint = Callable[[Role, str], str]

_CODES: dict[Role, str] = {
    "confirmed": "1;31",
    "likely": "1;33",
    "possible": "1;36",
    "heading": "1",
    "label": "2",
    "marked": "1",
    "lost": "31",
    "healthy": "32",
}
"""ECMA-48 SGR parameters: bold, faint, and the eight colours that every terminal has."""


def plain(role: Role, text: str) -> str:
    """The text itself."""
    return text


def colored(role: Role, text: str) -> str:
    """The text between the role's SGR sequence and a reset."""
    return f"\x1b[{_CODES[role]}m{text}\x1b[0m" if text else text
