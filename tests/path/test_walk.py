"""Small hosts and packets go in; each fate must come under its condition, and only there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tcpwhy.evidence import EvidenceError
from tcpwhy.path import Fate, Stage, Trace, parse_packet, walk, with_changes
from tests.path.states import ROUTER, RULES, address, host, link, local

CLIENT = "10.0.0.77:4000"


def forward(
    folder: Path, words: str, files: Mapping[str, object] | None = None, *, without: tuple[str, ...] = (), **settings: int
) -> Trace:
    full = {f"net.ipv4.{key.replace('__', '.')}": value for key, value in settings.items()}
    return walk(host(folder, files, settings=full, without=without), parse_packet(words)).forward


@pytest.mark.parametrize(
    ("words", "fate"),
    [
        (f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", Fate.ACCEPTED),
        (f"in eth0: tcp {CLIENT} > 10.1.0.1:80 S", Fate.ACCEPTED),
        (f"in eth0: tcp {CLIENT} > 10.0.0.1:81 S", Fate.QUEUE_FULL),
        (f"in eth0: tcp {CLIENT} > 10.0.0.1:82 S", Fate.REFUSED),
        (f"in eth0: tcp {CLIENT} > 10.0.0.1:80 A", Fate.REFUSED),
        (f"in eth0: tcp {CLIENT} > 10.1.0.5:80 S", Fate.FORWARDED),
        (f"in eth0: tcp {CLIENT} > 10.1.0.5:80 S ttl 1", Fate.TTL_EXPIRED),
        (f"in eth0: tcp {CLIENT} > 10.66.0.5:80 S", Fate.BLACKHOLE),
        (f"in eth0: tcp {CLIENT} > 10.67.0.5:80 S", Fate.PROHIBITED),
        (f"in eth0: tcp {CLIENT} > 10.68.0.5:80 S", Fate.NO_ROUTE),
        (f"in eth0: tcp {CLIENT} > 192.0.2.5:80 S", Fate.NO_ROUTE),
        (f"in eth0: tcp {CLIENT} > 127.0.0.1:80 S", Fate.MARTIAN_DESTINATION),
        ("in eth0: tcp 127.0.0.5:4000 > 10.0.0.1:80 S", Fate.MARTIAN_SOURCE),
        ("in eth0: tcp 10.1.0.1:4000 > 10.0.0.1:80 S", Fate.MARTIAN_SOURCE),
        ("in eth0: tcp 224.0.0.5:4000 > 10.0.0.1:80 S", Fate.MARTIAN_SOURCE),
        ("in eth0: icmp 10.0.0.77 > 10.0.0.1 type 8", Fate.ACCEPTED),
        ("in eth0: ipip 10.0.0.77 > 10.0.0.1: tcp 192.0.2.1:4 > 10.0.0.9:80 S", Fate.NO_TUNNEL),
        ("out: tcp 10.0.0.1:4000 > 10.0.0.77:80 S", Fate.SENT),
        ("out: tcp 10.0.0.1:4000 > 10.66.0.77:80 S", Fate.BLACKHOLE),
        ("out: tcp 10.0.0.1:4000 > 192.0.2.77:80 S", Fate.NO_ROUTE),
        ("out: tcp 10.0.0.1:4000 > 10.0.0.9:80 S", Fate.ACCEPTED),
    ],
)
def test_each_fate(tmp_path: Path, words: str, fate: Fate) -> None:
    trace = forward(tmp_path, words)
    assert trace.fate is fate, [step.text for step in trace.steps]
    assert trace.possible == (fate,)
    assert not trace.doubts
    assert trace.steps


def test_a_host_that_does_not_forward_drops_before_it_looks_at_the_route_s_type(tmp_path: Path) -> None:
    for target in ("10.1.0.5", "10.66.0.5", "192.0.2.5"):
        words = f"in eth0: tcp {CLIENT} > {target}:80 S"
        assert forward(tmp_path, words, ip_forward=0, conf__eth0__forwarding=0).fate is Fate.NOT_FORWARDING


class TestReversePath:
    # The route back to 10.1.0.5 is by eth1: on eth0 strict mode drops it, loose mode does not.
    WORDS = "in eth0: tcp 10.1.0.5:4000 > 10.0.0.1:80 S"

    @pytest.mark.parametrize(
        ("everywhere", "here", "fate"),
        [
            (0, 0, Fate.ACCEPTED),
            (0, 1, Fate.REVERSE_PATH),
            (1, 0, Fate.REVERSE_PATH),
            (1, 2, Fate.ACCEPTED),
            (2, 1, Fate.ACCEPTED),
            (0, 2, Fate.ACCEPTED),
        ],
    )
    def test_the_larger_of_two_counts(self, tmp_path: Path, everywhere: int, here: int, fate: Fate) -> None:
        trace = forward(tmp_path, self.WORDS, conf__all__rp_filter=everywhere, conf__eth0__rp_filter=here)
        assert trace.fate is fate
        check = [step for step in trace.steps if step.stage is Stage.SOURCE_CHECK][-1]
        assert {source.file for source in check.sources} >= {"rs1/state/sysctl.txt"}

    def test_loose_drops_what_has_no_route_back_at_all(self, tmp_path: Path) -> None:
        words = "in eth0: tcp 192.0.2.5:4000 > 10.0.0.1:80 S"
        assert forward(tmp_path, words, conf__eth0__rp_filter=2).fate is Fate.REVERSE_PATH
        assert forward(tmp_path, words, conf__eth0__rp_filter=0).fate is Fate.ACCEPTED

    def test_a_tunnel_without_address_drops_even_loosely(self, tmp_path: Path) -> None:
        tunnel = link(4, "tunl0", linkinfo={"info_kind": "ipip", "info_data": {"remote": "any", "local": "any"}})
        files: dict[str, object] = {
            "ip-link.json": [*ROUTER["ip-link.json"], tunnel],  # type: ignore[misc]
            "ip-addr.json": [*ROUTER["ip-addr.json"], address("lo", "192.0.2.80/32")],  # type: ignore[misc]
            "ip-route.json": [*ROUTER["ip-route.json"], local("192.0.2.80", "lo")],  # type: ignore[misc]
        }
        words = "in eth0: ipip 10.0.0.3 > 10.0.0.1: tcp 172.16.9.9:4 > 192.0.2.80:80 S"
        dropped = forward(tmp_path, words, files, conf__tunl0__rp_filter=2)
        assert dropped.fate is Fate.REVERSE_PATH
        assert "no IPv4 address" in dropped.steps[-1].text
        state = host(tmp_path, files, settings={"net.ipv4.conf.tunl0.rp_filter": 2})
        assert walk(with_changes(state, ["sysctl net.ipv4.conf.tunl0.rp_filter=1"]), parse_packet(words)).forward.fate is Fate.REVERSE_PATH
        mended = walk(with_changes(state, ["sysctl -w net.ipv4.conf.tunl0.rp_filter=0"]), parse_packet(words))
        assert mended.forward.fate is Fate.ACCEPTED
        assert mended.reverse is not None
        assert mended.reverse.fate is Fate.SENT
        addressed = walk(with_changes(state, ["ip addr add 10.9.9.9/32 dev tunl0"]), parse_packet(words))
        assert addressed.forward.fate is Fate.ACCEPTED

    def test_an_answer_to_this_host_is_checked_too(self, tmp_path: Path) -> None:
        rules = [{"priority": 100, "src": "10.0.0.1", "table": "7"}, *RULES]
        routes = [*ROUTER["ip-route.json"], {"dst": "default", "gateway": "10.1.0.254", "dev": "eth1", "table": "7"}]  # type: ignore[misc]
        files: dict[str, object] = {"ip-rule.json": rules, "ip-route.json": routes}
        result = walk(host(tmp_path, files, settings={"net.ipv4.conf.eth1.rp_filter": 1}),
                      parse_packet("out: tcp 10.0.0.1:4000 > 10.0.0.77:80 S"))  # fmt: skip
        assert result.forward.fate is Fate.SENT
        assert result.forward.end.out_interface == "eth1"
        assert result.reverse is not None
        assert result.reverse.fate is Fate.ACCEPTED  # `from 10.0.0.1` holds for the reverse lookup too


class TestUnknown:
    def test_a_setting_that_was_not_collected(self, tmp_path: Path) -> None:
        trace = forward(tmp_path, TestReversePath.WORDS, without=("sysctl.txt",))
        assert trace.fate is Fate.UNKNOWN
        assert set(trace.possible) == {Fate.ACCEPTED, Fate.REVERSE_PATH}
        assert {one.fate for one in trace.alternatives} == set(trace.possible)
        assert any("rp_filter" in doubt.text for doubt in trace.doubts)

    def test_a_setting_that_changes_nothing_leaves_no_doubt(self, tmp_path: Path) -> None:
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", without=("sysctl.txt",))
        assert (trace.fate, trace.doubts) == (Fate.ACCEPTED, ())

    def test_rules_that_nobody_took_may_interfere(self, tmp_path: Path) -> None:
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", without=("iptables-save.txt",))
        assert trace.fate is Fate.UNKNOWN
        assert Fate.ACCEPTED in trace.possible
        assert trace.doubts[0].text == "iptables-save.txt"

    def test_sockets_that_nobody_took(self, tmp_path: Path) -> None:
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", without=("ss-tcp.txt",))
        assert set(trace.possible) == {Fate.ACCEPTED, Fate.REFUSED}

    def test_routes_that_nobody_took(self, tmp_path: Path) -> None:
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.1.0.5:80 S", without=("ip-route.json",))
        assert trace.fate is Fate.UNKNOWN
        own = forward(tmp_path / "own", f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", without=("ip-route.json",))
        assert own.fate is Fate.ACCEPTED  # rp_filter is 0 on all interfaces, so that no route is asked

    def test_routes_without_the_table_local(self, tmp_path: Path) -> None:
        main = [route for route in ROUTER["ip-route.json"] if route.get("table") != "local"]  # type: ignore[attr-defined]
        words = f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S"
        assert forward(tmp_path, words, {"ip-route.json": main}).fate is Fate.ACCEPTED
        without = forward(tmp_path / "less", words, {"ip-route.json": main}, without=("ip-addr.json",))
        assert without.fate is Fate.UNKNOWN

    def test_an_interface_that_is_not_there(self, tmp_path: Path) -> None:
        assert forward(tmp_path, f"in eth9: tcp {CLIENT} > 10.0.0.1:80 S").fate is Fate.UNKNOWN


class TestRules:
    SIDECAR = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [3:180]
:POSTROUTING ACCEPT [3:180]
:SIDECAR_OUTBOUND - [0:0]
[5:300] -A OUTPUT -p tcp -j SIDECAR_OUTBOUND
[5:300] -A SIDECAR_OUTBOUND -d 172.16.0.0/12 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 15006
COMMIT
"""

    def test_a_redirect_turns_the_call_to_a_local_port(self, tmp_path: Path) -> None:
        state = host(tmp_path, {"iptables-save.txt": self.SIDECAR})
        packet = parse_packet("out: tcp 10.0.0.1:4000 > 172.16.5.5:80 S")
        result = walk(state, packet)
        assert result.forward.fate is Fate.REFUSED
        assert str(result.forward.end.destination) == "127.0.0.1"
        assert result.forward.end.destination_port == 15006
        nat = [step for step in result.forward.steps if step.stage is Stage.NAT][-1]
        assert "REDIRECT" in nat.rule
        assert [str(source) for source in nat.sources] == ["rs1/state/iptables-save.txt:8"]
        assert result.reverse is not None
        assert str(result.reverse.end) == "tcp 172.16.5.5:80 > 10.0.0.1:4000 RA"
        mended = walk(with_changes(state, ["without rs1/state/iptables-save.txt:8"]), packet)
        assert (mended.forward.fate, mended.forward.end.out_interface) == (Fate.SENT, "eth1")
        rule = "-A SIDECAR_OUTBOUND -d 172.16.0.0/12 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 15006"
        assert walk(with_changes(state, [f"without {rule}"]), packet).forward.fate is Fate.SENT
        assert walk(with_changes(state, [f"iptables -t nat -D {rule.removeprefix('-A ')}"]), packet).forward.fate is Fate.SENT
        with pytest.raises(EvidenceError, match="no rule is"):
            with_changes(state, ["without -A OUTPUT -j NOTHING"])

    def test_a_redirect_in_prerouting_takes_the_interface_s_first_address(self, tmp_path: Path) -> None:
        rules = self.SIDECAR.replace("-A OUTPUT", "-A PREROUTING")
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 172.16.5.5:80 S", {"iptables-save.txt": rules})
        assert (trace.fate, str(trace.end.destination)) == (Fate.REFUSED, "10.0.0.1")

    def test_a_known_connection_is_not_asked_again(self, tmp_path: Path) -> None:
        entry = ("ipv4 2 tcp 6 431999 ESTABLISHED src=10.0.0.77 dst=172.16.5.5 sport=4000 dport=80 "
                 "src=172.16.5.5 dst=10.0.0.77 sport=80 dport=4000 [ASSURED] mark=0 use=1\n")  # fmt: skip
        rules = self.SIDECAR.replace("-A OUTPUT", "-A PREROUTING")
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 172.16.5.5:80 A", {"iptables-save.txt": rules, "conntrack.txt": entry})
        assert (trace.fate, str(trace.end.destination)) == (Fate.FORWARDED, "172.16.5.5")

    def test_dnat_and_its_answer(self, tmp_path: Path) -> None:
        rules = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.0.0.9/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.5:80
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
"""
        result = walk(host(tmp_path, {"iptables-save.txt": rules}), parse_packet(f"in eth0: tcp {CLIENT} > 10.0.0.9:8080 S"))
        assert result.forward.fate is Fate.FORWARDED
        assert str(result.forward.end) == "tcp 10.1.0.1:4000 > 10.1.0.5:80 S"
        assert result.reverse is not None
        assert (result.reverse.fate, str(result.reverse.end)) == (Fate.FORWARDED, f"tcp 10.0.0.9:8080 > {CLIENT} SA")

    def test_drop_and_reject(self, tmp_path: Path) -> None:
        rules = """\
