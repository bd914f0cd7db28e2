"""Random hosts and packets: the walk must say what a real kernel did, and may leave few cases open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.differential import worlds
from tests.differential.compare import compare
from tests.differential.generate import Kernel, generate

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SEEDS: tuple[tuple[Kernel, int, int, int], ...] = (
    ("own", 1, 20, 60),
    ("own", 101, 20, 60),
    ("uml", 501, 5, 120),
)
"""Kernel, first seed, configurations, probes of each. Repeat one by `python -m tests.differential SEED [--uml] --probes N`."""

MOST_UNKNOWN = 0.05
"""The part of probes that the walk may call unknown though the whole state was collected."""


@pytest.mark.parametrize(("kernel", "first", "count", "probes"), SEEDS, ids=[f"{kernel}-{first}" for kernel, first, _, _ in SEEDS])
def test_the_walk_says_what_the_kernel_did(
    kernel: Kernel, first: int, count: int, probes: int, tmp_path: Path, need_world: Callable[[str], None]
) -> None:
    runner = "namespaces" if kernel == "own" else "uml"
    need_world(runner)
    has_users = os.geteuid() == 0 or kernel == "uml"
    configurations = [generate(seed, probes, kernel=kernel, has_users=has_users) for seed in range(first, first + count)]
    found = [one for outcome in worlds.run(runner, configurations, tmp_path) for one in compare(outcome)]
    assert len(found) >= count * probes  # and those that follow connections known before
    differing = [one for one in found if one.differences]
    assert not differing, "\n\n".join(
        [f"{len(differing)} of {len(found)} probes differ", *(f"seed {one.configuration.seed}\n{one}" for one in differing[:5])]
    )
    unknown = [one for one in found if one.is_unknown]
    assert len(unknown) <= MOST_UNKNOWN * len(found), "\n\n".join(map(str, unknown[:5]))
