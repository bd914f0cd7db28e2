"""A capture goes in, the times of its first and last packet come out, without reading what lies between."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tcpwhy.evidence.compression import CompressionError, compression_of, open_plain
from tcpwhy.evidence.kind import PCAP_MAGIC, PCAPNG_MAGIC, PCAPNG_ORDER

SNAP_LENGTH = 262_144
"""Bytes; the largest record that libpcap writes (MAXIMUM_SNAPLEN)."""

TAIL = 2 * SNAP_LENGTH
WHOLE = 8 << 20
"""Bytes of plain data that are walked record by record; of larger files only the head and the tail are
read."""


class CaptureTimes(NamedTuple):
    """Nanoseconds since 1970 UTC; None where not known without reading the whole capture."""

    first_ns: int | None
    last_ns: int | None
    link_types: tuple[int, ...]


def read_capture_times(path: Path) -> CaptureTimes:
    """The times that stand in a capture. Raises OSError where it cannot be opened.

    Times need not be in order in a capture; the first and the last record's are given. A compressed capture
    is read as far as WHOLE; the last time of a longer one is not known.
    """
    with path.open("rb") as raw:
        compressed = compression_of(raw.read(8)) is not None
    size = path.stat().st_size
    with open_plain(path) as stream:
        head = _read(stream, TAIL if not compressed and size >= WHOLE else WHOLE)
        order_and_unit = PCAP_MAGIC.get(head[:4])
        whole = size < WHOLE if not compressed else len(head) < WHOLE
        tail = b""
        if not whole and not compressed:
            stream.seek(max(0, size - TAIL), os.SEEK_SET)
            tail = _read(stream, TAIL)
    if order_and_unit is not None:
        return _pcap_times(head, tail, whole, *order_and_unit)
    if head[:4] == PCAPNG_MAGIC and head[8:12] in PCAPNG_ORDER:
        return _pcapng_times(head, tail, whole, PCAPNG_ORDER[head[8:12]])
    return CaptureTimes(None, None, ())


def read_first_time(path: Path) -> CaptureTimes:
    """As read_capture_times, of the first packet alone: cheap, for sorting.

    Raises OSError where it cannot be opened.
    """
    with open_plain(path) as stream:
        head = _read(stream, TAIL)
    order_and_unit = PCAP_MAGIC.get(head[:4])
    if order_and_unit is not None:
        return _pcap_times(head, b"", False, *order_and_unit)
    if head[:4] == PCAPNG_MAGIC and head[8:12] in PCAPNG_ORDER:
        return _pcapng_times(head, b"", False, PCAPNG_ORDER[head[8:12]])
    return CaptureTimes(None, None, ())


def _read(stream: BinaryIO, size: int) -> bytes:
    parts: list[bytes] = []
    try:
        while size > 0 and (part := stream.read(min(size, 1 << 20))):
            parts.append(part)
            size -= len(part)
    except CompressionError:
        pass  # the records before the damage are valid; the scan states the loss
    return b"".join(parts)


def _pcap_times(head: bytes, tail: bytes, whole: bool, order: str, unit_ns: int) -> CaptureTimes:
    if len(head) < 24:
        return CaptureTimes(None, None, ())
    modified = head[:4] in (b"\xa1\xb2\xcd\x34", b"\x34\xcd\xb2\xa1")
    header = 24 if modified else 16
    record = struct.Struct(order + "IIII")
    link_types = (struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF,)
    first: int | None = None
    last: int | None = None
    offset = 24
    while offset + header <= len(head):
        seconds, fraction, captured, _original = record.unpack_from(head, offset)
        if captured > SNAP_LENGTH:
            break
        last = seconds * 1_000_000_000 + fraction * unit_ns
        if first is None:
            first = last
            if not whole:
                break
        offset += header + captured
    if not whole:
        last = None if first is None else _last_pcap_time(tail, record, header, unit_ns, first)
    return CaptureTimes(first, last, link_types)


def _last_pcap_time(tail: bytes, record: struct.Struct, header: int, unit_ns: int, first: int) -> int | None:
    """The last record's time.

    From the first place in the tail from which records follow one another to the end.
    """
    units = 1_000_000_000 // unit_ns
    horizon = first // 1_000_000_000 + 10 * 366 * 86_400  # ten years: what lies beyond is no time but payload
    for start in range(min(len(tail), SNAP_LENGTH + header)):
        offset, records = start, 0
        last: int | None = None
        while offset + header <= len(tail):
            seconds, fraction, captured, original = record.unpack_from(tail, offset)
            plausible = first // 1_000_000_000 - 60 <= seconds <= horizon and fraction < units
            if not plausible or not 0 < captured <= SNAP_LENGTH or original < captured:
                last = None
                break
            last = seconds * 1_000_000_000 + fraction * unit_ns
            offset += header + captured
            records += 1
        if last is not None and (records >= 3 or offset == len(tail)):
            return last
    return None


def _pcapng_times(head: bytes, tail: bytes, whole: bool, order: str) -> CaptureTimes:
    first: int | None = None
    last: int | None = None
    units: list[int] = []
    link_types: list[int] = []
    offset = 0
    while offset + 12 <= len(head):
        if head[offset : offset + 4] == PCAPNG_MAGIC:
            order = PCAPNG_ORDER.get(head[offset + 8 : offset + 12], order)
            units = []
        kind, length = struct.unpack_from(order + "II", head, offset)
        if length < 12 or length % 4:
            break
        body = head[offset + 8 : offset + length - 4]
        if kind == 1 and len(body) >= 8:
            link_types.append(struct.unpack_from(order + "H", body)[0])
            units.append(_units_a_second(body[8:], order))
        time = _block_time(kind, body, order, units)
        if time is not None:
            last = time
            if first is None:
                first = time
            if not whole:
                break
        offset += length
    if not whole:
        last = _last_pcapng_time(tail, order, units)
    return CaptureTimes(first, last, tuple(dict.fromkeys(link_types)))


def _units_a_second(options: bytes, order: str) -> int:
    """From if_tsresol, option 9: a power of ten, or of two where the top bit is set.

    Microseconds where absent.
    """
    offset = 0
    while offset + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, offset)
        if code == 0:
            break
        if code == 9 and length >= 1 and offset + 4 < len(options):
            value = options[offset + 4]
            return int(2 ** (value & 0x7F) if value & 0x80 else 10**value)
        offset += 4 + (length + 3) // 4 * 4
    return 1_000_000


def _block_time(kind: int, body: bytes, order: str, units: list[int]) -> int | None:
    if kind == 6 and len(body) >= 20:  # enhanced packet block
        interface, high, low = struct.unpack_from(order + "III", body)
    elif kind == 2 and len(body) >= 20:  # the obsolete packet block
        interface, _drops, high, low = struct.unpack_from(order + "HHII", body)
    else:
        return None
    if interface >= len(units):
        return None
    return int(((high << 32) | low) * 1_000_000_000 // units[interface])


def _last_pcapng_time(tail: bytes, order: str, units: list[int]) -> int | None:
    """Blocks end with their length, so they are walked backwards from the end."""
    end = len(tail)
    while end >= 12:
        length = struct.unpack_from(order + "I", tail, end - 4)[0]
        if length < 12 or length % 4 or length > end:
            return None
        start = end - length
        kind, again = struct.unpack_from(order + "II", tail, start)
        if again != length:
            return None
        time = _block_time(kind, tail[start + 8 : end - 4], order, units)
        if time is not None:
            return time
        end = start
    return None
