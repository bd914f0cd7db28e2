"""A connection goes in; what of it was seen at one place and never at the next, out of how much, comes out, by direction."""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence

from tcpwhy.connections.connection import SIDES, Connection, Segment, View
from tcpwhy.connections.packet import ACK, Side, Sighting, seq_distance

IN_FLIGHT_NS = 50_000_000
"""What set out so shortly before a capture's last packet may have come when that capture had ended."""

FORWARDED_NS = 5_000_000
"""A host forwards a packet within this time; nothing is repeated so soon in records of another size."""

ETHERNET_PAYLOAD = 1_448
"""Payload of a full segment on Ethernet with timestamps (1500 - 20 - 20 - 12), where no SYN tells the MSS."""

TIMESTAMPS = 12
"""Bytes of the timestamps option with its padding (RFC 7323 appendix A); the MSS counts them as payload (RFC 6691)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """A segment that was seen at a place and, wholly or in part, at none behind it."""

    segment: Segment
    packets: int
    """Of the wire: offload makes one record of many."""
    size: int
    """Payload of the largest of these packets."""
    followed: bool
    """Something that the same end sent later did pass."""


@dataclasses.dataclass(frozen=True, slots=True)
class Crossing:
    """What one end's packets met between two neighbouring places."""

    side: Side
    """Who sent them."""
    near: str
    """Nearer to the sender."""
    far: str
    sent: int
    """Packets of the wire seen at `near` while `far` surely captured."""
    missing: tuple[Missing, ...]
    passed: tuple[Segment, ...]
    """Seen at `far`, or behind it, whole."""
    largest_passed: int
    """Payload of the largest packet that passed; 0 where only bare ACKs did, -1 where nothing did."""
    doubt: str | None
    """Why absence at `far` proves nothing, if it does not."""

    @property
    def lost(self) -> int:
        """Packets of the wire that did not come to `far`."""
        return sum(one.packets for one in self.missing)

    @property
    def smallest_lost(self) -> int:
        """Payload of the smallest packet that was lost; 0 where nothing was."""
        return min((one.size for one in self.missing), default=0)

    @property
    def spares_small(self) -> bool:
        """Larger packets than those that passed are lost, and no other: the size decides, or chance does where there are few."""
        return len(self.missing) > 1 and self.largest_passed >= 0 and self.smallest_lost > self.largest_passed

    @property
    def between(self) -> tuple[str, str]:
        """The link, as the sender's packets cross it."""
        return self.near, self.far


def crossings(connection: Connection) -> tuple[Crossing, ...]:
    """What each end's packets met between each two neighbouring places that saw the connection.

    A packet that was seen behind `far` was not lost before it. What the captures did not surely cover counts neither as sent nor lost.
    """
    if connection.crossed is not None:
        return connection.crossed
    found = []
    for side in SIDES:
        order = connection.places if side == "client" else tuple(reversed(connection.places))
        for number, near in enumerate(order[:-1]):
            found.append(_cross(connection, side, near, order[number + 1], order[number + 2 :]))
    connection.crossed = tuple(found)
    return connection.crossed


def full_payload(connection: Connection) -> int:
    """Payload of the largest packet that both ends allow: the smaller MSS less the options of each segment."""
    told = [one.packet.mss for one in connection.segments if one.flags & 2 and one.packet.mss]
    if not told:
        usual = [one.length for one in connection.segments if ETHERNET_PAYLOAD - 200 <= one.length <= ETHERNET_PAYLOAD + TIMESTAMPS]
        return max(usual, default=ETHERNET_PAYLOAD)
    stamped = any(one.ts_value is not None and one.length for one in connection.segments)
    return max(1, min(told) - (TIMESTAMPS if stamped else 0))


