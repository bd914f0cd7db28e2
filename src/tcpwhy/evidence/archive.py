"""Somebody else's archive goes in, the files of it that can be evidence come out, in a private folder."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from tcpwhy.evidence.compression import CompressionError, open_plain

CHUNK = 1 << 20
HEADER_BYTES = 4 << 20
"""What the headers of one tar member may take: names and pax records are a few kilobytes in honest
archives."""


@dataclasses.dataclass(slots=True)
class Budget:
    """What unpacking may still take; shared by all archives of a case."""

    bytes_left: int = 64 << 30
    files_left: int = 200_000
    depth: int = 3
    """Archives within archives."""


class ArchiveLimitError(Exception):
    """The budget is spent."""


class _Metered(io.RawIOBase):
    """A stream that counts against the budget, and allows little while a header is read."""

    def __init__(self, source: IO[bytes], budget: Budget) -> None:
        self._source = source
        self._budget = budget
        self.header_left: int | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > CHUNK:
            size = CHUNK
        data = self._source.read(size)
        self._budget.bytes_left -= len(data)
        if self._budget.bytes_left < 0:
            raise ArchiveLimitError("it holds more than may be unpacked")
        if self.header_left is not None:
            self.header_left -= len(data)
            if self.header_left < 0:
                raise ArchiveLimitError("a header of it is larger than any honest one")
        return data


Wanted = Callable[[str, bytes], bool]
"""Given a member's name and its first bytes: can it be evidence? The rest of what cannot is not written to
the disk."""


def unpack(archive: Path, folder: Path, budget: Budget, wanted: Wanted) -> list[str]:
    """Unpack regular files below `folder`; sentences on what was left out, none where all was read.

    Links, devices, absolute names and names with `..` are not unpacked; nothing is written outside `folder`.
    Raises OSError only where the archive itself cannot be opened.
    """
    losses: list[str] = []
    free = shutil.disk_usage(folder).free
    budget.bytes_left = min(budget.bytes_left, max(free - (256 << 20), 0) + (1 << 20))
    skipped: dict[str, int] = {}
    try:
        with archive.open("rb") as stream:
            is_zip = stream.read(2) == b"PK"
        if is_zip:
            _unpack_zip(archive, folder, budget, wanted, skipped)
        else:
            _unpack_tar(archive, folder, budget, wanted, skipped)
    except ArchiveLimitError as error:
        losses.append(f"unpacked in part only: {error}")
    except (tarfile.TarError, zipfile.BadZipFile, CompressionError, EOFError, zlib.error) as error:
        losses.append(f"unpacked in part only, the archive is damaged: {error}")
    except (
        ValueError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        OverflowError,
        RecursionError,
    ) as error:
        losses.append(f"unpacked in part only, the archive is damaged: {error or type(error).__name__}")
    losses += [f"{count} members were passed over: {reason}" for reason, count in sorted(skipped.items())]
    return losses


def _unpack_tar(archive: Path, folder: Path, budget: Budget, wanted: Wanted, skipped: dict[str, int]) -> None:
    with open_plain(archive) as plain:
        metered = _Metered(plain, budget)
        metered.header_left = HEADER_BYTES
        with tarfile.open(fileobj=metered, mode="r|", bufsize=tarfile.RECORDSIZE) as tar:
            while True:
                metered.header_left = HEADER_BYTES
                member = tar.next()
                cast(Any, tar).members = []  # tarfile keeps every header otherwise
                metered.header_left = None
                if member is None:
                    return
                if member.isdir() or member.issym() or member.islnk():
                    continue  # of links, sosreports hold hundreds: what they point to is there itself
                if not member.isreg():
                    skipped["neither file nor folder"] = skipped.get("neither file nor folder", 0) + 1
                    continue
                if member.issparse() and member.size > (1 << 30):
                    skipped["sparse, of more than 1 GiB"] = skipped.get("sparse, of more than 1 GiB", 0) + 1
                    continue
                stream = tar.extractfile(member)
                if stream is not None:
                    with stream:
                        _keep(member.name, stream, folder, budget, wanted, skipped)


def _unpack_zip(archive: Path, folder: Path, budget: Budget, wanted: Wanted, skipped: dict[str, int]) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            mode = member.external_attr >> 16
            if member.is_dir() or stat.S_ISLNK(mode):
                continue
            if member.flag_bits & 0x1:
                skipped["encrypted"] = skipped.get("encrypted", 0) + 1
                continue
            with zipped.open(member) as stream:
                _keep(member.filename, stream, folder, budget, wanted, skipped, metered=False)


def _keep(
    name: str,
    stream: IO[bytes],
    folder: Path,
    budget: Budget,
    wanted: Wanted,
    skipped: dict[str, int],
    *,
    metered: bool = True,
) -> None:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    refused = ""
    if not parts or ".." in parts or "\0" in name or len(parts) > 64:
        refused = "a name that leads out of the archive"
    budget.files_left -= 1
    if budget.files_left < 0:
        raise ArchiveLimitError("it holds more files than may be unpacked")
    head = stream.read(16384)
    if not metered:
        budget.bytes_left -= len(head)
    if not refused and wanted("/".join(parts), head):
        target = folder.joinpath(*parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                out.write(head)
                _copy(stream, out, None if metered else budget)
            return
        except CompressionError:
            raise
        except FileExistsError:
            refused = "a name that stands in the archive twice"
        except OSError as error:
            refused = f"could not be written ({error.strerror or error})"
        except UnicodeEncodeError:
            refused = "a name that cannot be written"
    if refused:
        skipped[refused] = skipped.get(refused, 0) + 1
    if metered:
        _copy(stream, None, None)  # the next header of a stream stands behind the data


def _copy(stream: IO[bytes], out: IO[bytes] | None, budget: Budget | None) -> None:
    while data := stream.read(CHUNK):
        if budget is not None:
            budget.bytes_left -= len(data)
            if budget.bytes_left < 0:
                raise ArchiveLimitError("it holds more than may be unpacked")
        if out is not None:
            out.write(data)


def remove_folder(folder: Path) -> None:
    """Remove a private folder and all in it."""
    for parent, folders, _files in os.walk(folder):
        for name in folders:
            child = Path(parent, name)
            if not child.is_symlink():
                child.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
