"""Base chains of iptables: what the kernel matched, and verdicts, ways and doubts of hand-made chains."""

import dataclasses
import ipaddress
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.evidence.state import State
from tcpwhy.path import iptables_chain
from tcpwhy.path.answers import Unknown
from tcpwhy.path.iptables_chain import run_iptables
from tcpwhy.path.iptables_look import Look
from tcpwhy.path.iptables_matches import test_rule as rule_matches
from tcpwhy.path.packet import CtTuple, Packet
from tcpwhy.path.passage import MOST_WAYS, Hook, Passage, Surroundings
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.iptables import Iptables, parse_save
from tcpwhy.tables.iptables_options import EXTENSIONS
from tests.path.iptables_conditions import met_by_a_syn

HERE = Source("h", "h/state/iptables-save.txt")


def host_of(folder: Path | None = None, **files: str) -> HostTables:
    paths, shown = {}, {}
    for name, text in files.items():
        assert folder is not None
        file = name.replace("_", "-") + ".txt"
        paths[file] = folder / file
        paths[file].write_text(text)
        shown[file] = f"h/state/{file}"
    return HostTables(State("h", paths, shown, []))


def around(hook: Hook = "INPUT", host: HostTables | None = None, **more: object) -> Surroundings:
    asked: dict[str, object] = {
        "host": host or host_of(),
        "hook": hook,
        "address_type": lambda address, interface: "LOCAL" if address.is_loopback else "UNICAST",
        "reverse_path": lambda packet, loose: None,
        "route_of": lambda address, packet: None,
        "has_socket": lambda packet: None,
        **more,
    }
    return Surroundings(**asked)  # type: ignore[arg-type]


SYN = Packet(
    protocol="tcp", source=ipaddress.ip_address("10.1.0.2"), source_port=40000, destination=ipaddress.ip_address("10.2.0.3"),
    destination_port=80, flags="S", length=60, ttl=63, in_interface="eth0", ct_state="NEW",
)  # fmt: skip


def changed(**values: object) -> Packet:
    return dataclasses.replace(SYN, **values)  # type: ignore[arg-type]


def ruleset_of(text: str, table: str = "filter", family: Literal[4, 6] = 4) -> Iptables:
    """Chains and rules of one table; INPUT's policy is ACCEPT where none is given."""
    head = "" if ":INPUT" in text else ":INPUT ACCEPT [0:0]\n"
    (ruleset,) = parse_save(f"*{table}\n{head}{text.strip()}\nCOMMIT\n".splitlines(), HERE, family)
    return ruleset


def walk(text: str, packet: Packet = SYN, table: str = "filter", chain: Hook = "INPUT", **more: object) -> list[Passage]:
    return run_iptables(ruleset_of(text, table, 6 if packet.version == 6 else 4), table, chain, packet, around(chain, **more))  # type: ignore[arg-type]


def only(text: str, packet: Packet = SYN, table: str = "filter", chain: Hook = "INPUT", **more: object) -> Passage:
    (passage,) = walk(text, packet, table, chain, **more)
    assert passage.doubts == ()
    return passage


def answer(condition: str, packet: Packet = SYN, hook: Hook = "INPUT", **more: object) -> bool | None:
    """What the matches of one rule say; None where it cannot be told."""
    ruleset = ruleset_of(f"-A INPUT {condition}", "filter", 6 if packet.version == 6 else 4)
    found = rule_matches(ruleset.rules[0], Look(packet, around(hook, **more), "filter"), {}).answer  # type: ignore[arg-type]
    return None if isinstance(found, Unknown) else found


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("chain", ["INPUT", "OUTPUT"])
def test_the_kernel_matches_the_same(variant: Literal["nft", "legacy"], chain: Literal["INPUT", "OUTPUT"]) -> None:
    met = met_by_a_syn(variant, chain)
    if met is None:
        pytest.skip(f"iptables-{variant} cannot run here")
    assert len(met) > 60
    here = ipaddress.ip_address("127.0.0.1")
    packet = changed(source=here, source_port=5555, destination=here, destination_port=7777, ttl=64, in_interface="lo")
    if chain == "OUTPUT":
        packet = dataclasses.replace(packet, in_interface="", out_interface="lo", uid=0, gid=0)
    told = 0
    for condition, true in met.items():
        found = answer(condition, packet, chain, has_socket=lambda packet: True)
        assert found in (true, None), condition
        told += found is not None
    assert told > 0.9 * len(met)


