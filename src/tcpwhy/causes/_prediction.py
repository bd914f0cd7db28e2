"""What a host's state alone says will go wrong: no packet is needed for it, and no connection is named."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tcpwhy.causes._verdict import Exhibit


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One cause that the state of the hosts foretells."""

    cause: str
    confidence: Literal["likely", "possible"]
    """Likely where counters show that it happens."""
    statement: str
    """A whole sentence in the conditional."""
    explanation: str
    where: str
    """The vantage point whose state says so."""
    exhibits: tuple[Exhibit, ...]
    next_evidence: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.exhibits:
            raise ValueError("a prediction rests on lines of a state, and none was given")