*filter
:INPUT DROP [7:420]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
[1:60] -A INPUT -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset
[2:60] -A INPUT -p tcp -m tcp --dport 81 -j REJECT --reject-with icmp-host-prohibited
COMMIT
"""
        files: dict[str, object] = {"iptables-save.txt": rules}
        rejected = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", files)
        assert (rejected.fate, str(rejected.answer)) == (Fate.REJECTED_BY_RULE, f"tcp 10.0.0.1:80 > {CLIENT} RA")
        icmp = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:81 S", files)
        assert (icmp.fate, str(icmp.answer)) == (Fate.REJECTED_BY_RULE, "icmp 10.0.0.1 > 10.0.0.77 type 3 code 10")
        dropped = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:82 S", files)
        assert dropped.fate is Fate.DROPPED_BY_RULE
        assert [str(source) for source in dropped.steps[-1].sources] == ["rs1/state/iptables-save.txt:2"]


def test_of_network_zero_only_the_first_address_is_a_broadcast(tmp_path: Path) -> None:
    rules = "*raw\n:PREROUTING ACCEPT [0:0]\n[1:60] -A PREROUTING -m addrtype --src-type BROADCAST -j DROP\nCOMMIT\n"
    files: dict[str, object] = {"iptables-save.txt": rules}
    assert forward(tmp_path, "in eth0: tcp 0.0.0.0:4000 > 10.0.0.1:80 S", files).fate is Fate.DROPPED_BY_RULE
    assert forward(tmp_path / "other", "in eth0: tcp 0.1.2.3:4000 > 10.0.0.1:80 S", files).fate is not Fate.DROPPED_BY_RULE


class TestBalancing:
    def files(self, flag: str, weight: int = 1) -> dict[str, object]:
        return {"ipvsadm-rules.txt": f"-A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 10.1.0.5:80 {flag} -w {weight}\n",
                "ipvsadm-connections.txt": "IPVS connection entries\npro expire state source virtual destination\n"}  # fmt: skip

    def test_tunnel(self, tmp_path: Path) -> None:
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 S", self.files("-i"))
        assert trace.fate is Fate.SENT
        assert str(trace.end) == f"ipip 10.1.0.1 > 10.1.0.5 ( tcp {CLIENT} > 10.0.0.9:80 S )"

    def test_direct_and_masquerading(self, tmp_path: Path) -> None:
        direct = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 S", self.files("-g"))
        assert (direct.fate, str(direct.end), direct.end.out_interface) == (Fate.SENT, f"tcp {CLIENT} > 10.0.0.9:80 S", "eth1")
        nat = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 S", self.files("-m"))
        assert (nat.fate, str(nat.end)) == (Fate.SENT, f"tcp {CLIENT} > 10.1.0.5:80 S")

    def test_no_weight_and_no_connection(self, tmp_path: Path) -> None:
        assert forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 S", self.files("-g", 0)).fate is Fate.NO_REAL_SERVER
        assert forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 A", self.files("-g")).fate is Fate.REFUSED

    @pytest.mark.parametrize(("flag", "end"), [
        ("-m", "tcp 10.0.0.1:4000 > 10.1.0.5:80 S"), ("-i", "ipip 10.1.0.1 > 10.1.0.5 ( tcp 10.0.0.1:4000 > 10.0.0.9:80 S )"),
    ])  # fmt: skip
    def test_an_own_client_is_sent_on_by_the_wire(self, tmp_path: Path, flag: str, end: str) -> None:
        trace = forward(tmp_path, "out: tcp 10.0.0.1:4000 > 10.0.0.9:80 S", self.files(flag))
        assert (trace.fate, str(trace.end), trace.end.out_interface) == (Fate.SENT, end, "eth1")

    def test_a_mark_sends_direct_routing_back_to_the_director(self, tmp_path: Path) -> None:
        rules = "*mangle\n:OUTPUT ACCEPT [0:0]\n[1:60] -A OUTPUT -j MARK --set-xmark 0x1/0xffffffff\nCOMMIT\n"
        files = {**self.files("-g"), "iptables-save.txt": rules}
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 S", files)
        assert trace.fate is Fate.ACCEPTED  # by a socket of the director
        assert any(step.text == "comes back by lo" for step in trace.steps)

    def test_a_real_server_on_the_director_gets_its_own_port(self, tmp_path: Path) -> None:
        files: dict[str, object] = {"ipvsadm-rules.txt": "-A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 10.0.0.1:8081 -m -w 1\n"}
        trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.9:80 S", files)
        assert str(trace.end) == f"tcp {CLIENT} > 10.0.0.1:8081 S"

    def test_a_vip_that_is_not_local_is_never_scheduled(self, tmp_path: Path) -> None:
        files = {"ipvsadm-rules.txt": "-A -t 10.1.0.200:80 -s rr\n-a -t 10.1.0.200:80 -r 10.1.0.5:80 -g -w 1\n"}
        assert forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.1.0.200:80 S", dict(files)).fate is Fate.FORWARDED


@pytest.mark.parametrize(
    "words",
    [
        "", "tcp 1.2.3.4:5 > 6.7.8.9:80 S", "in eth0: tcp 1.2.3.4 > 6.7.8.9:80 S", "in eth0: tcp 1.2.3.4:5 > 6.7.8.9:80",
        "in eth0: tcp 1.2.3.4:5 > [2001:db8::1]:80 S", "in eth0: tcp 1.2.3.400:5 > 6.7.8.9:80 S", "out: tcp 1.2.3.4:5 > 6.7.8.9:99999 S",
        "out: tcp 1.2.3.4:5 > 6.7.8.9:80 S ttl 256", "out: foo 1.2.3.4 > 6.7.8.9", "out: " + "x" * 2000,
    ],
)  # fmt: skip
def test_words_that_are_no_packet(words: str) -> None:
    with pytest.raises(EvidenceError, match="expected"):
        parse_packet(words)


def test_a_line_of_tcpdump_is_a_packet() -> None:
    assert str(parse_packet("in eth0: IP 10.1.0.2.49880 > 10.20.73.29.80: Flags [S],")) == "tcp 10.1.0.2:49880 > 10.20.73.29:80 S"
    assert str(parse_packet("in eth0: IP 10.1.0.2.49880 > 10.20.73.29.80: Flags [S.]")) == "tcp 10.1.0.2:49880 > 10.20.73.29:80 SA"


def test_an_ebpf_program_may_take_it(tmp_path: Path) -> None:
    files: dict[str, object] = {"bpf-net.txt": "xdp:\n\ntc:\neth0(2) clsact/ingress cil_from_netdev id 2310\n"}
    trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", files)
    assert trace.fate is Fate.UNKNOWN
    assert set(trace.possible) == {Fate.UNKNOWN, Fate.ACCEPTED}
    assert str(trace.doubts[0].source) == "rs1/state/bpf-net.txt:4"
    assert forward(tmp_path / "other", "in eth1: tcp 10.1.0.77:4000 > 10.0.0.1:80 S", files).fate is Fate.ACCEPTED


def test_a_route_that_is_not_understood_decides_nothing(tmp_path: Path) -> None:
    routes = [{"dst": "172.16.5.0/24", "dev": "eth1", "encap": "strange"}, *ROUTER["ip-route.json"]]  # type: ignore[misc]
    trace = forward(tmp_path, "out: tcp 10.0.0.1:4000 > 172.16.5.5:80 S", {"ip-route.json": routes})
    assert trace.fate is Fate.UNKNOWN
    assert trace.doubts


def test_a_chain_of_the_interface_drops_before_ip_sees_it(tmp_path: Path) -> None:
    chain = {"family": "netdev", "table": "guard", "name": "early", "handle": 1, "dev": "eth0", "type": "filter", "hook": "ingress",
             "prio": 0, "policy": "accept"}  # fmt: skip
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    match = {"match": {"op": "==", "left": source, "right": "10.0.0.77"}}
    rule = {"family": "netdev", "table": "guard", "chain": "early", "handle": 2, "expr": [match, {"drop": None}]}
    listed = [{"table": {"family": "netdev", "name": "guard", "handle": 1}}, {"chain": chain}, {"rule": rule}]
    files: dict[str, object] = {"nft-ruleset.json": {"nftables": listed}}
    assert forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", files).fate is Fate.DROPPED_BY_RULE
    assert forward(tmp_path / "other", "in eth0: tcp 10.0.0.78:4000 > 10.0.0.1:80 S", files).fate is Fate.ACCEPTED


def test_of_two_rules_that_may_drop_it_none_is_named_alone(tmp_path: Path) -> None:
    rules = """\
*filter
:INPUT ACCEPT [0:0]
-A INPUT -m string --algo bm --string x -j DROP
-A INPUT -p tcp -j DROP
COMMIT
"""
    trace = forward(tmp_path, f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S", {"iptables-save.txt": rules})
    assert trace.fate is Fate.DROPPED_BY_RULE
    assert {source.line for source in trace.steps[-1].sources} == {3, 4}
    assert not trace.steps[-1].rule


def test_a_transparent_proxy_needs_its_socket(tmp_path: Path) -> None:
    rules = (
        "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j TPROXY --on-port {} --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1\nCOMMIT\n"
    )
    words = f"in eth0: tcp {CLIENT} > 10.0.0.1:80 S"
    dead = forward(tmp_path, words, {"iptables-save.txt": rules.format(15009)})
    assert (dead.fate, dead.doubts) == (Fate.DROPPED_BY_RULE, ())
    alive = forward(tmp_path / "alive", words, {"iptables-save.txt": rules.format(15001)})
    assert set(alive.possible) == {Fate.ACCEPTED, Fate.DROPPED_BY_RULE}
