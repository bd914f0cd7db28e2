"""A lab case comes in; the case opened once, with what its tests ask of it made once, goes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import tcpwhy
from tcpwhy import lab
from tcpwhy.causes import catalogue
from tcpwhy.connections.connection import Connection
from tcpwhy.diagnosis.diagnose import Diagnosis, suspected_causes, tell_failures
from tcpwhy.tables.flows import query


@dataclass(frozen=True)
class OpenedCase:
    """`truth` is the lab's case, `case` what tcpwhy opened of it."""

    truth: lab.LabCase
    case: tcpwhy.Case

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The whole case's diagnosis."""
        return self.case.diagnosis()

    @cached_property
    def connections(self) -> list[Connection]:
        """All connections, healthy ones too, with the failures that their packets and the logs tell: no column chose them."""
        assert self.diagnosis  # made first, as in real use: building connections adds to what the clocks are aligned by
        assembly = self.case.assembly()
        numbers = [row[0] for row in query(assembly.db, "SELECT DISTINCT connection FROM member ORDER BY 1")]
        built = list(assembly.connections(numbers).values())
        tell_failures(self.case, assembly, built)
        return built

    @cached_property
    def suspected(self) -> dict[int, frozenset[str]]:
        """By connection: the causes whose SUSPECT it meets."""
        return suspected_causes(self.case.assembly(), catalogue(), [one.number for one in self.connections])
