"""Examples and lab runs come in; src/tcpwhy/causes/ladders/ goes out: for each cause, one connection of a real case as a ladder.

`python -m scripts.ladders [CAUSE…]` takes the case from examples/ where one has the cause, from `--cases FOLDER` where the lab's
cases lie there, and makes it anew otherwise. `python -m tcpwhy.cli._reference` then brings the ladders into docs/causes.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import msgspec

import tcpwhy
from tcpwhy import lab
from tcpwhy.causes import catalogue
from tcpwhy.causes._real_case import RealCase
from tcpwhy.diagnosis.finding import CONFIDENCES
from tcpwhy.diagnosis.ladder import Ladder
from tcpwhy.report.ladder import draw_ladder

ROOT = Path(__file__).parent.parent
LADDERS = ROOT / "src" / "tcpwhy" / "causes" / "ladders"
EXAMPLES = ROOT / "examples"
WIDTH = 100
"""Columns, as those of the commands in docs/."""

ROWS = 10
"""Rows of a ladder at most: those that the finding rests on come first."""


def example_of(cause: str) -> Path | None:
    """The example that has this cause, None where none has."""
    for expected in sorted(EXAMPLES.glob("*.expected.json")):
        if json.loads(expected.read_text()).get("cause") == cause:
            return EXAMPLES / expected.name.removesuffix(".expected.json")
    return None


def scenario_of(cause: str) -> str:
    """The scenario that has the cause's name, else the first one that has the cause; KeyError where none has."""
    names = [name for name, scenario in lab.catalogue().items() if scenario.cause == cause]
    if not names:
        raise KeyError(f"no scenario has the cause {cause}")
    return cause if cause in names else names[0]


def draw(case: Path, cause: str, source: str) -> RealCase:
    """The ladder of the surest finding of this cause in a case; SystemExit where there is none."""
    with tcpwhy.open_case(case, index=False) as opened:
        diagnosis = opened.diagnosis()
    found = [
        (CONFIDENCES.index(finding.confidence), number)
        for number, finding in enumerate(diagnosis.report.findings)
        if finding.cause == cause and diagnosis.ladders[number] is not None
    ]
    if not found:
        raise SystemExit(f"{case}: no finding of {cause}")
    ladder = diagnosis.ladders[min(found)[1]]
    assert ladder is not None
    return RealCase(source, "\n".join(draw_ladder(decisive(ladder), WIDTH, utc=True)))


def decisive(ladder: Ladder, most: int = ROWS) -> Ladder:
    """The ladder with `most` rows at most: those it rests on, the first two, the last, then what stands beside the former."""
    marked = [number for number, row in enumerate(ladder.rows) if row.marked]
    beside = [near for number in marked for near in (number - 1, number + 1) if 0 <= near < len(ladder.rows)]
    wanted = dict.fromkeys([*marked, *range(min(2, len(ladder.rows))), len(ladder.rows) - 1, *beside, *range(len(ladder.rows))])
    kept = sorted(list(wanted)[:most])
    dropped = len(ladder.rows) - len(kept)
    return msgspec.structs.replace(ladder, rows=tuple(ladder.rows[number] for number in kept), left_out=ladder.left_out + dropped)


def real_case_of(cause: str, cases: Path | None = None) -> RealCase:
    """The ladder of a cause, of the example, of a case in `cases`, or of a fresh run of the lab."""
    example = example_of(cause)
    if example is not None:
        return draw(example, cause, example.relative_to(ROOT).as_posix())
    scenario = scenario_of(cause)
    source = f"tcpwhy lab run {scenario}"
    if cases is not None and (cases / f"{scenario}.expected.json").exists():
        return draw(cases / scenario, cause, source)
    with tempfile.TemporaryDirectory(prefix="tcpwhy-ladders-") as folder:
        (case,) = lab.run_scenarios([scenario], Path(folder))
        return draw(case.folder, cause, source)


def main() -> None:
    """Write the files anew."""
    parser = argparse.ArgumentParser(prog="python -m scripts.ladders", description=__doc__)
    parser.add_argument("causes", nargs="*", metavar="CAUSE", help="only these (default: all that are examined)")
    parser.add_argument("--cases", type=Path, help="a folder where `tcpwhy lab run` left cases of this version")
    options = parser.parse_args()
    LADDERS.mkdir(exist_ok=True)
    for cause in options.causes or [one.id for one in catalogue()]:
        path = LADDERS / f"{cause}.txt"
        path.write_text(real_case_of(cause, options.cases).as_text(), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