def test_jumps_gotos_and_returns() -> None:
    rules = """
:INPUT DROP [0:0]
:FIRST - [0:0]
:SECOND - [0:0]
:THIRD - [0:0]
-A INPUT -p udp -j ACCEPT
-A INPUT -p tcp -j FIRST
-A INPUT -j ACCEPT
-A FIRST -j SECOND
-A FIRST -s 10.1.0.0/16 -g THIRD
-A FIRST -j DROP
-A SECOND -d 10.2.0.3/32 -j RETURN
-A SECOND -j REJECT
-A THIRD -p udp -j DROP
"""
    passage = only(rules)
    assert (passage.verdict.kind, passage.verdict.rule, passage.verdict.chain) == ("accept", "-A INPUT -j ACCEPT", "filter INPUT")
    assert [step.rule for step in passage.steps] == [
        "-A INPUT -p tcp -j FIRST",
        "-A FIRST -j SECOND",
        "-A SECOND -d 10.2.0.3/32 -j RETURN",
        "-A FIRST -s 10.1.0.0/16 -g THIRD",
        "-A INPUT -j ACCEPT",
    ]
    assert passage.verdict.source is not None
    assert passage.verdict.source.line == 8
    rejected = only(rules, changed(destination=ipaddress.ip_address("10.2.0.4")))
    assert (rejected.verdict.kind, rejected.verdict.reject_with) == ("reject", "icmp-port-unreachable")
    assert rejected.verdict.chain == "filter INPUT > FIRST > SECOND"
    dropped = only(rules, changed(source=ipaddress.ip_address("10.9.0.4")))
    assert (dropped.verdict.kind, dropped.verdict.rule) == ("drop", "-A FIRST -j DROP")


def test_return_in_a_base_chain_is_the_policy() -> None:
    passage = only(":INPUT DROP [0:0]\n-A INPUT -p tcp -j RETURN\n-A INPUT -j ACCEPT")
    assert (passage.verdict.kind, passage.verdict.rule) == ("drop", ":INPUT DROP")
    assert [step.rule for step in passage.steps] == ["-A INPUT -p tcp -j RETURN", ":INPUT DROP"]


def test_a_goto_from_a_base_chain_ends_in_the_policy() -> None:
    assert only(":INPUT DROP [0:0]\n:X - [0:0]\n-A INPUT -g X\n-A INPUT -j ACCEPT\n-A X -p udp -j ACCEPT").verdict.kind == "drop"


def test_a_chain_that_is_not_there_accepts() -> None:
    ruleset = ruleset_of("-A INPUT -j DROP")
    assert [one.verdict.kind for one in run_iptables(ruleset, "nat", "PREROUTING", SYN, around())] == ["accept"]
    ruleset.lost["nat"] = "Table `nat' is incompatible"
    kinds = [(one.verdict.kind, one.doubts[0].because) for one in run_iptables(ruleset, "nat", "PREROUTING", SYN, around())]
    assert kinds == [("accept", "Table `nat' is incompatible"), ("drop", "Table `nat' is incompatible")]


def test_both_ways_where_a_rule_cannot_be_told() -> None:
    accepted, dropped = sorted(walk("-A INPUT -m limit --limit 1/sec -j ACCEPT\n-A INPUT -j DROP"), key=lambda one: one.verdict.kind)
    assert (accepted.verdict.kind, dropped.verdict.kind) == ("accept", "drop")
    assert [doubt.assumed for doubt in (*accepted.doubts, *dropped.doubts)] == ["matches", "does not match"]
    (doubt,) = dropped.doubts
    assert (doubt.text, doubt.source) == ("-A INPUT -m limit --limit 1/sec -j ACCEPT", dataclasses.replace(HERE, line=3))


