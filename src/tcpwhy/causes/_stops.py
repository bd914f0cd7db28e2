"""A failed connection goes in; where the hosts' states say that its packet ends, and of which cause, comes out."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

from tcpwhy.causes._arrivals import Arrival, arrival, own_addresses, tcp_packet, unseen_arrival
from tcpwhy.causes._counted import Counted, counted, rule_counted
from tcpwhy.causes._ends import PASSED_ON, cause_of, deciding, is_one_sided, redirecting, tracked, without_tracking
from tcpwhy.causes._rules import NamedRule, rule_of
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.path import fate as way_of
from tcpwhy.path import walk
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Stage, Trace, Walk

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables

MOST_HOSTS = 6
"""Hosts through which one packet is followed."""


Onward = tuple[Packet, frozenset[str]]
"""A packet on its way, and the addresses of the hosts that it may come to next."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """What one host's state says of the packet."""

    arrival: Arrival
    walks: tuple[Walk, ...]
    trace: Trace
    """Of the first walk: the way there, or, where the answer dies, the answer's way."""
    fate: Fate
    """On which all walks agree; UNKNOWN where they do not."""
    cause: str | None
    """The id that this end belongs to; None where the packet goes on, or its end has no id."""
    rule: NamedRule | None = None
    is_answer: bool = False
    """The trace is that of the host's answer."""
    contradiction: str = ""
    """Why the host's counters deny that the packet ended so; empty where they bear it out or say nothing."""
    counter: Counted | None = None
    """What the kernel's own counter of this end says, where it has one and it was collected."""

    @property
    def host(self) -> HostTables:
        """Whose state it is."""
        return self.arrival.host

    @property
    def place(self) -> str:
        """The vantage point."""
        return self.arrival.host.name

    @property
    def server_port(self) -> int | None:
        """The port of the service, as this host knows it."""
        packet = self.arrival.packets[0].encapsulated or self.arrival.packets[0]
        return packet.destination_port if self.arrival.segment.sender == "client" else packet.source_port

    @property
    def is_seen(self) -> bool:
        """A capture of this very host shows the packet there."""
        return self.arrival.sighting is not None


@functools.lru_cache(maxsize=64)
def stops(connection: Connection) -> tuple[Stop, ...]:
    """The hosts with a state that the failed packet came to, in the order of its way, from the last that saw it on; the last is its end.

    Empty where no host on its way has a state. The packet is the SYN of an attempt that got no answer, the SYN-ACK of one that was
    answered, and what was repeated into nothing of an established connection.
    """
    stuck = _stuck(connection)
    if stuck is None:
        return ()
    segment, place = stuck
    found: list[Stop] = []
    passed = {place}
    arrived = arrival(connection, place, segment)
    onward: list[Onward] = []
    if arrived is not None:
        first = _stop(connection, arrived)
        found.append(first)
        if first.fate not in PASSED_ON or first.cause is not None:
            return tuple(found)
        onward = _onward(first)
    elif place not in connection.hosts:
        onward = _leaving(connection, place, segment)
    while onward and len(found) < MOST_HOSTS:
        following = [stop for one in onward for stop in _next(connection, segment, one, passed)]
        if not following:
            break
        agreed = {(stop.cause, stop.fate) for stop in following}
        if len(agreed) > 1 or len(following) < len(onward):
            break
        found.append(following[0])
        passed.add(following[0].place)
        if following[0].fate not in PASSED_ON or following[0].cause is not None:
            break
        onward = _onward(following[0])
    return tuple(found)


def stop_at(connection: Connection, place: str, segment: Segment) -> Stop | None:
    """What the state of one host says of a segment that its capture has; None without a state, or where the interface is unknown."""
    arrived = arrival(connection, place, segment)
    return _stop(connection, arrived) if arrived is not None else None


def end_of(connection: Connection) -> Stop | None:
    """The last host that the packet came to, if its state names a cause there and none of its counters denies it."""
    found = stops(connection)
    return found[-1] if found and found[-1].cause is not None and not found[-1].contradiction else None


def surely_ends(connection: Connection, stop: Stop) -> bool:
    """True where nothing shows that the packet goes on from there: then the host's counters tell what became of it.

    A balancer without its tables looks like a host with the address and no listener that does not refuse; others show what is behind it.
    """
    view = connection.views.get(stop.place)
    beyond = connection.topology.beyond(stop.place, view.server.ip, view.server.port) if view is not None else {}
    return not (stop.fate is Fate.REFUSED and stop.contradiction) and not any(beyond.values())


