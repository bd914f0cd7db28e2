"""Counters as nstat and /proc print them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables.counters import parse_nstat, parse_proc_pairs

NSTAT = """\
#kernel
IpInReceives                    19111              0.0
IpOutNoRoutes                   0                  0.0
TcpExtListenOverflows           3                  0.0
nonsense
"""
PROC = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 3 4
IpExt: InNoRoutes
IpExt: 7
Tcp: RtoAlgorithm MaxConn OutRsts
Tcp: 1 -1 18446744073709551615
"""
HERE = Source("h", "h/state/nstat.txt")


def test_nstat() -> None:
    table = parse_nstat(NSTAT.splitlines(), HERE)
    found = table.get("TcpExtListenOverflows")
    assert found is not None
    assert (found.value, found.source.line) == (3, 4)
    assert table.get("TcpExtListenDrops") is None
    assert [(piece.source.line, piece.text) for piece in table.unread.pieces] == [(5, "nonsense")]
    before = parse_nstat(["TcpExtListenOverflows 1 0.0", "IpOutNoRoutes 5 0.0"], HERE)
    assert table.rise(before, "TcpExtListenOverflows") == 2
    assert table.rise(before, "IpOutNoRoutes") is None
    assert table.rise(before, "IpInReceives") is None


def test_nstat_as_json() -> None:
    table = parse_nstat(['{"kernel":{"IpInReceives":19111,', ' "TcpExtListenOverflows":3,"x":"y"}}'], HERE)
    found = table.get("TcpExtListenOverflows")
    assert found is not None
    assert (found.value, found.source.line) == (3, 2)
    assert table.not_understood_count == 1


def test_proc_pairs() -> None:
    table = parse_proc_pairs(PROC.splitlines(), HERE)
    values = {name: (counter.value, counter.source.line) for name, counter in table.values.items()}
    assert values == {
        "TcpExtSyncookiesSent": (0, 2),
        "TcpExtListenOverflows": (3, 2),
        "TcpExtListenDrops": (4, 2),
        "IpExtInNoRoutes": (7, 4),
        "TcpRtoAlgorithm": (1, 6),
        "TcpOutRsts": (18446744073709551615, 6),
    }


@pytest.mark.skipif(shutil.which("nstat") is None, reason="the program nstat is not installed")
@pytest.mark.parametrize("flags", ["-asz", "-aszj"])
def test_this_host(flags: str) -> None:
    printed = subprocess.run(["nstat", flags], capture_output=True, text=True, check=True).stdout
    table = parse_nstat(printed.splitlines(), HERE)
    proc = parse_proc_pairs(Path("/proc/net/netstat").read_text(encoding="ascii").splitlines(), HERE)
    assert table.not_understood_count == proc.not_understood_count == 0
    assert "TcpExtListenOverflows" in table.values
    assert {name for name in proc.values if name.startswith("TcpExt")} <= set(table.values)


@settings(max_examples=200, deadline=2000)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.sampled_from(NSTAT.splitlines() + PROC.splitlines() + ['{"kernel":{"A":1}}', "{"]),
        ),
        max_size=10,
    )
)
def test_any_lines_never_raise(lines: list[str]) -> None:
    for table in (parse_nstat(lines, HERE), parse_proc_pairs(lines, HERE)):
        assert all(counter.value >= 0 for counter in table.values.values())
