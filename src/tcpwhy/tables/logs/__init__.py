"""Logs of a vantage point go in, the lines that speak of a connection come out, whichever program wrote them.

A dialect is a file of this folder and is found by being here. It has MARKERS, without any of which no line is its own, and a function
`parse` for lines of text, `parse_object` for the members of a JSON line and its text, or both. It may also have `unfinished`, which tells
that a record goes on in the next line; CONTINUES, words of a line that tells more of the failure before it; and BETWEEN, words of lines
that stand between two lines about one failure.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import pkgutil
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from tcpwhy.evidence import Evidence, Source, VantagePoint
from tcpwhy.evidence.compression import CompressionError, open_plain
from tcpwhy.tables.logs._event import LONGEST_MESSAGE, SECOND_NS, LogEvent, ParsedLine, What
from tcpwhy.tables.logs._marked_lines import LONGEST_LINE, MarkedLines
from tcpwhy.tables.logs._wrapping import Stamp, named_ends, unwrap

__all__ = ["Dialect", "LogEvent", "LogReading", "ParsedLine", "What", "dialects", "read_log", "read_logs", "told_time"]

MOST_EVENTS = 500_000
"""Events of one vantage point that are kept."""

MOST_SESSIONS = 20_000
"""Sessions whose addresses are remembered for later lines of theirs."""

JOINED_LINES = 16
"""Lines that one record may take."""

LINES_OF_ONE_FAILURE = 250
"""An exception that was raised while another was handled stands at most so many lines below it."""

LINES_TO_A_TIME = 120
"""A line without a time has that of the nearest line above it that has one, at most so far away: stack traces stand below their message."""

_PARTIAL_MARKERS = (b" stdout P", b" stderr P")
"""Of lines that go on in the next record of their stream (Kubernetes CRI logging format)."""


def _nothing(_line: str) -> ParsedLine | None:
    return None


def _nothing_of_object(_fields: Mapping[str, Any], _text: str) -> ParsedLine | None:
    return None


def _finished(_line: str) -> bool:
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    """What one program's lines look like."""

    name: str
    markers: tuple[bytes, ...]
    parse: Callable[[str], ParsedLine | None] = _nothing
    parse_object: Callable[[Mapping[str, Any], str], ParsedLine | None] = _nothing_of_object
    unfinished: Callable[[str], bool] = _finished
    continues: tuple[bytes, ...] = ()
    between: tuple[bytes, ...] = ()


@dataclasses.dataclass(slots=True)
class LogReading:
    """The events of a vantage point's logs, file by file in the order of their lines, and what was read."""

    events: list[LogEvent] = dataclasses.field(default_factory=list)
    lines: int = 0
    recognised: int = 0
    """Lines that a dialect understood."""
    failing: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    losses: list[str] = dataclasses.field(default_factory=list)
    """What could not be read."""


@cache
def dialects() -> tuple[Dialect, ...]:
    """All dialects, in the order of their names."""
    found = []
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        found.append(
            Dialect(
                name=module_info.name,
                markers=tuple(marker.encode() for marker in module.MARKERS),
                parse=getattr(module, "parse", _nothing),
                parse_object=getattr(module, "parse_object", _nothing_of_object),
                unfinished=getattr(module, "unfinished", _finished),
                continues=tuple(word.encode() for word in getattr(module, "CONTINUES", ())),
                between=tuple(word.encode() for word in getattr(module, "BETWEEN", ())),
            )
        )
    return tuple(sorted(found, key=lambda dialect: dialect.name))


def read_logs(evidence: Evidence, vantage_point: VantagePoint) -> LogReading:
    """All logs of a vantage point. Nothing is raised for what a log holds: losses are in the answer."""
    reading = LogReading()
    offset = None
    if vantage_point.log_timezone is None and vantage_point.state is not None:
        offset = vantage_point.state.host.utc_offset_s
    for path in vantage_point.logs:
        source = evidence.source(vantage_point.name, path)
        read_log(path, source, reading, zone=vantage_point.log_timezone, utc_offset_s=offset)
    return reading


def read_log(
    path: Path,
    source: Source,
    reading: LogReading,
    *,
    zone: str | None = None,
    utc_offset_s: int | None = None,
) -> None:
    """Add one log, plain or compressed, to `reading`.

    `zone` is the time zone of lines that name none, `utc_offset_s` the host's where the zone is not known.
    Memory is bounded by the events kept. A damaged or missing file is a loss.
    """
    file = _File(source, reading, zoneinfo.ZoneInfo(zone) if zone else None, utc_offset_s)
    try:
        with open_plain(path) as stream:
            file.read(stream)
    except CompressionError as error:
        reading.losses.append(f"{source.file}: read as far as line {file.number}; {error}")
    except OSError as error:
        reading.losses.append(f"{source.file} cannot be read ({error.strerror or error})")
    file.finish()


