"""Failing log lines and connections go in; which line speaks of which connection comes out, and which of none."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from tcpwhy.connections.connection import Connection
from tcpwhy.connections.kinds import Kind
from tcpwhy.connections.packet import Endpoint, Side
from tcpwhy.connections.told import Told, request_open_at, waits_for_handshake
from tcpwhy.diagnosis.finding import Evidence, Unexplained
from tcpwhy.diagnosis.log_book import Book, How, end_ns
from tcpwhy.diagnosis.telling import iso
from tcpwhy.tables.logs._event import LogEvent

BEFORE_NS = 2_000_000_000
"""A line may carry a time so much earlier than the packet: its clock is cut to a second, and the program's own."""

AFTER_NS = 5_000_000_000
"""A program logs a failure within this time of the packet that ends it."""

AT_ONCE_NS = 50_000_000
"""Between a packet and the line about it where the program was not busy, and rounding of clocks."""

LONGEST_TIMEOUT_NS = 75_000_000_000
"""A program that waits for a connect or an answer waits at most so long beyond the last packet (nginx: proxy_connect_timeout may not
exceed 75 s; Go's Dialer waits 30 s)."""

TIMEOUTS = ("timeout_connecting", "timeout_reading", "timeout_writing", "timeout")

OWN_DOING = ("canceled", "closed_locally", "idle_closed")
"""Said by a program that ended the connection itself, or whose client did: of a connection that did well it is no failure."""

ZONE_STEP_NS = 900_000_000_000
"""Time zones differ by quarters of an hour (tz database, since 1972): a clock without a zone is right up to a multiple of this."""

ZONES_NS = tuple(range(-12 * 4 * ZONE_STEP_NS, 14 * 4 * ZONE_STEP_NS + 1, ZONE_STEP_NS))
"""All zones there are, nanoseconds east of Greenwich (tz database)."""

FEWEST_FOR_A_ZONE = 3
"""Lines that must fit failed connections in one zone, and hardly any in another, before a log's clock is read in it."""

LINES_FOR_A_ZONE = 40

MOST_LINES = 20_000
"""Failing lines that are tied; there is no telling so many apart by eye."""

MOST_CANDIDATES = 200
"""Connections that a line is compared with."""

