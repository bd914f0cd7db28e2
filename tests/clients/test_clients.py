"""Cases of captures and tables go in; each connection must get its real client, its headers and its counts, or no name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import duckdb
import pytest

import tcpwhy
from tcpwhy.clients.clients import CLIENT_COLUMNS
from tcpwhy.clients.grouping import groups, network_of, next_evidence, parse_grouping, total
from tcpwhy.clients.row import ClientRow
from tests.clients.captures import PROXY_LOCAL, Talk, proxy_v1, request, write_state, write_talks

BACKEND = "10.9.0.11:80"


def ask(case: Path, **words: object) -> dict[str, ClientRow]:
    """The rows by the client's end."""
    with tcpwhy.open_case(case, index=False) as opened:
        return {row.client: row for row in opened.clients(**words)}  # type: ignore[arg-type]


def ipvs(*lines: str) -> str:
    return "IPVS connection entries\npro expire state       source             virtual            destination\n" + "".join(lines)


def dpvs(client: str, local: str, state: str = "ESTABLISHED") -> str:
    return f"[2]tcp  90s    {state} {client}  203.0.113.80:80  {local}  {BACKEND}\n"


@pytest.fixture
def old_cluster(tmp_path: Path) -> Path:
    """A backend behind a balancer: options, a PROXY header, a connection from before, a health check."""
    write_talks(
        tmp_path / "rs1" / "rs1.pcap",
        [
            Talk("10.9.0.1:1025", requests=[request("checkout"), request("checkout")], toa="198.51.100.7:4660", at_ms=0),
            Talk("10.9.0.1:1026", requests=[request("search")], toa="198.51.100.8:5000", at_ms=5, has_end=True),
            Talk("10.9.0.1:1027", requests=[request("stock"), request("stock")], at_ms=1, every_ms=2000, has_begin=False),
            Talk("10.9.0.2:1028", requests=[proxy_v1("198.51.100.9:6000") + request("checkout")], at_ms=7),
            Talk("10.9.0.2:1029", requests=[PROXY_LOCAL + request()], at_ms=8, has_end=True),
        ],
    )
    return tmp_path


def test_each_connection_is_told_by_what_it_carries(old_cluster: Path) -> None:
    rows = ask(old_cluster, headers=["X-Team"])
    found = {row.client: (row.real_client, row.basis, row.confidence) for row in rows.values()}
    assert found == {
        "10.9.0.1:1025": ("198.51.100.7:4660", ("toa",), "likely"),
        "10.9.0.1:1026": ("198.51.100.8:5000", ("toa",), "likely"),
        "10.9.0.1:1027": (None, (), None),
        "10.9.0.2:1028": ("198.51.100.9:6000", ("proxy",), "likely"),
        "10.9.0.2:1029": (None, (), None),
    }
    first = rows["10.9.0.1:1025"]
    assert (first.server, first.requests, first.headers, first.open_before_capture) == (BACKEND, 2, {"X-Team": "checkout"}, False)
    assert first.vantage_point == "rs1"
    assert "rs1/rs1.pcap #" in first.because[0]
    assert rows["10.9.0.1:1027"].open_before_capture
    assert "health checks" in rows["10.9.0.2:1029"].because[0]
    assert rows["10.9.0.2:1029"].headers == {}


def test_old_keeps_what_was_open_before_or_for_so_long(old_cluster: Path) -> None:
    assert set(ask(old_cluster, old="1h")) == {"10.9.0.1:1027"}
    assert len(ask(old_cluster, old="0s")) == 5
    for wrong in ("1", "h", "-1h", "1w", "1e9h", "", "99999999h"):
        with pytest.raises(tcpwhy.CaseError, match="--old"):
            ask(old_cluster, old=wrong)


def test_the_filter_looks_at_the_addresses(old_cluster: Path) -> None:
    assert set(ask(old_cluster, filter="host 10.9.0.2")) == {"10.9.0.2:1028", "10.9.0.2:1029"}
    assert set(ask(old_cluster, filter="ip6")) == set()
    with pytest.raises(tcpwhy.CaseError, match="--filter"):
        ask(old_cluster, filter="vlan 3")


