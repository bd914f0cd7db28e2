"""What waited in a failed connection goes in; whether only the larger segments are missing, told between places or at one, comes out."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Sequence

from tcpwhy.causes._asking import capture_at, capture_between
from tcpwhy.causes._loss_pattern import narrowed
from tcpwhy.causes._lost import End, Wait
from tcpwhy.causes._sizes import is_large
from tcpwhy.causes._verdict import Open, exhibit
from tcpwhy.connections.connection import SIDES, Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, Kind
from tcpwhy.connections.link_loss import Rate, is_by_size
from tcpwhy.connections.losses import Crossing, full_payload, holds, joined
from tcpwhy.connections.packet import ACK, SYN, Side, other_side, seq_before, seq_distance
from tcpwhy.connections.stalls import StallKind

REPEATS = 3
"""So many times the same bytes must be sent and lost before their size is blamed: once or twice is chance."""

LEAST_LOST = 6
"""Large packets lost, and none passed, from which one place alone takes it for the size …"""

BY_CHANCE = 0.005
"""… if the best chance for a link that spares no size is smaller than this."""

RIGHT_BEFORE_NS = 1_000_000_000
"""What passed so shortly before the first loss shows that the way was open."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unfit:
    """Segments that do not fit the way, and those that do."""

    side: Side
    """Who sent them."""
    wait: Wait
    segments: tuple[Segment, ...]
    """The first that did not pass, and its repetitions."""
    stuck: int
    """Payload of the smallest packet that did not pass."""
    passed: int
    """Payload of the largest that did; 0 where only bare ACKs are known to."""
    small_before: bool
    """Smaller ones passed right before."""
    small_after: bool
    """Smaller ones passed while the large ones did not."""
    crossing: Crossing | None


def unfit_between(connection: Connection, found: Sequence[Wait]) -> Unfit | Open | None:
    """Told by two places: each large segment is seen at the first and not at the second, each small one at both.

    Open where others as large had passed before.
    """
    for wait in found:
        lost = [one for one in wait.attempts if one.end is End.LOST]
        places = [one.crossing for one in lost if one.crossing is not None]
        crossing = max(places, key=places.count, default=None)
        if crossing is None or len(lost) < 2 or len(wait.attempts) < REPEATS or len(crossing.missing) < REPEATS:
            continue
        if crossing.doubt is not None:
            continue
        if not _is_size_alone(connection, crossing):
            if narrowed(connection, wait) and all(is_large(connection, one.segment) for one in lost):
                shown = tuple(exhibit(one.segment, connection, "repeated, never acknowledged") for one in lost[:2])
                ask = (capture_between(connection, *crossing.between, "which hop passes small ones only"),)
                return Open(_narrower(crossing.smallest_lost), ask, shown, crossing.between)
            continue
        missing = [one.segment for one in crossing.missing]
        first_ns = min(one.aligned_ns for one in missing)
        others = len({one.seq for one in missing}) > 1
        before = [one for one in crossing.passed if 0 <= first_ns - one.aligned_ns <= RIGHT_BEFORE_NS and not one.flags & SYN]
        after = [one for one in crossing.passed if one.aligned_ns > first_ns]
        return Unfit(
            side=wait.stall.side,
            wait=wait,
            segments=tuple(one.segment for one in lost),
            stuck=crossing.smallest_lost,
            passed=crossing.largest_passed,
            small_before=bool(before) and others,
            small_after=bool(after),
            crossing=crossing,
        )
    return None


def _narrower(size: int) -> str:
    return f"segments of {size} bytes passed, and from then on only smaller ones did: another way may have become narrower"


def _is_size_alone(connection: Connection, crossing: Crossing) -> bool:
    rate = connection.traffic.rate_of(crossing) if connection.traffic is not None else Rate(0, 0)
    return is_by_size(crossing, rate) and all(is_large(connection, one.segment) for one in crossing.missing)


