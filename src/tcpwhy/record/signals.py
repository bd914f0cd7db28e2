"""SIGTERM and SIGHUP come in; an exception that ends what runs within, as ^C raises one, goes out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Ended(SystemExit):
    """SIGTERM or SIGHUP came; no Exception, so that nothing in between takes it for an error."""

    def __init__(self, number: int) -> None:
        """`number` is that of the signal."""
        self.status = 128 + number
        """As a shell tells it; where nobody asks for it, the process ends with it."""
        super().__init__(self.status)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Ended within, so that nothing is left behind; for the main thread."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
