"""A failed connection goes in; which end fell silent, the last place that ever heard it, and what others say of it, come out."""

from __future__ import annotations

import dataclasses

from tcpwhy.connections.connection import INITIAL_TTLS, SIDES, Connection, IcmpError, Segment
from tcpwhy.connections.kinds import SECOND_NS, Kind
from tcpwhy.connections.packet import Side, other_side

SAME_MOMENT_NS = SECOND_NS
"""What was on its way when a host went, and round trips, take no longer: connections that fall silent within it do so at one moment."""


@dataclasses.dataclass(frozen=True, slots=True)
class FallenSilent:
    """What was sent to an end and never answered."""

    side: Side
    """The end that fell silent."""
    unanswered: tuple[Segment, ...]
    place: str
    """The last place before that end, of those that ever heard it."""
    address: str
    """Of the silent end, as that place knows it."""
    heard_ns: int | None
    """When that place last heard it on any connection."""

    @property
    def since_ns(self) -> int:
        """When this connection first asked in vain."""
        return self.unanswered[0].aligned_ns


def fallen_silent(connection: Connection) -> FallenSilent | str:
    """The silence in which a connection ended, or why there is none."""
    failure, traffic = connection.failure, connection.traffic
    if failure is None or traffic is None or failure.kind not in (Kind.SILENT, Kind.UNANSWERED, Kind.GAVE_UP):
        return "the connection did not end in silence"
    side: Side = "server" if failure.kind is not Kind.SILENT else other_side(failure.segments[0].sender)
    heard = [one for one in connection.segments if one.sender == side and one.retransmits is None]
    last_ns = max((one.aligned_ns for one in heard), default=None)
    after = [one for one in connection.segments if one.sender != side and (last_ns is None or one.aligned_ns > last_ns)]
    unanswered = tuple(one for one in after if not one.is_reset and (one.length or one.opens or one in failure.segments))
    if not unanswered:
        return f"the {side} acknowledged all that was sent to it"
    # A bystander on a switch may see what is sent to a port that went down: only a place that ever heard the end lies on its way.
    order = connection.places if side == "server" else tuple(reversed(connection.places))
    # What was on its way at that moment may still have come to the end itself, whose answer did not leave any more.
    asked = [one for one in unanswered if one.aligned_ns > unanswered[0].aligned_ns + SAME_MOMENT_NS] or unanswered
    on_way = [place for place in order if any(one.seen_at(place) for one in asked)]
    hearing = [place for place in on_way if place in traffic.presence.heard(address_of(connection, side, place))]
    place = (hearing or on_way)[-1]
    address = address_of(connection, side, place)
    return FallenSilent(side, unanswered, place, address, traffic.presence.heard(address).get(place))


def address_of(connection: Connection, side: Side, place: str) -> str:
    """Of an end, as a place knows it."""
    view = connection.views[place]
    return view.server.ip if side == "server" else view.client.ip


def is_own_host(connection: Connection, side: Side, place: str) -> bool:
    """True where a place is surely the host of an end: TTLs alone do not tell it from a router next to it, which outlives it."""
    own = connection.topology.addresses.get(place, frozenset())
    if own:
        return address_of(connection, side, place) in own
    ways = {copy.direction for one in connection.views[place].sent_by(side) for copy in one.copies}
    return ways == {"out"}


def hops_to(connection: Connection, silence: FallenSilent) -> int | None:
    """Routers between the last place and the silent end, by the TTLs of what it sent on this connection, else on others."""
    own = connection.views[silence.place].hops[SIDES.index(silence.side)]
    ttls = connection.topology.server_ttls.get((silence.place, silence.address), frozenset())
    if own is not None or not ttls:
        return own
    return min(initial - ttl for ttl in ttls for initial in INITIAL_TTLS if ttl <= initial)


def unreachable(connection: Connection, silence: FallenSilent) -> list[IcmpError]:
    """What others say of the end: host unreachable (1), or address unreachable (IPv6: 3)."""
    code = 3 if ":" in silence.address else 1
    return [
        error for error in connection.icmp
        if error.is_unreachable and error.packet.icmp_code == code and teller(error) != silence.address
        and error.packet.destination.ip == silence.address
    ]  # fmt: skip


def teller(error: IcmpError) -> str:
    """Who sent an ICMP error; its addresses are those of the packet that it quotes."""
    return error.packet.quoted_by.partition(" > ")[0].strip() or "a router"