@pytest.mark.parametrize(
    "rules",
    [
        "-A INPUT -m limit --limit 1/sec -j LOG\n-A INPUT -m string --algo bm --string x\n-A INPUT -j DROP",
        "-A INPUT -m limit --limit 1/sec -j DROP\n-A INPUT -j DROP\n-A INPUT -j ACCEPT",
        ":X - [0:0]\n-A INPUT -m limit --limit 1/sec -j X\n-A INPUT -j DROP\n-A X -p udp -j ACCEPT\n-A X -m quota --quota 1 -j RETURN",
        "-A INPUT -m bogus --thing -p udp -j ACCEPT\n-A INPUT -j DROP",
        "-A INPUT -m bogus --thing -s 10.9.0.0/16 -j ACCEPT\n-A INPUT -m set --match-set x src -i eth9 -j ACCEPT\n-A INPUT -j DROP",
    ],
)
def test_doubts_that_change_nothing(rules: str) -> None:
    passages = walk(rules)
    assert {one.verdict.kind for one in passages} == {"drop"}
    if len(passages) == 1:
        assert passages[0].doubts == ()
        assert passages[0].verdict.rule == "-A INPUT -j DROP"


def test_accepting_either_way_names_no_rule_that_may_not_have_matched() -> None:
    passage = only("-A INPUT -m limit --limit 1/sec -j ACCEPT\n-A INPUT -p tcp -j ACCEPT\n-A INPUT -j DROP")
    assert (passage.verdict.kind, passage.verdict.rule, passage.verdict.source) == ("accept", "", None)
    assert len(passage.steps) == 1


def test_the_same_question_is_answered_alike() -> None:
    out = changed(in_interface="", out_interface="eth0", uid=None)
    rules = (
        ":OUTPUT DROP [0:0]\n-A OUTPUT -m owner --uid-owner 5 -j MARK --set-xmark 0x1/0xff\n-A OUTPUT -m owner ! --uid-owner 5 -j ACCEPT"
    )
    passages = walk(rules, out, chain="OUTPUT")
    assert sorted((one.verdict.kind, one.packet.mark) for one in passages) == [("accept", 0), ("drop", 1)]


def test_an_unread_rule_is_in_doubt_and_an_unknown_target_may_do_anything() -> None:
    assert {one.verdict.kind for one in walk("-A INPUT -m bogus --thing -j ACCEPT\n-A INPUT -j DROP")} == {"accept", "drop"}
    passages = walk(":INPUT DROP [0:0]\n-A INPUT -p tcp -j TELEPORT --far")
    assert {(one.verdict.kind, one.doubts[-1].assumed) for one in passages} >= {("accept", "the packet is accepted")}
    assert only(":INPUT DROP [0:0]\n-A INPUT -p udp -j TELEPORT --far").verdict.kind == "drop"


def test_a_file_that_ends_early_leaves_the_end_open() -> None:
    (ruleset,) = parse_save(["*filter", ":INPUT ACCEPT [0:0]", "-A INPUT -p udp -j DROP"], HERE, 4)
    assert {one.verdict.kind for one in run_iptables(ruleset, "filter", "INPUT", SYN, around())} == {"accept", "drop"}
    (sure,) = run_iptables(ruleset, "filter", "INPUT", changed(protocol="udp"), around())
    assert (sure.verdict.kind, sure.doubts) == ("drop", ())


