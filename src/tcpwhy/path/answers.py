"""What single tests of a packet say goes in, what they say together comes out: yes, no, or that it cannot be told and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """It cannot be told."""

    because: str
    is_chance: bool = False
    """It hangs on more than the packet (a rate, a random number, the time): asked again, the answer may be another."""


Answer = bool | Unknown


def negate(answer: Answer, negated: bool) -> Answer:
    """With `!` in front."""
    return answer if isinstance(answer, Unknown) else answer != negated


def all_of(answers: Iterable[Answer]) -> Answer:
    """No where one is no; else unknown where one is unknown. Stops at the first no."""
    unknown: Unknown | None = None
    for answer in answers:
        if answer is False:
            return False
        if isinstance(answer, Unknown):
            unknown = unknown or answer
    return unknown if unknown is not None else True


def any_of(answers: Iterable[Answer]) -> Answer:
    """Yes where one is yes; else unknown where one is unknown."""
    unknown: Unknown | None = None
    for answer in answers:
        if answer is True:
            return True
        if isinstance(answer, Unknown):
            unknown = unknown or answer
    return unknown if unknown is not None else False
