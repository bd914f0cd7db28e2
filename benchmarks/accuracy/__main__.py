"""Options come in; cases are made, judged, and told as docs/accuracy.md: all of it, or one stage by its name."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.accuracy import others, plan
from benchmarks.accuracy.cases import judge_all, kept
from benchmarks.accuracy.counting import count, failures
from benchmarks.accuracy.making import make
from benchmarks.accuracy.table import HEALTHY, RUNS, page
from tcpwhy.causes import ALL_IDS

STAGES = ("make", "judge", "table")
PROBLEMS = "problems.txt"
"""In the folder of the cases: a line for each answer that was wrong or missing."""

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="make accuracy", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES)} (default: all of them)")
    parser.add_argument("--folder", type=Path, default=Path("accuracy-cases"), help="where cases and verdicts are kept (%(default)s)")
    parser.add_argument("--causes", default="", help="only these, separated by commas")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs a cause, spread over its scenarios (%(default)s)")
    parser.add_argument("--healthy", type=int, default=HEALTHY, help="connections in runs where nothing fails (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="everything drawn at random follows from it (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="cases made, or judged, at the same time (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="judge with all evidence and with single vantage points only")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes (docs/accuracy.md)")
    found = parser.parse_args()
    for stage in found.stages:
        if stage not in STAGES:
            parser.error(f"read `{stage}`, expected one of {', '.join(STAGES)}")
    found.causes = frozenset(filter(None, found.causes.split(",")))
    for cause in found.causes:
        if cause not in ALL_IDS:
            parser.error(f"--causes: read `{cause}`, expected ids such as {ALL_IDS[0]}")
    return found


def tell(line: str) -> None:
    """Progress, beside what the command prints."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the stages that were asked for, in their order; those after `make` take every case of the folder."""
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either signal lets the worlds that run come to their end
    stages = options.stages or STAGES
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    if "make" in stages:
        make(plan.faulty(options.causes, options.runs), folder, seed=options.seed, jobs=options.jobs, wanted=None, tell=tell)
        make(plan.healthy(), folder, seed=options.seed, jobs=options.jobs, wanted=options.healthy, tell=tell)
    if "judge" in stages:
        cases = list(judge_all(folder, jobs=options.jobs, quick=options.quick, tell=tell))
        problems = [line for judged, _ in cases for line in failures(judged)]
        (folder / PROBLEMS).write_text("".join(f"{line}\n" for line in problems))
        tell(f"{len(problems)} problems, in {folder / PROBLEMS}")
    if "table" in stages:
        cases = list(kept(folder))
        versions = len({judged.program for judged, _ in cases})
        if versions > 1:
            tell(f"the verdicts are of {versions} versions of tcpwhy: `judge` brings all of them to this one")
        options.page.write_text(page(count(cases), others.versions()))
        tell(f"written: {options.page}")


if __name__ == "__main__":
    main()
