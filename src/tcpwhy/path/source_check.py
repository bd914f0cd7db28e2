"""A packet that came in by an interface goes in; whether the kernel believes its source comes out (rp_filter and martians)."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.routing import LOOPBACK, Query, Routing
from tcpwhy.path.settings import Settings, Value
from tcpwhy.path.trace import Doubt, Fate


@dataclasses.dataclass(frozen=True, slots=True)
class SourceCheck:
    """One outcome of the check."""

    fate: Fate | None
    """None: the packet passes."""
    text: str
    rule: str
    sources: tuple[Source, ...]
    doubts: tuple[Doubt, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Reverse:
    """What the route back says, before any setting: the parts of __fib_validate_source that need no value of rp_filter."""

    is_invalid: bool
    """The way back ends in the host itself, or in a broadcast: EINVAL."""
    uses_interface: bool
    has_route: bool
    text: str
    sources: tuple[Source, ...]
    rule: str
    doubts: tuple[Doubt, ...]


def check_source(packet: Packet, routing: Routing, settings: Settings, out_interface: str) -> list[SourceCheck]:
    """net/ipv4/fib_frontend.c fib_validate_source() and __fib_validate_source(), for every value that the settings may have.

    `out_interface` is empty for local delivery, else the interface by which the packet would be forwarded.
    """
    interface = packet.in_interface
    if packet.is_established_socket:
        text = f"{packet.source} belongs to an established socket: early demux takes its packets past the reverse-path check"
        return [SourceCheck(None, text, "", ())]
    effective = settings.maximum("rp_filter", interface)
    outcomes: list[SourceCheck] = []
    for value, doubts in effective.possible((0, 1, 2)):
        outcomes += _with_value(packet, routing, settings, out_interface, value, effective, doubts)
    return _merged(outcomes)


def _with_value(
    packet: Packet, routing: Routing, settings: Settings, out_interface: str, rpf: int, effective: Value, doubts: tuple[Doubt, ...]
) -> list[SourceCheck]:
    interface = packet.in_interface
    accept_local = settings.either("accept_local", interface)
    is_custom = routing.has_custom_rules or routing.has_custom_local_routes
    redirects = out_interface == interface and settings.either("send_redirects", interface).number != 0
    if rpf == 0 and not redirects:
        if accept_local.number:
            return [SourceCheck(None, "accept_local lets any source pass", accept_local.text, accept_local.sources, doubts)]
        if not is_custom and packet.source in routing.own:
            text = f"the source {packet.source} is an address of this host, and accept_local is off on {interface}"
            return [SourceCheck(Fate.MARTIAN_SOURCE, text, accept_local.text, accept_local.sources, doubts)]
        if not is_custom:
            text = f"rp_filter is 0 for {interface}: any source passes"
            return [SourceCheck(None, text, effective.text, effective.sources, doubts)]
    outcomes = []
    for reverse in _reverse(packet, routing, settings, out_interface):
        mine = (*doubts, *reverse.doubts)
        sources = (*effective.sources, *reverse.sources)
        if reverse.is_invalid:
            outcomes.append(SourceCheck(Fate.MARTIAN_SOURCE, reverse.text, reverse.rule, sources, mine))
        elif reverse.uses_interface:
            outcomes.append(SourceCheck(None, reverse.text, reverse.rule, sources, mine))
        elif rpf == 0:
            text = f"{reverse.text}; rp_filter is 0 for {interface}, so that it passes"
            outcomes.append(SourceCheck(None, text, effective.text, sources, mine))
        else:
            outcomes += _unlike(packet, routing, rpf, effective, reverse, sources, mine)
    return outcomes


def _unlike(
    packet: Packet, routing: Routing, rpf: int, effective: Value, reverse: _Reverse, sources: tuple[Source, ...], doubts: tuple[Doubt, ...]
) -> list[SourceCheck]:
    """The route back does not use the interface, and the check is on."""
    interface = packet.in_interface
    counted = effective.text
    if not reverse.has_route:
        text = f"{reverse.text}, and rp_filter is {rpf} for {interface}: dropped without a word"
        return [SourceCheck(Fate.REVERSE_PATH, text, counted, sources, doubts)]
    if rpf == 1:
        text = f"{reverse.text}, and rp_filter is 1 (strict) for {interface}: dropped without a word"
        return [SourceCheck(Fate.REVERSE_PATH, text, counted, sources, doubts)]
    addresses = routing.host.addresses
    if addresses is None:
        doubt = Doubt(None, "ip-addr.json", f"whether {interface} has an IPv4 address was not collected", "it has one")
        dropped = f"{interface} without an IPv4 address drops it even with rp_filter 2"
        return [
            SourceCheck(None, f"{reverse.text}; rp_filter 2 (loose) lets it pass", counted, sources, (*doubts, doubt)),
            SourceCheck(Fate.REVERSE_PATH, dropped, counted, sources, (*doubts, dataclasses.replace(doubt, assumed="it has none"))),
        ]
    if not addresses.of_interface(interface, 4):
        text = (
            f"{reverse.text}, and {interface} has no IPv4 address: with rp_filter {rpf} the kernel does not even look loosely, "
            "it drops the packet without a word"
        )
        return [SourceCheck(Fate.REVERSE_PATH, text, counted, sources, doubts)]
    return [SourceCheck(None, f"{reverse.text}; rp_filter {rpf} (loose) is content with any route back", counted, sources, doubts)]


def _reverse(packet: Packet, routing: Routing, settings: Settings, out_interface: str) -> list[_Reverse]:
    """The lookup of the source: as a packet that came by the outgoing interface, or by lo for local delivery, of the root's uid."""
    interface = packet.in_interface
    valid_mark = settings.either("src_valid_mark", interface)
    accept_local = settings.either("accept_local", interface)
    marks = {packet.mark if value else 0 for value, _ in valid_mark.possible((0, 1))}
    found = []
    for mark in sorted(marks):
        query = Query(
            destination=packet.source,
            source=packet.destination,
            in_interface=out_interface or LOOPBACK,
            uid=0,
            mark=mark,
            dscp=packet.dscp,
            protocol=packet.protocol,
            source_port=packet.destination_port,
            destination_port=packet.source_port,
        )
        marked: tuple[Doubt, ...] = ()
        if len(marks) > 1:
            marked = (Doubt(None, "src_valid_mark", "it was not collected", f"the mark counts as {mark:#x}"),)
        for answer in routing.lookup(query):
            doubts = (*marked, *answer.doubts)
            route = answer.route
            sources = () if route is None else (route.source,)
            rule = "" if route is None else route.text
            if answer.type == "unknown":
                found += [
                    _Reverse(False, True, True, f"a route back to {packet.source} by {interface} is taken to exist", sources, rule, doubts),
                    _Reverse(False, False, True, f"a route back to {packet.source} by another interface is taken to exist", sources, rule,
                             doubts),
                ]  # fmt: skip
                continue
            if answer.type in ("none", "blackhole", "unreachable", "prohibit"):
                text = f"there is no route back to {packet.source}"
                found.append(_Reverse(False, False, False, text, sources, rule, doubts))
                continue
            if answer.type != "unicast" and not (answer.type == "local" and accept_local.number):
                text = f"the source {packet.source} is {_kind(answer.type)} to this host"
                found.append(_Reverse(True, False, True, text, sources, rule, doubts))
                continue
            ways = sorted({hop.interface for hop in answer.next_hops})
            uses = answer.uses(interface) or (answer.type == "local" and interface == LOOPBACK)
            text = f"the route back to {packet.source} " + (
                f"uses {interface}" if uses else f"is by {' or '.join(ways) or answer.type}, not by {interface}"
            )
            found.append(_Reverse(False, uses, True, text, sources, rule, doubts))
    return found


