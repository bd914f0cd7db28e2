"""Directors' tables: ipvsadm 1.31 on Linux 6.1 as it printed, and the forms of Alibaba's and DPVS's programs."""

# ruff: noqa: W291 (the lines are as the programs write them)

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.director import BalancedConnection, VirtualService
from tcpwhy.tables.ipvs import Ipvs, read_ipvs
from tcpwhy.tables.ipvs_connections import parse_connections, parse_proc_connections
from tcpwhy.tables.ipvs_services import parse_services
from tcpwhy.tables.unread import UnreadPieces

HERE = Source("lb", "lb/state/ipvsadm-rules.txt")

RULES = """\
-A -t 10.0.0.1:0 -s rr -p 360
-a -t 10.0.0.1:0 -r 10.0.10.5:0 -m -w 1
-A -t 10.0.0.1:80 -s rr -p 300 -M 255.255.255.0
-a -t 10.0.0.1:80 -r 10.0.10.5:8080 -m -w 1
-A -t 10.0.0.1:81 -s wrr
-a -t 10.0.0.1:81 -r 10.0.0.1:81 -g -w 1
-a -t 10.0.0.1:81 -r 10.0.10.5:81 -g -w 100
-a -t 10.0.0.1:81 -r 10.0.10.6:81 -i -w 0 --tun-type ipip
-a -t 10.0.0.1:81 -r 10.0.10.7:81 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 10.0.0.1:81 -r 10.0.10.9:81 -i -w 1 --tun-type gre --tun-csum
-A -t 10.0.0.1:82 -s sh -b sh-fallback,sh-port
-A -u 10.0.0.1:53 -s rr -o
-a -u 10.0.0.1:53 -r 10.0.10.5:53 -m -w 1
-A --sctp-service 10.0.0.1:99 -s rr
-A -t [2001:db8::1]:80 -s rr -p 60 -M 64
-a -t [2001:db8::1]:80 -r 10.0.10.6:80 -i -w 1 --tun-type ipip
-a -t [2001:db8::1]:80 -r [2001:db8:10::5]:8080 -m -w 1
-A -f 7 -s rr
-a -f 7 -r 10.0.10.5:0 -g -w 1
-A -f 9 -6 -s rr -p 100
-a -f 9 -6 -r [2001:db8:10::5]:0 -g -w 1
"""
LISTING = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:0 rr persistent 360
  -> 10.0.10.5:0                  Masq    1      0          0         
TCP  10.0.0.1:80 rr persistent 300 mask 255.255.255.0
  -> 10.0.10.5:8080               Masq    1      2          0         
TCP  10.0.0.1:81 wrr
  -> 10.0.0.1:81                  Route   1      0          0         
  -> 10.0.10.5:81                 Route   100    0          0         
  -> 10.0.10.6:81                 Tunnel  0      0          0         
  -> 10.0.10.7:81                 Tunnel  1      0          0         
  -> 10.0.10.9:81                 Tunnel  1      0          0         
TCP  10.0.0.1:82 sh (sh-fallback,sh-port)
UDP  10.0.0.1:53 rr ops
  -> 10.0.10.5:53                 Masq    1      0          0         
SCTP 10.0.0.1:99 rr
TCP  [2001:db8::1]:80 rr persistent 60 mask 64
  -> 10.0.10.6:80                 Tunnel  1      1          0         
  -> [2001:db8:10::5]:8080        Masq    1      0          0         
FWM  7 rr
  -> 10.0.10.5:0                  Route   1      0          0         
FWM  9 IPv6 rr persistent 100
  -> [2001:db8:10::5]:0           Route   1      0          0         
