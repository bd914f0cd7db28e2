"""A file that may be compressed goes in, a stream of its plain bytes comes out, of bounded memory."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal, Protocol, cast

Compression = Literal["gzip", "xz", "bzip2", "zstd", "lz4"]

MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),  # RFC 1952 section 2.3.1, method 8
    (b"\xfd7zXZ\x00", "xz"),  # xz file format 2.1.1.1
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),  # RFC 8878 section 3.1.1
    (b"\x04\x22\x4d\x18", "lz4"),  # LZ4 frame format
)

SUFFIXES = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd", ".lz4": "lz4"}

XZ_MEMORY = 192 << 20
"""Bytes. `xz -9` needs 65 MiB to decompress (xz(1)); a damaged header may ask for gigabytes."""

CHUNK = 1 << 16


class CompressionError(OSError):
    """A compressed file that cannot be read on."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's object, with the same face as those of lzma and bz2: input that is left over is kept inside."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)  # 16 + 15: a gzip header is expected
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        made = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail and len(made) < max_length
        return made


class _Plain(io.RawIOBase):
    """The plain bytes of a compressed stream; concatenated streams follow each other."""

    def __init__(self, source: BinaryIO, make: Callable[[], _Decompressor]) -> None:
        self._source = source
        self._make = make
        self._inner: _Decompressor | None = make()
        self._fresh = True
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = len(view)
        if wanted == 0:
            return 0
        while self._inner is not None:
            inner = self._inner
            if inner.eof:
                rest = inner.unused_data or self._source.read(CHUNK)
                if not rest.strip(b"\0"):  # xz and tar pad with zeros
                    self._inner = None
                    break
                self._inner, self._fresh, self._pending = self._make(), True, rest
                continue
            if not self._pending and inner.needs_input:
                self._pending = self._source.read(CHUNK)
                if not self._pending:
                    if self._fresh:
                        break
                    raise CompressionError("the compressed data ends early")
            try:
                made = inner.decompress(self._pending, wanted)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                raise CompressionError(f"the compressed data is damaged: {error}") from None
            self._pending, self._fresh = b"", False
            if made:
                view[: len(made)] = made
                return len(made)
        return 0


def compression_of(head: bytes) -> Compression | None:
    """Which compression the first bytes announce, or None."""
    return next((name for magic, name in MAGIC if head.startswith(magic)), None)


def is_readable(compression: Compression) -> bool:
    """False where this host lacks the program for it: zstd and lz4 are not in Python 3.11."""
    return compression not in ("zstd", "lz4") or shutil.which(compression) is not None


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """The plain bytes of `path`, decompressed where its first bytes say so.

    Reading raises CompressionError (an OSError) where the data is damaged or ends early; what came before is
    valid.
    """
    with path.open("rb") as source:
        compression = compression_of(source.read(8))
        source.seek(0)
        if compression is None:
            yield source
        elif compression in ("zstd", "lz4"):
            with path.open("rb", buffering=0) as unread, _through_program(compression, unread) as plain:
                yield plain
        else:
            make: dict[str, Callable[[], _Decompressor]] = {
                "gzip": _Gzip,
                "xz": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY),
                "bzip2": bz2.BZ2Decompressor,
            }
            with io.BufferedReader(_Plain(source, make[compression]), CHUNK) as buffered:
                yield buffered


@contextlib.contextmanager
def _through_program(compression: str, source: IO[bytes]) -> Iterator[BinaryIO]:
    program = shutil.which(compression)
    if program is None:
        raise CompressionError(f"the program {compression} is not installed, which decompresses this file")
    with subprocess.Popen(  # the shell takes no part
        [program, "-dc"], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        stream = cast(BinaryIO | None, process.stdout)
        if stream is None:
            raise CompressionError(f"the program {compression} gave no output")
        try:
            yield stream
        finally:
            stream.close()
            if process.poll() is None:
                process.kill()


def read_head(path: Path, size: int) -> bytes:
    """The first plain bytes of a file, at most `size`; fewer where it ends or is damaged before."""
    parts: list[bytes] = []
    left = size
    try:
        with open_plain(path) as stream:
            while left and (part := stream.read(left)):
                parts.append(part)
                left -= len(part)
    except CompressionError:
        pass  # what came before the damage is the answer; whoever reads the whole file states the loss
    return b"".join(parts)
