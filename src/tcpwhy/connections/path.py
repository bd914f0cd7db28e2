"""A segment goes in; how far it got on its way, and where it is missing next, comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import SYN


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """How far a segment got."""

    last_seen: str
    """The last place on its way that saw it."""
    missing_at: str | None
    """The next place on its way that should have seen it and did not; None where nobody captured there."""
    between: tuple[str, str]
    """For a report: the two ends of the stretch on which it was lost."""
    doubt: str | None = None
    """Why its absence proves nothing, if it does not."""
    behind: tuple[str, ...] = ()
    """All captured places behind the last that saw it, none of which did."""


def fate(connection: Connection, segment: Segment) -> Fate:
    """Follows a segment along the places of its connection and those that connections towards the same server reach.

    Absence counts only where the packets of that direction are known to pass: where those of all healthy connections did, or on the host
    of the end that the segment was sent to.
    """
    order = connection.places if segment.sender == "client" else tuple(reversed(connection.places))
    last = [place for place in order if segment.seen_at(place)][-1]
    server = connection.views[last].server
    behind = _behind(connection, segment, order, last)
    end = str(server) if segment.sender == "client" else connection.client.ip
    if not behind:
        return Fate(last, None, (last, end))
    topology = connection.topology
    several = _one_of_several(connection, behind, server.ip) if segment.sender == "client" else None
    if several is not None:
        return Fate(last, behind[0], (last, end), several, behind)
    on_way = [place for place in behind if _is_passed(connection, segment, last, place)]
    if on_way:
        return Fate(last, on_way[0], (last, on_way[0]), _doubt(connection, segment, (on_way[0],)), behind)
    if segment.sender == "client" and topology.some_pass("client", last, server.ip, server.port) and _sees(connection, segment, behind):
        return Fate(last, behind[0], (last, end), _doubt(connection, segment, behind), behind)
    doubt = f"{behind[0]} is not known to lie on the way of the {segment.sender}'s packets: others did not pass it either"
    return Fate(last, behind[0], (last, end), doubt, behind)


def _behind(connection: Connection, segment: Segment, order: tuple[str, ...], last: str) -> tuple[str, ...]:
    """Captured places that may lie behind the last one that saw the segment, nearest to it first."""
    topology = connection.topology
    own = order[order.index(last) + 1 :]
    if segment.sender == "server":
        return own
    server = connection.views[last].server
    others = [place for place in topology.beyond(last, server.ip, server.port) if place not in connection.places]
    others.sort(key=lambda place: (sum(topology.is_before(other, place) for other in others), place))
    return (*own, *others)


def _is_passed(connection: Connection, segment: Segment, last: str, place: str) -> bool:
    """True where packets of this direction, once seen at `last`, are known to pass `place`."""
    topology = connection.topology
    server = connection.views[last].server
    if not _sees(connection, segment, (place,)):
        return False
    passes = topology.passes(segment.sender, last, place, server.ip, server.port)
    if passes is not None:
        return passes
    if segment.sender == "server":
        return place in connection.views and connection.is_client_host(place) is True
    return server.ip in topology.addresses.get(place, frozenset()) and _is_the_only_end(connection, segment, last, place)


def _is_the_only_end(connection: Connection, segment: Segment, last: str, place: str) -> bool:
    """True where a host that has the server's address is where the packet must go, as far as is known.

    A balancer has several real servers with one address: the last that saw the packet may be another of these. So none but this host may
    be known to have the address, connections that the places before saw may not have gone elsewhere, and the packet must be seen to leave.
    """
    topology = connection.topology
    server = connection.views[last].server
    if any(server.ip in own for other, own in topology.addresses.items() if other not in (place, *connection.places)):
        return False
    if any(topology.passes(segment.sender, before, place, server.ip, server.port) is False for before in segment.places):
        return False
    sighting = segment.sighting_at(last)
    copies = sighting.copies if sighting is not None else []
    leaves = any(copy.direction == "out" for copy in copies) or len({copy.ttl for copy in copies}) > 1
    return last == connection.places[0] or leaves


def _one_of_several(connection: Connection, behind: tuple[str, ...], server_ip: str) -> str | None:
    """Why the packet may have gone to another host of the same address, which nobody captured; None where nothing speaks for that.

    The connections that reach the captured one all look well: those of real servers that drop everything are not among them.
    """
    hosts = connection.hosts
    reals = {
        real.ip
        for host in hosts.values()
        for service in (host.ipvs.services if host.ipvs is not None else None) or ()
        if service.ip == server_ip
        for real in service.real_servers
    }
    if reals and reals <= {ip for place in behind for ip in connection.topology.addresses.get(place, frozenset())}:
        return None
    for place in behind:
        if place in connection.places:
            continue
        host = hosts.get(place)
        if host is not None and host.addresses is not None and host.addresses.stands_alone(server_ip):
            return f"{place} has {server_ip} as one of several real servers has it, alone: the packet may have gone to another one"
        if (place, server_ip) in connection.topology.tunnelled:
            return f"what comes to {place} for {server_ip} comes in a tunnel, as to one of several real servers: it may be at another"
    return None


def _sees(connection: Connection, segment: Segment, places: tuple[str, ...]) -> bool:
    """True where each of these captures holds packets of this direction and kind at all."""
    return all(segment.sender in connection.topology.sees_syns.get(place, frozenset()) or not segment.flags & SYN for place in places)


def _doubt(connection: Connection, segment: Segment, behind: tuple[str, ...]) -> str | None:
    """Why a capture's silence may not mean that the segment was absent."""
    topology = connection.topology
    for place in behind:
        if not topology.aligned[place] or not topology.aligned[segment.first.vantage_point]:
            if place not in connection.places:
                return f"the clock of {place} could not be aligned, so that it is unknown whether its capture ran then"
        elif not topology.was_running(place, segment.aligned_ns):
            return f"the capture of {place} did not run then"
        if place in topology.lossy:
            return f"the capture of {place} is incomplete: {topology.lossy[place]}"
    return None
