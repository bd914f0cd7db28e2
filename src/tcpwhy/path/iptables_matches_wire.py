"""Options of a match that looks at the packet itself, and a packet, go in; whether it matches comes out. One function a match."""

from __future__ import annotations

import functools

from tcpwhy.path.answers import Answer, Unknown, all_of, negate
from tcpwhy.path.iptables_look import Look
from tcpwhy.path.iptables_values import address_range, masked, number, number_range
from tcpwhy.tables.ipset_entries import PORT_PROTOCOLS
from tcpwhy.tables.iptables_ruleset import Option

MOST_PORTS = 15
"""Of multiport (XT_MULTI_PORTS)."""

_FLAGS = {"F": "FIN", "S": "SYN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG"}
_ALL_FLAGS = frozenset(_FLAGS.values())

ICMP_TYPES: dict[str, tuple[int, int | None]] = {
    "any": (255, None), "echo-reply": (0, None), "pong": (0, None), "destination-unreachable": (3, None), "network-unreachable": (3, 0),
    "host-unreachable": (3, 1), "protocol-unreachable": (3, 2), "port-unreachable": (3, 3), "fragmentation-needed": (3, 4),
    "source-route-failed": (3, 5), "network-unknown": (3, 6), "host-unknown": (3, 7), "network-prohibited": (3, 9),
    "host-prohibited": (3, 10), "tos-network-unreachable": (3, 11), "tos-host-unreachable": (3, 12), "communication-prohibited": (3, 13),
    "host-precedence-violation": (3, 14), "precedence-cutoff": (3, 15), "source-quench": (4, None), "redirect": (5, None),
    "network-redirect": (5, 0), "host-redirect": (5, 1), "tos-network-redirect": (5, 2), "tos-host-redirect": (5, 3),
    "echo-request": (8, None), "ping": (8, None), "router-advertisement": (9, None), "router-solicitation": (10, None),
    "time-exceeded": (11, None), "ttl-exceeded": (11, None), "ttl-zero-during-transit": (11, 0), "ttl-zero-during-reassembly": (11, 1),
    "parameter-problem": (12, None), "ip-header-bad": (12, 0), "required-option-missing": (12, 1), "timestamp-request": (13, None),
    "timestamp-reply": (14, None), "address-mask-request": (17, None), "address-mask-reply": (18, None),
}  # fmt: skip
"""iptables' extensions/libxt_icmp.h icmp_codes: type, and code where it is part of the name."""

ICMP6_TYPES: dict[str, tuple[int, int | None]] = {
    "destination-unreachable": (1, None), "no-route": (1, 0), "communication-prohibited": (1, 1), "beyond-scope": (1, 2),
    "address-unreachable": (1, 3), "port-unreachable": (1, 4), "failed-policy": (1, 5), "reject-route": (1, 6), "packet-too-big": (2, None),
    "time-exceeded": (3, None), "ttl-exceeded": (3, None), "ttl-zero-during-transit": (3, 0), "ttl-zero-during-reassembly": (3, 1),
    "parameter-problem": (4, None), "bad-header": (4, 0), "unknown-header-type": (4, 1), "unknown-option": (4, 2),
    "echo-request": (128, None), "ping": (128, None), "echo-reply": (129, None), "pong": (129, None), "mld-listener-query": (130, None),
    "mld-listener-report": (131, None), "mld-listener-done": (132, None), "mld-listener-reduction": (132, None),
    "router-solicitation": (133, None), "router-advertisement": (134, None), "neighbour-solicitation": (135, None),
    "neighbor-solicitation": (135, None), "neighbour-advertisement": (136, None), "neighbor-advertisement": (136, None),
    "redirect": (137, None),
}  # fmt: skip
"""The same, icmpv6_codes."""

DSCP_CLASSES = {
    "be": 0, "ef": 46, "va": 44, "le": 1, **{f"cs{n}": n * 8 for n in range(8)},
    **{f"af{n}{m}": n * 8 + m * 2 for n in range(1, 5) for m in range(1, 4)},
}  # fmt: skip
"""iptables' extensions/dscp_helper.c."""


def _value(option: Option) -> str:
    return option.values[0] if option.values else ""


def _no_number(option: Option) -> Unknown:
    return Unknown(f"`{' '.join(option.values)[:60]}` is no value of --{option.name[:40]} that is known")


