"""A walk through one host goes in; the cause to which the packet's end there belongs comes out."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

from tcpwhy.causes._arrivals import Arrival, own_addresses
from tcpwhy.causes._rules import NamedRule, checks_reverse_path
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.path import walk
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Stage, Step, Trace

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables

NOT_FOR_HERE = frozenset({Fate.FORWARDED, Fate.NOT_FORWARDING, Fate.NO_ROUTE, Fate.BLACKHOLE, Fate.PROHIBITED, Fate.TTL_EXPIRED})
"""Ends of a packet whose destination is no address of the host."""

PASSED_ON = frozenset({Fate.FORWARDED, Fate.SENT})


def deciding(trace: Trace) -> Step | None:
    """The step that decided: the last that rests on something; where no socket was met, that one; for another host, its route."""
    if trace.fate is Fate.REFUSED:
        return trace.last
    if trace.fate in NOT_FOR_HERE:
        routed = [step for step in trace.steps if step.stage is Stage.ROUTE]
        return routed[-1] if routed else trace.last
    return next((step for step in reversed(trace.steps) if step.sources or step.rule), trace.last)


def redirecting(trace: Trace) -> Step | None:
    """The step of the host's own NAT that turned the packet to another address or port."""
    for step in trace.steps:
        before, after = step.before, step.after
        turned = (before.destination, before.destination_port) != (after.destination, after.destination_port)
        if turned and step.stage in (Stage.NAT, Stage.RULE) and before.encapsulated is None and after.encapsulated is None:
            return step
    return None


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


def cause_of(connection: Connection, arrived: Arrival, trace: Trace, rule: NamedRule | None) -> str | None:
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
            if fate is Fate.NOT_FORWARDING and _is_elsewhere(connection, arrived) is not True:
                return None  # A router that shall forward, or a balancer or real server that lost the address: neither is excluded.
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
    port, table = inner[0].destination_port, arrived.host.sockets
    if port is None or table is None or not (trace.fate is Fate.NOT_FORWARDING or returned):
        return False
    return _is_elsewhere(connection, arrived) is False and bool(table.listeners_for(target, port))


def _is_elsewhere(connection: Connection, arrived: Arrival) -> bool | None:
    """True where another host is known to have the address that the packet is for, as one of a network; None where not how it has it.

    Alone (/32, /128) it stands on real servers, to which a balancer that has it sends: that leaves open what this host is.
    """
    packet = arrived.packets[0].encapsulated or arrived.packets[0]
    target, here = str(packet.destination), arrived.host.name
    others = [place for place, known in connection.topology.addresses.items() if place != here and target in known]
    hosts = [connection.hosts.get(place) for place in others]
    alone = [host.addresses.stands_alone(target) if host is not None and host.addresses is not None else None for host in hosts]
    if False in alone:
        return True
    return None if None in alone else False


def real_servers(host: HostTables, address: str) -> list[str]:
    """The real servers to which a director sends unchanged packets for an address (DR, TUN)."""
    services = (host.ipvs.services if host.ipvs is not None else None) or []
    return [real.ip for service in services if service.ip == address for real in service.real_servers if real.method in ("DR", "TUN")]


def tracked(connection: Connection, arrived: Arrival, packet: Packet) -> Packet:
    """The packet with what conntrack knows of its connection: nothing where the host never saw the connection begin."""
    inner = packet.encapsulated
    if inner is not None:
        return dataclasses.replace(packet, encapsulated=tracked(connection, arrived, inner))
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
