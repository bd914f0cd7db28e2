"""Sessions of HAProxy: as 2.6 prints them here, as other versions' sources do, damaged, and any text at all."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.haproxy_sessions import HaproxySessions, parse_sessions, read_haproxy_sessions
from tests.state.haproxy_programs import WAYS, running

# ruff: noqa: E501 (the lines are as HAProxy writes them)

HERE = Source("lb", "lb/state/haproxy-sessions.txt")

LONG_2_6 = """\
0x55d6c1f4a9c0: [21/Nov/2026:16:30:56.482256] id=0 proto=tcpv4 source=10.0.0.9:49750
  flags=0x4a, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x55d6c1e84610, pend_pos=(nil) waiting=0 epoch=0
  frontend=web (id=2 mode=tcp), listener=? (id=1) addr=10.0.0.1:80
  backend=app (id=5 mode=tcp) addr=10.0.10.1:47372
  server=n1 (id=1) addr=10.0.10.5:8080
  task=0x55d6c207a860 (state=0x00 nice=0 calls=2 rate=2 exp=1s tmask=0x1 age=1h2m)
  scf=0x55d6c202a270 flags=0x00000000 state=EST endp=CONN,0x55d6c207a770,0x028c0001 sub=1
      co0=0x55d6c207a500 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=LISTENER:0x55d6c1e7e9c0
      flags=0x00000300 fd=14 fd.state=121 updt=0 fd.tmask=0x1
  scb=0x55d6c1faf530 flags=0x00000001 state=CLO endp=CONN,0x55d6c207abf0,0x028c0001 sub=1
      co1=0x55d6c207a9d0 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=SERVER:0x55d6c1e84610
      flags=0x10000300 fd=15 fd.state=10121 updt=0 fd.tmask=0x1
  req=0x55d6c1f4a9e0 (f=0x848202 an=0x0 pipe=0 tofwd=-1 total=27)
"""
LONG_1_5 = """\
0x1cd6e80: [03/Feb/2015:09:08:07.000250] id=3 proto=tcpv6 source=2001:db8::9:40001
  flags=0x8e, conn_retries=3, srv_conn=0x1c8d0b0, pend_pos=(nil)
  frontend=in (id=3 mode=http), listener=sock-1 (id=1) addr=2001:db8::1:443
  backend=web (id=4 mode=http) addr=::ffff:10.0.10.1:33333
  server=s1 (id=1) addr=10.0.10.7:80
  task=0x1cd6e00 (state=0x04 nice=0 calls=5 exp=29s age=3d4h)
  txn=0x1cd6f38 flags=0x0 meth=1 status=-1 req.st=MSG_DONE rsp.st=MSG_RPBEFORE waiting=0
  si[0]=0x1cd70c8 (state=EST flags=0x08 endp0=CONN:0x1cc8a10 exp=<NEVER>, et=0x000)
      co0=0x1cc8a10 ctrl=tcpv4 xprt=RAW data=STRM target=LISTENER:0x1c8a7c0
      flags=0x0020b306 fd=1 fd_spec_e=22 fd_spec_p=0 updt=0
  si[1]=0x1cd70e8 (state=EST flags=0x18 endp1=CONN:0x1cd8c70 exp=<NEVER>, et=0x000)
      co1=0x1cd8c70 ctrl=tcpv4 xprt=RAW data=STRM target=SERVER:0x1c8d0b0
      flags=0x0020b306 fd=2 fd_spec_e=22 fd_spec_p=0 updt=0