def sender_alone(connection: Connection, found: Sequence[Wait]) -> Unfit | Open | None:
    """Told by what the other end acknowledges: not a large segment, however often it is sent, but smaller ones sent behind it.

    Open where only the repetitions of a large segment are seen; None where these arrive, or others as large did.
    """
    full = full_payload(connection)
    for wait in found:
        side = wait.stall.side
        sent = [one.segment for one in wait.attempts if one.segment.seq == wait.attempts[0].segment.seq]
        # What offload cuts from a larger record is as large as the packets that are seen, which a smaller MTU on the way may limit.
        cut = max((one.length for one in sent if one.length <= full), default=full)
        sizes = [min(one.length, cut) for one in sent]
        tried = next((number for number in range(1, len(sizes)) if sizes[number] < sizes[number - 1]), len(sizes))
        stuck = [one for one in sent[:tried] if is_large(connection, one)]
        if any(one.crossing is not None and one.end is End.LOST and not one.crossing.spares_small for one in wait.attempts):
            continue  # Seen at the next place, too: it loses smaller ones as well, or passes others as large.
        through = wait.stall.ended and tried == len(sizes)
        if wait.stall.kind is not StallKind.LOSS or len(stuck) < REPEATS or through or any(_arrived(connection, one) for one in stuck):
            continue
        passed = _passed(connection, side, stuck[-1].aligned_ns)
        # Tried anew with less, it passes: from then on offload cuts into packets of that size.
        fitting = sizes[tried] if tried < len(sizes) else full
        since = [one for one in passed if one.aligned_ns > stuck[0].aligned_ns]
        largest = max((min(one.length, fitting if one.aligned_ns > stuck[-1].aligned_ns else full) for one in since), default=0)
        smallest = min(sizes[:tried])
        if largest >= smallest:
            continue
        if max((min(one.length, full) for one in passed if one.aligned_ns <= stuck[0].aligned_ns), default=0) >= smallest:
            if not since:
                continue
            shown = tuple(exhibit(one, connection, "repeated, never acknowledged") for one in stuck[:2])
            return Open(_narrower(smallest), (capture_at(connection, other_side(side), "whether only small segments arrive there"),), shown)
        lost = [one for one in connection.segments if one.sender == side and one.length and one.aligned_ns <= stuck[-1].aligned_ns]
        came = {id(one) for one in passed}
        lost = [one for one in lost if id(one) not in came]
        behind = any(one.aligned_ns > stuck[0].aligned_ns for one in passed)
        again = any(one.retransmits is not None for one in passed if one.aligned_ns <= stuck[-1].aligned_ns)  # Small ones were lost, too.
        large = min(min(one.length, full) for one in lost) > largest
        if behind and large and not again and not _is_chance(len(lost), len(passed)):
            return Unfit(side, wait, tuple(stuck), smallest, largest, small_before=True, small_after=True, crossing=None)
        shown = tuple(exhibit(one, connection, "repeated, never acknowledged") for one in stuck[:2])
        decides = "whether only small segments arrive there"
        return Open(
            f"only full-sized segments, of {smallest} bytes, are repeated", (capture_at(connection, other_side(side), decides),), shown
        )
    return None


def _is_chance(lost: int, passed: int) -> bool:
    """True where a link that loses any size as often as it did here would now and then lose just the large ones."""
    share = lost / (lost + passed)
    likelihood = share**lost * (1 - share) ** passed
    return lost < LEAST_LOST or likelihood >= BY_CHANCE


def _passed(connection: Connection, side: Side, last_ns: int) -> list[Segment]:
    """Data of one end that the other acknowledges: before `last_ns`, or sent after it; else it may have been sent again in other pieces."""
    reached: list[tuple[int, int]] = []
    blocks: list[tuple[int, int, int]] = []
    base = next((one.seq for one in connection.segments if one.sender == side), 0)
    for one in connection.segments:
        if one.sender == side or not one.flags & ACK or one.is_reset:
            continue
        ack = seq_distance(base, one.ack)
        if not reached or ack > reached[-1][0]:
            reached.append((ack, one.aligned_ns))
        for begin, end in blocks_of(one.packet.sack):
            if seq_distance(base, begin) >= ack:  # Below it the first block tells of duplicates (RFC 2883).
                blocks.append((seq_distance(base, begin), seq_distance(base, end), one.aligned_ns))
    early = joined((begin, end) for begin, end, at_ns in blocks if at_ns < last_ns)
    later = joined((begin, end) for begin, end, _ in blocks)
    found = []
    for one in connection.segments:
        if one.sender != side or not one.length or one.is_reset:
            continue
        begin, end = seq_distance(base, one.seq), seq_distance(base, one.seq) + one.length
        at = bisect.bisect_left(reached, end, key=lambda entry: entry[0])
        late = one.aligned_ns > last_ns
        acked = at < len(reached) and (late or reached[at][1] < last_ns)
        if acked or holds(later if late else early, begin, end):
            found.append(one)
    return found