def test_what_cannot_be_asked_is_named(old_cluster: Path) -> None:
    with pytest.raises(tcpwhy.CaseError, match="no vantage point `lb1`"):
        ask(old_cluster, vantage="lb1")
    for name in ("X Team", "", "X-Team:", "x" * 101, "Ü"):
        with pytest.raises(tcpwhy.CaseError, match="--header"):
            ask(old_cluster, headers=[name])
    with pytest.raises(tcpwhy.CaseError, match="--trusted-hops"):
        ask(old_cluster, trusted_hops=-1)


def test_a_balancer_s_table_names_who_was_there_before_the_capture(old_cluster: Path) -> None:
    write_state(
        old_cluster / "lb1" / "state",
        taken_ms=1500,
        ipvsadm_connections=dpvs("198.51.100.10:7000", "10.9.0.1:1027") + dpvs("198.51.100.66:7", "10.9.0.1:1026"),
    )
    rows = ask(old_cluster)
    told = rows["10.9.0.1:1027"]
    assert (told.real_client, told.basis, told.confidence) == ("198.51.100.10:7000", ("lb-table",), "likely")
    assert "lb1/state/ipvsadm-connections.txt:1" in told.because[0]
    closed = rows["10.9.0.1:1026"]
    assert closed.real_client == "198.51.100.8:5000", "the entry was read after that connection was closed"


def test_a_nat_host_s_connection_tracking_goes_on_where_the_option_ends(tmp_path: Path) -> None:
    write_talks(tmp_path / "rs1" / "rs1.pcap", [Talk("10.9.0.1:1025", requests=[request("a")], toa="192.0.2.1:40001", every_ms=9)])
    tracked = (
        "ipv4     2 tcp      6 431995 ESTABLISHED src=172.16.0.9 dst=203.0.113.80 sport=5555 dport=80 "
        "src=203.0.113.80 dst=192.0.2.1 sport=80 dport=40001 [ASSURED] mark=0 zone=0 use=2\n"
    )
    write_state(tmp_path / "nat" / "state", taken_ms=3000, conntrack=tracked)
    row = ask(tmp_path)["10.9.0.1:1025"]
    assert (row.real_client, row.basis, row.confidence) == ("172.16.0.9:5555", ("toa", "conntrack"), "likely")


def test_source_nat_captured_on_both_sides(tmp_path: Path) -> None:
    inside = Talk("172.16.0.9:5555", "203.0.113.80:80", requests=[request("a"), request("a")], ttl=64, has_end=True, isn=77, server_isn=99)
    write_talks(tmp_path / "nat" / "nat.pcap", [inside])
    outside = Talk("192.0.2.1:40001", "203.0.113.80:80", requests=inside.requests, at_ms=0.01, ttl=62, has_end=True, isn=77, server_isn=99)
    write_talks(tmp_path / "rs1" / "rs1.pcap", [outside])
    rows = ask(tmp_path)
    assert [(row.client, row.real_client, row.basis, row.confidence) for row in rows.values()] == [
        ("192.0.2.1:40001", "172.16.0.9:5555", ("lb-capture",), "confirmed")
    ]
    assert rows["192.0.2.1:40001"].also_seen_as == (("nat", "172.16.0.9:5555", "203.0.113.80:80"),)
    at_nat = ask(tmp_path, vantage="nat")
    assert [(row.client, row.real_client, row.vantage_point) for row in at_nat.values()] == [("172.16.0.9:5555", "172.16.0.9:5555", "nat")]


