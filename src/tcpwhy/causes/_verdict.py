"""The three answers of a cause: found with proof, ruled out with a reason, open with what would decide it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import ACK, RST, SYN, Sighting, flag_text

Basis = Literal["one place", "two places", "state"]
"""What a finding rests on: packets at one place, packets at several, or packets and a host's state."""

Cap = Literal["confirmed", "likely", "possible"]


@dataclasses.dataclass(frozen=True, slots=True)
class Exhibit:
    """One fact that a verdict rests on, and where it stands."""

    kind: Literal["packet", "state", "log", "counter"]
    vantage_point: str
    file: str
    text: str
    frame: int | None = None
    line: int | None = None
    time_ns: int | None = None
    """By the vantage point's clock."""
    segment: Segment | None = None
    note: str = ""
    """What the ladder says beside the segment."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The cause is there, and this proves it. Without proof it cannot be made."""

    statement: str
    """A whole sentence in the present tense."""
    exhibits: tuple[Exhibit, ...]
    basis: Basis
    where: tuple[str, str] | str | None
    """Between two places, or at one."""
    explanation: str
    at_ns: int
    """When it struck, aligned."""
    excludes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Causes that this proof contradicts, and why."""
    at_most: Cap = "confirmed"
    """The surest this can be, where something that looks alike is not told apart by any packet."""
    next_evidence: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.exhibits:
            raise ValueError("a cause is found by evidence, and none was given")


@dataclasses.dataclass(frozen=True, slots=True)
class RuledOut:
    """The evidence contradicts the cause."""

    because: str
    exhibits: tuple[Exhibit, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Open:
    """The cause fits as far as can be seen; this would decide it."""

    because: str
    next_evidence: tuple[str, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    where: tuple[str, str] | str | None = None


Verdict = Found | RuledOut | Open


def describe(segment: Segment, connection: Connection) -> str:
    """A segment in the field's words, sequence numbers relative to the connection's first ones."""
    arrow = f"{connection.client} → {connection.server}" if segment.sender == "client" else f"{connection.server} → {connection.client}"
    parts = [arrow, flag_text(segment.flags)]
    if segment.flags & SYN:
        parts.append(f"seq {segment.seq}")
    else:
        parts.append(f"seq {relative(segment, connection, own=True)}")
    if segment.flags & ACK:
        parts.append(f"ack {segment.ack if segment.flags & RST and segment.seq == 0 else relative(segment, connection, own=False)}")
    if segment.length:
        parts.append(f"len {segment.length}")
    return " ".join(parts)


def relative(segment: Segment, connection: Connection, *, own: bool) -> int:
    """A sequence (`own`) or acknowledgment number, relative to the ISN of its space, or to the first number seen of it."""
    of_client = (segment.sender == "client") == own
    number = segment.seq if own else segment.ack
    base = connection.client_isn if of_client else connection.server_isn
    if base is None:
        side = "client" if of_client else "server"
        firsts = [other.seq for other in connection.segments if other.sender == side and not other.is_reset]
        acks = [other.ack for other in connection.segments if other.sender != side and other.flags & ACK]
        base = (firsts[0] if firsts else acks[0] if acks else number) - 1
    return (number - base) & 0xFFFF_FFFF


def times(count: int) -> str:
    """`once`, `3 times`."""
    return "once" if count == 1 else f"{count} times"


def exhibit(segment: Segment, connection: Connection, note: str, place: str | None = None) -> Exhibit:
    """A segment as evidence, as `place` saw it, or as the place nearest to its sender did."""
    sighting: Sighting | None = segment.sighting_at(place) if place is not None else segment.first
    if sighting is None:
        raise ValueError(f"{place} did not see {segment!r}")
    packet = sighting.packet
    return Exhibit(
        kind="packet",
        vantage_point=packet.vantage_point,
        file=packet.file,
        frame=packet.frame,
        time_ns=packet.time_ns,
        text=f"{describe(segment, connection)}: {note}",
        segment=segment,
        note=note,
    )
