"""The words for how a connection fails: what all that look for failures hand out."""

from __future__ import annotations

import dataclasses
import enum

from tcpwhy.connections.connection import Segment

SECOND_NS = 1_000_000_000

SILENT_REPEATS = 3
"""Retransmissions or probes without anything back that make a silence a failure (docs/json.md) …"""

SILENT_SPAN_NS = 3 * SECOND_NS
"""… over at least so long."""

SLOW_NS = 3 * SECOND_NS
"""What holds a connection up for so long is a failure although it went on (docs/json.md; `--slow`)."""


class Kind(enum.Enum):
    """How a connection failed."""

    UNANSWERED = "the client's SYN was never answered"
    REFUSED = "the client's SYN was answered with RST"
    PROHIBITED = "the client's SYN was answered with an ICMP error"
    HALF_OPEN = "the server's SYN-ACK was never acknowledged"
    RESET = "the connection was reset with data undelivered or unanswered"
    SILENT = "one end fell silent: data was repeated and never acknowledged"
    GAVE_UP = "the connection was closed before the request was answered"
    STALLED = "data was held up for long before it got through"
    LOSSY = "packets of it were lost on a link that loses many, and were made good"
    REPORTED = "the client's log reports an error, although TCP delivered an answer"

    @property
    def in_handshake(self) -> bool:
        """The connection was never established."""
        return self in (Kind.UNANSWERED, Kind.REFUSED, Kind.PROHIBITED, Kind.HALF_OPEN)


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """That a connection failed, and what shows it."""

    kind: Kind
    symptom: str
    segments: tuple[Segment, ...]
    at_ns: int
    """When it was over, aligned."""
