"""A source of chance goes in; a random ruleset for `nft -f` comes out, each of its rules with a counter and a comment of its own."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.differential import places
from tests.differential.configuration import WIRES
from tests.differential.iptables_text import WITH_IN, WITH_OUT, WITH_OWNER

PRIORITIES = {
    "PREROUTING": (-300, -150, -10, 0, 5),
    "INPUT": (-150, -5, 0, 10, 50),
    "FORWARD": (-150, 0, 1),
    "OUTPUT": (-300, -150, 0, 20),
    "POSTROUTING": (-150, 0, 150),
}
NAT_PRIORITIES = {"PREROUTING": -100, "OUTPUT": -100, "INPUT": 100, "POSTROUTING": 100}
INTERFACES = ("eth0", "eth1", "{ eth0, eth2 }", '"eth*"', "lo")
REJECTS = (
    "reject",
    "reject with tcp reset",
    "reject with icmp type host-unreachable",
    "reject with icmp type admin-prohibited",
    "reject with icmp type net-unreachable",
    "reject with icmpx type port-unreachable",
    "reject with icmpx type admin-prohibited",
)


class _Ruleset:
    """The tables in the making."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.family = "inet"
        self.rules = 0

    def rule(self, words: str, verdict: str) -> str:
        """A line of a chain. The comment tells the rule again, for handles are given by the kernel."""
        self.rules += 1
        if self.family == "ip":  # these words are of inet tables alone (nft(8))
            words = words.replace("meta nfproto ipv4", "")
            verdict = verdict.replace("nat ip to", "nat to").replace("icmpx type", "icmp type")
        return f'    {words} counter {verdict} comment "r{self.rules}"'


def random_nft(chance: random.Random) -> str:
    """One or two tables."""
    ruleset = _Ruleset(chance)
    return "".join(_table(ruleset, name) for name in ("first", "second")[: chance.choice((1, 1, 2))])


def _table(ruleset: _Ruleset, name: str) -> str:
    chance = ruleset.chance
    ruleset.family = chance.choice(("inet", "ip"))
    lines = [f"table {ruleset.family} {name} {{"]
    ports = ", ".join(str(port) for port in sorted(chance.sample(places.PORTS, 3)))
    networks = ", ".join(
        chance.choice((("10.1.0.0/24", "10.11.0.0/16"), ("10.9.0.1", "10.2.0.64/26"), ("10.1.0.70-10.1.0.90", "10.50.0.0/16")))
    )
    lines += [
        f"  set ports {{ type inet_service; elements = {{ {ports} }}; }}",
        f"  set networks {{ type ipv4_addr; flags interval; elements = {{ {networks} }}; }}",
        "  set pairs { type ipv4_addr . inet_service; elements = { 10.1.0.77 . 80, 10.1.0.1 . 443, 10.2.0.77 . 22 }; }",
        "  map targets { type inet_service : ipv4_addr; elements = { 80 : 10.2.0.77, 443 : 10.1.0.1, 8080 : 127.0.0.1 }; }",
        "  map marks { type ipv4_addr : mark; flags interval; elements = { 10.1.0.0/16 : 0x1, 10.12.0.0/16 : 0x10 }; }",
    ]
    regular = [f"c{number}" for number in range(chance.choice((0, 1, 2, 3)))]
    reach = {chain: frozenset({chance.choice(tuple(PRIORITIES))}) for chain in regular}
    bodies = []
    for number, chain in enumerate(regular):
        below = [other for other in regular[number + 1 :] if reach[other] == reach[chain]]
        rules = [_rule(ruleset, reach[chain], below, is_nat=False) for _ in range(chance.choice((1, 2, 3)))]
        bodies.append(f"  chain {chain} {{\n" + "\n".join(rules) + "\n  }")
    lines += reversed(bodies)  # a chain must be there before another one jumps to it
    for number, hook in enumerate(PRIORITIES):
        for again in range(chance.choice((0, 1, 1, 2))):
            priority = chance.choice(PRIORITIES[hook])
            policy = "drop" if chance.random() < 0.06 else "accept"
            below = [chain for chain in regular if reach[chain] == {hook}]
            rules = [_rule(ruleset, frozenset({hook}), below, is_nat=False) for _ in range(chance.choice((1, 1, 2, 3)))]
            lines.append(f"  chain {hook.lower()}{again} {{\n    type filter hook {hook.lower()} priority {priority}; policy {policy};")
            lines += [*rules, "  }"]
        if hook in NAT_PRIORITIES and chance.random() < 0.4:
            rules = [_rule(ruleset, frozenset({hook}), [], is_nat=True) for _ in range(chance.choice((1, 2)))]
            lines.append(f"  chain nat{number} {{\n    type nat hook {hook.lower()} priority {NAT_PRIORITIES[hook]};")
            lines += [*rules, "  }"]
    return "\n".join([*lines, "}", ""])


