"""A case folder, captures, logs or archives go in; vantage points and their files come out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from tcpwhy.evidence.archive import Budget, remove_folder
from tcpwhy.evidence.capture_times import CaptureTimes, read_first_time
from tcpwhy.evidence.error import EvidenceError
from tcpwhy.evidence.kind import Sniff
from tcpwhy.evidence.pasted import Section
from tcpwhy.evidence.rotation import Times, in_order
from tcpwhy.evidence.settings import Role, ServiceSettings, Settings, offset_in_seconds
from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State


@dataclasses.dataclass(frozen=True, slots=True)
class Pasted:
    """Listings of packets in one text, as tcpdump or tshark print them, that one place printed."""

    path: Path
    sections: tuple[Section, ...]


@dataclasses.dataclass(slots=True)
class VantagePoint:
    """A place where evidence was taken, and its files."""

    name: str
    captures: list[Path] = dataclasses.field(default_factory=list)
    """In the order of their first packets."""
    listings: list[Pasted] = dataclasses.field(default_factory=list)
    """Stand for captures that were not given."""
    logs: list[Path] = dataclasses.field(default_factory=list)
    state: State | None = None
    state_before: State | None = None
    """An earlier snapshot; with it counters become differences."""
    role: Role | None = None
    addresses: tuple[str, ...] = ()
    """As tcpwhy.toml gives them."""
    clock_offset_s: float | None = None
    """This clock minus true time, as tcpwhy.toml gives it; None where it is to be measured."""
    log_timezone: str | None = None
    """The zone of logs that name none, as tcpwhy.toml gives it."""
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def has_evidence(self) -> bool:
        """False where there is nothing to read."""
        return bool(self.captures or self.listings or self.logs or self.state or self.state_before)


@dataclasses.dataclass(slots=True)
class Evidence:
    """A case, opened. A context manager: closing it removes what archives were unpacked to."""

    root: Path
    """The folder that `shown` is relative to: the case, or the one that holds all that was named."""
    vantage_points: list[VantagePoint]
    """In the order of their names."""
    services: dict[str, ServiceSettings]
    """By `ip:port`."""
    notes: list[str]
    """What was passed over."""
    losses: list[str]
    """What should have been read and could not be (exit status 3)."""
    places: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    """Folders and the names they are shown by; an unpacked archive's folder is shown as the archive."""
    temporary: list[Path] = dataclasses.field(default_factory=list)
    given_logs: list[Path] = dataclasses.field(default_factory=list)
    """Logs that were named by themselves: `--log`."""

    def shown(self, path: Path) -> str:
        """A path as reports print it: relative to the case.

        What came from an archive stands below the archive's name.
        """
        return shown_path(path, self.places)

    def source(self, vantage_point: str, path: Path, *, frame: int | None = None, line: int | None = None) -> Source:
        """The place of a fact in a file of this case."""
        return Source(vantage_point, self.shown(path), frame=frame, line=line)

    def is_temporary(self, path: Path) -> bool:
        """True for a file that goes away with `close`: beside it nothing can be kept."""
        return any(path.is_relative_to(folder) for folder in self.temporary)

    def vantage_point(self, name: str) -> VantagePoint | None:
        """The vantage point of that name."""
        return next((found for found in self.vantage_points if found.name == name), None)

    def close(self) -> None:
        """Remove what was unpacked. May be called twice."""
        while self.temporary:
            remove_folder(self.temporary.pop())

    def __enter__(self) -> Evidence:
        """The case itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close, whatever happened."""
        self.close()


def shown_path(path: Path, places: Iterable[tuple[Path, str]]) -> str:
    """`path` relative to the innermost of `places`, after the name of that place."""
    best: tuple[int, str] | None = None
    for folder, name in places:
        if path.is_relative_to(folder):
            relative = path.relative_to(folder).as_posix()
            text = relative if not name else name if relative == "." else f"{name}/{relative}"
            if best is None or len(folder.parts) >= best[0]:
                best = (len(folder.parts), text)
    return best[1] if best else path.as_posix()


def open_evidence(
    paths: Sequence[str | Path] | str | Path,
    *,
    logs: Sequence[str | Path] = (),
    sniff: Sniff | None = None,
    times: Times | None = None,
    budget: Budget | None = None,
) -> Evidence:
    """Open a case folder, or several `name=path` or plain paths of captures, logs, folders and archives.

    `logs` are further logs, `name=file` or plain. `sniff` is the decode core's opinion on whether a file is a
    capture, `times` reads the times of a capture (by default its head and tail are read), `budget` bounds
    unpacking. `-` is standard input. Raises EvidenceError where an argument does not exist, tcpwhy.toml is
    wrong, or nothing is evidence.
    """
    from tcpwhy.evidence.gathering import Gathering  # it needs the classes of this module

    arguments = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not arguments and not logs:
        raise EvidenceError("arguments", "nothing is named, expected a case folder or captures")
    gathering = Gathering(sniff=sniff, times=times, budget=budget or Budget())
    with contextlib.ExitStack() as undo:
        undo.callback(gathering.remove_temporary)
        root = gathering.take_root([*arguments, *map(str, logs)])
        for argument in arguments:
            gathering.add_argument(argument)
        for log in logs:
            gathering.add_log_argument(str(log))
        gathering.settle_loose_files()
        evidence = _finish(gathering.points, gathering.settings, gathering.notes, gathering.losses, arguments)
        evidence.root = root
        evidence.places = gathering.places
        evidence.temporary = gathering.temporary
        evidence.given_logs = gathering.given_logs
        undo.pop_all()
    return evidence


def _finish(
    points: dict[str, VantagePoint],
    settings: Settings,
    notes: list[str],
    losses: list[str],
    arguments: list[str],
) -> Evidence:
    kept = [point for _, point in sorted(points.items()) if point.has_evidence]
    if not kept:
        where = arguments[0] if len(arguments) == 1 else "arguments"
        seen = losses + notes
        what = "holds no evidence, expected a capture, a state/ folder or a log"
        if seen:
            what += " (" + "; ".join(seen[:3]) + ("; …)" if len(seen) > 3 else ")")
        raise EvidenceError(where, what, "a case has one folder a host, each with captures, logs and state/")
    for point in kept:
        found = settings.vantage.get(point.name)
        if found is not None:
            point.role = found.role
            point.addresses = found.addresses
            point.log_timezone = found.log_timezone
            point.clock_offset_s = None if found.clock_offset is None else offset_in_seconds(found.clock_offset)
        if len(point.captures) > 1:
            point.captures = in_order(point.captures, _first_time)
        point.logs.sort()
    names = {point.name for point in kept}
    notes += [
        f"tcpwhy.toml names the vantage point {name}, of which there is no evidence" for name in sorted(set(settings.vantage) - names)
    ]
    return Evidence(Path(), kept, dict(settings.service), notes, losses)


def _first_time(path: Path) -> CaptureTimes:
    try:
        return read_first_time(path)
    except OSError:
        return CaptureTimes(None, None, ())  # the scan will say why it cannot be read


def private_folder() -> Path:
    """A new folder that only this user can enter."""
    return Path(os.path.realpath(tempfile.mkdtemp(prefix="tcpwhy-")))
