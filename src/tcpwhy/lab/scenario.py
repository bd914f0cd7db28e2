"""The words of the lab: what a scenario declares, and what the truth about a finished case is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .view import CaseView
    from .world import World


class StoryDidNotHappen(AssertionError):
    """The run ended, but its evidence does not hold what the scenario claims (a hash fell otherwise): try again."""


@dataclass(frozen=True)
class FailedConnection:
    """One connection that failed. `client` and `server` are `ip:port`; `first_ns` the time of its first packet.

    `made_good`: all of it was delivered soon; it counts because a link loses many packets, which takes two places to tell.
    """

    client: str
    server: str
    cause: str
    first_ns: int | None = None
    made_good: bool = False


@dataclass(frozen=True)
class RealClient:
    """Who was behind one connection at its server: `client` and `server` are `ip:port` there.

    `real_client` is the best answer that the case's evidence allows: `ip:port`, `ip` where nothing tells the port, None
    where nothing in the case can tell. `also_right` holds what is no wrong name either: the addresses between, which are
    the best answer with less evidence. `headers` are those of requests sent while the captures ran, `requests` their
    number. `first_ns` is the time of the first packet at the server. `evidence` names what in the case can identify the
    client: `toa`, `proxy`, `header`, `lb-table`, `lb-capture` (the client's side of the balancer, captured there or before
    it), and behind a NAT node `conntrack`, `nat-capture`.
    """

    client: str
    server: str
    real_client: str | None
    also_right: list[str]
    headers: dict[str, str]
    open_before_capture: bool
    requests: int
    first_ns: int
    evidence: list[str]


@dataclass
class Truth:
    """What is true of a case, worked out by its scenario from the whole evidence, before anything is taken away.

    `failed` holds every connection that failed. `tolerated` names those (`client-server`) on which the contract leaves
    room, so that neither accusing nor acquitting them is wrong. `confidence` is the least confidence that a diagnosis
    with all of the evidence must reach. `clients` tells who was behind each connection, None where the scenario does not ask.
    """

    failed: list[FailedConnection] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    healthy_connections: int = 0
    confidence: str | None = None
    notes: list[str] = field(default_factory=list)
    clients: list[RealClient] | None = None


@dataclass(frozen=True)
class Scenario:
    """A story: hosts, links, load and a fault, and the check that it really happened.

    `story` runs inside the lab's world and is told by `world.fault` whether to make the fault (its twin does not).
    `check` reads the finished case, asserts that the story happened (else StoryDidNotHappen) and returns the truth.
    `needs` names what the kernel must have: the words of `runners.PROBES`.
    `cause` is the id of the contract's section 6, None for a story in which nothing fails.
    `form` tells several scenarios of one file apart.
    """

    name: str
    title: str
    story: Callable[[World], None]
    check: Callable[[CaseView], Truth]
    cause: str | None = None
    needs: frozenset[str] = frozenset()
    defaults: Mapping[str, str] = field(default_factory=dict)
    form: str = ""
    twin_of: str | None = None

    @property
    def fault(self) -> bool:
        """Whether the story makes its fault."""
        return self.twin_of is None


def forms(
    told: Iterable[tuple[str, str, str]],
    *,
    story: Callable[[World], None],
    check: Callable[[CaseView], Truth],
    cause: str,
    needs: Iterable[str] = (),
    defaults: Mapping[str, str] | None = None,
) -> tuple[Scenario, ...]:
    """The scenarios of one story: name, title and form of each."""
    return tuple(Scenario(name, title, story, check, cause, frozenset(needs), defaults or {}, form) for name, title, form in told)


def healthy_twin(scenario: Scenario) -> Scenario:
    """The same topology and load without the fault: nothing fails."""
    return Scenario(
        name=f"{scenario.name}-healthy",
        title=f"healthy twin of {scenario.name}: the same topology and load, no fault",
        story=scenario.story,
        check=scenario.check,
        cause=None,
        needs=scenario.needs,
        defaults=scenario.defaults,
        form=scenario.form,
        twin_of=scenario.name,
    )
