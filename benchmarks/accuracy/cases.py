"""A folder of cases comes in; what tcpwhy and the other programs say of each goes out, in processes side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.accuracy.counting import failures
from benchmarks.accuracy.judging import Judged, judge
from benchmarks.accuracy.making import truth_file
from benchmarks.accuracy.others import Others, ask


def judge_one(truth: Path, *, quick: bool) -> tuple[Judged, Others]:
    """One case, by tcpwhy and by the other programs."""
    judged = judge(truth, quick=quick)
    return judged, ask(truth.parent / judged.case)


def judge_all(folder: Path, *, jobs: int, quick: bool, tell: Callable[[str], None]) -> Iterator[tuple[Judged, Others]]:
    """All cases of the folder, in the order of their names, each in a process that is not kept for long."""
    truths = [truth for truth in map(truth_file, sorted(folder.iterdir())) if truth is not None]
    # fresh processes: DuckDB's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=20) as pool:
        for number, (judged, told) in enumerate(pool.map(partial(judge_one, quick=quick), truths), start=1):
            problems = list(failures(judged))
            tell(f"{number} of {len(truths)}: {judged.case}, {len(judged.parts)} diagnoses, {len(problems) or 'no'} problems")
            yield judged, told
