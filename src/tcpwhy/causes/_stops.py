"""A failed connection goes in; where the hosts' states say that its packet ends, and of which cause, comes out."""

from __future__ import annotations

import copy
import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tcpwhy.causes._arrivals import Arrival, arrival, own_addresses, tcp_packet, unseen_arrival
from tcpwhy.causes._counted import Counted, counted, rule_counted
from tcpwhy.causes._rules import NamedRule, checks_reverse_path, rule_of
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.path import fate as way_of
from tcpwhy.path import walk
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Stage, Step, Trace, Walk

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables

MOST_HOSTS = 6
"""Hosts through which one packet is followed."""

NOT_FOR_HERE = frozenset({Fate.FORWARDED, Fate.NOT_FORWARDING, Fate.NO_ROUTE, Fate.BLACKHOLE, Fate.PROHIBITED, Fate.TTL_EXPIRED})
"""Ends of a packet whose destination is no address of the host."""

PASSED_ON = frozenset({Fate.FORWARDED, Fate.SENT})


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
    onward: list[Packet] = []
    if arrived is not None:
        first = _stop(connection, arrived)
        found.append(first)
        if first.fate not in PASSED_ON or first.cause is not None:
            return tuple(found)
        onward = _onward(first)
    elif place not in connection.hosts:
        onward = _leaving(connection, place, segment)
    while onward and len(found) < MOST_HOSTS:
        following = [stop for packet in onward for stop in _next(connection, segment, packet, passed)]
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


def end_of(connection: Connection) -> Stop | None:
    """The last host that the packet came to, if its state names a cause there and none of its counters denies it."""
    found = stops(connection)
    return found[-1] if found and found[-1].cause is not None and not found[-1].contradiction else None


def walk_through(connection: Connection, place: str, segment: Segment) -> Stop | None:
    """What the state of one host that saw a segment says of it."""
    arrived = arrival(connection, place, segment)
    return None if arrived is None else _stop(connection, arrived)


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


def deciding(trace: Trace) -> Step | None:
    """The step that decided: the last one that rests on something; of a packet that met no socket, that one."""
    if trace.fate is Fate.REFUSED:
        return trace.last
    return next((step for step in reversed(trace.steps) if step.sources or step.rule), trace.last)


def redirecting(trace: Trace) -> Step | None:
    """The step of the host's own NAT that turned the packet to another address or port."""
    for step in trace.steps:
        before, after = step.before, step.after
        turned = (before.destination, before.destination_port) != (after.destination, after.destination_port)
        if turned and step.stage in (Stage.NAT, Stage.RULE) and before.encapsulated is None and after.encapsulated is None:
            return step
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
    prepared = [_tracked(connection, arrived, packet) for packet in arrived.packets]
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


def _tracked(connection: Connection, arrived: Arrival, packet: Packet) -> Packet:
    """The packet with what conntrack knows of its connection: nothing where the host never saw the connection begin."""
    inner = packet.encapsulated
    if inner is not None:
        return dataclasses.replace(packet, encapsulated=_tracked(connection, arrived, inner))
    segment = arrived.segment
    if segment.opens or arrived.is_own:
        return packet
    if not is_one_sided(connection, arrived.host.name, segment):
        return packet
    # net/netfilter/nf_conntrack_proto_tcp.c tcp_conntracks: a SYN-ACK begins nothing, an ACK after a SYN alone is invalid; what comes in
    # mid-connection is taken up as new, unless nf_conntrack_tcp_loose is 0 (tcp_new).
    sysctls = arrived.host.sysctls
    loose = sysctls.get("net.netfilter.nf_conntrack_tcp_loose") if sysctls is not None else None
    began = any(syn.seen_at(arrived.host.name) for syn in connection.syns)
    taken_up = not segment.is_syn_ack and not began and (loose is None or loose.number != 0)
    return dataclasses.replace(packet, ct_state="NEW" if taken_up else "INVALID", is_reply=False)


def would_pass_if_known(connection: Connection, arrived: Arrival) -> bool:
    """True where the host would let a packet go on if its conntrack knew the connection: then it is not the packet that it drops."""
    if not is_one_sided(connection, arrived.host.name, arrived.segment):
        return False
    is_reply = arrived.segment.sender == "server"
    known = [dataclasses.replace(packet, ct_state="ESTABLISHED", is_reply=is_reply) for packet in arrived.packets]
    host = without_tracking(arrived.host)
    return all(walk(host, packet).forward.fate in (*PASSED_ON, Fate.ACCEPTED) for packet in known)


def without_tracking(host: HostTables) -> HostTables:
    """The host without its table of tracked connections: what is assumed of the connection holds, not the entry that was left of it."""
    changed = copy.copy(host)
    changed.__dict__["conntrack"] = None
    return changed


