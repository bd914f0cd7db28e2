"""What base chains of nft make of packets: by hand, and against this machine's kernel."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.path.nft_chain import base_chains, device_chains, run_nft
from tcpwhy.path.packet import CtTuple, Packet
from tcpwhy.path.passage import MOST_WAYS, Hook, Passage, Surroundings, Verdict
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.nft import Nft, parse_nft
from tests.path.nft_on_kernel import CONDITIONS, PACKETS, in_kernel

SYN = Packet(
    protocol="tcp",
    source=ipaddress.ip_address("10.0.0.2"),
    destination=ipaddress.ip_address("10.0.0.1"),
    source_port=40000,
    destination_port=80,
    flags="S",
    length=60,
    ttl=64,
    in_interface="eth0",
    ct_state="NEW",
)
V6 = dataclasses.replace(SYN, source=ipaddress.ip_address("fd00::2"), destination=ipaddress.ip_address("fd00::1"))
UDP = dataclasses.replace(SYN, protocol="udp", flags=None)


def changed(packet: Packet = SYN, **more: Any) -> Packet:
    return dataclasses.replace(packet, **more)


def ruleset(*rules: str, policy: str = "accept", hook: str = "input", family: str = "inet", others: str = "", kind: str = "filter") -> Nft:
    lines = "\n".join(rules)
    chain = f"chain c {{\ntype {kind} hook {hook} priority 0; policy {policy};\n{lines}\n}}\n"
    nft, _ = parse_nft(f"table {family} t {{\n{others}\n{chain}}}\n", Source("h", "nft-ruleset.txt"))
    assert not nft.unread.count, nft.unread.pieces
    return nft


def surroundings(hook: str = "input", **answers: Any) -> Surroundings:
    names: dict[str, Hook] = {
        "prerouting": "PREROUTING",
        "input": "INPUT",
        "forward": "FORWARD",
        "output": "OUTPUT",
        "postrouting": "POSTROUTING",
    }
    given: dict[str, Any] = {
        "address_type": lambda address, interface: "LOCAL" if str(address) in ("10.0.0.1", "fd00::1") else "UNICAST",
        "reverse_path": lambda packet, loose: True,
        "route_of": lambda address, packet: "eth0",
        "has_socket": lambda packet: packet.destination_port == 9000,
    }
    return Surroundings(HostTables(State("h", {}, {}, [])), names.get(hook, "PREROUTING"), **(given | answers))


def run(nft: Nft, packet: Packet = SYN, hook: str = "input", **answers: Any) -> list[Passage]:
    family = next(iter(nft.chains))[0]
    return run_nft(nft, nft.chains[family, "t", "c"], packet, surroundings(hook, **answers))


def one(nft: Nft, packet: Packet = SYN, hook: str = "input", **answers: Any) -> Passage:
    (passage,) = run(nft, packet, hook, **answers)
    assert passage.doubts == ()
    return passage


MATCHING = {
    "tcp dport 80": True,
    "tcp dport != 80": False,
    "tcp dport 1-79": False,
    "tcp dport >= 80": True,
    "tcp dport { 22, 80-90 }": True,
    "tcp dport != { 22, 80 }": False,
    "udp dport 80": False,
    "udp dport != 80": False,
    "th dport 80": True,
    "@th,16,16 80": True,
    "ip saddr 10.0.0.0/24": True,
    "ip saddr != 10.0.0.0/24": False,
    "ip saddr 10.0.0.3-10.0.0.9": False,
    "ip6 saddr ::/0": False,
    "ip6 saddr != fd00::1": False,
    "ip saddr & 0.0.0.255 == 0.0.0.2": True,
    "ip protocol tcp": True,
    "ip ttl < 64": False,
    "ip length 60": True,
    "ip dscp cs1": False,
    "ip frag-off & 8191 != 0": False,
    "meta nfproto ipv4": True,
    "meta l4proto { tcp, udp }": True,
    "meta protocol ip6": False,
    'iifname "eth*"': True,
    'iifname != "eth0"': False,
    'iif "eth0"': True,
    'iifname { "lo", "eth0" }': True,
    'iifname . ip saddr { "eth0" . 10.0.0.0/24 }': True,
    'oifname "eth0"': False,
    'oifname != "eth0"': True,
    "oiftype != ether": False,
    "meta mark 0x00000000": True,
    "meta mark & 0x0000000f == 0x00000001": False,
    "meta skuid 0": False,
    "meta skuid != 0": False,
    "meta pkttype host": True,
    "tcp flags syn": True,
    "tcp flags syn / fin,syn,rst,ack": True,
    "tcp flags != syn": False,
    "tcp flags & (fin | syn) == fin | syn": False,
    "tcp flags ! syn": False,
    "ct state new": True,
    "ct state established,related": False,
    "ct state ! established,related": True,
    "ct state != established": True,
    "ct state { new, untracked }": True,
    "ct status dnat": False,
    "ct status ! dnat": True,
    "ct direction original": True,
    "ct original ip saddr 10.0.0.2": True,
    "ct original proto-dst 81": False,
    "ct reply ip saddr 10.0.0.1": True,
    "ct mark 0x00000000": True,
    "fib daddr type local": True,
    "fib saddr . iif oif missing": False,
    "fib saddr . iif oif exists": True,
    'fib daddr oif "eth1"': False,
    "socket transparent 1": False,
    "exthdr frag exists": False,
    "icmp type echo-request": False,
    "icmpv6 type != echo-request": False,
    "ip saddr . 10.0.0.9 . 80 { 10.0.0.0/24 . 10.0.0.9 . 80 }": True,
}


@pytest.mark.parametrize(("condition", "matches"), list(MATCHING.items()))
def test_conditions(condition: str, matches: bool) -> None:
    """A condition on what the packet does not have holds in neither sense."""
    passage = one(ruleset(f"{condition} drop"))
    assert passage.verdict.kind == ("drop" if matches else "accept")


@pytest.mark.parametrize(
    "condition",
    ["ip id 5", "tcp option maxseg size 1460", "meta cpu 1", "ct helper \"ftp\"", "ether saddr 02:00:00:00:00:01",
     "ct expiration 30s", "rt mtu 1500", "numgen inc mod 2 0", "ct status assured", "limit rate 1/second",
     "quota 1 mbytes", "ct count over 5", "@ih,0,32 1", "tcp sequence 1"],
)  # fmt: skip
def test_what_is_not_known_goes_both_ways(condition: str) -> None:
    packet = changed(ct_state="ESTABLISHED")
    dropped, accepted = sorted(run(ruleset(f"{condition} drop"), packet), key=lambda passage: passage.verdict.kind, reverse=True)
    assert (dropped.verdict.kind, accepted.verdict.kind) == ("drop", "accept")
    assert [doubt.assumed for doubt in dropped.doubts] == ["matches"]
    assert [doubt.assumed for doubt in accepted.doubts] == ["does not match"]
    assert all(doubt.because and doubt.source == Source("h", "nft-ruleset.txt", line=5) for doubt in (*dropped.doubts, *accepted.doubts))


def test_doubts_that_change_nothing_are_dropped() -> None:
    nft = ruleset(
        'limit rate 1/second log prefix "x"',
        "ip id 5 counter",
        "ip id 6 accept",
        "ip id 7 jump other",
        others="chain other {\nip id 8 return\n}",
    )
    assert one(nft).verdict.kind == "accept"
    twelve = [f"ip id {number} counter" for number in range(12)]
    dropped, accepted = run(ruleset(*twelve, "ip id 99 drop"))
    assert {dropped.verdict.kind, accepted.verdict.kind} == {"drop", "accept"}
    assert len(dropped.doubts) == len(accepted.doubts) == 1


def test_known_parts_decide_although_others_are_not_known() -> None:
    assert one(ruleset("ct status seen-reply drop")).verdict.kind == "accept"
    assert one(ruleset("ip id 5 tcp dport 81 drop")).verdict.kind == "accept"
    assert one(ruleset("ip id . tcp dport { 5 . 81 } drop")).verdict.kind == "accept"
    assert len(run(ruleset("ip id . tcp dport { 5 . 80 } drop"))) == 2
    assert one(ruleset("numgen inc mod 4 < 4 drop")).verdict.kind == "drop"


def test_before_conntrack_the_state_is_invalid() -> None:
    text = "table ip t {\nchain c {\ntype filter hook prerouting priority raw;\nct state invalid drop\n}\n}\n"
    nft, _ = parse_nft(text, Source("h", "f"))
    assert one(nft, changed(ct_state=None), "prerouting").verdict.kind == "drop"
    assert one(nft, changed(ct_state="UNTRACKED"), "prerouting").verdict.kind == "accept"
    later, _ = parse_nft(text.replace("raw", "mangle"), Source("h", "f"))
    assert len(run(later, changed(ct_state=None), "prerouting")) == 2


def test_a_packet_without_a_connection_has_no_connection_mark() -> None:
    assert one(ruleset("ct mark != 5 drop"), changed(ct_state="INVALID")).verdict.kind == "accept"
    assert one(ruleset("ct state invalid drop"), changed(ct_state="INVALID")).verdict.kind == "drop"
    assert len(run(ruleset("ct mark 5 drop"), changed(ct_mark=None))) == 2


def test_original_tuple() -> None:
    original = CtTuple(SYN.source, 40000, ipaddress.ip_address("192.0.2.9"), 8080)
    packet = changed(ct_original=original, ct_is_dnat=True, ct_state="ESTABLISHED")
    assert one(ruleset("ct original ip daddr 192.0.2.9 ct original proto-dst 8080 drop"), packet).verdict.kind == "drop"
    assert one(ruleset("ct status dnat drop"), packet).verdict.kind == "drop"


def test_own_packets_have_users() -> None:
    own = changed(in_interface="", out_interface="eth0", uid=1337)
    nft = ruleset("meta skuid 1337 accept", "drop", hook="output")
    assert one(nft, own, "output").verdict.kind == "accept"
    assert one(nft, changed(own, uid=0), "output").verdict.kind == "drop"
    assert {passage.verdict.kind for passage in run(nft, changed(own, uid=None), "output")} == {"accept", "drop"}


def test_chains_call_each_other() -> None:
    others = "chain web {\ntcp dport 443 accept\nreturn\ndrop\n}\nchain last {\ntcp dport 80 reject with tcp reset\n}\n"
    nft = ruleset("jump web", "goto last", "drop", others=others, policy="drop")
    passage = one(nft)
    assert passage.verdict.kind == "reject"
    assert passage.verdict.reject_with == "tcp-reset"
    assert passage.verdict.chain == "inet t c > last"
    assert [step.rule for step in passage.steps] == ["jump web", "return", "goto last", "tcp dport 80 reject with tcp reset"]
    assert passage.steps[-1].sources == (Source("h", "nft-ruleset.txt", line=8),)
    # What falls out of a chain that was gone to meets the policy, not the rule behind the goto.
    assert one(nft, changed(destination_port=81)).verdict.rule == "policy drop"


def test_accepting_ends_this_chain_and_the_policy_is_told() -> None:
    passage = one(ruleset("ct state established accept", policy="drop"))
    assert (passage.verdict.kind, passage.verdict.rule, passage.verdict.chain) == ("drop", "policy drop", "inet t c")
    assert passage.steps[-1].sources == (Source("h", "nft-ruleset.txt", line=3),)


@pytest.mark.parametrize(
    ("rule", "packet", "answer"),
    [
        ("reject", SYN, "icmp-port-unreachable"),
        ("reject", V6, "icmp6-port-unreachable"),
        ("reject with icmpx admin-prohibited", SYN, "icmp-admin-prohibited"),
        ("reject with icmpx admin-prohibited", V6, "icmp6-adm-prohibited"),
        ("reject with icmpx no-route", SYN, "icmp-net-unreachable"),
        ("reject with icmp host-unreachable", SYN, "icmp-host-unreachable"),
        ("reject with icmpv6 addr-unreachable", V6, "icmp6-addr-unreachable"),
        ("reject with icmp host-unreachable", V6, ""),
        ("reject with tcp reset", UDP, ""),
        ("reject with tcp reset", V6, "tcp-reset"),
    ],
)
def test_reject(rule: str, packet: Packet, answer: str) -> None:
    """A kind of answer that the packet cannot have is a condition that it does not meet."""
    verdict = one(ruleset(rule), packet).verdict
    assert (verdict.kind, verdict.reject_with) == (("reject", answer) if answer else ("accept", ""))


def _nat(rule: str, packet: Packet = SYN, others: str = "") -> Verdict:
    return one(ruleset(rule, hook="prerouting", kind="nat", others=others), packet, "prerouting").verdict


@pytest.mark.parametrize(
    ("rule", "kind", "addresses", "ports", "is_random"),
    [
        ("dnat ip to 10.0.0.5", "DNAT", "10.0.0.5 10.0.0.5", None, False),
        ("dnat ip to 10.0.0.5-10.0.0.9:80-90 random", "DNAT", "10.0.0.5 10.0.0.9", (80, 90), True),
        ("dnat ip to tcp dport map { 80 : 10.0.0.5 . 8080, 81 : 10.0.0.6 . 8081 }", "DNAT", "10.0.0.5 10.0.0.5", (8080, 8080), False),
        ("dnat ip to tcp dport map @backends", "DNAT", "10.0.0.7 10.0.0.7", None, False),
        ("dnat ip prefix to ip daddr map { 10.0.0.0/24 : 192.168.0.0/24 }", "NETMAP", "192.168.0.0 192.168.0.255", None, False),
        ("dnat to :8080", "DNAT", None, (8080, 8080), False),
        ("redirect to :15001", "REDIRECT", None, (15001, 15001), False),
        ("redirect to :tcp dport map { 80 : 8080 }", "REDIRECT", None, (8080, 8080), False),
        ("redirect", "REDIRECT", None, None, False),
        ("masquerade fully-random", "MASQUERADE", None, None, True),
        ("snat ip to 10.0.0.0/30", "SNAT", "10.0.0.0 10.0.0.3", None, False),
    ],
)
def test_nat(rule: str, kind: str, addresses: str | None, ports: tuple[int, int] | None, is_random: bool) -> None:
    verdict = _nat(rule, others="map backends {\ntype inet_service : ipv4_addr\nelements = { 80 : 10.0.0.7 }\n}")
    assert verdict.kind == "nat"
    assert verdict.nat is not None
    shown = None if verdict.nat.addresses is None else " ".join(map(str, verdict.nat.addresses))
    assert (verdict.nat.kind, shown, verdict.nat.ports, verdict.nat.is_random) == (kind, addresses, ports, is_random)


def test_nat_that_does_not_apply() -> None:
    assert _nat("dnat ip to 10.0.0.5", V6).kind == "accept"
    assert _nat("dnat ip to tcp dport map { 443 : 10.0.0.5 }").kind == "accept"


def test_each_backend_of_a_balancer_is_a_way() -> None:
    rule = "dnat ip to numgen inc mod 3 map { 0 : 10.1.0.1, 1 : 10.1.0.2, 2 : 10.1.0.3 }"
    passages = run(ruleset(rule, hook="prerouting", kind="nat"), hook="prerouting")
    found = {str(passage.verdict.nat.addresses[0]) for passage in passages if passage.verdict.nat and passage.verdict.nat.addresses}
    assert found == {"10.1.0.1", "10.1.0.2", "10.1.0.3"}
    assert len(passages) == 3
    jumps = ruleset(
        "numgen random mod 2 vmap { 0 : jump a, 1 : jump b }",
        hook="prerouting",
        kind="nat",
        others="chain a {\ndnat ip to 10.1.0.1\n}\nchain b {\ndnat ip to 10.1.0.1\n}",
    )
    assert len(run(jumps, hook="prerouting")) == 2


@pytest.mark.parametrize(
    ("rule", "field", "value"),
    [
        ("meta mark set 0x00000010", "mark", 16),
        ("meta mark set meta mark & 0xffffff00 | 0x00000012", "mark", 0x12),
        ("meta mark set tcp dport map { 80 : 0x00000007 }", "mark", 7),
        ("ct mark set 0x00000005", "ct_mark", 5),
        ("ip dscp set cs3", "dscp", 24),
        ("ip ttl set 1", "ttl", 1),
        ("ip daddr set 10.9.9.9", "destination", ipaddress.ip_address("10.9.9.9")),
        ("tcp dport set 8080", "destination_port", 8080),
        ("ip6 hoplimit set 5", "ttl", 64),
        ("udp dport set 53", "destination_port", 80),
        ("meta mark set tcp dport map { 443 : 0x00000007 }", "mark", 0),
    ],
)
def test_changes(rule: str, field: str, value: object) -> None:
    passage = one(ruleset(rule))
    assert getattr(passage.packet, field) == value
    assert bool(len(passage.steps) - 1) == (passage.packet != SYN)


def test_marks_that_are_not_known() -> None:
    nft = ruleset("meta mark set ct mark", "meta mark 0x00000005 drop")
    assert one(nft, changed(ct_mark=5)).verdict.kind == "drop"
    assert {passage.packet.mark for passage in run(nft, changed(ct_mark=None, mark=3))} >= {3, 0}
    spread = run(ruleset("meta mark set numgen inc mod 2 offset 10", "meta mark 0x0000000a drop"))
    assert sorted((passage.verdict.kind, passage.packet.mark) for passage in spread) == [("accept", 11), ("drop", 10)]


def test_notrack() -> None:
    fresh = one(ruleset("notrack", hook="prerouting"), changed(ct_state=None), "prerouting")
    assert (fresh.packet.ct_state, fresh.packet.ct_is_tracked) == ("UNTRACKED", False)
    assert one(ruleset("notrack")).packet.ct_state == "NEW"


def test_tproxy_needs_a_socket_and_an_accept() -> None:
    nft = ruleset("meta l4proto tcp tproxy ip to 127.0.0.1:9000 meta mark set 0x00000001 accept", hook="prerouting")
    passage = one(nft, hook="prerouting")
    assert (passage.verdict.kind, passage.verdict.port, str(passage.verdict.address)) == ("tproxy", 9000, "127.0.0.1")
    assert passage.packet.mark == 1
    dead = one(nft, hook="prerouting", has_socket=lambda packet: False)
    assert (dead.verdict.kind, dead.packet.mark) == ("accept", 0)
    assert {one.verdict.kind for one in run(nft, hook="prerouting", has_socket=lambda packet: None)} == {"tproxy", "accept"}


def test_verdict_maps() -> None:
    nft = ruleset(
        "ct state vmap { established : accept, invalid : drop, new : jump first }", policy="drop", others="chain first {\naccept\n}"
    )
    assert one(nft).verdict.chain == "inet t c > first"
    assert one(nft, changed(ct_state="INVALID")).verdict.kind == "drop"
    assert one(nft, changed(ct_state="RELATED")).verdict.rule == "policy drop"
    named = "map m {\ntype ipv4_addr . inet_service : verdict\nflags interval\nelements = { 10.0.0.0/24 . 80-90 : drop, * : continue }\n}"
    assert one(ruleset("ip saddr . tcp dport vmap @m", "accept", others=named)).verdict.kind == "drop"
    assert one(ruleset("ip saddr . tcp dport vmap @m", "accept", others=named), changed(destination_port=22)).verdict.kind == "accept"
    assert one(ruleset("ip saddr . tcp dport vmap @m", "accept", others=named), V6).verdict.kind == "accept"


def test_sets_that_the_file_does_not_hold() -> None:
    assert {passage.verdict.kind for passage in run(ruleset("ip saddr @gone drop"))} == {"drop", "accept"}
    assert {passage.verdict.kind for passage in run(ruleset("jump gone", "drop"))} == {"accept", "drop"}


def test_rules_that_are_not_understood() -> None:
    """iptables' own matches may hold or not; a target of which only the name is known may do anything."""

    def passages(*statements: dict[str, Any]) -> set[str]:
        body = {"family": "ip", "table": "t", "chain": "c", "expr": list(statements)}
        chain = {"family": "ip", "table": "t", "name": "c", "type": "filter", "hook": "input", "prio": 0}
        nft, _ = parse_nft(json.dumps({"nftables": [{"chain": chain}, {"rule": body}]}), Source("h", "f"))
        return {passage.verdict.kind for passage in run_nft(nft, nft.chains["ip", "t", "c"], SYN, surroundings())}

    other = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 81}}
    assert passages({"xt": {"type": "match", "name": "recent"}}, {"drop": None}) == {"accept", "drop"}
    assert passages({"xt": {"type": "target", "name": "REJECT"}}) == {"reject"}
    assert passages({"xt": {"type": "target", "name": "LOG"}}) == {"accept"}
    assert passages({"xt": {"type": "target", "name": "REDIRECT"}}) == {"accept", "drop"}
    assert passages({"xt": None}) == {"accept", "drop"}
    assert passages(other, {"xt": {"type": "target", "name": "REJECT"}}) == {"accept"}
    assert passages({"teleport": None}) == {"accept", "drop"}


