"""Arguments go in one by one; their files, told by kind, come out under the vantage points they belong to."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from tcpwhy.evidence.archive import Budget, remove_folder, unpack
from tcpwhy.evidence.arguments import absolute, exists, split_argument
from tcpwhy.evidence.capture_times import CaptureTimes, read_capture_times
from tcpwhy.evidence.case import Pasted, VantagePoint, private_folder, shown_path
from tcpwhy.evidence.compression import read_head
from tcpwhy.evidence.error import EvidenceError
from tcpwhy.evidence.kind import CAPTURE_NAME, HEAD, LOG_NAME, Kind, Sniff, is_text, kind_of, plain_name, text_kind
from tcpwhy.evidence.pasted import Section, find_sections, has_listing
from tcpwhy.evidence.rotation import Times, group_rotated, stem
from tcpwhy.evidence.settings import ServiceSettings, Settings, VantageSettings, read_settings
from tcpwhy.evidence.sosreport import SOS, read_sosreport
from tcpwhy.evidence.state import STATE_FILES, Host, State
from tcpwhy.evidence.state_kind import state_name_of
from tcpwhy.evidence.unpacked import STATE, STATE_BEFORE, descended, host_name, may_be_evidence

NAMED = 20
"""Files of no known kind that are named one by one in a vantage point's notes; the rest are counted."""