def _rule(ruleset: _Ruleset, hooks: frozenset[str], below: list[str], *, is_nat: bool) -> str:
    chance = ruleset.chance
    verdict = _verdict(chance, hooks, below, is_nat=is_nat)
    protocol = "tcp" if "tcp" in verdict else chance.choices(("tcp", ""), (5, 4))[0]
    builders: list[Callable[[], str]] = [
        lambda: f"ip saddr {_maybe_not(chance)}{chance.choice(places.NETWORKS[:-1])}",
        lambda: f"ip daddr {_maybe_not(chance)}{chance.choice(places.NETWORKS[:-1])}",
        lambda: f"ip {chance.choice(('saddr', 'daddr'))} {_maybe_not(chance)}@networks",
        lambda: f"ip {chance.choice(('saddr', 'daddr'))} {_maybe_not(chance)}{{ 10.1.0.77, 10.2.0.0/24, 10.9.0.1-10.9.0.3 }}",
        lambda: f"ip daddr {_maybe_not(chance)}10.1.0.0-10.2.0.100",
        lambda: f"meta mark {chance.choice(('', '!= ', '& 0x1 == ', '& 0xff != '))}{chance.choice((0, *places.MARKS)):#x}",
        lambda: f"ct state {chance.choice(('new', 'established,related', 'invalid', 'untracked', '{ new, untracked }', '!= new'))}",
        lambda: f"ct {chance.choice(('direction original', 'direction reply', 'status dnat', 'status snat', 'mark 0x1', 'mark != 0x0'))}",
        lambda: f"ct original ip daddr {chance.choice(places.NETWORKS[:-1])}",
        lambda: f"ip ttl {chance.choice(('64', '> 2', '{ 1, 2 }'))}",
        lambda: f"ip dscp {chance.choice(('cs1', 'ef', '!= cs0'))}",
        lambda: "meta nfproto ipv4",
    ]
    if hooks <= WITH_IN:
        builders += [lambda: f"iifname {_maybe_not(chance)}{chance.choice(INTERFACES)}"] * 2
        builders.append(lambda: f"iif {_maybe_not(chance)}{chance.choice(WIRES)}")
    if hooks <= WITH_OUT:
        builders += [lambda: f"oifname {_maybe_not(chance)}{chance.choice(INTERFACES)}"] * 2
    if hooks <= WITH_OWNER:
        builders += [lambda: f"meta skuid {chance.choice(('0', '1337', '!= 1337', '1000-2000', '{ 0, 1000 }'))}"] * 2
    if hooks <= {"PREROUTING", "INPUT", "FORWARD"}:
        builders += [lambda: f"fib daddr type {chance.choice(('local', '!= local', 'unicast', '{ local, broadcast }', 'blackhole'))}"] * 2
        builders.append(
            lambda: f"fib saddr {chance.choice(('. iif', '. mark . iif', ''))} oif {chance.choice(('missing', 'exists'))}".replace(
                "  ", " "
            )
        )
    if protocol == "tcp":
        builders += [
            lambda: f"tcp dport {_maybe_not(chance)}{chance.choice((*map(str, places.PORTS), '80-443', '{ 80, 443 }', '@ports'))}",
            lambda: f"tcp dport {chance.choice(places.PORTS)}",
            lambda: "tcp flags & (fin | syn | rst | ack) == syn",
            lambda: f"tcp flags {chance.choice(('syn', '! syn', '& syn != 0'))}",
            lambda: "ip saddr . tcp dport @pairs",
            lambda: "ip daddr . tcp dport { 10.1.0.1 . 80, 10.9.0.1 . 443, 10.2.0.77 . 80 }",
        ] * 2
    else:
        builders.append(lambda: f"meta l4proto {chance.choice(('tcp', 'udp', '{ tcp, udp }', '!= tcp'))}")
        builders.append(lambda: f"th dport {chance.choice(('80', '{ 53, 443 }', '> 1024'))}")
    words = [build() for build in chance.sample(builders, chance.choice((0, 1, 1, 2, 2)))]
    return ruleset.rule(" ".join(words), verdict)


