"""Routes as ip prints them: JSON and text, old and new."""

import dataclasses
import ipaddress
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.tables.routes import NextHop, Route, Routes, read_routes
from tests.state.namespace import outputs, state_of

DETAILED = """\
unicast default via 10.1.0.1 dev eth0 table main proto boot scope global metric 100
unicast 10.20.0.0/16 table main proto boot scope global
\tnexthop via 10.1.0.1 dev eth0 weight 2
\tnexthop via 10.1.0.9 dev eth0 weight 1 onlink
throw 10.33.0.0/16 table 100 proto boot scope global
unicast 10.38.0.0/16 nhid 9 table main proto boot scope global
\tnh_info id 9 group 7/8 scope global proto unspec
\tnexthop via 10.1.0.1 dev eth0 weight 1
\tnexthop via 10.1.0.9 dev eth0 weight 1
unicast 10.39.0.0/16  encap ip id 30 src 0.0.0.0 dst 10.77.0.1 ttl 0 tos 0 via 10.1.0.1 dev eth0 table main proto boot scope global
local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1
unicast fd00::/64 dev eth0 table main proto kernel scope global metric 256 pref medium
unicast default dev p0 table main proto boot scope global metric 1024 pref medium
"""
OLD = """\
default via 10.1.0.1 dev eth0  proto static  metric 100
10.1.0.0/24 dev eth0  proto kernel  scope link  src 10.1.0.2 tos lowdelay
10.20.0.0/16  proto zebra  metric 20 mtu lock 1400 rto_min 1.5s
\tnexthop via 10.1.0.1  dev eth0 weight 2
\tnexthop via 10.1.0.9  dev eth0 weight 1
broadcast 10.1.0.0 dev eth0  table local  proto kernel  scope link  src 10.1.0.2
local default dev lo  table 100  scope host
192.0.2.7 via 10.1.0.1 dev eth0
    cache  expires 300sec mtu 1200
"""
OF_4_18 = """\
[{"unicast","dst":"default","gateway":"10.1.0.1","dev":"eth0","table":"main","protocol":"boot","scope":"global","metric":100,"flags":[]},
{"throw","dst":"10.33.0.0/16","table":"100","protocol":"boot","scope":"global","flags":[]},
{"unicast","dst":"10.20.0.0/16","table":"main","protocol":"boot","flags":[],"gateway":"10.1.0.1"dev eth0 weight 2 ,"flags":[],\
"gateway":"10.1.0.9"dev eth0 weight 1 ,"flags":["onlink"]},
{"unicast","dst":"10.34.0.0/16","gateway":"10.99.0.1","dev":"eth0","table":"main","prefsrc":"10.1.0.3","flags":["onlink"],\
"metrics":[1400 1360 10 "rto_min":200]},
{
        "dst": "10.42.0.0/16",
        "flags": [ ]dev tun0 weight 1 ,
        "flags": [ ],
        "via": {
            "family": "inet6",
            "host": "fd00::9"
        }dev eth0 weight 3 ,
        "flags": [ "linkdown" ]
    },
{"unicast","dst":"fd02::/64","table":"main","flags":[],"gateway":"fd00::9"dev eth0 weight 1 ,"flags":[],"pref":"medium"}]
"""


def read(folder: Path, content: str, family: Literal[4, 6] = 4) -> Routes:
    table = read_routes(state_of(folder, ip_route__json=content), family)
    assert table is not None
    return table


def model(table: Routes) -> list[Route]:
    return [dataclasses.replace(route, text="", source=dataclasses.replace(route.source, line=None)) for route in table.routes]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "command",
    ["ip -j -p route show table all", "ip -d route show table all", "ip route show table all", "ip -o -d route show table all"],
)
def test_every_form_of_one_configuration_gives_the_same_routes(tmp_path: Path, command: str, family: Literal[4, 6]) -> None:
    printed = outputs()
    full = read(tmp_path, printed["ip -j -d route show table all"], family)
    other = read(tmp_path, printed[command], family)
    assert len(full.routes) > 8
    assert model(other) == model(full)
    assert {piece.because for piece in full.unread.pieces} == {piece.because for piece in other.unread.pieces}
    assert {piece.because for piece in full.unread.pieces} <= {"the encapsulation ip"}


def test_ipv6_alone_and_within_the_list_of_both(tmp_path: Path) -> None:
    printed = outputs()
    both = read(tmp_path, printed["ip -j -d route show table all"], 6)
    for command in ("ip -6 -j -d route show table all", "ip -6 route show table all"):
        alone = read_routes(state_of(tmp_path, ip_route__json="[]", ip6_route__json=printed[command]), 6)
        assert alone is not None
        without_file = [dataclasses.replace(r, source=dataclasses.replace(r.source, file=both.routes[0].source.file)) for r in model(alone)]
        assert without_file == model(both)
    assert read_routes(state_of(tmp_path / "..", ip_route__json="[]"), 6) is None


