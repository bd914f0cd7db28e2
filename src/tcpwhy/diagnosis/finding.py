"""What a diagnosis says, as data: the JSON of `tcpwhy diagnose --json` (schema `tcpwhy/1`) is these structs and nothing else."""

from __future__ import annotations

from typing import Literal

import msgspec

Confidence = Literal["confirmed", "likely", "possible"]
"""How sure a finding is; `confirmed` needs two places, or one place and a host's state."""

CONFIDENCES: tuple[Confidence, ...] = ("confirmed", "likely", "possible")
"""From the surest to the least sure: the order of findings in a report."""


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact and where it stands."""

    kind: Literal["packet", "state", "log", "counter"]
    vantage_point: str
    file: str
    """Relative to the case."""
    text: str
    """What it shows, one line."""
    frame: int | None = None
    """The number that Wireshark shows for that file."""
    line: int | None = None
    time: str | None = None
    """ISO 8601 in UTC, by the clock of the vantage point."""
    aligned_time: str | None = None
    """The same on the common clock, where the clocks could be aligned."""


class SeenAs(msgspec.Struct, frozen=True):
    """The addresses of a connection at another vantage point, where something between changed them."""

    vantage_point: str
    client: str
    server: str


class ConnectionReference(msgspec.Struct, frozen=True):
    """One connection; addresses are those at the vantage point nearest to the client."""

    client: str
    server: str
    first: str
    last: str
    also_seen_as: tuple[SeenAs, ...] = ()


class Between(msgspec.Struct, frozen=True):
    """From the last place that saw it to the first that did not, or to the address where nobody captured."""

    between: tuple[str, str]


class At(msgspec.Struct, frozen=True):
    """At one place."""

    at: str


class RuledOutCause(msgspec.Struct, frozen=True):
    """A cause that the evidence excludes, and why."""

    cause: str
    because: str


class Finding(msgspec.Struct, frozen=True):
    """One cause at one place, and the connections that failed of it."""

    cause: str
    confidence: Confidence
    title: str
    explanation: str
    where: Between | At | None
    connections: tuple[ConnectionReference, ...]
    connection_count: int
    evidence: tuple[Evidence, ...]
    ruled_out: tuple[RuledOutCause, ...] = ()
    next_evidence: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


class Unexplained(msgspec.Struct, frozen=True):
    """A failed connection, or a failing log line, that has no confirmed or likely cause."""

    client: str | None
    server: str | None
    first: str | None
    last: str | None
    symptom: str


class Clock(msgspec.Struct, frozen=True):
    """A vantage point's clock against the common one."""

    offset_s: float
    """This clock minus the common one, seconds."""
    uncertainty_s: float
    relative_to: str


class VantagePointReport(msgspec.Struct, frozen=True):
    """One vantage point: what was read there and what must be known of it."""

    name: str
    files: tuple[str, ...]
    packets: int
    first: str | None
    last: str | None
    clock: Clock | None
    notes: tuple[str, ...] = ()


class Totals(msgspec.Struct, frozen=True):
    """Counts over all connections of the case."""

    connections: int
    failed: int
    explained: int
    """Failed, with a confirmed or likely cause."""
    unexplained: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that `tcpwhy diagnose` says."""

    schema: Literal["tcpwhy/1"] = "tcpwhy/1"
    version: str
    vantage_points: tuple[VantagePointReport, ...]
    totals: Totals
    findings: tuple[Finding, ...]
    unexplained: tuple[Unexplained, ...]
    notes: tuple[str, ...] = ()
    """What concerns the case as a whole, such as files passed over."""
    incomplete: bool = False
    """Part of the input could not be read; the notes say which (exit status 3 where nothing failed)."""