def test_circles_and_floods_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables_chain, "MOST_TESTED", 20_000)
    circle = ":A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -g A"
    passages = walk(circle)
    assert {one.verdict.kind for one in passages} == {"accept", "drop"}
    doubling = "\n".join(f":C{n} - [0:0]" for n in range(40)) + "\n-A INPUT -j C0\n"
    doubling += "\n".join(f"-A C{n} -j C{n + 1}\n-A C{n} -j C{n + 1}" for n in range(39))
    flood = walk(doubling)
    assert {one.verdict.kind for one in flood} == {"accept", "drop"}
    assert "rules" in flood[0].doubts[-1].because
    many = "\n".join(f"-A INPUT -m limit --limit 1/sec -j MARK --set-xmark {1 << n:#x}/0x0" for n in range(12)) + "\n-A INPUT -j ACCEPT"
    ways = walk(many)
    assert len(ways) <= MOST_WAYS
    assert all(one.doubts for one in ways)
    deep = "\n".join(f":D{n} - [0:0]" for n in range(500)) + "\n-A INPUT -j D0\n" + "\n".join(f"-A D{n} -j D{n + 1}" for n in range(499))
    assert len(walk(deep)) == 2


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("MARK --set-xmark 0x10/0xff", {"mark": 0x310}),
        ("MARK --set-mark 0x1", {"mark": 0x1}),
        ("MARK --set-mark 0x1/0xff", {"mark": 0x301}),
        ("MARK --and-mark 0x5", {"mark": 0x4}),
        ("MARK --or-mark 0x3", {"mark": 0x307}),
        ("MARK --xor-mark 0x4", {"mark": 0x300}),
        ("CONNMARK --save-mark --nfmask 0xff --ctmask 0xff", {"ct_mark": 0x1104}),
        ("CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xff", {"mark": 0x22}),
        ("CONNMARK --restore-mark --nfmask 0xf --ctmask 0xf", {"mark": 0x302}),
        ("CONNMARK --set-xmark 0x5/0xffffffff", {"ct_mark": 5}),
        ("TTL --ttl-dec 3", {"ttl": 60}),
        ("TTL --ttl-inc 250", {"ttl": 255}),
        ("TTL --ttl-set 5", {"ttl": 5}),
        ("DSCP --set-dscp 0x2e", {"dscp": 46}),
        ("DSCP --set-dscp-class AF21", {"dscp": 18}),
        ("TOS --set-tos 0x10/0x3f", {"dscp": 4}),
        ("CT --zone 5", {}),
        ("TCPMSS --clamp-mss-to-pmtu", {}),
        ("LOG --log-prefix x", {}),
        ("TEE --gateway 10.0.0.1", {}),
    ],
)
def test_what_targets_change(target: str, expected: dict[str, object]) -> None:
    packet = changed(mark=0x304, ct_mark=0x1122)
    passage = only(f"-A INPUT -j {target}", packet, "mangle")
    assert passage.packet == dataclasses.replace(packet, **expected)  # type: ignore[arg-type]
    assert passage.verdict.kind == "accept"
    assert len(passage.steps) == (2 if expected else 1)


def test_notrack() -> None:
    passage = only("-A INPUT -j CT --notrack\n-A INPUT -m conntrack --ctstate UNTRACKED -j DROP", changed(ct_state=None), "raw")
    assert (passage.packet.ct_is_tracked, passage.packet.ct_state, passage.verdict.kind) == (False, "UNTRACKED", "drop")
    assert only("-A INPUT -j NOTRACK", SYN, "raw").packet == SYN
    untracked = changed(ct_is_tracked=False, ct_state="UNTRACKED", mark=7)
    assert only("-A INPUT -j CONNMARK --restore-mark", untracked, "mangle").packet == untracked


def test_a_mark_that_is_not_known_is_tried() -> None:
    rules = "-A INPUT -j CONNMARK --restore-mark\n-A INPUT -m mark --mark 0x7 -j DROP"
    passages = walk(rules, changed(ct_mark=None), "mangle")
    assert {(one.verdict.kind, one.packet.mark, one.doubts[0].assumed) for one in passages} == {
        ("drop", 7, "the mark is 0x7"),
        ("accept", 0, "the mark is 0x0"),
    }


NAT = [
    ("DNAT --to-destination 10.0.0.1:8080", "DNAT", ("10.0.0.1", "10.0.0.1"), (8080, 8080)),
    ("DNAT --to-destination 10.0.0.1-10.0.0.5:8080-8090 --random", "DNAT", ("10.0.0.1", "10.0.0.5"), (8080, 8090)),
    ("DNAT --to-destination :8080", "DNAT", None, (8080, 8080)),
    ("DNAT --to-destination 10.0.0.1:1000-1009/75", "DNAT", ("10.0.0.1", "10.0.0.1"), (1005, 1005)),
    ("SNAT --to-source 192.0.2.1", "SNAT", ("192.0.2.1", "192.0.2.1"), None),
    ("MASQUERADE --to-ports 1024-2048", "MASQUERADE", None, (1024, 2048)),
    ("MASQUERADE", "MASQUERADE", None, None),
    ("REDIRECT --to-ports 15001", "REDIRECT", None, (15001, 15001)),
    ("NETMAP --to 10.5.0.0/16", "NETMAP", ("10.5.0.0", "10.5.255.255"), None),
]


