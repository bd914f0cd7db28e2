"""nft's rulesets, as JSON and as text, of the real program and damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpwhy.evidence.source import Source
from tcpwhy.tables.nft import Nft, parse_nft, read_nft
from tcpwhy.tables.nft_written import write_rule
from tests.state.namespace import state_of
from tests.state.nft_rulesets import BY_HAND, BY_HAND_TOLD, COMMANDS, IPTABLES, RULES, accepted_rules, listings, run

HERE = Source("h", "h/state/nft-ruleset.json")


def parse(text: str) -> Nft:
    return parse_nft(text, HERE)[0]


def test_both_forms_of_the_real_program_give_one_model() -> None:
    out = listings()
    as_json, as_text, with_handles = (parse(out[command]) for command in COMMANDS)
    assert accepted_rules() > sum(map(len, RULES.values())) * 0.7
    for text in (as_text, with_handles):
        assert list(text.chains) == list(as_json.chains)
        for key, chain in as_json.chains.items():
            other = text.chains[key]
            assert (other.type, other.hook, other.priority, other.policy) == (chain.type, chain.hook, chain.priority, chain.policy)
            # This nft loses the family of `ct original ip saddr` in some tables; nothing else differs.
            assert [_without_family(rule.expressions) for rule in other.rules] == [
                _without_family(rule.expressions) for rule in chain.rules
            ]
            assert [rule.comment for rule in other.rules] == [rule.comment for rule in chain.rules]
            assert [rule.packets for rule in other.rules] == [rule.packets for rule in chain.rules]
            assert not [rule.unread for rule in (*other.rules, *chain.rules) if rule.unread]
        assert set(text.sets) == set(as_json.sets)
        for key, found in as_json.sets.items():
            assert _without_times(text.sets[key].elements) == _without_times(found.elements)
            assert (text.sets[key].type, text.sets[key].is_map) == (found.type, found.is_map)
        assert set(text.objects) == set(as_json.objects)
        assert text.dormant == {("inet", "asleep")}
    assert ("inet", "asleep") in as_json.dormant | as_json.perhaps_dormant
    assert as_json.unread.count == as_text.unread.count == 0
    handles = [rule.handle for rule in as_json.chains["inet", "web", "in"].rules]
    assert [rule.handle for rule in with_handles.chains["inet", "web", "in"].rules] == handles


def _without_family(value: object) -> str:
    return json.dumps(value, sort_keys=True).replace('"ip saddr"', '"saddr"')


def _without_times(value: object) -> list[object]:
    parsed = json.loads(json.dumps(value))
    for element in parsed:
        if isinstance(element, dict) and "elem" in element:
            element["elem"].pop("expires", None)
    return sorted(parsed, key=json.dumps)


def test_text_of_json_rules_is_what_nft_writes() -> None:
    """All but numbers of raw payload and times, which stand there in another form."""
    out = listings()
    as_json, as_text = parse(out[COMMANDS[0]]), parse(out[COMMANDS[1]])
    pairs = [(one.text, other.text) for key, chain in as_json.chains.items()
             for one, other in zip(chain.rules, as_text.chains[key].rules, strict=True)]  # fmt: skip
    assert len(pairs) > 40
    assert {other for one, other in pairs if one != other} <= {"@nh,64,8 & 0xf0 == 0x40 accept", "ct expiration 1m7s accept"}


def test_lines() -> None:
    out = listings()[COMMANDS[0]]
    one_line = parse(out)
    assert {chain.source.line for chain in one_line.chains.values()} == {1}
    printed = json.dumps(json.loads(out), indent=1)
    lines = printed.split("\n")
    for chain in parse(printed).chains.values():
        assert chain.source.line is not None
        assert '"chain"' in lines[chain.source.line]
        for rule in chain.rules:
            assert rule.source.line is not None
            assert '"rule"' in lines[rule.source.line]
    text = listings()[COMMANDS[1]]
    of_text = text.split("\n")
    for chain in parse(text).chains.values():
        assert of_text[(chain.source.line or 0) - 1].strip() == f"chain {chain.name} {{"
        for rule in chain.rules:
            assert of_text[(rule.source.line or 0) - 1].strip().startswith(rule.text[:20])


@pytest.mark.parametrize(
    "rule",
    [
        "ct mark set (meta mark | 0x00000010) << 8",
        "meta mark set meta mark & 0xffffff12 | 0x00000012",
        "tcp flags & (fin | syn) < fin",
        'counter name ip saddr map { 10.0.0.1 : "a" }',
        "synproxy name ip saddr map @m",
        'quota name "q" limit name "l" counter name "c" synproxy name "s"',
        "ip saddr 10.0.0.0/24 snat to 10.9.9.9-10.9.9.12",
    ],
)
def test_what_is_written_means_the_same_when_read(rule: str) -> None:
    def expressions(text: str) -> Sequence[object]:
        (found,) = parse(f"table ip t {{\n\tchain c {{\n\t\t{text}\n\t}}\n}}\n").chains["ip", "t", "c"].rules
        assert not found.unread
        return found.expressions

    assert expressions(write_rule(expressions(rule))) == expressions(rule)
    assert expressions("snat 10.9.9.9-10.9.9.12") == expressions("snat to 10.9.9.9-10.9.9.12")  # nft before 0.9.1


def test_what_is_cut_off_or_damaged_is_said() -> None:
    out = listings()[COMMANDS[0]]
    whole = parse(out)
    cut = parse(out[: len(out) // 2])
    assert 0 < len(cut.chains) <= len(whole.chains)
    assert cut.unread.count == 1
    text = listings()[COMMANDS[1]]
    half = parse(text[: len(text) // 2])
    assert half.unread.count >= 1
    assert sum(len(chain.rules) for chain in half.chains.values()) > 5
    for nonsense in ("hello\nworld\n", "{", "[1, 2]", '{"nftables": [{"rule": 5}]}', "table ip x {\n"):
        assert parse(nonsense).unread.count, nonsense
    assert parse("").unread.count == parse('{"nftables": []}').unread.count == 0


def test_a_statement_that_is_not_known_marks_its_rule() -> None:
    nft = parse("table ip t {\n\tchain c {\n\t\ttype filter hook input priority 0\n\t\ttcp dport 80 teleport to mars\n\t\taccept\n\t}\n}\n")
    first, second = nft.chains["ip", "t", "c"].rules
    assert (first.unread, first.text, first.source.line) == ("`teleport` begins no known statement", "tcp dport 80 teleport to mars", 4)
    assert not second.unread
    assert nft.unread.count == 1
    rule = {"family": "ip", "table": "t", "chain": "c", "expr": [{"teleport": 1}, {"xt": None}]}
    nft = parse(json.dumps({"nftables": [{"rule": rule}]}))
    assert "teleport" in nft.chains["ip", "t", "c"].rules[0].unread
    assert nft.unread.count == 2  # the chain was not told of either


def test_a_chain_inside_a_rule() -> None:
    text = "table ip t {\n\tchain c {\n\t\ttcp dport 80 jump {\n\t\t\tip saddr 10.0.0.1 accept\n\t\t\tdrop\n\t\t}\n\t}\n}\n"
    as_text = parse(text)
    statement = "jump {\n\t\t\tip saddr 10.0.0.1 accept\n\t\t\tdrop\n\t\t}"
    rule = {"family": "ip", "table": "t", "chain": "c", "handle": 4, "expr": [statement]}
    as_json = parse(json.dumps({"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c"}}, {"rule": rule}]}))
    for nft in (as_text, as_json):
        outer, inner = nft.chains.values()
        assert outer.rules[0].expressions[-1] == {"jump": {"target": inner.name}}
        assert [one.text for one in inner.rules] == ["ip saddr 10.0.0.1 accept", "drop"]
        assert nft.unread.count == 0


def test_the_flag_that_nft_writes_from_freed_memory() -> None:
    def table(flags: object) -> Nft:
        return parse(json.dumps({"nftables": [{"table": {"family": "ip", "name": "t", "flags": flags}}]}))

    assert table("dormant").dormant == {("ip", "t")}
    assert table(["owner", "dormant"]).dormant == {("ip", "t")}
    assert not table("owner").dormant | table("owner").perhaps_dormant
    assert table("cc").perhaps_dormant == {("ip", "t")}


@pytest.mark.parametrize(
    ("text", "priority"), [("raw - 10", -310), ("dstnat", -100), ("filter + 5", 5), ("-150", -150), ("srcnat", 100), ("security", 50)]
)
def test_priorities(text: str, priority: int) -> None:
    nft = parse(f"table ip t {{\n\tchain c {{\n\t\ttype filter hook input priority {text}; policy drop;\n\t}}\n}}\n")
    chain = nft.chains["ip", "t", "c"]
    assert (chain.priority, chain.policy, chain.hook) == (priority, "drop", "input")


def _saved(script: str, folder: Path, form: str) -> Nft:
    saves = "iptables-save -c; echo @@; ip6tables-save -c; echo @@; "
    command = "nft -j list ruleset" if form == "json" else "nft list ruleset"
    iptables, ip6tables, ruleset = run(f"{script}\n{saves}{command} 2>/dev/null").split("@@\n")
    if "nf_tables" not in iptables + ip6tables:
        pytest.skip("iptables is not the one for nft here")
    files = {"iptables_save__txt": iptables, "ip6tables_save__txt": ip6tables, f"nft_ruleset__{form}": ruleset}
    found = read_nft(state_of(folder, **files))
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["json", "txt"])
def test_tables_of_iptables_are_read_in_iptables_save(tmp_path: Path, form: str) -> None:
    nft = _saved(IPTABLES, tmp_path, form)
    assert nft.left_out == {("ip", "filter"), ("ip", "nat"), ("ip6", "filter")}
    assert not nft.chains
    assert nft.unread.count == 0


@pytest.mark.parametrize("form", ["json", "txt"])
def test_tables_made_by_hand_stay(tmp_path: Path, form: str) -> None:
    """iptables-save writes `tcp dport { 22, 80 } accept` as `-p tcp -j ACCEPT`."""
    nft = _saved(f"nft -f - <<'END'\n{BY_HAND}\n{BY_HAND_TOLD}\nEND", tmp_path, form)
    assert nft.misprinted == {("ip", "filter")}
    assert not nft.left_out
    assert set(nft.chains) == {("ip", "filter", "INPUT"), ("ip", "nat", "PREROUTING")}


@pytest.mark.parametrize("form", ["json", "txt"])
def test_of_a_listing_and_nft_one_is_walked(tmp_path: Path, form: str) -> None:
    """nft's text shows what iptables' extensions mean, its JSON does not."""
    command = "nft -j list ruleset" if form == "json" else "nft list ruleset"
    script = f"{IPTABLES}\niptables -nvL; echo @@; iptables -t nat -nvL; echo @@; {command} 2>/dev/null"
    listing, nat, ruleset = run(script).split("@@\n")
    found = read_nft(
        state_of(tmp_path, iptables_listing_filter__txt=listing, iptables_listing_nat__txt=nat, **{f"nft_ruleset__{form}": ruleset})
    )
    assert found is not None
    assert found.left_out | found.misprinted == {("ip", "filter"), ("ip", "nat")}
    if form == "json":
        assert found.left_out == {("ip", "filter"), ("ip", "nat")}
    assert ("ip6", "filter", "INPUT") in found.chains
    other = read_nft(state_of(tmp_path, iptables_listing_filter__txt="Chain INPUT (policy ACCEPT)\n", **{f"nft_ruleset__{form}": ruleset}))
    assert other is not None
    assert not other.left_out | other.misprinted


def test_without_iptables_save_its_tables_stay_unread(tmp_path: Path) -> None:
    ruleset = run(f"{IPTABLES}\nnft -j list ruleset")
    nft = read_nft(state_of(tmp_path, nft_ruleset__json=ruleset))
    assert nft is not None
    unread = [rule.unread for chain in nft.chains.values() for rule in chain.rules if rule.unread]
    assert unread
    assert nft.unread.count == len(unread)


def test_not_collected(tmp_path: Path) -> None:
    assert read_nft(state_of(tmp_path)) is None
    empty = read_nft(state_of(tmp_path, nft_ruleset__json=""))
    assert empty is not None
    assert not empty.chains


def test_large_and_deep_rulesets_end() -> None:
    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(60_000)]
    text = "table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { " + ", ".join(addresses) + " }\n\t}\n}\n"
    assert len(parse(text).sets["ip", "t", "s"].elements) == 60_000
    body = {"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "elem": addresses}}
    assert len(parse(json.dumps({"nftables": [body]})).sets["ip", "t", "s"].elements) == 60_000
    for deep in (
        "{" * 50_000,
        "table ip t {\n chain c {\n" + "(" * 50_000,
        '{"nftables": [' + '{"rule": {"expr": [' * 5_000 + "[" * 50_000,
    ):
        assert parse(deep).unread.count
    rules = "\n".join("\t\ttcp dport { 80, 443 } ip saddr 10.0.0.0/8 counter packets 1 bytes 2 accept" for _ in range(5_000))
    assert len(parse(f"table ip t {{\n\tchain c {{\n{rules}\n\t}}\n}}\n").chains["ip", "t", "c"].rules) == 5_000


WORDS = (
    "type filter hook input priority 0;|tcp dport|80|@s|map|vmap|{ 1 : accept }|jump| . |ct state|set|elements = {|,|10.0.0.0/8|"
    '"a|"|(|)|[|}|{|# handle 3\n|& 0xff ==|limit rate 1/second|meter|update @s {|ip option|exthdr|dnat to|:80|fib daddr type|'
    "\x00|\ud800|é|type|counter packets|table ip t {\n|chain c {\n|set s {\n|\n"
)
PIECES = st.sampled_from(WORDS.split("|"))


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=300))
@example("table ip t {\n chain c {\n tcp dport . . 80\n }\n}")
def test_any_text_is_read_to_its_end(text: str) -> None:
    nft = parse(text)
    assert nft.unread.count >= len([rule for chain in nft.chains.values() for rule in chain.rules if rule.unread])


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["@s", "accept", "ip", "t", "c", "*"])
)
KEYS = st.sampled_from(
    [
        "rule",
        "chain",
        "table",
        "set",
        "map",
        "family",
        "name",
        "expr",
        "elem",
        "match",
        "left",
        "right",
        "op",
        "payload",
        "xt",
        "counter",
        "hook",
        "prio",
    ]
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25)


@settings(max_examples=200, deadline=None)
@given(st.lists(TREES, max_size=5), st.integers(0, 200))
def test_any_json_is_read_to_its_end(objects: list[object], cut: int) -> None:
    text = json.dumps({"nftables": objects})
    for one in (text, text[:cut], json.dumps(objects)):
        nft = parse(one)
        for rule in (rule for chain in nft.chains.values() for rule in chain.rules):
            assert isinstance(rule.text, str)