"""
PROC = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
SCTP  0A000001:0063 rr  
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr persistent 6000 40000000
  -> 0A000A06:0050      Tunnel  1      1          0         
  -> [2001:0db8:0010:0000:0000:0000:0000:0005]:1F90      Masq    1      0          0         
TCP  0A000001:0052 sh  
TCP  0A000001:0051 wrr  
  -> 0A000001:0051      Route   1      0          0         
  -> 0A000A09:0051      Tunnel  1      0          0         
  -> 0A000A07:0051      Tunnel  1      0          0         
  -> 0A000A06:0051      Tunnel  0      0          0         
  -> 0A000A05:0051      Route   100    0          0         
TCP  0A000001:0050 rr  persistent 30000 FFFFFF00
  -> 0A000A05:1F90      Masq    1      2          0         
TCP  0A000001:0000 rr  persistent 36000 FFFFFFFF
  -> 0A000A05:0000      Masq    1      0          0         
UDP  0A000001:0035 rr ops  
  -> 0A000A05:0035      Masq    1      0          0         
FWM  00000007 rr 
  -> 0A000A05:0000      Route   1      0          0         
FWM  00000009 rr persistent 10000 80000000
  -> [2001:0db8:0010:0000:0000:0000:0000:0005]:0000      Route   1      0          0         
"""
TUNNELS = """\
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  10.0.0.1:81 wrr
  -> 10.0.10.5:81                 Route   n/a           100    0          0         
  -> 10.0.10.6:81                 Tunnel  ipip          0      0          0         
  -> 10.0.10.7:81                 Tunnel  gue:6080:-c   1      0          0         
  -> 10.0.10.9:81                 Tunnel  gre:+c        1      0          0         
"""
STATISTICS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.0.0.1:80                         2        4        2      224      120
  -> 10.0.10.5:8080                      2        4        2      224      120
