"""A case goes in; the whole diagnosis comes out: what failed, why, where, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy import __version__
from tcpwhy.causes import ALL_IDS, CauseFile, catalogue
from tcpwhy.connections.assembly import Assembly
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import SLOW_NS, Kind, find_failure
from tcpwhy.connections.link_loss import verified, without_sizes
from tcpwhy.connections.told import failure_by_log
from tcpwhy.connections.traffic import Traffic
from tcpwhy.connections.triage import want, with_other_attempts
from tcpwhy.diagnosis.citing import cite, cite_ladders, line_finder
from tcpwhy.diagnosis.drawing import draw
from tcpwhy.diagnosis.finding import Finding, Report, Totals, Unexplained
from tcpwhy.diagnosis.judging import Judged, examine, judge
from tcpwhy.diagnosis.ladder import Ladder
from tcpwhy.diagnosis.logs import MOST_LINES, Align, Tied, is_unexplained, log_evidence, set_told, tie, untied
from tcpwhy.diagnosis.narrowing import is_seen
from tcpwhy.diagnosis.places import report_places
from tcpwhy.diagnosis.predicting import foretell
from tcpwhy.diagnosis.reported import mark, tie_reports, unexpected_answers
from tcpwhy.diagnosis.scope import Narrowed, Scope, can_have_failed, scope_of
from tcpwhy.diagnosis.telling import in_order, tell, unexplained
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query

if TYPE_CHECKING:
    from tcpwhy.case import Case

LOG_LINES_PER_FINDING = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """The report, a ladder for each finding, and the connections that the findings speak of."""

    report: Report
    ladders: tuple[Ladder | None, ...]
    """Parallel to `report.findings`."""
    judged: tuple[Judged, ...]
    """All failed connections."""


def diagnose(case: Case, narrowed: Narrowed) -> Diagnosis:
    """Triage by columns, examination of what is left by all causes, findings, log lines, and the report."""
    if narrowed.cause is not None and narrowed.cause not in ALL_IDS:
        raise EvidenceError("--cause", f"read `{narrowed.cause}`, expected one of {', '.join(ALL_IDS)}")
    assembly = case.assembly() if case.vantage_indexes() else None
    align = _aligner(assembly)
    events = case.log_events()
    given_logs = [case.evidence.shown(path) for path in case.evidence.given_logs]
    scope, slow_ns = Scope(), narrowed.slow_ns
    judgement = Judgement((), tuple(tie(events, (), align)))
    if assembly is not None:
        scope = scope_of(assembly, narrowed, events, given_logs)
        candidates = [number for number in can_have_failed(assembly, events, slow_ns) if number in scope.numbers]
        judgement = judge_connections(case, assembly, candidates, slow_ns)
    judged, tied = judgement.judged, judgement.tied
    told = [
        (finding, members)
        for finding, members in tell(judged, catalogue(), align)
        if narrowed.cause is None or finding.cause == narrowed.cause
    ]
    if narrowed.whole:
        foretold = foretell(case.hosts(), catalogue(), [finding for finding, _ in told], align)
        told += [(finding, []) for finding in foretold if narrowed.cause is None or finding.cause == narrowed.cause]
        told.sort(key=lambda entry: in_order(entry[0]))
    findings = [_with_logs(finding, members, tied, align) for finding, members in told]
    line_of = line_finder(case)
    findings = [cite(finding, line_of) for finding in findings]
    ladders = cite_ladders([_ladder(members, finding, assembly) for (finding, members) in told], line_of)
    open_ends: list[Unexplained] = [unexplained(one) for one in judged if not one.is_explained]
    if narrowed.whole:
        # Other logs' lines speak of connections that given logs left unexamined.
        spoken = [line for line in tied if not given_logs or line.event.source.file in given_logs or not scope.note]
        open_ends += [untied(line) for line in spoken if is_unexplained(line) and not _did_well(line, assembly)]
    places, notes, incomplete = report_places(case, assembly)
    notes += [scope.note] if scope.note else []
    failing = sum(event.failing for event in events)
    if failing > MOST_LINES:
        notes.append(f"the logs hold {failing} lines of failures, of which the first {MOST_LINES} were tied to connections")
    explained = sum(one.is_explained for one in judged)
    report = Report(
        version=__version__,
        vantage_points=tuple(places),
        totals=Totals(len(scope.numbers), len(judged), explained, len(judged) - explained),
        findings=tuple(findings),
        unexplained=tuple(open_ends),
        notes=tuple(notes),
        incomplete=incomplete,
    )
    return Diagnosis(report, ladders, tuple(judged))


def _did_well(line: Tied, assembly: Assembly | None) -> bool:
    """A client that went away, which the captures hold: had it left something unanswered, its connection would have failed."""
    event = line.event
    gone = event.kind == "canceled" and event.about == "client" and event.client is not None and event.time_ns is not None
    return gone and assembly is not None and is_seen(assembly, event)


def _aligner(assembly: Assembly | None) -> Align:
    def align(place: str, time_ns: int) -> int | None:
        if assembly is None or place not in assembly.clocks:
            return None
        return assembly.aligned_ns(place, time_ns)

    return align


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What the catalogue says of the connections that failed, and of which connections the logs' failing lines speak."""

    judged: tuple[Judged, ...]
    tied: tuple[Tied, ...]