def test_a_balancer_in_full_nat_captured_on_both_sides_without_its_handshake(tmp_path: Path) -> None:
    requests = [request("billing", f"X-Id: {number}") for number in range(12)]
    front = Talk("198.51.100.7:4660", "203.0.113.80:80", requests, has_begin=False, isn=77_000, server_isn=9_000_000, ttl=60)
    back = Talk("10.9.0.1:1025", BACKEND, requests, has_begin=False, isn=4_000_000, server_isn=9_000_000, ttl=60)
    write_talks(tmp_path / "lb1" / "eth0.pcap", [dataclasses.replace(front, answers_later_ms=0.08)])
    write_talks(tmp_path / "lb1" / "eth1.pcap", [dataclasses.replace(back, at_ms=0.02, answers_later_ms=0.04)])
    write_talks(tmp_path / "rs1" / "rs1.pcap", [dataclasses.replace(back, at_ms=0.04, ttl=59)])
    rows = ask(tmp_path, headers=["x-team"])
    told = rows["10.9.0.1:1025"]
    assert (told.real_client, told.basis) == ("198.51.100.7:4660", ("lb-capture",))
    assert told.headers == {"x-team": "billing"}
    assert set(rows) == {"10.9.0.1:1025"}, "the client's side is no row of its own"


def test_spoofed_headers_and_trusted_hops(tmp_path: Path) -> None:
    spoofed = request("a", "X-Forwarded-For: 6.6.6.6, 198.51.100.7", "X-Real-IP: 6.6.6.6")
    write_talks(tmp_path / "rs1" / "rs1.pcap", [Talk("10.9.0.1:1025", requests=[spoofed, spoofed])])
    assert ask(tmp_path)["10.9.0.1:1025"].real_client is None
    one = ask(tmp_path, trusted_hops=1)["10.9.0.1:1025"]
    assert (one.real_client, one.basis, one.confidence) == ("198.51.100.7", ("header",), "likely")
    (tmp_path / "tcpwhy.toml").write_text('[vantage.rs1]\nrole = "backend"\n[vantage.gw]\nrole = "proxy"\naddresses = ["10.9.0.1"]\n')
    write_talks(tmp_path / "gw" / "gw.pcap", [Talk("198.51.100.7:5000", "10.9.0.1:8080", requests=[request("a")])])
    by_role = ask(tmp_path)["10.9.0.1:1025"]
    assert by_role.real_client is None, "X-Real-IP and X-Forwarded-For differ, and which of them the proxy wrote is not known"
    assert {one.real_client for one in by_role.candidates} == {"6.6.6.6", "198.51.100.7"}


def test_a_client_behind_an_untrusted_peer_is_never_the_peer(tmp_path: Path) -> None:
    write_talks(tmp_path / "rs1" / "rs1.pcap", [Talk("192.0.2.5:999", requests=[request("a")])])
    row = ask(tmp_path)["192.0.2.5:999"]
    assert (row.real_client, row.candidates) == (None, ())


def test_several_values_of_a_header_and_the_groups_by_it(tmp_path: Path) -> None:
    talks = [
        Talk("10.9.0.1:1025", requests=[request("a"), request("b"), request("a")], toa="198.51.100.7:1"),
        Talk("10.9.0.1:1026", requests=[request("b")], toa="198.51.100.8:2"),
        Talk("10.9.0.1:1027", requests=[request()], toa="198.51.101.8:2"),
    ]
    write_talks(tmp_path / "rs1" / "rs1.pcap", talks)
    with tcpwhy.open_case(tmp_path, index=False) as case:
        found = case.clients(headers=["X-Team"])
        assert {row.client: row.headers for row in found} == {
            "10.9.0.1:1025": {"X-Team": "a, b"}, "10.9.0.1:1026": {"X-Team": "b"}, "10.9.0.1:1027": {},
        }  # fmt: skip
        by_team = {one.group: one for one in groups(found, parse_grouping("header:x-team"))}
        assert {key: (one.connections, one.requests, one.clients) for key, one in by_team.items()} == {
            "a": (1, 2, 1), "b": (2, 2, 2), None: (1, 1, 1),
        }  # fmt: skip
        assert by_team["b"].real_clients == ("198.51.100.7", "198.51.100.8")
        by_network = {one.group: one.connections for one in groups(found, parse_grouping("network/24"))}
        assert by_network == {"198.51.100.0/24": 2, "198.51.101.0/24": 1}
        by_client = {one.group: one.connections for one in groups(found, parse_grouping("client"))}
        assert by_client == {"198.51.100.7": 1, "198.51.100.8": 1, "198.51.101.8": 1}
        with pytest.raises(tcpwhy.CaseError, match="was not asked for"):
            list(groups(found, parse_grouping("header:X-Other")))


