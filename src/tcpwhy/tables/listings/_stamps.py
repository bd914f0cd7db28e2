"""The times of a listing's rows go in as they are printed, nanoseconds since 1970 come out."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Sequence

from tcpwhy.tables.listings._row import Stamp, Unreadable

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
NO_TIME_NS = 1_000_000
"""A row without a time is set so far behind the one before: order is kept, and no silence arises."""

TIME = (
    r"(?:(?P<date>\d{4}-\d\d-\d\d)[ T])?(?P<back>-)?"
    r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?(?P<utc>Z)?"
    r"|(?P<whole>-?\d{1,12})\.(?P<part>\d{1,9})"
)
"""tcpdump's times (util-print.c, ts_print) and tshark's: with a date, of a day, since 1970, or elapsed. For re.VERBOSE it has no blanks
that matter. Behind -ttt a time of a packet that was captured before the one in front of it has a sign."""

STAMPED = re.compile(rf"^\s{{0,6}}(?:\d{{1,12}}\s+)?(?=\S+\.\d{{6}}|\S+ \S+\.\d{{6}})(?:{TIME})\s+\S")
"""A line that begins as a packet's does, whatever the packet is: times since the packet before go on with each."""

Zone = Callable[[int], int]
"""A local time, in nanoseconds as if it were UTC, to how far local time is ahead of UTC then."""


def read_stamp(found: re.Match[str]) -> Stamp:
    """What TIME matched. Raises Unreadable where it is no time."""
    if found["whole"] is not None:
        sign = -1 if found["whole"].startswith("-") else 1
        nanoseconds = sign * (abs(int(found["whole"])) * SECOND_NS + int(found["part"].ljust(9, "0")))
        return Stamp("epoch" if nanoseconds > 100_000_000 * SECOND_NS else "elapsed", nanoseconds)
    if found["hour"] is None:
        return Stamp("none")
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if hour > 23 or minute > 59 or second > 60:
        raise Unreadable("no time of day")
    nanoseconds = ((hour * 60 + minute) * 60 + second) * SECOND_NS + int((found["fraction"] or "0").ljust(9, "0"))
    if found["date"] is None:
        return Stamp("clock", -nanoseconds if found["back"] else nanoseconds, is_utc=found["utc"] is not None)
    try:
        day = datetime.date.fromisoformat(found["date"])
    except ValueError:
        raise Unreadable("no date") from None
    return Stamp("date", (day.toordinal() - datetime.date(1970, 1, 1).toordinal()) * DAY_NS + nanoseconds, is_utc=found["utc"] is not None)


class Clock:
    """Turns the stamps of one listing into times."""

    def __init__(self, sample: Sequence[Stamp], *, command: str, zone: Zone | None, day_ns: int) -> None:
        """`sample`: its first stamps; `zone`: of its host, where it is known; `day_ns`: the midnight assumed where no date is told."""
        self._zone: Zone = zone or (lambda _local_ns: 0)
        self._day_ns = day_ns
        self._last_ns: int | None = None
        values = [stamp.nanoseconds for stamp in sample if stamp.kind in ("clock", "elapsed")]
        kinds = {stamp.kind for stamp in sample}
        told = re.search(r"(?:^|\s)-[A-Za-su-z]*(t+)\b", command)
        letters = len(told[1]) if told else 0
        # tcpdump -ttt and -ttttt print elapsed times in the form of a time of day, the first of them zero.
        elapsed = "elapsed" in kinds or letters in (3, 5) or ("clock" in kinds and values[:1] == [0] and letters == 0)
        self.is_elapsed = elapsed
        falls = any(after < before for before, after in itertools.pairwise(values))
        # Times since the packet before rise and fall, those since the first one only rise.
        self._adds_up = elapsed and (letters == 3 or (letters != 5 and falls) or bool(re.search(r"-t\s*(?:d|dd)\b", command)))
        self.kinds = kinds
        self._sum_ns = 0

    def time_ns(self, stamp: Stamp) -> int:
        """A row's time, in the order of rows."""
        if stamp.kind == "none":
            now = (self._day_ns if self._last_ns is None else self._last_ns) + NO_TIME_NS
        elif stamp.kind == "epoch":
            now = stamp.nanoseconds
        elif stamp.kind == "date":
            now = stamp.nanoseconds - (0 if stamp.is_utc else self._zone(stamp.nanoseconds))
        elif self.is_elapsed:
            self._sum_ns = self._sum_ns + stamp.nanoseconds if self._adds_up else stamp.nanoseconds
            now = self._day_ns + self._sum_ns
        else:
            now = self._day_ns + stamp.nanoseconds
            now -= 0 if stamp.is_utc else self._zone(now)
            # Past midnight the clock begins anew; packets of several processors are a little out of order only.
            while self._last_ns is not None and now < self._last_ns - DAY_NS // 2:
                self._day_ns += DAY_NS
                now += DAY_NS
            if self._last_ns is not None and now > self._last_ns + DAY_NS // 2 and now - DAY_NS >= self._last_ns - 60 * SECOND_NS:
                now -= DAY_NS
        now = max(min(now, (1 << 62)), -(1 << 62))
        self._last_ns = now
        return now
