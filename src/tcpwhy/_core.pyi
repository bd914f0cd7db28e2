"""The decode core: captures in, columns out. Written in Rust; see rust/src/python.rs."""

from collections.abc import Callable, Sequence
from typing import Any

class Table:
    """Rows in columns; speaks the Arrow PyCapsule interface."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples, in the order of `columns`."""

class Frames:
    """The captures of one vantage point and their frame index."""

    def __init__(self, index: str, paths: Sequence[str]) -> None: ...
    def packets(self, flows: Sequence[Sequence[int]], limit: int) -> tuple[Table, int]:
        """The packets of flows given by their chains, and how many were left out because a flow has more than `limit`."""

def scan(paths: Sequence[str], folder: str, progress: Callable[[int], None] | None = None, threads: int = 1) -> dict[str, Any]:
    """Scan the captures of one vantage point into `folder`; a summary of what was read. Two threads find the same as one, sooner."""

def reveal(
    paths: Sequence[str],
    folder: str,
    header_names: Sequence[str],
    progress: Callable[[int], None] | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Read what the captures of one vantage point say of the real clients into `folder`; the number of flows and the files' errors."""

def read_flows(path: str) -> Table:
    """A flow table, whole."""

def marked_lines(block: bytes, words: Sequence[bytes]) -> list[tuple[int, int, int]]:
    """The lines of a block that hold one of the words (two bytes or more): line ends before it, begin and end."""

def sniff(path: str) -> str | None:
    """What a file is, if it is a capture."""

def write_slice(
    path: str,
    sources: Sequence[tuple[str, str, Sequence[str]]],
    wanted: Sequence[tuple[int, int, int, str | None]],
) -> None:
    """Write chosen frames as pcapng."""

class Following:
    """A following that runs in a thread of its own."""

    def events(self, timeout_ms: int) -> list[dict[str, Any]] | None:
        """What happened within so many milliseconds; None after the last event."""
    def stop(self) -> None:
        """Ends it; packets written until now are in the file."""
    def figures(self) -> dict[str, Any]:
        """Counts, from the start on."""

def follow_live(
    interface: str,
    clients: Sequence[tuple[str, int | None]],
    connections: Sequence[tuple[tuple[str, int], tuple[str, int]]],
    trusted_hops: int | None,
    out: str | None,
    most: int | None,
    promiscuous: bool,
    ring_bytes: int,
) -> tuple[Following, str]:
    """Follow connections that are captured live; and how packets get here, in words."""

def follow_file(
    path: str,
    clients: Sequence[tuple[str, int | None]],
    connections: Sequence[tuple[tuple[str, int], tuple[str, int]]],
    trusted_hops: int | None,
    out: str | None,
    most: int | None,
) -> Following:
    """Follow connections in a capture file, or in standard input for `-`."""
