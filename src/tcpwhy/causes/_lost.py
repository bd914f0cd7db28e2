"""A failed connection goes in; which of its data waited, and what became of each time that it was sent, come out."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Sequence

from tcpwhy.causes._resets import closed_before
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.losses import Crossing, crossings, joined
from tcpwhy.connections.packet import ACK, seq_before
from tcpwhy.connections.stalls import Stall, StallKind, stalls

LEAST_NS = 100_000_000
"""Shorter waits are what TCP makes good without a timeout; nobody notices them."""

WAITED_NS = 1_000_000_000
"""Shorter than this, waiting for what was lost ends no connection: programs wait for seconds."""

ANSWER_NS = 1_000_000_000
"""What comes back comes within this time; round trips are shorter."""

PART = 0.5
"""Part of the time that somebody waited for which lost packets must account, to be why."""


class End(enum.Enum):
    """What became of data that was sent, or of the answer to it."""

    LOST = "it was lost on the way"
    ANSWER_LOST = "it arrived, and what was sent back was lost"
    TAKEN = "it arrived and was acknowledged, and what followed it waited"
    ARRIVED = "it arrived, and what was sent back did too"
    UNANSWERED = "it arrived, and nothing was sent back"
    UNKNOWN = "no capture tells"


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One time that the data was sent."""

    segment: Segment
    end: End
    crossing: Crossing | None
    """Where it, or what answered it, was lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Data that waited, and each time that it was sent."""

    stall: Stall
    attempts: tuple[Attempt, ...]

    @property
    def lost(self) -> tuple[Attempt, ...]:
        """Those that came to nothing because something was lost."""
        return tuple(one for one in self.attempts if one.end in (End.LOST, End.ANSWER_LOST))

    @property
    def crossing(self) -> Crossing:
        """Where most of them were lost."""
        places = [one.crossing for one in self.lost if one.crossing is not None]
        return max(places, key=places.count)

    @property
    def is_explained(self) -> bool:
        """Something was lost each time, as far as can be told; the last time may be the one that came through."""
        waited = self.attempts[:-1] if self.stall.ended and len(self.attempts) > 1 else self.attempts
        waited = tuple(one for one in waited if one.end is not End.TAKEN)
        ends = {one.end for one in waited}
        return bool(self.lost) and ends <= {End.LOST, End.ANSWER_LOST, End.UNKNOWN} and 2 * len(self.lost) >= len(waited)


def waits(connection: Connection) -> tuple[Wait, ...]:
    """The times in which a failed connection's data was sent again and again, the longest first; none with a closed window."""
    failure = connection.failure
    if failure is None:
        return ()
    fates = _Fates(connection)
    until_ns = gave_up_ns(connection)
    found = []
    for stall in stalls(connection, LEAST_NS):
        if stall.kind is StallKind.WINDOW or (failure.kind is not Kind.STALLED and stall.start_ns > until_ns):
            continue
        found.append(Wait(stall, _attempts(connection, stall, fates)))
        if failure.kind in (Kind.RESET, Kind.GAVE_UP) and stall.end_ns > until_ns:
            found[-1] = _until(found[-1], until_ns)
    return tuple(sorted((one for one in found if one.attempts), key=lambda one: -one.stall.length_ns))


def gave_up_ns(connection: Connection) -> int:
    """When a failed connection was over for one of its ends: where it had closed before it sent RST, that close; aligned."""
    failure = connection.failure
    assert failure is not None
    if failure.kind is not Kind.RESET or not connection.resets:
        return failure.at_ns
    reset = connection.resets[0]
    fin = closed_before(connection, reset, reset.sender)
    return failure.at_ns if fin is None else min(fin.aligned_ns, failure.at_ns)


def _until(wait: Wait, until_ns: int) -> Wait:
    """What was waited for until then, and nothing of what came later."""
    segments = tuple(one for one in wait.stall.segments if one.aligned_ns < until_ns)
    stall = dataclasses.replace(wait.stall, end_ns=until_ns, ended=False, segments=segments)
    return Wait(stall, tuple(one for one in wait.attempts if one.segment.aligned_ns < until_ns))