def test_text_made_of_json_is_what_ip_prints(tmp_path: Path) -> None:
    printed = outputs()
    lines = " ".join(printed["ip route show table all"].split()).replace(" lock ", " ")
    for family in (4, 6):
        for route in read(tmp_path, printed["ip -j -d route show table all"], family).routes:
            assert route.text in lines or "encap" in route.text


def test_lines_and_values_of_text(tmp_path: Path) -> None:
    table = read(tmp_path, DETAILED)
    assert [route.source.line for route in table.routes] == [1, 2, 5, 6, 10, 11]
    default, multipath, throw, group, encapsulated, loopback = table.routes
    assert (default.destination, default.metric, default.table, default.scope) == (ipaddress.ip_network("0.0.0.0/0"), 100, "main", "global")
    assert multipath.next_hops == (
        NextHop("10.1.0.1", "eth0", 2, frozenset()),
        NextHop("10.1.0.9", "eth0", 1, frozenset({"onlink"})),
    )
    assert (throw.type, throw.next_hops, throw.table, throw.unread) == ("throw", (), "100", "")
    assert (len(group.next_hops), group.unread) == (2, "")
    assert encapsulated.destination == ipaddress.ip_network("10.39.0.0/16")
    assert encapsulated.unread == "the encapsulation ip"
    assert (loopback.type, loopback.preferred_source, loopback.table) == ("local", "127.0.0.1", "local")
    assert [str(piece.source) for piece in table.unread.pieces] == ["h/state/ip-route.json:10"]
    six = read(tmp_path, DETAILED, 6)
    assert [(str(r.destination), r.next_hops[0].interface, r.scope) for r in six.routes] == [("fd00::/64", "eth0", ""), ("::/0", "p0", "")]


def test_text_of_old_programs(tmp_path: Path) -> None:
    table = read(tmp_path, OLD)
    assert [(str(r.destination), r.table, r.metric, r.tos) for r in table.routes] == [
        ("0.0.0.0/0", "main", 100, 0),
        ("10.1.0.0/24", "main", 0, 16),
        ("10.20.0.0/16", "main", 20, 0),
        ("10.1.0.0/32", "local", 0, 0),
        ("0.0.0.0/0", "100", 0, 0),
    ]
    assert [len(r.next_hops) for r in table.routes] == [1, 1, 2, 1, 1]
    assert table.routes[4].type == "local"
    assert not table.unread.count


def test_json_of_iproute2_4_18(tmp_path: Path) -> None:
    table = read(tmp_path, OF_4_18)
    assert not table.unread.count
    assert [(str(r.destination), r.type, r.source.line, r.metric) for r in table.routes] == [
        ("0.0.0.0/0", "unicast", 1, 100),
        ("10.33.0.0/16", "throw", 2, 0),
        ("10.20.0.0/16", "unicast", 3, 0),
        ("10.34.0.0/16", "unicast", 4, 0),
        ("10.42.0.0/16", "unicast", 5, 0),
    ]
    assert [[(hop.gateway, hop.interface, hop.weight, set(hop.flags)) for hop in r.next_hops] for r in table.routes[2:]] == [
        [("10.1.0.1", "eth0", 2, set()), ("10.1.0.9", "eth0", 1, {"onlink"})],
        [("10.99.0.1", "eth0", 1, {"onlink"})],
        [(None, "tun0", 1, set()), ("fd00::9", "eth0", 3, {"linkdown"})],
    ]
    six = read(tmp_path, OF_4_18, 6)
    assert [(r.next_hops[0].gateway, r.source.line) for r in six.routes] == [("fd00::9", 15)]


def test_a_program_that_knows_no_json_leaves_no_empty_table(tmp_path: Path) -> None:
    table = read(tmp_path, 'Option "-j" is unknown, try "ip -help".\n')
    assert not table.routes
    assert table.unread.count == 1


def test_json_of_the_encapsulation_has_two_destinations(tmp_path: Path) -> None:
    table = read(
        tmp_path, '[{"dst":"10.39.0.0/16","encap":"ip","id":30,"src":"0.0.0.0","dst":"10.77.0.1","tos":0,"dev":"eth0","flags":[]}]'
    )
    assert [str(route.destination) for route in table.routes] == ["10.39.0.0/16"]
    assert table.routes[0].unread


def test_json_of_several_arrays_behind_warnings(tmp_path: Path) -> None:
    first = 'Dump was interrupted and may be inconsistent.\n[{},{"dst":"default","gateway":"10.0.0.1","dev":"e","flags":[]}]\n'
    text = first + '\n[\n{"dst":"10.1.1.1","dev":"e"}]\n'
    table = read(tmp_path, text)
    assert [(str(route.destination), route.source.line) for route in table.routes] == [("0.0.0.0/0", 2), ("10.1.1.1/32", 5)]
    assert [(piece.source.line, piece.because) for piece in table.unread.pieces] == [(1, "a line that is no JSON")]


