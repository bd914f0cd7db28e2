"""A folder of cases comes in; what tcpwhy and the other programs say of each goes out, in processes side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.accuracy.counting import failures
from benchmarks.accuracy.judging import Judged, judge, kept_verdicts
from benchmarks.accuracy.making import truth_file
from benchmarks.accuracy.others import Others, ask

TOGETHER = 20
"""Cases that a process judges before it ends: what libraries keep in memory is gone with it."""


def truths_of(folder: Path) -> list[Path]:
    """The truth of each finished case, the first ones of all scenarios before the second ones: a part of them speaks of all causes."""
    slots = sorted(folder.iterdir(), key=lambda slot: (int(slot.suffix[1:]) if slot.suffix[1:].isdecimal() else 0, slot.name))
    return [truth for truth in map(truth_file, slots) if truth is not None]


def kept(folder: Path) -> Iterator[tuple[Judged, Others]]:
    """What was judged before, by this version of the program or another one."""
    for truth in truths_of(folder):
        judged = kept_verdicts(truth)
        if judged is not None:
            yield judged, ask(truth.parent / judged.case)


def judge_one(truth: Path, *, quick: bool) -> tuple[Judged, Others]:
    """One case, by tcpwhy and by the other programs."""
    judged = judge(truth, quick=quick)
    return judged, ask(truth.parent / judged.case)


def judge_all(folder: Path, *, jobs: int, quick: bool, tell: Callable[[str], None]) -> Iterator[tuple[Judged, Others]]:
    """All cases of the folder, in processes that are not kept for long."""
    truths = truths_of(folder)
    number = 0
    for start in range(0, len(truths), TOGETHER * jobs):
        # Fresh processes: DuckDB's threads do not survive a fork. A new pool for each batch, because one that ends its processes after
        # some tasks (max_tasks_per_child) can hang for good in Python 3.11 (CPython issue 115634).
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for judged, told in pool.map(partial(judge_one, quick=quick), truths[start : start + TOGETHER * jobs]):
                number += 1
                problems = list(failures(judged))
                tell(f"{number} of {len(truths)}: {judged.case}, {len(judged.parts)} diagnoses, {len(problems) or 'no'} problems")
                yield judged, told