def answered_unseen(connection: Connection, place: str) -> str | None:
    """The interface by which the host of the last place answers, if that is not the one of which the packet was captured.

    None where the host's captures would show the answer, or where nothing says how it answers. A file is named after its interface, or is
    not known to hold its packets.
    """
    stop = next((one for one in stops(connection) if one.place == place), None)
    if stop is None or stop.arrival.sighting is None or any(copy.direction for copy in stop.arrival.sighting.copies):
        return None
    ways = {one.reverse.end.out_interface for one in stop.walks if one.reverse is not None} - {None, "", *stop.arrival.interfaces}
    files = connection.topology.windows.get(place, {})
    return next((way for way in sorted(map(str, ways)) if not any(way in PurePath(file).name for file in files)), None)


def own_attempt(connection: Connection) -> tuple[str, Trace, NamedRule | None] | None:
    """What the state of the client's own host says of its SYN, where the SYN is in no capture; None without such a state."""
    for place in connection.places:
        host, view = connection.hosts.get(place), connection.views[place]
        if host is None or connection.syns or view.client.ip not in (own_addresses(host) or ()):
            continue
        packet = Packet(
            protocol="tcp",
            source=ipaddress.ip_address(view.client.ip),
            destination=ipaddress.ip_address(view.server.ip),
            source_port=view.client.port,
            destination_port=view.server.port,
            flags="S",
        )
        trace = walk(host, packet).forward
        step = deciding(trace)
        return place, trace, rule_of(host, step, trace.steps) if step is not None else None
    return None


def _stuck(connection: Connection) -> tuple[Segment, str] | None:
    """The segment of which nothing came, and the last place that saw it."""
    failure = connection.failure
    if failure is None:
        return None
    if failure.kind is Kind.HALF_OPEN and connection.syn_acks:
        segments = connection.syn_acks
    elif failure.kind.in_handshake:
        segments = connection.syns
    else:
        segments = [segment for segment in failure.segments if segment.retransmits is not None]
    if not segments:
        return None
    fates = [(way_of(connection, segment), segment) for segment in segments[:3]]
    order = connection.places if segments[0].sender == "client" else tuple(reversed(connection.places))
    reached, segment = max(fates, key=lambda entry: (order.index(entry[0].last_seen), entry[0].doubt is None))
    if reached.missing_at is not None and reached.doubt is None and reached.last_seen not in connection.hosts:
        return None  # Lost on the link between two captures.
    return segment, reached.last_seen


def _stop(connection: Connection, arrived: Arrival) -> Stop:
    prepared = [tracked(connection, arrived, packet) for packet in arrived.packets]
    host = arrived.host
    if is_one_sided(connection, host.name, arrived.segment):
        host = without_tracking(host)
    walks = tuple(walk(host, packet) for packet in prepared)
    seen = {(_fate_of(one), _redirected(one.forward)) for one in walks}
    if len(seen) > 1:
        return Stop(arrived, walks, walks[0].forward, Fate.UNKNOWN, None)
    first = walks[0]
    cause, trace, rule = _classified(connection, arrived, first)
    counter, contradiction = _borne_out(arrived, trace, rule, cause)
    contradiction = contradiction or (_denied_by_packets(connection, arrived, trace) if cause is not None else "")
    return Stop(arrived, walks, trace, trace.fate, cause, rule, trace is first.reverse, contradiction, counter)


def _borne_out(arrived: Arrival, trace: Trace, rule: NamedRule | None, cause: str | None) -> tuple[Counted | None, str]:
    """The counter of this end, and what contradicts it."""
    at_ns = None if arrived.sighting is None else arrived.sighting.time_ns
    name = {Fate.REVERSE_PATH: "TcpExtIPReversePathFilter", Fate.NOT_FORWARDING: "IpInAddrErrors"}.get(trace.fate)
    if name is not None:
        counter = counted(arrived.host, name, at_ns)
        return counter, "" if counter is None else counter.contradiction
    if rule is not None and cause is not None and trace.fate in (Fate.DROPPED_BY_RULE, Fate.REJECTED_BY_RULE):
        return None, rule_counted(arrived.host, rule, at_ns)
    step = redirecting(trace)
    turned = rule_of(arrived.host, step, trace.steps) if step is not None else None
    if turned is not None and cause == "local-redirect":
        return None, rule_counted(arrived.host, turned, at_ns)
    return None, ""


