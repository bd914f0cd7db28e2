"""A packet that arrives at a host, or that the host sends, goes in; every way that it can go there, each to its end, comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable

from tcpwhy.evidence.source import Source
from tcpwhy.path.balancing import Balancing
from tcpwhy.path.delivery import deliver, find_socket
from tcpwhy.path.netfilter import Netfilter, bounded
from tcpwhy.path.own_source import source_towards
from tcpwhy.path.packet import Packet
from tcpwhy.path.passage import Hook, Surroundings
from tcpwhy.path.routing import ERRORS, LOOPBACK, Answer, Query, Routing, query_of
from tcpwhy.path.settings import Settings
from tcpwhy.path.source_check import check_source, martian
from tcpwhy.path.surroundings import surroundings
from tcpwhy.path.trace import Doubt, Fate, Stage
from tcpwhy.path.tracking import Tracking
from tcpwhy.path.tunnels import find_tunnel
from tcpwhy.path.way import Binding, Ending, Onward, Way
from tcpwhy.tables.host import HostTables

Onwards = Callable[[Way], list[Onward]]
"""Takes a way on from where it is."""

IPVS_IN, IPVS_OUT_LOCAL = 99, -98
"""net/netfilter/ipvs/ip_vs_core.c ip_vs_ops4: INPUT and OUTPUT."""

DEEPEST = 4
"""Tunnels within tunnels that are followed."""

ERROR_FATES = {
    "blackhole": Fate.BLACKHOLE,
    "prohibit": Fate.PROHIBITED,
    "unreachable": Fate.NO_ROUTE,
    "none": Fate.NO_ROUTE,
}


class Engine:
    """One host and family; `made` are connections that conntrack knows beside the collected ones."""

    def __init__(
        self, host: HostTables, version: int, made: Iterable[Binding] = (), *, is_answer: bool = False, attached: Binding | None = None
    ) -> None:
        self.host = host
        self.version = version
        self.is_answer = is_answer
        self.settings = Settings(host, version)
        self.routing = Routing(host, version)
        self.tracking = Tracking(host, self.settings, made, attached)
        self.netfilter = Netfilter(host, version, self.tracking, self._around)
        self.balancing = Balancing(host, self.settings, self.routing.is_local, self._send_on)
        if self.balancing.is_active and not is_answer:
            self.netfilter.hook_in("INPUT", IPVS_IN, self.balancing.schedule)
            self.netfilter.hook_in("OUTPUT", IPVS_OUT_LOCAL, self.balancing.schedule)

    def _around(self, hook: Hook) -> Surroundings:
        return surroundings(self.host, hook, self.routing, self.settings)

    def go(self, packet: Packet) -> list[Ending]:
        """All ways of the packet to their ends."""
        way = Way(packet)
        onwards = self._send(way) if packet.is_from_here else self._receive(way, 0)
        return [one for one in onwards if isinstance(one, Ending)]

    # --- in

    def _receive(self, way: Way, depth: int) -> list[Onward]:
        packet = way.packet
        first = name = packet.in_interface
        doubts: tuple[Doubt, ...] = ()
        if self.host.links is not None:
            link = self.host.links.get(name)
            if link is None:
                doubts = (Doubt(None, name, "no interface of this name was listed", "it exists"),)
                return [Ending(way.step(Stage.ARRIVAL, f"there is no interface {name}", doubts=doubts), Fate.UNKNOWN)]
            if not link.is_up:
                return [Ending(way.step(Stage.ARRIVAL, f"{name} is down", sources=(link.source,)), Fate.INTERFACE_DOWN)]
            master = self.host.links.get(link.master) if link.master else None
            if master is not None and master.kind in ("bridge", "bond", "team"):
                moved = dataclasses.replace(packet, in_interface=master.name)
                text = f"{name} belongs to {master.name}: the host itself receives it there"
                way = way.step(Stage.ARRIVAL, text, sources=(link.source,), packet=moved)
                packet, name = moved, master.name
        if self.host.sockets is not None and packet.flags != "S":
            socket = find_socket(packet, self.host)
            if socket is not None and socket.state == "ESTABLISHED":
                way = dataclasses.replace(way, packet=dataclasses.replace(packet, is_established_socket=True))
        way = way.step(Stage.ARRIVAL, f"arrives by {name}")
        seen = self._each(self._programs(way, first, "xdp", "ingress"), lambda one: self.netfilter.run_device(first, "ingress", one))
        return self._each(seen, lambda one: self._filtered(one, depth))

    def _filtered(self, way: Way, depth: int) -> list[Onward]:
        return self._each(self._unknown_rules(way), lambda one: self._each(self.netfilter.run("PREROUTING", one),
                                                                          lambda routed: self._route_in(routed, depth)))  # fmt: skip

    def _programs(self, way: Way, interface: str, *hooks: str) -> list[Onward]:
        """Asks for eBPF programs of an interface: what they do cannot be told."""
        onwards: list[Onward] = []
        for program in self.host.programs.at(interface, *hooks) if self.host.programs is not None else ():
            doubt = Doubt(program.source, program.text, "an eBPF program sees the packet first", "it lets the packet pass")
            taken = dataclasses.replace(doubt, assumed="it drops, redirects or changes the packet")
            onwards.append(Ending(way.step(Stage.RULE, f"the eBPF program {program.text} may take it", doubts=(taken,)), Fate.UNKNOWN))
            way = dataclasses.replace(way, doubts=(*way.doubts, doubt))
        return [*onwards, way]

    def _unknown_rules(self, way: Way) -> list[Onward]:
        """Where no rules were collected, one may interfere."""
        unseen = self.netfilter.unseen
        if self.netfilter.is_collected and not unseen:
            return [way]
        name = "iptables-save.txt" if self.version == 4 else "ip6tables-save.txt"
        doubt = Doubt(None, name, unseen or "no packet filter rules were collected", "no rule interferes")
        other = dataclasses.replace(doubt, assumed="a rule drops, rejects or translates it")
        return [
            dataclasses.replace(way, doubts=(*way.doubts, doubt)),
            Ending(way.step(Stage.RULE, "a rule that was not collected may interfere", doubts=(other,)), Fate.UNKNOWN),
        ]

    def _route_in(self, way: Way, depth: int) -> list[Onward]:
        """net/ipv4/route.c ip_route_input_slow(), net/ipv6/route.c ip6_route_input()."""
        packet = way.packet
        wrong = martian(packet, self.settings)
        if wrong is not None and wrong.fate is not None:
            step = way.step(Stage.SOURCE_CHECK, wrong.text, sources=wrong.sources, rule=wrong.rule, doubts=wrong.doubts)
            return [Ending(step, wrong.fate)]
        if packet.version == 4 and (int(packet.destination) == 0xFFFFFFFF or int(packet.source) == int(packet.destination) == 0):
            broadcast = dataclasses.replace(way, is_broadcast=True)
            return self._local_in(broadcast.step(Stage.ROUTE, "a broadcast: for this host too"), depth)
        results: list[Onward] = []
        for answer in self.routing.lookup(query_of(packet, in_interface=packet.in_interface)):
            routed = way.step(Stage.ROUTE, _route_text(answer, packet), sources=_sources(answer), rule=_rule(answer), doubts=answer.doubts)
            if answer.type in ("local", "broadcast", "anycast"):
                routed = dataclasses.replace(routed, is_broadcast=answer.type == "broadcast")
                results += self._checked(routed, "", lambda one: self._local_in(one, depth))
            elif answer.type == "multicast" or packet.destination.is_multicast:
                results.append(Ending(routed, Fate.HANDED_OVER))
            else:
                results += self._not_local(routed, answer)
        return results

    def _checked(self, way: Way, out_interface: str, onward: Onwards) -> list[Onward]:
        """The reverse-path check, which IPv6 does not have (net/ipv6 knows no rp_filter)."""
        if way.packet.version == 6:
            return list(onward(way))
        results: list[Onward] = []
        for check in check_source(way.packet, self.routing, self.settings, out_interface):
            step = way.step(Stage.SOURCE_CHECK, check.text, sources=check.sources, rule=check.rule, doubts=check.doubts)
            results += [Ending(step, check.fate)] if check.fate is not None else onward(step)
        return results

    def _not_local(self, way: Way, answer: Answer) -> list[Onward]:
        packet = way.packet
        results: list[Onward] = []
        if packet.version == 6:
            if answer.type in ERROR_FATES:
                return [Ending(way, ERROR_FATES[answer.type])]
            forwarding = self.settings.get("net.ipv6.conf.all.forwarding")
        else:
            forwarding = self.settings.of_interface("forwarding", packet.in_interface)
            if forwarding.number is None:
                forwarding = self.settings.get("net.ipv4.ip_forward")
        for value, doubts in forwarding.possible((0, 1)):
            mine = dataclasses.replace(way, doubts=(*way.doubts, *doubts))
            if not value:
                text = f"{packet.destination} is no address of this host, and it does not forward: dropped without a word (IpInAddrErrors)"
                results.append(Ending(mine.step(Stage.ROUTE, text, sources=forwarding.sources, rule=forwarding.text), Fate.NOT_FORWARDING))
            elif answer.type in ERROR_FATES:
                results.append(Ending(mine, ERROR_FATES[answer.type]))
            elif answer.type == "unknown":
                results.append(Ending(mine, Fate.UNKNOWN))
            else:
                results += self._forward(mine, answer)
        return results

    def _forward(self, way: Way, answer: Answer) -> list[Onward]:
        """net/ipv4/ip_forward.c ip_forward()."""
        if way.forced_socket is not None:
            return [Ending(way.step(Stage.ROUTE, "TPROXY gave it a socket, and no route brings it there: dropped"), Fate.DROPPED_BY_RULE)]
        results: list[Onward] = []
        for towards in _by_hop(way, answer):
            out = towards.packet.out_interface

            def onward(one: Way) -> list[Onward]:
                if one.packet.ttl is not None and one.packet.ttl <= 1:
                    return [Ending(one.step(Stage.ROUTE, "its TTL is used up: ICMP time exceeded"), Fate.TTL_EXPIRED)]
                # The TTL falls before the hook (net/ipv4/ip_forward.c ip_forward: ip_decrease_ttl).
                less = one.packet if one.packet.ttl is None else dataclasses.replace(one.packet, ttl=one.packet.ttl - 1)
                fewer = dataclasses.replace(one, packet=less)
                return self._each(self.netfilter.run("FORWARD", fewer), lambda passed: self._leave(passed, Fate.FORWARDED))

            results += self._checked(towards, out, onward)
        return results

    def _local_in(self, way: Way, depth: int) -> list[Onward]:
        return self._each(self.netfilter.run("INPUT", way), lambda one: self._hand_up(one, depth))

    def _hand_up(self, way: Way, depth: int) -> list[Onward]:
        """To the protocol: a tunnel, a socket, or the kernel itself."""
        packet = way.packet
        if packet.encapsulated is not None:
            return self._unwrap(way, depth)
        if self.is_answer:
            return [Ending(way.step(Stage.SOCKET, "reaches the program that asked"), Fate.ACCEPTED)]
        return list(deliver(way, self.host, self.settings))

    def _unwrap(self, way: Way, depth: int) -> list[Onward]:
        """net/ipv4/ip_tunnel.c ip_tunnel_lookup(): the inner packet arrives once more, by the tunnel device."""
        packet = way.packet
        if packet.encapsulated is None or depth >= DEEPEST:
            return [Ending(way.step(Stage.TUNNEL, f"more than {DEEPEST} tunnels within each other"), Fate.UNKNOWN)]
        found = find_tunnel(packet, self.host)
        if found.device is None:
            step = way.step(Stage.TUNNEL, found.text, sources=found.sources, doubts=found.doubts)
            return [Ending(step, Fate.UNKNOWN if found.doubts else Fate.NO_TUNNEL)]
        inner = dataclasses.replace(packet.encapsulated, in_interface=found.device, mark=packet.mark)
        fresh = Way(packet, way.steps, way.doubts)
        if inner.version != self.version:
            other = Engine(self.host, inner.version)
            return other._receive(fresh.step(Stage.TUNNEL, found.text, sources=found.sources, packet=inner), depth + 1)
        return self._receive(fresh.step(Stage.TUNNEL, found.text, sources=found.sources, packet=inner), depth + 1)

    # --- out

    def _send(self, way: Way) -> list[Onward]:
        """A packet of the host's own (net/ipv4/ip_output.c, route.c ip_route_output_key_hash_rcu())."""
        if not self.routing.own or way.packet.source in self.routing.own or way.packet.source.is_loopback:
            way = way.step(Stage.ARRIVAL, "sent by this host")
        else:
            way = way.step(Stage.ARRIVAL, f"sent by this host, although {way.packet.source} is none of its addresses")
        return self._each(self._unknown_rules(way), lambda one: self._each(self._route_out(one), self._out))

    def _reroute(self, way: Way) -> list[Onward]:
        """The second look-up after a rule of OUTPUT (net/ipv4/netfilter.c ip_route_me_harder), which names no uid."""
        return self._route_out(way, query_of(dataclasses.replace(way.packet, uid=0), in_interface=LOOPBACK))

    def _route_out(self, way: Way, query: Query | None = None) -> list[Onward]:
        packet = way.packet
        query = query or query_of(packet, in_interface=LOOPBACK, uid_known=packet.uid is not None)
        results: list[Onward] = []
        for answer in self.routing.lookup(query):
            routed = way.step(Stage.ROUTE, _route_text(answer, packet), sources=_sources(answer), rule=_rule(answer), doubts=answer.doubts)
            if answer.type in ERROR_FATES:
                results.append(Ending(routed, ERROR_FATES[answer.type]))
            elif answer.type == "unknown":
                results.append(Ending(routed, Fate.UNKNOWN))
            elif answer.type == "local" or (answer.type == "anycast" and packet.version == 6):
                moved = dataclasses.replace(routed.packet, out_interface=LOOPBACK)
                results.append(dataclasses.replace(routed, packet=moved, gateway=None, is_local=True))
            else:
                results += [self._source_in_order(one) for one in _by_hop(routed, answer)]
        return results

    def _source_in_order(self, way: Way) -> Onward:
        """A loopback address leaves by no other interface than lo (net/ipv4/route.c __mkroute_output: EINVAL)."""
        packet = way.packet
        if packet.version == 4 and packet.source.is_loopback:
            localnet = self.settings.either("route_localnet", packet.out_interface)
            if not localnet.number:
                text = f"{packet.source} may not leave by {packet.out_interface}: route_localnet is off there"
                return Ending(way.step(Stage.SOURCE_CHECK, text, sources=localnet.sources, rule=localnet.text), Fate.MARTIAN_SOURCE)
        return dataclasses.replace(way, is_local=False)

    def _out(self, way: Way) -> list[Onward]:
        return self._each(self.netfilter.run("OUTPUT", way, reroute=self._reroute), lambda one: self._leave(one, Fate.SENT))

    def _send_on(self, way: Way, how: str) -> list[Onward]:
        """What IPVS sends: routed, then OUTPUT and POSTROUTING, never FORWARD (ip_vs_xmit.c ip_vs_send_or_cont).

        A rule of OUTPUT that changes its mark has it routed anew, by its own destination: of DR that is the director's own address.
        """
        packet = way.packet
        towards = way.gateway if how == "DR" and way.gateway is not None else packet.destination
        query = Query(destination=towards, in_interface=LOOPBACK, mark=packet.mark, dscp=packet.dscp)
        results: list[Onward] = []
        for answer in self.routing.lookup(query):
            routed = way.step(Stage.ROUTE, _route_text(answer, packet), sources=_sources(answer), rule=_rule(answer), doubts=answer.doubts)
            if answer.type in ERROR_FATES:
                results.append(Ending(routed, ERROR_FATES[answer.type]))
                continue
            if answer.type == "unknown":
                results.append(Ending(routed, Fate.UNKNOWN))
                continue
            for one in _by_hop(routed, answer):
                if how == "TUN":
                    # The outside has the director's own address towards the real server (ip_vs_xmit.c __ip_vs_get_out_rt).
                    source = source_towards(self.host, packet.destination) or packet.source
                    one = dataclasses.replace(one, packet=dataclasses.replace(one.packet, source=source))
                sent = dataclasses.replace(one, destination_bound=True, is_balanced=True, is_local=False)
                passed = self.netfilter.run("OUTPUT", sent, on_loopback=True, reroute=self._reroute)
                results += self._each(passed, lambda through: self._leave(through, Fate.SENT))
        return results

    def _leave(self, way: Way, fate: Fate) -> list[Onward]:
        """POSTROUTING, and the wire; or lo, and in again."""
        return self._each(self.netfilter.run("POSTROUTING", way), lambda one: self._transmit(one, fate))

    def _transmit(self, way: Way, fate: Fate) -> list[Onward]:
        packet = way.packet
        if way.is_local:
            back = dataclasses.replace(packet, in_interface=LOOPBACK, out_interface="")
            looped = way.step(Stage.ARRIVAL, "comes back by lo", packet=back)
            # On lo the packet keeps its route: no lookup, no check of the source (ip_input.c ip_rcv_finish_core: skb_valid_dst).
            return self._each(self.netfilter.run("PREROUTING", looped, on_loopback=True), lambda one: self._local_in(one, 0))
        link = self.host.links.get(packet.out_interface) if self.host.links is not None else None
        if link is not None and not link.is_up:
            return [Ending(way.step(Stage.END, f"{packet.out_interface} is down", sources=(link.source,)), Fate.INTERFACE_DOWN)]
        hop = f" towards {way.gateway}" if way.gateway is not None else ""
        out = packet.out_interface
        seen = self._each(self.netfilter.run_device(out, "egress", way), lambda one: self._programs(one, out, "egress"))
        return self._each(seen, lambda one: [Ending(one.step(Stage.END, f"leaves by {out}{hop}"), fate)])

    @staticmethod
    def _each(onwards: Iterable[Onward], stage: Onwards) -> list[Onward]:
        """Takes what goes on through a stage; what has ended stays."""
        results: list[Onward] = []
        going = []
        for onward in onwards:
            if isinstance(onward, Ending):
                results.append(onward)
            else:
                going.append(onward)
        for way in bounded(going, results):
            results += stage(way)
        return results


