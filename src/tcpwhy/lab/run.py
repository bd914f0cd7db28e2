"""The half of the lab that runs outside: names, options and a seed come in, checked cases with their truth go out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from . import runners
from .keep import settle
from .options import Options, with_words
from .scenario import Scenario, StoryDidNotHappen, Truth
from .scenarios import by_name
from .services import build_go_proxy
from .view import CaseView

ATTEMPTS = 5
SECONDS_A_RUN = {"namespaces": 90, "uml": 240}  # until a world is given up; User Mode Linux is slow on a busy machine
AT_ONCE = max(3, min(8, 4 * (os.cpu_count() or 1)))  # worlds at the same time: they mostly wait
A_BOOT = 4  # runs in one boot of User Mode Linux

T = TypeVar("T")


class RunFailed(RuntimeError):
    """Scenarios could not be made to happen: the message holds what the last attempts said, `finished` the others."""

    def __init__(self, message: str, finished: list[LabCase] | None = None) -> None:
        super().__init__(message)
        self.finished = finished or []


@dataclass(frozen=True)
class LabCase:
    """A finished case. `folder` is the case, `expected` the file with the truth beside it, `truth` its content."""

    name: str
    scenario: str
    seed: int
    kernel: str
    options: Options
    folder: Path
    expected: Path
    truth: Mapping[str, object] = field(compare=False)


@dataclass
class _Job:
    scenario: Scenario
    options: Options
    seed: int
    name: str
    runner: str
    folder: Path = Path()
    attempt: int = 0

    @property
    def case(self) -> Path:
        return self.folder / f"case-{self.attempt}"

    @property
    def scratch(self) -> Path:
        return self.folder / f"s{self.attempt}"


def run_scenarios(
    names: Iterable[str],
    out_dir: Path,
    seed: int = 1,
    variants: Mapping[str, str] | None = None,
    *,
    runner: str = "auto",
    keep: Callable[[str, int, str], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[LabCase]:
    """Runs scenarios and writes each as a case `out_dir/NAME` with its truth in `out_dir/NAME.expected.json`.

    `variants` are the options of `Options` as words and hold for all of them. A case's folder is named after its
    scenario, with the variants behind it. A scenario whose story did not happen is tried again with another seed
    drawn from `seed`, five times at most. `keep` is called with the runner's name, the
    world's first process and the list of its namespaces before they go, and the run goes on when it returns. Raises
    runners.CannotRun, RunFailed (which holds what did finish), scenarios.UnknownScenario, UnknownOption.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    jobs = [_plan(by_name(name), variants or {}, seed, runner) for name in names]
    if any(job.scenario.form.startswith("go") for job in jobs):
        build_go_proxy()
    done: dict[str, LabCase] = {}
    failures: list[str] = []
    with ExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="tcpwhy-lab-"))
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        for number, job in enumerate(jobs):
            job.folder = work / str(number)
            job.folder.mkdir()
        booted = [job for job in jobs if job.runner == "uml"]
        batches = spread(
            [booted[first : first + A_BOOT] for first in range(0, len(booted), A_BOOT)],
            [[job] for job in jobs if job.runner == "namespaces"],
        )
        pool = ThreadPoolExecutor(1 if keep else AT_ONCE)
        undo.callback(pool.shutdown, cancel_futures=True)
        worlds = _Worlds()
        undo.callback(worlds.stop_all)  # first of all, so that nobody waits for a world that runs on
        futures = [pool.submit(_run_batch, batch, out_dir, worlds, keep, tell) for batch in batches]
        for future in as_completed(futures):
            try:
                finished = future.result()
            except RunFailed as failure:
                failures.append(str(failure))
                finished = failure.finished
            done |= {case.name: case for case in finished}
    if failures:
        raise RunFailed("; ".join(failures), list(done.values()))
    return [done[job.name] for job in jobs]


def spread(booted: list[list[T]], others: list[list[T]]) -> list[list[T]]:
    """All batches, those that boot a kernel spread over the first two thirds of the others.

    They are the longest and want most of a processor: all at once they would slow each other down, and the last would be waited for.
    """
    share = len(others) * 2 // 3 // len(booted) if booted else 0
    rest = iter(others)
    order = [batch for long in booted for batch in (long, *islice(rest, share))]
    return [*order, *rest]


def _plan(scenario: Scenario, variants: Mapping[str, str], seed: int, runner: str) -> _Job:
    options = with_words(with_words(Options(), scenario.defaults), variants)
    # a zone's name has a slash: Asia/Shanghai
    words = "".join(f"+{key}={value}" for key, value in sorted(variants.items())).replace("/", "-")
    chosen = runners.choose(scenario.needs | options.needs(), runner)
    return _Job(scenario, options, seed, f"{scenario.name}{words}{'' if seed == 1 else f'@{seed}'}", chosen)


