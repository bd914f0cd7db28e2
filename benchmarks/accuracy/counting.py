"""Judged cases come in; the numbers of docs/accuracy.md go out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from benchmarks.accuracy.judging import Answer, FailedOne, Judged
from benchmarks.accuracy.others import Others, both
from tcpwhy.causes import ALL_IDS
from tcpwhy.diagnosis.finding import CONFIDENCES

LESS = ("one place", "one removal", "two removals")


@dataclass
class CauseCount:
    """What was said of one cause's connections. `less` and `at_place` count answers, not connections."""

    runs: int = 0
    connections: int = 0
    whole: Counter[Answer] = field(default_factory=Counter)
    at_place: Counter[Answer] = field(default_factory=Counter)
    """Of each connection at each place that saw it, with that place alone."""
    unseen: int = 0
    """Answers `missed` in `at_place` where that place's packets show no trouble, or only what was made good soon.

    Trouble: a reset, data or a SYN sent again, a closed window.
    """
    less: Counter[Answer] = field(default_factory=Counter)
    """With something removed, single places included."""
    weakened: int = 0
    """Answers in `less` that are less sure than the one with all evidence, and not wrong."""
    tshark: int = 0
    tcptrace: int = 0
    tcptrace_read: int = 0
    """Connections in captures that tcptrace could read."""

    @property
    def recall(self) -> float:
        """The share of connections whose true cause is named with all evidence, alone or among those that fit."""
        return _share(_named(self.whole), self.connections)

    @property
    def recall_at_place(self) -> float:
        """The same with one place, of those where any trouble shows."""
        return _share(_named(self.at_place), self.at_place.total() - self.unseen)


@dataclass
class Count:
    """All numbers."""

    causes: dict[str, CauseCount] = field(default_factory=dict)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(true cause, what was said) with all evidence."""
    healthy_runs: int = 0
    healthy: int = 0
    """Connections of runs in which nothing fails."""
    beside: int = 0
    """Healthy connections of runs in which others fail."""
    accused: Counter[str] = field(default_factory=Counter)
    """Healthy connections that were accused, by the kind of evidence; a connection counts once a kind."""
    parts: Counter[str] = field(default_factory=Counter)
    """Diagnoses by the kind of evidence."""
    crashes: int = 0
    flagged: Counter[str] = field(default_factory=Counter)
    """By program: healthy connections, as it counts them, that it flags; with ` of` behind the name: all that it saw."""
    kernels: set[str] = field(default_factory=set)


def count(cases: Iterable[tuple[Judged, Others]]) -> Count:
    """Add all cases up."""
    numbers = Count()
    for judged, others in cases:
        numbers.kernels.add(judged.kernel)
        numbers.crashes += len(judged.crashes)
        numbers.parts.update(judged.parts.values())
        if judged.failed:
            numbers.beside += judged.healthy
            numbers.causes.setdefault(judged.failed[0].cause, CauseCount()).runs += 1
        else:
            numbers.healthy += judged.healthy
            numbers.healthy_runs += 1
            _count_flags_of_healthy(numbers, others)
        accused = {(judged.parts[one.part], one.client, one.server) for one in judged.accusations}
        numbers.accused.update(kind for kind, _, _ in accused)
        for one in judged.failed:
            _count_failed(numbers, judged, one, others)
    numbers.causes = {cause: numbers.causes[cause] for cause in ALL_IDS if cause in numbers.causes}
    return numbers


def _count_failed(numbers: Count, judged: Judged, one: FailedOne, others: Others) -> None:
    cause = numbers.causes.setdefault(one.cause, CauseCount())
    cause.connections += 1
    ends = both(one.client, one.server)
    cause.tshark += any(ends in told.flagged for told in others.tshark)
    cause.tcptrace += any(ends in told.flagged for told in others.tcptrace)
    cause.tcptrace_read += any(ends in told.connections for told in others.tcptrace)
    whole: Answer = next((verdict.answer for verdict in one.verdicts if judged.parts[verdict.part] == "all"), "missed")
    for verdict in one.verdicts:
        kind = judged.parts[verdict.part]
        if kind == "all":
            cause.whole[verdict.answer] += 1
            numbers.confusion[one.cause, _said(verdict.said, verdict.answer)] += 1
            continue
        cause.less[verdict.answer] += 1
        cause.weakened += verdict.answer != "wrong" and _rank(verdict.answer) > _rank(whole)
        place = verdict.part.removesuffix(" alone")
        if kind == "one place" and place in one.places:
            cause.at_place[verdict.answer] += 1
            cause.unseen += verdict.answer == "missed" and (one.made_good or ends not in others.troubled.get(place, ()))


def _said(said: tuple[str, ...], answer: Answer) -> str:
    sure = [words.rpartition(" ")[0] for words in said if not words.endswith(" possible")]
    return sure[0] if sure else "several" if said else answer


def _rank(answer: Answer) -> int:
    order: tuple[str, ...] = (*CONFIDENCES, "unexplained", "missed")
    return order.index(answer) if answer in order else len(order)


def _named(answers: Counter[Answer]) -> int:
    return answers["confirmed"] + answers["likely"] + answers["possible"]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _count_flags_of_healthy(numbers: Count, others: Others) -> None:
    for name, tolds in (("tshark", others.tshark), ("tcptrace", others.tcptrace)):
        for told in tolds:
            numbers.flagged[name] += len(told.flagged)
            numbers.flagged[f"{name} of"] += len(told.connections)
            numbers.flagged[f"{name} captures"] += 1
            numbers.flagged[f"{name} unread"] += not told.readable


def failures(judged: Judged) -> Iterator[str]:
    """A line for each thing that was wrong in a case, or not found with all evidence."""
    for part, words in judged.crashes.items():
        yield f"crash\t{judged.case}\t{part}\t{words.strip().rpartition(chr(10))[2]}"
    for accusation in judged.accusations:
        ends = f"{accusation.client}-{accusation.server}"
        yield f"accused\t{judged.case}\t{accusation.part}\t{ends}\thealthy\t{', '.join(accusation.said)}"
    for one in judged.failed:
        for verdict in one.verdicts:
            whole = judged.parts[verdict.part] == "all"
            place = judged.parts[verdict.part] == "one place" and verdict.part.removesuffix(" alone") in one.places
            if verdict.answer == "wrong" or (verdict.answer in ("missed", "unexplained") and (whole or place)):
                said = ", ".join(verdict.said) or "nothing"
                yield f"{verdict.answer}\t{judged.case}\t{verdict.part}\t{one.client}-{one.server}\t{one.cause}\t{said}"