def judge_connections(case: Case, assembly: Assembly, numbers: Sequence[int], slow_ns: int = SLOW_NS) -> Judgement:
    """Those of these connections that failed, each with what the catalogue says of it.

    `slow_ns`: what held a connection up for so long is a failure.
    """
    # A lossy link is measured by all that seem to have lost packets there, also by those that are not looked at.
    crossing = {number for link in assembly.measured_links if link.is_lossy for number in link.connections}
    built = assembly.connections(with_other_attempts(assembly.db, sorted(crossing.union(numbers))), slow_ns)
    tied = tell_failures(case, assembly, list(built.values()), slow_ns)
    causes = catalogue()
    suspected = suspected_causes(assembly, causes, list(built))
    wanted = set(numbers)
    # Without times no silence and no order between places is known: what failed is told, and no cause is named.
    untimed = case.listed.untimed if case.listed is not None else frozenset()
    judged = [
        judge(connection, examine(connection, causes, suspected.get(number, frozenset())))
        if untimed.isdisjoint(connection.places)
        else Judged(connection, (), {})
        for number, connection in built.items()
        if number in wanted and connection.failure is not None
    ]
    return Judgement(tuple(one for one in judged if one.is_explained or _failed_by_itself(one)), tuple(tied))


def tell_failures(case: Case, assembly: Assembly, built: Sequence[Connection], slow_ns: int = SLOW_NS) -> list[Tied]:
    """Gives connections what they are judged by: hosts, the other traffic, failures, and the logs' lines, which are returned."""
    links = [verified(link, built) if link.is_lossy else without_sizes(link, built) for link in assembly.measured_links]
    traffic = Traffic(assembly.db, assembly.names, assembly.offsets_ns, links)
    sql = "SELECT vantage FROM flow WHERE server_syn_acks > 0 GROUP BY vantage"
    answers = {assembly.names[vantage] for (vantage,) in query(assembly.db, sql)}
    hosts = case.hosts()
    for connection in built:
        connection.hosts = hosts
        connection.traffic = traffic
        answers_seen = any(place in answers for place in connection.places)
        connection.failure = find_failure(connection, answers_seen=answers_seen, slow_ns=slow_ns) or traffic.lossy(connection)
    tied = tell_logs(case, assembly, built)
    traffic.failed = tuple(connection for connection in built if connection.failure is not None)
    return tied


def tell_logs(case: Case, assembly: Assembly, built: Sequence[Connection]) -> list[Tied]:
    """Ties the logs' lines to connections whose failures by packets are told, and gives those that fail by a log alone their failures."""
    align = _aligner(assembly)
    events = case.log_events()
    tied = tie(events, built, align)
    set_told(built, tied, align)
    for connection in built:
        connection.failure = connection.failure or failure_by_log(connection)
    reports = unexpected_answers(events)
    mark(built, reports)
    return tied + tie_reports(built, reports)


def _failed_by_itself(one: Judged) -> bool:
    """An answer that nobody expected is no failure of the network unless a stranger gave it: where packets show that one may have, too."""
    failure = one.connection.failure
    return failure is not None and (failure.kind is not Kind.REPORTED or one.connection.is_turned_to_itself)


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


def _with_logs(finding: Finding, members: list[Judged], tied: Sequence[Tied], align: Align) -> Finding:
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
