"""A seed goes in; a random configuration of a host and the probes for it come out, the same for the same seed and kind of kernel."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Literal

from tests.differential import places
from tests.differential.configuration import WIRES, Configuration, Probe
from tests.differential.iptables_text import SETS, random_iptables
from tests.differential.nft_text import random_nft
from tests.differential.services import random_services

Kernel = Literal["own", "uml"]
FIRST_PORT = 20000
"""Source ports count up from here, so that each probe begins a connection of its own."""

SORTS = (("tcp", "S"), ("tcp", "A"), ("udp", ""), ("tcp", "SA"), ("tcp", "R"))
"""Protocol and flags; what begins no connection is picked up or INVALID (nf_conntrack_proto_tcp.c tcp_new())."""
MOST_WARM = 5
"""Connections that are tried before the state is taken."""
MOST_OF_A_SOURCE = 3
"""Probes from one address: the kernel answers five errors to each, then one a second (route.c ip_error(), ip_rt_error_burst)."""


def generate(seed: int, count: int, *, kernel: Kernel, has_users: bool = True) -> Configuration:
    """A configuration with `count` probes.

    The own kernel has nft rulesets too; User Mode Linux has tunnels, dummy devices and IPVS. `has_users`: packets may be sent as
    other users than root.
    """
    chance = random.Random(seed)
    configuration = Configuration(seed)
    local = _addresses(chance, configuration)
    _routes(chance, configuration)
    _sysctls(chance, configuration)
    flavour = chance.choices(("iptables", "nft", "both", "none"), (5, 4, 1, 0.5) if kernel == "own" else (5, 0, 0, 1))[0]
    tunnel_ends = _tunnels(chance, configuration) if kernel == "uml" else []
    if kernel == "uml" and chance.random() < 0.5:
        configuration.ipvs = random_services(chance, local)
    if flavour in ("iptables", "both"):
        configuration.iptables = random_iptables(chance)
        configuration.ipset = SETS if "--match-set" in configuration.iptables else ""
    if flavour in ("nft", "both"):
        configuration.nft = random_nft(chance)
    for _ in range(chance.randrange(2, 7)):
        listener = (chance.choice(["0.0.0.0", "0.0.0.0", "127.0.0.1", *local]), chance.choice(places.PORTS))
        if all(other[1] != listener[1] for other in configuration.listeners):
            configuration.listeners.append(listener)
    sources: Counter[str] = Counter()
    for number in range(count):
        probe = _probe(chance, number, local, has_users, tunnel_ends)
        while probe.way == "wire" and sources[probe.source] >= MOST_OF_A_SOURCE and probe.source not in local:
            probe = _probe(chance, number, local, has_users, tunnel_ends)
        sources[probe.source] += 1
        if probe.way == "wire" and probe.flags == "S" and len(configuration.warm) < MOST_WARM and chance.random() < 0.3:
            sources[probe.source] += 1
            configuration.warm.append(dataclasses.replace(probe, source_port=FIRST_PORT - 1 - number, sequence=probe.sequence ^ 1 << 30))
        configuration.probes.append(probe)
    return configuration


def _addresses(chance: random.Random, configuration: Configuration) -> list[str]:
    chosen = [(name, address) for name, address in places.MAIN.items() if chance.random() < (0.8 if name == "eth2" else 0.95)]
    chosen += [one for one in places.FURTHER if chance.random() < 0.2]
    chosen += [("lo", address) for address in places.ON_LOOPBACK if chance.random() < 0.3]
    configuration.ip += [f"addr add {address} dev {name}" for name, address in chosen]
    return [address.partition("/")[0] for _, address in chosen] or ["127.0.0.1"]


def _tunnels(chance: random.Random, configuration: Configuration) -> list[str]:
    """Sets up IPIP devices; the addresses that tunnelled packets may be sent to."""
    lines = []
    if chance.random() < 0.85:
        lines.append("link set tunl0 up")
    if chance.random() < 0.4:
        lines.append("addr add 10.7.0.1/24 dev tunl0")
    if chance.random() < 0.3:
        lines += ["link add tunl9 type ipip remote 10.1.0.77 local 10.1.0.1", "link set tunl9 up"]
    if chance.random() < 0.5:
        lines += ["link add dummy0 type dummy", "link set dummy0 up", "addr add 10.9.0.2/32 dev dummy0"]
    configuration.ip += [line for line in lines if line.removesuffix("dummy0") not in "".join(configuration.ip)]
    for where in ("conf/tunl0/rp_filter", "conf/all/rp_filter"):
        if chance.random() < 0.5:
            configuration.sysctls[where] = chance.choice((0, 1, 2))
    return ["10.1.0.1", "10.2.0.1", "10.3.0.1", "10.1.0.77"]


def _routes(chance: random.Random, configuration: Configuration) -> None:
    lines = []
    for name in WIRES:
        if chance.random() < 0.7:
            other = name if chance.random() < 0.85 else chance.choice(WIRES)
            lines.append(f"10.1{WIRES.index(name) + 1}.0.0/16 {_via(chance, other)}")
    if chance.random() < 0.5:
        lines.append(f"default {_via(chance, chance.choice(WIRES))}")
    lines += [_route(chance) for _ in range(chance.randrange(4))]
    tables = [number for number in (100, 101) if chance.random() < 0.4]
    for table in tables:
        lines += [_route(chance, f" table {table}") for _ in range(chance.randrange(1, 4))]
        if chance.random() < 0.6:
            lines.append(f"default {_via(chance, chance.choice(WIRES))} table {table}")
    lines.sort(key=lambda line: line.startswith("local"))  # last: the kernel refuses a gateway that is local already
    # `append` keeps two routes of one prefix and metric, of which the first counts; `add` would refuse the second
    configuration.ip += [f"route append {line}" for line in dict.fromkeys(lines)]
    if chance.random() < 0.1:  # as a host with a transparent proxy has it
        configuration.ip += ["route append local 0.0.0.0/0 table 102 dev lo", "rule add priority 60 fwmark 0x1/0x1 lookup 102"]
    for _ in range(chance.choice((0, 0, 1, 2, 3)) if tables else chance.choice((0, 0, 0, 0, 1))):
        configuration.ip.append(_policy_rule(chance, tables))
    if chance.random() < 0.04:
        configuration.ip += ["rule add priority 30 lookup local", "rule del priority 0"]


def _via(chance: random.Random, interface: str) -> str:
    return f"via {places.gateway(interface)} dev {interface} onlink" if chance.random() < 0.75 else f"dev {interface}"


def _route(chance: random.Random, table: str = "") -> str:
    network = chance.choice(("10.50.0.0/16", f"10.50.{chance.randrange(4)}.0/24", *places.NETWORKS))
    if network in ("127.0.0.0/8", "0.0.0.0/0"):
        network = "10.60.0.0/15"
    metric = table + (f" metric {chance.choice((5, 100))}" if chance.random() < 0.25 else "")
    roll = chance.random()
    if roll < 0.45:
        return f"{network}{metric} {_via(chance, chance.choice(WIRES))}"
    if roll < 0.53:
        return f"local {network}{metric} dev lo"
    if roll < 0.57:
        first, second = chance.sample(WIRES, 2)
        hops = " ".join(f"nexthop via {places.gateway(one)} dev {one} weight {chance.randrange(1, 4)} onlink" for one in (first, second))
        return f"{network}{metric} {hops}"
    return f"{chance.choice(('blackhole', 'unreachable', 'prohibit', 'throw'))} {network}{metric}"


def _policy_rule(chance: random.Random, tables: list[int]) -> str:
    words = [f"priority {chance.randrange(50, 33000)}"]
    if chance.random() < 0.1:
        words.insert(0, "not")
    selectors = [
        f"from {chance.choice(places.NETWORKS)}",
        f"to {chance.choice(places.NETWORKS)}",
        f"iif {chance.choice(('lo', *WIRES))}",
        f"fwmark {chance.choice(places.MARKS):#x}" + chance.choice(("", "/0x1", "/0xff")),
        f"uidrange {chance.choice(('0-999', '1000-1000', '1337-1337'))}",
        "tos 0x10",
    ]
    words += chance.sample(selectors, chance.choice((1, 1, 2)))
    roll = chance.random()
    if tables and roll < 0.7:
        words.append(f"lookup {chance.choice(tables)}")
    elif roll < 0.85:
        words.append(f"lookup main suppress_prefixlength {chance.choice((0, 0, 8, 16))}")
    else:
        words.append(chance.choice(("blackhole", "unreachable", "prohibit")))
    return "rule add " + " ".join(words)


def _sysctls(chance: random.Random, configuration: Configuration) -> None:
    settings = configuration.sysctls
    settings["ip_forward"] = int(chance.random() < 0.8)
    if chance.random() < 0.1:
        settings[f"conf/{chance.choice(WIRES)}/forwarding"] = chance.choice((0, 1))
    if chance.random() < 0.6:
        settings["conf/all/rp_filter"] = chance.choice((0, 0, 1, 2))
        for name in WIRES:
            settings[f"conf/{name}/rp_filter"] = chance.choice((0, 0, 0, 1, 2))
    if chance.random() < 0.8:
        settings.update({f"conf/{where}/send_redirects": 0 for where in ("all", *WIRES)})
    for key in ("src_valid_mark", "accept_local", "route_localnet"):
        for where in ("all", *WIRES):
            if chance.random() < 0.1:
                settings[f"conf/{where}/{key}"] = 1


def _probe(chance: random.Random, number: int, local: list[str], has_users: bool, tunnel_ends: list[str]) -> Probe:
    way = chance.choices(("wire", "raw", "connect"), (7, 2, 1))[0]
    interface = chance.choice(WIRES) if way == "wire" else ""
    protocol, flags = ("tcp", "S") if way == "connect" else chance.choices(SORTS, (32, 2, 2, 1, 1))[0]
    source = _source(chance, interface, local) if interface else chance.choice([*local, *local, "127.0.0.1"])
    uid = chance.choice(places.UIDS)
    sequence = chance.randrange(1 << 16, 1 << 31)
    return Probe(
        way,
        source,
        _destination(chance, local, source, way),
        FIRST_PORT + number,
        chance.choice(places.PORTS),
        sequence,
        acknowledged=sequence if "A" in flags else 0,
        protocol=protocol,
        flags=flags,
        interface=interface,
        uid=uid if has_users and way != "wire" else 0,
        mark=chance.choice(places.MARKS) if way != "wire" and chance.random() < 0.1 else 0,
        ttl=chance.choice((1, 2, 64)) if chance.random() < 0.06 else 64,
        dscp=chance.choice((4, 8, 46)) if chance.random() < 0.06 else 0,
        tunnel=(places.beside(chance, interface), chance.choice(tunnel_ends))
        if interface and tunnel_ends and chance.random() < 0.3
        else None,
    )


def _source(chance: random.Random, interface: str, local: list[str]) -> str:
    roll = chance.random()
    if roll < 0.55:
        return places.beside(chance, interface)
    if roll < 0.8:
        return places.behind(chance, interface)
    if roll < 0.88:
        return places.behind(chance, chance.choice(WIRES))
    if roll < 0.93:
        return places.beside(chance, chance.choice(WIRES))
    return chance.choice(local) if roll < 0.96 else places.strange(chance) if roll < 0.98 else places.routed(chance)


def _destination(chance: random.Random, local: list[str], source: str, way: str) -> str:
    if source.startswith("127.") and chance.random() < 0.7:
        return "127.0.0.1"
    roll = chance.random()
    if roll < 0.4:
        return chance.choice(local)
    if roll < 0.5:
        return chance.choice(("10.9.0.1", "10.9.0.2", "10.8.0.3", "10.1.0.3", "10.3.9.1"))
    if roll < 0.65:
        return places.beside(chance, chance.choice(WIRES))
    if roll < 0.8:
        return places.behind(chance, chance.choice(WIRES))
    if roll < 0.95:
        return places.routed(chance)
    # connect(2) takes 0.0.0.0 for an address of its own and refuses broadcast (tcp_ipv4.c tcp_v4_connect), before any packet is there
    return chance.choice(("127.0.0.1", "172.16.5.5", "10.1.0.255", "0.0.0.0") if way == "wire" else ("127.0.0.1", "172.16.5.5"))
