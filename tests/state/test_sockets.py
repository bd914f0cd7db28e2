"""Socket tables as ss and /proc print them."""

# ruff: noqa: E501 (the lines are as the programs write them)

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables.sockets import Process, Sockets, Timer, parse_proc, parse_ss

SS = """\
State     Recv-Q Send-Q           Local Address:Port    Peer Address:PortProcess
LISTEN    2      1                      0.0.0.0:8080         0.0.0.0:*    users:(("a b",pid=812,fd=6),("c",pid=1,fd=7)) ino:551 sk:1e cgroup:/ <->
\t skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0) bbr cwnd:10
LISTEN    0      511                       *:80              *:*    ino:552 sk:1f v6only:0 <->
LISTEN    0      511                    [::]:443          [::]:*    ino:553 sk:20 v6only:1 <->
LISTEN    0      128     127.0.0.53%lo:53           0.0.0.0:*
SYN-SENT  0      1           10.1.0.2:47990    10.2.0.77:9    users:(("python3",pid=2152,fd=4)) timer:(on,800ms,1)
\t bbr rto:1000 mss:524 pmtu:1500 unacked:1 retrans:1/1 lost:1
ESTAB     0      0    [::ffff:10.1.0.2]:48174  [::ffff:10.9.9.9]:80   timer:(keepalive,119min,0) ino:81047 sk:2
\t ts sack bbr wscale:10,10 rto:204 rtt:0.266/0.155 lastsnd:1384 lastrcv:1384
ESTAB     0      0    [fe80::1]%eth0:22  [fe80::2]:5000
TIME-WAIT 0      0          127.0.0.1:33707    127.0.0.1:33030 timer:(timewait,58sec,0) ino:0 sk:1f
this is no socket
"""


def test_ss() -> None:
    table = parse_ss(SS.splitlines(), Source("gw", "gw/state/ss-tcp.txt"))
    rows = table.sockets
    assert [(row.state, row.local, row.remote) for row in rows] == [
        ("LISTEN", "*:8080", "*:*"),
        ("LISTEN", "*:80", "*:*"),
        ("LISTEN", "*:443", "*:*"),
        ("LISTEN", "127.0.0.53:53", "*:*"),
        ("SYN-SENT", "10.1.0.2:47990", "10.2.0.77:9"),
        ("ESTABLISHED", "10.1.0.2:48174", "10.9.9.9:80"),
        ("ESTABLISHED", "[fe80::1]:22", "[fe80::2]:5000"),
        ("TIME-WAIT", "127.0.0.1:33707", "127.0.0.1:33030"),
    ]
    assert (rows[0].recv_q, rows[0].send_q, rows[0].is_overflowing) == (2, 1, True)
    assert rows[0].processes == (Process("a b", 812, 6), Process("c", 1, 7))
    assert rows[3].interface == "lo"
    assert rows[6].interface == "eth0"
    assert rows[4].timer == Timer("on", "800ms", 1)
    assert rows[4].details["retrans"] == "1/1"
    assert (rows[5].details["lastsnd"], rows[5].details["rtt"]) == ("1384", "0.266/0.155")
    assert rows[5].source == Source("gw", "gw/state/ss-tcp.txt", line=9)
    assert (table.not_understood_count, table.not_understood[0].line) == (1, 13)
    assert table.between("10.9.9.9:80", "10.1.0.2:48174") == [rows[5]]


def test_listeners_honour_wildcards_and_ipv6_only() -> None:
    table = parse_ss(SS.splitlines(), Source("gw", "ss"))

    def ports(ip: str, port: int) -> list[int]:
        return [row.source.line or 0 for row in table.listeners_for(ip, port)]

    assert ports("10.0.0.1", 8080) == [2]
    assert ports("fd00::1", 8080) == []
    assert ports("10.0.0.1", 80) == ports("fd00::1", 80) == ports("::ffff:10.0.0.1", 80) == [4]
    assert ports("10.0.0.1", 443) == []
    assert ports("fd00::1", 443) == [5]
    assert ports("127.0.0.53", 53) == [6]
    assert ports("10.0.0.1", 53) == []
    with pytest.raises(ValueError, match="nonsense"):
        table.listeners_for("nonsense", 1)


def test_other_forms_of_ss() -> None:
    one_line = 'ESTAB 0 0 10.0.0.1:1 10.0.0.2:2 users:(("x",pid=1,fd=3)) timer:(keepalive,1min,0) ts rto:204 lastsnd:7'
    row = parse_ss([one_line], Source("h", "ss")).sockets[0]
    assert (row.details["rto"], row.processes[0].pid) == ("204", 1)
    families = [
        "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process",
        "u_str ESTAB  0 0 * 1234 * 1235",
        "\t rto:9",
        "udp   UNCONN 0 0 0.0.0.0:68 0.0.0.0:*",
        "tcp   LISTEN 0 128 :::22 :::*",
        "\t cubic rto:201",
    ]
    table = parse_ss(families, Source("h", "ss"))
    assert [(row.local, row.family, row.details) for row in table.sockets] == [("*:22", 6, {"rto": "201"})]
    assert len(table.listeners_for("10.0.0.1", 22)) == 1