class Gathering:
    """The state of one call of open_evidence."""

    def __init__(self, *, sniff: Sniff | None, times: Times | None, budget: Budget) -> None:
        """See open_evidence."""
        self.points: dict[str, VantagePoint] = {}
        self.settings = Settings()
        self.notes: list[str] = []
        self.losses: list[str] = []
        self.places: list[tuple[Path, str]] = []
        self.temporary: list[Path] = []
        self._sniff = sniff
        self._times: Times = times or _times_of
        self._budget = budget
        self._loose_captures: list[Path] = []
        self._loose_logs: list[Path] = []
        self.given_logs: list[Path] = []
        self._loose_tables: list[tuple[Path, str]] = []
        self._unknown: dict[str, int] = {}
        self._seen_folders: set[tuple[int, int]] = set()
        self._alone = False
        self._depths: dict[Path, int] = {}
        self._sosreports: list[Path] = []

    # Arguments

    def add_argument(self, argument: str) -> None:
        """A case folder, a state folder, a capture, a log or an archive, perhaps as `name=path`. Raises EvidenceError."""
        name, text = split_argument(argument)
        path = self._regular(text, argument)
        if path.is_dir():
            if path.name == STATE and any((path / state_file).is_file() for state_file in STATE_FILES):
                self._add_state(path, name or path.parent.name or STATE)
            elif name is not None:
                self._add_tree(path, name)
            else:
                self._add_case(path, _folder_name(path))
            return
        kind = self._kind(path)
        if kind in ("log", "unknown") and not _is_log(path) and self._is_pasted(path):
            kind = "listing"  # a ticket: what is named by itself is looked through for packets, whatever stands around them
        if kind == "archive":
            folder = self._unpacked(path, self._show(path))
            if folder is not None:
                inner = descended(folder)
                if self._alone:  # the archive stands for the folder it holds, so names are relative to that
                    self.places.append((inner, ""))
                if name is not None:
                    self._add_tree(inner, name)
                else:
                    self._add_case(inner, stem(path.name.replace(".tar", "")) if inner == folder else inner.name)
        elif name is None:
            self._add_loose(path, kind)
        else:
            self._add_file(path, kind, self._point(name))

    def _is_pasted(self, path: Path) -> bool:
        try:
            return is_text(read_head(path, HEAD)) and has_listing(path)
        except OSError as error:
            self.losses.append(f"{self._show(path)} cannot be read ({error.strerror or error})")
            return False

    def add_log_argument(self, argument: str) -> None:
        """A log, perhaps as `name=file`. Raises EvidenceError where it is missing or no text."""
        name, text = split_argument(argument)
        path = self._regular(text, argument)
        if path.is_dir():
            raise EvidenceError(argument, "is a folder, expected a log file")
        kind = self._kind(path)
        if kind in ("capture", "archive", "settings"):
            raise EvidenceError(argument, f"is no log but {_article(kind)}, expected text")
        if kind == "unknown":
            with path.open("rb") as stream:
                if text_kind(stream.read(8192), "any.log") == "unknown":
                    raise EvidenceError(argument, "is binary, expected a log in text")
        self.given_logs.append(path)
        if name is None:
            self._loose_logs.append(path)
        elif path not in self._point(name).logs:
            self._point(name).logs.append(path)

    def take_root(self, arguments: list[str]) -> Path:
        """Settle the folder that names are shown relative to.

        Before any argument is added. Raises EvidenceError.
        """
        self._alone = len(arguments) == 1
        folders = []
        for argument in arguments:
            path = absolute(split_argument(argument)[1])
            folders.append(path if exists(str(path)) and path.is_dir() else path.parent)
        root = Path(os.path.commonpath(folders))
        self.places.append((root, ""))
        return root

    def remove_temporary(self) -> None:
        """Undo the unpacking."""
        while self.temporary:
            remove_folder(self.temporary.pop())

    def settle_loose_files(self) -> None:
        """Captures and logs given by themselves become vantage points, rotated sets one each."""
        groups = group_rotated(list(dict.fromkeys(self._loose_captures)), self._times)
        names = [group.name for group in groups]
        for group in groups:
            name = group.name
            if names.count(name) > 1:  # capture.pcap of two hosts, in a folder each
                folders = {other.paths[0].parent for other in groups if other.name == name}
                parent = group.paths[0].parent.name
                name = f"{parent}/{name}" if len(folders) > 1 and parent else group.paths[0].name
            self._point(name).captures += [path for path in group.paths if path not in self._point(name).captures]
            if len(group.paths) > 1:
                self._point(name).notes.append(f"{len(group.paths)} captures are taken for one rotated set, by name and times")
        self._settle_listings()
        for path in dict.fromkeys(self._loose_logs):
            self._point(self._owner_of_log(path)).logs.append(path)
        for path, name in self._loose_tables:
            point = self._point(name)
            if point.state is None:
                point.state = self._state(point, {})
            self._take_table(path, point, point.state)
        for text, count in sorted(self._unknown.items()):
            if count > NAMED:
                self.notes.append(f"{text}: {count - NAMED} more files of no known kind were passed over")

    def _owner_of_log(self, path: Path) -> str:
        name = stem(path.name)
        if name in self.points:
            return name
        owners = [
            known
            for known in self.points
            if name.startswith(known) and name[len(known) :][:1] in (".", "-", "_") and not name[len(known) + 1 :][:1].isdigit()
        ]
        return max(owners, key=len) if owners else name

    # Folders

    def _add_case(self, folder: Path, name: str) -> None:
        entries = self._entries(folder)
        if any(entry.name in (STATE, STATE_BEFORE, SOS) and entry.is_dir() for entry in entries):
            self._add_tree(folder, name)
            return
        for entry in entries:
            if entry.is_dir():
                self._add_tree(entry, entry.name)
                continue
            kind = self._kind(entry)
            if kind == "archive":
                unpacked = self._unpacked(entry, self._place(folder, entry.name))
                if unpacked is not None:
                    inner = descended(unpacked)
                    self._add_tree(inner, host_name(inner) or stem(entry.name.replace(".tar", "")))
            else:
                self._add_loose(entry, kind)

    def _add_tree(self, folder: Path, name: str, into: VantagePoint | None = None) -> None:
        """All below `folder` belongs to one vantage point, but for folders that have a state of their own.

        Within a sosreport a folder named state is some program's, as Juju's agents have them.
        """
        if not self._enter(folder):
            return
        point = into if into is not None else self._point(name)
        entries = self._entries(folder)
        folders = {entry.name for entry in entries if entry.is_dir()}
        self._take_state(folder, point, folders)
        states = () if SOS in folders else (STATE, STATE_BEFORE)
        pending = [entry for entry in reversed(entries) if entry.name not in (STATE, STATE_BEFORE)]
        while pending:
            entry = pending.pop()
            if not entry.is_dir():
                kind = self._kind(entry)
                if kind != "archive":
                    self._add_file(entry, kind, point)
                elif (unpacked := self._unpacked(entry, self._place(entry.parent, entry.name))) is not None:
                    self._add_tree(descended(unpacked), point.name, into=point)
                continue
            if any(_is_folder(entry / state) for state in states):
                self._add_tree(entry, f"{name}/{entry.relative_to(folder).as_posix()}")
            elif self._enter(entry):
                pending += reversed(self._entries(entry))

    def _add_state(self, folder: Path, name: str) -> None:
        """A host's state folder that was given by itself; the host is named by the folder around it."""
        point = self._point(name)
        if point.state is None:
            point.state = self._state(point, self._state_files(folder))
        else:
            self.notes.append(f"{self._show(folder)} is another state of {point.name}; passed over")

    def _take_state(self, folder: Path, point: VantagePoint, folders: set[str]) -> None:
        if STATE in folders and point.state is None:
            point.state = self._state(point, self._state_files(folder / STATE))
        if STATE_BEFORE in folders and point.state_before is None:
            point.state_before = self._state(point, self._state_files(folder / STATE_BEFORE))
        if SOS in folders and point.state is None:
            self._sosreports.append(folder)
            report = read_sosreport(folder)
            point.state = self._state(point, report.files, report.host)
            point.notes += [f"{name} was not collected: {reason}" for name, reason in report.host.failed]
            if _is_folder(folder / SOS / "networking" / "namespaces"):
                point.notes.append("a sosreport: the state of the host itself is read, that of its network namespaces is not")

    def _state_files(self, folder: Path) -> dict[str, Path]:
        """The regular files by name; a pipe, a device or a dead link where a state file should be is a loss."""
        try:
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            self.losses.append(f"{self._show(folder)} cannot be read ({error.strerror or error})")
            return {}
        files: dict[str, Path] = {}
        for entry in entries:
            try:
                is_regular = entry.is_file()
            except OSError:  # a link that leads to itself
                is_regular = False
            if is_regular:
                files[entry.name] = entry
            elif entry.name in STATE_FILES:
                self.losses.append(f"{self._show(entry)} is no regular file; passed over")
        return files

    def _state(self, point: VantagePoint, files: dict[str, Path], host: Host | None = None) -> State:
        known = {name: path for name, path in files.items() if name in STATE_FILES}
        state = State(point.name, known, {name: self._show(path) for name, path in known.items()}, point.notes, host)
        for name in sorted(set(files) - set(known)):
            if self._kind(files[name]) == "table":
                self._take_table(files[name], point, state)
            else:
                point.notes.append(f"{self._show(files[name])} is no state file that is read; passed over")
        return state

    def _take_table(self, path: Path, point: VantagePoint, state: State) -> None:
        """A table of connections, under a name of its own."""
        name = state_name_of(read_head(path, HEAD))
        if name is not None and state.add(name, path, self._show(path)):
            point.notes.append(f"{self._show(path)} is taken for {name} by its content")
        else:
            point.notes.append(f"{self._show(path)} is another {name}; passed over")

    def _enter(self, folder: Path) -> bool:
        """False where a link has led here before."""
        found = folder.stat()
        key = (found.st_dev, found.st_ino)
        if key in self._seen_folders:
            return False
        self._seen_folders.add(key)
        return True

    def _entries(self, folder: Path) -> list[Path]:
        """What stands in a folder, in order of name, without what is ours or hidden."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.losses.append(f"{self._show(folder)} cannot be read ({error.strerror or error})")
            return []
        return list(self._visible(entries))

    def _visible(self, entries: list[Path]) -> Iterator[Path]:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(".expected.json") or entry.name == "expected.json":
                continue
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                self.losses.append(f"{self._show(entry)} cannot be read ({error.strerror or error})")
                continue
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                yield entry
            else:
                self.notes.append(f"{self._show(entry)} is neither file nor folder; passed over")

    # Files

    def _kind(self, path: Path) -> Kind:
        try:
            return kind_of(path, self._sniff)
        except OSError as error:
            self.losses.append(f"{self._show(path)} cannot be read ({error.strerror or error})")
            return "empty"

    def _add_loose(self, path: Path, kind: Kind) -> None:
        if kind == "capture":
            self._loose_captures.append(path)
        elif kind == "log":
            self._loose_logs.append(path)
        else:
            self._add_file(path, kind, None)

    def _add_file(self, path: Path, kind: Kind, point: VantagePoint | None) -> None:
        notes = self.notes if point is None else point.notes
        if kind == "settings":
            self._take_settings(path)
        elif kind == "capture" and point is not None:
            if path not in point.captures:
                point.captures.append(path)
        elif kind == "log" and point is not None:
            if path not in point.logs:
                point.logs.append(path)
        elif kind in ("empty", "unknown", "table") and any(path.is_relative_to(folder) for folder in self._sosreports):
            return  # a sosreport is thousands of files on other things, and names itself what it could not collect
        elif kind == "table":
            self._loose_tables.append((path, stem(path.name) if point is None else point.name))
        elif kind == "listing":
            self._add_listing(path, stem(path.name) if point is None else point.name, is_named=point is not None)
        elif kind == "empty":
            notes.append(f"{self._show(path)} is empty")
        elif CAPTURE_NAME.search(path.name):
            self.losses.append(f"{self._show(path)} is named like a capture and is none (neither pcap nor pcapng)")
        elif not any(path.is_relative_to(folder) for folder in self.temporary):
            key = self._show(path.parent)
            self._unknown[key] = self._unknown.get(key, 0) + 1
            if self._unknown[key] <= NAMED:
                notes.append(f"{self._show(path)} is of no known kind; passed over")

    def _add_listing(self, path: Path, name: str, *, is_named: bool) -> None:
        """The listings of a text: a vantage point for each host that a prompt names, else one for the text, or the one it was given to."""
        try:
            sections = find_sections(path)
        except OSError as error:
            self.losses.append(f"{self._show(path)} cannot be read ({error.strerror or error})")
            return
        hosts = {section.host for section in sections if section.host is not None}
        by_point: dict[str, list[Section]] = {}
        for section in sections:
            host = section.host if section.host is not None and not (is_named and len(hosts) == 1) else None
            by_point.setdefault(host or name, []).append(section)
        for point_name, own in by_point.items():
            point = self._point(point_name)
            if all(pasted.path != path for pasted in point.listings):
                point.listings.append(Pasted(path, tuple(own)))
        if not sections:
            self.notes.append(f"{self._show(path)} looks like a listing of packets and shows no TCP; passed over")

    def _settle_listings(self) -> None:
        """Where there are captures, they say more than a listing of perhaps the same packets."""
        for point in self.points.values():
            if point.captures:
                for pasted in point.listings:
                    point.notes.append(f"{self._show(pasted.path)} is a listing of packets in text; passed over, its capture says more")
                point.listings.clear()

    def _take_settings(self, path: Path) -> None:
        read = read_settings(path, self._show(path))
        vantage: dict[str, VantageSettings] = {**self.settings.vantage, **read.vantage}
        service: dict[str, ServiceSettings] = {**self.settings.service, **read.service}
        self.settings = Settings(vantage=vantage, service=service)

    def _unpacked(self, archive: Path, shown: str) -> Path | None:
        around = [depth for outer, depth in self._depths.items() if archive.is_relative_to(outer)]
        depth = max(around, default=0) + 1
        if depth > self._budget.depth:
            self.losses.append(f"{shown}: archives are nested too deeply; passed over")
            return None
        folder = private_folder()
        self.temporary.append(folder)
        self.places.append((folder, shown))
        self._depths[folder] = depth
        try:
            losses = unpack(archive, folder, self._budget, may_be_evidence)
        except OSError as error:
            losses = [f"cannot be unpacked ({error.strerror or error})"]
        self.losses += [f"{shown}: {loss}" for loss in losses]
        return folder

    def _point(self, name: str) -> VantagePoint:
        return self.points.setdefault(name, VantagePoint(name))

    def _show(self, path: Path) -> str:
        places = self.places
        return shown_path(path, places) if any(path.is_relative_to(folder) for folder, _ in places) else str(path)

    def _place(self, folder: Path, name: str) -> str:
        shown = self._show(folder)
        return name if Path(shown).is_absolute() or shown == "." else f"{shown}/{name}"

    def _regular(self, text: str, argument: str) -> Path:
        """The path of an argument; a pipe or standard input is written to a private file first."""
        path = absolute(text)
        if text == "-" and not path.exists():
            folder = private_folder()
            self.temporary.append(folder)
            self.places.append((folder, ""))
            with (folder / "stdin").open("wb") as out:
                shutil.copyfileobj(sys.stdin.buffer, out, 1 << 20)
            return folder / "stdin"
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason})"
            raise EvidenceError(
                argument,
                f"{what}, expected a case folder, a capture, a log or an archive",
                "NAME=FILE gives a capture its name",
            ) from None
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            return path
        if not stat.S_ISFIFO(mode):
            raise EvidenceError(argument, "is a device or a socket, expected a file, a folder or a pipe")
        folder = private_folder()
        self.temporary.append(folder)
        self.places.append((folder, ""))
        with path.open("rb") as source, (folder / path.name).open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        return folder / path.name


def _times_of(path: Path) -> CaptureTimes:
    try:
        return read_capture_times(path)
    except OSError:
        return CaptureTimes(None, None, ())  # the scan will say why it cannot be read


def _is_log(path: Path) -> bool:
    """Named like a log: what it quotes of packets is not what it is."""
    return LOG_NAME.search(plain_name(path.name)) is not None


def _article(kind: str) -> str:
    return {"archive": "an archive", "settings": "settings"}.get(kind, f"a {kind}")


def _folder_name(folder: Path) -> str:
    return folder.name or "case"


def _is_folder(path: Path) -> bool:
    """False, too, where nobody may look or the path is longer than paths can be."""
    try:
        return path.is_dir()
    except OSError:
        return False
