"""A nat rule that turns packets to the host itself goes in; SYNs that should meet it come out, to be walked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tcpwhy.causes._rules import NamedRule, all_rules
from tcpwhy.path.packet import Address, Packet

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables

ANYWHERE = {4: ipaddress.ip_address("198.51.100.80"), 6: ipaddress.ip_address("2001:db8:ffff::80")}
"""A server of nobody's (RFC 5737, RFC 3849)."""

CLIENT = {4: ipaddress.ip_address("198.51.100.7"), 6: ipaddress.ip_address("2001:db8:ffff::7")}

EPHEMERAL = 40_000

MOST_PROBES = 12


def probes(host: HostTables, rule: NamedRule) -> list[tuple[str, Packet]]:
    """SYNs of the host's own and arriving ones, each with what it asks for; none for a rule that turns nothing."""
    if not _turns(rule):
        return []
    version = 6 if (rule.iptables is not None and "ip6tables" in rule.removal) or rule.table.startswith("ip6 ") else 4
    addresses, ports = _named_by(host, rule, version)
    found = []
    for ip in addresses or [ANYWHERE[version]]:
        for port in ports or [80]:
            shown = f"[{ip}]:{port}" if version == 6 else f"{ip}:{port}"
            if not addresses:
                shown = f"any address (port {port})" if ports else "any address and port"
            found += [(shown, packet) for packet in _packets(host, ip, port, version)]
    if not addresses:
        own = [one for one in (host.addresses.entries if host.addresses is not None else []) if _is_outward(one.ip, version)]
        for address in own[:2]:
            for port in ports or _served(host, address.ip):
                shown = f"[{address.ip}]:{port}" if version == 6 else f"{address.ip}:{port}"
                arriving = _syn(CLIENT[version], ipaddress.ip_address(address.ip), port, address.interface)
                found.append((shown, arriving))
    return found[:MOST_PROBES]


def _served(host: HostTables, ip: str) -> list[int]:
    """Ports on which programs of the host wait for others, but those to which rules turn: a proxy's own port is no service."""
    targets = {port for rule in all_rules(host) if _turns(rule) for port in _targets(rule)}
    listening = sorted({one.local_port for one in host.sockets.sockets if one.is_listener}) if host.sockets is not None else []
    served = [port for port in listening if port not in targets and host.sockets is not None and host.sockets.listeners_for(ip, port)]
    return served[:3]


def _targets(rule: NamedRule) -> list[int]:
    """The ports to which a rule turns."""
    if rule.iptables is not None:
        texts = [value.rpartition(":")[2] for option in rule.iptables.target_options for value in option.values]
    else:
        inner = [one.get("redirect") or one.get("dnat") for one in (rule.nft.expressions if rule.nft is not None else ())]
        texts = [str(value.get("port", "")) for value in inner if isinstance(value, dict)]
    return [number for text in texts for number in [_port(text)] if number is not None]


def _turns(rule: NamedRule) -> bool:
    if rule.iptables is not None:
        return rule.iptables.target in ("REDIRECT", "DNAT") and rule.table == "nat"
    return rule.nft is not None and any("redirect" in one or "dnat" in one for one in rule.nft.expressions)


def _packets(host: HostTables, ip: Address, port: int, version: int) -> Iterator[Packet]:
    entries = host.addresses.entries if host.addresses is not None else []
    outward = [one for one in entries if _is_outward(one.ip, version)]
    for one in outward[:1]:
        yield _syn(ipaddress.ip_address(one.ip), ip, port, "")
    for interface in dict.fromkeys(one.interface for one in outward if one.interface != "lo"):
        yield _syn(CLIENT[version], ip, port, interface)


def _is_outward(ip: str, version: int) -> bool:
    address = ipaddress.ip_address(ip)
    return address.version == version and not address.is_loopback and not address.is_link_local


def _syn(source: Address, destination: Address, port: int, interface: str) -> Packet:
    return Packet(protocol="tcp", source=source, destination=destination, source_port=EPHEMERAL, destination_port=port, flags="S",
                  in_interface=interface)  # fmt: skip


def _named_by(host: HostTables, rule: NamedRule, version: int) -> tuple[list[Address], list[int]]:
    """Destinations and ports that the rule, and those that lead to its chain, name."""
    chain = {rule.chain}
    leading = [rule]
    same = [other for other in all_rules(host) if other.table == rule.table and other.source.file == rule.source.file]
    for _ in range(4):
        callers = [other for other in same if _target(other) in chain and other not in leading]
        if not callers:
            break
        leading += callers[:16]
        chain |= {other.chain for other in callers}
    addresses: list[Address] = []
    ports: list[int] = []
    for one in leading:
        texts, numbers = _of_iptables(one) if one.iptables is not None else _of_nft(one)
        addresses += [address for text in texts for address in [_host_in(text, version)] if address is not None]
        ports += numbers
    return list(dict.fromkeys(addresses))[:3], list(dict.fromkeys(ports))[:3]


def _target(rule: NamedRule) -> str:
    if rule.iptables is not None:
        return rule.iptables.target or ""
    for one in rule.nft.expressions if rule.nft is not None else ():
        for word in ("jump", "goto"):
            inner = one.get(word)
            if isinstance(inner, dict):
                return str(inner.get("target", ""))
    return ""


def _of_iptables(rule: NamedRule) -> tuple[list[str], list[int]]:
    addresses: list[str] = []
    ports: list[int] = []
    for option in rule.iptables.options if rule.iptables is not None else ():
        if option.negated or not option.values:
            continue
        if option.name == "destination":
            addresses.append(option.values[0])
        elif option.name in ("dport", "dports", "destination-port", "destination-ports"):
            ports += [number for text in option.values[0].split(",")[:4] for number in [_port(text)] if number is not None]
    return addresses, ports


def _of_nft(rule: NamedRule) -> tuple[list[str], list[int]]:
    addresses: list[str] = []
    ports: list[int] = []
    for one in rule.nft.expressions if rule.nft is not None else ():
        match = one.get("match")
        if not isinstance(match, dict) or match.get("op") not in ("==", "in"):
            continue
        left = match.get("left")
        payload = left.get("payload") if isinstance(left, dict) else None
        field = payload.get("field") if isinstance(payload, dict) else None
        values = _values(match.get("right"))
        if field == "daddr":
            addresses += values
        elif field == "dport":
            ports += [number for text in values for number in [_port(text)] if number is not None]
    return addresses, ports


def _values(value: Any) -> list[str]:
    """The single values, or the first of ranges, of nft's right-hand side."""
    if isinstance(value, str | int):
        return [str(value)]
    if isinstance(value, list):
        return [text for inner in value[:4] for text in _values(inner)]
    if isinstance(value, dict):
        prefix, set_, range_ = value.get("prefix"), value.get("set"), value.get("range")
        if isinstance(prefix, dict):
            return [f"{prefix.get('addr')}/{prefix.get('len')}"]
        if isinstance(set_, list):
            return _values(set_)
        if isinstance(range_, list) and range_:
            return _values(range_[0])
    return []


def _port(text: str) -> int | None:
    first = text.replace("-", ":").split(":")[0]
    return int(first) if first.isascii() and first.isdigit() and len(first) < 6 and 0 < int(first) < 65536 else None


def _host_in(text: str, version: int) -> Address | None:
    """An address of the network that the rule names: its only one, or its first that a host may have."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if network.version != version or network.prefixlen == 0:
        return None
    return network.network_address if network.num_addresses <= 2 else network.network_address + 1