"""
LONG_3 = """\
0x7f0a5c03ee40: [1763743856.482256] id=9 proto=quic4 source=10.0.0.9:50123
  flags=0x4a, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x1, pend_pos=(nil) waiting=0 epoch=0
  p_con=1 p_stc=5 p_req=1 p_res=1 p_prp=3
  frontend=h3 (id=2 mode=http), listener=? (id=1) addr=10.0.0.1:443
  backend=app (id=5 mode=http) addr=10.0.10.1:40002
  server=n1 (id=1) addr=10.0.10.5:8080
  task=0x55 (state=0x00 nice=0 calls=2 rate=2 exp=1s tid=0(1/0) age=59s)
  scf=0x55 flags=0x00000000 ioto=1m state=EST endp=CONN,0x5,0x028c0001 sub=1 in=100 out=200 rex=1m wex=<NEVER> rto=<NEVER> wto=<NEVER>
    iobuf.flags=0x00000000 .pipe=0 .buf=0@(nil)+0/0
      h3s=0x55 .flg=0x1 fd=77 is no socket of this session
      co0=0x55 ctrl=quic4 xprt=QUIC mux=QUIC target=LISTENER:0x5
      flags=0x00000300 fd=1/-1 fd.state=00 updt=0 fd.tmask=0x0
  scb=0x55 flags=0x00000000 ioto=1m state=EST endp=CONN,0x5,0x028c0001 sub=1 in=200 out=100 rex=1m wex=<NEVER> rto=<NEVER> wto=<NEVER>
      co1=0x55 ctrl=tcpv4 xprt=RAW mux=H1 target=SERVER:0x5
      flags=0x00000300 fd=1/26 fd.state=121 updt=0 fd.tmask=0x1
