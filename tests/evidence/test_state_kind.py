"""Tables of connections under any name: told by their content, at their place in a case, and nothing else taken for one."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.evidence import open_evidence
from tcpwhy.evidence.kind import kind_of
from tcpwhy.evidence.state import STATE_FILES
from tcpwhy.evidence.state_kind import state_name_of

FORTH = "src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80"
TRACKED = f"tcp      6 431999 ESTABLISHED {FORTH} src=10.0.0.2 dst=10.0.0.1 sport=80 dport=4000 [ASSURED] use=1\n"
TRACKED_UDP = "ipv6     10 udp      17 29 src=fe80::1 dst=fe80::2 sport=5 dport=53 [UNREPLIED] src=fe80::2 dst=fe80::1\n"
DPVS = "[1]tcp 90s    ESTABLISHED 10.0.0.1:4000     10.0.0.9:80        10.0.1.1:1025      10.0.2.2:8080\n"
STOCK = "TCP 14:59  ESTABLISHED 192.168.1.5:50000  10.0.0.1:80        10.0.10.5:8080\n"
SESSION = "0x55d0c8: proto=tcpv4 src=10.0.0.1:4000 fe=web be=web srv=s1 ts=00 age=4m calls=2 rate=0 cpu=0 lat=0\n"
LONG_SESSION = "0x55d0c8: [21/Nov/2026:17:00:01.123456] id=5 proto=tcpv4 source=10.0.0.1:4000\n  flags=0x2, conn_retries=3\n"
PROC = "Pro FromIP   FPrt ToIP     TPrt LocalIP  LPrt DestIP   DPrt State       Expires\n"
PROC_ROW = "TCP C0A80105 C350 0A000001 0050 0A000A01 0401 0A000A05 1F90 ESTABLISHED      89\n"
LISTED = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n"

TABLES = [
    ("conntrack.txt", TRACKED * 3),
    ("conntrack.txt", f"ipv4     2 {TRACKED}{TRACKED_UDP}"),
    ("ipvsadm-connections.txt", DPVS * 2),
    ("ipvsadm-connections.txt", DPVS.removeprefix("[1]")),
    ("ipvsadm-connections.txt", STOCK),
    ("ipvsadm-connections.txt", "IPVS connection entries\npro expire state       source   virtual  destination\n" + STOCK),
    ("proc-net-ip_vs_conn.txt", PROC + PROC_ROW),
    ("haproxy-sessions.txt", SESSION * 2),
    ("haproxy-sessions.txt", LONG_SESSION),
    ("ipvsadm-rules.txt", LISTED + "TCP  10.0.0.1:80 rr persistent 300\n  -> 10.0.10.5:8080   Masq    1      1          0\n"),
    ("ipvsadm-rules.txt", "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.10.5:8080 -m -w 1\n"),
    ("proc-net-ip_vs.txt", LISTED + "TCP  0A000001:0050 rr  \n  -> 0A000A05:1F90      Masq    1      1          0\n"),
]  # fmt: skip


FIRST_LINES = [text.split("\n")[0].encode() for _, text in TABLES]


@pytest.mark.parametrize(("name", "text"), TABLES)
def test_a_table_is_told_by_its_lines(tmp_path: Path, name: str, text: str) -> None:
    assert name in STATE_FILES
    assert state_name_of(text.encode()) == name
    for called in ("any.txt", "table", "saved.log"):
        (tmp_path / called).write_text(text)
        assert kind_of(tmp_path / called) == "table"
    (tmp_path / "packed.gz").write_bytes(gzip.compress(text.encode()))
    assert kind_of(tmp_path / "packed.gz") != "table"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "2026/11/21 17:00:01 " + TRACKED,
        TRACKED + "2026/11/21 17:00:01 started\n" + TRACKED,
        "-A INPUT -p tcp -j DROP\n",
        "IP Virtual Server version 1.2.1 (size=4096)\n",
        "0x55d0c8: something else\n",
        "TCP is a protocol: it has ports, as 10.0.0.1:80\n",
    ],
)
def test_nothing_else_is_a_table(text: str) -> None:
    assert state_name_of(text.encode()) is None


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([text.splitlines()[0] for _, text in TABLES]), max_size=5).map("\n".join).map(str.encode)
)
def test_any_bytes_end_in_a_known_name_or_none(head: bytes) -> None:
    assert state_name_of(head) in (None, *STATE_FILES)


def test_tables_are_found_in_a_state_beside_it_and_in_archives(tmp_path: Path) -> None:
    (tmp_path / "case/lb/state").mkdir(parents=True)
    (tmp_path / "case/lb/state/host.json").write_text("{}")
    (tmp_path / "case/lb/state/show-sess.txt").write_text(SESSION)
    (tmp_path / "case/lb/state/notes.txt").write_text("nothing that is read\n")
    (tmp_path / "case/lb/dpvs -lnc.txt").write_text(DPVS)
    (tmp_path / "case/lb/dpvs again.txt").write_text(DPVS)
    (tmp_path / "case/nat").mkdir()
    (tmp_path / "case/nat/conntrack-L").write_text(TRACKED)
    with tarfile.open(tmp_path / "case.tar", "w") as archive:
        archive.add(tmp_path / "case", "case")
    for place in (tmp_path / "case", tmp_path / "case.tar"):
        with open_evidence([place]) as evidence:
            states = {point.name: point.state for point in evidence.vantage_points}
            balancer, nat = states["lb"], states["nat"]
            assert balancer is not None
            assert nat is not None
            assert balancer.collected == {"host.json", "haproxy-sessions.txt", "ipvsadm-connections.txt"}
            assert nat.collected == {"conntrack.txt"}
            assert nat.read_lines("conntrack.txt") == [TRACKED.rstrip("\n")]
            assert str(nat.source("conntrack.txt", 1)) == "nat/conntrack-L:1"
            notes = "\n".join(balancer.notes)
            assert "lb/state/notes.txt is no state file that is read; passed over" in notes
            assert "lb/dpvs -lnc.txt is taken for ipvsadm-connections.txt by its content" in notes
            assert "lb/dpvs again.txt is another ipvsadm-connections.txt; passed over" in notes
    with open_evidence([f"nat={tmp_path / 'case/nat/conntrack-L'}", tmp_path / "case/lb/dpvs -lnc.txt"]) as evidence:
        found = {point.name: sorted(point.state.collected) for point in evidence.vantage_points if point.state is not None}
        assert found == {"nat": ["conntrack.txt"], "dpvs -lnc": ["ipvsadm-connections.txt"]}
