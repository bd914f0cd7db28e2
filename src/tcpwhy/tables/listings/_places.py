"""A case with listings goes in; captures made of them are put under their vantage points, with notes on what they cannot tell."""

from __future__ import annotations

import dataclasses
import datetime
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

from tcpwhy.evidence import Evidence, VantagePoint
from tcpwhy.evidence.capture_times import read_first_time
from tcpwhy.evidence.case import Pasted
from tcpwhy.tables.listings._bases import find_bases, time_between
from tcpwhy.tables.listings._capture import Lines
from tcpwhy.tables.listings._convert import Converted, Listing, convert
from tcpwhy.tables.listings._stamps import DAY_NS, SECOND_NS, Zone


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """The captures of a case that were made of listings."""

    lines: Mapping[Path, Lines]
    """By capture."""
    untimed: frozenset[str]
    """Vantage points whose times are none: no cause can be named there."""

    def close(self) -> None:
        """Gives the tables of lines back."""
        for table in self.lines.values():
            table.close()


@dataclasses.dataclass(slots=True)
class _Work:
    """One listing of one vantage point on its way."""

    point: VantagePoint
    listing: Listing
    path: Path
    made: Converted | None = None


def convert_listings(evidence: Evidence, folder: Path) -> Listed:
    """Makes captures in `folder` of all listings of a case. What cannot be read becomes a loss of the case."""
    work = [
        _Work(point, _listing(evidence, point, pasted), folder / f"{point_number}-{number}.pcapng")
        for point_number, point in enumerate(evidence.vantage_points)
        for number, pasted in enumerate(point.listings)
    ]
    work = [one for one in work if _converted(evidence, one)]
    work = [part for one in work for part in _apart(evidence, one)]
    day_ns = _a_day(evidence, work)
    if day_ns is not None:
        for one in work:
            if one.made is not None and not one.made.is_dated:
                one.listing = dataclasses.replace(one.listing, day_ns=day_ns)
                _converted(evidence, one)
    _onto_one_clock(evidence, work)
    # Listings of one place, too, each count from a number of their own.
    bases = find_bases({str(one.path): [one.made.samples] for one in work if one.made is not None})
    lines: dict[Path, Lines] = {}
    untimed: set[str] = set()
    for one in work:
        known = bases.get(str(one.path))
        if one.made is not None and known:
            _converted(evidence, one, known)
        if one.made is None:
            continue  # it cannot be read, or was passed over
        one.point.notes += one.made.notes
        if not one.made.packets:
            continue
        one.point.captures.append(one.path)
        evidence.places.append((one.path, one.listing.shown))
        lines[one.path] = Lines(one.made.table)
        if not one.made.is_timed:
            untimed.add(one.point.name)
    for point in evidence.vantage_points:
        point.listings.clear()
        if sum(path in lines for path in point.captures) > 1:
            point.captures.sort(key=lambda path: read_first_time(path).first_ns or 0)
    return Listed(lines, frozenset(untimed))


def _onto_one_clock(evidence: Evidence, work: list[_Work]) -> None:
    """Listings of one place whose times begin with each of them are set onto one clock by the packets that both show."""
    for number, one in enumerate(work):
        first = next((before for before in work[:number] if before.point is one.point and before.made is not None), None)
        if first is None or first.made is None or one.made is None or not (first.made.is_elapsed or one.made.is_elapsed):
            continue
        later_ns = time_between(first.made.samples, one.made.samples)
        if later_ns is None:
            one.made = None
            one.point.notes.append(
                f"{one.listing.shown}: its times begin with itself and it shows no packet of {first.listing.shown}: passed over"
            )
            continue
        one.listing = dataclasses.replace(one.listing, day_ns=(one.listing.day_ns or 0) + later_ns)
        _converted(evidence, one)


def _listing(evidence: Evidence, point: VantagePoint, pasted: Pasted) -> Listing:
    return Listing(pasted.path, evidence.shown(pasted.path), pasted.sections, _zone(point), None)


def _zone(point: VantagePoint) -> Zone | None:
    """Local time minus UTC of a host, as far as it is told."""
    if point.log_timezone is not None:
        zone = zoneinfo.ZoneInfo(point.log_timezone)

        def offset_ns(local_ns: int) -> int:
            try:
                moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=local_ns // SECOND_NS)
            except OverflowError:
                return 0
            offset = moment.replace(tzinfo=zone).utcoffset()
            return 0 if offset is None else round(offset.total_seconds()) * SECOND_NS

        return offset_ns
    told = point.state.host.utc_offset_s if point.state is not None else None
    return None if told is None else lambda _local_ns: told * SECOND_NS


def _converted(evidence: Evidence, one: _Work, known: Mapping[tuple[tuple[str, int, str, int], int, bool], int] | None = None) -> bool:
    try:
        one.made = convert(one.listing, one.path, known)
    except OSError as error:
        evidence.losses.append(f"{one.listing.shown} cannot be read ({error.strerror or error})")
        one.made = None
    return one.made is not None


def _apart(evidence: Evidence, one: _Work) -> list[_Work]:
    """The listings of one text whose clocks differ are of several hosts, although no prompt names them."""
    if one.made is None or not one.made.has_other_clock or len(one.listing.sections) < 2:
        return [one]
    parts = []
    for number, section in enumerate(one.listing.sections, 1):
        point = VantagePoint(f"{one.point.name}-{number}")
        evidence.vantage_points.append(point)
        part = _Work(point, dataclasses.replace(one.listing, sections=(section,)), one.path.with_name(f"{one.path.stem}-{number}.pcapng"))
        if _converted(evidence, part):
            parts.append(part)
    if not (one.point.captures or one.point.logs or one.point.state or one.point.state_before or len(one.point.listings) > 1):
        evidence.vantage_points.remove(one.point)
    evidence.vantage_points.sort(key=lambda point: point.name)
    evidence.notes.append(
        f"{one.listing.shown} holds listings of {len(parts)} clocks, which show the same packets: each counts as a vantage point of its own"
    )
    return parts


def _a_day(evidence: Evidence, work: list[_Work]) -> int | None:
    """The midnight before the earliest time that some evidence tells with its date."""
    dated = [one.made.first_ns for one in work if one.made is not None and one.made.is_dated and one.made.first_ns is not None]
    for point in evidence.vantage_points:
        for path in point.captures:
            try:
                dated.append(read_first_time(path).first_ns or 0)
            except OSError:
                continue  # the scan says why it cannot be read
    dated = [time_ns for time_ns in dated if time_ns > DAY_NS]
    return min(dated) // DAY_NS * DAY_NS if dated else None
