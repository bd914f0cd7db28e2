"""What a diagnosis is narrowed to goes in; the connections that are looked at, and those of them that can have failed, come out."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence

from tcpwhy.connections.assembly import Assembly
from tcpwhy.connections.failure import SLOW_NS
from tcpwhy.connections.selecting import filter_sql, numbers_of, parse_connection
from tcpwhy.connections.triage import suspicious
from tcpwhy.diagnosis.narrowing import connections_of, named_by, narrowing_note, waiting_for
from tcpwhy.diagnosis.reported import numbers_of_reports, unexpected_answers
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query
from tcpwhy.tables.logs._event import LogEvent


@dataclasses.dataclass(frozen=True, slots=True)
class Narrowed:
    """What a diagnosis is to look at; None is everything."""

    connection: str | None = None
    since: str | None = None
    until: str | None = None
    cause: str | None = None
    filter: str | None = None
    slow_s: float = 3.0

    @property
    def whole(self) -> bool:
        """All connections are asked for, although perhaps one cause only."""
        return self.connection is self.since is self.until is self.filter is None

    @property
    def slow_ns(self) -> int:
        """How long something must hold a connection up to be a failure. Raises EvidenceError."""
        if not math.isfinite(self.slow_s):
            raise EvidenceError("--slow", f"read `{self.slow_s}`, expected a number of seconds")
        return round(self.slow_s * 1_000_000_000)


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """The connections that are looked at."""

    numbers: frozenset[int] = frozenset()
    note: str = ""
    """What given logs narrowed, and to what."""


def parse_time(text: str) -> int:
    """ISO 8601 to nanoseconds since 1970; local time where no zone is named. Raises EvidenceError."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise EvidenceError("time", f"read `{text}`, expected ISO 8601 such as 2026-11-21T09:30:00+01:00") from None
    return round(moment.timestamp() * 1_000_000) * 1_000


def scope_of(assembly: Assembly, narrowed: Narrowed, events: Sequence[LogEvent], given_logs: Sequence[str]) -> Scope:
    """What is looked at: what the user narrowed; else what failing lines of the logs that were given by themselves can speak of."""
    db = assembly.db
    condition, parameters = filter_sql(narrowed.filter)
    conditions, parameters = [condition], list(parameters)
    if narrowed.since is not None:
        conditions.append("last_ns >= ?")
        parameters.append(parse_time(narrowed.since))
    if narrowed.until is not None:
        conditions.append("first_ns <= ?")
        parameters.append(parse_time(narrowed.until))
    sql = f"SELECT DISTINCT connection FROM flow JOIN member USING (id) WHERE {' AND '.join(conditions)}"
    numbers = frozenset(row[0] for row in query(db, sql, parameters))
    if narrowed.connection is not None:
        moment = parse_connection(narrowed.connection)[2]
        numbers &= set(numbers_of(db, narrowed.connection, parse_time(moment) if moment else None))
    if not narrowed.whole or not given_logs:
        return Scope(numbers)
    lines = [event for event in events if event.source.file in given_logs and (event.failing or event.kind == "unexpected_answer")]
    if lines:
        all_connections = len(numbers)
        spoken_of = connections_of(assembly, lines) | set(numbers_of_reports(db, unexpected_answers(lines)))
        return Scope(numbers & spoken_of, narrowing_note(given_logs, len(lines), len(numbers & spoken_of), all_connections))
    return Scope(numbers, narrowing_note(given_logs, 0, len(numbers), len(numbers)))


def can_have_failed(assembly: Assembly, events: Sequence[LogEvent], slow_ns: int = SLOW_NS) -> list[int]:
    """The connections that can have failed, by their columns or by what logs say of them."""
    numbers = set(suspicious(assembly.db, slow_ns))
    numbers.update(numbers_of_reports(assembly.db, unexpected_answers(events)))
    numbers.update(named_by(assembly, events))
    numbers.update(waiting_for(assembly, events))
    numbers.update(number for link in assembly.measured_links if link.is_lossy for number in link.connections)
    return sorted(numbers)
