"""A connection and one of its RSTs go in; who can have sent it, and what about it a real end would not send, comes out."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

from tcpwhy.connections.connection import INITIAL_TTLS, Connection, Segment
from tcpwhy.connections.packet import ACK, RST, SYN, Packet, Side, other_side, seq_before, seq_distance

MS = 1_000_000
SECOND_NS = 1_000_000_000

REORDER_NS = 2 * MS
"""Packets of one sender that are caught so far apart were sent in that order: queues of one host do not hold them longer."""

DENSE_ID_STEP = 64
"""A socket of Linux counts the identifications of its packets one by one, a large frame as its segments (net/ipv4/ip_output.c
ip_select_ident_segs()); 64 segments are the most that one frame holds (64 kB)."""

QUIET_NS = 3 * SECOND_NS
"""After so long a silence a RST without occasion is first of all that of a device which forgot the connection."""

PROMPT_NS = SECOND_NS
"""What a RST answers was sent within this time before it; round trips are shorter."""


def is_socket_reset(reset: Segment) -> bool:
    """The form in which a live socket aborts: RST and ACK, with a sequence number (Linux tcp_send_active_reset(); RFC 2525 2.17)."""
    return reset.has(RST | ACK) and not reset.packet.is_stateless_reset


def before_at(connection: Connection, place: str, reset: Segment, side: Side | None = None) -> list[Segment]:
    """What a place saw before the RST, in its own order: of one end, or of both; RSTs left out."""
    limit = reset.sightings[place].time_ns, reset.sightings[place].packet.frame
    found = [
        (own.time_ns, own.packet.frame, segment)
        for segment in connection.segments
        if segment is not reset and not segment.is_reset and (side is None or segment.sender == side)
        for own in [segment.sighting_at(place)]
        if own is not None and (own.time_ns, own.packet.frame) < limit
    ]
    return [segment for _, _, segment in sorted(found, key=lambda entry: entry[:2])]


def seen_packet(segment: Segment, place: str) -> Packet:
    """The packet as a place saw it."""
    sighting = segment.sighting_at(place)
    return sighting.packet if sighting is not None else segment.packet


def next_seq(segments: Sequence[Segment]) -> int | None:
    """One past the highest sequence number among segments of one end; None without any."""
    end: int | None = None
    for segment in segments:
        end = segment.seq_end if end is None or seq_before(end, segment.seq_end) else end
    return end


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


def _counts_like_linux(own: Sequence[Segment]) -> bool:
    """IPv4 packets counted socket by socket, the SYN-ACK with 0: Linux (net/ipv4/tcp_ipv4.c, ip_build_and_send_pkt())."""
    ids = [segment.ip_id for segment in own if not segment.is_syn_ack]
    return any(ids) and continues_ids(ids, ids[-1]) is not None


def _impossible_number(connection: Connection, reset: Segment, own: Sequence[Segment]) -> str | None:
    """A sequence number that is neither an ACK of the other end nor where the sender stood."""
    place = reset.first.vantage_point
    view, others = connection.views[place], before_at(connection, place, reset, other_side(reset.sender))
    end = next_seq(own)
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


def home_of(connection: Connection, side: Side) -> str | None:
    """The captured place that is the host of an end itself, by its addresses, directions, or TTLs."""
    for place in connection.places if side == "client" else reversed(connection.places):
        view = connection.views[place]
        own = connection.topology.addresses.get(place, frozenset())
        end = view.client if side == "client" else view.server
        if own:
            if end.ip in own:
                return place
            continue
        if view.host_of() == side:
            return place
    return None


def sent_at_home(connection: Connection, reset: Segment) -> str | None:
    """The sender's own host, where its capture has the RST among what left; None where it is not shown."""
    home = home_of(connection, reset.sender)
    sighting = reset.sightings.get(home) if home is not None else None
    return home if sighting is not None and sighting.packet.direction != "in" else None


