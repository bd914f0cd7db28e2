"""The ladders of docs/causes.md that come from the lab: this machine's cases of the same scenarios are drawn alike."""

from __future__ import annotations

import re

import pytest

from scripts.ladders import draw
from tcpwhy import lab
from tcpwhy.causes import RealCase, catalogue, real_case

COMMAND = "tcpwhy lab run "
KEPT = {real.source.removeprefix(COMMAND): (cause.id, real) for cause in catalogue() if (real := real_case(cause.id)) is not None}

pytestmark = pytest.mark.lab


def shape(real: RealCase) -> tuple[int, set[str]]:
    """How many places stand side by side, and the flags of the rows that the finding rests on: neither depends on luck."""
    heading = next(line for line in real.ladder.splitlines() if re.fullmatch(r" {5,}\S+( {2,}\S+)*", line))
    flags = re.findall(r"^ > \+[\d ]+\.[\d ]+  ([A-Z]+)", real.ladder, re.MULTILINE)
    return len(heading.split()), {one.replace("P", "") for one in flags}  # which segment of several was lost is luck, and so is PSH


@pytest.mark.parametrize("lab_case", sorted(name for name, (_, real) in KEPT.items() if real.source.startswith(COMMAND)), indirect=True)
def test_a_fresh_case_is_drawn_alike(lab_case: lab.LabCase) -> None:
    cause, kept = KEPT[lab_case.scenario]
    drawn = draw(lab_case.folder, cause, kept.source)
    places, flags = shape(drawn)
    assert flags, drawn.ladder
    # Which packets a link loses at random is luck: of another run others are shown.
    assert (places, flags if cause != "packet-loss" else shape(kept)[1]) == shape(kept), drawn.ladder
