"""A host's tables and a proposed change go in; the tables as they would be come out, for a walk that proves a remedy or refutes it."""

from __future__ import annotations

import copy
import dataclasses
import ipaddress
import re
from collections.abc import Sequence

from tcpwhy.evidence import EvidenceError, Source
from tcpwhy.tables.addresses import Address, Addresses
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.iptables import Chain, Iptables
from tcpwhy.tables.nft import Nft
from tcpwhy.tables.routes import NextHop, Route, Routes
from tcpwhy.tables.sysctls import Setting, Sysctls

PROPOSED = "(proposed)"
"""Stands for a file where a step rests on a change that was proposed."""

EXPECTED = (
    "`sysctl KEY=VALUE`, `address IP/PREFIX dev IFACE`, `iptables … -D …`, `nft delete rule …`, or `without RULE`: "
    "its text, FILE:LINE, or nft's `FAMILY TABLE CHAIN handle N`"
)


_SYSCTL = re.compile(r"(?:sysctl\s+)(?:-w\s+)?([A-Za-z0-9_./:@-]{3,120})\s*=\s*([^\n]{1,80})", re.ASCII)
_ADDRESS = re.compile(r"(?:ip\s+)?addr(?:ess)?\s+(?:add\s+)?([0-9a-fA-F:.]{2,45})(?:/(\d{1,3}))?\s+dev\s+(\S{1,15})", re.ASCII)
_WITHOUT = re.compile(r"without\s+(.{1,2000})", re.DOTALL)
_DELETION = re.compile(r"ip6?tables\s+(?:-w\s+)?(?:-t\s+\S+\s+)?(?:-D|--delete)\s|nft\s+delete\s+rule\s", re.ASCII)
"""The commands that reports print to remove a rule; they can be tried as they stand."""

_HANDLE = re.compile(r"(?:(\w+)\s+(\S+)\s+(\S+)\s+)?handle\s+(\d{1,12})", re.ASCII)


def with_changes(host: HostTables, changes: Sequence[str]) -> HostTables:
    """The host after these changes, in this order. The host itself stays as it is. Raises EvidenceError for a change that cannot be read.

    A rule that is to go must be there: EvidenceError says so where it is not.
    """
    changed = copy.copy(host)
    for change in changes:
        text = change.strip()
        if found := _SYSCTL.fullmatch(text):
            _set(changed, found.group(1), found.group(2).strip())
        elif found := _ADDRESS.fullmatch(text):
            _add_address(changed, found.group(1), found.group(2), found.group(3), text)
        elif found := _WITHOUT.fullmatch(text):
            _remove(changed, found.group(1).strip())
        elif _DELETION.match(text):
            _remove(changed, text)
        else:
            raise EvidenceError("change", f"read `{text[:200]}`, expected {EXPECTED}")
    return changed


def unlisted_settings(host: HostTables, changes: Sequence[str]) -> list[str]:
    """The keys that changes set and that were not collected of the host, although settings were: misspelt, or of no such interface."""
    if host.sysctls is None:
        return []
    keys = [_canonical(found.group(1)) for change in changes if (found := _SYSCTL.fullmatch(change.strip()))]
    return [key for key in keys if key not in host.sysctls.settings and key not in host.sysctls.unreadable]


def _set(host: HostTables, key: str, value: str) -> None:
    """One key; the forwarding switches reach every interface (net/ipv4/devinet.c inet_forward_change)."""
    key = _canonical(key)
    settings = dict(host.sysctls.settings) if host.sysctls is not None else {}
    source = Source(host.name, PROPOSED)
    settings[key] = Setting(key, value, source)
    if key in ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"):
        for other in [*settings, "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"]:
            if re.fullmatch(r"net\.ipv4\.(ip_forward|conf\.[^.]+\.forwarding)", other):
                settings[other] = Setting(other, value, source)
    host.__dict__["sysctls"] = dataclasses.replace(host.sysctls or Sysctls(), settings=settings)


def _canonical(key: str) -> str:
    """Dots between the parts, slashes within an interface's name; a key written with slashes is turned round (sysctl.d(5))."""
    if "/" in key and ("." not in key or key.index("/") < key.index(".")):
        key = key.translate(str.maketrans("./", "/."))
    found = re.fullmatch(r"(net\.ipv[46]\.(?:conf|neigh))\.(.+)\.([^.]+)", key)
    return f"{found.group(1)}.{found.group(2).replace('.', '/')}.{found.group(3)}" if found else key


