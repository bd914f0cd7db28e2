"""SYNs that come to a host with known settings and routes: the check is found where walk, packets and counter agree."""

from __future__ import annotations

from pathlib import Path

from tests.causes.cases import capture, only, others, report, state, unanswered, verdicts
from tests.path.states import ROUTER

assert isinstance(ROUTER["ip-route.json"], list)
ROUTES: list[object] = ROUTER["ip-route.json"]
BY_ETH1 = [*ROUTES, {"dst": "default", "gateway": "10.1.0.254", "dev": "eth1"}]
STRICT = {"net.ipv4.conf.eth0.rp_filter": 1}


def case(folder: Path, files: dict[str, object], settings: dict[str, int]) -> Path:
    state(folder / "rs1/state", {"ip-route.json": BY_ETH1, **files}, settings=settings)
    capture(folder / "rs1/eth0.pcap", [*unanswered(), *others()])
    return folder


def test_strict_mode_and_a_counter_confirm_it_and_the_fix_is_walked(tmp_path: Path) -> None:
    told = report(case(tmp_path, {"nstat.txt": "#kernel\nTcpExtIPReversePathFilter 4 0.0\n"}, STRICT))
    found = only(told)
    assert (found.cause, found.confidence, found.connection_count) == ("reverse-path-filter", "confirmed", 1)
    assert "net.ipv4.conf.all.rp_filter = 0" in found.explanation
    assert "net.ipv4.conf.eth0.rp_filter = 1" in found.explanation
    assert "that of eth0 counts" in found.explanation
    assert {one.file for one in found.evidence} >= {"rs1/eth0.pcap", "rs1/state/sysctl.txt", "rs1/state/nstat.txt"}
    assert "`sysctl -w net.ipv4.conf.eth0.rp_filter=2`" in found.fix[0]
    assert "nginx" in found.fix[0]
    assert "/etc/sysctl.d/" in found.fix[1]
    assert any("what does not help: `sysctl -w net.ipv4.conf.all.rp_filter=0`" in line for line in found.fix)


def test_all_counts_where_it_is_larger(tmp_path: Path) -> None:
    found = only(report(case(tmp_path, {}, {"net.ipv4.conf.all.rp_filter": 1})))
    assert found.confidence == "confirmed"
    assert "that of `all` counts" in found.explanation
    assert any("what does not help: `sysctl -w net.ipv4.conf.eth0.rp_filter=0` alone" in line for line in found.fix)


def test_a_counter_of_zero_contradicts(tmp_path: Path) -> None:
    told = report(case(tmp_path, {"nstat.txt": "#kernel\nTcpExtIPReversePathFilter 0 0.0\n"}, STRICT))
    assert ("reverse-path-filter", "possible") in verdicts(told)
    assert all(finding.confidence == "possible" for finding in told.findings)
    finding = next(one for one in told.findings if one.cause == "reverse-path-filter")
    assert "IPReversePathFilter is 0 (rs1/state/nstat.txt:2)" in finding.explanation
    assert any("tcpwhy collect" in line for line in finding.next_evidence)


def test_a_counter_that_did_not_rise_between_two_snapshots_contradicts(tmp_path: Path) -> None:
    counters = "#kernel\nTcpExtIPReversePathFilter 9 0.0\n"
    folder = case(tmp_path, {"nstat.txt": counters}, STRICT)
    before = tmp_path / "rs1/state-before"
    before.mkdir()
    (before / "nstat.txt").write_text(counters)
    assert all(confidence == "possible" for _, confidence in verdicts(report(folder)))
    (before / "nstat.txt").write_text(counters.replace("9", "5"))
    found = only(report(folder))
    assert found.confidence == "confirmed"
    assert "rose by 4" in found.explanation


def test_loose_mode_with_a_route_elsewhere_is_not_accused(tmp_path: Path) -> None:
    told = report(case(tmp_path, {"nstat.txt": "#kernel\nTcpExtIPReversePathFilter 4 0.0\n"}, {"net.ipv4.conf.eth0.rp_filter": 2}))
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_a_route_back_by_the_same_interface_is_ruled_out_by_the_counter_and_else_told_as_what_packets_deny(tmp_path: Path) -> None:
    files: dict[str, object] = {
        "ip-route.json": [*ROUTES, {"dst": "default", "gateway": "10.0.0.254", "dev": "eth0"}],
        "nft-ruleset.json": '{"nftables": []}',
    }
    told = report(case(tmp_path / "without", files, STRICT))
    finding = next(one for one in told.findings if one.cause == "reverse-path-filter")
    assert finding.confidence == "possible"
    assert "which the packets deny" in finding.explanation
    told = report(case(tmp_path / "with", {**files, "nstat.txt": "#kernel\nTcpExtIPReversePathFilter 0 0.0\n"}, STRICT))
    assert "reverse-path-filter" not in {cause for cause, _ in verdicts(told)}
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_without_a_state_it_is_possible_and_names_what_to_collect(tmp_path: Path) -> None:
    capture(tmp_path / "rs1/eth0.pcap", [*unanswered(), *others()])
    told = report(tmp_path)
    finding = next(one for one in told.findings if one.cause == "reverse-path-filter")
    assert finding.confidence == "possible"
    assert any("`tcpwhy collect`" in line for line in finding.next_evidence)


def test_no_value_mends_what_has_no_way_back(tmp_path: Path) -> None:
    found = only(report(case(tmp_path, {"ip-route.json": ROUTES}, STRICT)))
    assert found.cause == "reverse-path-filter"
    assert "no value of rp_filter alone mends it" in found.fix[0]
    assert any("rp_filter=0" in line and "of the answer: no route" in line for line in found.fix)