def test_which_chains_hook_where() -> None:
    def table(name: str, **chains: str) -> str:
        inside = "".join(f"chain {chain} {{\ntype filter hook {hook};\n}}\n" for chain, hook in chains.items())
        return f"table {name} {{\n{inside}}}\n"

    text = (
        table("inet a", late="input priority 10", soon="input priority -10")
        + table("ip b", c="input priority -10", o="output priority 0")
        + table("ip6 b", c="input priority 0")
        + table("bridge b", c="input priority 0")
        + table("ip off", c="input priority 0").replace("{", "{\nflags dormant", 1)
        + table("netdev n", i='ingress device "eth0" priority 0', j="ingress priority 0")
    )
    nft, _ = parse_nft(text, Source("h", "f"))
    assert [f"{chain.family} {chain.name}" for chain in base_chains(nft, "INPUT", 4)] == ["inet soon", "ip c", "inet late"]
    assert [f"{chain.family} {chain.name}" for chain in base_chains(nft, "INPUT", 6)] == ["inet soon", "ip6 c", "inet late"]
    assert [chain.name for chain in device_chains(nft, "eth0", "ingress")] == ["i", "j"]
    assert [chain.name for chain in device_chains(nft, "eth1", "ingress")] == ["j"]


def test_a_table_that_is_perhaps_dormant() -> None:
    nft = dataclasses.replace(ruleset("drop"), perhaps_dormant=frozenset({("inet", "t")}))
    assert {passage.verdict.kind for passage in run(nft)} == {"accept", "drop"}
    harmless = dataclasses.replace(ruleset("counter"), perhaps_dormant=frozenset({("inet", "t")}))
    assert one(harmless).verdict.kind == "accept"