@pytest.mark.parametrize(("target", "kind", "addresses", "ports"), NAT)
def test_translations(target: str, kind: str, addresses: tuple[str, str] | None, ports: tuple[int, int] | None) -> None:
    verdict = only(f"-A INPUT -p tcp -j {target}", SYN, "nat").verdict
    assert verdict.kind == "nat"
    assert verdict.nat is not None
    assert (verdict.nat.kind, verdict.nat.ports) == (kind, ports)
    assert verdict.nat.addresses == (addresses and tuple(ipaddress.ip_address(one) for one in addresses))
    assert verdict.nat.is_random is ("--random" in target)


def test_translations_of_ipv6() -> None:
    six = changed(source=ipaddress.ip_address("fd00::1"), destination=ipaddress.ip_address("fd00::2"))
    for target, ports in (("[fd01::1-fd01::9]:80", (80, 80)), ("fd01::1-fd01::9", None)):
        nat = only(f"-A INPUT -p tcp -j DNAT --to-destination {target}", six, "nat").verdict.nat
        assert nat is not None
        assert (nat.addresses, nat.ports) == ((ipaddress.ip_address("fd01::1"), ipaddress.ip_address("fd01::9")), ports)


def test_other_ends() -> None:
    proxied = only("-A INPUT -p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x1/0xff", changed(mark=0x300), "mangle")
    assert (proxied.verdict.kind, proxied.verdict.port, str(proxied.verdict.address)) == ("tproxy", 15001, "127.0.0.1")
    assert proxied.packet.mark == 0x301
    anywhere = only("-A INPUT -p tcp -j TPROXY --on-port 0 --on-ip 0.0.0.0 --tproxy-mark 0x0/0x0", SYN, "mangle").verdict
    assert (anywhere.port, anywhere.address) == (80, None)
    assert only("-A INPUT -j NFQUEUE --queue-num 3 --queue-bypass").verdict.kind == "queue"
    assert only("-A INPUT -p tcp -j REJECT --reject-with tcp-reset").verdict.reject_with == "tcp-reset"
    assert only("-A INPUT -p tcp -j SYNPROXY --mss 1460").verdict.kind == "stolen"


MATCHED = [
    ("-p icmp -m icmp --icmp-type echo-request", changed(protocol="icmp", icmp_type=8, icmp_code=0), True),
    ("-p icmp -m icmp --icmp-type 3/4", changed(protocol="icmp", icmp_type=3, icmp_code=4), True),
    ("-p icmp -m icmp ! --icmp-type 3/4", changed(protocol="icmp", icmp_type=3, icmp_code=1), True),
    ("-p icmp -m icmp --icmp-type 3/4", changed(protocol="icmp", icmp_type=3), None),
    ("-p icmp -m icmp --icmp-type any", changed(protocol="icmp"), True),
    ("-p ipencap", changed(protocol="ipip"), True),
    ("-p 47", changed(protocol="gre"), True),
    ("-p tcp -m tcp --dport 80", changed(destination_port=None), None),
    ("-m conntrack --ctstate INVALID", changed(ct_state="INVALID"), True),
    ("-m conntrack --ctorigdst 10.2.0.3", changed(ct_state="INVALID"), False),
    ("-m conntrack ! --ctstate INVALID", changed(ct_state="ESTABLISHED", is_reply=True), True),
    ("-m conntrack --ctstate ESTABLISHED", changed(ct_state=None), None),
    ("-m conntrack --ctstate DNAT", changed(ct_is_dnat=True), True),
    ("-m conntrack --ctdir REPLY", changed(ct_state="ESTABLISHED", is_reply=True), True),
    ("-m conntrack --ctorigdst 10.96.0.1 --ctorigdstport 443",
     changed(ct_original=CtTuple(SYN.source, 40000, ipaddress.ip_address("10.96.0.1"), 443), ct_is_dnat=True), True),
    ("-m conntrack --ctorigdst 10.96.0.1", changed(ct_is_dnat=True), None),
    ("-m owner --uid-owner 5", SYN, False),
    ("-m owner ! --uid-owner 5", SYN, True),
    ("-m owner --uid-owner 5", changed(in_interface="", uid=None), None),
    ("-m owner --uid-owner envoy", changed(in_interface="", uid=5), None),
    ("-m owner --uid-owner root", changed(in_interface="", uid=0), True),
    ("-m connmark --mark 0x0", changed(ct_state="INVALID"), False),
    ("-m connmark --mark 0x1", changed(ct_mark=None), None),
    ("-i eth+", SYN, True),
    ("-i eth0.5", SYN, False),
    ("-o eth1", SYN, False),
    ("-m ttl --ttl-lt 64", changed(ttl=None), None),
    ("-m length --length 60", changed(length=None), None),
    ("-m mac --mac-source 00:11:22:33:44:55", SYN, None),
    ("-m string --algo bm --string x", SYN, None),
    ("-m bpf --bytecode '1,6 0 0 0'", SYN, None),
    ("-m set --match-set s src", SYN, None),
    ("-m tcpmss --mss 1:500", SYN, None),
    ("-p tcp -m tcpmss --mss 1:500", changed(flags="A"), False),
    ("-m policy --dir in --pol none", SYN, None),
    ("-m rpfilter", SYN, None),
    ("-m rpfilter", changed(in_interface="lo"), True),
    ("-m nowhere", SYN, None),
    ("-s gateway.example", SYN, None),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "packet", "true"), MATCHED)
