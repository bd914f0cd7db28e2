"""Routing rules as ip prints them: JSON and text, old and new."""

import dataclasses
import ipaddress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.tables.rules import PolicyRule, PolicyRules, read_policy_rules
from tests.state.namespace import outputs, state_of

TEXT = """\
0:\tfrom all lookup local
101:\tnot from all to 10.2.0.0/16 fwmark 0x10/0xff lookup 200
102:\tfrom 10.1.0.3 tos 0x10 iif eth0 [detached] lookup main suppress_prefixlength 0
103:\tfrom all oif nosuch uidrange 100-200 ipproto tcp sport 80-90 dport 443 lookup 4000000 proto static
104:\tfrom all lookup [l3mdev-table]
106:\tfrom all goto 999 [unresolved]
107:\tfrom all nop
108:\tfrom 10.66.0.0/16 unreachable
32766:\tfrom all lookup main
"""


def read(folder: Path, content: str) -> PolicyRules:
    table = read_policy_rules(state_of(folder, ip_rule__json=content), 4)
    assert table is not None
    return table


def model(table: PolicyRules) -> list[PolicyRule]:
    return [dataclasses.replace(rule, text="", source=dataclasses.replace(rule.source, line=None)) for rule in table.rules]


@pytest.mark.parametrize("command", ["ip rule", "ip -d rule"])
def test_json_and_text_of_one_configuration_give_the_same_rules(tmp_path: Path, command: str) -> None:
    printed = outputs()
    full, other = read(tmp_path, printed["ip -j -d rule"]), read(tmp_path, printed[command])
    assert len(full.rules) > 8
    assert model(other) == model(full)
    assert not full.unread.count
    assert not other.unread.count
    lines = [" ".join(line.split()) for line in printed["ip rule"].splitlines()]
    assert [rule.text for rule in full.rules] == lines


def test_ipv6(tmp_path: Path) -> None:
    printed = outputs()
    tables = [read_policy_rules(state_of(tmp_path, ip6_rule__json=printed[f"ip -6 {form}"]), 6) for form in ("-j -d rule", "rule")]
    assert tables[0] is not None
    assert tables[1] is not None
    assert model(tables[0]) == model(tables[1])
    assert str(next(rule for rule in tables[0].rules if rule.priority == 50).from_network) == "fd00::/64"
    assert read_policy_rules(state_of(tmp_path / ".."), 6) is None


def test_every_selector_of_text(tmp_path: Path) -> None:
    table = read(tmp_path, TEXT)
    assert not table.unread.count
    assert [rule.source.line for rule in table.rules] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    rules = {rule.priority: rule for rule in table.rules}
    assert (rules[0].table, rules[0].from_network, rules[0].mark, rules[0].mask) == ("local", None, None, 0)
    assert (rules[101].is_inverted, rules[101].mark, rules[101].mask) == (True, 0x10, 0xFF)
    assert rules[101].to_network == ipaddress.ip_network("10.2.0.0/16")
    assert (rules[102].in_interface, rules[102].tos, rules[102].suppress_prefix_length) == ("eth0", 16, 0)
    assert rules[102].from_network == ipaddress.ip_network("10.1.0.3/32")
    assert (rules[103].out_interface, rules[103].uids, rules[103].protocol) == ("nosuch", (100, 200), "tcp")
    assert (rules[103].source_ports, rules[103].destination_ports, rules[103].table) == ((80, 90), (443, 443), "4000000")
    assert (rules[104].is_l3mdev, rules[104].table, rules[104].action) == (True, "", "to_tbl")
    assert (rules[106].action, rules[106].goto) == ("goto", 999)
    assert [rules[number].action for number in (107, 108)] == ["nop", "unreachable"]


def test_rules_come_in_order_of_priority_and_marks_in_any_spelling(tmp_path: Path) -> None:
    later = '{"priority":100,"src":"0","srclen":8,"fwmark":"0","fwmask":"0xf","table":"red"}'
    table = read(tmp_path, f'[{{"priority":200,"src":"all","fwmark":5,"table":254}},{later}]')
    assert [(rule.priority, rule.mark, rule.mask, rule.table) for rule in table.rules] == [
        (100, 0, 0xF, "red"),
        (200, 5, 0xFFFFFFFF, "main"),
    ]
    assert table.rules[0].from_network == ipaddress.ip_network("0.0.0.0/8")


@pytest.mark.parametrize(
    ("row", "because"),
    [
        ('"src":"all","table":"main","dscp":"AF11"', "the word dscp"),
        ('"src":"all","table":"main","sport":80,"sport_mask":"0xfff0"', "the word sport_mask"),
        ('"src":"host.example","table":"main"', "its src"),
        ('"src":"all"', "it says no table"),
        ('"src":"all","action":"teleport"', "the action teleport"),
        ('"src":"all","table":"main","fwmark":"x"', "its fwmark"),
        ('"src":"all","table":"main","dport":70000', "its dport"),
        ('"src":"all","table":"main","tos":"gold"', "its TOS"),
    ],
)
def test_what_is_not_understood_marks_the_rule(tmp_path: Path, row: str, because: str) -> None:
    table = read(tmp_path, f'[{{"priority":7,{row}}}]')
    assert [rule.unread for rule in table.rules] == [because]
    assert [piece.because for piece in table.unread.pieces] == [because]


def test_rules_of_iproute2_4_18(tmp_path: Path) -> None:
    first = "101:\tnot from all to 10.2.0.0 /16 fwmark 0x0/0xff lookup 200 \n"
    text = read(tmp_path, first + "106:\tfrom all goto 999unresolved\n108:\tfrom 10.6.0.0/16 blackhole\n")
    rows = (
        '{"priority":101,"not":null,"src":"all","dst":"10.2.0.0","dstlen":16,"fwmark":"0x0","fwmask":"0xff","table":"200"}',
        '{"priority":106,"src":"all","goto":999,"unresolved":null}',
        '{"priority":108,"src":"10.6.0.0","srclen":16,"to_tbl":"blackhole"}',
    )
    json = read(tmp_path, f"[{','.join(rows)}]")
    assert model(text) == model(json)
    assert not text.unread.count
    assert not json.unread.count
    assert str(text.rules[0].to_network) == "10.2.0.0/16"
    assert [rule.action for rule in json.rules] == ["to_tbl", "goto", "blackhole"]


def test_lines_that_are_no_rules_are_kept(tmp_path: Path) -> None:
    table = read(tmp_path, "RTNETLINK answers: no\n10:\tfrom all frobnicate lookup main\n")
    assert [(rule.priority, rule.unread) for rule in table.rules] == [(10, "the words frobnicate")]
    assert [(piece.source.line, piece.because) for piece in table.unread.pieces] == [
        (1, "no rule begins like this"),
        (2, "the words frobnicate"),
    ]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text('[]{},:"\n \tfrom10:table/xlokup', max_size=200).map(str.encode), cut=st.integers(0, 500))
def test_any_bytes(tmp_path: Path, content: bytes, cut: int) -> None:
    for text in (content, TEXT.encode()[:cut] + content + TEXT.encode()[cut:], b'[{"priority":1,"src":' + content + b"}]"):
        table = read_policy_rules(state_of(tmp_path, ip_rule__json=text), 4)
        assert table is not None
        assert all(rule.source.line for rule in table.rules)
        assert table.rules or table.unread.count or not text.strip(b"[]{}, \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85")
