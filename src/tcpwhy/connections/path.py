"""A segment goes in; how far it got on its way, and where it is missing next, comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.connections.connection import Connection, Segment


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
    """Follows a segment along the places of its connection and those that connections towards the same server reach."""
    if segment.sender == "server":
        order = tuple(reversed(connection.places))
        seen = [place for place in order if segment.seen_at(place)]
        last = seen[-1]
        behind = order[order.index(last) + 1 :]
        end = connection.client.ip
    else:
        seen = [place for place in connection.places if segment.seen_at(place)]
        last = seen[-1]
        server = connection.views[last].server
        reached = connection.topology.beyond(last, server.ip, server.port)
        own = connection.places[connection.places.index(last) + 1 :]
        others = [place for place in reached if place not in connection.places]
        others.sort(key=lambda place: (sum(connection.topology.is_before(other, place) for other in others), place))
        behind = (*own, *others)
        end = str(server)
    if not behind:
        return Fate(last, None, (last, end))
    missing = behind[0]
    topology = connection.topology
    server = connection.views[last].server
    between = (last, end) if segment.sender == "client" and topology.alternatives(last, server.ip, server.port) else (last, missing)
    return Fate(last, missing, between, _doubt(connection, segment, behind), behind)


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
