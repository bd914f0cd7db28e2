"""The order of all tests: what needs the lab's cases comes late, for they may still be being made; what must be alone comes last."""

from __future__ import annotations

import signal

import hypothesis
import pytest

from tests.lab.cases import comes_late

# Other tests run beside on few processors: how long one example takes says nothing there. Endless ones are caught by the tests of time.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def pytest_configure() -> None:
    """Lets SIGINT have its meaning: a shell's background job inherits it ignored, and so would the programs that tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the order otherwise, also that of fixtures which serve several tests."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, bool]:
    if item.get_closest_marker("alone") is not None:
        return 2, False
    if "all_lab_cases" not in getattr(item, "fixturenames", ()):
        return 0, False
    name = item.callspec.params.get("lab_case") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return 1, isinstance(name, str) and comes_late(name)
