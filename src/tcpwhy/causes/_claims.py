"""A connection goes in; to which of several hardware addresses that claim its server by ARP its packets went comes out."""

from __future__ import annotations

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import Packet


def claims_at(connection: Connection, place: str) -> frozenset[str]:
    """The hardware addresses that claim by ARP, anywhere in the case, the server's address as a place knows it."""
    return connection.topology.arp_claims.get(connection.views[place].server.ip, frozenset())


def most_claims(connection: Connection) -> frozenset[str]:
    """Those of the address, of all that places know the server by, that most claim."""
    return max((claims_at(connection, place) for place in connection.places), key=lambda claims: (len(claims), sorted(claims)))


def moved_between_claims(connection: Connection) -> tuple[str, Segment, Segment] | None:
    """The place from which the client's packets went to one claiming address and then to another, and the packets around the move."""
    for place in connection.places:
        claims = claims_at(connection, place)
        if len(claims) < 2:
            continue
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


def came_from(segment: Segment, place: str) -> str:
    """The hardware address that a segment came from, as a place saw it arrive; empty where its capture does not tell."""
    sighting = segment.sighting_at(place)
    return sighting.copies[0].source_mac if sighting is not None else ""