"""
SHORT = """\
0x55d6c1f4a9c0: proto=tcpv4 src=127.0.0.1:49750 fe=tcp4 be=plain srv=n1 ts=00 epoch=0 age=5s calls=2 rate=2 cpu=0 lat=0 rq[f=1h] scf=[8,0h,fd=14] scb=[8,1h,fd=15] exp=1s rc=0 c_exp=
0x9c8f0a0: proto=tcpv4 src=10.0.0.9:1234 fe=http be=http srv=s1 ts=02 age=2m3s calls=5 rq[f=c08000h,i=0,an=00h,rx=29s,wx=,ax=] s0=[7,8h,fd=1,ex=] s1=[7,18h,fd=2,ex=] exp=29s
0x7f0a5c03ee40: proto=tcpv6 src=2001:db8::9:443 fe=f be=b srv=<none> ts=00 epoch=0 age=1d0h calls=2 rate=0 scf=[8,0h,fd=1/24,rex=1m,wex=] scb=[0,1h,fd=1/-1,rex=,wex=] exp=1m
0x55d6c207c120: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 age=0s calls=2 rate=1 scf=[8,0h,fd=26] scb=[8,1h,fd=-1] exp=10s
"""


def parsed(text: str) -> HaproxySessions:
    table = HaproxySessions()
    parse_sessions(text.splitlines(), HERE, table)
    return table


def test_the_long_form_of_2_6() -> None:
    table = parsed(LONG_2_6)
    (one,) = table.sessions
    assert (one.client, one.frontend_end, one.local_end, one.server_end) == (
        ("10.0.0.9", 49750), ("10.0.0.1", 80), ("10.0.10.1", 47372), ("10.0.10.5", 8080),
    )  # fmt: skip
    assert (one.frontend, one.backend, one.server, one.mode, one.protocol) == ("web", "app", "n1", "tcp", "tcpv4")
    assert (one.age_s, one.client_state, one.server_state, one.is_open) == (3720, "EST", "CLO", False)
    assert (one.client_fd, one.server_fd, one.source.line, one.may_share_server) == (14, 15, 1, False)
    assert one.accepted_naive_ns == 1795278656_482256000
    assert table.unread.count == 0


def test_the_long_forms_of_1_5_and_3() -> None:
    table = parsed(LONG_1_5 + LONG_3)
    old, new = table.sessions
    assert (old.client, old.frontend_end) == (("2001:db8::9", 40001), ("2001:db8::1", 443))
    assert (old.local_end, old.server_end, old.may_share_server) == (("10.0.10.1", 33333), ("10.0.10.7", 80), True)
    assert (old.age_s, old.server_state, old.client_fd, old.server_fd) == (3 * 86400 + 4 * 3600, "EST", 1, 2)
    assert (new.client, new.local_end, new.client_fd, new.server_fd) == (("10.0.0.9", 50123), ("10.0.10.1", 40002), None, 26)
    assert (new.accepted_naive_ns, new.protocol, new.source.line) == (None, "quic4", 14)
    assert table.unread.count == 0


def test_the_short_forms() -> None:
    table = parsed("> " + SHORT + "\n> ")
    assert [(one.client, one.server, one.age_s, one.client_fd, one.server_fd) for one in table.sessions] == [
        (("127.0.0.1", 49750), "n1", 5, 14, 15),
        (("10.0.0.9", 1234), "s1", 123, 1, 2),
        (("2001:db8::9", 443), "<none>", 86400, 24, None),
        (None, "<none>", 0, 26, None),
    ]
    assert all(one.local_end is None and one.is_open for one in table.sessions)
    assert table.unread.count == 0


def test_what_is_not_understood_is_counted() -> None:
    cut = LONG_2_6.partition("  server=")[0]
    hidden = LONG_2_6.replace("10.0.0.9:49750", "3f2a11:49750")
    wrong = LONG_2_6.replace("addr=10.0.10.1:47372", "addr=10.0.10.999:47372")
    table = parsed("Permission denied\n" + cut + hidden + wrong + "  stray\n\nUnknown command: 'show sess'\n" + "  stray\n")
    assert [piece.because.split(":")[0] for piece in table.unread.pieces] == [
        "this is no session",
        "the session is cut off",
        "its client has no address that can be read; `set anon on` hides them",
        "expected a name, an id and perhaps an address with its port",
        "this is no session",
        "expected a session before it",
    ]
    assert [(one.client, one.local_end) for one in table.sessions] == [
        (("10.0.0.9", 49750), ("10.0.10.1", 47372)),
        (("10.0.0.9", 49750), None),
    ]


def test_several_files_of_one_host(tmp_path: Path) -> None:
    texts = {"haproxy-sessions.txt": LONG_2_6, "haproxy-sessions-2.txt": SHORT}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    state = State("lb", {name: tmp_path / name for name in texts}, {name: f"lb/state/{name}" for name in texts}, [])
    table = read_haproxy_sessions(state)
    assert table is not None
    assert [one.source.file for one in table.sessions] == ["lb/state/haproxy-sessions.txt"] + ["lb/state/haproxy-sessions-2.txt"] * 4
    assert read_haproxy_sessions(State("lb", {}, {}, [])) is None


def test_real_haproxy_names_the_connections_that_nginx_sees(tmp_path: Path) -> None:
    with running(tmp_path / "lb") as programs:
        truth = dict(programs.connect(way)[::-1] for way in WAYS * 3)
        table = parsed("\n".join(programs.ask("show sess all")))
        short = parsed("\n".join(programs.ask("show sess")))
    named = {one.local_end: one.client for one in table.sessions if one.local_end}
    assert len(truth) == 12
    assert named == truth
    assert table.unread.count == short.unread.count == 0
    of_nginx = [one for one in table.sessions if one.local_end]
    assert {one.server_end for one in of_nginx} == {("127.0.3.2", programs.ports[3])}
    assert {(one.mode, one.may_share_server, one.is_open) for one in of_nginx} == {("tcp", False, True), ("http", True, True)}
    assert {one.frontend_end for one in of_nginx} >= {("127.0.3.1", programs.ports[1]), ("::1", programs.ports[1])}
    ends = {one.identifier: (one.client, one.client_fd, one.server_fd) for one in of_nginx}
    assert {one.identifier: (one.client, one.client_fd, one.server_fd) for one in short.sessions if one.identifier in ends} == ends


@given(st.lists(st.sampled_from((LONG_2_6 + LONG_1_5 + LONG_3 + SHORT).splitlines()) | st.text(max_size=80), max_size=40))
def test_any_lines_end_in_sessions_or_in_what_is_unread(lines: list[str]) -> None:
    table = HaproxySessions()
    parse_sessions(lines, HERE, table)
    assert len(table.sessions) <= len(lines)
    for one in table.sessions:
        for end in (one.client, one.frontend_end, one.local_end, one.server_end):
            assert end is None or 0 <= end[1] < 65536


@given(st.integers(0, len(LONG_2_6)), st.text(max_size=20))
def test_damage_never_makes_another_client(at: int, put: str) -> None:
    damaged = LONG_2_6[:at] + "\0" + put
    for one in parsed(damaged).sessions:
        assert one.client in (None, ("10.0.0.9", 49750))
        assert one.local_end in (None, ("10.0.10.1", 47372))
