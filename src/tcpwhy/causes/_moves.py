"""A connection goes in; where its packets moved to another host of the server's address, and what speaks against that, come out."""

from __future__ import annotations

import dataclasses

from tcpwhy.connections.connection import INITIAL_TTLS, Connection, Segment

ALIVE_NS = 1_000_000_000
"""A backend heard so shortly before has not been replaced because it died: an address is taken over seconds later (RFC 9568: three
advertisement intervals of a second; RFC 4271: 90 s)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """Where the history is, where the strays are, and what they drew."""

    home: str
    """The place that has the history: a backend, or where nobody captured that one, the place before it."""
    stranger: str
    history: list[Segment]
    strays: list[Segment]
    resets: list[Segment]


def client_data(connection: Connection) -> list[Segment]:
    """What the client sent, RSTs apart."""
    return [segment for segment in connection.segments if segment.sender == "client" and not segment.is_reset]


def move_to(connection: Connection, stranger: str) -> Move | None:
    """The move to `stranger`, if that place saw packets of the connection, answered none but with RST, and others have its history."""
    if connection.sent(syn=True, seen_at=stranger):
        return None
    view = connection.views[stranger]
    answers = [segment for segment in connection.segments if segment.sender == "server" and segment.seen_at(stranger)]
    resets = [segment for segment in answers if segment.is_reset and segment.packet.is_stateless_reset]
    if len(resets) != len(answers):
        return None
    hops = view.hops[1]
    if resets and hops:
        return None  # The RST only passed by: this is no host of the server's address.
    strays = [segment for segment in client_data(connection) if segment.seen_at(stranger)]
    if not strays:
        return None
    homes: list[tuple[int, str, list[Segment]]] = []
    for home in connection.places:
        if home == stranger:
            continue
        elsewhere = [segment for segment in client_data(connection) if segment.seen_at(home) and not segment.seen_at(stranger)]
        answered = [
            segment
            for segment in connection.segments
            if segment.sender == "server" and not segment.is_reset and segment.seen_at(home) and not segment.seen_at(stranger)
        ]
        shared = sum(segment.seen_at(home) for segment in strays)
        if elsewhere and answered:
            homes.append((shared, home, [*elsewhere, *answered]))
    if not homes:
        return None
    # A backend that saw none of the strays is the home itself; a gateway or router before both saw them too.
    _, home, history = min(homes, key=lambda entry: (entry[0], -connection.places.index(entry[1])))
    return Move(home, stranger, sorted(history, key=lambda segment: segment.aligned_ns), strays, resets)


def doubt_of(connection: Connection, move: Move) -> str | None:
    """Why the two places may have seen the same way at different times, or the move may be an effect of something else."""
    topology = connection.topology
    first = move.strays[0]
    if first.retransmits is not None and first.retransmits.seen_at(move.home) and first.retransmits in move.history:
        return f"{move.home} had fallen silent before: what went elsewhere repeats what it had received and not acknowledged"
    for place in (move.home, move.stranger):
        if not topology.aligned[place]:
            return f"the clock of {place} could not be aligned with the others, so that the order of events is unknown"
    ran = any(topology.was_running(move.home, segment.aligned_ns) for segment in move.strays)
    # A backend that nothing came to before has no earlier packet; what its host resets did not come to the other one, which captured on.
    complete = ran and move.home not in topology.lossy
    elsewhere = complete and bool(move.resets) and connection.is_server_host(move.home)
    began = any(topology.was_running(move.stranger, segment.aligned_ns) for segment in move.history if segment.sender == "client")
    if not began and not elsewhere:
        return f"the capture of {move.stranger} did not run while the connection was elsewhere"
    if not ran and not (move.resets and _was_alive(move)):
        return f"the capture of {move.home} did not run when {move.stranger} saw the connection"
    if not move.resets and not _has_the_address(connection, move.stranger):
        return f"nothing shows that {move.stranger} is a host of the address: it may lie on another way to the same host"
    upstream = any(segment.seen_at(move.home) for segment in move.strays)
    if not upstream and not move.resets and move.home in topology.lossy:
        return f"the capture of {move.home} is incomplete: {topology.lossy[move.home]}"
    if connection.topology.is_before(move.stranger, move.home) or (not upstream and topology.is_before(move.home, move.stranger)):
        return f"{move.home} and {move.stranger} lie on one way, so that the packets may have passed both"
    return None


def _has_the_address(connection: Connection, place: str) -> bool:
    """True where a place that answered nothing of this connection is a host of that address: by its own, or by other connections."""
    ip = connection.views[place].server.ip
    own = connection.topology.addresses.get(place, frozenset())
    if own:
        return ip in own
    ttls = connection.topology.server_ttls.get((place, ip), frozenset())
    return bool(ttls) and ttls <= INITIAL_TTLS and (place, ip) not in connection.topology.seen_twice


def _was_alive(move: Move) -> bool:
    """True where the first backend spoke just before the move: its capture ends there as nothing is sent to it any more.

    Only where strays are reset, which shows where they ended.
    """
    moved_ns = move.strays[0].aligned_ns
    return any(one.aligned_ns - moved_ns > -ALIVE_NS for one in move.history if one.sender == "server")
