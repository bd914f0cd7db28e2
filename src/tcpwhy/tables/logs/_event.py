"""What dialects and readers share: a line goes in understood, an event with its place and time comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import Literal

from tcpwhy.evidence.source import Source

What = Literal[
    "refused",
    "reset",
    "broken_pipe",
    "closed_locally",
    "eof",
    "timeout_connecting",
    "timeout_reading",
    "timeout_writing",
    "timeout",
    "unreachable",
    "canceled",
    "idle_closed",
    "ended",
    "unexpected_answer",
    "other",
]
"""What happened to the connection, from the point of view of the program that writes the log.

`timeout` does not tell of what. `closed_locally` is a consequence: the program itself had closed. `eof` is a FIN where more was expected.
`idle_closed` is the other end's FIN on a connection that waited for its next request. `ended`: the other end closed or reset, and the
line does not tell which. `unexpected_answer` is an HTTP status that the caller did not expect: TCP was well. `canceled`: who had asked
went away.
"""

About = Literal["upstream", "client"]

Ports = tuple[int | None, int | None]

SECOND_NS = 1_000_000_000

LONGEST_MESSAGE = 2000
"""Characters of a message that are kept."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedLine:
    """What a dialect reads in one line."""

    kind: What | None
    """None for a line that only tells addresses for later lines (`key`)."""
    failing: bool
    message: str
    local: str | None = None
    """`ip:port` of the program's own end."""
    remote: str | None = None
    """`ip:port` of the other end."""
    client: str | None = None
    """The address of who asked the program, where the line names it, without a port."""
    about: About | None = None
    """Which of the program's connections the line speaks of."""
    also: tuple[tuple[str, str], ...] = ()
    """Further pairs (local, remote) that the line names, of which it does not say that they failed."""
    key: str | None = None
    """Lines of one file with the same key speak of the same session."""
    ports: Ports = (None, None)
    """The ports of `local` and `remote` where the line names their hosts by name only."""
    asked: str | None = None
    """The path of the request, where the line has it as it was sent on the connection that it speaks of."""
    waited_ns: int | None = None
    """How long the program had waited when it gave up or was told, where the line says so."""
    naive_time_ns: int | None = None
    """The wall clock that the line shows, as nanoseconds since 1970 as if it were UTC."""
    time_precision_ns: int = SECOND_NS
    zone_offset_s: int | None = None
    """East of Greenwich, where the line names its zone."""


@dataclasses.dataclass(frozen=True, slots=True)
class LogEvent:
    """One line of a log that speaks of a connection."""

    source: Source
    time_ns: int | None
    """Nanoseconds since 1970 UTC by the clock of the host that wrote; None where the line's zone or time is
    not known."""
    naive_time_ns: int | None
    """The wall clock of the line as if it were UTC; None where the line has no time."""
    time_precision_ns: int
    """The event was at most this much later than the time: logs cut, they do not round."""
    time_zone_known: bool
    dialect: str
    kind: What
    failing: bool
    local: str | None
    remote: str | None
    client: str | None
    about: About | None
    also: tuple[tuple[str, str], ...]
    ports: Ports
    asked: str | None
    waited_ns: int | None
    message: str
    """As it stands in the log, control characters and all, at most LONGEST_MESSAGE characters."""


_DIGITS = re.compile(r"[0-9]{1,5}", re.ASCII)


def address(text: str) -> str | None:
    """An IP address in its canonical spelling (IPv4-mapped as IPv4, no scope), or None."""
    if len(text) > 64:
        return None
    try:
        found = ipaddress.ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(found)


def endpoint(text: str) -> str | None:
    """`ip:port` or `[ip]:port` in its canonical spelling.

    None for names, for port 0 and for anything else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not _DIGITS.fullmatch(port) or not 0 < int(port) < 65536:
        return None
    if ":" in host and not host.startswith("["):
        return None
    found = address(host)
    if found is None:
        return None
    return f"[{found}]:{int(port)}" if ":" in found else f"{found}:{int(port)}"


def ports_of(local: str, remote: str) -> Ports:
    """The ports of two ends that are written as `name:port`; None where one has none."""
    return _port_of(local), _port_of(remote)


def _port_of(text: str) -> int | None:
    host, colon, port = text.rpartition(":")
    return int(port) if colon and host and _DIGITS.fullmatch(port) and 0 < int(port) < 65536 else None


def seconds_ns(text: str) -> int | None:
    """Seconds with at most nine decimals (`1.5`, `60`) as nanoseconds; None for anything else."""
    whole, _, part = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) <= 12) or (part and not (part.isascii() and part.isdigit())):
        return None
    return int(whole) * SECOND_NS + int((part + "0" * 9)[:9])
