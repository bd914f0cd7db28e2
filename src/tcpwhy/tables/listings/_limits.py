"""What was met while a listing was read goes in; what it cannot tell, in sentences, comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy.evidence.pasted import Section
from tcpwhy.tables.listings._row import Row
from tcpwhy.tables.listings._stamps import Clock
from tcpwhy.tables.listings._words import is_named

if TYPE_CHECKING:
    from tcpwhy.tables.listings._convert import Listing

NAMES_TOLD = 5
LINES_TOLD = 5


@dataclasses.dataclass(slots=True)
class Limits:
    """Counts of one listing."""

    dialects: set[str] = dataclasses.field(default_factory=set)
    rows: int = 0
    segments: int = 0
    without_ip: int = 0
    without_payload: int = 0
    relative: int = 0
    named: set[str] = dataclasses.field(default_factory=set)
    unreadable: int = 0
    refused: list[int] = dataclasses.field(default_factory=list)
    refused_more: int = 0
    unattributed: int = 0
    unsure: int = 0
    """Connections left out."""
    doubles: int = 0
    """Packets that two sections show."""
    unknown_sections: int = 0
    gaps: int = 0
    """Numbers of tshark that are missing."""
    records: dict[int, int] = dataclasses.field(default_factory=dict)
    """By a section's first byte, its records."""
    is_timed: bool = True
    is_dated: bool = True
    has_zone: bool = True
    elapsed: bool = False

    def see(self, row: Row) -> None:
        """Counts a row."""
        self.rows += 1
        for head in row.heads:
            for ip in (head.source, head.destination):
                if is_named(ip) and len(self.named) < 1_000:
                    self.named.add(ip)
        if row.segment is None:
            return
        self.segments += 1
        if row.raw:
            return
        self.without_ip += row.heads[-1].ttl is None
        self.without_payload += bool(row.segment.length or not row.segment.is_told) and not row.payload
        self.relative += row.number is not None

    def clocks(self, clock: Clock, listing: Listing) -> None:
        """What a section's times are."""
        self.is_timed = self.is_timed and clock.kinds != {"none"}
        if clock.is_elapsed or "clock" in clock.kinds:
            self.is_dated = False
        self.elapsed = self.elapsed or clock.is_elapsed
        if listing.zone is None and clock.kinds & {"date", "clock"} and not clock.is_elapsed:
            self.has_zone = False

    def refuse(self, line: int) -> None:
        """A record that looks like a packet and could not be read."""
        if len(self.refused) < LINES_TOLD:
            self.refused.append(line)
        else:
            self.refused_more += 1

    def missing(self, sections: Sequence[Section]) -> int:
        """Packets that tcpdump says it captured and the listing does not hold, or that were marked as left out; at least."""
        counted = 0
        for section in sections:
            if section.captured is not None:
                counted += max(0, section.captured - self.records.get(section.start, section.captured))
            counted += section.left_out
        return counted + len(self.refused) + self.refused_more + self.unreadable

    def notes(self, listing: Listing) -> list[str]:
        """What must be known of a listing."""
        name = listing.shown
        by = " and ".join(sorted(self.dialects))
        told = [
            (
                f"{name} is a listing of packets in text ({by}): it tells less than a capture; evidence is cited by line, and lines that "
                "nobody pasted would look like packets that were lost"
            )
        ]
        if self.without_ip:
            told.append(
                f"{name}: {_of(self.without_ip, self.segments)} show neither TTL nor IP ID, which count as unknown: take it with tcpdump -v"
            )
        if self.without_payload:
            told.append(f"{name}: the payload of {self.without_payload} segments is not shown, and counts as unknown")
        if self.relative:
            told.append(
                f"{name}: tshark's numbers are relative to one that it does not tell: stand-ins are shown, and connections of several "
                "places are joined by addresses and timestamps; take it with -o tcp.relative_sequence_numbers:FALSE"
            )  # fmt: skip
        if not self.is_timed:
            told.append(f"{name}: no times are shown (-t): order alone is known, so that no cause is named; take it with -tttt")
        elif self.elapsed:
            told.append(f"{name}: times are elapsed ones: when it was taken is not told; take it with -tttt")
        elif not self.is_dated:
            told.append(
                f"{name}: times are shown without a date: {'that of other evidence' if listing.day_ns else '1970-01-01'} is assumed"
            )
        if not self.has_zone and self.is_timed:
            told.append(f"{name}: times are shown without a zone and taken for UTC; log_timezone in tcpwhy.toml or host.json tells it")
        if self.named:
            shown = ", ".join(sorted(self.named)[:NAMES_TOLD])
            told.append(
                f"{name}: hosts are shown by name (tcpdump without -n); no name is looked up, and {shown} "
                f"{'and others ' if len(self.named) > NAMES_TOLD else ''}stand for them"
            )  # fmt: skip
        for count, what in (
            (self.unattributed, "rows do not tell to which connection they belong, and could belong to several"),
            (self.unsure, "connections to which such rows may belong are left out"),
            (self.doubles, "packets are shown by several listings of this place, and count once"),
        ):
            if count:
                told.append(f"{name}: {count} {what}")
        refused = len(self.refused) + self.refused_more + self.unreadable
        if refused:
            lines = ", ".join(map(str, self.refused)) + (" and others" if self.refused_more else "")
            told.append(
                f"{name}: {refused} records look like packets and could not be read" + (f" (lines {lines})" if self.refused else "")
            )
        if any(section.left_out for section in listing.sections):
            told.append(f"{name}: it says itself that lines were left out")
        if lost := self.missing(listing.sections) + sum(section.dropped for section in listing.sections):
            told.append(f"{name}: at least {lost} packets are not shown or could not be read: what is absent here may have been there")
        return told


def _of(count: int, whole: int) -> str:
    return f"all {whole} segments" if count == whole else f"{count} of {whole} segments"
