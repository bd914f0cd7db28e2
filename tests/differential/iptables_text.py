"""A source of chance goes in; a random ruleset for iptables-restore comes out."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from tests.differential import places
from tests.differential.configuration import WIRES

HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
WITH_IN = frozenset({"PREROUTING", "INPUT", "FORWARD"})
WITH_OUT = frozenset({"FORWARD", "OUTPUT", "POSTROUTING"})
WITH_OWNER = frozenset({"OUTPUT", "POSTROUTING"})
SETS = """create nets hash:net
add nets 10.1.0.0/24
add nets 10.12.0.0/16
add nets 10.12.128.0/17 nomatch
create hosts hash:ip
add hosts 10.1.0.77
add hosts 10.9.0.1
create pairs hash:ip,port
add pairs 10.1.0.1,tcp:80
add pairs 10.2.0.77,tcp:443
create ports bitmap:port range 0-65535
add ports 22-80
"""
"""Address sets that rules may ask for, for `ipset restore`."""
MATCH_SETS = ("nets src", "nets dst", "hosts src", "hosts dst", "pairs dst,dst", "ports dst")
REJECTS = (
    "icmp-port-unreachable", "icmp-host-unreachable", "icmp-net-unreachable", "icmp-proto-unreachable", "icmp-net-prohibited",
    "icmp-host-prohibited", "icmp-admin-prohibited",
)  # fmt: skip
MULTIPORT = ("--dports", "--dports", "--ports")
COMMENTS = ('"plain"', '"a -j DROP in words"', '"it\'s \\"quoted\\""', '"--dport 80 -j ACCEPT"')


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A chain, and the hooks from which it can be reached."""

    table: str
    name: str
    hooks: frozenset[str]


def random_iptables(chance: random.Random) -> str:
    """A ruleset of one to four tables."""
    shares = {"raw": 0.2, "mangle": 0.35, "nat": 0.6, "filter": 0.85}
    tables = [table for table, share in shares.items() if chance.random() < share] or ["filter"]
    return "".join(_table(chance, table) for table in tables)


def _table(chance: random.Random, table: str) -> str:
    hooks = HOOKS[table]
    lines = [f"*{table}"]
    for hook in hooks:
        policy = "DROP" if table == "filter" and chance.random() < 0.08 else "ACCEPT"
        lines.append(f":{hook} {policy} [0:0]")
    users = []
    for number in range(chance.choice((0, 1, 2, 3))):
        reach = frozenset(hooks) if chance.random() < 0.4 else frozenset({chance.choice(hooks)})
        users.append(Place(table, f"{chance.choice(('KUBE', 'user', 'ISTIO'))}-{number}", reach))
    lines += [f":{user.name} - [0:0]" for user in users]
    for hook in hooks:
        place = Place(table, hook, frozenset({hook}))
        lines += [_rule(chance, place, users) for _ in range(chance.choice((0, 1, 2, 3, 4)))]
    for number, user in enumerate(users):
        lines += [_rule(chance, user, users[number + 1 :]) for _ in range(chance.choice((0, 1, 2, 3)))]
    return "\n".join([*lines, "COMMIT", ""])