def _add_address(host: HostTables, ip: str, prefix: str | None, interface: str, text: str) -> None:
    try:
        address = ipaddress.ip_address(ip)
        network = ipaddress.ip_network(f"{ip}/{prefix or address.max_prefixlen}", strict=False)
    except ValueError:
        raise EvidenceError("change", f"read `{text}`, expected an address with a prefix length") from None
    source = Source(host.name, PROPOSED)
    scope = "host" if interface == "lo" and address.is_loopback else "global"
    entry = Address(source, interface, str(address), network.prefixlen, scope, False, None, "", frozenset())
    before = host.addresses.entries if host.addresses is not None else []
    host.__dict__["addresses"] = dataclasses.replace(host.addresses or Addresses(), entries=[*before, entry])
    name = "routes" if address.version == 4 else "routes6"
    routes: Routes | None = getattr(host, name)
    if routes is None:
        return
    whole = ipaddress.ip_network(f"{ip}/{address.max_prefixlen}")
    made = [_route(source, f"local {address} dev {interface}", "local", "local", whole, interface)]
    if network.prefixlen < address.max_prefixlen:
        made.append(_route(source, f"{network} dev {interface}", "main", "unicast", network, interface))
    host.__dict__[name] = dataclasses.replace(routes, routes=[*routes.routes, *made])


def _route(
    source: Source, text: str, table: str, type_: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network, interface: str
) -> Route:
    return Route(
        source=source,
        text=text,
        table=table,
        type=type_,
        destination=network,
        next_hops=(NextHop(None, interface, 1, frozenset()),),
        preferred_source=None,
        metric=0,
        scope="host" if type_ == "local" else "link",
        tos=0,
    )


def _remove(host: HostTables, wanted: str) -> None:
    """Every rule that the words name: by FILE:LINE, by its text, or by nft's handle."""
    removed = 0
    for name in ("iptables", "ip6tables"):
        rulesets: tuple[Iptables, ...] | None = getattr(host, name)
        if rulesets is None:
            continue
        kept = [_without(ruleset, wanted) for ruleset in rulesets]
        removed += sum(count for _, count in kept)
        host.__dict__[name] = tuple(ruleset for ruleset, _ in kept)
    if host.nft is not None:
        nft, count = _without_nft(host.nft, wanted)
        removed += count
        host.__dict__["nft"] = nft
    if not removed:
        raise EvidenceError("without", f"no rule is `{wanted[:200]}`, expected its text, FILE:LINE, or `FAMILY TABLE CHAIN handle N`")


def _is_at(source: Source, wanted: str) -> bool:
    path, _, line = wanted.rpartition(":")
    return bool(path) and line == str(source.line) and (source.file == path or source.file.endswith(f"/{path}"))


def _without(ruleset: Iptables, wanted: str) -> tuple[Iptables, int]:
    words = re.sub(r"^ip6?tables\s+(-w\s+)?", "", wanted)
    table = ""
    if found := re.match(r"-t\s+(\S+)\s+", words):
        table, words = found.group(1), words[found.end() :]
    words = re.sub(r"^(-D|--delete)\b", "-A", words)
    count = 0
    tables: dict[str, dict[str, Chain]] = {}
    for table_name, chains in ruleset.tables.items():
        tables[table_name] = {}
        for chain_name, chain in chains.items():
            kept = [
                rule for rule in chain.rules if not _is_at(rule.source, wanted) and not (rule.text == words and table in ("", table_name))
            ]
            count += len(chain.rules) - len(kept)
            tables[table_name][chain_name] = dataclasses.replace(chain, rules=kept)
    return dataclasses.replace(ruleset, tables=tables), count


def _without_nft(nft: Nft, wanted: str) -> tuple[Nft, int]:
    found = _HANDLE.fullmatch(wanted.removeprefix("nft delete rule "))
    count = 0
    chains = {}
    for key, chain in nft.chains.items():
        kept = []
        for rule in chain.rules:
            by_handle = found is not None and rule.handle == int(found.group(4)) and (not found.group(1) or found.groups()[:3] == key)
            is_it = by_handle or rule.text == wanted or (rule.handle is None and _is_at(rule.source, wanted))
            if is_it:
                count += 1
            else:
                kept.append(rule)
        chains[key] = dataclasses.replace(chain, rules=kept)
    return dataclasses.replace(nft, chains=chains), count
