"""A connection goes in; to which of several hardware addresses that claim its server by ARP its packets went comes out."""

from __future__ import annotations

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import Packet


def claims_on(connection: Connection) -> frozenset[str]:
    """The hardware addresses that claim the server's address by ARP, anywhere in the case."""
    found: set[str] = set()
    for ip in {connection.server.ip, *(view.server.ip for view in connection.views.values())}:
        found |= connection.topology.arp_claims.get(ip, frozenset())
    return frozenset(found)


def moved_between_claims(connection: Connection) -> tuple[str, Segment, Segment] | None:
    """The place from which the client's packets went to one claiming address and then to another, and the packets around the move."""
    claims = claims_on(connection)
    if len(claims) < 2:
        return None
    for place in connection.places:
        last: tuple[Segment, str] | None = None
        for segment in connection.segments:
            if segment.sender != "client":
                continue
            mac = sent_to(segment, place)
            if mac not in claims:
                continue
            if last is not None and last[1] != mac:
                return place, last[0], segment
            last = (segment, mac)
    return None


def sent_to(segment: Segment, place: str) -> str:
    """The hardware address that a segment was sent to, as a place saw it leave; empty where its capture does not tell."""
    sighting = segment.sighting_at(place)
    copies: list[Packet] = sighting.copies if sighting is not None else []
    return next((copy.destination_mac for copy in reversed(copies) if copy.destination_mac), "")
