"""Tables of balancers and NAT hosts become translations: each form, what is no connection, contradictions, and any numbers at all."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.case import open_case
from tcpwhy.clients.row import Ends, Translation
from tcpwhy.clients.translations import host_translations, translations
from tcpwhy.evidence.state import State
from tcpwhy.tables.host import HostTables
from tests.state.haproxy_programs import WAYS, running

RULES = """\
-A -t 10.0.0.1:80 -s rr -p 300
-a -t 10.0.0.1:80 -r 10.0.10.5:8080 -m -w 1
-A -t 10.0.0.1:81 -s wrr
-a -t 10.0.0.1:81 -r 10.0.10.6:81 -g -w 1
-a -t 10.0.0.1:81 -r 10.0.10.7:81 -i -w 1 --tun-type ipip
-A -t 10.0.0.1:0 -s rr -p 300
-a -t 10.0.0.1:0 -r 10.0.10.8:0 -g -w 1
-A -f 7 -s rr
-a -f 7 -r 10.0.10.9:0 -m -w 1
-A -u 10.0.0.1:53 -s rr
-a -u 10.0.0.1:53 -r 10.0.10.5:53 -m -w 1
"""
CONNECTIONS = """\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:59  ESTABLISHED 192.168.1.5:50000  10.0.0.1:80        10.0.10.5:8080
TCP 01:59  TIME_WAIT   192.168.1.5:50001  10.0.0.1:80        10.0.10.5:8080
TCP 05:00  ASSURED     192.168.1.0:0      10.0.0.1:80        10.0.10.5:8080
TCP 14:59  ESTABLISHED 192.168.1.5:50002  10.0.0.1:81        10.0.10.6:81
TCP 14:59  ESTABLISHED 192.168.1.5:50003  10.0.0.1:81        10.0.10.7:81
TCP 14:59  ESTABLISHED 192.168.1.5:50004  10.0.0.1:443       10.0.10.8:443
TCP 14:59  ESTABLISHED 192.168.1.5:50005  10.0.0.2:25        10.0.10.9:25
TCP 14:59  ESTABLISHED 192.168.1.5:50006  10.0.0.1:80        10.0.10.55:8080
TCP 14:59  ESTABLISHED 192.168.1.5:50007  10.0.0.77:80       10.0.10.55:8080
UDP 04:59  UDP         192.168.1.5:50008  10.0.0.1:53        10.0.10.5:53
"""
FULLNAT_RULES = """\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.10.5:8080 -b -w 1
"""
FULLNAT_PROC = """\
Pro FromIP   FPrt ToIP     TPrt LocalIP  LPrt DestIP   DPrt State       Expires
TCP C0A80105 C350 0A000001 0050 0A000A01 0401 0A000A05 1F90 ESTABLISHED      89
"""
MISPRINTED = """\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 00:00  0A000A05    192.168.1.5:50000  10.0.0.1:80        10.0.10.1:1025
"""
DPVS = """\
[2]tcp 90s    ESTABLISHED 192.168.1.5:50000  10.0.0.1:80        10.0.10.1:1025     10.0.10.5:8080
[2]tcp 90s    ESTABLISHED [2001:db8::5]:50001 [2001:db8::1]:80  10.0.10.1:1026     10.0.10.5:8080
[1]tcp 7s     TIME_WAIT   8.8.8.8:443        198.51.100.1:4000  8.8.8.8:443        10.0.99.4:55555
[1]udp 90s    NORMAL      192.168.1.5:50000  10.0.0.1:53        10.0.10.1:1025     10.0.10.5:53
"""
CONNTRACK = """\
ipv4     2 tcp      6 431998 ESTABLISHED src=10.1.0.2 dst=10.9.9.9 sport=48174 dport=80 src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=1024 [ASSURED] mark=0 zone=0 use=1
ipv4     2 tcp      6 100 TIME_WAIT src=10.1.0.2 dst=10.2.0.9 sport=48175 dport=80 src=10.2.0.9 dst=10.2.0.1 sport=80 dport=48175 [ASSURED] mark=0 zone=0 use=1
ipv4     2 tcp      6 100 ESTABLISHED src=10.1.0.2 dst=10.2.0.9 sport=48176 dport=80 src=10.2.0.9 dst=10.1.0.2 sport=80 dport=48176 [ASSURED] mark=0 zone=0 use=1
ipv6     10 tcp      6 src=2001:db8::2 dst=2001:db8::9 sport=1 dport=80 src=2001:db8::77 dst=2001:db8::2 sport=80 dport=1 [OFFLOAD] mark=0 zone-orig=3 use=1
ipv4     2 udp      17 20 src=10.1.0.2 dst=10.9.9.9 sport=1 dport=53 src=10.2.0.2 dst=10.2.0.1 sport=53 dport=1 mark=0 zone=0 use=1
"""  # noqa: E501 (the lines are as conntrack writes them)


def tables(folder: Path, files: dict[str, str]) -> HostTables:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"host.json": json.dumps({"name": "lb", "time": "2026-11-21T12:00:00+00:00"}), **files}
    for name, text in files.items():
        (folder / name).write_text(text)
    return HostTables(State("lb", {name: folder / name for name in files}, {name: f"lb/state/{name}" for name in files}, []))


def all_of(folder: Path, files: dict[str, str]) -> list[Translation]:
    return list(host_translations("lb", tables(folder, files)))


def told(found: list[Translation]) -> list[tuple[str, str]]:
    return [(shown(one.before), shown(one.behind)) for one in found]


def shown(ends: Ends) -> str:
    return f"{ends.client_ip} {ends.client_port} > {ends.server_ip} {ends.server_port}"


def test_a_stock_director_keeps_the_client_and_its_method_says_what_the_server_sees(tmp_path: Path) -> None:
    found = all_of(tmp_path, {"ipvsadm-rules.txt": RULES, "ipvsadm-connections.txt": CONNECTIONS})
    client = "192.168.1.5"
    assert told(found) == [
        (f"{client} 50000 > 10.0.0.1 80", f"{client} 50000 > 10.0.10.5 8080"),
        (f"{client} 50001 > 10.0.0.1 80", f"{client} 50001 > 10.0.10.5 8080"),
        (f"{client} 50002 > 10.0.0.1 81", f"{client} 50002 > 10.0.0.1 81"),
        (f"{client} 50003 > 10.0.0.1 81", f"{client} 50003 > 10.0.0.1 81"),
        (f"{client} 50004 > 10.0.0.1 443", f"{client} 50004 > 10.0.0.1 443"),
        (f"{client} 50005 > 10.0.0.2 25", f"{client} 50005 > 10.0.10.9 25"),
        (f"{client} 50006 > 10.0.0.1 80", f"{client} 50006 > 10.0.10.55 8080"),
    ]
    assert [one.is_open for one in found] == [True, False, True, True, True, True, True]
    assert {(one.basis, one.vantage_point, one.taken_ns) for one in found} == {("lb-table", "lb", 1795262400_000000000)}
    assert [one.source.line for one in found] == [3, 4, 6, 7, 8, 9, 10]


def test_without_the_rules_both_that_may_be_are_told(tmp_path: Path) -> None:
    found = all_of(tmp_path, {"ipvsadm-connections.txt": CONNECTIONS})
    assert len(found) == 16
    assert {one.behind.server_ip for one in found if one.before.client_port == 50007} == {"10.0.0.77", "10.0.10.55"}
    assert all((one.behind.client_ip, one.behind.client_port) == (one.before.client_ip, one.before.client_port) for one in found)


def test_full_nat_has_the_director_s_own_address(tmp_path: Path) -> None:
    expected = [("192.168.1.5 50000 > 10.0.0.1 80", "10.0.10.1 1025 > 10.0.10.5 8080")]
    forms: list[dict[str, str]] = [
        {"ipvsadm-rules.txt": FULLNAT_RULES, "proc-net-ip_vs_conn.txt": FULLNAT_PROC},
        {"proc-net-ip_vs_conn.txt": FULLNAT_PROC, "ipvsadm-connections.txt": MISPRINTED},
        {"ipvsadm-rules.txt": FULLNAT_RULES, "ipvsadm-connections.txt": MISPRINTED},
    ]
    for number, files in enumerate(forms):
        assert told(all_of(tmp_path / str(number), files)) == expected


def test_a_misprint_whose_port_nothing_tells_names_nobody(tmp_path: Path) -> None:
    assert all_of(tmp_path / "alone", {"ipvsadm-connections.txt": MISPRINTED}) == []
    two = FULLNAT_RULES + "-a -t 10.0.0.1:80 -r 10.0.10.5:8081 -b -w 1\n"
    assert all_of(tmp_path / "two", {"ipvsadm-connections.txt": MISPRINTED, "ipvsadm-rules.txt": two}) == []


def test_dpvs_and_its_outgoing_connections(tmp_path: Path) -> None:
    found = all_of(tmp_path, {"ipvsadm-rules.txt": FULLNAT_RULES, "ipvsadm-connections.txt": DPVS})
    assert told(found) == [
        ("192.168.1.5 50000 > 10.0.0.1 80", "10.0.10.1 1025 > 10.0.10.5 8080"),
        ("2001:db8::5 50001 > 2001:db8::1 80", "10.0.10.1 1026 > 10.0.10.5 8080"),
    ]


def test_connection_tracking_where_it_translates(tmp_path: Path) -> None:
    found = all_of(tmp_path, {"conntrack.txt": CONNTRACK})
    assert told(found) == [
        ("10.1.0.2 48174 > 10.9.9.9 80", "10.2.0.1 1024 > 10.2.0.2 8080"),
        ("10.1.0.2 48175 > 10.2.0.9 80", "10.2.0.1 48175 > 10.2.0.9 80"),
        ("2001:db8::2 1 > 2001:db8::9 80", "2001:db8::2 1 > 2001:db8::77 80"),
    ]
    assert [(one.is_open, one.basis) for one in found] == [(True, "conntrack"), (False, "conntrack"), (True, "conntrack")]


def test_a_case_with_two_snapshots_and_contradictions_gives_all(tmp_path: Path) -> None:
    other = CONNTRACK.replace("src=10.1.0.2 dst=10.9.9.9", "src=10.1.0.66 dst=10.9.9.9")
    for host, state, text in (("nat", "state", CONNTRACK), ("nat", "state-before", other), ("lb", "state", "")):
        folder = tmp_path / host / state
        tables(folder, {"conntrack.txt": text} if text else {"ipvsadm-connections.txt": DPVS, "ipvsadm-rules.txt": FULLNAT_RULES})
    with open_case(str(tmp_path), index=False) as case:
        found = list(translations(case))
    assert [one.vantage_point for one in found] == ["lb"] * 2 + ["nat"] * 6
    clients = {one.before.client_ip for one in found if one.behind.client_port == 1024}
    assert clients == {"10.1.0.2", "10.1.0.66"}
    assert {str(one.source) for one in found} >= {"nat/state-before/conntrack.txt:1", "lb/state/ipvsadm-connections.txt:1"}


def test_real_haproxy_before_nginx(tmp_path: Path) -> None:
    with running(tmp_path / "programs") as programs:
        truth = {own: (client, way) for way in WAYS * 4 for client, own in (programs.connect(way),)}
        files = {"haproxy-sessions.txt": "\n".join(programs.ask("show sess all"))}
    found = all_of(tmp_path / "state", files)
    ports = programs.ports
    assert len(found) == len(truth) == 16
    for one in found:
        client, way = truth[one.behind.client_ip, one.behind.client_port]
        assert (one.before.client_ip, one.before.client_port) == client
        assert (one.before.server_ip, one.before.server_port) == (way[0], ports[way[1]])
        assert (one.behind.server_ip, one.behind.server_port) == ("127.0.3.2", ports[3])
        assert (one.is_open, one.basis, one.may_be_shared) == (True, "lb-table", way == WAYS[3])


def test_the_short_form_of_real_haproxy_with_the_socket_table(tmp_path: Path) -> None:
    with running(tmp_path / "programs") as programs:
        truth = {own: client for way in WAYS * 2 for client, own in (programs.connect(way),)}
        sockets = subprocess.run(["ss", "-tanpioem"], capture_output=True, text=True, check=True).stdout
        short = "\n".join(programs.ask("show sess"))
    assert "pid=" in sockets
    assert all_of(tmp_path / "young", {"haproxy-sessions.txt": short, "ss-tcp.txt": sockets}) == []
    old = short.replace(" age=0s ", " age=1h3m ").replace(" age=1s ", " age=1h3m ")
    found = all_of(tmp_path / "old", {"haproxy-sessions.txt": old, "ss-tcp.txt": sockets})
    assert {(one.behind.client_ip, one.behind.client_port): (one.before.client_ip, one.before.client_port) for one in found} == truth
    assert all(one.may_be_shared for one in found)
    assert all_of(tmp_path / "alone", {"haproxy-sessions.txt": old}) == []


ips = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
ports = st.integers(0, 65535)


@given(st.lists(st.tuples(ips, ports, ips, ports, ips, ports, ips, ports), max_size=20))
def test_any_tracked_connection_keeps_its_numbers(rows: list[tuple[str, int, str, int, str, int, str, int]]) -> None:
    text = "".join(
        f"ipv4 2 tcp 6 9 ESTABLISHED src={a} dst={b} sport={ap} dport={bp} src={c} dst={d} sport={cp} dport={dp} mark=0 zone=0 use=1\n"
        for a, ap, b, bp, c, cp, d, dp in rows
    )
    with tempfile.TemporaryDirectory() as folder:
        found = told(all_of(Path(folder) / "s", {"conntrack.txt": text}))
    short = [
        (a, ap, b, bp, c, cp, d, dp) for a, ap, b, bp, c, cp, d, dp in rows if (a, ap, b, bp) != (d, dp, c, cp) and ap and bp and cp and dp
    ]
    assert found == [
        (f"{ip(a)} {ap} > {ip(b)} {bp}", f"{ip(d)} {dp} > {ip(c)} {cp}") for a, ap, b, bp, c, cp, d, dp in short
    ]  # fmt: skip


def ip(text: str) -> str:
    return str(ipaddress.ip_address(text))


@given(st.lists(st.sampled_from((CONNECTIONS + DPVS + MISPRINTED + FULLNAT_PROC).splitlines()) | st.text(max_size=60), max_size=30))
def test_any_lines_of_a_director_end_in_translations_with_ports(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file in ("ipvsadm-connections.txt", "proc-net-ip_vs_conn.txt"):
            for one in all_of(Path(folder) / file, {"ipvsadm-rules.txt": RULES, file: "\n".join(lines).replace("\0", "")}):
                for port in (one.behind.client_port, one.behind.server_port, one.before.client_port, one.before.server_port):
                    assert 0 < port < 65536
