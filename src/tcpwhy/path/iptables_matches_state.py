"""Options of a match that looks at what the host knows, and a packet, go in; whether it matches comes out. One function a match."""

from __future__ import annotations

import dataclasses

from tcpwhy.path.answers import Answer, Unknown, all_of, any_of, negate
from tcpwhy.path.iptables_look import Look, is_in_network
from tcpwhy.path.iptables_values import masked, number, number_range
from tcpwhy.path.packet import Address, CtTuple
from tcpwhy.tables.ipset import contains
from tcpwhy.tables.ipset_entries import Asked
from tcpwhy.tables.iptables_ruleset import Option
from tcpwhy.tables.protocols import protocol_number


def _value(option: Option) -> str:
    return option.values[0] if option.values else ""


def _not_understood(option: Option) -> Unknown:
    return Unknown(f"`{' '.join(option.values)[:60]}` is no value of --{option.name[:40]} that is known")


def match_comment(_options: tuple[Option, ...], _look: Look) -> Answer:
    """xt_comment.c: always."""
    return True


def match_nfacct(_options: tuple[Option, ...], _look: Look) -> Answer:
    """xt_nfacct.c: counts, and always matches."""
    return True


def match_state(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_conntrack.c's alias `state` (xt_state.c)."""
    return all_of(negate(_ct_state(one, look), one.negated) for one in options)


def match_conntrack(options: tuple[Option, ...], look: Look) -> Answer:
    """net/netfilter/xt_conntrack.c conntrack_mt: the state first; a packet without entry matches when nothing but its state is asked."""
    states = [negate(_ct_state(one, look), one.negated) for one in options if one.name == "ctstate"]
    others = [one for one in options if one.name != "ctstate"]
    if look.has_no_entry:
        return all_of(states) if states else False
    return all_of([*states, *(negate(_conntrack(one, look), one.negated) for one in others)])


def _ct_state(option: Option, look: Look) -> Answer:
    packet = look.packet
    wanted = set(_value(option).upper().split(","))
    state = "UNTRACKED" if not packet.ct_is_tracked else packet.ct_state
    if state in wanted:
        return True
    if state is None:
        return Unknown("the packet's conntrack state is not known")
    if look.has_no_entry:
        return False
    return ("DNAT" in wanted and packet.ct_is_dnat) or ("SNAT" in wanted and packet.ct_is_snat)


def _original(look: Look) -> CtTuple | None:
    """The tuple of the first packet; of a new connection that nothing has translated yet, the packet's own."""
    packet = look.packet
    if packet.ct_original is None and packet.ct_state == "NEW" and not (packet.ct_is_dnat or packet.ct_is_snat):
        return CtTuple(packet.source, packet.source_port, packet.destination, packet.destination_port)
    return packet.ct_original


def _expected(look: Look) -> CtTuple | None:
    """The tuple of the answers that conntrack waits for: the opposite of a new connection's packet, as far as it was translated.

    net/netfilter/nf_nat_core.c nf_nat_setup_info: each translation alters the reply's tuple with the packet's own addresses.
    """
    packet = look.packet
    if packet.ct_state != "NEW" or packet.is_reply:
        return None
    return CtTuple(packet.destination, packet.destination_port, packet.source, packet.source_port)


def _conntrack(option: Option, look: Look) -> Answer:
    packet, name, value = look.packet, option.name, _value(option)
    if name == "ctdir":
        if packet.ct_state is None:
            return Unknown("the packet's direction in its connection is not known")
        return value.upper() == ("REPLY" if packet.is_reply else "ORIGINAL")
    if name == "ctproto":
        wanted = protocol_number(value)
        return _not_understood(option) if wanted is None else wanted == look.protocol
    if name == "ctstatus":
        return _ct_status(option, look)
    known = _original(look) if name.startswith("ctorig") else _expected(look) if name.startswith("ctrepl") else None
    if known is None or name[6:] not in ("src", "dst", "srcport", "dstport"):
        return Unknown("the connection's tuples are not known")
    if name.endswith("port"):
        port = known.source_port if name[6:] == "srcport" else known.destination_port
        bounds = number_range(value)
        if bounds is None:
            return _not_understood(option)
        return Unknown("the connection's ports are not known") if port is None else bounds[0] <= port <= bounds[1]
    return is_in_network(known.source if name[6:] == "src" else known.destination, value)


def _ct_status(option: Option, look: Look) -> Answer:
    """Of IPS_SEEN_REPLY and its like only what the state implies is known."""
    wanted = set(_value(option).upper().split(","))
    if look.packet.ct_state == "ESTABLISHED" and "SEEN_REPLY" in wanted:
        return True
    if look.packet.ct_state == "NEW" and wanted <= {"SEEN_REPLY", "ASSURED"}:
        return False
    return Unknown("the connection's status is not known")


def match_mark(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_mark.c mark_mt."""
    return all_of(negate(_mark(one, look.packet.mark), one.negated) for one in options)


def match_connmark(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_connmark.c connmark_mt: a packet without entry never matches."""
    if look.has_no_entry:
        return False
    mark = look.packet.ct_mark
    if mark is None:
        return Unknown("the connection's mark is not known")
    return all_of(negate(_mark(one, mark), one.negated) for one in options)


def _mark(option: Option, mark: int) -> Answer:
    wanted = masked(_value(option))
    return _not_understood(option) if wanted is None else mark & wanted[1] == wanted[0]


def match_owner(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_owner.c owner_mt: a packet without a socket of this host matches only where each test stands under `!`."""
    options = tuple(one for one in options if one.name != "suppl-groups")
    if not look.packet.is_from_here:
        return all(one.negated for one in options)
    return all_of(negate(_owner(one, look), one.negated) for one in options)


def _owner(option: Option, look: Look) -> Answer:
    packet, value = look.packet, _value(option)
    if option.name == "socket-exists":
        return True if packet.uid is not None else Unknown("whether a socket sends the packet is not known")
    owner = {"uid-owner": packet.uid, "gid-owner": packet.gid}.get(option.name)
    if owner is None:
        return Unknown(f"the {'user' if option.name == 'uid-owner' else 'group'} that sends the packet is not known")
    bounds = (0, 0) if value == "root" else number_range(value, "-", 0xFFFFFFFF)
    if bounds is None:
        return Unknown(f"the number of `{value[:40]}` is not known")
    return bounds[0] <= owner <= bounds[1]


def match_addrtype(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_addrtype.c addrtype_mt_v1."""
    packet = look.packet
    names = {one.name for one in options}
    interface = packet.in_interface if "limit-iface-in" in names else packet.out_interface if "limit-iface-out" in names else ""
    if names & {"limit-iface-in", "limit-iface-out"} and not interface:
        return Unknown("the interface to which the address types are limited is not known")
    sides = {"src-type": packet.source, "dst-type": packet.destination}
    return all_of(negate(_address_type(one, sides[one.name], interface, look), one.negated) for one in options if one.name in sides)


def _address_type(option: Option, address: Address, interface: str, look: Look) -> Answer:
    kind = look.around.address_type(address, interface)
    if kind is None:
        return Unknown(f"the routing tables do not tell the type of {address}")
    return kind.upper() in _value(option).upper().split(",")


def match_set(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_set.c set_match_v4; tests of an entry's counters cannot be told."""
    names = {one.name for one in options}
    answers: list[Answer] = [
        negate(_in_set(one, look, "return-nomatch" in names), one.negated) for one in options if one.name == "match-set"
    ]
    if any(name.startswith(("packets-", "bytes-")) for name in names):
        answers.append(Unknown("the counters of the set's entry change with every packet", is_chance=True))
    return all_of(answers)


def _in_set(option: Option, look: Look, is_exception: bool) -> Answer:
    packet = look.packet
    if len(option.values) != 2:
        return _not_understood(option)
    name, directions = option.values
    if name in look.changed_sets:
        return Unknown(f"a rule before has changed the set {name[:64]}")
    asked = Asked(
        tuple(directions.split(",")), packet.source, packet.destination, look.protocol, packet.source_port, packet.destination_port,
        (packet.icmp_type, packet.icmp_code) if packet.icmp_type is not None and packet.icmp_code is not None else None,
        packet.in_interface, packet.out_interface, packet.mark,
    )  # fmt: skip
    sets = look.around.host.ipsets
    found = contains(sets, name, asked, is_exception)
    if found is not None:
        return found
    if sets is None:
        return Unknown("ipset.txt was not collected")
    return Unknown(
        f"whether the packet is in the set {name[:64]} cannot be told" if name in sets.sets else f"ipset.txt has no set {name[:64]}"
    )


def match_rpfilter(options: tuple[Option, ...], look: Look) -> Answer:
    """net/ipv4/netfilter/ipt_rpfilter.c rpfilter_mt: loopback passes; the mark counts with --validmark only."""
    names = {one.name for one in options}
    packet = look.packet
    if packet.in_interface == "lo":
        passes: bool | None = True
    else:
        passes = look.around.reverse_path(packet if "validmark" in names else dataclasses.replace(packet, mark=0), "loose" in names)
        if passes is False and "accept-local" in names and look.around.address_type(packet.source, "") in ("LOCAL", None):
            passes = None
    return Unknown("the way back to the source cannot be told") if passes is None else passes != ("invert" in names)


def match_socket(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_socket.c socket_match: with --nowildcard only a socket on any address counts; whether it is transparent is not known."""
    names = {one.name for one in options}
    found = look.around.has_socket(look.packet)
    if found is None:
        return Unknown("sockets were not collected")
    if not found:
        return False
    if names & {"transparent", "restore-skmark"} or not ("nowildcard" in names or look.packet.is_established_socket):
        return Unknown("whether the socket is bound to one address, transparent, or marked is not known")
    return True


def match_pkttype(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_pkttype.c: by the frame's address, which for a unicast destination is taken to be the host's own."""
    destination = look.packet.destination
    kind: str | None = "multicast" if destination.is_multicast else None
    if kind is None:
        found = look.around.address_type(destination, "")
        kind = None if found is None else "broadcast" if found == "BROADCAST" else "unicast"
    if kind is None:
        return Unknown("whether the frame was broadcast is not known")
    return all_of(
        (_value(one).lower() in ({"unicast": "unicast", "host": "unicast"}.get(kind, kind), "host" if kind == "unicast" else kind))
        != one.negated
        for one in options
    )


def match_physdev(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_physdev.c physdev_mt: a packet that did not come over a bridge matches only where each test stands under `!`.

    One that came by a bridge interface may carry its port, so that tests of it cannot be told; it is not bridged, but delivered or routed.
    """
    interface = look.packet.in_interface
    if interface:
        links = look.around.host.links
        link = links.get(interface) if links is not None else None
        if link is None or link.kind == "bridge":
            return all_of(
                one.negated if one.name == "physdev-is-bridged" else Unknown("the port of the bridge is not known") for one in options
            )
    return all(one.negated for one in options)


def match_mac(_options: tuple[Option, ...], look: Look) -> Answer:
    """xt_mac.c mac_mt: only what comes over Ethernet has an address, and it is not known."""
    if not look.packet.in_interface or look.packet.in_interface == "lo":
        return False
    return Unknown("the sender's MAC address is not known")


def match_statistic(options: tuple[Option, ...], _look: Look) -> Answer:
    """xt_statistic.c: a probability of 1 is always, of 0 never, every 1st is always."""
    for one in options:
        text = _value(one)
        if one.name == "every" and number(text) == 1:
            return not one.negated
        if (
            one.name == "probability"
            and text.replace(".", "", 1).isdigit()
            and text.isascii()
            and len(text) < 32
            and float(text) in (0.0, 1.0)
        ):
            return (float(text) == 1.0) != one.negated
    return Unknown("it is decided by chance or a count", is_chance=True)


def match_recent(options: tuple[Option, ...], _look: Look) -> Answer:
    """xt_recent.c recent_mt: --set always matches; the list is not in the evidence."""
    for one in options:
        if one.name == "set":
            return not one.negated
    return Unknown("the list of recent addresses is not in the evidence", is_chance=True)


def match_devgroup(_options: tuple[Option, ...], _look: Look) -> Answer:
    """xt_devgroup.c."""
    return Unknown("the group of the interface is not in the evidence")


def _by_chance(_options: tuple[Option, ...], _look: Look) -> Answer:
    """It hangs on rates, counts or the time when the packet came."""
    return Unknown("it hangs on rates, counts or the time when the packet comes", is_chance=True)


match_limit = match_hashlimit = match_connlimit = match_quota = match_rateest = match_time = match_connbytes = match_cpu = _by_chance


def match_helper(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_helper.c: a packet without entry has no helper."""
    if look.has_no_entry:
        return any_of(one.negated for one in options)
    return Unknown("the connection's helper is not known")
