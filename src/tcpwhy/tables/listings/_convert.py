"""One listing goes in; a capture of the packets that it shows, with the line of each, and what it cannot tell come out."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tcpwhy.evidence.pasted import Section, read_lines
from tcpwhy.tables.listings._bases import Samples
from tcpwhy.tables.listings._capture import HAS_IP_ID, HAS_PAYLOAD, HAS_TTL, IS_INFERRED, Writer
from tcpwhy.tables.listings._frames import frame_of
from tcpwhy.tables.listings._limits import Limits
from tcpwhy.tables.listings._numbers import Known, Numbering, Tuple, tuple_of
from tcpwhy.tables.listings._row import Row, Unreadable
from tcpwhy.tables.listings._stamps import STAMPED, Clock, Zone, read_stamp
from tcpwhy.tables.listings._text import Record, cleaned, read_records
from tcpwhy.tables.listings._whose import Attribution, Settled

OTHER_CLOCK_NS = 100_000_000
"""Two sections that show one packet so far apart were printed by two clocks; within one host its copies lie nearer to each other."""

SAMPLE = 2_000
"""Lines of a section in which its dialect is looked for."""

STAMPS = 200
"""Times looked at to tell what they are."""


class Dialect(Protocol):
    """What reads one listing."""

    name: str
    begins: re.Pattern[str]
    """Matches the first line of a record."""
    ends: re.Pattern[str]
    """Finds a line that belongs to no record."""

    def numbering(self, section: Section, known: Known) -> Numbering:
        """How it counts sequence numbers."""

    def read(self, record: Record) -> Row | None:
        """A record's packet; None for one that is neither TCP nor tells of it. Raises Unreadable."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """One text, and the sections of it that one place printed."""

    path: Path
    shown: str
    sections: tuple[Section, ...]
    zone: Zone | None
    """Of its host; None where it is not known."""
    day_ns: int | None
    """The midnight assumed where no date is told; None where nothing tells a date."""


@dataclasses.dataclass(slots=True)
class Converted:
    """A capture made of a listing."""

    path: Path
    table: Path
    packets: int
    first_ns: int | None
    notes: list[str]
    samples: Samples
    is_timed: bool
    is_dated: bool
    is_elapsed: bool
    """Times are since the listing's own beginning."""
    has_other_clock: bool
    """Its sections show the same packets at other times."""


def convert(listing: Listing, path: Path, known: Mapping[tuple[Tuple, int, bool], int] | None = None) -> Converted:
    """Writes the listing as a capture at `path`, and its table of lines beside it. Raises OSError where it cannot be read.

    `known`: bases of sequence numbers that other places tell.
    """
    table = path.with_suffix(".lines")
    unsure: frozenset[Tuple] = frozenset()
    while True:
        one = _Conversion(listing, known or {}, unsure)
        with Writer(path, table) as writer:
            one.write(writer)
        more = one.unsure - unsure
        if not more:
            break
        # What can belong to several connections makes each of them incomplete: they are left out in a second pass.
        unsure = unsure | frozenset(more)
    limits = one.limits
    limits.unsure = len(unsure)
    return Converted(
        path, table, writer.frames, writer.first_ns, limits.notes(listing), one.samples,
        limits.is_timed, limits.is_dated, limits.elapsed, one.has_other_clock,
    )  # fmt: skip


