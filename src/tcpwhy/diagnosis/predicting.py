"""The states of hosts go in; findings without connections come out: what they say will go wrong, whether anybody captured it or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tcpwhy.causes import CauseFile
from tcpwhy.diagnosis.finding import At, Between, Finding
from tcpwhy.diagnosis.telling import Align, evidence_of

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables


def foretell(hosts: Mapping[str, HostTables], causes: Sequence[CauseFile], told: Sequence[Finding], align: Align) -> list[Finding]:
    """Each cause's predictions, but those whose cause and place a finding about real connections has already."""
    known = {(finding.cause, place) for finding in told if finding.confidence != "possible" for place in _places(finding)}
    found = []
    for cause in causes:
        if cause.predict is None:
            continue
        for one in cause.predict(hosts):
            if (one.cause, one.where) in known:
                continue
            found.append(
                Finding(
                    cause=one.cause,
                    confidence=one.confidence,
                    title=one.statement,
                    explanation=f"{one.explanation} No failed connection of the captures shows it; the state alone says so.",
                    where=At(one.where),
                    connections=(),
                    connection_count=0,
                    evidence=tuple(evidence_of(shown, align) for shown in one.exhibits),
                    next_evidence=one.next_evidence,
                    fix=one.fix,
                    references=cause.references,
                )
            )
    return found


def _places(finding: Finding) -> tuple[str, ...]:
    match finding.where:
        case At(at=place):
            return (place,)
        case Between(between=places):
            return places
        case _:
            return ()