def _in_range(value: int | None, option: Option, what: str, most: int = 65_535) -> Answer:
    bounds = number_range(_value(option), ":", most)
    if bounds is None:
        return _no_number(option)
    if bounds[0] <= 0 and bounds[1] >= most:
        return True
    return Unknown(f"the packet's {what} is not known") if value is None else bounds[0] <= value <= bounds[1]


def _ports(options: tuple[Option, ...], look: Look, *protocols: int) -> Answer:
    """Ports of one transport protocol; a packet of another does not match."""
    if look.protocol not in protocols:
        return False
    ports = {"sport": look.packet.source_port, "dport": look.packet.destination_port}
    return all_of(
        negate(_in_range(ports[one.name], one, "port"), one.negated) if one.name in ports else Unknown(f"--{one.name[:40]} cannot be told")
        for one in options
    )


def match_tcp(options: tuple[Option, ...], look: Look) -> Answer:
    """net/netfilter/xt_tcpudp.c tcp_mt."""
    if look.protocol != 6:
        return False
    ports = tuple(one for one in options if one.name in ("sport", "dport"))
    return all_of([_ports(ports, look, 6), *(_tcp_part(one, look) for one in options if one not in ports)])


def _tcp_part(option: Option, look: Look) -> Answer:
    if option.name == "syn":
        mask, wanted = frozenset({"FIN", "SYN", "RST", "ACK"}), frozenset({"SYN"})
    elif option.name == "tcp-flags" and len(option.values) == 2:
        mask, wanted = _flag_set(option.values[0]), _flag_set(option.values[1])
    else:
        return Unknown("the packet's TCP options are not known")
    if not (mask | wanted) <= _ALL_FLAGS:
        return _no_number(option)
    if look.packet.flags is None:
        return Unknown("the packet's TCP flags are not known")
    flags = {_FLAGS[letter] for letter in look.packet.flags if letter in _FLAGS}
    return ((flags & mask) == wanted) != option.negated


@functools.lru_cache(maxsize=1024)
def _flag_set(text: str) -> frozenset[str]:
    if text.upper() == "ALL":
        return _ALL_FLAGS
    return frozenset() if text.upper() == "NONE" else frozenset(text.upper().split(","))


