"""A RST and its end's other packets go in; whether that end's own socket can have sent it, or what betrays a forger, comes out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from tcpwhy.causes._resets import (
    MS,
    PROMPT_NS,
    QUIET_NS,
    before_at,
    closed_before,
    is_socket_reset,
    seen_packet,
    sent_at_home,
    silence_before_ns,
)
from tcpwhy.connections.connection import INITIAL_TTLS, Connection, Segment
from tcpwhy.connections.packet import ACK, SYN, other_side, seq_before, seq_distance

REORDER_NS = 2 * MS
"""Packets of one sender that are caught so far apart were sent in that order: queues of one host do not hold them longer."""

DENSE_ID_STEP = 64
"""A socket of Linux counts the identifications of its packets one by one, a large frame as its segments (net/ipv4/ip_output.c
ip_select_ident_segs()); 64 segments are the most that one frame holds (64 kB)."""


def is_of_its_socket(connection: Connection, reset: Segment) -> bool | None:
    """True where a RST bears what only its end's live socket puts on a packet: running timestamps and IP identifications, its TTL.

    False where it bears something else, None where the connection has nothing to compare (no timestamps, IPv6, few packets).
    """
    if not is_socket_reset(reset):
        return False
    place = reset.first.vantage_point
    own = before_at(connection, place, reset, reset.sender)
    if marks(connection, reset):
        return False
    stamped = [segment for segment in own if segment.ts_value is not None]
    ids = continues_ids([segment.ip_id for segment in own], reset.ip_id)
    if stamped and reset.ts_value is not None and stamped[-1].ts_value is not None:
        waited = reset.sightings[place].time_ns - seen_packet(stamped[-1], place).time_ns
        moved = seq_distance(stamped[-1].ts_value, reset.ts_value)
        # A forger who copies the last packet copies its timestamp too; a clock of 1 ms (or 4, 10) has moved on by then.
        return (moved > 0 or waited < 20 * MS) and ids is not False
    return ids


def marks(connection: Connection, reset: Segment) -> tuple[str, ...]:
    """What the end in whose name a RST came would not have sent so, in clauses; by the place nearest to that end which saw it."""
    place = reset.first.vantage_point
    own = before_at(connection, place, reset, reset.sender)
    packet, found = reset.sightings[place].packet, []
    if not own:
        return ()
    ttl = _common_ttl(own, place)
    if ttl is not None and packet.ttl and routers(ttl) != routers(packet.ttl):
        found.append(f"its TTL is {packet.ttl}, where the {reset.sender}'s other packets arrive with {ttl}")
    elif ttl is not None and packet.ttl and ttl != packet.ttl and is_socket_reset(reset):
        found.append(f"its TTL is {packet.ttl}, and one socket sends all with one TTL ({ttl} here)")
    series = continues_ids([segment.ip_id for segment in own], reset.ip_id)
    # Stateless answers of a host that counts by sockets have the identification 0 (ip_send_unicast_reply(), DF set).
    if series is False and (is_socket_reset(reset) or reset.ip_id):
        last = [segment.ip_id for segment in own if segment.ip_id][-1]
        found.append(f"its IP ID is {reset.ip_id}, where the {reset.sender}'s packets count one by one and stood at {last}")
    stamped = sum(segment.ts_value is not None for segment in own)
    if is_socket_reset(reset) and stamped == len(own) and reset.ts_value is None and _counts_like_linux(own):
        found.append(f"it has no timestamp, which the {reset.sender}'s kernel puts on every packet of a socket")
    number = _impossible_number(connection, reset, own)
    return (*found, *([number] if number else []))


def has_impossible_number(connection: Connection, reset: Segment) -> bool:
    """True where no kernel that knows or does not know the connection sends a RST with this sequence number."""
    return _impossible_number(connection, reset, before_at(connection, reset.first.vantage_point, reset, reset.sender)) is not None


def goes_on(connection: Connection, reset: Segment) -> Segment | None:
    """The first packet by which the end that is said to have sent the RST shows that its connection lives on.

    New bytes beyond the RST's number, which no order of packets can explain; or anything that came later than queues hold packets.
    """
    for place, sighting in reset.sightings.items():
        for segment in connection.segments:
            seen = segment.sighting_at(place)
            if segment.sender != reset.sender or segment.is_reset or segment.flags & SYN or seen is None:
                continue
            if seen.time_ns < sighting.time_ns:
                continue
            beyond = bool(segment.length) and seq_before(reset.seq, segment.seq_end) and not seq_before(segment.seq, reset.seq)
            if beyond or seen.time_ns - sighting.time_ns >= REORDER_NS:
                return segment
    return None


def shows_forgery(connection: Connection, reset: Segment) -> bool:
    """From one place: it bears marks that no other explanation gives, and the end in whose name it came goes on."""
    alive = goes_on(connection, reset)
    if alive is None or not marks(connection, reset) or sent_at_home(connection, reset) is not None:
        return False
    if closed_before(connection, reset, reset.sender) is not None:
        return False
    if has_impossible_number(connection, reset) or is_socket_reset(reset):
        return silence_before_ns(connection, reset) < QUIET_NS
    return _answers_the_same(connection, reset, alive)


def _answers_the_same(connection: Connection, reset: Segment, alive: Segment) -> bool:
    """True where the real end acknowledges the very bytes for which the RST came: they reached it, and no stranger.

    A bare ACK with the same number may have gone astray instead (per-packet spraying): with one just before, nothing is told.
    """
    place = reset.first.vantage_point
    at_ns = reset.sightings[place].time_ns
    drew = [
        one
        for one in before_at(connection, place, reset, other_side(reset.sender))
        if one.ack == reset.seq and at_ns - seen_packet(one, place).time_ns <= PROMPT_NS
    ]
    if not drew or any(not one.length for one in drew):
        return False
    return bool(alive.flags & ACK) and all(not seq_before(alive.ack, one.seq_end) for one in drew)


def continues_ids(ids: Sequence[int | None], new: int | None) -> bool | None:
    """Whether an IP identification goes on where a socket's own count stands; None where the others are not counted one by one.

    None too where the evidence does not hold identifications (a pasted listing).
    """
    known = [one for one in ids if one]
    steps = [(later - earlier) & 0xFFFF for earlier, later in itertools.pairwise(known)]
    if new is None or len(steps) < 2 or any(step > DENSE_ID_STEP for step in steps):
        return None
    return 0 < (new - known[-1]) & 0xFFFF <= DENSE_ID_STEP


def routers(ttl: int) -> int:
    """How many routers a packet crossed, from the next initial TTL above."""
    return next((initial - ttl for initial in sorted(INITIAL_TTLS) if ttl <= initial), 0)


def _common_ttl(segments: Sequence[Segment], place: str) -> int | None:
    ttls = [seen_packet(segment, place).ttl for segment in segments if seen_packet(segment, place).ttl]
    return Counter(ttls).most_common(1)[0][0] if ttls else None


def _counts_like_linux(own: Sequence[Segment]) -> bool:
    """IPv4 packets counted socket by socket, the SYN-ACK with 0: Linux (net/ipv4/tcp_ipv4.c, ip_build_and_send_pkt())."""
    ids = [segment.ip_id for segment in own if not segment.is_syn_ack]
    return any(ids) and continues_ids(ids, ids[-1]) is not None


def _impossible_number(connection: Connection, reset: Segment, own: Sequence[Segment]) -> str | None:
    """A sequence number that is neither an ACK of the other end nor where the sender stood."""
    place = reset.first.vantage_point
    view, others = connection.views[place], before_at(connection, place, reset, other_side(reset.sender))
    end = _next_seq(own)
    if end is None or not others or view.unseen_acked_bytes or place in connection.topology.lossy or reset.packet.seq == 0:
        return None
    acked = {segment.ack for segment in others if segment.flags & ACK} | {end}
    if reset.seq in acked or (is_socket_reset(reset) and seq_before(end, reset.seq) and not _has_companion(connection, reset, place)):
        return None  # What the sender sent last may have been lost before it came here.
    if is_socket_reset(reset) and seq_before(reset.seq, end) and any(not segment.packet.window for segment in others):
        return None  # With the window shut, an abort bears the window's edge (tcp_acceptable_seq()).
    ahead = seq_distance(end, reset.seq)
    where = f"{ahead} bytes ahead of" if ahead > 0 else f"{-ahead} bytes behind"
    return f"its sequence number lies {where} what the {reset.sender} had sent, and the other end never acknowledged it"


def _has_companion(connection: Connection, reset: Segment, place: str) -> bool:
    """Another RST in the same name with another number at the same time: a socket aborts once."""
    return any(
        other.sender == reset.sender
        and other.seq != reset.seq
        and other.seen_at(place)
        and abs(other.sightings[place].time_ns - reset.sightings[place].time_ns) <= PROMPT_NS
        for other in connection.resets
    )


def _next_seq(segments: Sequence[Segment]) -> int | None:
    """One past the highest sequence number among segments of one end; None without any."""
    end: int | None = None
    for segment in segments:
        end = segment.seq_end if end is None or seq_before(end, segment.seq_end) else end
    return end