"""
CONNECTIONS = """\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:47  ESTABLISHED 10.0.0.2:48818     10.0.0.1:8080      10.0.10.5:8080
TCP 00:46  SYN_RECV    [2001:db8::2]:37218 [2001:db8::1]:80   10.0.10.6:80
TCP 04:45  ASSURED     10.0.0.0:0         10.0.0.1:80        10.0.10.5:8080
TCP 00:45  NONE        [2001:db8::]:0     [2001:db8::1]:80   10.0.10.6:80
TCP 05:47  NONE        10.0.0.2:0         10.0.0.1:0         10.0.10.5:0
"""
PROC_CONNECTIONS = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A000002 BEB2 0A000001 1F90 0A000A05 1F90 ESTABLISHED     887
TCP 2001:0db8:0000:0000:0000:0000:0000:0002 9162 2001:0db8:0000:0000:0000:0000:0000:0001 0050 0A000A06 0050 SYN_RECV         46
TCP 0A000000 0000 0A000001 0050 0A000A05 1F90 ASSURED         285
TCP 2001:0db8:0000:0000:0000:0000:0000:0000 0000 2001:0db8:0000:0000:0000:0000:0000:0001 0050 0A000A06 0050 NONE             45
TCP 0A000002 0000 0A000001 0000 0A000A05 0000 NONE            347
"""
SYNCHRONISED = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires
TCP 0A000002 BEB2 0A000001 1F90 0A000A05 1F90 ESTABLISHED LOCAL      886
"""


def services(text: str, *, is_hexadecimal: bool = False) -> tuple[list[VirtualService], UnreadPieces]:
    unread = UnreadPieces()
    return parse_services(text.splitlines(), HERE, unread, is_hexadecimal=is_hexadecimal), unread


def shape(found: list[VirtualService], *, with_mask: bool = True) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        (
            service.protocol, service.ip, service.port, service.mark, service.family, service.scheduler,
            *((service.flags, service.persistence_s, service.persistence_mask) if with_mask else ()),
            tuple(sorted((one.ip, one.port, one.method, one.weight) for one in service.real_servers)),
        )
        for service in found
    ]  # fmt: skip
    return sorted(rows, key=str)


def test_rules_listing_and_proc_of_one_director_agree() -> None:
    rules, unread_rules = services(RULES)
    listing, unread_listing = services(LISTING)
    proc, unread_proc = services(PROC, is_hexadecimal=True)
    assert unread_rules.count == unread_listing.count == unread_proc.count == 0
    assert (len(rules), sum(len(service.real_servers) for service in rules)) == (9, 12)
    assert shape(rules) == shape(listing)
    assert shape(rules, with_mask=False) == shape(proc, with_mask=False)
    assert [service.source.line for service in rules][:4] == [1, 3, 5, 11]
    assert (rules[2].real_servers[3].source.line, rules[2].real_servers[3].text) == (
        9,
        "-a -t 10.0.0.1:81 -r 10.0.10.7:81 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
    )
    assert (listing[1].real_servers[0].active, listing[1].real_servers[0].inactive) == (2, 0)


def test_what_rules_say() -> None:
    rules, _ = services(RULES)
    by_port = {(service.ip, service.port): service for service in rules if service.mark is None}
    narrow = by_port["10.0.0.1", 80]
    assert (narrow.persistence_s, narrow.persistence_mask, set(narrow.flags)) == (300, "255.255.255.0", {"persistent"})
    assert by_port["10.0.0.1", 82].flags == {"sh-fallback", "sh-port"}
    assert (by_port["10.0.0.1", 53].protocol, set(by_port["10.0.0.1", 53].flags)) == ("udp", {"ops"})
    assert by_port["2001:db8::1", 80].persistence_mask == "64"
    tunnels = [(one.method, one.tunnel_type, one.tunnel_port) for one in by_port["10.0.0.1", 81].real_servers]
    assert tunnels == [("DR", "", None), ("DR", "", None), ("TUN", "ipip", None), ("TUN", "gue", 6080), ("TUN", "gre", None)]
    listed, unread = services(TUNNELS)
    assert unread.count == 0
    assert [(one.method, one.tunnel_type, one.tunnel_port) for one in listed[0].real_servers] == tunnels[1:]


def test_the_kernel_s_order_of_services() -> None:
    rules, _ = services(RULES)
    table = Ipvs(services=rules)
    assert [one.port for one in table.services_for("tcp", "10.0.0.1", 80)] == [80, 0]
    assert [one.port for one in table.services_for("tcp", "10.0.0.1", 4000)] == [0]
    assert [one.mark for one in table.services_for("tcp", "10.0.0.1", 80, mark=7)] == [7, None, None]
    assert table.services_for("tcp", "10.0.0.1", 80, mark=9)[0].mark is None  # mark 9 is a service of IPv6
    assert [one.mark for one in table.services_for("tcp", "2001:db8::5", 1, mark=9)] == [9]
    assert table.services_for("udp", "10.0.0.1", 80) == []


def connections(text: str, *, is_proc: bool = False) -> tuple[list[BalancedConnection], UnreadPieces]:
    unread = UnreadPieces()
    parse = parse_proc_connections if is_proc else parse_connections
    return parse(text.splitlines(), HERE, unread), unread


def test_connections_of_ipvsadm_and_of_proc_agree() -> None:
    printed, unread = connections(CONNECTIONS)
    proc, unread_proc = connections(PROC_CONNECTIONS, is_proc=True)
    assert unread.count == unread_proc.count == 0

    def ends(one: BalancedConnection) -> tuple[object, ...]:
        return (
            one.protocol,
            one.state,
            one.expires_s,
            one.client_ip,
            one.client_port,
            one.virtual_ip,
            one.virtual_port,
            one.real_ip,
            one.real_port,
        )

    assert [ends(one) for one in printed] == [ends(one) for one in proc]
    assert ends(printed[1]) == ("tcp", "SYN_RECV", 46, "2001:db8::2", 37218, "2001:db8::1", 80, "10.0.10.6", 80)
    assert [one.is_template for one in printed] == [False, False, True, True, True]
    assert {one.local_ip for one in (*printed, *proc)} == {""}
    synchronised, unread = connections(SYNCHRONISED, is_proc=True)
    assert (ends(synchronised[0])[:3], unread.count) == (("tcp", "ESTABLISHED", 886), 0)


def test_full_nat_in_proc_has_the_local_address() -> None:
    row = "TCP C0A80105 C350 0A000001 0050 0A000A01 0401 0A000A05 1F90 ESTABLISHED      89"
    (one,), unread = connections(row, is_proc=True)
    assert (one.local_ip, one.local_port, one.real_ip, one.real_port, one.expires_s) == ("10.0.10.1", 1025, "10.0.10.5", 8080, 89)
    (one,), _ = connections(row.replace("0A000A01 0401", "00000000 0000"), is_proc=True)
    assert (one.local_ip, one.local_port, unread.count) == ("", None, 0)


def test_full_nat_misprinted_gives_what_can_be_known_and_says_what_is_hidden() -> None:
    row = "TCP 00:01  C0A8C86D    192.168.0.109:36519 192.168.0.120:8080 192.168.200.108:23536"
    (one,), unread = connections(row)
    assert (one.client_ip, one.virtual_port, one.local_ip, one.local_port) == ("192.168.0.109", 8080, "192.168.200.108", 23536)
    assert (one.real_ip, one.real_port, one.state, one.expires_s) == ("192.168.200.109", 0, "", None)
    assert (unread.count, "/proc/net/ip_vs_conn" in unread.pieces[0].because) == (1, True)


def test_dpvs() -> None:
    text = """\