def match_udp(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_tcpudp.c udp_mt."""
    return _ports(options, look, 17)


def match_udplite(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_tcpudp.c udp_mt, of protocol 136."""
    return _ports(options, look, 136)


def match_sctp(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_sctp.c sctp_mt; chunks are not known."""
    return _ports(options, look, 132)


def match_dccp(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_dccp.c dccp_mt; packet types are not known."""
    return _ports(options, look, 33)


def match_multiport(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_multiport.c multiport_mt: `--ports` is either end."""
    return all_of(negate(_multiport(one, look), one.negated) for one in options)


def _multiport(option: Option, look: Look) -> Answer:
    if look.protocol not in PORT_PROTOCOLS | {33}:
        return False
    packet = look.packet
    ends = {"sports": (packet.source_port,), "dports": (packet.destination_port,), "ports": (packet.source_port, packet.destination_port)}
    ports = ends.get(option.name)
    bounds = [number_range(part) for part in _value(option).split(",", MOST_PORTS)]
    if ports is None or None in bounds:
        return _no_number(option)
    if any(one is not None and one[0] <= port <= one[1] for one in bounds for port in ports if port is not None):
        return True
    return Unknown("the packet's port is not known") if None in ports else False


def match_icmp(options: tuple[Option, ...], look: Look) -> Answer:
    """net/ipv4/netfilter/ip_tables.c icmp_match: type 255 is any."""
    return False if look.protocol != 1 else all_of(negate(_icmp(one, look, ICMP_TYPES), one.negated) for one in options)


def match_icmp6(options: tuple[Option, ...], look: Look) -> Answer:
    """net/ipv6/netfilter/ip6_tables.c icmp6_match."""
    return False if look.protocol != 58 else all_of(negate(_icmp(one, look, ICMP6_TYPES), one.negated) for one in options)


def _icmp(option: Option, look: Look, names: dict[str, tuple[int, int | None]]) -> Answer:
    text = _value(option)
    kind, slash, code = text.partition("/")
    wanted = names.get(text.lower())
    if wanted is None:
        first, second = number(kind), number(code) if slash else None
        if first is None or (slash and second is None):
            return _no_number(option)
        wanted = (first, second)
    if wanted[0] == 255 and look.protocol == 1:
        return True
    if look.packet.icmp_type is None:
        return Unknown("the packet's ICMP type is not known")
    if look.packet.icmp_type != wanted[0] or wanted[1] is None:
        return look.packet.icmp_type == wanted[0]
    return Unknown("the packet's ICMP code is not known") if look.packet.icmp_code is None else look.packet.icmp_code == wanted[1]


def match_iprange(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_iprange.c."""
    return all_of(negate(_iprange(one, look), one.negated) for one in options)


def _iprange(option: Option, look: Look) -> Answer:
    bounds = address_range(_value(option))
    if bounds is None:
        return _no_number(option)
    address = look.packet.source if option.name == "src-range" else look.packet.destination
    return address.version == bounds[0].version and int(bounds[0]) <= int(address) <= int(bounds[1])


def match_length(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_length.c: of the whole IP packet."""
    return all_of(negate(_in_range(look.packet.length, one, "length"), one.negated) for one in options)


def _hops(options: tuple[Option, ...], look: Look) -> Answer:
    return all_of(negate(_hop(one, look), one.negated) for one in options)


def _hop(option: Option, look: Look) -> Answer:
    ttl, wanted = look.packet.ttl, number(_value(option))
    if wanted is None:
        return _no_number(option)
    if ttl is None:
        return Unknown("the packet's TTL is not known")
    return ttl < wanted if option.name.endswith("-lt") else ttl > wanted if option.name.endswith("-gt") else ttl == wanted


def match_ttl(options: tuple[Option, ...], look: Look) -> Answer:
    """net/netfilter/xt_hl.c ttl_mt."""
    return _hops(options, look)


def match_hl(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_hl.c hl_mt6."""
    return _hops(options, look)


def match_dscp(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_dscp.c dscp_mt."""
    return all_of(negate(_dscp(one, look), one.negated) for one in options)


def _dscp(option: Option, look: Look) -> Answer:
    text = _value(option)
    wanted = DSCP_CLASSES.get(text.lower()) if option.name == "dscp-class" else number(text)
    return _no_number(option) if wanted is None else look.packet.dscp == wanted


def match_tos(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_dscp.c tos_mt; the two ECN bits of the packet are not known."""
    return all_of(negate(_tos(one, look), one.negated) for one in options)


def _tos(option: Option, look: Look) -> Answer:
    wanted = masked(_value(option), 8)
    if wanted is None:
        return _no_number(option)
    value, mask = wanted
    if (look.packet.dscp << 2) & mask & 0xFC != value & 0xFC:
        return False
    return Unknown("the packet's ECN bits are not known") if mask & 3 else value & 3 == 0


def match_ecn(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_ecn.c: TCP's two flags are known with the flags, the IP field is not."""
    return all_of(_ecn(one, look) for one in options)


def _ecn(option: Option, look: Look) -> Answer:
    letter = {"ecn-tcp-cwr": "W", "ecn-tcp-ece": "E"}.get(option.name)
    if letter is None:
        return Unknown("the packet's ECN bits are not known")
    if look.protocol != 6:
        return False
    return Unknown("the packet's TCP flags are not known") if look.packet.flags is None else (letter in look.packet.flags) != option.negated


def match_tcpmss(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_tcpmss.c tcpmss_mt: a segment without the option matches only under `!`; SYNs have one, its value is not known."""
    if look.protocol != 6 or look.packet.flags is None or "S" in look.packet.flags:
        return Unknown("the packet's TCP options are not known")
    return all_of(one.negated for one in options)


def match_esp(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_esp.c: a packet of another protocol does not match."""
    return _header_of(look, 50, options)


def match_ah(options: tuple[Option, ...], look: Look) -> Answer:
    """ipt_ah.c, ip6t_ah.c."""
    return _header_of(look, 51, options)


def match_ipcomp(options: tuple[Option, ...], look: Look) -> Answer:
    """xt_ipcomp.c."""
    return _header_of(look, 108, options)


def match_mh(options: tuple[Option, ...], look: Look) -> Answer:
    """ip6t_mh.c."""
    return _header_of(look, 135, options)


def _header_of(look: Look, protocol: int, options: tuple[Option, ...]) -> Answer:
    if look.protocol != protocol:
        return False
    return Unknown("what the header holds is not known") if options else True


def _extension_header(_options: tuple[Option, ...], _look: Look) -> Answer:
    """A packet that is walked has no IPv6 extension header; a match that looks for one says no, also under `!` (ip6t_rt.c rt_mt6)."""
    return False


match_dst = match_hbh = match_rt = match_frag = match_srh = _extension_header
