"""A lab case's truth about real clients goes in; what `clients` says against it comes out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tcpwhy import lab
from tcpwhy.clients.row import ClientRow

HEADER = "X-Team"


@dataclass(frozen=True)
class KnownClient:
    """One entry of the truth's `clients`, as tcpwhy.lab.scenario.RealClient documents it."""

    client: str
    server: str
    real_client: str | None
    also_right: tuple[str, ...]
    headers: Mapping[str, str]
    open_before_capture: bool
    requests: int
    first_ns: int
    evidence: frozenset[str]

    @property
    def teams(self) -> set[str]:
        """The values of the header."""
        return values(self.headers)

    def allows(self, name: str | None) -> bool:
        """Whether a name is none, the right one, or that of the same client as another place sees it."""
        return name is None or name == self.real_client or name in self.also_right


def values(headers: Mapping[str, str]) -> set[str]:
    """The different values of X-Team that a row tells."""
    return set(headers[HEADER].split(", ")) if headers.get(HEADER) else set()


def known(expected: Mapping[str, object]) -> list[KnownClient]:
    """What an expected.json says of clients."""
    listed = expected["clients"]
    assert isinstance(listed, list)
    return [
        KnownClient(
            client=row["client"],
            server=row["server"],
            real_client=row["real_client"],
            also_right=tuple(row["also_right"]),
            headers=row["headers"],
            open_before_capture=row["open_before_capture"],
            requests=row["requests"],
            first_ns=nanoseconds(row["first"]),
            evidence=frozenset(row["evidence"]),
        )
        for row in listed
    ]


def nanoseconds(text: str) -> int:
    """The time of `2026-11-21T16:37:47.303123456Z`, since 1970."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def paired(truth: Iterable[KnownClient], rows: Iterable[ClientRow]) -> list[tuple[KnownClient, ClientRow | None]]:
    """Each true connection with its row; connections with the same ends, which ports used again make, are paired by their times."""
    left: dict[tuple[str, str], list[ClientRow]] = {}
    for row in rows:
        left.setdefault((row.client, row.server), []).append(row)
    pairs: list[tuple[KnownClient, ClientRow | None]] = []
    for one in truth:
        same = left.get((one.client, one.server), [])
        apart = [abs(row.first_ns - one.first_ns) for row in same]
        pairs.append((one, same.pop(apart.index(min(apart))) if same else None))
    return pairs


def misnamed(truth: Iterable[KnownClient], rows: Iterable[ClientRow]) -> list[str]:
    """Wrong names, those that only stand among candidates left out."""
    return [
        f"{one.client} > {one.server} is {one.real_client or 'nobody that can be told'}, and was called {row.real_client} ({row.basis})"
        for one, row in paired(truth, rows)
        if row is not None and not one.allows(row.real_client)
    ]


def disputed(truth: Iterable[KnownClient], rows: Iterable[ClientRow]) -> list[str]:
    """Everything in which rows made from all of a case's evidence are not what is true."""
    wrong = []
    for one, row in paired(truth, rows):
        if row is None:
            wrong.append(f"{one} has no row")
        elif row.real_client != one.real_client and not (one.real_client is None and one.allows(row.real_client)):
            wrong.append(f"{one} was called {row.real_client} ({row.basis}, {row.candidates})")
        elif values(row.headers) != one.teams:
            wrong.append(f"{one} was said to have sent {row.headers}")
        elif (row.open_before_capture, row.requests) != (one.open_before_capture, one.requests):
            wrong.append(f"{one}: open before the capture {row.open_before_capture}, {row.requests} requests")
        elif (row.confidence is None) != (row.real_client is None) or bool(row.basis) != (row.real_client is not None):
            wrong.append(f"{one}: {row.confidence}, {row.basis}")
    return wrong


def less(case: lab.LabCase, folder: Path, keeps: Callable[[str, str], bool]) -> Path:
    """A copy of the case with the files for which `keeps` (vantage point, file below it) holds."""
    target = folder / "less"
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted(path for path in case.folder.rglob("*") if path.is_file()):
        place, _, rest = file.relative_to(case.folder).as_posix().partition("/")
        if rest and not place.startswith(".") and keeps(place, rest):
            copy = target / place / rest
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
    return target
