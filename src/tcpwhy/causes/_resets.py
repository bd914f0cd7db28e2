"""A connection and one of its RSTs go in; who can have sent it, and what about it a real end would not send, comes out."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import ACK, RST, Packet, Side, other_side, seq_distance

MS = 1_000_000
SECOND_NS = 1_000_000_000

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


STALL_NS = 3 * SECOND_NS
"""A window shut for so long is a stall of its own (docs/json.md, `--slow`)."""


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
    recent = [one for one in occasions if reset.aligned_ns - one.aligned_ns <= PROMPT_NS]
    doubt = None
    if not topology.aligned[missing] or not topology.aligned[first]:
        doubt = f"the clocks of {missing} and {first} could not be aligned"
    elif not topology.was_running(missing, reset.aligned_ns):
        doubt = f"the capture of {missing} did not run then"
    elif missing in topology.lossy:
        doubt = f"the capture of {missing} is incomplete: {topology.lossy[missing]}"
    elif any(not one.seen_at(missing) for one in (*occasions[-3:], *recent)):
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


def began_before(connection: Connection) -> bool:
    """True where the connection is older than what was captured of it: what ended it may be, too."""
    return not connection.syns and not connection.syn_acks


def lacked_since(before: Iterable[Segment], side: Side, place: str) -> int | None:
    """Since when an end lacks bytes that lie before others which it got, at the end of these segments; by the clock of the place."""
    base: int | None = None
    reached = 0  # counted from `base`, on beyond 2^32: up to here it has all
    ahead: list[tuple[int, int]] = []  # a heap of what came from beyond that: first number, and the one behind the last
    since_ns: int | None = None
    for segment in before:
        own = segment.sender == side
        if not (segment.flags & ACK if own else segment.length):
            continue
        # What it acknowledges it has, whether it was captured or not.
        number = segment.ack if own else segment.seq
        base = number if base is None else base
        begin = reached + seq_distance(base + reached, number)
        if own:
            reached = max(reached, begin)
        else:
            heapq.heappush(ahead, (begin, begin + seq_distance(segment.seq, segment.seq_end)))
        while ahead and ahead[0][0] <= reached:
            reached = max(reached, heapq.heappop(ahead)[1])
        if not ahead:
            since_ns = None
        elif since_ns is None:
            since_ns = seen_packet(segment, place).time_ns
    return since_ns


def stuck_before(connection: Connection, end: Segment) -> str | None:
    """What had held the connection up before a RST or a FIN: then that is an end of it, not the beginning."""
    place = end.first.vantage_point
    before = before_at(connection, place, end)
    tail: list[Segment] = []
    for segment in reversed(before):
        if segment.length and segment.retransmits is None:
            break
        tail.append(segment)
    repeats = [segment for segment in tail if segment.retransmits is not None]
    if len(repeats) >= 2:
        return f"{len(repeats)} segments had been repeated and not acknowledged before"
    since_ns = lacked_since(before, end.sender, place)
    if since_ns is not None and end.sightings[place].time_ns - since_ns >= PROMPT_NS:
        waited = (end.sightings[place].time_ns - since_ns) / SECOND_NS
        return f"the {end.sender} had lacked bytes for {waited:.1f} s that lay before others which it had"
    shut_since: int | None = None
    for segment in before:
        if segment.sender == end.sender:
            at_ns = seen_packet(segment, place).time_ns
            shut_since = None if segment.packet.window else (at_ns if shut_since is None else shut_since)
    if shut_since is not None and end.sightings[place].time_ns - shut_since >= STALL_NS:
        return f"the {end.sender} had announced window 0 for {(end.sightings[place].time_ns - shut_since) / SECOND_NS:.1f} s before"
    return None