def test_json_cut_in_the_middle(tmp_path: Path) -> None:
    whole = (
        '[{"dst":"10.1.0.0/16","dev":"a","flags":[]},{"dst":"10.2.0.0/16","dev":"b","flags":[]},{"dst":"10.3.0.0/16","dev":"c","flags":[]}]'
    )
    for length in range(1, len(whole)):
        table = read(tmp_path, whole[:length])
        assert len(table.routes) == whole[:length].count("},") + (whole[:length].endswith("}"))
        assert table.unread.count


@pytest.mark.parametrize(
    ("row", "because"),
    [
        ('{"dst":"10.0.0.0/8","nhid":5,"flags":[]}', "the next-hop object 5 was not listed"),
        ('{"dst":"10.0.0.0/8","nhid":5,"nh_info":{"id":5,"group":[{"id":1}]}}', "the next-hop object 5 was not listed"),
        ('{"dst":"10.0.0.0/8"}', "it has no next hop"),
        ('{"dst":"10.0.0.0/8","dev":"e","tos":"gold"}', "its TOS"),
        ('{"dst":"10.0.0.0/8","dev":"e","metric":"many"}', "its metric"),
        ('{"type":"warp","dst":"10.0.0.0/8","dev":"e"}', "the type warp"),
        ('{"dst":"10.0.0.0/8","from":"10.9.0.0/16","dev":"e"}', "it holds for some sources only (from)"),
        ('{"dst":"10.0.0.0/8","nexthops":[{"encap":"mpls","gateway":"10.1.1.1","dev":"e"}]}', "the encapsulation mpls"),
        ('{"dst":"10.0.0.0/8","gateway":"router","dev":"e"}', "the gateway router"),
    ],
)
def test_what_is_not_understood_marks_the_route(tmp_path: Path, row: str, because: str) -> None:
    table = read(tmp_path, f"[{row}]")
    assert [route.unread for route in table.routes] == [because]
    assert [piece.because for piece in table.unread.pieces] == [because]


def test_next_hop_object_told_with_its_route(tmp_path: Path) -> None:
    table = read(tmp_path, '[{"dst":"10.0.0.0/8","nhid":5,"nh_info":{"id":5,"gateway":"10.1.1.1","dev":"e","flags":["onlink"]}}]')
    assert table.routes[0].next_hops == (NextHop("10.1.1.1", "e", 1, frozenset({"onlink"})),)
    assert not table.routes[0].unread


def test_numbers_of_tables_and_words_nobody_knows(tmp_path: Path) -> None:
    table = read(
        tmp_path, "10.0.0.0/8 dev e table 254 shiny new\n10.1.0.0/16 dev e table 253\nRTNETLINK answers: no\n\tnexthop via 1.1.1.1\n"
    )
    assert [(route.table, route.unread) for route in table.routes] == [("main", "the words shiny new"), ("default", "")]
    assert [piece.source.line for piece in table.unread.pieces] == [3, 4, 1] or table.unread.count == 3


def test_not_collected_is_not_empty(tmp_path: Path) -> None:
    assert read_routes(state_of(tmp_path), 4) is None
    assert read(tmp_path, "").routes == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300) | st.text('[]{},:"\n\\ \tdst0./-defaultvi10', max_size=200).map(str.encode), cut=st.integers(0, 1400)
)
def test_any_bytes(tmp_path: Path, content: bytes, cut: int) -> None:
    for text in (content, DETAILED.encode()[:cut] + content + DETAILED.encode()[cut:], b"[" + content, b'[{"dst":' + content + b"}]"):
        state = state_of(tmp_path, ip_route__json=text, ip6_route__json=text)
        for family in (4, 6):
            table = read_routes(state, family)
            assert table is not None
            for line in (*(r.source.line for r in table.routes), *(piece.source.line for piece in table.unread.pieces)):
                assert line is not None
                assert 1 <= line <= text.count(b"\n") + 1


def test_a_million_brackets_and_a_million_quotes(tmp_path: Path) -> None:
    almost = ['[{"unicast",' + part * 100_000 for part in ('"gateway":"', '"via":{', '"flags":[] ', "]dev e ,", '"metrics":[1 ')]
    damaged = '[{"dst":"10.0.0.0/8"' + ',{"x":' * 100_000
    for text in ("[" * 1_000_000, '[{"a":' * 200_000, '[{"' * 300_000, "[" + "{}," * 300_000, damaged, "1" * 1_000_000, *almost):
        assert read(tmp_path, text).unread.count
