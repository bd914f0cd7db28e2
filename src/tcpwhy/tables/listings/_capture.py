"""Frames go in, a private pcapng comes out, with a table of the line that each frame stands for and of what is not known of it."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tcpwhy.tables.listings._frames import Frame

HAS_IP_ID, HAS_TTL, IS_INFERRED, HAS_PAYLOAD = 1, 2, 4, 8
"""Bits of what the table says of a frame."""

_ENTRY = struct.Struct("<QB")
_UNIT = b"\x09\0\x01\0\x09\0\0\0"
"""Option if_tsresol of an interface: nanoseconds (pcapng section 4.2)."""

MOST_INTERFACES = 4096


class Lines:
    """The table of a capture that was made of a listing."""

    def __init__(self, path: Path) -> None:
        """Opens it. Raises OSError."""
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else None

    def entry(self, frame: int) -> tuple[int, int]:
        """The line of a frame (both from 1), and the bits of what is known of it."""
        at = (frame - 1) * _ENTRY.size
        if self._map is None or not 0 <= at <= self._size - _ENTRY.size:
            raise IndexError(f"there is no frame {frame}")
        line, bits = _ENTRY.unpack_from(self._map, at)
        return line, bits

    def line(self, frame: int) -> int:
        """The line of a frame, both from 1."""
        return self.entry(frame)[0]

    def has_ip_id(self, frame: int) -> bool:
        """False where the listing does not show the IP ID."""
        return bool(self.entry(frame)[1] & HAS_IP_ID)

    def is_inferred(self, frame: int) -> bool:
        """True where the listing does not show the sequence number."""
        return bool(self.entry(frame)[1] & IS_INFERRED)

    def close(self) -> None:
        """Gives the file back."""
        if self._map is not None:
            self._map.close()
        self._file.close()


class Writer:
    """A pcapng that is being written. A context manager."""

    def __init__(self, path: Path, table: Path) -> None:
        """Writes the capture to `path` and its lines to `table`."""
        self._out: BinaryIO = path.open("wb")
        self._table: BinaryIO = table.open("wb")
        self._interfaces: dict[tuple[str, int, int], int] = {}
        self.frames = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self._block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))

    def __enter__(self) -> Writer:
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends both files."""
        self._out.close()
        self._table.close()

    def write(self, frame: Frame, *, time_ns: int, interface: str, place: int, direction: str, line: int, bits: int) -> None:
        """One frame; `place` tells interfaces without a name apart."""
        key = (interface, frame.link_type, place)
        number = self._interfaces.get(key)
        if number is None:
            number = self._interface(key)
        # Before 1970 no pcapng can name a time.
        time_ns = max(0, time_ns)
        head = struct.pack("<IIIII", number, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(frame.data), frame.original_length)
        flags = struct.pack("<HHI", 2, 4, {"in": 1, "out": 2}[direction]) + b"\0\0\0\0" if direction else b""
        self._block(6, head + frame.data + bytes(-len(frame.data) % 4) + flags)
        self._table.write(_ENTRY.pack(line, bits))
        self.frames += 1
        self.first_ns = time_ns if self.first_ns is None else min(self.first_ns, time_ns)
        self.last_ns = time_ns if self.last_ns is None else max(self.last_ns, time_ns)

    def dropped(self, count: int) -> None:
        """Says that so many packets were lost by the capture."""
        if self._interfaces:
            last = self.last_ns or 0
            body = struct.pack("<III", 0, last >> 32, last & 0xFFFF_FFFF) + struct.pack("<HHQ", 5, 8, count) + b"\0\0\0\0"
            self._block(5, body)

    def _interface(self, key: tuple[str, int, int]) -> int:
        name, link_type, _ = key
        if len(self._interfaces) >= MOST_INTERFACES:
            alike = [number for (_, other, _), number in self._interfaces.items() if other == link_type]
            if alike:
                return alike[0]
        text = name.encode("utf-8", "replace")[:60]
        options = (struct.pack("<HH", 2, len(text)) + text + bytes(-len(text) % 4) if text else b"") + _UNIT + b"\0\0\0\0"
        self._block(1, struct.pack("<HHI", link_type, 0, 0) + options)
        self._interfaces[key] = len(self._interfaces)
        return self._interfaces[key]

    def _block(self, kind: int, body: bytes) -> None:
        self._out.write(struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12))