class _File:
    """One log while it is read."""

    def __init__(self, source: Source, reading: LogReading, zone: zoneinfo.ZoneInfo | None, utc_offset_s: int | None) -> None:
        self._source = source
        self._reading = reading
        self._zone = zone
        self._utc_offset_s = utc_offset_s
        self._dialects = dialects()
        self._lines: MarkedLines | None = None
        self._sessions: OrderedDict[str, list[ParsedLine]] = OrderedDict()
        self._partial: dict[str, tuple[int, str]] = {}
        self._open: tuple[int, str, Stamp | None, Dialect, int] | None = None
        self._last: tuple[int, str] | None = None
        """The line and the dialect of the event that was kept last."""
        self._looked: tuple[int, int, Stamp | None] = (0, 0, None)
        """Until which line times were looked for, the line that had the last one, and that time."""
        self._full = False

    @property
    def number(self) -> int:
        """The line that was taken last."""
        return 0 if self._lines is None else self._lines.number

    def read(self, stream: BinaryIO) -> None:
        """All lines; those around a marked one only where a record takes several."""
        markers = {marker for dialect in self._dialects for marker in dialect.markers}
        self._lines = lines = MarkedLines(stream, sorted({*markers, *_PARTIAL_MARKERS}))
        try:
            while (raw := lines.next_line() if self._open or self._partial else lines.next_marked()) is not None:
                self._take(raw)
        finally:
            self._reading.lines += lines.lines

    def _take(self, raw: bytes) -> None:
        wrapped = unwrap(raw.decode("utf-8", "replace").strip("\0").rstrip("\r\n"))
        number, text = self.number, wrapped.text
        stream = wrapped.partial or "stdout"
        if stream in self._partial and not wrapped.partial:
            number, before = self._partial.pop(stream)
            text = (before + text)[:LONGEST_LINE]
        if wrapped.partial:
            first, before = self._partial.get(stream, (number, ""))
            self._partial[stream] = (first, (before + text)[:LONGEST_LINE])
            return
        self._record(number, text, wrapped.stamp, wrapped.fields)

    def finish(self) -> None:
        """What was still open at the end of the file."""
        for number, text in self._partial.values():
            self._record(number, text, None, None)
        self._partial = {}
        self._close_open()

    def _record(self, number: int, text: str, stamp: Stamp | None, fields: Mapping[str, Any] | None) -> None:
        if self._open is not None:
            first, before, first_stamp, dialect, count = self._open
            if dialect.parse(text) is None and count < JOINED_LINES:
                joined = (before + "\n" + text)[:LONGEST_LINE]
                self._open = (first, joined, first_stamp, dialect, count + 1)
                if not dialect.unfinished(joined):
                    self._close_open()
                return
            self._close_open()
        if fields is not None:
            for dialect in self._dialects:
                parsed = dialect.parse_object(fields, text)
                if parsed is not None:
                    self._add(number, dialect, parsed, stamp, fields)
                    return
        for dialect in self._dialects:
            if dialect.unfinished(text):
                self._open = (number, text, stamp, dialect, 1)
                return
            parsed = dialect.parse(text)
            if parsed is not None:
                self._add(number, dialect, parsed, stamp, fields)
                return

    def _close_open(self) -> None:
        if self._open is None:
            return
        number, text, stamp, dialect, _ = self._open
        self._open = None
        parsed = dialect.parse(text)
        if parsed is not None:
            self._add(number, dialect, parsed, stamp, None)

    def _add(self, number: int, dialect: Dialect, parsed: ParsedLine, stamp: Stamp | None, fields: Mapping[str, Any] | None) -> None:
        reading = self._reading
        reading.recognised += 1
        if parsed.kind is None:
            self._learn(parsed)
            return
        reading.failing += parsed.failing
        if fields is not None and not (parsed.local and parsed.remote) and (ends := named_ends(fields)) is not None:
            parsed = dataclasses.replace(parsed, also=(*parsed.also, ends))
        if stamp is None and parsed.naive_time_ns is None:
            stamp = self._time_above()
        if len(reading.events) >= MOST_EVENTS:
            if not self._full:
                self._full = True
                reading.losses.append(
                    f"{self._source.file}: more than {MOST_EVENTS} lines speak of connections; from line {number} they are counted only"
                )
            return
        parsed = self._with_session(parsed)
        naive, precision, time = told_time(parsed, stamp, self._zone, self._utc_offset_s)
        event = LogEvent(
            source=dataclasses.replace(self._source, line=number),
            time_ns=time,
            naive_time_ns=naive,
            time_precision_ns=precision,
            time_zone_known=time is not None,
            dialect=dialect.name,
            kind=parsed.kind or "other",
            failing=parsed.failing,
            local=parsed.local,
            remote=parsed.remote,
            client=parsed.client,
            about=parsed.about,
            also=parsed.also,
            ports=parsed.ports,
            asked=parsed.asked,
            waited_ns=parsed.waited_ns,
            message=parsed.message[:LONGEST_MESSAGE],
        )
        if self._goes_on(number, dialect):
            reading.failing -= reading.events[-1].failing
            reading.events[-1] = _merged(reading.events[-1], event)
        else:
            reading.events.append(event)
        self._last = (number, dialect.name)

    def _goes_on(self, number: int, dialect: Dialect) -> bool:
        """True for what is raised because of, or while handling, what the last event told."""
        if self._last is None or self._last[1] != dialect.name or self._lines is None:
            return False
        apart = number - self._last[0]
        if not 0 < apart <= LINES_OF_ONE_FAILURE:
            return False
        here = self._lines.here
        if any(word in here for word in dialect.continues):
            return True
        joined = False
        for line in self._lines.before(apart - 1) if dialect.between else ():
            joined = joined or any(word in line for word in dialect.between)
            if unwrap(line[:400].decode("utf-8", "replace")).stamp is not None:
                return False  # another message of the program began
        return joined

    def _time_above(self) -> Stamp | None:
        """The time of the nearest line above that has one; each line is looked at once, however many ask."""
        if self._lines is None:
            return None
        asked, stamped, stamp = self._looked
        here = self.number
        for back, line in enumerate(self._lines.before(min(LINES_TO_A_TIME, here - asked)), 1):
            found = unwrap(line[:400].decode("utf-8", "replace")).stamp
            if found is not None:
                stamped, stamp = here - back, found
                break
        self._looked = (here, stamped, stamp)
        return stamp if here - stamped <= LINES_TO_A_TIME else None

    def _learn(self, parsed: ParsedLine) -> None:
        if parsed.key is None:
            return
        known = self._sessions.setdefault(parsed.key, [])
        known.append(parsed)
        del known[:-8]
        self._sessions.move_to_end(parsed.key)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def _with_session(self, parsed: ParsedLine) -> ParsedLine:
        """The addresses that earlier lines of the session told, where they fit what this line says itself."""
        if parsed.key is None or parsed.local is not None:
            return parsed
        for told in reversed(self._sessions.get(parsed.key, [])):
            if told.about == parsed.about and parsed.remote in (None, told.remote):
                return dataclasses.replace(parsed, local=told.local, remote=told.remote)
        return parsed


