"""The packets of two flows go in; whether they carry one connection, with the client's numbers shifted, comes out, or why not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

MASK = (1 << 32) - 1
HALF = 1 << 31

SYN, RST, FIN = 2, 4, 1
"""Bits of the TCP flags (RFC 9293 section 3.1)."""

HEAD = 32
"""Payload bytes by which two client segments that acknowledge the same are taken for one, to learn the shift: verified afterwards."""

TOGETHER_NS = 500_000_000
"""What forwards a connection delays the packets of one direction by about the same: beyond it at most half of them may lie."""

INSERTED_MAX = 4_096
"""Bytes that a balancer puts before the client's first data: a PROXY header with its TLVs (proxy-protocol.txt section 2.2 allows more)."""

PROXY_STARTS = (b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n")
"""What PROXY version 1 and version 2 begin with (proxy-protocol.txt sections 2.1, 2.2)."""

ALIKE = 4
"""Segments of one end that are equal but for one number, at most: each may be the other side's."""

SHIFTS_TRIED = 6


class Piece(NamedTuple):
    """One record of a flow; `payload` is as much of its `length` bytes as is known."""

    time_ns: int
    flags: int
    seq: int
    ack: int
    length: int
    payload: bytes


@dataclasses.dataclass(slots=True)
class Spoken:
    """What the two ends of one flow said, in the order of time, RSTs left out."""

    client: list[Piece] = dataclasses.field(default_factory=list)
    server: list[Piece] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Shift:
    """How flow `p` is the same connection as flow `q`."""

    delta: int
    """Client's numbers in p minus those in q, modulo 2**32, behind what was inserted."""
    inserted: int
    """Bytes that p has before the client's first data and q has not; negative where q has them."""
    server_anchors: int
    """Runs of server payload that are equal at equal numbers, and 1 for an equal SYN-ACK."""
    client_anchors: int
    """Runs of client payload that are equal at numbers that differ by `delta`."""
    acknowledgments: int
    """Packets whose two numbers bear out `delta`, less those that do not: sent again, they acknowledge more."""
    offset_ns: int | None
    """Clock of p minus clock of q, from what both saw."""
    lag_ns: int | None
    """How much longer the server's side waits in p's view: positive where p is nearer to the server; None unless both directions met."""

    @property
    def anchors(self) -> int:
        """What speaks for it, counted: payload runs, handshake, and one for acknowledgments that agree."""
        return self.server_anchors + self.client_anchors + (self.acknowledgments > 1)


def _ahead(number: int, base: int) -> int:
    """How far a number lies ahead of `base`; negative behind it (RFC 9293 section 3.4)."""
    return ((number - base + HALF) & MASK) - HALF


def _runs(pieces: Iterable[Piece], base: int) -> list[tuple[int, bytes]]:
    """The known bytes as runs in order, each byte once; keep-alive probes of one byte carry garbage and are left out."""
    known = [(((piece.seq - base + HALF) & MASK) - HALF, piece.payload) for piece in pieces if piece.length > 1 and piece.payload]
    known.sort()
    runs: list[tuple[int, bytes]] = []
    end = -HALF
    for start, payload in known:
        stop = start + len(payload)
        if start >= end:
            runs.append((start, payload))
            end = stop
        elif stop > end:
            runs.append((end, payload[end - start :]))
            end = stop
    return runs


def _equal_runs(ours: Sequence[tuple[int, bytes]], theirs: Sequence[tuple[int, bytes]]) -> int | None:
    """How many pieces of the one lie in the other with equal bytes; None where bytes differ."""
    equal = at = 0
    for start, payload in ours:
        while at < len(theirs) and theirs[at][0] + len(theirs[at][1]) <= start:
            at += 1
        met, beside = 0, at
        while beside < len(theirs) and theirs[beside][0] < start + len(payload):
            other, content = theirs[beside]
            low, high = max(start, other), min(start + len(payload), other + len(content))
            if payload[low - start : high - start] != content[low - other : high - other]:
                return None
            met += high - low
            beside += 1
        equal += met > 0
    return equal


def _points(pieces: Iterable[Piece], seq_moved: int = 0, ack_moved: int = 0) -> dict[tuple[int, int, int], Piece]:
    """Packets by what makes them one at two places: where they begin, or both numbers of bare acknowledgments that occur once.

    The first sighting of each; the numbers are moved as said.
    """
    found: dict[tuple[int, int, int], Piece] = {}
    several: set[tuple[int, int, int]] = set()
    for piece in pieces:
        if piece.length or piece.flags & (SYN | FIN):
            found.setdefault(((piece.seq + seq_moved) & MASK, -1, piece.flags & SYN), piece)
            continue
        key = ((piece.seq + seq_moved) & MASK, (piece.ack + ack_moved) & MASK, 0)
        if key in found:
            several.add(key)
        found[key] = piece
    for key in several:
        del found[key]
    return found


def _pairs(p: dict[tuple[int, int, int], Piece], q: dict[tuple[int, int, int], Piece]) -> list[tuple[Piece, Piece]]:
    return [(piece, q[key]) for key, piece in p.items() if key in q]


def _votes(p: Spoken, q: Spoken) -> Counter[int]:
    """Shifts that single packets speak for: the server's by what they acknowledge, the client's that acknowledge and carry the same."""

    def listed(told: Iterable[tuple[Hashable, int]]) -> dict[Hashable, list[int]]:
        found: dict[Hashable, list[int]] = {}
        for key, number in told:
            numbers = found.setdefault(key, [])
            if len(numbers) < ALIKE and number not in numbers:
                numbers.append(number)
        return found

    def said(spoken: Spoken) -> dict[Hashable, list[int]]:
        return listed(((piece.ack, piece.payload[:HEAD]), piece.seq) for piece in spoken.client if not piece.flags & SYN)

    def heard(spoken: Spoken) -> dict[Hashable, list[int]]:
        return listed(((piece.seq, piece.payload[:HEAD]), piece.ack) for piece in spoken.server)

    votes: Counter[int] = Counter()
    for ours, theirs in ((said(p), said(q)), (heard(p), heard(q))):
        for key, numbers in ours.items():
            for one in numbers:
                for other in theirs.get(key, ()):
                    votes[(one - other) & MASK] += 1
    return votes


def _opening(pieces: Iterable[Piece]) -> Piece | None:
    return next((piece for piece in pieces if piece.flags & SYN), None)


def compare(p: Spoken, q: Spoken) -> Shift | str:
    """The shift between two flows that carry one connection; else in words what speaks against it, or what is wanting."""
    opened = [_opening(p.server), _opening(q.server)]
    if opened[0] and opened[1] and opened[0].seq != opened[1].seq:
        return "the server's first numbers differ"
    base = next((piece.seq for piece in [*p.server, *q.server]), 0)
    equal = _equal_runs(_runs(p.server, base), _runs(q.server, base))
    if equal is None:
        return "the server's bytes differ at equal numbers"
    isn_equal = int(opened[0] is not None and opened[1] is not None)
    best: Shift | None = None
    for delta, _ in sorted(_votes(p, q).items(), key=lambda vote: (-vote[1], vote[0]))[:SHIFTS_TRIED]:
        found = _under(delta, p, q, equal + isn_equal)
        if found is not None and (best is None or _weight(found) > _weight(best)):
            best = found
    if best is None:
        return "no one shift of the client's numbers fits its bytes and times"
    return best


def _weight(shift: Shift) -> tuple[int, int, bool, int]:
    # Equal requests may fit under several shifts: clocks that are far apart are the less likely.
    return shift.client_anchors, shift.acknowledgments, shift.inserted == 0, -abs(shift.offset_ns or 0)


def _under(delta: int, p: Spoken, q: Spoken, server_anchors: int) -> Shift | None:
    """What speaks for one shift; None where something speaks against it."""
    inserted = _inserted(delta, p, q)
    if inserted is None:
        return None
    base = next((piece.seq for piece in p.client), 0)
    equal = _equal_runs(_runs(p.client, base), _runs(q.client, base - delta))
    if equal is None:
        return None
    server = _pairs(_points(p.server), _points(q.server, ack_moved=delta))
    client = _pairs(_points(p.client), _points(q.client, seq_moved=delta))
    # A SYN-ACK acknowledges what came before anything could be inserted.
    fitting = sum((one.ack - other.ack + (inserted if one.flags & SYN else 0)) & MASK == delta for one, other in server)
    fitting += sum(one.ack == other.ack for one, other in client)
    acknowledged = max(0, 2 * fitting - len(server) - len(client))
    back = [one.time_ns - other.time_ns for one, other in server]
    forth = [one.time_ns - other.time_ns for one, other in client]
    ways = [(times, sorted(times)[(len(times) - 1) // 2]) for times in (forth, back) if times]
    middles = [middle for _, middle in ways]
    offset = None if not middles else sum(middles) // len(middles)
    apart = sum(abs(time - middle) > TOGETHER_NS for times, middle in ways for time in times)
    if apart * 2 > len(forth) + len(back):
        return None
    lag = middles[0] - middles[1] if len(middles) == 2 else None
    return Shift(delta, inserted, server_anchors, equal, acknowledged, offset, lag)


def _inserted(delta: int, p: Spoken, q: Spoken) -> int | None:
    """By how much the handshake's shift is smaller than `delta`: 0 where it is the same or was not seen, None where it cannot be."""
    early: int | None = None
    ours, theirs = _opening(p.client), _opening(q.client)
    if ours and theirs:
        early = (ours.seq - theirs.seq) & MASK
    else:
        ours, theirs = _opening(p.server), _opening(q.server)
        if ours and theirs:
            early = (ours.ack - theirs.ack) & MASK
    if early is None:
        return 0
    inserted = _ahead(delta, early)
    if inserted == 0:
        return 0
    longer, start = (p, ours) if inserted > 0 else (q, theirs)
    if abs(inserted) > INSERTED_MAX:
        return None
    opening = _opening(longer.client)
    first = None if opening is None else (opening.seq + 1) & MASK
    if first is None and start is not None:
        first = start.ack
    head = next((piece.payload for piece in longer.client if piece.length and piece.seq == first and piece.payload), None)
    if head is not None and not any(head.startswith(start) or start.startswith(head) for start in PROXY_STARTS):
        return None
    return inserted
