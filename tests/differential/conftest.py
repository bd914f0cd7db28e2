"""Which kernels may be tried here: the name of a world comes in; the test runs, is skipped, or fails where CI must have that world."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tcpwhy import lab


@pytest.fixture
def need_world() -> Callable[[str], None]:
    """Skips where neither namespaces nor User Mode Linux may be made, which never holds on CI."""

    def need(runner: str) -> None:
        try:
            lab.choose(frozenset({"nft", "iptables"}) if runner == "namespaces" else frozenset({"ipip", "ip_vs"}), runner)
        except lab.CannotRun as reason:
            if os.environ.get("CI"):
                pytest.fail(f"{runner}: {reason}")
            pytest.skip(f"{runner}: {reason}")

    return need