[2]tcp 90s    ESTABLISHED 192.168.1.5:50000  10.0.0.1:80        10.0.10.1:1025     10.0.10.5:8080
[12]icmpv6 7s     NONE        [2001:db8::2]:1    [2001:db8::1]:1    [2001:db8::2]:1    [2001:db8:10::5]:1
"""
    (one, two), unread = connections(text)
    assert (one.protocol, one.expires_s, one.state, one.local_ip, one.local_port, one.real_ip) == (
        "tcp",
        90,
        "ESTABLISHED",
        "10.0.10.1",
        1025,
        "10.0.10.5",
    )
    assert (two.protocol, two.local_ip, unread.count) == ("icmpv6", "", 0)
    (bare,), unread = connections(text.splitlines()[0].removeprefix("[2]"))
    assert (bare.protocol, bare.local_ip, bare.real_ip, unread.count) == ("tcp", "10.0.10.1", "10.0.10.5", 0)
    listing = """\
IP Virtual Server version 1.9.6 (size=0)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr synproxy conn-timeout 60 ppv2 expire-quiescent dest-check internal:default external:tcp
  -> 10.0.10.5:80                 FullNat 100    3          1          inhibited,overload
MATCH tcp,from=172.16.0.0-172.16.255.254:0-0,oif=dpdk1 rr
  -> 192.168.10.2:0               SNAT    100    0          0
"""
    found, unread = services(listing)
    assert (found[0].real_servers[0].method, set(found[0].real_servers[0].flags)) == ("FULLNAT", {"inhibited", "overload"})
    assert found[0].flags == {"synproxy", "conn-timeout 60", "ppv2", "expire-quiescent", "dest-check", "internal:default", "external:tcp"}
    assert (len(found), unread.count) == (1, 2)
    rules = """\
-A -t 10.0.0.1:80 -s conhash --ops
-a -t 10.0.0.1:80 -r 10.0.10.5:80 -b -w 100
-A -q 10.0.0.1:0 -s rr
-A -H proto=tcp,src-range=172.16.0.0-172.16.255.254:0-0,dst-range=0.0.0.0-0.0.0.0:0-0,iif=,oif=dpdk1 -s rr
"""
    found, unread = services(rules)
    assert [(one.protocol, one.scheduler, set(one.flags)) for one in found] == [("tcp", "conhash", {"ops"}), ("icmp", "rr", set())]
    assert (found[0].real_servers[0].method, unread.count) == ("FULLNAT", 1)


def test_alibaba() -> None:
    listing = """\
IP Virtual Server version 1.2.1 (size=4194304)
Prot LocalAddress:Port Scheduler Established(Sec.) Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80       wrr       UnK. or DFLT. 0   persistent 50 synproxy
  -> 10.0.10.5:80                 FullNat 100    3          1         
TCP  10.0.0.1:81       rr        90                synproxy
"""
    found, unread = services(listing)
    assert [(one.scheduler, one.persistence_s, set(one.flags)) for one in found] == [
        ("wrr", 50, {"persistent", "synproxy"}),
        ("rr", None, {"synproxy"}),
    ]
    assert unread.count == 0
    rules = """\
