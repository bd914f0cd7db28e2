"""The segments of a connection go in; how far each end had sent and been acknowledged, and what it heard, come out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from tcpwhy.connections.answers import is_tls_alert
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import ACK, Side, other_side, seq_before, seq_distance


@dataclasses.dataclass(slots=True)
class Progress:
    """How far one end had sent, and how far the other had acknowledged."""

    data_end: int | None = None
    acked: int | None = None
    last_data: Segment | None = None

    @property
    def unacknowledged(self) -> int:
        """Payload bytes outstanding; 0 where the other end's acknowledgments were not seen at all."""
        if self.data_end is None or self.acked is None:
            return 0
        return max(0, seq_distance(self.acked, self.data_end))


def progress_of(segments: Sequence[Segment], until: Segment | None = None) -> dict[Side, Progress]:
    """Both ends' progress; data sent before `until`, or before it came to the other end; acknowledgments at any time."""
    progress: dict[Side, Progress] = {"client": Progress(), "server": Progress()}
    reached = False
    for segment in segments:
        reached = reached or segment is until
        mine, other = progress[segment.sender], progress[other_side(segment.sender)]
        in_time = not reached or (until is not None and _crossed(segment, until))
        if segment.length and in_time and not segment.is_reset and not is_tls_alert(segment):
            end = (segment.seq + segment.length) & 0xFFFF_FFFF
            if mine.data_end is None or seq_before(mine.data_end, end):
                mine.data_end = end
                mine.last_data = segment
        stateless = segment.is_reset and segment.packet.is_stateless_reset
        if segment.flags & ACK and not stateless and (other.acked is None or seq_before(other.acked, segment.ack)):
            other.acked = segment.ack
    # What was never acknowledged at all counts from its first byte, once the other end was heard.
    for side, own in progress.items():
        heard = any(segment.sender != side for segment in segments)
        if own.acked is None and own.data_end is not None and heard:
            own.acked = next(segment.seq for segment in segments if segment.sender == side and segment.length)
    return progress


def _crossed(segment: Segment, until: Segment) -> bool:
    """True where the other end's segment was under way before `until` had come to the place nearest to that end."""
    met = until.sighting_at(segment.first.vantage_point)
    return segment.sender != until.sender and met is not None and segment.first.time_ns < met.time_ns


def heard_at_home(connection: Connection, side: Side) -> list[Segment]:
    """The connection as this end itself met it: what the place nearest to it saw, if both directions pass there.

    An ACK that was sent and strayed to another host is in some capture, and yet the end that waits for it hears nothing.
    """
    homes = Counter(segment.first.vantage_point for segment in connection.segments if segment.sender == side and not segment.is_reset)
    for home, _ in homes.most_common(1):
        seen = [segment for segment in connection.segments if segment.seen_at(home)]
        if any(segment.sender != side for segment in seen):
            return seen
    return connection.segments