@pytest.mark.parametrize(
    "others",
    [
        "chain a {\njump a\n}",
        "chain a {\ngoto b\n}\nchain b {\ngoto a\n}",
        "chain a {\n" + "jump a\n" * 40 + "}",
        "chain a {\njump b0\n}\nchain b14 {\nip id 1 drop\n}\n"
        + "".join(f"chain b{number} {{\n" + f"jump b{number + 1}\n" * 8 + "}\n" for number in range(14)),
        "chain a {\n" + "ip id 1 drop\n" * 99 + "}",
    ],
)
def test_loops_and_floods_end(others: str) -> None:
    """The kernel refuses loops; a file can hold them."""
    passages = run(ruleset("jump a", others=others))
    assert 1 < len(passages) <= MOST_WAYS
    assert {"accept", "drop"} <= {passage.verdict.kind for passage in passages}
    assert all(passage.doubts for passage in passages)


WORDS = (
    "match left right op payload protocol field meta key ct fib result flags set elem val range prefix addr len concat map vmap "
    "data & | << mangle value dnat port jump target numgen mod offset tproxy reject type expr xt name base drop"
)
EXPRESSIONS = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.booleans()
    | st.sampled_from(["@s", "tcp", "dport", "mark", "10.0.0.0", "new", "saddr", "state"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EXPRESSIONS, max_size=4))
