"""The order of all tests, and which of them one process runs together.

What needs the lab's cases comes late, for they may still be being made; what must be alone comes last.
"""

from __future__ import annotations

import signal

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tcpwhy import lab
from tests.lab.cases import comes_late

OF_LAB_CASES = ("tests/lab/", "tests/verdicts/")
"""Where tests are whose parameter is a lab case."""

# Other tests run beside on few processors: how long one example takes says nothing there. Endless ones are caught by the tests of time.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def pytest_configure() -> None:
    """Lets SIGINT and SIGHUP have their meaning: a background job, or nohup, inherits them ignored, and so would what tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Hands out tests to several processes by what they share."""
    return _ByWhatTheyShare(config, log)


class _ByWhatTheyShare(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps in one process a file's tests, and all tests of one lab case, whichever file they are in: they share fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        parameter = test.partition("[")[2].removesuffix("]")
        # Elsewhere a parameter of that name is a cause's: it needs no case, and must not bring those that wait for one to the front.
        return parameter if file.startswith(OF_LAB_CASES) and parameter in lab.catalogue() else file


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the order otherwise, also that of fixtures which serve several tests."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, bool, str]:
    if item.get_closest_marker("alone") is not None:
        return 2, False, ""
    if "all_lab_cases" not in getattr(item, "fixturenames", ()):
        return 0, False, ""
    name = _lab_case_of(item)
    return 1, not name or comes_late(name), name


def _lab_case_of(item: pytest.Item) -> str:
    """The scenario whose case a test looks at; empty where it looks at none."""
    name = item.callspec.params.get("lab_case") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return name if isinstance(name, str) else ""
