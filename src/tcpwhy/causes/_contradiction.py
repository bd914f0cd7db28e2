"""A connection goes in; where its data gives itself the lie, so that two hosts speak for one end, comes out."""

from __future__ import annotations

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import Side, seq_distance

PROBE_BYTES = 1
"""A probe of an idle connection or a shut window may bear one byte of rubbish (RFC 1122 section 4.2.3.6)."""

LOOKED_BACK = 16
"""So many segments of an end are compared with each later one: what is forged comes just before the real, or just behind it."""


def contradiction(connection: Connection, side: Side) -> str | None:
    """What shows that not all data in the name of an end was sent by one socket; None where it agrees."""
    data = [one for one in connection.segments if one.sender == side and one.length > PROBE_BYTES and not one.is_reset]
    stamped = _negotiated_timestamps(connection)
    for number, segment in enumerate(data):
        packet = segment.packet
        # After negotiation each segment but a RST bears them (RFC 7323 section 3.2); where bytes were captured, options were.
        if stamped and packet.payload and packet.ts_value is None and not packet.is_listed:
            return f"a segment of {segment.length} bytes in the name of the {side} lacks the timestamps that both ends had agreed upon"
        if any(_differ(earlier, segment) for earlier in data[max(number - LOOKED_BACK, 0) : number]):
            return f"two segments in the name of the {side} give different bytes for the same sequence numbers"
    return None


def _negotiated_timestamps(connection: Connection) -> bool:
    opening = (*connection.syns[:1], *connection.syn_acks[:1])
    return len(opening) == 2 and all(one.ts_value is not None for one in opening)


def _differ(earlier: Segment, later: Segment) -> bool:
    """By one place alone: a host on the way may rightly rewrite bytes (NAT of FTP)."""
    for place, sighting in later.sightings.items():
        other = earlier.sightings.get(place)
        if other is None:
            continue
        ahead = seq_distance(other.packet.seq, sighting.packet.seq)
        first, second = other.packet.payload, sighting.packet.payload
        first, second = (first[ahead:], second) if ahead >= 0 else (first, second[-ahead:])  # Nothing is left where they do not meet.
        common = min(len(first), len(second))
        if first[:common] != second[:common]:
            return True
    return False
