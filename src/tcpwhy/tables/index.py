"""The captures of a vantage point go in; its index (flow table, frame index, what was read) comes out, made anew only where needed.

The index holds headers, offsets and times, never payload (docs/cases.md). It lives in `.tcpwhy/` beside the captures, and where that
cannot be written in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tcpwhy import _core

FORMAT_VERSION = 4
"""Raised whenever the core writes other columns or another frame index: an index of another version is made anew."""

END_BYTES = 4096
"""So much of each end of a capture is hashed to notice that it was changed without changing size and time."""

WORTH_A_THREAD_BYTES = 4 << 20
"""Captures from that size on are worth a second thread."""

Progress = Callable[[int], None]


class InterfaceSummary(msgspec.Struct, frozen=True):
    """One interface of a capture file; counts from its statistics block, where it has one."""

    link_type: int
    snap_length: int
    name: str | None = None
    received: int | None = None
    dropped: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None


class LossSummary(msgspec.Struct, frozen=True):
    """A part of a file that could not be read."""

    offset: int
    what: str
    cut_off: bool


class FileSummary(msgspec.Struct, frozen=True):
    """One capture file as the scan found it."""

    path: str
    """Percent-encoded: a name may hold any bytes but JSON only text."""
    size: int
    mtime_ns: int
    ends: str
    error: str | None
    packets: int
    tcp_packets: int
    malformed: int
    cut_by_snap_length: int
    longer_than_mtu: int
    first_ns: int | None
    last_ns: int | None
    bytes_read: int
    losses: tuple[LossSummary, ...]
    losses_more: int
    interfaces: tuple[InterfaceSummary, ...]

    @property
    def begin_ns(self) -> int | None:
        """Its first record, or earlier where the capture itself says when it was started."""
        starts = [interface.start_ns for interface in self.interfaces if interface.start_ns is not None]
        return min([*starts, *([] if self.first_ns is None else [self.first_ns])], default=None)

    @property
    def end_ns(self) -> int | None:
        """Its last record, or later where the capture itself says when it was stopped."""
        ends = [interface.end_ns for interface in self.interfaces if interface.end_ns is not None]
        return max([*ends, *([] if self.last_ns is None else [self.last_ns])], default=None)


class ArpClaim(msgspec.Struct, frozen=True):
    """A hardware address that claimed an IPv4 address in ARP, and where that was first seen."""

    ip: str
    mac: str
    operation: int
    count: int
    file: int
    frame: int
    first_ns: int
    last_ns: int


class VantageIndex(msgspec.Struct, frozen=True):
    """All that the scan of one vantage point left behind."""

    version: int
    name: str
    files: tuple[FileSummary, ...]
    flows: int
    live_max: int
    arp: tuple[ArpClaim, ...]
    flows_ends: str
    frames_ends: str
    """Sizes and hashes over the ends of the two tables: one that was damaged is made anew."""
    folder: str = ""
    """Where the tables are; filled in when the index is read."""

    @property
    def flows_path(self) -> Path:
        """The flow table."""
        return Path(self.folder) / "flows.parquet"

    @property
    def frames_path(self) -> Path:
        """The frame index."""
        return Path(self.folder) / "frames.idx"

    @property
    def paths(self) -> list[Path]:
        """The captures, in the order of the file numbers."""
        return [Path(os.fsdecode(urllib.parse.unquote_to_bytes(file.path))) for file in self.files]

    @property
    def packets(self) -> int:
        """Records in all files."""
        return sum(file.packets for file in self.files)

    @property
    def first_ns(self) -> int | None:
        """When the earliest file begins, by the vantage point's clock."""
        return min((at for file in self.files for at in [file.begin_ns] if at is not None), default=None)

    @property
    def last_ns(self) -> int | None:
        """When the latest file ends: its last record, or later where the capture itself says when it was stopped."""
        return max((at for file in self.files for at in [file.end_ns] if at is not None), default=None)

    @property
    def dropped(self) -> int:
        """Packets that the captures themselves say they lost."""
        return sum(interface.dropped or 0 for file in self.files for interface in file.interfaces)


def slug(name: str) -> str:
    """A folder name for a vantage point: readable, unambiguous and harmless whatever the name holds."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:60].lstrip(".") or "vantage-point"
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def ends_of(path: Path) -> str:
    """A hash over the first and the last bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(END_BYTES))
        size = os.fstat(file.fileno()).st_size
        if size > END_BYTES:
            file.seek(max(END_BYTES, size - END_BYTES))
            digest.update(file.read(END_BYTES))
    return digest.hexdigest()[:32]


