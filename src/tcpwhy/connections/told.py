"""Log lines that speak of a connection, as facts that connections carry: mute data for failures and causes, set by diagnosis/logs.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tcpwhy.connections.answers import HTTP_METHODS
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, Failure, Kind
from tcpwhy.connections.packet import Side
from tcpwhy.tables.logs._event import About, What


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One line of a log that speaks of this connection."""

    kind: What
    """What happened, from the point of view of the program that wrote it."""
    failing: bool
    """The program met an error or a timeout; False for lines that only mention the connection."""
    speaker: Side | None
    """The end whose program wrote it; None where neither addresses nor words tell."""
    about: About | None
    message: str
    vantage_point: str
    file: str
    line: int | None
    time_ns: int | None
    """By the clock of the host that wrote it; None where the zone is not known."""
    aligned_ns: int | None
    """On the common clock, or by the clock of the host that wrote it where that could not be aligned."""
    precision_ns: int
    """It was written at most this much later than its time says."""
    waited_ns: int | None
    """How long the program had waited, where the line says so."""
    by_ports: bool
    """Tied by both addresses and ports; else by the server's address, the time and what it says."""
    alone: bool
    """It can speak of no other connection of the case."""


def told_of(lines: Sequence[Told], *kinds: What, by: Side | None = None) -> list[Told]:
    """The failing lines of these kinds that can speak of no other connection, in the order of time where it is known.

    `by`: only those that this end's program wrote.
    """
    fitting = [one for one in lines if one.failing and one.alone and one.kind in kinds and by in (None, one.speaker)]
    return sorted(fitting, key=lambda one: (one.aligned_ns is None, one.aligned_ns or 0, one.file, one.line or 0))


def failure_by_log(connection: Connection) -> Failure | None:
    """The failure that the client's own log tells of a connection that waited when the line was written, although no packet shows its end.

    As when the capture ends before the client gives up. Only lines that can speak of no other connection count.
    """
    for line in told_of(connection.told, "timeout_connecting", "timeout_reading", "timeout", by="client"):
        at_ns = line.aligned_ns
        where = f"{line.file}:{line.line}"
        if line.kind != "timeout_reading" and waits_for_handshake(connection, at_ns):
            symptom = f"the client's SYN was not answered, and {where} says that it gave up"
            return Failure(Kind.UNANSWERED, symptom, tuple(connection.syns), at_ns or connection.syns[-1].aligned_ns)
        request = None if line.kind == "timeout_connecting" else request_open_at(connection, at_ns)
        if request is not None:
            end_ns = request.aligned_ns if at_ns is None else at_ns
            waited = "" if at_ns is None else f" for {(end_ns - request.aligned_ns) / SECOND_NS:.1f} s"
            symptom = f"the client's request was not answered{waited}, and {where} says that it gave up"
            return Failure(Kind.GAVE_UP, symptom, (request,), end_ns)
    return None


def waits_for_handshake(connection: Connection, at_ns: int | None) -> bool:
    """At this moment the client had sent its SYN and no answer had come, nor came later."""
    syns = connection.syns
    return bool(syns) and not connection.syn_acks and not connection.established and (at_ns is None or syns[0].aligned_ns <= at_ns)


def request_open_at(connection: Connection, at_ns: int | None) -> Segment | None:
    """The HTTP request that the client had sent last by this moment, if no byte of an answer had come by then; None otherwise."""
    if not any(segment.sender == "server" for segment in connection.segments):
        return None  # One direction only was captured: nobody knows what was answered.
    request: Segment | None = None
    for segment in connection.segments:
        if at_ns is not None and segment.aligned_ns > at_ns:
            break
        if not segment.length or segment.is_reset or segment.retransmits is not None:
            continue
        if segment.sender == "server":
            request = None
        elif segment.packet.payload.startswith(HTTP_METHODS):
            request = segment
    return request