@dataclasses.dataclass(frozen=True, slots=True)
class Unsent:
    """A RST that came to one place and never passed another one before it."""

    reset: Segment
    seen_at: str
    """The first place on its way that saw it."""
    missing_at: str
    """The place before it, on the way from the end in whose name it came."""
    occasion: Segment | None
    """The other end's last packet before it, which `missing_at` saw arrive."""
    doubt: str | None
    """Why its absence there may not mean that somebody between forged it."""


def unsent(connection: Connection, reset: Segment) -> Unsent | None:
    """Looks for a place between the RST's sender and where it was first seen that saw the sender's packets and not the RST."""
    order = connection.places if reset.sender == "client" else tuple(reversed(connection.places))
    first = next(place for place in order if reset.seen_at(place))
    own = [segment for segment in connection.segments if segment.sender == reset.sender and not segment.is_reset]
    passed = [place for place in order[: order.index(first)] if any(one.seen_at(place) and one.seen_at(first) for one in own)]
    if not passed:
        return None
    missing = passed[-1]
    # Equal RSTs of a storm cannot be told apart: one of them that passed there may be this one.
    if any((one.sender, one.flags, one.seq, one.ip_id) == _name(reset) and one.seen_at(missing) for one in connection.resets):
        return None
    topology = connection.topology
    before = before_at(connection, first, reset, other_side(reset.sender)) if first in reset.sightings else []
    occasions = [one for one in before if reset.flags & ACK or one.ack == reset.seq] or before
    doubt = None
    if not topology.aligned[missing] or not topology.aligned[first]:
        doubt = f"the clocks of {missing} and {first} could not be aligned"
    elif not topology.was_running(missing, reset.aligned_ns):
        doubt = f"the capture of {missing} did not run then"
    elif missing in topology.lossy:
        doubt = f"the capture of {missing} is incomplete: {topology.lossy[missing]}"
    elif any(not one.seen_at(missing) for one in occasions[-3:]):
        doubt = f"what it answers never came to {missing}: whoever took that packet answered it"
    elif is_unprompted(connection, reset, first):
        doubt = "it came after a long silence, without occasion: a device that forgets idle connections ends them so"
    return Unsent(reset, first, missing, occasions[-1] if occasions else None, doubt)


def _name(reset: Segment) -> tuple[Side, int, int, int | None]:
    return reset.sender, reset.flags, reset.seq, reset.ip_id


def occasion_of(connection: Connection, reset: Segment) -> Segment | None:
    """The packet that a stateless RST answers: the other end's last one before it with the ACK that the RST bears."""
    if is_socket_reset(reset) or reset.flags & ACK:
        return None
    before = before_at(connection, reset.first.vantage_point, reset, other_side(reset.sender))
    return next((one for one in reversed(before) if one.flags & ACK and one.ack == reset.seq), None)


def is_unprompted(connection: Connection, reset: Segment, place: str) -> bool:
    """True where nothing had passed for long when the RST came."""
    before = before_at(connection, place, reset)
    return bool(before) and reset.sightings[place].time_ns - seen_packet(before[-1], place).time_ns >= QUIET_NS


def silence_before_ns(connection: Connection, reset: Segment) -> int:
    """The longest pause between packets of the last exchange before a RST: from the last three packets on, and up to the RST itself."""
    place = reset.first.vantage_point
    times = [seen_packet(segment, place).time_ns for segment in before_at(connection, place, reset)][-4:]
    times.append(reset.sightings[place].time_ns)
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0)


def closed_before(connection: Connection, reset: Segment, side: Side) -> Segment | None:
    """The FIN that an end had sent before the RST, as the place saw it that saw the RST first."""
    place = reset.first.vantage_point
    return next((segment for segment in before_at(connection, place, reset, side) if segment.is_fin), None)


def never_left_the_host(connection: Connection) -> bool:
    """True where a host turns the connection to itself."""
    servers = [server for view in connection.views.values() for _, server in view.translated]
    return any(server.ip.startswith("127.") or server.ip == "::1" for server in servers)
