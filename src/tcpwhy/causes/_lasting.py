"""An attempt and what is left of an older connection go in; what keeps the two ends from clearing that up comes out.

The client's RST ends what is left, and the next SYN is taken: so a lasting failure needs something that eats the ACK or the RST, or a
TIME-WAIT that takes no RST.
"""

from __future__ import annotations

import dataclasses

from tcpwhy.causes._asking import capture_at, state_of
from tcpwhy.causes._leftover import Leftover
from tcpwhy.causes._verdict import Exhibit
from tcpwhy.connections.connection import Connection

RFC1337 = "net.ipv4.tcp_rfc1337"

KEEPS_TIME_WAIT = (
    f"`sysctl -w {RFC1337}=0` on %s, so that the client's RST ends the TIME-WAIT; write it into /etc/sysctl.d/ to make it last"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Hindrance:
    """Why the retries fail as well."""

    where: tuple[str, str] | str
    text: str
    """Whole sentences."""
    fix: tuple[str, ...]
    exhibits: tuple[Exhibit, ...] = ()
    next_evidence: tuple[str, ...] = ()


def hindrance(connection: Connection, left: Leftover) -> Hindrance:
    """The first that the captures show; else what would."""
    order = connection.places
    first, last = order[0], order[-1]
    answered, refused = left.places(left.answers), left.places(left.resets)
    server, client = connection.server.ip, connection.client.ip
    seen = [place for place in order if place in answered]
    if seen and first not in answered and not left.resets and _is_whole(connection, left, first):
        where = (seen[0], order[order.index(seen[0]) - 1])
        return Hindrance(
            where,
            f"{where[0]} saw the ACK and {where[1]} did not: something between them eats it, so that the client never hears of the old "
            "connection and cannot end it with RST.",
            (f"let ACKs from {server} pass from {where[0]} to {where[1]}, also those that a firewall takes for another connection's",),
        )
    if left.resets and last in answered and last not in refused and _is_whole(connection, left, last):
        reached = [place for place in order if place in refused][-1]
        where = (reached, order[order.index(reached) + 1])
        return Hindrance(
            where,
            f"The client refuses that ACK with RST, which would end what is left; {where[0]} saw the RST and {where[1]} did not: something "
            "between them eats it.",
            (f"let the client's RST pass from {where[0]} to {where[1]}: a firewall that drops RSTs keeps such connections for ever",),
        )
    if left.resets and last in refused and left.is_server_host(connection, last):
        return _in_spite_of_the_reset(connection, left, last)
    place = last if left.is_server_host(connection, last) else server
    if left.resets:
        ask = capture_at(connection, "server", "whether the client's RST arrives there; if it does, tcp_rfc1337 keeps the TIME-WAIT")
        text = (
            "The client refuses that ACK with RST, which would end what is left; but it lasts: the RST does not reach "
            f"{server}, or tcp_rfc1337 is set there."
        )
        return Hindrance(place, text, (f"let the client's RST pass to {server}", KEEPS_TIME_WAIT % server), (), (ask, _sysctl(server)))
    ask = capture_at(connection, "client", "whether the ACK arrives there, and whether the client answers it with RST")
    text = "No RST came back, which would end what is left: the ACK does not reach the client, or its RST is lost."
    return Hindrance(place, text, (f"let such ACKs pass to {client}, and the RST that answers them",), (), (ask,))


def _in_spite_of_the_reset(connection: Connection, left: Leftover, place: str) -> Hindrance:
    """The RST arrives, and the next SYN meets the same again."""
    host = connection.hosts.get(place)
    setting = host.sysctls.get(RFC1337) if host is not None and host.sysctls is not None else None
    begin = "The client refuses that ACK with RST, and the RST arrives; but"
    if left.state != "TIME-WAIT":
        return Hindrance(place, f"{begin} what is left does not end by it.", (f"end the old connection on {place}: `ss -K`",))
    if setting is None:
        text = f"{begin} a TIME-WAIT takes no RST where {RFC1337} is 1."
        return Hindrance(place, text, (KEEPS_TIME_WAIT % place,), (), (_sysctl(place),))
    shown = Exhibit("state", place, setting.source.file, f"{RFC1337} = {setting.value}", line=setting.source.line)
    if setting.number:
        return Hindrance(
            place, f"{begin} {RFC1337} is {setting.value}, so that no RST ends a TIME-WAIT.", (KEEPS_TIME_WAIT % place,), (shown,)
        )
    text = f"{begin} the TIME-WAIT stays, although {RFC1337} is 0 in the state of {place}, which may be of another time."
    return Hindrance(place, text, (), (shown,), (_sysctl(place),))


def _sysctl(host: str) -> str:
    return state_of(host, f"{RFC1337}, and the socket that is left (`ss -tan`)")


def _is_whole(connection: Connection, left: Leftover, place: str) -> bool:
    """The capture of a place ran all the while and is complete, so that what it lacks was not there."""
    topology = connection.topology
    if place in topology.lossy or "server" not in topology.sees_syns.get(place, frozenset()):
        return False
    return topology.aligned[place] and all(topology.was_running(place, one.segment.aligned_ns) for one in left.answers)