class _Fates:
    """What became of each segment of a connection, by its identity."""

    def __init__(self, connection: Connection) -> None:
        self.lost: dict[int, Crossing] = {}
        crossed: Counter[int] = Counter()
        entered: Counter[int] = Counter()
        for crossing in crossings(connection):
            for one in crossing.missing:
                self.lost.setdefault(id(one.segment), crossing)
            crossed.update(id(one) for one in crossing.passed)
            entered.update(id(one) for one in connection.segments if one.sender == crossing.side and one.seen_at(crossing.near))
        self.passed = {segment for segment, times in crossed.items() if times == entered[segment]}
        """Those that passed wherever they were seen to enter."""


def _attempts(connection: Connection, stall: Stall, fates: _Fates) -> tuple[Attempt, ...]:
    sent = [one for one in stall.segments if one.sender == stall.side and (one.length or one.opens or one.is_syn_ack)]
    if not sent:
        return ()
    answers = [one for one in connection.segments if one.sender != stall.side and one.flags & ACK and not one.is_reset
               and sent[0].aligned_ns <= one.aligned_ns]  # fmt: skip
    sent = _first_unacknowledged(sent, [one for one in answers if id(one) not in fates.lost])
    ends = [one.aligned_ns for one in sent[1:]] + [max(stall.end_ns, sent[-1].aligned_ns + ANSWER_NS)]
    answers = [one for one in answers if one.aligned_ns < ends[-1]]
    return tuple(_attempt(one, until, answers, fates) for one, until in zip(sent, ends, strict=True))


def _first_unacknowledged(sent: Sequence[Segment], answers: Sequence[Segment]) -> list[Segment]:
    """Those that begin at the first byte which was not acknowledged when they were sent: others are repeated for their own sake."""
    kept, reached, heard = [], sent[0].seq, 0
    for one in sent:
        while heard < len(answers) and answers[heard].aligned_ns < one.aligned_ns:
            if seq_before(reached, answers[heard].ack):
                reached = answers[heard].ack
            heard += 1
        if one.seq in (reached, sent[0].seq):
            kept.append(one)
    return kept


def _attempt(segment: Segment, until_ns: int, answers: Sequence[Segment], fates: _Fates) -> Attempt:
    crossing = fates.lost.get(id(segment))
    if crossing is not None:
        return Attempt(segment, End.UNKNOWN if crossing.doubt else End.LOST, crossing)
    if id(segment) not in fates.passed:
        return Attempt(segment, End.UNKNOWN, None)
    own = [one for one in answers if segment.aligned_ns <= one.aligned_ns < until_ns]
    lost = next((fates.lost[id(one)] for one in own if id(one) in fates.lost), None)
    if lost is not None:
        return Attempt(segment, End.UNKNOWN if lost.doubt else End.ANSWER_LOST, lost)
    if any(seq_before(segment.seq, one.ack) for one in own):
        return Attempt(segment, End.TAKEN, None)
    return Attempt(segment, End.ARRIVED if own else End.UNANSWERED, None)


def waited_in_vain(connection: Connection, found: Sequence[Wait]) -> bool:
    """True where the waits account for the failure: it is itself such a wait, or somebody gave up who had waited mostly for these."""
    failure = connection.failure
    if failure is None or not found:
        return False
    if failure.kind not in (Kind.GAVE_UP, Kind.STALLED, Kind.SILENT) or not failure.segments:
        # Whoever reset it still waited, or had given up before what he waited for came.
        end_ns = gave_up_ns(connection)
        # What came through just before was too late as well: the program had made up its mind.
        waiting = [one.stall for one in found if not one.stall.ended or one.stall.end_ns >= end_ns - ANSWER_NS]
        return any(end_ns - stall.start_ns >= WAITED_NS for stall in waiting)
    began_ns = failure.segments[0].aligned_ns
    spans = [(one.stall.start_ns, failure.at_ns if not one.stall.ended else one.stall.end_ns) for one in found]
    spans = [(max(begin, began_ns), min(end, failure.at_ns)) for begin, end in spans]
    waited_ns = sum(end - begin for begin, end in joined(span for span in spans if span[0] < span[1]))
    least_ns = WAITED_NS if failure.kind is Kind.GAVE_UP else 0
    return waited_ns >= max(least_ns, PART * (failure.at_ns - began_ns))