def _cross(connection: Connection, side: Side, near: str, far: str, behind: tuple[str, ...]) -> Crossing:
    full = full_payload(connection)
    unread = [_unread(connection.views[place]) for place in (near, far)]
    late = _late(connection, side, near, (far, *behind))
    whole = _held_in_pieces(connection, side, near)
    sent, largest, fitting = 0, -1, full
    tried: Counter[int] = Counter()
    missing: list[Missing] = []
    passed: list[Segment] = []
    for segment in connection.segments:
        sighting = segment.sighting_at(near)
        if segment.sender != side or sighting is None or id(segment) in whole or _is_cut_anew(segment, near):
            continue
        at_ns = sighting.aligned_ns
        if not _covered(connection, far, at_ns) or any(span is not None and span[0] <= at_ns <= span[1] for span in unread):
            continue
        packets = max(1, -(-segment.length // full))
        sent += packets
        gone = 0 if _identity(sighting) in late else min(_absent(segment, place) for place in (far, *behind))
        if gone:
            lost = max(1, -(-gone // full)) if segment.length else 1
            missing.append(Missing(segment, lost, min(segment.length, full), followed=False))
            tried[segment.seq] += 1
            pieces = [one.packet.length for place in (far, *behind) for one in segment.covered.get(place, ())]
            largest = max([largest, *(min(piece, full) for piece in pieces)])
        else:
            passed.append(segment)
            if tried[segment.seq] > 1 and 0 < segment.length < fitting:
                fitting = segment.length  # Tried anew with less, it passes: from now on offload cuts into packets of that size.
            largest = max(largest, min(segment.length, fitting))
    last_ns = max((one.aligned_ns for one in passed), default=0)
    missing = [dataclasses.replace(one, followed=one.segment.aligned_ns < last_ns) for one in missing]
    doubt = _doubt(connection, side, near, far) or _delivered(connection, side, missing, (far, *behind))
    return Crossing(side, near, far, sent, tuple(missing), tuple(passed), largest, doubt)


def _identity(sighting: Sighting) -> Hashable:
    packet = sighting.packet
    return packet.flags, packet.seq, packet.ack, packet.length, packet.ts_value, packet.ts_echo, packet.ip_id


def _late(connection: Connection, side: Side, near: str, places: tuple[str, ...]) -> set[Hashable]:
    """Packets that came to one of the places as often as they were sent, however late: a router holds back what it has no neighbour for.

    What a host holds on several interfaces was sent as often as it stands on one of them.
    """
    sent = Counter((_identity(one), one.packet.file, one.packet.interface) for one in connection.views[near].sent_by(side))
    most: dict[Hashable, int] = {}
    for (identity, _, _), count in sent.items():
        most[identity] = max(most.get(identity, 0), count)
    found: set[Hashable] = set()
    for place in places:
        came = Counter(_identity(one) for one in connection.views[place].sent_by(side))
        found.update(identity for identity, count in most.items() if came[identity] >= count)
    return found


def _delivered(connection: Connection, side: Side, missing: Sequence[Missing], places: tuple[str, ...]) -> str | None:
    """Why a capture that lacks bytes which the other end acknowledges says nothing: they came, and it did not keep them."""
    if not any(one.segment.length for one in missing):
        return None
    base = missing[0].segment.seq
    acks = [one.ack for one in connection.segments if one.sender != side and one.flags & ACK and not one.is_reset]
    reached = max((seq_distance(base, ack) for ack in acks), default=0)
    seen = joined(
        (seq_distance(base, sighting.packet.seq), seq_distance(base, sighting.packet.seq) + sighting.packet.length)
        for place in places
        for sighting in connection.views[place].sent_by(side)
        if sighting.packet.length
    )
    for one in missing:
        begin = seq_distance(base, one.segment.seq)
        end = min(begin + one.segment.length, reached)
        if begin < end and not holds(seen, begin, end):
            return f"bytes that it lacks were acknowledged all the same: the capture of {places[0]} did not keep them"
    return None


def joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of numbers in order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def holds(spans: Sequence[tuple[int, int]], begin: int, end: int) -> bool:
    """True where one of these joined spans has all numbers from `begin` to before `end`."""
    at = bisect.bisect_right(spans, begin, key=lambda span: span[0]) - 1
    return at >= 0 and end <= spans[at][1]


def _is_cut_anew(segment: Segment, place: str) -> bool:
    """True for bytes that a host which forwards them held on another interface just before, in records of another size (offload)."""
    sighting, before = segment.sighting_at(place), segment.retransmits.sighting_at(place) if segment.retransmits is not None else None
    if sighting is None or before is None or segment.retransmits is None or segment.length == segment.retransmits.length:
        return False
    elsewhere = (sighting.packet.file, sighting.packet.interface) != (before.packet.file, before.packet.interface)
    soon = abs(sighting.aligned_ns - before.aligned_ns) <= FORWARDED_NS
    return elsewhere and soon and segment.ts_value == segment.retransmits.ts_value


def _held_in_pieces(connection: Connection, side: Side, place: str) -> set[int]:
    """Identities of the segments whose very bytes stand in a place's capture once more, in pieces.

    A host hands one large record to the interface that cuts it for another (a VLAN's above its parent), and a capture of `any` has both.
    """
    by_stamp: dict[int | None, list[tuple[int, Segment]]] = {}
    for one in connection.segments:
        sighting = one.sightings.get(place)
        if one.sender == side and one.length and sighting is not None:
            by_stamp.setdefault(one.ts_value, []).append((sighting.aligned_ns, one))
    full = full_payload(connection)
    found: set[int] = set()
    for entries in by_stamp.values():
        entries.sort(key=lambda entry: entry[0])
        times = [at_ns for at_ns, _ in entries]
        for at_ns, segment in entries:
            if segment.length <= full:
                continue
            near = entries[bisect.bisect_left(times, at_ns - FORWARDED_NS) : bisect.bisect_right(times, at_ns + FORWARDED_NS)]
            begins = ((seq_distance(segment.seq, other.seq), other.length) for _, other in near if other.length < segment.length)
            if holds(joined((begin, begin + length) for begin, length in begins), 0, segment.length):
                found.add(id(segment))
    return found


def _absent(segment: Segment, place: str) -> int:
    """Payload bytes of a segment that a place did not see; 1 for a bare packet that it did not see."""
    if place in segment.sightings:
        return 0
    if not segment.covered.get(place):
        return max(1, segment.length)
    spans = sorted(_spans(segment, place))
    reach = absent = 0
    for begin, end in spans:
        absent += max(0, begin - reach)
        reach = max(reach, end)
    return absent + max(0, segment.length - reach)


def _spans(segment: Segment, place: str) -> Iterator[tuple[int, int]]:
    for sighting in segment.covered[place]:
        begin = seq_distance(segment.seq, sighting.packet.seq)
        yield max(0, begin), min(segment.length, begin + sighting.packet.length)


def _covered(connection: Connection, place: str, at_ns: int) -> bool:
    """True where a capture surely ran when a packet that set out then would have come."""
    windows = connection.topology.windows.get(place, {}).values()
    return any(begin <= at_ns and at_ns + IN_FLIGHT_NS <= end for begin, end in windows)


def _unread(view: View) -> tuple[int, int] | None:
    """The stretch in the middle of a very long flow whose packets were not read, on the common clock."""
    if not view.left_out:
        return None
    read = sum(len(sighting.copies) for sighting in view.sightings)
    seen = 0
    for number, sighting in enumerate(view.sightings[:-1]):
        seen += len(sighting.copies)
        if seen >= read // 2:
            return sighting.aligned_ns, view.sightings[number + 1].aligned_ns
    return view.sightings[0].aligned_ns, view.sightings[-1].aligned_ns


def _doubt(connection: Connection, side: Side, near: str, far: str) -> str | None:
    topology = connection.topology
    for place in (near, far):
        if place in topology.lossy:
            return f"the capture of {place} is incomplete: {topology.lossy[place]}"
        if not topology.aligned[place]:
            return f"the clock of {place} could not be aligned, so that it is unknown whether its capture ran then"
    nearer, farther = (near, far) if side == "client" else (far, near)
    if not topology.is_before(nearer, farther):
        return f"captures do not tell whether {nearer} lies before {farther}"
    server = connection.views[near].server
    if topology.passes(side, near, far, server.ip, server.port) is not False:
        return None
    if side == "client" and topology.some_pass(side, near, server.ip, server.port):
        return None  # Of several hosts behind one address, this one has the connection, and none other saw what is missing.
    return f"{far} is not known to lie on the way of the {side}'s packets: others did not pass it either"