def _maybe_not(chance: random.Random) -> str:
    return "!= " if chance.random() < 0.2 else ""


def _verdict(chance: random.Random, hooks: frozenset[str], below: list[str], *, is_nat: bool) -> str:
    roll = chance.random()
    if is_nat:
        return _nat(chance, hooks)
    if below and roll < 0.3:
        chain = chance.choice(below)
        if roll < 0.06:
            return f"tcp dport vmap {{ 80 : jump {chain}, 443 : drop, 22-53 : accept }}"
        return f"{chance.choices(('jump', 'goto'), (4, 1))[0]} {chain}"
    if roll < 0.38:
        return chance.choice(("return", "continue", "", "log"))
    if roll < 0.5:
        return "accept"
    if roll < 0.72:
        statements = [
            f"meta mark set {chance.choice(places.MARKS):#x}",
            "meta mark set meta mark | 0x10",
            "meta mark set meta mark & 0xff",
            "ct mark set meta mark",
            "meta mark set ct mark",
            "meta mark set ip saddr map @marks",
            f"ip dscp set {chance.choice(('cs1', 'ef', 'cs0'))}",
            f"ip ttl set {chance.choice((2, 64))}",
        ]
        return chance.choice(statements)
    if roll < 0.78:
        return "ip saddr vmap { 10.1.0.77 : drop, 10.2.0.0/24 : accept, 10.11.0.0-10.11.1.0 : return }"
    if roll < 0.9 and hooks <= {"INPUT", "FORWARD", "OUTPUT"}:
        return chance.choice(REJECTS)
    return "notrack" if roll > 0.97 and hooks <= {"PREROUTING", "OUTPUT"} else "drop"


def _nat(chance: random.Random, hooks: frozenset[str]) -> str:
    roll = chance.random()
    address = chance.choice(("10.2.0.77", "10.1.0.1", "10.13.0.9", "127.0.0.1", "10.9.0.1", "10.50.1.1"))
    if hooks <= {"PREROUTING", "OUTPUT"}:
        if roll < 0.3:
            return f"meta l4proto tcp dnat ip to {address}:{chance.choice(places.PORTS)}"
        if roll < 0.5:
            return f"dnat ip to {address}"
        if roll < 0.65:
            return "dnat ip to tcp dport map @targets"
        return f"meta l4proto tcp redirect to :{chance.choice(places.PORTS)}" if roll < 0.9 else "accept"
    if hooks <= {"POSTROUTING"}:
        return (
            "masquerade"
            if roll < 0.4
            else f"snat ip to {chance.choice(('10.2.0.1', '10.9.0.1', '172.20.0.1'))}"
            if roll < 0.9
            else "return"
        )
    return "snat ip to 10.60.0.7" if roll < 0.6 else "accept"
