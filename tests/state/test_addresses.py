"""Addresses as ip prints them: JSON and text, in blocks and in lines."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.tables.addresses import Address, Addresses, read_address_table, read_addresses
from tests.state.namespace import outputs, state_of

TEXT = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet 192.0.2.1/32 brd 192.0.2.1 scope global lo:0
    inet6 ::1/128 scope host
2: eth0@if5: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500
    link/ether fa:9a:c0:d4:86:46 brd ff:ff:ff:ff:ff:ff
    inet 10.1.0.2/24 metric 100 brd 10.1.0.255 scope global dynamic noprefixroute eth0
       valid_lft 86000sec preferred_lft 86000sec
    inet 10.1.0.3/24 scope global secondary eth0:1
    inet 10.7.0.1 peer 10.7.0.2/32 scope link proto kernel_ll home
    inet6 fe80::1/64 scope link tentative dadfailed
    inet6 10.1.2/3 scope global
"""


def read(folder: Path, content: str | bytes) -> Addresses:
    table = read_address_table(state_of(folder, ip_addr__json=content))
    assert table is not None
    return table


def model(table: Addresses) -> list[Address]:
    moving = frozenset({"tentative"})  # an address loses it while the commands run
    return [
        dataclasses.replace(one, flags=one.flags - moving, source=dataclasses.replace(one.source, line=None))
        for one in table.entries
        if not one.ip.startswith("fe80")
    ]


@pytest.mark.parametrize("command", ["ip -j -p -d addr", "ip -d address", "ip address", "ip -o addr"])
def test_every_form_of_one_configuration_gives_the_same_addresses(tmp_path: Path, command: str) -> None:
    printed = outputs()
    full, other = read(tmp_path, printed["ip -j -d addr"]), read(tmp_path, printed[command])
    assert len(full.entries) >= 8
    assert model(full) == model(other)
    assert not full.unread.count
    assert not other.unread.count


@pytest.mark.parametrize("command", ["ip -j -p -d addr", "ip -d address", "ip -o addr"])
def test_each_address_has_its_line(tmp_path: Path, command: str) -> None:
    printed = outputs()[command]
    lines = printed.splitlines()
    for one in read(tmp_path, printed).entries:
        assert one.source.line is not None
        assert one.ip in lines[one.source.line - 1]


def test_text(tmp_path: Path) -> None:
    table = read(tmp_path, TEXT)
    assert [(one.interface, one.ip, one.prefix_length, one.scope, one.label, one.source.line) for one in table.entries] == [
        ("lo", "127.0.0.1", 8, "host", "lo", 3),
        ("lo", "192.0.2.1", 32, "global", "lo:0", 5),
        ("lo", "::1", 128, "host", "", 6),
        ("eth0", "10.1.0.2", 24, "global", "eth0", 9),
        ("eth0", "10.1.0.3", 24, "global", "eth0:1", 11),
        ("eth0", "10.7.0.1", 32, "link", "home", 12),
        ("eth0", "fe80::1", 64, "link", "", 13),
    ]
    assert [one.is_secondary for one in table.of_interface("eth0")] == [False, True, False]
    assert [one.peer for one in table.of_interface("eth0")] == [None, None, "10.7.0.2"]
    assert table.of_interface("eth0")[0].flags == {"dynamic", "noprefixroute"}
    assert table.of_interface("eth0", 6)[0].flags == {"tentative", "dadfailed"}
    assert [(piece.source.line, piece.because) for piece in table.unread.pieces] == [(14, "its address is not understood")]


def test_the_set_of_own_addresses(tmp_path: Path) -> None:
    state = state_of(
        tmp_path, ip_addr__json='[{"ifname":"lo","addr_info":[{"local":"127.0.0.1"},{"local":"192.0.2.1"},{},{"local":"FD00::0:1"}]}]'
    )
    assert read_addresses(state) == frozenset({"192.0.2.1", "fd00::1"})
    assert read_addresses(state_of(tmp_path, ip_addr__json="nothing of the kind")) == frozenset()
    assert read_addresses(state_of(tmp_path)) is None


def test_what_is_not_understood_is_kept(tmp_path: Path) -> None:
    infos = '3,{"local":"10.0.0.1","prefixlen":77},{"local":"10.0.0.2","prefixlen":8}'
    table = read(tmp_path, f'[{{"ifname":"a","addr_info":7}},\n{{"ifname":"b","addr_info":[{infos}]}}]')
    assert [one.ip for one in table.entries] == ["10.0.0.2"]
    assert [(piece.source.line, piece.because) for piece in table.unread.pieces] == [
        (1, "addr_info is no list"),
        (2, "an address that is no object"),
        (2, "its prefix length or interface is not understood"),
    ]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text('[]{},:"\n 1:inet6./scop\\', max_size=100).map(str.encode), cut=st.integers(0, 900))
def test_any_bytes(tmp_path: Path, content: bytes, cut: int) -> None:
    for text in (content, TEXT.encode()[:cut] + content + TEXT.encode()[cut:], b'[{"ifname":"e","addr_info":' + content + b"}]"):
        state = state_of(tmp_path, ip_addr__json=text)
        table = read_address_table(state)
        assert table is not None
        assert all(one.source.line for one in table.entries)
        assert (read_addresses(state) or frozenset()) <= {one.ip for one in table.entries}
