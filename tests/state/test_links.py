"""Interfaces as ip prints them: JSON and text, with and without details."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.tables.links import Link, Links, read_links
from tests.state.namespace import outputs, state_of

TEXT = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 promiscuity 0 minmtu 0 maxmtu 0 addrgenmode eui64 numtxqueues 1
    RX:  bytes packets errors dropped  missed   mcast
             0       0      0       0       0       0
    TX: bytes  packets  errors  dropped carrier collsns
             0       0      0       0       0       0
2: eth0@if5: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 1500 qdisc noqueue master br0 state LOWERLAYERDOWN group default
    link/ether fa:9a:c0:d4:86:46 brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 1
    veth
    bridge_slave state forwarding priority 32 cost 2 addrgenmode eui64
    alias to the lab
    altname enp3s0
3: tunl0@NONE: <NOARP,UP,LOWER_UP> mtu 1480 qdisc noqueue state UNKNOWN
    link/ipip 0.0.0.0 brd 0.0.0.0
    ipip any remote any local any ttl inherit nopmtudisc numtxqueues 1
    inet 10.0.0.9/32 scope global tunl0
       valid_lft forever preferred_lft forever
4: eth0.5@eth0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN
    link/ether fa:9a:c0:d4:86:46 brd ff:ff:ff:ff:ff:ff
    vlan protocol 802.1Q id 5 <REORDER_HDR> addrgenmode eui64
7: red: <NOARP,MASTER,UP,LOWER_UP> mtu 65575 qdisc noqueue state UP
    link/ether 3e:5d:97:06:a4:c6 brd ff:ff:ff:ff:ff:ff
    vrf table 100 addrgenmode eui64
"""


def read(folder: Path, content: str | bytes) -> Links:
    table = read_links(state_of(folder, ip_link__json=content))
    assert table is not None
    return table


def model(table: Links) -> list[Link]:
    return [dataclasses.replace(link, details={}, source=dataclasses.replace(link.source, line=None)) for link in table.by_name.values()]


@pytest.mark.parametrize("command", ["ip -j -p -d link", "ip -s -d link", "ip -d link", "ip -d -o link"])
def test_every_form_of_one_configuration_gives_the_same_interfaces(tmp_path: Path, command: str) -> None:
    printed = outputs()
    full, other = read(tmp_path, printed["ip -j -d -s link"]), read(tmp_path, printed[command])
    assert len(full.by_name) >= 6
    assert model(full) == model(other)
    assert not full.unread.count
    assert not other.unread.count
    for name, link in other.by_name.items():
        for key in ("local", "remote", "id", "table", "link", "slave_kind", "link_type", "operstate", "ifalias"):
            assert full.by_name[name].details.get(key) == link.details.get(key), key
    eth0 = other.get("eth0")
    assert eth0 is not None
    assert (eth0.kind, eth0.is_up, eth0.is_running, eth0.mtu, eth0.is_loopback) == ("veth", True, True, 1500, False)


def test_interfaces_from_the_list_of_addresses(tmp_path: Path) -> None:
    printed = outputs()
    full = read(tmp_path, printed["ip -j -d -s link"])
    for command in ("ip -j -d addr", "ip -d address"):
        table = read_links(state_of(tmp_path / "..", ip_addr__json=printed[command]))
        assert table is not None
        there = [dataclasses.replace(link, source=dataclasses.replace(link.source, file="h/state/ip-link.json")) for link in model(table)]
        assert there == model(full)
    assert read_links(state_of(tmp_path / "..", ip_addr__json=printed["ip -o addr"])) is None


def test_text(tmp_path: Path) -> None:
    table = read(tmp_path, TEXT)
    assert not table.unread.count
    assert [(link.index, link.name, link.kind, link.source.line) for link in table.by_name.values()] == [
        (1, "lo", "", 1),
        (2, "eth0", "veth", 7),
        (3, "tunl0", "ipip", 13),
        (4, "eth0.5", "vlan", 18),
        (7, "red", "vrf", 21),
    ]
    eth0, tunl0, vlan, red = (table.by_name[name] for name in ("eth0", "tunl0", "eth0.5", "red"))
    assert (eth0.is_up, eth0.is_running, eth0.master, eth0.mac) == (True, False, "br0", "fa:9a:c0:d4:86:46")
    assert eth0.details == {
        "link_index": 5,
        "link_type": "ether",
        "operstate": "LOWERLAYERDOWN",
        "slave_kind": "bridge",
        "ifalias": "to the lab",
        "altnames": ["enp3s0"],
    }
    assert tunl0.details == {"link_type": "ipip", "operstate": "UNKNOWN", "proto": "any", "remote": "any", "local": "any"}
    assert (vlan.details["link"], vlan.details["id"], vlan.is_up) == ("eth0", 5, False)
    assert red.details["table"] == 100
    assert table.by_name["lo"].is_loopback


def test_json_that_is_not_whole(tmp_path: Path) -> None:
    rows = '{"ifindex":1,"ifname":"a","flags":["UP"]},{"ifname":"b","flags":[]},7,{"ifindex":3,"ifname":"a","flags":[]},{"ifindex":4,"ifn'
    table = read(tmp_path, f"[{rows}")
    assert list(table.by_name) == ["a"]
    assert [piece.because for piece in table.unread.pieces] == [
        "it has no name, no index or no flags",
        "an element that is no object",
        "a second interface of that name",
        "damaged JSON",
        "the JSON ends in the middle",
    ]


def test_not_collected_is_not_empty(tmp_path: Path) -> None:
    assert read_links(state_of(tmp_path)) is None
    assert read(tmp_path, "").by_name == {}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text('[]{},:"\n 12:eth@<>\\', max_size=100).map(str.encode), cut=st.integers(0, 1400))
def test_any_bytes(tmp_path: Path, content: bytes, cut: int) -> None:
    for text in (content, TEXT.encode()[:cut] + content + TEXT.encode()[cut:], b'[{"ifindex":1,"flags":[],"ifname":' + content + b"}]"):
        table = read(tmp_path, text)
        assert all(link.source.line for link in table.by_name.values())
        assert table.by_name or table.unread.count or not text.strip(b"[]{}, \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85")
