"""Times go in, the segments of one connection come out in which somebody waits: for room, for an answer."""

from __future__ import annotations

from collections.abc import Sequence

from tests.packets import Tcp

C, S = "10.0.0.7:40000", "10.0.0.1:80"
REQUEST, ANSWER = b"GET /report HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
BEGIN = 1_001
SERVER = 500_001


def client(at_ms: float, flags: str, seq: int = BEGIN, ack: int = SERVER, payload: bytes = b"", window: int | None = None) -> Tcp:
    return Tcp(at_ms, C, S, flags, seq, ack, payload, ip_id=int(at_ms * 10) % 65_000 + 1, window=window)


def server(at_ms: float, flags: str, seq: int = SERVER, ack: int = BEGIN, payload: bytes = b"", window: int | None = None) -> Tcp:
    return Tcp(at_ms, S, C, flags, seq, ack, payload, ip_id=int(at_ms * 10) % 65_000 + 2, window=window)


OPENING = [client(0, "S", BEGIN - 1, 0), server(1, "SA", SERVER - 1, BEGIN), client(2, "A")]
ASKED = BEGIN + len(REQUEST)
BLOCK = b"x" * 1000


def exchange(at_ms: float = 10) -> list[Tcp]:
    return [
        client(at_ms, "PA", payload=REQUEST),
        server(at_ms + 1, "PA", SERVER, ASKED, ANSWER),
        client(at_ms + 2, "A", ASKED, SERVER + 19),
    ]


PROBES = (220, 630, 1_450, 3_100, 6_300)


def closing(*, probes: Sequence[float] = (), answered: bool = True, opens: float | None = None) -> list[Tcp]:
    """An upload that fills the server's buffer, probes, and room again."""
    full = ASKED + 1000
    story = [
        *OPENING,
        client(10, "PA", payload=REQUEST),
        client(11, "A", ASKED, payload=BLOCK),
        server(12, "A", SERVER, full, window=0),
    ]
    for at in probes:
        story += [client(at, "A", full - 1), *([server(at + 1, "A", SERVER, full, window=0)] if answered else [])]
    if opens is not None:
        story += [
            server(opens, "A", SERVER, full, window=500),
            client(opens + 1, "A", full, payload=BLOCK),
            server(opens + 2, "A", ack=full + 1000),
        ]
    return story


def closed_at(at_ms: float, *then: Tcp) -> list[Tcp]:
    return [
        *OPENING,
        client(10, "PA", payload=REQUEST),
        server(11, "A", SERVER, ASKED),
        client(at_ms, "FA", ASKED),
        server(at_ms + 1, "A", SERVER, ASKED + 1),
        *then,
    ]


LATE = server(9_000, "PA", SERVER, ASKED + 1, ANSWER)
