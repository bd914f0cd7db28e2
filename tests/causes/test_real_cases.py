"""The ladders of real cases go in: each cause has one, it names a case of that cause, and the program draws it so."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from scripts.ladders import ROOT, decisive, draw, example_of, real_case_of
from tcpwhy import lab
from tcpwhy.causes import catalogue, real_case
from tcpwhy.causes._real_case import read
from tcpwhy.diagnosis.ladder import Ladder, LadderRow
from tcpwhy.report.escape import columns_of

IDS = [cause.id for cause in catalogue()]
COMMAND = "tcpwhy lab run "


def test_each_cause_has_one_and_nothing_else_has() -> None:
    made = {Path(file.name).stem for file in (files("tcpwhy.causes") / "ladders").iterdir()}
    assert made == set(IDS), "run `python -m scripts.ladders`, then `python -m tcpwhy.cli._reference`"


@pytest.mark.parametrize("cause", IDS)
def test_it_names_a_case_of_its_cause_and_is_short(cause: str) -> None:
    real = real_case(cause)
    assert real is not None
    if real.source.startswith(COMMAND):
        assert lab.by_name(real.source.removeprefix(COMMAND)).cause == cause
    else:
        assert example_of(cause) == ROOT / real.source
    lines = real.ladder.splitlines()
    assert len(lines) <= 45
    assert max(map(columns_of, lines)) <= 100
    assert any(line.startswith(" > +") for line in lines)
    assert read(real.as_text()) == real


@pytest.mark.parametrize("cause", [cause for cause in IDS if example_of(cause)])
def test_an_example_is_drawn_anew_as_it_stands(cause: str) -> None:
    assert real_case_of(cause) == real_case(cause), "run `python -m scripts.ladders`, then `python -m tcpwhy.cli._reference`"


def test_a_case_without_the_cause_has_no_ladder_of_it() -> None:
    with pytest.raises(SystemExit, match="no finding of zero-window"):
        draw(ROOT / "examples" / "synack-lost", "zero-window", "examples/synack-lost")


def row(number: int, *, marked: bool = False) -> LadderRow:
    return LadderRow(number, "client", "A", f"seq {number}", (), marked=marked)


def test_the_decisive_rows_are_those_it_rests_on_with_the_first_and_the_last() -> None:
    whole = Ladder("c", "s", ("c",), (), "2026-01-01T00:00:00Z", tuple(row(n, marked=n in (20, 40)) for n in range(60)), left_out=5)
    short = decisive(whole, 9)
    assert [one.offset_ns for one in short.rows] == [0, 1, 19, 20, 21, 39, 40, 41, 59]
    assert short.left_out == 5 + 51
    assert decisive(short, 9) == short