class _Conversion:
    """One pass over a listing."""

    def __init__(self, listing: Listing, known: Known, unsure: frozenset[Tuple]) -> None:
        self._listing = listing
        self._known = known
        self._unsure = unsure
        self.limits = Limits()
        self.samples = Samples()
        self.unsure: set[Tuple] = set(unsure)
        self.has_other_clock = False

    def write(self, writer: Writer) -> None:
        """Writes all sections in the order of time, what several of them show alike once only."""
        sections = self._listing.sections
        streams = [self._settled(section, number) for number, section in enumerate(sections)]
        seen: _Seen | None = _Seen() if len(sections) > 1 else None
        for number, interface, one in heapq.merge(*streams, key=lambda entry: entry[2].time_ns) if len(streams) != 1 else streams[0]:
            row = one.row
            if row.segment is not None and tuple_of(row)[0] in self._unsure:
                continue
            if seen is not None and seen.elsewhere(one, number):
                self.limits.doubles += 1
                self.has_other_clock = self.has_other_clock or seen.has_other_clock
                continue
            try:
                frame = frame_of(row, one_interface=bool(interface))
            except Unreadable:
                self.limits.unreadable += 1
                continue
            bits = self._bits(row) | (IS_INFERRED if one.is_inferred else 0)
            # Frames of one length more than others' of the same packet went through a tunnel: another place within the host.
            place = number << 16 | (row.frame_length - frame.original_length) & 0x7FFF if row.frame_length and row.number else number << 16
            writer.write(
                frame,
                time_ns=one.time_ns,
                interface=row.interface or interface,
                place=place,
                direction=row.direction,
                line=row.line,
                bits=bits,
            )
        lost = sum(section.dropped for section in sections)
        missing = self.limits.missing(sections)
        if lost or missing:
            writer.dropped(lost + missing)

    def _bits(self, row: Row) -> int:
        if row.raw:
            return HAS_IP_ID | HAS_TTL | HAS_PAYLOAD
        head = row.heads[-1] if row.heads else None
        bits = HAS_PAYLOAD if row.payload else 0
        if head is not None and head.ip_id is not None:
            bits |= HAS_IP_ID
        if head is not None and head.ttl is not None:
            bits |= HAS_TTL
        return bits

    def _settled(self, section: Section, number: int) -> Iterator[tuple[int, str, Settled]]:
        """The rows of a section, with its number and the interface that all of it is from, where that is told."""
        dialect = _dialect(self._listing.path, section)
        if dialect is None:
            self.limits.unknown_sections += 1
            return
        self.limits.dialects.add(dialect.name)
        numbering = dialect.numbering(section, self._known)
        attribution = Attribution(numbering)
        rows = self._rows(dialect, section)
        head = list(itertools.islice(rows, STAMPS))
        clock = Clock(
            [row.stamp for row in head],
            command=section.command,
            zone=self._listing.zone,
            day_ns=self._listing.day_ns or 0,
        )
        self.limits.clocks(clock, self._listing)
        interface = _interface_of(section)
        for row in itertools.chain(head, rows):
            time_ns = clock.time_ns(row.stamp)
            if row.segment is None and row.error is None and row.claim is None:
                continue  # it only moves the time on
            self.limits.see(row)
            for settled in attribution.feed(row, time_ns):
                self.samples.add(settled, numbering)
                yield number, interface, settled
        for settled in attribution.finish():
            self.samples.add(settled, numbering)
            yield number, interface, settled
        self.unsure |= attribution.unsure
        self.limits.unattributed += attribution.lost

    def _rows(self, dialect: Dialect, section: Section) -> Iterator[Row]:
        """All packets; of those that are neither TCP nor tell of it, or cannot be read, the time alone."""
        counted = 0
        for record in read_records(self._listing.path, section, dialect.begins, dialect.ends):
            counted += 1
            row: Row | None = None
            if record.is_packet:
                try:
                    row = dialect.read(record)
                except Unreadable:
                    self.limits.refuse(record.line)
            row = row or _time_alone(record, dialect)
            if row is not None:
                yield row
        self.limits.records[section.start] = counted


def _time_alone(record: Record, dialect: Dialect) -> Row | None:
    found = dialect.begins.match(record.lines[0]) or STAMPED.match(record.lines[0])
    if found is None or "hour" not in found.re.groupindex:
        return None
    try:
        return Row(record.line, read_stamp(found))
    except Unreadable:
        return None


class _Seen:
    """Packets that another section of the same place shows too."""

    def __init__(self) -> None:
        self._met: collections.OrderedDict[object, tuple[int, int]] = collections.OrderedDict()
        self.has_other_clock = False

    def elsewhere(self, one: Settled, section: int) -> bool:
        """True for a segment that was met in another section."""
        segment = one.row.segment
        if segment is None or one.row.raw:
            return False
        key = (one.row.ends, segment.flags, segment.seq, segment.ack, segment.length, segment.options)
        met, time_ns = self._met.setdefault(key, (section, one.time_ns))
        if len(self._met) > 100_000:
            self._met.popitem(last=False)
        if met == section:
            return False
        self.has_other_clock = self.has_other_clock or abs(one.time_ns - time_ns) > OTHER_CLOCK_NS
        return True


def _interface_of(section: Section) -> str:
    """The one interface that a command line or tcpdump's first words name; empty for "any", a file, or none."""
    named = re.search(r"(?:^|\s)-[A-Za-z]*i\s*([\w.:@-]+)", section.command)
    name = section.interface or (named[1] if named is not None else "")
    return "" if name == "any" or "/" in name or name.endswith((".pcap", ".pcapng", ".cap")) else name


def _dialect(path: Path, section: Section) -> Dialect | None:
    """The dialect of a section, by its first lines."""
    lines: list[str] = []
    found: list[tuple[int, Dialect]] = []
    for _, line in itertools.islice(read_lines(path, section.start, section.end), SAMPLE):
        lines.append(cleaned(line)[:2_000])
    for module in _dialects():
        dialect: Dialect | None = module.recognise(lines)
        if dialect is not None:
            found.append((sum(dialect.begins.match(line) is not None for line in lines), dialect))
    return max(found, key=lambda entry: entry[0])[1] if found else None


def _dialects() -> list[Any]:
    from tcpwhy.tables import listings

    return [
        importlib.import_module(f"{listings.__name__}.{module.name}")
        for module in sorted(pkgutil.iter_modules(listings.__path__), key=lambda module: module.name)
        if not module.name.startswith("_")
    ]