def _denied_by_packets(connection: Connection, arrived: Arrival, trace: Trace) -> str:
    """Why what a host's own capture shows denies that the SYN ended so: it was answered, or should have been."""
    if connection.failure is None or arrived.sighting is None or not arrived.segment.opens or trace is None:
        return ""
    place = arrived.host.name
    answered = any(one.sender == "server" and one.seen_at(place) for one in connection.segments)
    step = deciding(trace)
    answers = trace.fate is Fate.REFUSED or (
        trace.fate is Fate.REJECTED_BY_RULE and step is not None and re.search(r"tcp.reset", f"{step.text} {step.rule}") is not None
    )
    if answers and not answered:
        return f"its capture shows no RST that {place} should have sent"
    silent = (Fate.REVERSE_PATH, Fate.DROPPED_BY_RULE, Fate.NOT_FORWARDING, Fate.BLACKHOLE, Fate.MARTIAN_DESTINATION)
    if trace.fate in silent and trace.packet.flags == "S" and answered:
        return f"its capture shows that the SYN was answered at {place}"
    return ""


def _fate_of(one: Walk) -> tuple[Fate, Fate | None]:
    reverse = one.reverse.fate if one.reverse is not None and one.forward.fate is Fate.ACCEPTED else None
    return one.forward.fate, reverse


def _redirected(trace: Trace) -> str:
    step = redirecting(trace)
    return "" if step is None else f"{step.after.destination} {step.after.destination_port}"


def _classified(connection: Connection, arrived: Arrival, one: Walk) -> tuple[str | None, Trace, NamedRule | None]:
    """The cause to which the end of a packet belongs, the trace that shows it, and its rule."""
    trace, segment = one.forward, arrived.segment
    if trace.fate is Fate.ACCEPTED and segment.opens and one.reverse is not None and redirecting(trace) is None:
        back = one.reverse
        step = deciding(back)
        rule = rule_of(arrived.host, step, back.steps) if step is not None else None
        if back.fate in (Fate.DROPPED_BY_RULE, Fate.NO_ROUTE, Fate.BLACKHOLE, Fate.PROHIBITED, Fate.REJECTED_BY_RULE):
            return "synack-lost", back, rule
        return None, trace, None
    step = deciding(trace)
    rule = rule_of(arrived.host, step, trace.steps) if step is not None else None
    return cause_of(connection, arrived, trace, rule), trace, rule


def _onward(stop: Stop) -> list[Onward]:
    """The packets that leave a host, and the addresses of the hosts that they may go to."""
    ends = [dataclasses.replace(end, in_interface="", out_interface="", ct_state=None, ct_is_tracked=True, ct_original=None, mark=0)
            for end in (stop.trace.ends or (stop.trace.end,))][:4]  # fmt: skip
    return [(end, _handed_to(stop, end)) for end in ends]


def _handed_to(stop: Stop, packet: Packet) -> frozenset[str]:
    """The packet's destination; or the real servers, one of which gets it unchanged from IPVS (direct return)."""
    step = next((step for step in reversed(stop.trace.steps) if step.stage is Stage.IPVS), None)
    ipvs = stop.host.ipvs
    if step is None or ipvs is None or packet.encapsulated is not None:
        return frozenset((str(packet.destination),))
    known = {one.real_ip for one in ipvs.connections or () if one.source in step.sources}
    reals = {real.ip for service in ipvs.services or () if service.ip == str(packet.destination) for real in service.real_servers
             if real.method == "DR" and real.weight}  # fmt: skip
    return frozenset(known or reals or {str(packet.destination)})


def _leaving(connection: Connection, place: str, segment: Segment) -> list[Onward]:
    """The packet as it left a place without a state."""
    sighting = segment.sighting_at(place)
    if sighting is None:
        return []
    last = next((copy for copy in reversed(sighting.copies) if copy.direction != "in"), sighting.copies[-1])
    packet = tcp_packet(last.source, last.destination, segment, last)
    words = last.tunnels.split()
    if last.tunnel_depth == 1 and len(words) == 4 and words[0] == "ipip":
        source, destination = ipaddress.ip_address(words[1]), ipaddress.ip_address(words[3])
        packet = Packet(protocol="ipip", source=source, destination=destination, encapsulated=packet)
    return [(packet, frozenset((str(packet.destination),)))]


def _next(connection: Connection, segment: Segment, onward: Onward, passed: set[str]) -> Iterator[Stop]:
    """The host to which a packet goes, where its state was taken, and nobody captured there or its capture has the packet."""
    packet, addresses = onward
    hosts = {
        name: host for name, host in connection.hosts.items() if name not in passed and addresses & (own_addresses(host) or frozenset())
    }
    seen = [name for name in hosts if segment.seen_at(name)]
    for name, host in hosts.items():
        if seen:  # Of several real servers it came to this one; or it goes round: what one host sends on, another sends back.
            arrived = arrival(connection, name, segment) if name in seen else None
        elif name in connection.places or connection.topology.running.get(name) is not None:
            continue
        else:
            arrived = unseen_arrival(host, segment, packet)
        if arrived is not None:
            yield _stop(connection, arrived)