def _arrived(connection: Connection, segment: Segment) -> bool:
    """True where the host that it was sent to saw it."""
    if segment.sender == "client":
        return segment.seen_at(connection.places[-1]) and connection.is_server_host(connection.places[-1])
    return segment.seen_at(connection.places[0]) and bool(connection.is_client_host(connection.places[0]))


def blocks_of(sack: str) -> Iterator[tuple[int, int]]:
    """The blocks of a SACK option, as the core writes them."""
    for block in sack.split():
        begin, _, end = block.partition("-")
        yield int(begin), int(end)


def silent_hole(connection: Connection, found: Sequence[Wait]) -> Open | None:
    """Told at the receiver: bytes are missing before smaller segments, or nothing of what must have been sent came at all."""
    failure = connection.failure
    if failure is None:
        return None
    for side in SIDES:
        receiver = connection.places[0] if side == "server" else connection.places[-1]
        gap = _gap(connection, side, receiver)
        if gap is not None and gap[0] >= min(full_payload(connection), 500):
            missing, behind = gap
            because = f"{missing} bytes of the {side} are missing before a segment of {behind.length} bytes, and never came"
            ask = capture_at(connection, side, "whether the missing bytes were sent, in segments of which size, and repeated")
            return Open(because, (ask,), (exhibit(behind, connection, "behind the hole", receiver),), receiver)
    if failure.kind not in (Kind.GAVE_UP, Kind.RESET, Kind.SILENT) or connection.is_server_host(connection.places[-1]):
        return None
    spoken = [one for one in connection.segments if one.length and not one.is_reset]
    if spoken and spoken[-1].sender == "client" and _waited_for_answer(connection, spoken[-1]):
        ask = capture_at(connection, "server", "whether it sent an answer in full-sized segments that never arrive")
        return Open("the answer may have been sent in full-sized segments, of which none came", (ask,))
    return None


def _waited_for_answer(connection: Connection, last: Segment) -> bool:
    """The server took the client's last message, as far as is seen, and had the time to answer.

    A repeated message that is never acknowledged was not taken, or small ACKs do not come through either: the repetition draws one.
    """
    answers = [one for one in connection.segments if one.sender == "server" and not one.is_reset]
    taken = last.retransmits is None or any(one.flags & ACK and not seq_before(one.ack, last.seq_end) for one in answers)
    failure = connection.failure
    first_ns = last.retransmits.aligned_ns if last.retransmits is not None else last.aligned_ns
    return bool(answers) and taken and failure is not None and failure.at_ns - first_ns >= SECOND_NS


def _gap(connection: Connection, side: Side, place: str) -> tuple[int, Segment] | None:
    """Bytes that an end must have sent before others that came, and that never came to a place; with the first segment behind these."""
    came = [one for one in connection.segments if one.sender == side and one.length and not one.is_reset and one.seen_at(place)]
    acks = [one.ack for one in connection.segments if one.sender != side and one.flags & ACK and not one.is_reset and not one.opens]
    if not came or not acks:
        return None
    reached = max(seq_distance(came[0].seq, ack) for ack in acks)
    end: int | None = None
    for one in sorted(came, key=lambda segment: seq_distance(came[0].seq, segment.seq)):
        if end is not None and seq_before(end, one.seq) and reached <= seq_distance(came[0].seq, end):
            return (one.seq - end) & 0xFFFF_FFFF, one
        end = one.seq_end if end is None or seq_before(end, one.seq_end) else end
    return None