def _kind(type_: str) -> str:
    return {"local": "an own address", "broadcast": "a broadcast address", "multicast": "a multicast address"}.get(type_, type_)


def _merged(outcomes: list[SourceCheck]) -> list[SourceCheck]:
    """One outcome where all agree; then what was doubted changes nothing."""
    if len({outcome.fate for outcome in outcomes}) == 1:
        return [dataclasses.replace(outcomes[0], doubts=())] if len(outcomes) > 1 else outcomes
    seen: dict[tuple[Fate | None, str], SourceCheck] = {}
    for outcome in outcomes:
        seen.setdefault((outcome.fate, outcome.text), outcome)
    return list(seen.values())


def martian(packet: Packet, settings: Settings) -> SourceCheck | None:
    """Addresses that no packet from outside may have (net/ipv4/route.c ip_route_input_slow); None where they are in order."""
    source, destination, interface = packet.source, packet.destination, packet.in_interface
    if interface == LOOPBACK:
        return None
    if source.is_multicast or (packet.version == 4 and int(source) in (0, 0xFFFFFFFF) and not (int(source) == int(destination) == 0)):
        # Since Linux 5.3 only 0.0.0.0 itself of 0/8 (include/linux/in.h ipv4_is_zeronet).
        return SourceCheck(Fate.MARTIAN_SOURCE, f"{source} cannot be a source", "", ())
    if packet.version == 4 and int(destination) == 0 and int(source) != 0:
        return SourceCheck(Fate.MARTIAN_DESTINATION, f"{destination} cannot be a destination", "", ())
    for address, fate in ((destination, Fate.MARTIAN_DESTINATION), (source, Fate.MARTIAN_SOURCE)):
        if address.is_loopback:
            outcome = _loopback(address, fate, packet, settings)
            if outcome is not None:
                return outcome
    return None


def _loopback(address: Address, fate: Fate, packet: Packet, settings: Settings) -> SourceCheck | None:
    interface = packet.in_interface
    if packet.version == 6:
        return SourceCheck(fate, f"{address} may not come by {interface}", "", ())
    localnet = settings.either("route_localnet", interface)
    if localnet.number:
        return None
    doubts: tuple[Doubt, ...] = ()
    if localnet.number is None:
        doubts = (Doubt(None, "net.ipv4.conf.*.route_localnet", "it was not collected", "0, the kernel's default"),)
    text = f"{address} came by {interface}, and route_localnet is off there: dropped without a word"
    return SourceCheck(fate, text, localnet.text, localnet.sources, doubts)
