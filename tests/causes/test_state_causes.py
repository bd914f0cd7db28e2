"""Rules, addresses and settings of one host against the packets that it saw: what is said, and that no two causes are confirmed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tcpwhy.causes import vip_missing
from tests.causes.cases import CLIENT, capture, only, others, report, state, unanswered, verdicts
from tests.packets import Tcp
from tests.path.states import ROUTER

assert isinstance(ROUTER["ip-route.json"], list)
ROUTES: list[object] = ROUTER["ip-route.json"]
BACK = {"ip-route.json": [*ROUTES, {"dst": "default", "gateway": "10.0.0.254", "dev": "eth0"}]}
FILTER = "*filter\n:INPUT {policy} [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"
DROP = "[{count}:240] -A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 80 -j {target}\n"
OUT = "[{count}:240] -A OUTPUT -d 192.0.2.0/24 -p tcp -m tcp --sport 80 -j DROP\n"


def with_rules(folder: Path, rules: str, *, policy: str = "ACCEPT", segments: list[Tcp] | None = None) -> Path:
    state(folder / "rs1/state", {**BACK, "iptables-save.txt": FILTER.format(policy=policy, rules=rules)})
    capture(folder / "rs1/eth0.pcap", [*(unanswered() if segments is None else segments), *others()])
    return folder


def test_a_drop_rule_is_named_with_its_line_and_counter(tmp_path: Path) -> None:
    found = only(report(with_rules(tmp_path, DROP.format(count=4, target="DROP"))))
    assert (found.cause, found.confidence) == ("syn-lost", "confirmed")
    assert "(chain filter INPUT, rs1/state/iptables-save.txt:5, counter 4)" in found.explanation
    assert "`iptables -t filter -D INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 80 -j DROP`" in found.fix[0]
    assert "the packet passes" in found.fix[0]


def test_a_drop_rule_that_met_nothing_contradicts(tmp_path: Path) -> None:
    told = report(with_rules(tmp_path, DROP.format(count=0, target="DROP")))
    assert ("syn-lost", "possible") in verdicts(told)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_a_policy_that_drops(tmp_path: Path) -> None:
    found = only(report(with_rules(tmp_path, "[9:9] -A INPUT -s 10.0.0.0/24 -j ACCEPT\n", policy="DROP")))
    assert (found.cause, found.confidence) == ("syn-lost", "confirmed")
    assert "`iptables -I INPUT -p tcp --dport 80 -j ACCEPT`" in found.fix[0]


def test_an_answer_that_the_server_s_own_rules_drop_is_in_no_capture(tmp_path: Path) -> None:
    found = only(report(with_rules(tmp_path, OUT.format(count=4))))
    assert (found.cause, found.confidence) == ("synack-lost", "confirmed")
    assert "outgoing packets are captured behind the firewall" in found.explanation


@pytest.mark.parametrize(("target", "cause"), [("REJECT --reject-with tcp-reset", "rejected-by-firewall"), ("ACCEPT", "port-closed")])
def test_the_same_rst_is_told_apart_by_the_rules(tmp_path: Path, target: str, cause: str) -> None:
    refused = [Tcp(500, CLIENT, "10.0.0.1:82", "S", 5, ip_id=9, ttl=61), Tcp(500.1, "10.0.0.1:82", CLIENT, "RA", 0, 6)]
    rule = DROP.replace("--dport 80", "--dport 82").format(count=1, target=target)
    found = only(report(with_rules(tmp_path, rule, segments=refused)))
    assert (found.cause, found.confidence) == (cause, "confirmed")


def test_a_rule_that_cannot_be_told_leaves_it_open(tmp_path: Path) -> None:
    rule = "[4:240] -A INPUT -p tcp -m tcp --dport 80 -m set --match-set blocked src -j DROP\n"
    told = report(with_rules(tmp_path, rule))
    assert all(confidence == "possible" for _, confidence in verdicts(told))
    assert any("blocked" in finding.explanation for finding in told.findings)


def test_a_real_server_without_the_address(tmp_path: Path) -> None:
    director = {
        "ipvsadm-rules.txt": "-A -t 10.0.0.50:80 -s rr\n-a -t 10.0.0.50:80 -r 10.0.0.1:80 -g -w 1\n",
        "host.json": "{}",
        "ip-addr.json": "[]",
    }
    state(tmp_path / "lb/state", director)
    state(tmp_path / "rs1/state", BACK, settings={"net.ipv4.ip_forward": 0, "net.ipv4.conf.eth0.forwarding": 0})
    only_state = only(report(tmp_path))
    assert (only_state.cause, only_state.confidence, only_state.connection_count) == ("vip-missing", "possible", 0)
    capture(tmp_path / "rs1/eth0.pcap", [*unanswered(service="10.0.0.50:80"), *others()])
    found = only(report(tmp_path))
    assert (found.cause, found.confidence, found.connection_count) == ("vip-missing", "confirmed", 1)
    assert "`ip addr add 10.0.0.50/32 dev lo`" in found.fix[0]
    assert "a socket takes the SYN" in found.fix[0]


@pytest.mark.parametrize("virtual", [False, True])
def test_a_host_that_neither_has_the_address_nor_forwards_may_be_meant_for_it(tmp_path: Path, virtual: bool) -> None:
    """Nothing says whether it is a router or a balancer: also where a real server has the address, alone, on its loopback."""
    state(tmp_path / "lb/state", {**BACK, "ss-tcp.txt": ""}, settings={"net.ipv4.ip_forward": 0, "net.ipv4.conf.eth0.forwarding": 0})
    capture(tmp_path / "lb/eth0.pcap", [*unanswered(service="10.0.0.50:80"), *others()])
    if virtual:
        own = {"family": "inet", "local": "10.0.0.50", "prefixlen": 32, "scope": "global"}
        state(tmp_path / "rs/state", {**BACK, "ip-addr.json": [{"ifname": "lo", "addr_info": [own]}]})
    told = verdicts(report(tmp_path))
    assert told >= {("syn-lost", "possible"), ("vip-missing", "possible")}
    assert {confidence for _, confidence in told} == {"possible"}


@pytest.mark.parametrize("handed_on", [True, False])
def test_a_host_with_the_address_that_hands_the_syn_on_is_a_balancer_and_not_its_end(tmp_path: Path, handed_on: bool) -> None:
    """By direct return only the hardware address changes; which real server gets it, and whether that has the address, is unknown."""
    state(tmp_path / "lb/state", BACK)
    syns = unanswered()
    again = [dataclasses.replace(one, at_ms=one.at_ms + 0.01, goes_to=9) for one in syns] if handed_on else []
    capture(tmp_path / "lb/eth0.pcap", sorted([*syns, *again, *others()], key=lambda one: one.at_ms))
    told = {cause for cause, _ in verdicts(report(tmp_path))}
    assert ("vip-missing" in told) == handed_on
    assert "syn-lost" in told or not handed_on


def test_an_address_is_added_without_a_subnet_in_both_families() -> None:
    assert vip_missing.alone("10.0.0.50") == "10.0.0.50/32"
    assert vip_missing.alone("fd00::50") == "fd00::50/128"


def test_a_healthy_host_foretells_nothing(tmp_path: Path) -> None:
    state(tmp_path / "rs1/state", BACK, settings={f"net.ipv4.conf.{name}.rp_filter": 2 for name in ("all", "eth0", "eth1")})
    capture(tmp_path / "rs1/eth0.pcap", others())
    told = report(tmp_path)
    assert told.findings == ()
    assert told.totals.failed == 0
