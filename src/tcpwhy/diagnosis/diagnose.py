"""A case goes in; the whole diagnosis comes out: what failed, why, where, and how sure that is."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy import __version__
from tcpwhy.causes import ALL_IDS, CauseFile, catalogue
from tcpwhy.connections.assembly import Assembly
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import SLOW_NS, Kind, find_failure
from tcpwhy.connections.selecting import filter_sql, numbers_of, parse_connection
from tcpwhy.connections.triage import suspicious, want, with_other_attempts
from tcpwhy.diagnosis.drawing import draw
from tcpwhy.diagnosis.finding import Finding, Report, Totals, Unexplained
from tcpwhy.diagnosis.judging import Judged, examine, judge
from tcpwhy.diagnosis.ladder import Ladder
from tcpwhy.diagnosis.logs import Tied, log_evidence, tie, untied
from tcpwhy.diagnosis.places import report_places
from tcpwhy.diagnosis.predicting import foretell
from tcpwhy.diagnosis.reported import mark, numbers_of_reports, tie_reports, unexpected_answers
from tcpwhy.diagnosis.telling import in_order, tell, unexplained
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query
from tcpwhy.tables.logs import read_logs
from tcpwhy.tables.logs._event import LogEvent

if TYPE_CHECKING:
    from tcpwhy.case import Case

LOG_LINES_PER_FINDING = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Narrowed:
    """What a diagnosis is to look at; None is everything."""

    connection: str | None = None
    since: str | None = None
    until: str | None = None
    cause: str | None = None
    filter: str | None = None
    slow_s: float = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """The report, a ladder for each finding, and the connections that the findings speak of."""

    report: Report
    ladders: tuple[Ladder | None, ...]
    """Parallel to `report.findings`."""
    judged: tuple[Judged, ...]
    """All failed connections."""


def parse_time(text: str) -> int:
    """ISO 8601 to nanoseconds since 1970; local time where no zone is named. Raises EvidenceError."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise EvidenceError("time", f"read `{text}`, expected ISO 8601 such as 2026-11-21T09:30:00+01:00") from None
    return round(moment.timestamp() * 1_000_000) * 1_000


def diagnose(case: Case, narrowed: Narrowed) -> Diagnosis:
    """Triage by columns, examination of what is left by all causes, findings, log lines, and the report."""
    if narrowed.cause is not None and narrowed.cause not in ALL_IDS:
        raise EvidenceError("--cause", f"read `{narrowed.cause}`, expected one of {', '.join(ALL_IDS)}")
    assembly = case.assembly() if case.vantage_indexes() else None
    align = _aligner(assembly)
    given = _given_lines(case, narrowed)
    scope = Scope() if assembly is None else _scope(assembly, narrowed, given)
    if assembly is not None:
        found = judge_connections(case, assembly, scope.candidates(assembly, case.log_events()))
    else:
        found = Judgement((), tuple(tie(case.log_events(), (), align)))
    judged, tied = found.judged, found.tied
    told = [
        (finding, members)
        for finding, members in tell(judged, catalogue(), align)
        if narrowed.cause is None or finding.cause == narrowed.cause
    ]
    if not narrowed.by_user:
        foretold = foretell(case.hosts(), catalogue(), [finding for finding, _ in told], align)
        told += [(finding, []) for finding in foretold if narrowed.cause is None or finding.cause == narrowed.cause]
        told.sort(key=lambda entry: in_order(entry[0]))
    findings = [_with_logs(finding, members, tied, align) for finding, members in told]
    ladders = [_ladder(members, finding, assembly) for (finding, members) in told]
    open_ends: list[Unexplained] = [unexplained(one) for one in judged if not one.is_explained]
    if not narrowed.by_user:
        files = None if given is None else {event.source.file for event in given}
        open_ends += [untied(line) for line in tied if is_unexplained(line) and (files is None or line.event.source.file in files)]
    places, notes, incomplete = report_places(case, assembly)
    notes = [*notes, *scope.notes]
    explained = sum(one.is_explained for one in judged)
    report = Report(
        version=__version__,
        vantage_points=tuple(places),
        totals=Totals(total, len(judged), explained, len(judged) - explained),
        findings=tuple(findings),
        unexplained=tuple(open_ends),
        notes=tuple(notes),
        incomplete=incomplete,
    )
    return Diagnosis(report, tuple(ladders), tuple(judged))


def _aligner(assembly: Assembly | None):  # type: ignore[no-untyped-def]
    def align(place: str, time_ns: int) -> int | None:
        if assembly is None or place not in assembly.clocks:
            return None
        return assembly.aligned_ns(place, time_ns)

    return align