def _by_hop(way: Way, answer: Answer) -> list[Way]:
    """One way for each next hop of a multipath route; the kernel chooses by a hash."""
    hops = answer.next_hops
    if not hops:
        return [way]
    found = []
    for hop in hops[:8]:
        doubts: tuple[Doubt, ...] = ()
        if len(hops) > 1 and answer.route is not None:
            chosen = f"{hop.gateway or 'on the link'} by {hop.interface}"
            doubts = (Doubt(answer.route.source, answer.route.text, "a hash chooses among the next hops", chosen),)
        packet = dataclasses.replace(way.packet, out_interface=hop.interface)
        gateway = ipaddress.ip_address(hop.gateway) if hop.gateway else None
        found.append(dataclasses.replace(way, packet=packet, gateway=gateway, doubts=(*way.doubts, *doubts)))
    return found


def _route_text(answer: Answer, packet: Packet) -> str:
    target = packet.destination
    if answer.type == "local":
        return f"{target} is this host's own"
    if answer.type == "unicast":
        ways = " or ".join(f"{hop.gateway + ' ' if hop.gateway else ''}by {hop.interface}" for hop in answer.next_hops)
        return f"routed {ways}"
    if answer.type == "none":
        return f"no route to {target}"
    if answer.type in ERRORS:
        return f"a route or rule of type {answer.type} for {target}"
    return f"{target}: {answer.type}"


def _sources(answer: Answer) -> tuple[Source, ...]:
    return tuple(part.source for part in (answer.rule, answer.route) if part is not None)


def _rule(answer: Answer) -> str:
    if answer.route is not None:
        return answer.route.text
    return answer.rule.text if answer.rule is not None else ""
