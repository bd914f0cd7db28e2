"""An argument goes in, the name of a vantage point and a path come out."""

from __future__ import annotations

import os
from pathlib import Path

from tcpwhy.evidence.error import EvidenceError


def split_argument(argument: str) -> tuple[str | None, str]:
    """`name=path` apart; a path that exists as it stands is none. Raises EvidenceError."""
    name, equals, path = argument.partition("=")
    if not equals or exists(argument):
        return None, argument
    if not name or not path:
        raise EvidenceError(argument, "read an empty name or path, expected NAME=FILE")
    return name, path


def exists(text: str) -> bool:
    """True where there is such a file; False also for what can be no name."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def absolute(text: str) -> Path:
    """The absolute path, with its links as they are."""
    return Path(os.path.abspath(Path(text).expanduser() if text.startswith("~") else text))  # noqa: PTH100 (links are kept)