def _judge_all(case: Case, assembly: Assembly, narrowed: Narrowed, events: Sequence[LogEvent]) -> tuple[list[Judged], int]:
    """All failed connections judged, and how many connections there are in what is looked at."""
    db = assembly.db
    if not math.isfinite(narrowed.slow_s):
        raise EvidenceError("--slow", f"read `{narrowed.slow_s}`, expected a number of seconds")
    slow_ns = round(narrowed.slow_s * 1_000_000_000)
    scope = filter_sql(narrowed.filter)
    conditions, parameters = [scope[0]], list(scope[1])
    if narrowed.since is not None:
        conditions.append("last_ns >= ?")
        parameters.append(parse_time(narrowed.since))
    if narrowed.until is not None:
        conditions.append("first_ns <= ?")
        parameters.append(parse_time(narrowed.until))
    wanted = {
        row[0]
        for row in query(
            db,
            f"SELECT DISTINCT connection FROM flow JOIN member USING (id) WHERE {' AND '.join(conditions)}",
            parameters,
        )
    }
    if narrowed.connection is not None:
        moment = parse_connection(narrowed.connection)[2]
        wanted &= set(numbers_of(db, narrowed.connection, parse_time(moment) if moment else None))
    candidates = [number for number in suspicious(db, slow_ns) if number in wanted]
    reports = unexpected_answers(events)
    candidates += [number for number in numbers_of_reports(db, reports) if number in wanted and number not in set(candidates)]
    return judge_connections(case, assembly, sorted(candidates), reports, slow_ns), len(wanted)


def judge_connections(
    case: Case, assembly: Assembly, numbers: Sequence[int], reports: Sequence[LogEvent] = (), slow_ns: int = SLOW_NS
) -> list[Judged]:
    """Those of these connections that failed, each with what the catalogue says of it.

    `reports`: log lines about answers that nobody expected, which are failures where a stranger gave them. `slow_ns`: what held a
    connection up for so long is a failure.
    """
    db = assembly.db
    built = assembly.connections(with_other_attempts(db, list(numbers)))
    answers = {assembly.names[vantage] for (vantage,) in query(db, "SELECT vantage FROM flow WHERE server_syn_acks > 0 GROUP BY vantage")}
    hosts = case.hosts()
    for connection in built.values():
        connection.hosts = hosts
        connection.failure = find_failure(connection, answers_seen=any(place in answers for place in connection.places), slow_ns=slow_ns)
    mark(built.values(), reports)
    causes = catalogue()
    suspected = suspected_causes(assembly, causes, list(built))
    wanted = set(numbers)
    judged = [
        judge(connection, examine(connection, causes, suspected.get(number, frozenset())))
        for number, connection in built.items()
        if number in wanted and connection.failure is not None
    ]
    return [one for one in judged if one.is_explained or _failed_by_itself(one)]


def _failed_by_itself(one: Judged) -> bool:
    """An answer that nobody expected is no failure of the network unless a stranger gave it."""
    return one.connection.failure is not None and one.connection.failure.kind is not Kind.REPORTED


def suspected_causes(assembly: Assembly, causes: Sequence[CauseFile], numbers: Sequence[int]) -> dict[int, frozenset[str]]:
    """By connection: the causes whose SUSPECT some flow of it, or of another attempt with its addresses, meets."""
    want(assembly.db, numbers)
    columns = ", ".join(f"coalesce(bool_or({cause.suspect}), false)" for cause in causes)
    rows = query(
        assembly.db,
        f"""
        WITH tuple AS (
            SELECT DISTINCT connection, client_ip, client_port, server_ip, server_port
            FROM flow JOIN member USING (id) JOIN wanted USING (connection)
        )
        SELECT tuple.connection, {columns}
        FROM tuple JOIN flow USING (client_ip, client_port, server_ip, server_port) GROUP BY tuple.connection
        """,
    )
    return {row[0]: frozenset(cause.id for cause, hit in zip(causes, row[1:], strict=True) if hit) for row in rows}


def _with_logs(finding: Finding, members: list[Judged], tied: Sequence[Tied], align) -> Finding:  # type: ignore[no-untyped-def]
    """The finding with the log lines that speak of its connections, and of no connection of another finding."""
    import msgspec

    own = {id(one.connection) for one in members}
    lines = []
    for line in tied:
        shared = sum(id(connection) in own for connection in line.connections)
        if shared and shared == len(line.connections):
            lines.append(log_evidence(line, align, shared))
    if not lines:
        return finding
    return msgspec.structs.replace(finding, evidence=(*finding.evidence, *lines[:LOG_LINES_PER_FINDING]))


def _ladder(members: list[Judged], finding: Finding, assembly: Assembly | None) -> Ladder | None:
    """The first connection of a finding as a ladder, the finding's exhibits marked."""
    if assembly is None or not members:
        return None
    first = min(members, key=lambda one: (one.connection.first_ns, str(one.connection.client)))
    notes: dict[int, str] = {}
    for cause, _, verdict in first.causes:
        if cause == finding.cause:
            notes.update({id(shown.segment): shown.note for shown in verdict.exhibits if shown.segment is not None})
    story = _story(first.connection, notes)
    return draw(
        story,
        assembly.clocks,
        notes,
    )


def _story(connection: Connection, notes: dict[int, str]) -> Connection:
    """The connection, together with segments of its other attempts that the finding rests on."""
    own = {id(segment) for segment in connection.segments}
    foreign = [
        segment
        for other in (*connection.earlier, *connection.later)
        for segment in other.segments
        if id(segment) in notes and id(segment) not in own
    ]
    if not foreign:
        return connection
    segments = sorted([*connection.segments, *foreign], key=lambda segment: (segment.aligned_ns, segment.packet.frame))
    return dataclasses.replace(connection, segments=segments)
