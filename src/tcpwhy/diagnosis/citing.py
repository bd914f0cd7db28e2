"""Evidence and ladders go in that name frames; those of listings come out naming lines, for a text has no frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tcpwhy.diagnosis.finding import Evidence, Finding
from tcpwhy.diagnosis.ladder import Ladder

if TYPE_CHECKING:
    from tcpwhy.case import Case

LineOf = Callable[[str, str, int], int | None]
"""A vantage point, a file as reports name it, and a frame of it, to the line of the listing; None for a capture."""


def line_finder(case: Case) -> LineOf:
    """What finds the lines of a case's listings."""
    if case.listed is None or not case.listed.lines:
        return lambda _place, _file, _frame: None
    tables = {
        (index.name, name): case.listed.lines[path]
        for index in case.vantage_indexes()
        for path, name in zip(index.paths, case.files_of(index), strict=True)
        if path in case.listed.lines
    }

    def line_of(place: str, file: str, frame: int) -> int | None:
        table = tables.get((place, file))
        return None if table is None else table.line(frame)

    return line_of


def cite(finding: Finding, line_of: LineOf) -> Finding:
    """The finding, its evidence in listings named by line."""
    evidence = tuple(_cited(one, line_of) for one in finding.evidence)
    return finding if evidence == finding.evidence else msgspec.structs.replace(finding, evidence=evidence)


def _cited(one: Evidence, line_of: LineOf) -> Evidence:
    line = None if one.frame is None else line_of(one.vantage_point, one.file, one.frame)
    return one if line is None else msgspec.structs.replace(one, frame=None, line=line)


def cite_ladders(ladders: Sequence[Ladder | None], line_of: LineOf) -> tuple[Ladder | None, ...]:
    """The ladders, their cells in listings named by line."""
    return tuple(None if ladder is None else cite_ladder(ladder, line_of) for ladder in ladders)


def cite_ladder(ladder: Ladder, line_of: LineOf) -> Ladder:
    """The ladder, its cells in listings named by line."""
    rows = tuple(
        msgspec.structs.replace(
            row,
            cells=tuple(msgspec.structs.replace(cell, line=line_of(cell.place, cell.file, cell.frame)) for cell in row.cells),
        )
        for row in ladder.rows
    )
    return msgspec.structs.replace(ladder, rows=rows)
