"""A connection in a few words goes in; what is seen of it before and behind a balancer in full NAT comes out, packet by packet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.packets import Tcp

MODULUS = 1 << 32
VIP, REAL = "198.51.100.10:80", "10.9.0.21:8080"


@dataclasses.dataclass(frozen=True)
class Said:
    """One message: who sends it, when it starts, and what it is."""

    at_ms: float
    by_client: bool
    content: bytes


def get(path: str = "/", host: str = "shop.example") -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def ok(body: bytes = b"hello\n") -> bytes:
    """An answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def requests(count: int, *, from_ms: float = 10.0, every_ms: float = 1_000.0, same: bool = True) -> list[Said]:
    """So many requests, each answered two milliseconds later; all alike, or each with a path of its own."""
    said = []
    for number in range(count):
        at_ms = from_ms + number * every_ms
        said += [Said(at_ms, True, get() if same else get(f"/{number}")), Said(at_ms + 2, False, ok())]
    return said


def front(
    client: str,
    said: Sequence[Said],
    *,
    at_ms: float = 0.0,
    isn: int = 1_000,
    server_isn: int = 700_000,
    vip: str = VIP,
    handshake: bool = True,
    fin: bool = False,
    segment: int = 1_448,
) -> list[Tcp]:
    """The client's side of a connection: every message in segments, each message acknowledged; `at_ms` is when it opens."""
    seq = {True: (isn + 1) % MODULUS, False: (server_isn + 1) % MODULUS}
    end = {True: client, False: vip}
    packets: list[Tcp] = []

    def send(at: float, by_client: bool, flags: str, content: bytes = b"", *, number: int | None = None, ack: int | None = None) -> None:
        stamps = (int(at) % MODULUS + (7_000 if by_client else 9_000), int(at) % MODULUS + (9_000 if by_client else 7_000))
        first = seq[by_client] if number is None else number
        last = seq[not by_client] if ack is None else ack
        packets.append(Tcp(at_ms + at, end[by_client], end[not by_client], flags, first, last, content, len(packets) + 1, stamps=stamps))

    if handshake:
        send(0.0, True, "S", number=isn, ack=0)
        send(0.4, False, "SA", number=server_isn)
        send(0.8, True, "A")
    last = 1.0
    for one in said:
        for number, start in enumerate(range(0, len(one.content), segment)):
            piece = one.content[start : start + segment]
            send(one.at_ms + number * 0.01, one.by_client, "PA", piece)
            seq[one.by_client] = (seq[one.by_client] + len(piece)) % MODULUS
            last = one.at_ms + number * 0.01
        send(last + 0.3, not one.by_client, "A")
        last += 0.3
    if fin:
        send(last + 1, True, "FA")
        seq[True] = (seq[True] + 1) % MODULUS
        send(last + 2, False, "FA")
        seq[False] = (seq[False] + 1) % MODULUS
        send(last + 3, True, "A")
    return packets


def back(
    seen: Sequence[Tcp],
    local: str,
    *,
    delta: int,
    real: str = REAL,
    latency_ms: float = 0.05,
    header: bytes = b"",
    opened: bool = True,
    stamps: bool = False,
) -> list[Tcp]:
    """The same packets behind the balancer: other addresses, client numbers shifted, no timestamps; `header` goes into the first data.

    `opened` is false where the connection's first data lies before what was `seen`: then the header does too.
    """
    client = seen[0].source if _from_client(seen[0], seen) else seen[0].destination
    inserted = not header or not opened
    shift = delta if opened else delta + len(header)
    before = True
    packets = []
    for one in seen:
        if one.source == client:
            payload, number = one.payload, one.seq + shift
            if payload and not inserted:
                payload, inserted = header + payload, True
                packets.append(_moved(one, local, real, number, one.ack, payload, one.at_ms + latency_ms, stamps))
                shift += len(header)
                continue
            packets.append(_moved(one, local, real, number, one.ack, payload, one.at_ms + latency_ms, stamps))
        else:
            before = before and not one.payload and "S" in one.flags
            ack = one.ack + (delta if "S" in one.flags else shift)
            packets.append(_moved(one, real, local, one.seq, ack, one.payload, one.at_ms - latency_ms, stamps))
    return sorted(packets, key=lambda packet: packet.at_ms)


def _from_client(one: Tcp, seen: Sequence[Tcp]) -> bool:
    opens = next((packet for packet in seen if packet.flags == "S"), None)
    return one.source == opens.source if opens else int(one.source.rpartition(":")[2]) >= 32_768


def _moved(one: Tcp, source: str, target: str, seq: int, ack: int, payload: bytes, at_ms: float, stamps: bool) -> Tcp:
    acknowledged = ack % MODULUS if "A" in one.flags else 0
    return dataclasses.replace(
        one,
        at_ms=at_ms,
        source=source,
        destination=target,
        seq=seq % MODULUS,
        ack=acknowledged,
        payload=payload,
        ttl=63,
        stamps=one.stamps if stamps else None,
    )


def cut(seen: Sequence[Tcp], size: int) -> list[Tcp]:
    """The same bytes in segments of at most `size`, as a capture behind the offload of a network card shows them."""
    packets = []
    for one in seen:
        for number, start in enumerate(range(0, max(1, len(one.payload)), size)):
            piece = one.payload[start : start + size]
            seq = (one.seq + start) % MODULUS
            packets.append(dataclasses.replace(one, at_ms=one.at_ms + number * 0.001, seq=seq, payload=piece))
    return packets


def window(seen: Sequence[Tcp], from_ms: float, to_ms: float) -> list[Tcp]:
    """What a capture of that time holds."""
    return [one for one in seen if from_ms <= one.at_ms < to_ms]