def is_one_sided(connection: Connection, place: str, segment: Segment) -> bool:
    """True where a host saw this end's packets and none of the other's, although its capture ran; for a SYN-ACK, no SYN."""
    view = connection.views.get(place)
    host = connection.hosts.get(place)
    if view is None or segment.opens or place in connection.topology.lossy:
        return False
    if host is not None and host.conntrack is not None:
        ends = {(view.client.ip, view.client.port), (view.server.ip, view.server.port)}
        for entry in host.conntrack.entries:
            both = {
                (entry.original.source_ip, entry.original.source_port),
                (entry.original.destination_ip, entry.original.destination_port),
            }
            if both == ends and "UNREPLIED" not in entry.flags:
                return False
    other = "server" if segment.sender == "client" else "client"
    return not view.sent_by(other)  # type: ignore[arg-type]


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
    return _cause(connection, arrived, trace, rule), trace, rule


def _cause(connection: Connection, arrived: Arrival, trace: Trace, rule: NamedRule | None) -> str | None:
    segment, host = arrived.segment, arrived.host
    match trace.fate:
        case Fate.REVERSE_PATH:
            return "reverse-path-filter"
        case Fate.DROPPED_BY_RULE:
            if rule is not None and checks_reverse_path(host, rule):
                return "reverse-path-filter"
            if would_pass_if_known(connection, arrived):
                return "asymmetric-drop"
            return "syn-lost" if segment.opens else "synack-lost" if segment.is_syn_ack else None
        case Fate.REJECTED_BY_RULE | Fate.PROHIBITED:
            return "rejected-by-firewall"
        case Fate.MARTIAN_DESTINATION if redirecting(trace) is not None:
            return "local-redirect"
        case Fate.QUEUE_FULL:
            return "accept-queue-overflow"
        case Fate.REFUSED if segment.opens:
            return "local-redirect" if redirecting(trace) is not None else "port-closed"
        case fate if fate in NOT_FOR_HERE and segment.opens:
            if is_meant_for(connection, arrived, trace):
                return "vip-missing"
            return "syn-lost" if fate is not Fate.FORWARDED and not connection.icmp else None
        case Fate.INTERFACE_DOWN if segment.opens:
            return "syn-lost"
        case _:
            return None


def is_meant_for(connection: Connection, arrived: Arrival, trace: Trace) -> bool:
    """True where a balancer sent the packet to this host as the end of its way, although the destination is no address of it.

    It came in a tunnel that ends here; a director's table names this host as a real server of the address; it is the director; or a
    program here waits for such packets, the host does not pass them on to another one, and no other host is known to have the address.
    """
    own = own_addresses(arrived.host) or frozenset()
    inner = [packet.encapsulated or packet for packet in arrived.packets]
    target = str(inner[0].destination)
    if target in own or arrived.is_own:
        return False
    sighting = arrived.sighting
    if any(packet.encapsulated is not None and str(packet.destination) in own for packet in arrived.packets):
        return True
    if sighting is not None and any(copy.tunnel_depth for copy in sighting.copies):
        outer = {copy.tunnels.split()[-1] for copy in sighting.copies if copy.tunnel_depth and copy.direction != "out"}
        if outer & own:
            return True
    if any(service.ip == target for service in (arrived.host.ipvs.services if arrived.host.ipvs is not None else None) or ()):
        return True  # The director itself: IPVS schedules only what is routed as local (ip_vs_core.c hooks LOCAL_IN and LOCAL_OUT).
    if any(real in own for host in connection.hosts.values() for real in real_servers(host, target)):
        return True
    returned = trace.fate is Fate.FORWARDED and trace.end.out_interface in arrived.interfaces
    elsewhere = any(target in known for place, known in connection.topology.addresses.items() if place != arrived.host.name)
    port, table = inner[0].destination_port, arrived.host.sockets
    if elsewhere or port is None or table is None or not (trace.fate is Fate.NOT_FORWARDING or returned):
        return False
    return bool(table.listeners_for(target, port))


def real_servers(host: HostTables, address: str) -> list[str]:
    """The real servers to which a director sends unchanged packets for an address (DR, TUN)."""
    services = (host.ipvs.services if host.ipvs is not None else None) or []
    return [real.ip for service in services if service.ip == address for real in service.real_servers if real.method in ("DR", "TUN")]


def _onward(stop: Stop) -> list[Packet]:
    """The packets that leave a host towards the next one."""
    return [dataclasses.replace(end, in_interface="", out_interface="", ct_state=None, ct_is_tracked=True, ct_original=None, mark=0)
            for end in (stop.trace.ends or (stop.trace.end,))][:4]  # fmt: skip


def _leaving(connection: Connection, place: str, segment: Segment) -> list[Packet]:
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
    return [packet]


def _next(connection: Connection, segment: Segment, packet: Packet, passed: set[str]) -> Iterator[Stop]:
    """The host to which a packet goes, where its state was taken and nobody captured."""
    for name, host in connection.hosts.items():
        if name in passed or name in connection.places or connection.topology.running.get(name) is not None:
            continue
        own = own_addresses(host)
        if own is None or str(packet.destination) not in own:
            continue
        arrived = unseen_arrival(host, segment, packet)
        if arrived is not None:
            yield _stop(connection, arrived)