def _merged(first: LogEvent, then: LogEvent) -> LogEvent:
    """One failure of which two lines tell: what the later one leaves out is the earlier one's."""
    timed = first if then.naive_time_ns is None else then
    return dataclasses.replace(
        then,
        time_ns=timed.time_ns,
        naive_time_ns=timed.naive_time_ns,
        time_precision_ns=timed.time_precision_ns,
        time_zone_known=timed.time_zone_known,
        kind=first.kind if then.kind in ("other", "timeout", "closed_locally") else then.kind,
        failing=first.failing or then.failing,
        local=then.local or first.local,
        remote=then.remote or first.remote,
        about=then.about or first.about,
        asked=then.asked or first.asked,
        waited_ns=first.waited_ns if then.waited_ns is None else then.waited_ns,
    )


def told_time(
    parsed: ParsedLine, stamp: Stamp | None, zone: zoneinfo.ZoneInfo | None, utc_offset_s: int | None
) -> tuple[int | None, int, int | None]:
    """The wall clock of a line, its precision, and UTC where the zone is known: nanoseconds.

    A wrapper that names its zone wins. `zone` and `utc_offset_s` are for lines that name none, as in `read_log`.
    """
    naive, precision, offset = parsed.naive_time_ns, parsed.time_precision_ns, parsed.zone_offset_s
    if stamp is not None and (naive is None or (offset is None and stamp.zone_offset_s is not None)):
        naive, precision, offset = stamp.naive_ns, stamp.precision_ns, stamp.zone_offset_s
    if naive is None:
        return None, precision, None
    if offset is None and zone is not None:
        offset = _offset_in_zone(naive, zone)
    elif offset is None:
        offset = utc_offset_s
    return naive, precision, None if offset is None else naive - offset * SECOND_NS


def _offset_in_zone(naive: int, zone: zoneinfo.ZoneInfo) -> int | None:
    """Seconds east; None in the hour that a change of summer time makes ambiguous or leaves out."""
    wall = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=naive // SECOND_NS)
    early = wall.replace(tzinfo=zone, fold=0).utcoffset()
    late = wall.replace(tzinfo=zone, fold=1).utcoffset()
    if early is None or early != late:
        return None
    return int(early.total_seconds())
