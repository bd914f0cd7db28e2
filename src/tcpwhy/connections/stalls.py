"""A connection goes in; the times in which one end had something to send and could not get it through come out.

Each end is judged by one place, as that end itself met the connection: what strayed or was lost beyond it does not count.
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import itertools
from collections import Counter
from collections.abc import Iterator

from tcpwhy.connections.connection import FRAMES_PER_FLOW, SIDES, Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS
from tcpwhy.connections.packet import ACK, FIN, RST, SYN, Side, Sighting, other_side, seq_distance

LEAST_SEGMENT = 536
"""What every receiver takes in one segment (RFC 9293 section 3.7.1), where its SYN was not seen."""

IN_FLIGHT_NS = SECOND_NS // 10
"""What is seen so soon after the window was closed may have been sent before its sender heard of that."""


LEAST_NUMBER = -(1 << 31)
"""Below every relative number."""


class StallKind(enum.Enum):
    """What held the data up."""

    HANDSHAKE = "the handshake worked on a later try only"
    LOSS = "the same bytes were repeated until they were acknowledged"
    WINDOW = "the receiver's window was closed"


@dataclasses.dataclass(frozen=True, slots=True)
class Stall:
    """A time in which an end could not get through what it had to send."""

    kind: StallKind
    side: Side
    """Whose data waited."""
    place: str
    """The vantage point by whose packets it is told."""
    start_ns: int
    end_ns: int
    """Aligned; where it did not end, the last packet that belongs to it."""
    ended: bool
    """It went on afterwards."""
    segments: tuple[Segment, ...]
    """What was first sent, or the ACK that closed the window; the repetitions or probes; what ended it."""

    @property
    def length_ns(self) -> int:
        """How long it was held up."""
        return self.end_ns - self.start_ns


def stalls(connection: Connection, at_least_ns: int = 0) -> list[Stall]:
    """All times of at least so many nanoseconds in which data of either end waited, in the order of time."""
    found: list[Stall] = []
    handshake = _handshake(connection)
    if handshake is not None:
        found.append(handshake)
    for side in SIDES:
        homes = _homes(connection, side)
        for place in homes:
            seen = _seen_at(connection, place, side)
            found += seen if place == homes[0] else [stall for stall in seen if stall.ended and _unwatched(connection, homes[0], stall)]
    return sorted((one for one in found if one.length_ns >= at_least_ns), key=lambda one: one.start_ns)


def _seen_at(connection: Connection, place: str, side: Side) -> list[Stall]:
    """The stalls of one end's data by the packets of one place."""
    track = _Track(connection, place, side)
    closed = _closed_windows(track)
    lost = [
        stall for stall in _repeated(track) if not any(stall.start_ns < other.end_ns and other.start_ns < stall.end_ns for other in closed)
    ]
    return [*closed, *lost]


def _unwatched(connection: Connection, home: str, stall: Stall) -> bool:
    """The capture of the end's own place had ended, or had not begun, so that the other place alone saw this stall's whole."""
    topology = connection.topology
    if not topology.aligned.get(home) or not topology.aligned.get(stall.place):
        return False
    return not (topology.was_running(home, stall.start_ns) and topology.was_running(home, stall.end_ns))


def _homes(connection: Connection, side: Side) -> list[str]:
    """First the place that met the connection as this end did, of those that saw both directions; then the others of these.

    It is the one that saw most of what this end sent before any other place did.
    """
    counts = Counter(segment.first.vantage_point for segment in connection.segments if segment.sender == side and not segment.is_reset)
    both = [place for place, _ in counts.most_common() if connection.views[place].sent_by(other_side(side))]
    both += [place for place in connection.places if place not in both and all(connection.views[place].sent_by(one) for one in SIDES)]
    return both or [place for place, _ in counts.most_common(1)]


