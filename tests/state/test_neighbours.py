"""Neighbour tables as ip prints them."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.tables.neighbours import Neighbour, Neighbours, read_neighbours
from tests.state.namespace import outputs, state_of

TEXT = """\
10.1.0.1 dev eth0 lladdr 02:00:00:00:00:0A  used 0/0/0probes 0 PERMANENT
10.9.9.9 dev eth0  ref 1 used 0/60/0probes 4 INCOMPLETE
10.1.0.50 dev eth0  FAILED
10.1.0.77 dev eth0 proxy
fe80::1 dev eth0 lladdr 02:00:00:00:00:01 router extern_learn REACHABLE proto zebra
Cannot send dump request: Connection refused
"""


def read(folder: Path, content: str | bytes) -> Neighbours:
    table = read_neighbours(state_of(folder, ip_neigh__json=content))
    assert table is not None
    return table


def model(table: Neighbours) -> list[Neighbour]:
    return [dataclasses.replace(one, source=dataclasses.replace(one.source, line=None)) for one in table.entries]


@pytest.mark.parametrize("command", ["ip neigh", "ip -s -s neigh show"])
def test_json_and_text_of_one_configuration_give_the_same_entries(tmp_path: Path, command: str) -> None:
    printed = outputs()
    full, other = read(tmp_path, printed["ip -j -d neigh"]), read(tmp_path, printed[command])
    fixed = {"10.1.0.1", "10.1.0.9"}  # others come and go by themselves
    assert {one.ip for one in full.entries} >= fixed
    assert [one for one in model(full) if one.ip in fixed] == [one for one in model(other) if one.ip in fixed]
    assert not full.unread.count
    assert not other.unread.count


def test_text(tmp_path: Path) -> None:
    table = read(tmp_path, TEXT)
    assert [(one.ip, one.mac, set(one.states), one.source.line) for one in table.entries] == [
        ("10.1.0.1", "02:00:00:00:00:0a", {"PERMANENT"}, 1),
        ("10.9.9.9", "", {"INCOMPLETE"}, 2),
        ("10.1.0.50", "", {"FAILED"}, 3),
        ("fe80::1", "02:00:00:00:00:01", {"REACHABLE"}, 5),
    ]
    assert [piece.source.line for piece in table.unread.pieces] == [6]


def test_json(tmp_path: Path) -> None:
    table = read(
        tmp_path, '[{},{"dst":"10.1.0.1","dev":"e","state":["STALE"]},\n{"dst":"10.1.0.7","dev":"e","proxy":null},{"dst":"x","dev":"e"}]'
    )
    assert [(one.ip, set(one.states)) for one in table.entries] == [("10.1.0.1", {"STALE"})]
    assert [(piece.source.line, piece.because) for piece in table.unread.pieces] == [(2, "its address is not understood")]


def test_not_collected_is_not_empty(tmp_path: Path) -> None:
    assert read_neighbours(state_of(tmp_path)) is None
    assert read(tmp_path, "").entries == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text('[]{},:"\n dev10.:lladr', max_size=100).map(str.encode), cut=st.integers(0, 300))
def test_any_bytes(tmp_path: Path, content: bytes, cut: int) -> None:
    for text in (content, TEXT.encode()[:cut] + content + TEXT.encode()[cut:]):
        table = read(tmp_path, text)
        assert all(one.source.line for one in table.entries)
        assert table.entries or table.unread.count or not text.strip(b"[]{}, \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85")