def _rule(chance: random.Random, place: Place, below: list[Place]) -> str:
    target, needs = _target(chance, place, below)
    protocol = needs or chance.choices(("tcp", "udp", "", "! udp"), (5, 0.5, 4, 0.5))[0]
    words = [f"-A {place.name}"]
    if protocol.startswith("!"):
        words.append("! -p udp")
    elif protocol:
        words.append(f"-p {protocol}")
    builders: list[Callable[[], str]] = [
        lambda: _negated(chance, f"-s {chance.choice(places.NETWORKS)}"),
        lambda: _negated(chance, f"-d {chance.choice(places.NETWORKS)}"),
        lambda: f"-m mark {_negated(chance, f'--mark {_masked(chance)}')}",
        lambda: f"-m comment --comment {chance.choice(COMMENTS)}",
        lambda: f"-m set {_negated(chance, f'--match-set {chance.choice(MATCH_SETS)}')}",
        lambda: f"-m addrtype {_negated(chance, f'--dst-type {_type(chance)}')}",
        lambda: f"-m addrtype {_negated(chance, f'--src-type {_type(chance)}')}",
        lambda: f"-m iprange {_negated(chance, '--src-range 10.1.0.70-10.1.0.140')}",
        lambda: f"-m iprange {_negated(chance, '--dst-range 10.9.0.1-10.11.0.100')}",
        lambda: f"-m ttl {chance.choice(('--ttl-eq 64', '--ttl-lt 64', '--ttl-gt 2'))}",
        lambda: f"-m dscp {_negated(chance, f'--dscp {chance.choice((0, 8, 46)):#04x}')}",
    ]
    if place.hooks <= WITH_IN:
        builders += [lambda: _negated(chance, f"-i {chance.choice((*WIRES, 'eth+', 'lo', 'wlan0'))}")] * 2
    if place.hooks <= WITH_OUT:
        builders += [lambda: _negated(chance, f"-o {chance.choice((*WIRES, 'eth+', 'lo'))}")] * 2
    if place.table != "raw":
        builders += [lambda: _conntrack(chance)] * 2
        builders.append(lambda: f"-m connmark {_negated(chance, f'--mark {_masked(chance)}')}")
    if place.hooks <= WITH_OWNER:
        builders += [lambda: f"-m owner {_negated(chance, '--uid-owner ' + chance.choice(('0', '1337', '1000-2000')))}"] * 2
    if place.hooks == {"PREROUTING"} and place.table in ("raw", "mangle"):
        builders.append(lambda: "-m socket" + chance.choice(("", " --transparent", " --nowildcard")))
        builders.append(lambda: "-m rpfilter" + chance.choice(("", " --loose", " --invert", " --validmark")))
    if protocol in ("tcp", "udp"):
        builders += [lambda: _ports(chance, protocol)] * 6
    if protocol == "tcp":
        builders.append(lambda: f"-m tcp {_negated(chance, '--tcp-flags FIN,SYN,RST,ACK SYN')}")
    chosen = [build() for build in chance.sample(builders, chance.choice((0, 1, 1, 2, 2, 3)))]
    # an option of the rule itself may stand once (xshared.c): the first of a kind stays
    seen: set[str] = set()
    for text in chosen:
        kind = text.removeprefix("! ").split()[0]
        key = kind if kind != "-m" else text.split()[1]
        if key not in seen:
            words.append(text)
            seen.add(key)
    return " ".join([*words, target]).rstrip()


def _negated(chance: random.Random, text: str) -> str:
    return f"! {text}" if chance.random() < 0.2 and "0.0.0.0/0" not in text else text


def _masked(chance: random.Random) -> str:
    return f"{chance.choice((0, *places.MARKS)):#x}" + chance.choice(("", "", "/0x1", "/0xff", "/0x4000"))


def _type(chance: random.Random) -> str:
    return chance.choice(("LOCAL", "LOCAL", "LOCAL", "UNICAST", "UNICAST,LOCAL", "BROADCAST", "BLACKHOLE", "PROHIBIT"))


def _ports(chance: random.Random, protocol: str) -> str:
    first, second = sorted(chance.sample(places.PORTS, 2))
    roll = chance.random()
    if roll < 0.55:
        ports = chance.choice((f"{first}", f"{first}:{second}", f":{second}", f"{first}:"))
        return f"-m {protocol} {_negated(chance, f'--dport {ports}')}"
    if roll < 0.65:
        return f"-m {protocol} {_negated(chance, '--sport 20000:20020')}"
    many = f"{first},{second}" if chance.random() < 0.5 else f"{first}:{first + 100},{second}"
    return f"-m multiport {_negated(chance, f'{chance.choice(MULTIPORT)} {many}')}"


def _conntrack(chance: random.Random) -> str:
    roll = chance.random()
    if roll < 0.5:
        states = chance.choice(("NEW", "NEW", "RELATED,ESTABLISHED", "INVALID", "NEW,INVALID", "UNTRACKED", "DNAT", "SNAT"))
        return f"-m conntrack {_negated(chance, f'--ctstate {states}')}"
    if roll < 0.6:
        return f"-m state --state {chance.choice(('NEW', 'ESTABLISHED,RELATED', 'INVALID,UNTRACKED'))}"
    option = chance.choice(
        (
            f"--ctorigdst {chance.choice(places.NETWORKS)}",
            f"--ctorigsrc {chance.choice(places.NETWORKS)}",
            f"--ctorigdstport {chance.choice(places.PORTS)}",
            f"--ctreplsrc {chance.choice(places.NETWORKS)}",
            "--ctproto tcp",
            "--ctdir ORIGINAL",
            "--ctdir REPLY",
            "--ctstatus NONE",
            "--ctstatus SEEN_REPLY,ASSURED",
        )
    )
    return f"-m conntrack {option if option.startswith('--ctdir') else _negated(chance, option)}"