def test_matches(condition: str, packet: Packet, true: bool | None) -> None:
    assert answer(condition, packet) is true


def test_matches_that_ask_the_host(tmp_path: Path) -> None:
    host = host_of(tmp_path, ipset="create s hash:net,port family inet\nadd s 10.1.0.0/16,tcp:80\n")
    assert answer("-m set --match-set s src,dst", host=host) is True
    assert answer("-m set ! --match-set s src,src", host=host) is True
    assert answer("-m set --match-set absent src", host=host) is None
    assert answer("-m set --match-set s src,dst --packets-gt 3", host=host) is None
    assert answer("-m rpfilter --invert", reverse_path=lambda packet, loose: False) is True
    assert answer("-m rpfilter --loose", reverse_path=lambda packet, loose: loose) is True
    assert answer("-m rpfilter", changed(mark=5), reverse_path=lambda packet, loose: packet.mark == 0) is True
    assert answer("-m rpfilter --validmark", changed(mark=5), reverse_path=lambda packet, loose: packet.mark == 0) is False
    assert answer("-m socket", has_socket=lambda packet: False) is False
    assert answer("-m socket --nowildcard", has_socket=lambda packet: True) is True
    assert answer("-m socket", has_socket=lambda packet: True) is None
    assert answer("-m addrtype --dst-type LOCAL --limit-iface-in", address_type=lambda address, interface: interface and "LOCAL") is True
    assert answer("-m addrtype --dst-type LOCAL", address_type=lambda address, interface: None) is None
    added = walk("-A INPUT -j SET --add-set s src,dst\n-A INPUT -m set --match-set s src,dst -j DROP", host=host)
    assert {one.verdict.kind for one in added} == {"accept", "drop"}


_OPTION = st.builds(
    lambda name, values: f"--{name} {' '.join(values)}",
    st.sampled_from(sorted({option for options in EXTENSIONS.values() for option in options})),
    st.lists(
        st.sampled_from(["0", "1", "0x1/0xff", "1:2", "a", "10.0.0.0/8", "src,dst", "NEW", ":", "-", "/", "1-2", "99999999999999999999"]),
        max_size=2,
    ),
)
_RULE = st.builds(
    lambda chain, head, module, options, target, more: f"-A {chain} {head} -m {module} {' '.join(options)} -j {target} {' '.join(more)}",
    st.sampled_from(["INPUT", "X", "Y"]),
    st.sampled_from(["", "-p tcp", "! -s 10.0.0.0/8", "-i eth0", "-p 999", "-s x", "-d ::1/64"]),
    st.sampled_from(sorted(EXTENSIONS)),
    st.lists(_OPTION, max_size=3),
    st.sampled_from(["X", "Y", "INPUT", *sorted(name for name in EXTENSIONS if name.isupper())]),
    st.lists(_OPTION, max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_RULE, max_size=12), st.sampled_from([SYN, changed(protocol="icmp", source_port=None, ct_state=None, flags=None, ttl=None)])
)
def test_any_rules_are_walked(rules: list[str], packet: Packet) -> None:
    text = ":INPUT DROP [0:0]\n:X - [0:0]\n:Y - [0:0]\n" + "\n".join(rules)
    passages = walk(text, packet)
    assert 1 <= len(passages) <= MOST_WAYS
    if len(passages) == 1:
        assert passages[0].doubts == ()
    else:
        assert all(one.doubts for one in passages)