CENTOS = """\
State       Recv-Q Send-Q     Local Address:Port       Peer Address:Port
LISTEN      0      128                    *:22                    *:*      users:(("sshd",1234,3))
LISTEN      0      128                 [::]:80                 [::]:*      users:(("httpd",pid=99,fd=4))
LISTEN      0      100            127.0.0.1:25                    *:*      users:(("master",1301,12)) uid:89 ino:9 sk:ffff880079a5e740
"""


def test_the_any_address_of_versions_before_4_15() -> None:
    table = parse_ss(CENTOS.splitlines(), Source("h", "ss"))
    assert [(row.family, row.v6_only) for row in table.sockets] == [(4, None), (6, None), (4, None)]
    assert table.sockets[0].processes == (Process("sshd", 1234, 3),)
    assert (len(table.listeners_for("10.0.0.1", 22)), len(table.listeners_for("fd00::1", 22))) == (1, 0)
    assert (len(table.listeners_for("10.0.0.1", 80)), len(table.listeners_for("fd00::1", 80))) == (1, 1)


def test_the_any_address_of_a_table_that_does_not_tell_the_version_is_left_open() -> None:
    table = parse_ss(CENTOS.splitlines()[:3], Source("h", "ss"))
    assert [(row.family, row.v6_only) for row in table.sockets] == [(0, None), (6, None)]
    for ip in ("10.0.0.1", "fd00::1"):
        assert len(table.listeners_for(ip, 22)) == len(table.listeners_for(ip, 80)) == 1
    newer = parse_ss([*CENTOS.splitlines()[:3], "LISTEN 0 5 0.0.0.0:90 0.0.0.0:*"], Source("h", "ss"))
    assert [(row.family, row.v6_only) for row in newer.sockets] == [(0, False), (6, True), (4, None)]
    assert newer.listeners_for("10.0.0.1", 80) == []


PROC = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 551 1 0000 100 0 0 10 0
   1: 0100007F:83AB 0200000A:0050 01 00000005:00000007 02:00001700 00000001  1000        0 77 3 00000000157e2477
junk
"""
PROC6 = "   0: 0000000000000000FFFF00000100007F:0050 0000000000000000FFFF00000200007F:0051 06 0:0 03:64 0 0 0 0 3 x\n"


def test_proc_net_tcp() -> None:
    table = Sockets()
    parse_proc(PROC.splitlines(), Source("h", "proc"), table)
    parse_proc(PROC6.splitlines(), Source("h", "proc6"), table)
    assert [(row.state, row.local, row.remote, row.recv_q) for row in table.sockets] == [
        ("LISTEN", "*:8080", "*:*", 2),
        ("ESTABLISHED", "127.0.0.1:33707", "10.0.0.2:80", 7),
        ("TIME-WAIT", "127.0.0.1:80", "127.0.0.2:81", 0),
    ]
    assert table.sockets[1].timer == Timer("keepalive", "58880ms", 1)
    assert not table.sockets[0].is_overflowing
    assert table.not_understood_count == 1


@pytest.mark.skipif(shutil.which("ss") is None, reason="the program ss is not installed")
def test_sockets_of_this_host_read_from_ss_and_from_proc() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        printed = subprocess.run(["ss", "-tanpioem"], capture_output=True, text=True, check=True).stdout.splitlines()
        proc = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
        port = server.getsockname()[1]
        ends = {f"127.0.0.1:{port}", f"127.0.0.1:{client.getsockname()[1]}"}
    from_ss = parse_ss(printed, Source("h", "ss"))
    from_proc = Sockets()
    parse_proc(proc, Source("h", "proc"), from_proc)
    for table in (from_ss, from_proc):
        assert table.not_understood_count == 0
        assert len(table.between(*ends)) == 2
        assert [row.local for row in table.listeners_for("127.0.0.1", port)] == [f"127.0.0.1:{port}"]


@settings(max_examples=200, deadline=2000)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.tuples(st.sampled_from(SS.splitlines() + PROC.splitlines()), st.integers(0, 120), st.text(max_size=9)).map(
                lambda part: part[0][: part[1]] + part[2] + part[0][part[1] + 2 :]
            ),
        ),
        max_size=12,
    )
)
def test_changed_lines_never_raise(lines: list[str]) -> None:
    table = parse_ss(lines, Source("h", "x"))
    parse_proc(lines, Source("h", "x"), table)
    for row in table.sockets:
        assert 0 <= row.local_port <= 65535
        table.listeners_for("10.0.0.1", row.local_port)


def test_long_lines_are_not_slow() -> None:
    began = time.monotonic()
    for part in ('("', "timer:(", "a:b ", "[", ":", "1", '("a",pid=1,fd=2),'):
        parse_ss(["ESTAB 0 0 1.1.1.1:1 2.2.2.2:2 " + part * 100_000, "\t" + part * 100_000], Source("h", "x"))
    assert time.monotonic() - began < 2