def _target(chance: random.Random, place: Place, below: list[Place]) -> tuple[str, str]:
    """The target's words, and the protocol that it needs."""
    reachable = [user for user in below if place.hooks <= user.hooks]
    roll = chance.random()
    if reachable and roll < 0.3:
        return f"{chance.choices(('-j', '-g'), (4, 1))[0]} {chance.choice(reachable).name}", ""
    if roll < 0.38:
        return "-j RETURN", ""
    if roll < 0.45:
        return chance.choice(("", "", "-j LOG")), ""
    if roll < 0.55:
        return "-j ACCEPT", ""
    return {"raw": _of_raw, "mangle": _of_mangle, "nat": _of_nat, "filter": _of_filter}[place.table](chance, place)


def _of_raw(chance: random.Random, place: Place) -> tuple[str, str]:
    return ("-j CT --notrack" if chance.random() < 0.7 else "-j DROP"), ""


def _of_mangle(chance: random.Random, place: Place) -> tuple[str, str]:
    mark, mask = chance.choice(places.MARKS), chance.choice(("0xffffffff", "0xff", "0x1"))
    roll = chance.random()
    if place.hooks == {"PREROUTING"} and roll < 0.15:
        where = f"--on-port {chance.choice(places.PORTS)} --on-ip {chance.choice(('0.0.0.0', '127.0.0.1'))}"
        return f"-j TPROXY {where} --tproxy-mark {chance.choice(('0x1', '0x10/0xff'))}", "tcp"
    if roll < 0.6:
        return (
            f"-j MARK {chance.choice((f'--set-xmark {mark:#x}/{mask}', f'--set-mark {mark}', f'--or-mark {mark}', '--and-mark 0x1'))}",
            "",
        )
    if roll < 0.75:
        return f"-j CONNMARK {chance.choice((f'--set-xmark {mark:#x}/{mask}', '--save-mark', '--restore-mark --mask 0xff'))}", ""
    if roll < 0.85:
        return f"-j DSCP --set-dscp {chance.choice((0, 8, 46))}", ""
    if roll < 0.92:
        return f"-j TTL {chance.choice(('--ttl-set 2', '--ttl-dec 1', '--ttl-inc 1'))}", ""
    return "-j DROP", ""


def _of_nat(chance: random.Random, place: Place) -> tuple[str, str]:
    """Sources are changed of TCP alone: two IPIP packets that get one source are one connection, and the second of them is dropped."""
    if place.hooks <= {"PREROUTING", "OUTPUT"}:
        address = chance.choice(("10.2.0.77", "10.1.0.1", "10.13.0.9", "127.0.0.1", "10.9.0.1", "10.50.1.1"))
        roll = chance.random()
        if roll < 0.35:
            return f"-j DNAT --to-destination {address}:{chance.choice(places.PORTS)}", "tcp"
        if roll < 0.55:
            return f"-j DNAT --to-destination {address}", ""
        if roll < 0.6:
            return "-j NETMAP --to 10.12.0.0/24", ""
        return (f"-j REDIRECT --to-ports {chance.choice(places.PORTS)}", "tcp") if roll < 0.95 else ("-j REDIRECT", "")
    if place.hooks == {"POSTROUTING"}:
        roll = chance.random()
        if roll < 0.45:
            return "-j MASQUERADE", "tcp"
        return f"-j SNAT --to-source {chance.choice(('10.2.0.1', '10.9.0.1', '172.20.0.1', '10.1.0.50-10.1.0.53'))}", "tcp"
    if place.hooks == {"INPUT"}:
        return "-j SNAT --to-source 10.60.0.7", "tcp"
    return "-j RETURN", ""


def _of_filter(chance: random.Random, place: Place) -> tuple[str, str]:
    roll = chance.random()
    if roll < 0.5:
        return "-j DROP", ""
    if roll < 0.65:
        return "-j REJECT --reject-with tcp-reset", "tcp"
    return f"-j REJECT --reject-with {chance.choice(REJECTS)}", ""
