"""An attempt that an older connection's socket answered goes in; the parts that its two causes tell alike come out."""

from __future__ import annotations

from tcpwhy.causes._counted import counted
from tcpwhy.causes._lasting import Hindrance
from tcpwhy.causes._leftover import Leftover
from tcpwhy.causes._verdict import Basis, Exhibit, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind


def attempted(connection: Connection) -> bool:
    """True where a SYN was seen and no handshake followed, or one only after long."""
    failure = connection.failure
    if failure is None or not connection.syns:
        return False
    return failure.kind.in_handshake or (failure.kind is Kind.STALLED and len(connection.syns) > 1)


def _counter_exhibits(connection: Connection, names: tuple[str, ...]) -> tuple[Exhibit, ...]:
    """The server's own counters of this end that rose meanwhile."""
    shown = []
    for place in connection.places:
        host = connection.hosts.get(place)
        if host is None or not connection.is_server_host(place):
            continue
        at_ns = next((one.time_ns for syn in connection.syns for one in [syn.sighting_at(place)] if one is not None), None)
        found = [counted(host, name, at_ns) for name in names]
        shown += [one.exhibit for one in found if one is not None and one.proves]
    return tuple(shown)


def proof(connection: Connection, left: Leftover, stuck: Hindrance, names: tuple[str, ...]) -> tuple[tuple[Exhibit, ...], Basis]:
    """All that shows the older connection and what keeps it, and what a verdict rests on by that; `names` are counters of such refusals."""
    counters = _counter_exhibits(connection, names)
    socket = (left.socket,) if left.socket is not None else ()
    shown = (*_old_exhibits(connection, left), *socket, *stuck.exhibits, *counters)
    if socket or counters:
        return shown, "state"
    return shown, "two places" if len(connection.places) > 1 else "one place"


def _old_exhibits(connection: Connection, left: Leftover) -> tuple[Exhibit, ...]:
    """The SYN, what answered it, the RST that follows, and the last packet of the connection before."""
    shown = []
    if left.old is not None:
        begin = connection.syns[0].aligned_ns
        before = [one for one in left.old.segments if one.aligned_ns < begin and one.sender == "server"]
        shown += [exhibit(one, left.old, "the last of the server's packets on the older connection") for one in before[-1:]]
    shown.append(exhibit(connection.syns[0], connection, "the SYN of the next connection from the same port"))
    shown += [exhibit(one.segment, one.owner, "a bare ACK: the older connection's numbers") for one in left.answers[:2]]
    note = "the client did not ask for that and refuses it: seq is that ACK's number"
    ends = {place: one for one in left.resets for place in one.segment.places}  # its own, and where it arrived under the old addresses
    first = {id(one.segment): one for one in (ends.get(connection.places[0]), ends.get(connection.places[-1])) if one is not None}
    shown += [exhibit(one.segment, one.owner, note) for one in first.values()]
    return tuple(shown)


def since_text(connection: Connection, left: Leftover) -> str:
    """` and was last active 0.8 s before`; empty where no capture holds the older connection."""
    if left.old is None:
        return ""
    begin = connection.syns[0].aligned_ns
    times = [one.aligned_ns for one in left.old.segments if one.aligned_ns < begin]
    return f", last active {(begin - max(times)) / 1e9:.1f} s before" if times else ""
