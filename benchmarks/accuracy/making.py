"""Slots come in; a folder of cases, each with its truth beside it, goes out. What is there already stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from benchmarks.accuracy.plan import Slot, draws
from tcpwhy import lab

NOT_MADE = "not-made.txt"
"""In a slot's folder, where no draw of it happened: what each one said."""


def truth_file(folder: Path) -> Path | None:
    """The truth of the case in a slot's folder, None where there is no case."""
    return next(iter(sorted(folder.glob("*.expected.json"))), None)


def make(slots: Iterable[Slot], folder: Path, *, seed: int, jobs: int, wanted: int | None, tell: Callable[[str], None]) -> None:
    """Make a case for each slot, `jobs` at a time; with `wanted`, until the cases hold so many healthy connections."""
    held = 0
    running: set[Future[int]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        for slot in slots:
            if wanted is not None and held >= wanted:
                break
            there = healthy_connections(folder / slot.name)
            if there is not None:
                held += there
                continue
            running.add(pool.submit(make_one, slot, folder / slot.name, seed, tell))
            if len(running) >= jobs:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                held += sum(future.result() for future in done)
        for future in running:
            future.result()


def healthy_connections(folder: Path) -> int | None:
    """How many a finished slot holds: none where it did not happen; None where it is still to be made."""
    if (folder / NOT_MADE).exists():
        return 0
    truth = truth_file(folder)
    return None if truth is None else int(json.loads(truth.read_text())["healthy_connections"])


def make_one(slot: Slot, folder: Path, seed: int, tell: Callable[[str], None]) -> int:
    """Try the slot's draws until one happens; the folder has its name only when it is whole. Returns its healthy connections."""
    part = folder.with_name(f".{folder.name}.part")
    said = []
    for draw in draws(slot, seed):
        shutil.rmtree(part, ignore_errors=True)
        try:
            lab.run_scenarios([slot.scenario], part, draw.seed, draw.variants)
        except (lab.RunFailed, lab.CannotRun) as reason:
            said.append(f"seed {draw.seed} {draw.variants}: {reason}")
            tell(f"{slot.name}: {_last_line(str(reason))} {draw.variants}")
            continue
        part.rename(folder)
        tell(f"{slot.name}: made, {draw.variants}")
        return healthy_connections(folder) or 0
    shutil.rmtree(part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOT_MADE).write_text("\n\n".join(said) + "\n")
    return 0


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][-300:]
