"""Judged connections go in; findings, grouped by cause and place, come out."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from tcpwhy.causes import CauseFile, Exhibit, Found, Open
from tcpwhy.causes._verdict import exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.diagnosis.finding import (
    CONFIDENCES,
    At,
    Between,
    Confidence,
    ConnectionReference,
    Evidence,
    Finding,
    RuledOutCause,
    SeenAs,
    Unexplained,
)
from tcpwhy.diagnosis.judging import Judged

EVIDENCE_PER_FINDING = 16
"""Exhibits of the first connections; all connections are listed, their packets are a `tcpwhy show` away."""

Align = Callable[[str, int], int | None]
"""A place and a time of its clock to the common clock; None where that clock could not be aligned."""


def iso(time_ns: int) -> str:
    """ISO 8601 in UTC with nanoseconds."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        # A damaged capture can hold any time; beyond the calendar it is told as seconds.
        return f"{seconds}.{nanoseconds:09d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def evidence_of(exhibit_: Exhibit, align: Align) -> Evidence:
    """An exhibit as the report has it."""
    aligned = None if exhibit_.time_ns is None else align(exhibit_.vantage_point, exhibit_.time_ns)
    return Evidence(
        kind=exhibit_.kind,
        vantage_point=exhibit_.vantage_point,
        file=exhibit_.file,
        text=exhibit_.text,
        frame=exhibit_.frame,
        line=exhibit_.line,
        time=None if exhibit_.time_ns is None else iso(exhibit_.time_ns),
        aligned_time=None if aligned is None else iso(aligned),
    )


def reference(connection: Connection) -> ConnectionReference:
    """A connection as findings list it."""
    return ConnectionReference(
        client=str(connection.client),
        server=str(connection.server),
        first=iso(connection.first_ns),
        last=iso(connection.last_ns),
        also_seen_as=tuple(
            SeenAs(place, str(client), str(server))
            for place, view in connection.views.items()
            for client, server in ((view.client, view.server), *view.translated)
            if (client, server) != (connection.client, connection.server)
        ),
    )


def tell(judged: Sequence[Judged], causes: Sequence[CauseFile], align: Align) -> list[tuple[Finding, list[Judged]]]:
    """Findings in the order of the contract (confidence, number of connections, cause, place), each with its connections.

    What is only possible is told once for each place that the packets left: with nobody behind it, the addresses that they went to
    are no places, and a scan of a thousand ports would be a thousand findings.
    """
    groups: dict[tuple[str, Confidence, tuple[str, ...]], list[tuple[Judged, Found | Open]]] = {}
    for one in judged:
        for cause, confidence, verdict in one.causes:
            where = verdict.where
            place = () if where is None else (where,) if isinstance(where, str) else where
            groups.setdefault((cause, confidence, place[:1] if confidence == "possible" else place), []).append((one, verdict))
    files = {cause.id: cause for cause in causes}
    told = [
        (_finding(cause, confidence, group, files[cause], align), [one for one, _ in group])
        for (cause, confidence, _), group in groups.items()
    ]
    return sorted(told, key=lambda entry: in_order(entry[0]))


def in_order(finding: Finding) -> tuple[int, int, str, str]:
    """Sorts findings by confidence, number of connections, cause and place (docs/json.md)."""
    return CONFIDENCES.index(finding.confidence), -finding.connection_count, finding.cause, str(finding.where)


def _finding(cause: str, confidence: Confidence, group: list[tuple[Judged, Found | Open]], file: CauseFile, align: Align) -> Finding:
    group = sorted(group, key=lambda entry: (entry[0].connection.first_ns, str(entry[0].connection.client)))
    first, verdict = group[0]
    exhibits: list[Exhibit] = []
    for one, answer in group:
        own = list(answer.exhibits) or _failure_exhibits(one.connection)
        if exhibits and len(exhibits) + len(own) > EVIDENCE_PER_FINDING:
            break
        exhibits += [shown for shown in own if shown not in exhibits]
    where = verdict.where if len({answer.where for _, answer in group}) == 1 else None
    others = len(group) - 1
    if isinstance(verdict, Found):
        title = verdict.statement + (f", and so for {others} more" if others else "")
        founds = [answer for _, answer in group if isinstance(answer, Found)]
        together = file.together(founds) if file.together else ""
        explanation = f"{verdict.explanation} {together}".strip()
        next_evidence, fix = verdict.next_evidence, verdict.fix
    else:
        clause = file.title.rstrip(".")
        symptom = first.connection.failure.symptom if first.connection.failure else ""
        title = f"it may be that {clause[0].lower()}{clause[1:]}"
        explanation = f"{symptom[:1].upper()}{symptom[1:]}. This fits: {verdict.because}. What was captured does not decide it."
        next_evidence, fix = verdict.next_evidence, ()
    return Finding(
        cause=cause,
        confidence=confidence,
        title=title,
        explanation=explanation,
        where=None if where is None else At(where) if isinstance(where, str) else Between(where),
        connections=tuple(reference(one.connection) for one, _ in group),
        connection_count=len(group),
        evidence=tuple(evidence_of(shown, align) for shown in exhibits),
        ruled_out=tuple(RuledOutCause(other, because) for other, because in first.ruled_out.items()),
        next_evidence=next_evidence,
        fix=fix,
        references=file.references,
    )


def _failure_exhibits(connection: Connection) -> list[Exhibit]:
    failure = connection.failure
    if failure is None:
        return []
    return [exhibit(segment, connection, failure.symptom) for segment in (*failure.segments[:2], *failure.segments[-1:])]


def unexplained(one: Judged) -> Unexplained:
    """A failed connection without confirmed or likely cause."""
    connection = one.connection
    symptom = connection.failure.symptom if connection.failure else ""
    return Unexplained(str(connection.client), str(connection.server), iso(connection.first_ns), iso(connection.last_ns), symptom)
