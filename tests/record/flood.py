"""Sends followed connections amid a flood of others at an interface: `python flood.py IFACE RATE SECONDS CONNECTIONS OUT`.

Frames go out in batches by sendmmsg(2) from an AF_PACKET socket, which Python alone could not do fast enough. OUT gets the frames of the
followed connections as they were sent; standard output what was sent, as JSON.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.record.segments import ACK, SYN, Conversation, Segment, toa

CLIENT = "192.0.2.7:4660"
REQUESTS_A_SECOND = 10
BATCH = 64
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20  # linux/socket.h, linux/if_packet.h


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):  # struct msghdr
    _fields_ = (
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("vector", ctypes.c_void_p), ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)


class Batch:
    """Frames to be sent together."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = frames
        self._vectors = (_Vector * len(frames))(*[_Vector(frame, len(frame)) for frame in frames])
        first, size = ctypes.addressof(self._vectors), ctypes.sizeof(_Vector)
        headers = [_Header(vector=first + size * at, vectors=1) for at in range(len(frames))]
        self._messages = (_Message * len(frames))(*[_Message(header) for header in headers])

    def send(self, descriptor: int) -> None:
        """Sends all, waiting for room."""
        sent = 0
        while sent < len(self.frames):
            count = _libc.sendmmsg(descriptor, ctypes.byref(self._messages, sent * ctypes.sizeof(_Message)), len(self.frames) - sent, 0)
            if count < 0:
                if ctypes.get_errno() == 105:  # ENOBUFS: the interface's queue is full
                    continue
                raise OSError(ctypes.get_errno(), "sendmmsg")
            sent += count


def others(count: int) -> list[bytes]:
    """TCP of other clients: data and ACKs of all sizes, handshakes, options of other clients, PROXY headers of others."""
    choose = random.Random(4)
    frames = []
    for number in range(count):
        client = f"10.{1 + number % 200}.{choose.randrange(256)}.{1 + choose.randrange(254)}:{choose.randrange(1024, 65536)}"
        stranger = f"198.51.100.{1 + choose.randrange(254)}:{choose.randrange(1024, 65536)}"
        kind = choose.randrange(16)
        flags, options, payload = ACK, b"\x01\x01\x08\x0a" + choose.randbytes(8), b""
        if kind == 0:
            flags, options = SYN, b"\x02\x04\x05\xb4" + toa(stranger)
        elif kind == 1:
            options += toa(stranger)
        elif kind == 2:
            payload = f"PROXY TCP4 198.51.100.1 10.0.0.5 {1 + number % 60000} 80\r\nGET / HTTP/1.1\r\n\r\n".encode()
        elif kind < 10:
            payload = choose.randbytes(choose.choice((1, 100, 500, 1400)))
        frames.append(Segment(client, "10.0.0.5:80", flags, choose.randrange(2**32), choose.randrange(2**32), payload, options).frame())
    return frames


def followed(connections: int, requests: int) -> Iterator[bytes]:
    """All connections' packets, request by request."""
    told = []
    for number in range(connections):
        option = toa(CLIENT, before=number % 33)
        on = number % 3 // 2 * 2  # on the SYN, as Alibaba LVS, or on the third segment, as DPVS
        told.append(Conversation(f"10.0.0.1:{2000 + number}", "10.0.0.5:80", option, isn=number * 80_000_000, options_on=on))
    for conversation in told:
        yield from (segment.frame() for segment in conversation.opening())
    running = [conversation.exchanges(requests, f"X-Team: team-{number}\r\n", pad=300) for number, conversation in enumerate(told)]
    for _ in range(requests):
        for exchanges in running:
            yield from (next(exchanges).frame() for _ in range(3))


def main(interface: str, rate: int, seconds: float, connections: int, out: Path) -> None:
    """Sends, at an even pace."""
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sender.bind((interface, 0x0800))
    if interface != "lo":
        sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    requests = max(1, int(seconds * REQUESTS_A_SECOND))
    rest = followed(connections, requests)
    total = connections * 3 * (1 + requests)
    pool = others(BATCH * 128)
    noise = [Batch(pool[at : at + BATCH]) for at in range(0, len(pool), BATCH)]
    count = other = 0
    begun = time.monotonic()
    with out.open("wb") as file:
        while count < total or time.monotonic() - begun < seconds:
            passed = time.monotonic() - begun
            while other < min(passed, seconds) * rate:
                noise[other // BATCH % len(noise)].send(sender.fileno())
                other += BATCH
            due = min(total, int(passed / seconds * total) + 1)
            if count < due:
                frames = list(itertools.islice(rest, min(due - count, BATCH)))
                Batch(frames).send(sender.fileno())
                file.write(b"".join(struct.pack("<I", len(frame)) + frame for frame in frames))
                count += len(frames)
            time.sleep(0.0002)
    took = time.monotonic() - begun
    print(json.dumps({"followed": count, "others": other, "seconds": took, "requests": requests * connections}))


def sent_frames(data: bytes) -> list[bytes]:
    """What OUT holds."""
    frames, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        frames.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return frames


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