-A -t 10.0.0.1:80 -s wrr -p 50 pe sip ops -j enable -V 90
-a -t 10.0.0.1:80 -r 10.0.10.5:80 -b -w 100
-A -t 10.0.0.1:81 -s rr -j disable
-P -t 10.0.0.1:80 -z 10.0.10.1
-P -t 10.0.0.1:80 -z 10.0.10.2
"""
    found, unread = services(rules)
    assert (set(found[0].flags), found[0].local_addresses) == (
        {"persistent", "pe sip", "ops", "synproxy", "established 90 s"},
        ("10.0.10.1", "10.0.10.2"),
    )
    assert (found[0].real_servers[0].method, set(found[1].flags), unread.count) == ("FULLNAT", set(), 0)


def test_long_options_and_what_may_be_left_out() -> None:
    found, unread = services(
        "--add-service --tcp-service=10.0.0.1:80 -p\n--add-server --tcp-service 10.0.0.1:80 --real-server=10.0.0.2 --ipip --weight 3\n"
    )
    (one,) = found
    assert (one.scheduler, set(one.flags), one.persistence_s) == ("wlc", {"persistent"}, None)
    (server,) = one.real_servers
    assert (server.ip, server.port, server.method, server.weight, unread.count) == ("10.0.0.2", 80, "TUN", 3, 0)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("-A -t 10.0.0.1:http -s rr", "numbers"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1", "no line with -A"),
        ("-A -t 10.0.0.1:80 -s rr\n-A -t 10.0.0.1:80 -s wrr", "already"),
        ("-A -t 10.0.0.1:80 -s rr --novel 3", "--novel 3"),
        ("-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r db:80 -g -w 1", "real server"),
        ("-D -t 10.0.0.1:80", "expected -A"),
        ("TCP  10.0.0.1:80 rr blue", "`blue`"),
        ("  -> 10.0.10.5:80                 Masq    1      0          0", "its service"),
        ("TCP  10.0.0.1:80 rr\n  -> 10.0.10.5:80   Carrier    1      0          0", "Forward"),
        ("Memory allocation problem", "expected protocol"),
        (STATISTICS, "does not show"),
    ],
)
def test_what_is_not_understood_is_kept(text: str, because: str) -> None:
    _, unread = services(text)
    assert unread.count >= 1
    assert because in unread.pieces[0].because


def test_the_better_of_two_files_is_read(tmp_path: Path) -> None:
    def state(**files: str) -> Ipvs | None:
        paths = {}
        for name, text in files.items():
            name = name.replace("__", "-") + ".txt"
            (tmp_path / name).write_text(text)
            paths[name] = tmp_path / name
        return read_ipvs(State("lb", paths, {name: f"lb/state/{name}" for name in paths}, []))

    misprint = "TCP 00:01  0A000A05    192.168.0.109:36519 192.168.0.120:8080 192.168.200.108:23536\n"
    assert state() is None
    only_rules = state(ipvsadm__rules=RULES)
    assert only_rules is not None
    assert (len(only_rules.services or ()), only_rules.connections) == (9, None)
    empty = state(ipvsadm__rules="")
    assert empty is not None
    assert empty.services == []
    both = state(ipvsadm__connections=misprint, proc__net__ip_vs_conn=PROC_CONNECTIONS, proc__net__ip_vs=PROC)
    assert both is not None
    assert both.connections is not None
    assert {one.source.file for one in both.connections} == {"lb/state/proc-net-ip_vs_conn.txt"}
    assert {one.source.file for one in both.services or ()} == {"lb/state/proc-net-ip_vs.txt"}
    plain = state(ipvsadm__connections=CONNECTIONS, proc__net__ip_vs_conn=PROC_CONNECTIONS)
    assert plain is not None
    assert {one.source.file for one in plain.connections or ()} == {"lb/state/ipvsadm-connections.txt"}


def test_long_lines_are_not_slow() -> None:
    began = time.monotonic()
    for part in ("-a ", "-t 1.2.3.4:5 ", "TCP ", "[", "(", "-> ", "persistent 1 ", "00:01 ", "C0A8C86D "):
        for head in ("", "-A -t 1.2.3.4:5 ", "TCP  1.2.3.4:5 rr ", "TCP 00:01 "):
            text = head + part * 50_000
            services(text)
            connections(text)
            connections(text, is_proc=True)
    assert time.monotonic() - began < 3


ROWS = [
    line for text in (RULES, LISTING, PROC, TUNNELS, STATISTICS, CONNECTIONS, PROC_CONNECTIONS, SYNCHRONISED) for line in text.splitlines()
]


@settings(max_examples=300, deadline=2000)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.tuples(st.sampled_from(ROWS), st.integers(0, 120), st.text(max_size=9)).map(
                lambda part: part[0][: part[1]] + part[2] + part[0][part[1] + 2 :]
            ),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_changed_lines_never_raise(lines: list[str], is_hexadecimal: bool) -> None:
    text = "\n".join(lines)
    found, _ = services(text, is_hexadecimal=is_hexadecimal)
    table = Ipvs(services=found)
    for service in found:
        assert 0 <= service.port <= 65535
        table.services_for(service.protocol, service.ip, service.port, service.mark or 0)
    for one in connections(text, is_proc=is_hexadecimal)[0]:
        assert 0 <= one.client_port <= 65535