def test_a_group_names_each_client_once(tmp_path: Path) -> None:
    talks = [Talk(f"10.9.0.1:{2000 + at}", requests=[request("a")], toa=f"198.51.100.{7 if at else 8}:{3000 + at}") for at in range(5)]
    write_talks(tmp_path / "rs1" / "rs1.pcap", talks)
    with tcpwhy.open_case(tmp_path, index=False) as case:
        (one,) = groups(case.clients(headers=["X-Team"]), parse_grouping("header:X-Team"))
    assert (one.connections, one.clients, one.real_clients) == (5, 2, ("198.51.100.7", "198.51.100.8"))


@pytest.mark.parametrize("text", ["", "network", "network/", "network/129", "network/-1", "header:", "header:a b", "team", "client "])
def test_other_groupings_are_refused(text: str) -> None:
    with pytest.raises(tcpwhy.CaseError, match=r"--(group-by|header)"):
        parse_grouping(text)


def test_networks_of_both_families() -> None:
    assert network_of("198.51.100.7", 24) == "198.51.100.0/24"
    assert network_of("198.51.100.7", 64) == "198.51.100.7/32"
    assert network_of("2001:db8:1:2:3::4", 64) == "2001:db8:1:2::/64"
    assert network_of("2001:db8::1", 128) == "2001:db8::1/128"


def test_ipv6_and_nat64(tmp_path: Path) -> None:
    talks = [
        Talk("[2001:db8::1]:1025", "[2001:db8::11]:80", requests=[request("a")], toa="[2001:db8:7::9]:4660"),
        Talk("10.9.0.1:1026", requests=[request("a")], toa="[2001:db8:7::9]:4661"),
    ]
    write_talks(tmp_path / "rs1" / "rs1.pcap", talks)
    rows = ask(tmp_path)
    assert rows["[2001:db8::1]:1025"].real_client == "[2001:db8:7::9]:4660"
    assert rows["[2001:db8::1]:1025"].server == "[2001:db8::11]:80"
    assert rows["10.9.0.1:1026"].real_client == "[2001:db8:7::9]:4661"
    with tcpwhy.open_case(tmp_path, index=False) as case:
        found = case.clients()
        assert {one.group for one in groups(found, parse_grouping("network/64"))} == {"2001:db8:7::/64"}


def test_the_table_speaks_arrow_and_two_answers_stay_apart(old_cluster: Path) -> None:
    with tcpwhy.open_case(old_cluster, index=False) as case:
        everything, old = case.clients(headers=["X-Team"]), case.clients(old="1h")
        assert (len(everything), len(old)) == (5, 1)
        assert old.columns == list(CLIENT_COLUMNS)
        assert everything.columns[7] == "header:X-Team"
        assert len(everything.rows()) == 5
        with duckdb.connect(":memory:") as db:
            arrow = db.from_arrow(everything)
            assert arrow.columns == everything.columns
            assert [str(kind) for kind in arrow.types] == [str(duckdb.type(kind)) for kind in everything.column_types.values()]
        counts = total(everything)
        assert (counts.connections, counts.identified, counts.unidentified_open_before_capture) == (5, 3, 1)
        said = " ".join(next_evidence(everything, counts))
        assert "ipvsadm -L -n -c" in said
        assert "10.9.0.1 (1)" in said
        assert "before the capture began" in said


def test_a_million_rows_need_no_million_objects(old_cluster: Path) -> None:
    """Rows come in batches: reading the first must not read them all."""
    with tcpwhy.open_case(old_cluster, index=False) as case:
        found = case.clients()
        rows = iter(found)
        assert next(rows).client == "10.9.0.1:1025"
        assert len(list(rows)) == 4