class _Track:
    """What one place saw, numbers of both directions counted on beyond 2^32."""

    def __init__(self, connection: Connection, place: str, side: Side) -> None:
        self.connection = connection
        self.place = place
        self.side = side
        view = connection.views[place]
        self.sightings = [one for one in view.sightings if one.packet.kind == "segment"]
        own = [one for one in self.sightings if one.sender == side and not one.packet.flags & RST]
        acks = [one for one in self.sightings if one.sender != side and one.packet.flags & ACK]
        self.base = own[0].packet.seq if own else acks[0].packet.ack if acks else 0
        self.parts = [self.sightings]
        """One, or two where the middle of a very long flow was not read: nothing is said of what lies between."""
        if view.left_out and sum(len(one.copies) for one in self.sightings) >= FRAMES_PER_FLOW - 1:
            frames = list(itertools.accumulate(len(one.copies) for one in self.sightings))
            middle = next(number for number, count in enumerate(frames) if count >= FRAMES_PER_FLOW // 2) + 1
            self.parts = [self.sightings[:middle], self.sightings[middle:]]
        self._segments = {
            id(sighting): segment
            for segment in connection.segments
            for sighting in (*([segment.sightings[place]] if place in segment.sightings else ()), *segment.covered.get(place, ()))
        }

    def seq(self, sighting: Sighting) -> int:
        """Of what `side` sent, relative to its first number."""
        return seq_distance(self.base, sighting.packet.seq)

    def ack(self, sighting: Sighting) -> int:
        """Of what the other end acknowledged."""
        return seq_distance(self.base, sighting.packet.ack)

    def repeats(self, sighting: Sighting) -> bool:
        """It holds nothing that was not sent before."""
        segment = self._segments.get(id(sighting))
        return segment is not None and segment.retransmits is not None

    def segments_of(self, *sightings: Sighting | None) -> tuple[Segment, ...]:
        """The segments of these sightings, each once."""
        found = [self._segments[id(one)] for one in sightings if one is not None and id(one) in self._segments]
        return tuple(dict.fromkeys(found))


def _handshake(connection: Connection) -> Stall | None:
    """From the first SYN to its answer, or where no SYN was repeated, from the first SYN-ACK to the ACK that it wants."""
    for place in connection.places:
        sightings = [one for one in connection.views[place].sightings if one.packet.kind == "segment"]
        syns = [one for one in sightings if one.packet.flags & (SYN | ACK) == SYN and one.sender == "client"]
        answers = [one for one in sightings if one.packet.flags & (SYN | ACK) == SYN | ACK and one.sender == "server"]
        if not answers:
            continue
        spoke = [one for one in sightings if not one.packet.flags & (SYN | RST)]
        acked = next((one for one in spoke if one.sender == "client"), None)
        banner = next((one for one in spoke if one.packet.length), None)
        end, side = (acked, "server") if acked is not None else (None, "client")
        tries = answers
        if len(syns) > 1 and syns[-1].aligned_ns <= answers[-1].aligned_ns and syns[0].packet.seq == syns[-1].packet.seq:
            end, side, tries = acked, "client", [*syns, *answers]
        elif acked is not None and banner is not None and banner.sender == "server" and answers[-1].aligned_ns > acked.aligned_ns:
            end = banner  # A server that speaks first has accepted only now.
        if end is None or sum(one.aligned_ns <= end.aligned_ns for one in tries) < 2 or not connection.established:
            return None
        tries = [one for one in tries if one.aligned_ns <= end.aligned_ns]
        of = {id(segment.sightings[place]): segment for segment in connection.segments if place in segment.sightings}
        segments = tuple(of[id(one)] for one in (*tries, end) if id(one) in of)
        start_ns = min(one.aligned_ns for one in tries)
        who: Side = "client" if side == "client" else "server"
        return Stall(StallKind.HANDSHAKE, who, place, start_ns, end.aligned_ns, True, segments)
    return None


@dataclasses.dataclass(slots=True)
class _Sent:
    """Bytes as they were sent first, and each repetition of their beginning."""

    start: int
    end: int
    first: Sighting
    repeats: list[Sighting] = dataclasses.field(default_factory=list)


def _repeated(track: _Track) -> list[Stall]:
    """Times in which the oldest bytes that wait are sent again and again, or are missing at the receiver's place."""
    return [stall for part in track.parts for stall in _repeated_within(track, part)]


def _repeated_within(track: _Track, sightings: list[Sighting]) -> list[Stall]:
    sent: list[_Sent] = []
    una = LEAST_NUMBER
    acked: list[tuple[int, Sighting]] = []
    for one in sightings:
        packet = one.packet
        if packet.flags & RST:
            continue
        if one.sender != track.side:
            if packet.flags & ACK and track.ack(one) > una:
                una = track.ack(one)
                acked.append((una, one))
            continue
        if not packet.length or packet.flags & SYN:
            continue
        start = track.seq(one)
        end = start + packet.length
        if not sent or start >= sent[-1].end or (end > sent[-1].end and start > sent[-1].start):
            sent.append(_Sent(start, end, one))
            continue
        if end > sent[-1].end:
            continue  # It holds old bytes and new ones: how it was cut is unknown.
        if packet.length == 1 and end == sent[-1].end:
            continue  # A keep-alive with a byte of garbage (RFC 9293 section 3.8.4).
        original = _holding(sent, start)
        if original is not None:
            original.repeats.append(one)
        else:
            # It fills a hole: bytes behind it were here before, and those of it never; the receiver lacked them.
            at = bisect.bisect_left(sent, start, key=lambda later: later.start)
            if una == start:
                sent.insert(at, _Sent(start, end, sent[at].first, [one]))
    return [stall for own in sent if own.repeats for stall in [_held_up(track, own, sent[-1], acked)] if stall is not None]


def _holding(sent: list[_Sent], start: int) -> _Sent | None:
    """The first sending that holds this byte."""
    at = bisect.bisect_right(sent, start, key=lambda one: one.start)
    return sent[at - 1] if at and sent[at - 1].end > start else None


def _held_up(track: _Track, own: _Sent, newest: _Sent, acked: list[tuple[int, Sighting]]) -> Stall | None:
    start_ns = own.first.aligned_ns
    next_ack = bisect.bisect_right(acked, own.start, key=lambda entry: entry[0])
    if next_ack:
        start_ns = max(start_ns, min(acked[next_ack - 1][1].aligned_ns, own.repeats[-1].aligned_ns))
    last = own.repeats[-1]
    previous_ns = own.repeats[-2].aligned_ns if len(own.repeats) > 1 else start_ns
    ack = acked[next_ack][1] if next_ack < len(acked) else None
    # The next repetition would have come after twice the last gap (RFC 6298 section 5.5): a later ACK was not waited for.
    patience_ns = (last.aligned_ns - previous_ns) * 5 // 2 + SECOND_NS // 2
    in_time = ack is not None and last.aligned_ns <= ack.aligned_ns <= last.aligned_ns + patience_ns
    end_ns = ack.aligned_ns if ack is not None and in_time else last.aligned_ns
    went_on = ack is not None or newest.first.aligned_ns > last.aligned_ns
    segments = track.segments_of(own.first, *own.repeats, ack if in_time else None)
    return Stall(StallKind.LOSS, track.side, track.place, start_ns, end_ns, went_on, segments)


TIMESTAMPS_LENGTH = 12
"""Bytes that the timestamps option takes of each segment, padding included (RFC 7323 appendix A; RFC 6691)."""


@dataclasses.dataclass(slots=True)
class _Closed:
    """A window that is closed now."""

    by: Sighting
    edge: int
    """One past the last byte that there is room for."""
    probes: list[Sighting] = dataclasses.field(default_factory=list)
    answers: list[Sighting] = dataclasses.field(default_factory=list)

    def stall(self, track: _Track, by: Sighting | None, *, went_on: bool) -> Stall | None:
        """The time until `by` in which this end is seen to want room; None where it wanted none."""
        if not self.probes:
            return None
        # To the end of a capture it is closed as long as the receiver says so: probes that draw nothing tell of something else.
        last = by or max((self.by, *self.answers), key=lambda one: one.aligned_ns)
        # It wanted room when it began to wait for the first probe, as long as it then waited for the second at most.
        first_ns = self.probes[0].aligned_ns
        waited_ns = self.probes[1].aligned_ns - first_ns if len(self.probes) > 1 else SECOND_NS
        start_ns = min(max(self.by.aligned_ns, first_ns - waited_ns), last.aligned_ns)
        segments = track.segments_of(self.by, *self.probes, *self.answers, by)
        return Stall(StallKind.WINDOW, track.side, track.place, start_ns, last.aligned_ns, went_on, segments)


def _closed_windows(track: _Track) -> list[Stall]:
    """Times in which the other end announced no room, or too little for a sender to use, and this end asked for more."""
    return [stall for part in track.parts for stall in _closed_within(track, part) if stall is not None]


def _closed_within(track: _Track, sightings: list[Sighting]) -> Iterator[Stall | None]:
    scale, segment_size = _scale_and_size(track)
    largest = 0
    closed: _Closed | None = None
    for one in sightings:
        packet = one.packet
        if packet.flags & RST:
            if closed is not None:
                yield closed.stall(track, one, went_on=False)
            closed = None
        elif packet.flags & SYN:
            continue
        elif one.sender == track.side:
            if closed is None:
                continue
            if _asks(track, one, closed):
                closed.probes.append(one)
            elif packet.length and track.seq(one) >= closed.edge and one.aligned_ns - closed.by.aligned_ns > IN_FLIGHT_NS:
                yield closed.stall(track, one, went_on=True)  # It knows of room that this capture does not.
                closed = None
        elif packet.flags & ACK:
            room = packet.window << (scale or 0)
            largest = max(largest, room)
            # RFC 9293 section 3.8.6.2.1: a sender uses room for a whole segment, or half the largest window.
            if not room or (scale is not None and room < min(segment_size, largest // 2)):
                if closed is None:
                    closed = _Closed(one, track.ack(one) + room)
                else:
                    closed.answers.append(one)
                    closed.edge = max(closed.edge, track.ack(one) + room)
            elif closed is not None:
                yield closed.stall(track, one, went_on=True)
                closed = None
    if closed is not None:
        yield closed.stall(track, None, went_on=False)


def _asks(track: _Track, one: Sighting, closed: _Closed) -> bool:
    """A probe, bytes that were sent before, or a piece that fills what little room there is.

    A probe has nothing and the number before the edge (Linux net/ipv4/tcp_output.c tcp_xmit_probe_skb()), or one byte (RFC 9293 section
    3.8.6.1).
    """
    packet = one.packet
    start = track.seq(one)
    if packet.flags & FIN:
        return False
    if not packet.length:
        newest = closed.answers[-1] if closed.answers else closed.by
        return not newest.packet.window and start < closed.edge
    if packet.length == 1:
        return True
    if one.aligned_ns - closed.by.aligned_ns <= IN_FLIGHT_NS:
        return False
    return start + packet.length == closed.edge or track.repeats(one)


def _scale_and_size(track: _Track) -> tuple[int | None, int]:
    """How the other end scales its window (None where the SYNs were not seen), and the largest segment that it takes.

    Both SYNs must have offered scaling, or neither is scaled (RFC 7323 section 2.2).
    """
    opening = {segment.sender: segment.packet for segment in track.connection.segments if segment.flags & SYN}
    if len(opening) < 2:
        return None, LEAST_SEGMENT
    receiver = opening[other_side(track.side)]
    scaled = all(packet.window_scale is not None for packet in opening.values())
    stamped = all(packet.ts_value is not None for packet in opening.values())
    largest = receiver.mss - TIMESTAMPS_LENGTH * stamped if receiver.mss else LEAST_SEGMENT
    return (min(receiver.window_scale or 0, 14) if scaled else 0), largest
