"""Reports go in; their JSON must be valid by the published schema, the same bytes again, and safe on a terminal."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.causes import ALL_IDS
from tcpwhy.diagnosis.finding import Report
from tcpwhy.report.json import encode_json, encode_report
from tcpwhy.report.schema import report_schema, schema_text
from tests.report.builders import healthy_report, hostile_report, rehash_report

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "tcpwhy-1.json"


def read(report: Report) -> Any:
    return json.loads(encode_report(report))


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_the_generated_one() -> None:
    assert PUBLISHED.read_text() == schema_text(), "run `python -m tcpwhy.report.schema >docs/schema/tcpwhy-1.json`"


def test_the_command_prints_the_schema() -> None:
    done = subprocess.run([sys.executable, "-m", "tcpwhy.report.schema"], capture_output=True, text=True, check=True)
    assert done.stdout == PUBLISHED.read_text()


@pytest.mark.parametrize("report", [rehash_report(), healthy_report(), healthy_report(incomplete=True)])
def test_reports_are_valid_by_it(report: Report) -> None:
    validator().validate(read(report))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "tcpwhy/2"),
        (("findings", 0, "cause"), "gremlins"),
        (("findings", 0, "confidence"), "sure"),
        (("findings", 0, "where"), {"between": ["gateway"]}),
        (("findings", 0, "connections", 0, "client"), "10.0.0.1"),
        (("findings", 0, "connections", 0, "first"), "2026-11-21 09:30:00"),
        (("findings", 0, "evidence", 0, "frame"), 0),
        (("findings", 0, "connection_count"), -1),
        (("totals", "failed"), "2"),
        (("vantage_points", 0, "clock"), 5.0),
    ],
)
def test_what_is_not_as_the_contract_says_is_not_valid(path: tuple[str | int, ...], value: object) -> None:
    data = read(rehash_report())
    validator().validate(data)
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert not validator().is_valid(data)


@pytest.mark.parametrize("name", ["schema", "version", "vantage_points", "totals", "findings", "unexplained"])
def test_each_part_is_required(name: str) -> None:
    data = read(rehash_report())
    del data[name]
    assert not validator().is_valid(data)


def test_the_fields_are_those_of_the_contract() -> None:
    data = read(rehash_report())
    assert list(data)[:6] == ["schema", "version", "vantage_points", "totals", "findings", "unexplained"]
    assert set(data["vantage_points"][0]) == {"name", "files", "packets", "first", "last", "clock", "notes"}
    assert set(data["vantage_points"][1]["clock"]) == {"offset_s", "uncertainty_s", "relative_to"}
    assert set(data["totals"]) == {"connections", "failed", "explained", "unexplained"}
    finding = data["findings"][0]
    assert list(finding) == [
        "cause", "confidence", "title", "explanation", "where", "connections", "connection_count", "evidence", "ruled_out",
        "next_evidence", "fix", "references",
    ]  # fmt: skip
    assert finding["where"] == {"between": ["gateway", "backend-01"]}
    assert data["findings"][1]["where"] == {"at": "gateway"}
    assert set(finding["connections"][0]) == {"client", "server", "first", "last", "also_seen_as"}
    assert set(finding["connections"][0]["also_seen_as"][0]) == {"vantage_point", "client", "server"}
    assert {"kind", "vantage_point", "file", "frame", "time", "text"} == set(finding["evidence"][0])
    assert "line" in finding["evidence"][2]
    assert set(finding["ruled_out"][0]) == {"cause", "because"}
    assert set(data["unexplained"][0]) == {"client", "server", "first", "last", "symptom"}
    assert report_schema()["$defs"]["Finding"]["properties"]["cause"]["enum"] == list(ALL_IDS)


def test_the_same_report_gives_the_same_bytes() -> None:
    assert encode_report(rehash_report()) == encode_report(rehash_report())
    assert encode_report(rehash_report()).endswith(b"}\n")


def test_nothing_steers_a_terminal_and_nothing_is_lost() -> None:
    data = encode_report(hostile_report()).decode()
    assert {c for c in data if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} == {"\n"}
    title = json.loads(data)["findings"][0]["title"]
    assert title == hostile_report().findings[0].title.replace("\udcff", "\\xff")


@given(st.text(), st.text(st.characters(exclude_categories=[]), max_size=20))
def test_any_text_comes_back(clean: str, anything: str) -> None:
    assert json.loads(encode_json({"a": [clean]})) == {"a": [clean]}
    back = json.loads(encode_json([anything]))[0]
    assert all(a == b for a, b in zip(back, anything, strict=False) if b < "\ud800") or "\\" in back
    msgspec.json.decode(encode_json([anything]))