Align = Callable[[str, int], int | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Tied:
    """A line and the connections that it can speak of."""

    event: LogEvent
    connections: tuple[Connection, ...]
    how: How

    @property
    def failed(self) -> bool:
        """Some of them failed."""
        return any(one.failure is not None for one in self.connections)


@dataclasses.dataclass(frozen=True, slots=True)
class _Moment:
    """When a line was written, as far as it is known."""

    at_ns: int | None
    """On the common clock."""
    naive_ns: int | None
    """Where the zone is not known: true up to a multiple of ZONE_STEP_NS."""
    precision_ns: int

    def within(self, early_ns: int, late_ns: int) -> bool:
        """It can lie between these."""
        if self.at_ns is not None:
            return early_ns <= self.at_ns + self.precision_ns and self.at_ns <= late_ns
        if self.naive_ns is not None:
            return (self.naive_ns + self.precision_ns - early_ns) % ZONE_STEP_NS <= late_ns - early_ns + self.precision_ns
        return True


def tie(events: Iterable[LogEvent], connections: Iterable[Connection], align: Align) -> list[Tied]:
    """Ties each failing line to the connections that it can speak of, failed ones first.

    A line that names both ends is tied to the connection with these. One that names less is tied to failed connections that all it says
    fits, or, a timeout, to one that waited when it was written. None is forced: a line that fits none is tied to none.
    """
    book = Book(connections)
    tied = []
    failing = [event for event in events if event.failing][:MOST_LINES]
    zones = _settled_zones(failing, book, align)
    for event in failing:
        if event.time_ns is None and event.naive_time_ns is not None and event.source.file in zones:
            event = dataclasses.replace(event, time_ns=event.naive_time_ns - zones[event.source.file])
        tied.append(_tied(event, book, align))
    return tied


def _tied(event: LogEvent, book: Book, align: Align) -> Tied:
    time_ns = None if event.time_ns is None else (align(event.source.vantage_point, event.time_ns) or event.time_ns)
    moment = _Moment(time_ns, None if time_ns is not None else event.naive_time_ns, event.time_precision_ns)
    how, candidates = book.candidates(event)
    return Tied(event, tuple(_fitting(_near(candidates, moment), how, event, moment)), how)


def _near(candidates: Sequence[Connection], moment: _Moment) -> Sequence[Connection]:
    """Of very many connections those that ended nearest to the line: a storm of failures is not compared line by line."""
    if len(candidates) <= MOST_CANDIDATES or moment.at_ns is None:
        return candidates[:MOST_CANDIDATES]
    # Lists of a book are in the order of their ends.
    at = bisect.bisect_left(candidates, moment.at_ns, key=end_ns)
    return candidates[max(0, at - MOST_CANDIDATES // 2) : at + MOST_CANDIDATES // 2]


def _settled_zones(events: Sequence[LogEvent], book: Book, align: Align) -> dict[str, int]:
    """By log that names no zone: the only one, nanoseconds east, in which its lines fit failed connections, if enough of them do."""
    of_file: dict[str, list[LogEvent]] = {}
    for event in events:
        if event.time_ns is None and event.naive_time_ns is not None:
            of_file.setdefault(event.source.file, []).append(event)
    settled = {}
    for file, lines in of_file.items():
        fitting = dict.fromkeys(ZONES_NS, 0)
        for event in lines[:LINES_FOR_A_ZONE]:
            for zone in ZONES_NS:
                tied = _tied(dataclasses.replace(event, time_ns=(event.naive_time_ns or 0) - zone), book, align)
                fitting[zone] += tied.failed
        best, second = sorted(ZONES_NS, key=lambda zone: -fitting[zone])[:2]
        if fitting[best] >= FEWEST_FOR_A_ZONE and fitting[best] >= 4 * fitting[second]:
            settled[file] = best
    return settled


def _fitting(candidates: Sequence[Connection], how: How, event: LogEvent, moment: _Moment) -> list[Connection]:
    by_ports = how in ("ports", "port")
    if not by_ports and moment.at_ns is None:
        # Without ports only time and content tell connections apart.
        candidates = [one for one in candidates if event.asked and _asks(one, event.asked)]
    if how != "ports":
        candidates = [one for one in candidates if _may_have_written(one, event)]
    in_time = [one for one in candidates if _in_time(one, event, moment)]
    failed = [one for one in in_time if one.failure is not None and (how == "ports" or _same_kind(one, event))]
    if not failed:
        failed = [one for one in candidates if one.failure is None and _waits(one, event, moment)]
    if not failed and by_ports:
        failed = [one for one in in_time if one.failure is None]  # it did well, whatever the line says
    if event.asked and len(failed) > 1:
        failed = [one for one in failed if _asks(one, event.asked)] or failed
    if len(failed) > 1:
        failed = _at_once(failed, event, moment) or failed
    return _nearest(failed, moment.at_ns) if by_ports else failed


def _may_have_written(connection: Connection, event: LogEvent) -> bool:
    """The host that wrote the line can be the end that the line makes it: the client towards an upstream server, else the server.

    A place that saw other connections to the server would have seen this one too.
    """
    place, topology = event.source.vantage_point, connection.topology
    if place in connection.views:
        at_client = connection.is_client_host(place)
        return at_client is not False if event.about == "upstream" else event.about is None or at_client is not True
    if any((place, view.server.ip, view.server.port) in topology.by_server for view in connection.views.values()):
        return False
    own = topology.addresses.get(place, frozenset())
    if not own or event.about is None:
        return True
    return any((view.client if event.about == "upstream" else view.server).ip in own for view in connection.views.values())


def _at_once(connections: Sequence[Connection], event: LogEvent, moment: _Moment) -> list[Connection]:
    """Those that ended when the line was written, by the clock of one host: where some did, the line speaks of one of these.

    A connect that is given up ends long after its last packet.
    """
    if moment.at_ns is None or event.kind in ("timeout_connecting", "timeout", "unreachable"):
        return []
    early_ns, late_ns = moment.at_ns - AT_ONCE_NS, moment.at_ns + moment.precision_ns + AT_ONCE_NS
    place = event.source.vantage_point
    return [one for one in connections if place in one.views and early_ns <= end_ns(one) <= late_ns]


def _nearest(connections: list[Connection], time_ns: int | None) -> list[Connection]:
    """Of several attempts with the same ends, the one that ended nearest to the line; all of them where its time is not known."""
    if len(connections) < 2 or time_ns is None:
        return connections
    return [min(connections, key=lambda one: abs(end_ns(one) - time_ns))]


def _in_time(connection: Connection, event: LogEvent, moment: _Moment) -> bool:
    if not connection.segments:
        return moment.at_ns is None
    ended_ns = end_ns(connection)
    start_ns = connection.segments[0].aligned_ns
    late_ns = LONGEST_TIMEOUT_NS if event.kind in TIMEOUTS else AFTER_NS
    early_ns = start_ns if event.kind in TIMEOUTS or connection.failure is None else ended_ns
    return moment.within(early_ns - BEFORE_NS, max(ended_ns, start_ns) + late_ns)


def _waits(connection: Connection, event: LogEvent, moment: _Moment) -> bool:
    """True for a connection that had neither failed nor been answered when the line says that its client gave up."""
    if (
        event.kind not in TIMEOUTS
        or not connection.segments
        or moment.at_ns is None
        or event.about == "client"
        or not event.time_zone_known
    ):
        return False
    if not moment.within(connection.segments[0].aligned_ns, connection.segments[-1].aligned_ns + LONGEST_TIMEOUT_NS):
        return False
    latest_ns = moment.at_ns + moment.precision_ns
    connecting = event.kind in ("timeout_connecting", "timeout") and waits_for_handshake(connection, latest_ns)
    return connecting or (event.kind in ("timeout_reading", "timeout") and request_open_at(connection, latest_ns) is not None)


def _same_kind(connection: Connection, event: LogEvent) -> bool:
    """What the line says can have happened to this connection, by its packets."""
    if connection.failure is None:
        return False
    if event.kind == "refused":
        return connection.failure.kind in (Kind.REFUSED, Kind.PROHIBITED, Kind.HALF_OPEN)
    if event.kind in ("timeout_connecting", "unreachable"):
        return connection.failure.kind.in_handshake and connection.failure.kind is not Kind.REFUSED
    if event.kind in ("reset", "broken_pipe"):
        return bool(connection.resets) and not connection.failure.kind.in_handshake
    if event.kind in ("eof", "idle_closed"):
        speaker = speaker_of(connection, event)
        return any(segment.is_fin and segment.sender != speaker for segment in connection.segments)
    if event.kind in ("timeout_reading", "timeout_writing", "ended"):
        return not connection.failure.kind.in_handshake
    return True


def _asks(connection: Connection, path: str) -> bool:
    """Its client asks for this path, as far as captures hold what it says."""
    asked = f" {path}".encode()
    return any(segment.sender == "client" and asked in segment.packet.payload[: len(asked) + 400] for segment in connection.segments)


def speaker_of(connection: Connection, event: LogEvent) -> Side | None:
    """The end whose program wrote the line."""
    own_port, _ = event.ports
    own = None if event.local is None else Endpoint.parse(event.local)
    for view in connection.views.values():
        for client, server in ((view.client, view.server), *view.translated):
            if own == client or (own_port is not None and own_port == client.port != server.port):
                return "client"
            if own == server or (own_port is not None and own_port == server.port != client.port):
                return "server"
    return None if event.about is None else "client" if event.about == "upstream" else "server"


def set_told(connections: Iterable[Connection], tied: Iterable[Tied], align: Align) -> None:
    """Gives each connection the lines that can speak of it."""
    for connection in connections:
        connection.told = []
    for line in tied:
        event = line.event
        aligned = None if event.time_ns is None else align(event.source.vantage_point, event.time_ns)
        for connection in line.connections:
            connection.told.append(
                Told(
                    kind=event.kind,
                    failing=event.failing,
                    speaker=speaker_of(connection, event),
                    about=event.about,
                    message=event.message,
                    vantage_point=event.source.vantage_point,
                    file=event.source.file,
                    line=event.source.line,
                    time_ns=event.time_ns,
                    aligned_ns=event.time_ns if aligned is None else aligned,
                    precision_ns=event.time_precision_ns,
                    waited_ns=event.waited_ns,
                    by_ports=line.how == "ports",
                    alone=len(line.connections) == 1,
                )
            )


_PRINTED: dict[How, tuple[str, str]] = {
    "ports": ("", "ports"),
    "port": ("one end printed", "port and time"),
    "address": ("no port printed", "time and address"),
    "time": ("no address printed", "time and what it says"),
}
"""By what ties a line: what it prints, and what it is tied by."""


def log_evidence(tied: Tied, align: Align, shared: int) -> Evidence:
    """A line as evidence of a finding; `shared` connections of the finding fit it."""
    event = tied.event
    aligned = None if event.time_ns is None else align(event.source.vantage_point, event.time_ns)
    what, by = _PRINTED[tied.how]
    if tied.how == "port" and any(event.ports):
        what, by = "hosts printed by name", "ports"
    how = f"tied by {by}" if shared == 1 else f"by {by} it is one of {shared} connections"
    note = "" if tied.how == "ports" and shared == 1 else f" ({what}: {how})" if what else f" ({how})"
    return Evidence(
        kind="log",
        vantage_point=event.source.vantage_point,
        file=event.source.file,
        line=event.source.line,
        time=None if event.time_ns is None else iso(event.time_ns),
        aligned_time=None if aligned is None else iso(aligned),
        text=event.message + note,
    )


def is_unexplained(tied: Tied) -> bool:
    """No failed connection explains the line, and it is not the end of one that did well, which its program or its client chose."""
    return not tied.failed and not (tied.connections and tied.event.kind in OWN_DOING)


def untied(tied: Tied) -> Unexplained:
    """A failing line that no failed connection explains."""
    event = tied.event
    time = None if event.time_ns is None else iso(event.time_ns)
    why = "in the captures this connection shows no failure" if tied.connections else "no failed connection in the captures fits this line"
    return Unexplained(
        client=event.remote if event.about == "client" else event.local,
        server=event.local if event.about == "client" else event.remote,
        first=time,
        last=time,
        symptom=f"{event.source.file}:{event.source.line}: {event.message} ({why})",
    )
