"""Walks through hosts that a test writes go in; their text must say each step and its line, their JSON be valid by the schema."""

import json
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.path import parse_packet, walk, with_changes
from tcpwhy.report.escape import columns_of
from tcpwhy.report.json import encode_json
from tcpwhy.report.schema import walk_schema_text
from tcpwhy.report.walk import render_walk, report_walk
from tests.path.states import host

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "tcpwhy-path-1.json"
SYN = "in eth0: tcp 10.0.0.77:4000 > 10.0.0.1:80 S"
DROP = "*filter\n:INPUT ACCEPT [0:0]\n[3:180] -A INPUT -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n"
PERHAPS = DROP.replace("-j DROP", '-m string --string "x" --algo bm -j DROP')
OPEN = "sysctl net.ipv4.conf.eth0.rp_filter=0"


def text_of(folder: Path, rules: str, packet: str = SYN, changes: Sequence[str] = (), width: int = 100) -> str:
    tables = host(folder, {"iptables-save.txt": rules})
    described = parse_packet(packet)
    proposed = walk(with_changes(tables, changes), described) if changes else None
    return render_walk(walk(tables, described), proposed, changes, width=width)


def json_of(folder: Path, rules: str, packet: str = SYN, changes: Sequence[str] = ()) -> Any:
    tables = host(folder, {"iptables-save.txt": rules})
    described = parse_packet(packet)
    proposed = walk(with_changes(tables, changes), described) if changes else None
    return json.loads(encode_json(report_walk("rs1", walk(tables, described), proposed, changes)))


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_the_generated_one() -> None:
    assert PUBLISHED.read_text() == walk_schema_text(), "run `python -m tcpwhy.report.schema path >docs/schema/tcpwhy-path-1.json`"
    done = subprocess.run([sys.executable, "-m", "tcpwhy.report.schema", "path"], capture_output=True, text=True, check=True)
    assert done.stdout == PUBLISHED.read_text()


def test_a_drop_is_told_with_its_rule_and_line(tmp_path: Path) -> None:
    text = text_of(tmp_path, DROP)
    assert text.startswith(f"{SYN}\n")
    assert "-A INPUT -p tcp -m tcp --dport 80 -j DROP" in text
    assert "rs1/state/iptables-save.txt:3" in text
    assert "fate: dropped-by-rule." in text
    assert "its answer" not in text


def test_what_is_accepted_is_answered_and_the_answer_walked(tmp_path: Path) -> None:
    text = text_of(tmp_path, "")
    there, _, back = text.partition("its answer\n")
    assert "fate: accepted." in there
    assert "answers tcp 10.0.0.1:80 > 10.0.0.77:4000 SA" in there
    assert back.startswith("out: tcp 10.0.0.1:80 > 10.0.0.77:4000 SA\n")
    assert "fate: sent." in back


def test_an_unknown_fate_shows_both_ways_and_the_line_they_hang_on(tmp_path: Path) -> None:
    text = " ".join(text_of(tmp_path, PERHAPS).split())
    assert "way 1, " in text
    assert "way 2, " in text
    assert "fate: unknown." in text
    assert "it hangs on rs1/state/iptables-save.txt:3 " in text
    possible = text.partition("possible: ")[2].split(" it hangs")[0]
    assert set(possible.split(", ")) == {"accepted", "dropped-by-rule"}


def test_an_interface_that_is_not_there_leaves_nothing_to_be_named_possible(tmp_path: Path) -> None:
    text = text_of(tmp_path, "", "in eth9: tcp 10.0.0.77:4000 > 10.0.0.1:80 S")
    assert "it hangs on eth9: no interface of this name was listed" in text
    assert "possible:" not in text


@pytest.mark.parametrize(
    ("change", "says", "helps"),
    [
        (OPEN, "the change does not help: the packet fares as before (dropped-by-rule)", False),
        ("without rs1/state/iptables-save.txt:3", "the change turns dropped-by-rule into accepted", True),
        ("iptables -D INPUT -p tcp -m tcp --dport 80 -j DROP", "the change turns dropped-by-rule into accepted", True),
    ],
)
def test_a_change_is_walked_and_judged(change: str, says: str, helps: bool, tmp_path: Path) -> None:
    assert text_of(tmp_path, DROP, changes=[change]).endswith(f"\n{says}\n")
    proposed = json_of(tmp_path, DROP, changes=[change])["proposed"]
    assert (proposed["changes"], proposed["changes_fate"]) == ([change], helps)


@pytest.mark.parametrize(("rules", "changes"), [("", ()), (DROP, ()), (PERHAPS, ()), (DROP, (OPEN,))])
def test_the_json_is_valid_by_the_schema_and_says_the_same(rules: str, changes: tuple[str, ...], tmp_path: Path) -> None:
    found = json_of(tmp_path, rules, changes=changes)
    validator().validate(found)
    assert (found["schema"], found["vantage_point"], found["forward"]["packet"]) == ("tcpwhy-path/1", "rs1", SYN)
    assert f"fate: {found['forward']['fate']}." in text_of(tmp_path, rules, changes=changes)
    assert (found["reverse"] is None) == (found["forward"]["answer"] is None)
    assert len(found["forward"]["alternatives"]) == (2 if rules == PERHAPS else 0)


def test_a_place_without_its_file_is_not_valid(tmp_path: Path) -> None:
    found = json_of(tmp_path, DROP)
    found["forward"]["steps"][0]["evidence"] = [{"line": 3}]
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(found)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_words_is_wider_than_the_terminal(width: int, tmp_path: Path) -> None:
    assert max(map(columns_of, text_of(tmp_path, PERHAPS, width=width).splitlines())) <= width


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(comment=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters='"\\\n\r'), min_size=1, max_size=30))
def test_a_rule_cannot_drive_the_terminal(comment: str, tmp_path: Path) -> None:
    rules = DROP.replace("-j DROP", f'-m comment --comment "{comment}" -j DROP')
    text = text_of(tmp_path, rules)
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
