"""The oracle by itself: packets whose fate is known from how their host was set up, and what the kernel was seen to do with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tcpwhy.path import Fate
from tests.differential import worlds
from tests.differential.configuration import Configuration, Probe
from tests.differential.fates import kernel_fates, risen_rules
from tests.differential.frames import Seen, build, decode
from tests.differential.generate import generate
from tests.differential.observation import Left, recognise

IP = [
    "addr add 10.1.0.1/24 dev eth0",
    "addr add 10.2.0.1/24 dev eth1",
    "route add 10.11.0.0/16 via 10.1.0.254 dev eth0",
    "route add blackhole 10.50.0.0/24",
    "route add unreachable 10.50.1.0/24",
    "route add prohibit 10.50.2.0/24",
]
RULES = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 95 -j DNAT --to-destination 10.2.0.9:96
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 90 -j DROP
-A INPUT -p tcp -m tcp --dport 91 -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -m tcp --dport 92 -j REJECT --reject-with icmp-admin-prohibited
-A OUTPUT -p tcp -m tcp --dport 93 -j DROP
-A OUTPUT -p tcp -m tcp --dport 94 -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""
SILENT = frozenset({Fate.BLACKHOLE, Fate.MARTIAN_SOURCE, Fate.MARTIAN_DESTINATION})
KNOWN: tuple[tuple[str, str, str, int, frozenset[Fate]], ...] = (
    ("wire", "10.1.0.9", "10.1.0.1", 80, frozenset({Fate.ACCEPTED})),
    ("wire", "10.1.0.9", "10.1.0.1", 81, frozenset({Fate.REFUSED})),
    ("wire", "10.11.0.9", "10.2.0.9", 81, frozenset({Fate.FORWARDED})),
    ("wire", "10.11.0.9", "10.1.0.1", 95, frozenset({Fate.FORWARDED})),
    ("wire", "10.2.0.9", "10.1.0.1", 80, frozenset({Fate.REVERSE_PATH})),
    ("wire", "10.11.0.9", "10.99.0.1", 81, frozenset({Fate.NO_ROUTE})),
    ("wire", "10.11.0.9", "10.50.0.1", 81, SILENT),
    ("wire", "10.11.0.9", "10.50.1.1", 81, frozenset({Fate.NO_ROUTE})),
    ("wire", "10.11.0.9", "10.50.2.1", 81, frozenset({Fate.PROHIBITED})),
    ("wire", "10.11.0.9", "127.0.0.1", 81, SILENT),
    ("wire", "10.1.0.1", "10.1.0.1", 81, SILENT),
    ("wire", "10.11.0.9", "10.1.0.1", 90, SILENT | {Fate.DROPPED_BY_RULE}),
    ("wire", "10.11.0.9", "10.1.0.1", 91, frozenset({Fate.REJECTED_BY_RULE})),
    ("wire", "10.11.0.9", "10.1.0.1", 92, frozenset({Fate.REJECTED_BY_RULE})),
    ("raw", "10.1.0.1", "10.11.0.9", 81, frozenset({Fate.SENT})),
    ("raw", "10.1.0.1", "10.1.0.1", 80, frozenset({Fate.ACCEPTED})),
    ("raw", "10.1.0.1", "10.11.0.9", 93, frozenset({Fate.DROPPED_BY_RULE})),
    ("raw", "10.1.0.1", "10.11.0.9", 94, frozenset({Fate.REJECTED_BY_RULE})),
    ("raw", "10.1.0.1", "10.50.0.9", 81, SILENT),
    ("raw", "10.1.0.1", "10.50.1.9", 81, frozenset({Fate.NO_ROUTE})),
    ("raw", "10.1.0.1", "10.50.2.9", 81, frozenset({Fate.PROHIBITED})),
    ("connect", "10.1.0.1", "10.11.0.9", 81, frozenset({Fate.SENT})),
    ("connect", "10.1.0.1", "10.1.0.1", 80, frozenset({Fate.ACCEPTED})),
    ("connect", "10.1.0.1", "10.1.0.1", 81, frozenset({Fate.REFUSED})),
    ("connect", "10.1.0.1", "10.50.1.9", 81, frozenset({Fate.NO_ROUTE})),
)
"""Way, source, destination, port, and what may have happened by all that can be seen."""


@pytest.mark.lab
@pytest.mark.parametrize("runner", ["namespaces", "uml"])
def test_fates_that_are_known_are_seen(runner: str, tmp_path: Path, need_world: Callable[[str], None]) -> None:
    need_world(runner)
    probes = []
    for number, (way, source, destination, port, _) in enumerate(KNOWN):
        interface = "eth0" if way == "wire" else ""  # also of 10.2.0.9, who lives at eth1
        probes.append(Probe(way, source, destination, 20000 + number, port, 70000 + number, interface=interface))
    sysctls = {"ip_forward": 1, "conf/all/rp_filter": 1, "conf/all/send_redirects": 0, "conf/eth0/send_redirects": 0}
    configuration = Configuration(1, IP, sysctls, RULES, listeners=[("0.0.0.0", 80)], probes=probes)
    (outcome,) = worlds.run(runner, [configuration], tmp_path)
    seen = {}
    for probe, observation, known in zip(probes, outcome.observations, KNOWN, strict=True):
        fates = kernel_fates(probe, observation, risen_rules(configuration, outcome.state, observation))
        if fates != known[-1] and not (runner == "uml" and known[-1] < fates):  # there most rules are not counted
            seen[str(probe)] = (fates, str(observation))
    assert not seen
    (left,) = outcome.observations[3].left
    assert (left.interface, left.packet.destination, left.packet.destination_port) == ("eth1", "10.2.0.9", 96)


def test_packets_are_read_as_they_were_built() -> None:
    inner = Seen("tcp", "10.0.0.1", "10.9.0.1", 4000, 80, "SPA", 0x12345678, 0x9ABCDEF0, ttl=7, dscp=46)
    assert decode(build(inner)) == inner
    outer = Seen("ipip", "10.1.0.9", "10.1.0.1", sequence=9, ttl=64, inside=inner)
    read = decode(build(outer))
    assert read is not None
    assert (read.protocol, read.source, read.inside) == ("ipip", "10.1.0.9", inner)
    assert decode(build(inner)[:19]) is None


def test_answers_are_told_from_strange_packets() -> None:
    probe = Probe("wire", "10.0.0.1", "10.9.0.1", 4000, 80, 1000)
    itself = Left("eth1", Seen("tcp", "10.7.7.7", "10.9.0.9", 4001, 81, "S", 1000))
    answer = Left("eth0", Seen("tcp", "10.9.0.1", "10.0.0.1", 80, 4000, "SA", 5, 1001))
    error = Left("eth0", Seen("icmp", "10.9.0.1", "10.0.0.1", icmp_type=3, icmp_code=13, inside=itself.packet))
    redirect = Left("eth0", Seen("icmp", "10.9.0.1", "10.0.0.1", icmp_type=5, inside=itself.packet))
    strange = Left("eth0", Seen("tcp", "10.9.0.1", "10.0.0.1", 80, 4000, "SA", 5, 1002))
    found = recognise(probe, [itself, answer, error, redirect, strange], [strange.packet, itself.packet])
    assert found.left == [itself]
    assert found.answers == [answer, error]
    assert found.delivered == [itself.packet]


def test_a_seed_gives_the_same_configuration_again() -> None:
    assert str(generate(7, 30, kernel="own")) == str(generate(7, 30, kernel="own"))
    assert str(generate(7, 30, kernel="own")) != str(generate(8, 30, kernel="own"))
