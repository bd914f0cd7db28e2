"""ISO 8601 times of a report go in, times as a person reads them come out: local with the zone, or UTC."""

from __future__ import annotations

import datetime
import re

_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
SPAN_DIGITS = 3
"""Of a second, where only the extent matters; the JSON has all digits."""

_NANOSECONDS_A_SECOND = 1_000_000_000


def parse_utc(text: str) -> tuple[datetime.datetime, str]:
    """An ISO 8601 time in UTC as its whole second and its digits behind the point; ValueError where it is none."""
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f"read `{text}`, expected a time such as 2026-11-21T09:30:00.000123Z")
    return datetime.datetime.fromisoformat(match[1]).replace(tzinfo=datetime.UTC), match[2] or ""


def show_time(text: str | None, *, utc: bool, digits: int = 6, zone: bool = True) -> str:
    """`2026-11-21 10:30:00.000123 +01:00`; `?` for None; a text that is no time stays as it is.

    digits: behind the point, cut and not rounded, so that two times keep their order; zone: whether it is named.
    """
    if text is None:
        return "?"
    try:
        second, fraction = parse_utc(text)
        shown = second if utc else second.astimezone()
    except (ValueError, OverflowError):  # OverflowError: a capture may name a year that the zone's shift leaves
        return text
    point = f".{fraction[:digits].ljust(digits, '0')}" if digits and fraction else ""
    name = ""
    if zone:
        shift = f"{shown:%z}"
        name = " UTC" if utc or shown.tzname() == "UTC" else f" {shift[:3]}:{shift[3:5]}"
    return f"{shown:%Y-%m-%d %H:%M:%S}{point}{name}"


def show_span(first: str | None, last: str | None, *, utc: bool) -> str:
    """`2026-11-21 10:30:00.000 – 10:30:04.200 +01:00`, the day once where both are on one day."""
    begin = show_time(first, utc=utc, digits=SPAN_DIGITS, zone=False)
    end = show_time(last, utc=utc, digits=SPAN_DIGITS)
    if first == last:
        return show_time(last, utc=utc)
    if begin[:10] == end[:10] and len(begin) > 10:
        end = end[11:]
    return f"{begin} – {end}"


def show_offset(offset_ns: int) -> str:
    """Seconds since a ladder's first row, in groups of three digits: `+0.000 025`; `-` where clocks leave it before."""
    sign = "-" if offset_ns < 0 else "+"
    microseconds = abs(offset_ns) // 1000
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{sign}{seconds}.{rest // 1000:03} {rest % 1000:03}"


def iso_utc(time_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, with all nine digits."""
    seconds, nanoseconds = divmod(time_ns, _NANOSECONDS_A_SECOND)
    second = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