def _seal(path: Path) -> str:
    return f"{path.stat().st_size} {ends_of(path)}"


def _fresh(index: VantageIndex, paths: Sequence[Path]) -> bool:
    """True where the captures are those that the index was made of."""
    if index.version != FORMAT_VERSION or index.paths != list(paths):
        return False
    if not index.flows_path.is_file() or not index.frames_path.is_file():
        return False
    if (_seal(index.flows_path), _seal(index.frames_path)) != (index.flows_ends, index.frames_ends):
        return False
    for file, path in zip(index.files, paths, strict=True):
        if file.error is not None:
            return False
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns) or ends_of(path) != file.ends:
            return False
    return True


def read_index(folder: Path) -> VantageIndex | None:
    """The index in a folder, or None where there is none that this version can read."""
    try:
        index = msgspec.json.decode((folder / "index.json").read_bytes(), type=VantageIndex)
    except (OSError, msgspec.DecodeError):
        # A missing or unreadable index is made anew; the captures are the truth.
        return None
    return msgspec.structs.replace(index, folder=str(folder))


def threads_for(paths: Sequence[Path]) -> int:
    """On how many threads captures are scanned where nothing else runs: one reads and unpacks, the other keeps the flows."""
    worth = sum(path.stat().st_size for path in paths if path.exists()) >= WORTH_A_THREAD_BYTES
    return min(2, len(os.sched_getaffinity(0))) if worth else 1


def ensure_index(
    name: str, paths: Sequence[Path], home: Path, progress: Progress | None = None, *, threads: int | None = None
) -> tuple[VantageIndex, bool]:
    """The index of a vantage point, and whether it was made just now. `threads`: on how many it is scanned, two at most are of use.

    `home` is the folder that holds the indexes of all vantage points of a case. The captures are scanned into a new folder that takes
    the old one's place in one step, so that a scan that is stopped leaves no half-written index.

    Raises OSError where a capture vanishes or the disk is full.
    """
    paths = [path.resolve() for path in paths]
    folder = home / slug(name)
    known = read_index(folder)
    if known is not None and _fresh(known, paths):
        return known, False
    home.mkdir(parents=True, exist_ok=True)
    before = {path: path.stat() for path in paths if path.exists()}
    scratch = Path(tempfile.mkdtemp(prefix=f".{slug(name)}-", dir=home))
    try:
        summary = _core.scan([str(path) for path in paths], str(scratch), progress, threads or threads_for(paths))
        index = VantageIndex(
            version=FORMAT_VERSION,
            name=name,
            files=tuple(_file_summary(path, before.get(path), raw) for path, raw in zip(paths, summary["files"], strict=True)),
            flows=summary["flows"],
            live_max=summary["live_max"],
            arp=tuple(msgspec.convert(claim, ArpClaim) for claim in summary["arp"]),
            flows_ends=_seal(scratch / "flows.parquet"),
            frames_ends=_seal(scratch / "frames.idx"),
        )
        (scratch / "index.json").write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{slug(name)}-old-", dir=home))
            folder.rename(old / "index")
            scratch.rename(folder)
            shutil.rmtree(old)
        else:
            scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return msgspec.structs.replace(index, folder=str(folder)), True


def _file_summary(path: Path, stat: os.stat_result | None, raw: dict[str, Any]) -> FileSummary:
    known = {
        "path": urllib.parse.quote_from_bytes(os.fsencode(path)),
        "size": stat.st_size if stat else 0,
        "mtime_ns": stat.st_mtime_ns if stat else 0,
    }
    return msgspec.convert({**raw, **known, "ends": ends_of(path) if stat else ""}, FileSummary)


@contextmanager
def index_home(beside: Path, identity: str, keep: bool) -> Iterator[Path]:
    """The folder for a case's indexes: `.tcpwhy` in `beside`, else one of the user's cache; a temporary one where nothing is to be kept."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder:
            yield Path(folder)
        return
    home = beside / ".tcpwhy"
    if (home if home.exists() else beside).is_dir() and os.access(home if home.exists() else beside, os.W_OK | os.X_OK):
        yield home
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield cache / "tcpwhy" / hashlib.sha256(identity.encode()).hexdigest()[:24]