class _Worlds:
    """The worlds that run, so that all of them can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def start(self, runner: str, plan: dict[str, object], scratch: Path) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise RunFailed("the lab is being ended")
            world = runners.start(runner, plan, scratch)
            self._running.append(world)
            return world

    def stop_all(self) -> None:
        with self._lock:
            self._closed = True
            for world in self._running:
                runners.stop(world)


def _run_batch(
    jobs: list[_Job],
    out_dir: Path,
    worlds: _Worlds,
    keep: Callable[[str, int, str], None] | None,
    tell: Callable[[str], None],
) -> list[LabCase]:
    """Runs jobs in one world, those that did not happen again in another one, until all have."""
    finished: list[LabCase] = []
    waiting = jobs
    words: dict[str, str] = {}
    for _ in range(ATTEMPTS):
        for job in waiting:
            job.attempt += 1
            job.case.mkdir()
            job.scratch.mkdir()
        _run_world(waiting, worlds, keep)
        again = []
        for job in waiting:
            try:
                finished.append(_finish(job, out_dir))
                tell(f"{job.name}: {finished[-1].folder}")
            except StoryDidNotHappen as reason:
                words[job.name] = str(reason)
                tell(f"{job.name}: attempt {job.attempt} did not come out: {str(reason).strip().splitlines()[-1]}")
                again.append(job)
        waiting = again
        if not waiting:
            return finished
    raise RunFailed("; ".join(f"{job.name}: {words[job.name]}" for job in waiting), finished)


def _run_world(jobs: list[_Job], worlds: _Worlds, keep: Callable[[str, int, str], None] | None) -> None:
    scratch = jobs[0].scratch
    plan: dict[str, object] = {
        "keep": keep is not None,
        "runs": [
            {
                "scenario": job.scenario.name,
                "seed": _seed_of(job),
                "options": job.options.as_words(),
                "case": str(job.case),
                "scratch": str(job.scratch),
            }
            for job in jobs
        ],
    }
    world = worlds.start(jobs[0].runner, plan, scratch)
    try:
        end = time.monotonic() + SECONDS_A_RUN[jobs[0].runner] * len(jobs)
        while world.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
            if keep and (scratch / "kept").exists():
                keep(jobs[0].runner, _first_process(world.pid), (scratch / "kept").read_text())
                break
    finally:
        runners.stop(world)


def _first_process(unshare: int) -> int:
    """The first process of a world, the child of the one that made the namespaces."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    return int(children[0]) if children else unshare


def _seed_of(job: _Job) -> int:
    return job.seed * 1000 + job.attempt


def _finish(job: _Job, out_dir: Path) -> LabCase:
    """Checks the raw case, writes its truth, gives it the form that was asked for, and moves it to its place."""
    report_file = job.scratch / "report.json"
    if not report_file.exists():
        talk = [path.read_text(errors="replace")[-800:] for path in job.scratch.parent.glob("*/*.txt")]
        raise StoryDidNotHappen("the world ended early: " + " ".join(talk))
    report = json.loads(report_file.read_text())
    if report["error"]:
        raise StoryDidNotHappen(str(report["error"]))
    view = CaseView(job.case, job.scratch, job.options, job.scenario.fault, job.scenario.form)
    if view.notes.get("capture_lost"):
        raise StoryDidNotHappen(f"captures lost packets: {view.notes['capture_lost']}")
    truth = job.scenario.check(view)
    changes = settle(job.case, job.options, job.seed)
    expected = _expected(job, report["kernel"], truth, changes)
    target = out_dir / job.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(job.case, target)
    beside = out_dir / f"{job.name}.expected.json"
    beside.write_text(json.dumps(expected, indent=1) + "\n")
    return LabCase(job.name, job.scenario.name, job.seed, report["kernel"], job.options, target, beside, expected)


def _expected(job: _Job, kernel: str, truth: Truth, changes: Mapping[str, object]) -> dict[str, object]:
    causes = sorted({failed.cause for failed in truth.failed})
    return {
        "scenario": job.scenario.name,
        "twin_of": job.scenario.twin_of,
        "seed": job.seed,
        "kernel": kernel,
        "runner": job.runner,
        "options": job.options.as_words(),
        "command": " ".join(
            ["tcpwhy lab run", job.scenario.name, f"--seed {job.seed}"]
            + [f"--variant {key}={value}" for key, value in job.options.as_words().items()]
        ),
        "cause": causes[0] if len(causes) == 1 else (causes or None),
        "confidence_with_all": truth.confidence,
        "failed": [
            {"client": f.client, "server": f.server, "cause": f.cause}
            | ({"first": _iso(f.first_ns)} if f.first_ns is not None else {})
            | ({"made_good": True} if f.made_good else {})
            for f in truth.failed
        ],
        "tolerated": truth.tolerated,
        "healthy_connections": truth.healthy_connections,
        "notes": truth.notes,
        **_of_clients(truth),
        **changes,
    }


def _of_clients(truth: Truth) -> dict[str, object]:
    if truth.clients is None:
        return {}
    rows = []
    for one in truth.clients:
        row = asdict(one)
        row["first"] = _iso(row.pop("first_ns"))
        rows.append(row)
    return {"clients": rows}


def _iso(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