def test_any_rule_is_evaluated_to_an_end(statements: list[object]) -> None:
    body = {"family": "inet", "table": "t", "chain": "c", "expr": statements}
    chain = {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}
    nft, _ = parse_nft(json.dumps({"nftables": [{"chain": chain}, {"rule": body}]}), Source("h", "f"))
    for packet in (SYN, V6):
        passages = run_nft(nft, nft.chains["inet", "t", "c"], packet, surroundings())
        assert 1 <= len(passages) <= MOST_WAYS
        assert all(passage.steps for passage in passages)


def test_against_this_kernel() -> None:
    """Each condition counts in a chain of a real kernel; packets from a wire raise the counters that the evaluation says."""
    told, nft = in_kernel(sys.executable)
    chain = nft.chains["inet", "t", "c"]
    assert len(chain.rules) > len(CONDITIONS) * 0.8
    compared = 0
    for packet, risen in zip(PACKETS, told, strict=True):
        for rule, counted in zip(chain.rules, risen, strict=True):
            single = dataclasses.replace(chain, rules=[dataclasses.replace(rule, expressions=(*rule.expressions, {"drop": None}))])
            passages = run_nft(nft, single, packet, surroundings())
            if len(passages) == 1:
                compared += 1
                assert (passages[0].verdict.kind == "drop") == counted, f"{rule.text} on {packet}"
    assert compared > len(chain.rules) * len(PACKETS) * 0.9
