"""A case and its truth come in; what tcpwhy says of each connection, with each part of the evidence, goes out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

import tcpwhy
from benchmarks.accuracy.removing import Evidence, parts_of
from tcpwhy.connections.connection import Connection
from tcpwhy.diagnosis.finding import CONFIDENCES, Report
from tcpwhy.diagnosis.telling import reference

Ends = tuple[str, str]
Answer = Literal["confirmed", "likely", "possible", "unexplained", "missed", "wrong"]
ANSWERS: tuple[Answer, ...] = ("confirmed", "likely", "possible", "unexplained", "missed", "wrong")
"""Of a connection that failed: the true cause so sure; seen to fail without any cause named; not seen to fail; another cause named."""

HEAVY = 400
"""Connections from which on a case counts as heavy: fewer parts of it are judged."""

JUDGED = "judged.json"


class Verdict(msgspec.Struct, frozen=True):
    """What was said of a connection that failed, with one part of the evidence."""

    part: str
    answer: Answer
    said: tuple[str, ...]
    """The causes, each with its confidence."""


class FailedOne(msgspec.Struct, frozen=True):
    """A connection that failed, and all that was said of it."""

    client: str
    server: str
    cause: str
    places: tuple[str, ...]
    """Those that saw a packet of it."""
    verdicts: tuple[Verdict, ...]
    made_good: bool = False
    """It went on soon, and counts only because its link loses many packets: that takes two places to tell."""


class Accusation(msgspec.Struct, frozen=True):
    """A healthy connection that was said to have failed."""

    part: str
    client: str
    server: str
    said: tuple[str, ...]


class Judged(msgspec.Struct, frozen=True):
    """All that is to be known of one case."""

    program: str
    """What `program` said when it was judged."""
    quick: bool
    """Judged with all evidence and with single places only."""
    case: str
    scenario: str
    cause: str | None
    runner: str
    kernel: str
    options: dict[str, str]
    healthy: int
    """Connections in which nothing failed."""
    parts: dict[str, str]
    """The kind of each part of the evidence."""
    failed: tuple[FailedOne, ...]
    accusations: tuple[Accusation, ...]
    crashes: dict[str, str]
    """By part: the traceback of a diagnosis that did not end well."""


@cache
def program() -> str:
    """A digest of the program that judges: with another one, cases are judged anew."""
    digest = hashlib.sha256()
    root = Path(tcpwhy.__file__).parent
    for path in sorted([*root.rglob("*.py"), *root.glob("*.so")]):
        if "lab" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def judge(truth_file: Path, *, quick: bool = False) -> Judged:
    """Diagnose a case with each part of its evidence; the result is kept beside it, and taken from there next time.

    `quick`: with all of it and with single vantage points only.
    """
    judged = kept_verdicts(truth_file)
    if judged is None or judged.program != program() or (judged.quick and not quick):
        judged = judge_anew(truth_file, quick=quick)
        (truth_file.parent / JUDGED).write_bytes(msgspec.json.format(msgspec.json.encode(judged), indent=1))
    return judged


def kept_verdicts(truth_file: Path) -> Judged | None:
    """What was kept beside a case, by whatever version of the program; None where nothing was."""
    kept = truth_file.parent / JUDGED
    if kept.exists():
        with contextlib.suppress(msgspec.ValidationError):  # written by another version of this file
            return msgspec.json.decode(kept.read_bytes(), type=Judged)
    return None


def judge_anew(truth_file: Path, *, quick: bool = False) -> Judged:
    """The same without looking at what is kept."""
    truth = json.loads(truth_file.read_text())
    case = truth_file.parent / truth_file.name.removesuffix(".expected.json")
    causes: dict[Ends, str] = {(entry["client"], entry["server"]): entry["cause"] for entry in truth["failed"]}
    good = {(entry["client"], entry["server"]) for entry in truth["failed"] if entry.get("made_good")}
    spared = {_ends(str(entry)) for entry in truth["tolerated"]}
    names = _Names(case, [*causes, *spared])
    heavy = truth["healthy_connections"] > HEAVY
    verdicts: dict[Ends, list[Verdict]] = {ends: [] for ends in causes}
    accusations: list[Accusation] = []
    crashes: dict[str, str] = {}
    parts: dict[str, str] = {}
    for part in parts_of(case, states=0, pairs=2) if heavy else parts_of(case):
        if quick and part.kind not in ("all", "one place"):
            break  # these come first
        parts[part.name] = part.kind
        try:
            report = _report(case, part)
        except Exception:  # noqa: BLE001  a crash is a result too: it is told and counted
            crashes[part.name] = traceback.format_exc()
            continue
        said = names.said(report)
        seen = names.true_ends((one.client, one.server) for one in report.unexplained if one.client and one.server)
        for ends, cause in causes.items():
            words = said.pop(ends, set())
            verdicts[ends].append(Verdict(part.name, _answer(cause, words, seen=ends in seen), _words(words)))
        accusations += [Accusation(part.name, *ends, _words(words)) for ends, words in sorted(said.items()) if ends not in spared]
    return Judged(
        program=program(),
        quick=quick,
        case=case.name,
        scenario=truth["scenario"],
        cause=truth["cause"],
        runner=truth["runner"],
        kernel=truth["kernel"],
        options=truth["options"],
        healthy=truth["healthy_connections"],
        parts=parts,
        failed=tuple(FailedOne(*ends, causes[ends], names.places.get(ends, ()), tuple(verdicts[ends]), ends in good) for ends in causes),
        accusations=tuple(accusations),
        crashes=crashes,
    )


def _report(case: Path, part: Evidence) -> Report:
    with tempfile.TemporaryDirectory(prefix=".part-", dir=case.parent) as folder:
        part.lay_out(case, Path(folder))
        with tcpwhy.open_case(folder, index=False) as opened:
            return opened.diagnosis().report


def _answer(cause: str, said: set[tuple[str, str]], *, seen: bool) -> Answer:
    if not said:
        return "unexplained" if seen else "missed"
    if any(confidence != "possible" and other != cause for other, confidence in said):
        return "wrong"
    sure = [confidence for other, confidence in said if other == cause]
    return min(sure, key=CONFIDENCES.index) if sure else "wrong"  # type: ignore[arg-type]


def _words(said: set[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{cause} {confidence}" for cause, confidence in sorted(said))


def _ends(text: str) -> Ends:
    client, _, server = text.partition("-")
    return client, server


class _Names:
    """The ends of the connections that matter, by all names that some place knows them by."""

    def __init__(self, case: Path, wanted: list[Ends]) -> None:
        self.places: dict[Ends, tuple[str, ...]] = {}
        self._true: dict[Ends, Ends] = {}
        with tcpwhy.open_case(case, index=False) as opened:
            for ends in wanted:
                found = _found(opened, ends)
                self.places[ends] = tuple(sorted({place for one in found for place in one.views}))
                for alias in {ends, *(alias for one in found for alias in _aliases(one))}:
                    self._true.setdefault(alias, ends)
                    self._true.setdefault((alias[1], alias[0]), ends)  # a place without the handshake may guess the ends wrongly

    def true_ends(self, several: Iterable[Ends]) -> set[Ends]:
        """The ends as the truth names them; others stay as they are."""
        return {self._true.get(ends, ends) for ends in several}

    def said(self, report: Report) -> dict[Ends, set[tuple[str, str]]]:
        """All that findings say, by connection."""
        found: dict[Ends, set[tuple[str, str]]] = {}
        for finding in report.findings:
            for ends in self.true_ends((one.client, one.server) for one in finding.connections):
                found.setdefault(ends, set()).add((finding.cause, finding.confidence))
        return found


def _found(opened: tcpwhy.Case, ends: Ends) -> list[Connection]:
    try:
        return opened.find("-".join(ends))
    except tcpwhy.CaseError:  # no place saw a packet of it
        return []


def _aliases(connection: Connection) -> set[Ends]:
    told = reference(connection)
    return {(told.client, told.server), *((one.client, one.server) for one in told.also_seen_as)}
