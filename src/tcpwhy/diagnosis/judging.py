"""The answers of all causes about one connection go in; its confirmed, likely or possible causes come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tcpwhy.causes import CauseFile, Found, Open, RuledOut, Verdict
from tcpwhy.connections.connection import Connection
from tcpwhy.diagnosis.finding import CONFIDENCES, Confidence
from tcpwhy.diagnosis.splitting import splitting_first


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What the catalogue says of one connection."""

    connection: Connection
    causes: tuple[tuple[str, Confidence, Found | Open], ...]
    """One with `confirmed` or `likely`, or any number with `possible`."""
    ruled_out: Mapping[str, str]

    @property
    def is_explained(self) -> bool:
        """It has a confirmed or likely cause."""
        return any(confidence != "possible" for _, confidence, _ in self.causes)


def examine(connection: Connection, causes: tuple[CauseFile, ...], suspected: frozenset[str]) -> dict[str, Verdict]:
    """Asks each cause whose columns look like it."""
    verdicts: dict[str, Verdict] = {}
    for cause in causes:
        if cause.id in suspected:
            verdicts[cause.id] = cause.examine(connection)
        else:
            verdicts[cause.id] = RuledOut("nothing in its packets looks like it")
    return verdicts


def judge(connection: Connection, verdicts: Mapping[str, Verdict]) -> Judged:
    """The confidences of docs/json.md.

    One cause found and no other standing is confirmed with two places or a host's state, likely with one place; else possible. Of two
    found causes one of which excludes the other and not the other way round, that one is the root and the other its effect.
    """
    found = {cause: verdict for cause, verdict in verdicts.items() if isinstance(verdict, Found)}
    effects = _effects(found)
    found = {cause: verdict for cause, verdict in found.items() if cause not in effects}
    open_ = {cause: verdict for cause, verdict in verdicts.items() if isinstance(verdict, Open)}
    ruled_out = {cause: verdict.because for cause, verdict in verdicts.items() if isinstance(verdict, RuledOut)} | effects
    if len(found) == 1:
        excludes = next(iter(found.values())).excludes
        ruled_out.update({cause: because for cause, because in excludes.items() if cause in open_ or cause not in verdicts})
        open_ = {cause: verdict for cause, verdict in open_.items() if cause not in excludes}
    if len(found) == 1 and not open_:
        cause, proof = next(iter(found.items()))
        reached: Confidence = "likely" if proof.basis == "one place" else "confirmed"
        confidence = max(reached, proof.at_most, key=CONFIDENCES.index)
        return Judged(connection, ((cause, confidence, proof),), _in_order(ruled_out, cause))
    standing: dict[str, Found | Open] = {**found, **open_}
    possible = {cause: dataclasses.replace(verdict, next_evidence=splitting_first(cause, standing)) for cause, verdict in standing.items()}
    return Judged(connection, tuple((cause, "possible", possible[cause]) for cause in sorted(possible)), _in_order(ruled_out))


def _effects(found: Mapping[str, Found]) -> dict[str, str]:
    """The found causes that another one, the root, excludes, each with the root's reason."""
    return {
        effect: because
        for root, verdict in found.items()
        for effect, because in verdict.excludes.items()
        if effect in found and effect != root and root not in found[effect].excludes
    }


def _in_order(ruled_out: dict[str, str], found: str | None = None) -> dict[str, str]:
    return {cause: ruled_out[cause] for cause in sorted(ruled_out) if cause != found}
