"""Command lines of `tcpwhy clients` go in; table, JSON, CSV and Parquet, their safety on a terminal and the exit status must be right."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import jsonschema
import pytest
from click.testing import CliRunner, Result

from tcpwhy.cli import main
from tcpwhy.report.schema import clients_schema_text
from tests.clients.captures import Talk, request, write_state, write_talks

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "tcpwhy-clients-1.json"
HOSTILE = "\x1b[2Jred\u202eteam\x07"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["clients", *arguments], env={"COLUMNS": None, "NO_COLOR": None, "TZ": "UTC"})


@pytest.fixture
def case(tmp_path: Path) -> Path:
    write_talks(
        tmp_path / "rs1" / "rs1.pcap",
        [
            Talk("10.9.0.1:1025", requests=[request("checkout"), request("checkout")], toa="198.51.100.7:4660", at_ms=0),
            Talk("10.9.0.1:1026", requests=[request(HOSTILE)], toa="198.51.100.8:5000", at_ms=5, has_end=True),
            Talk("10.9.0.1:1027", requests=[request("stock", "X-Forwarded-For: 6.6.6.6")], at_ms=9, has_begin=False),
        ],
    )
    return tmp_path


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_the_generated_one() -> None:
    assert PUBLISHED.read_text() == clients_schema_text(), "run `python -m tcpwhy.report.schema clients >docs/schema/tcpwhy-clients-1.json`"


@pytest.mark.parametrize("words", [(), ("--group-by", "client"), ("--header", "X-Team", "--group-by", "network/24"), ("--old", "1h")])
def test_the_json_is_valid_and_the_same_again(case: Path, validator: jsonschema.Draft202012Validator, words: tuple[str, ...]) -> None:
    first = run(str(case), "--json", "--no-index", *words)
    assert first.exit_code == 0, first.output
    data = json.loads(first.stdout)
    validator.validate(data)
    assert ("groups" in data) == ("--group-by" in words)
    assert first.stdout == run(str(case), "--format", "json", "--no-index", *words).stdout
    for field in ("client", "real_client", "confidence"):
        broken = json.loads(first.stdout)
        broken["connections"][0][field] = "?"
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_the_json_says_what_the_contract_promises(case: Path) -> None:
    data = json.loads(run(str(case), "--json", "--no-index", "--group-by", "header:X-Team").stdout)
    assert list(data)[:2] == ["schema", "connections"]
    assert data["schema"] == "tcpwhy-clients/1"
    first, _, last = data["connections"]
    assert list(first)[:12] == [
        "client", "server", "real_client", "basis", "confidence", "candidates", "headers", "requests", "bytes", "first", "last",
        "open_before_capture",
    ]  # fmt: skip
    assert (first["client"], first["server"], first["real_client"]) == ("10.9.0.1:1025", "10.9.0.11:80", "198.51.100.7:4660")
    assert (first["basis"], first["confidence"], first["candidates"], first["requests"]) == (["toa"], "likely", [], 2)
    assert first["headers"] == {"X-Team": "checkout"}
    assert first["first"].endswith("Z")
    assert (last["real_client"], last["confidence"], last["open_before_capture"]) == (None, None, True)
    assert last["candidates"][0]["real_client"] == "6.6.6.6"
    assert last["candidates"][0]["basis"] == ["header"]
    assert {group["group"]: group["requests"] for group in data["groups"]} == {
        "checkout": 2,
        HOSTILE: 1,
        "stock": 1,
    }
    assert data["totals"] == {
        "connections": 3, "identified": 2, "unidentified": 1, "with_candidates": 1, "unidentified_open_before_capture": 1, "requests": 4,
    }  # fmt: skip
    assert data["next_evidence"]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
@pytest.mark.parametrize("words", [("--header", "X-Team"), ("--group-by", "header:X-Team")])
def test_hostile_header_values_never_reach_a_terminal(case: Path, form: str, words: tuple[str, ...]) -> None:
    out = run(str(case), "--format", form, "--no-index", *words).stdout
    assert "red" in out
    assert not {"\x1b", "\u202e", "\x07"} & set(out)


def test_the_table_tells_who_is_there_and_what_to_take_next(case: Path) -> None:
    out = run(str(case), "--no-index", "--group-by", "header:X-Team").stdout
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["X-Team", "connections", "requests"]
    assert lines[1].startswith("checkout")
    assert "198.51.100.7" in lines[1]
    assert "1 likely" in lines[1]
    assert "3 connections: 2 identified, 1 not identified." in out
    assert "to identify the rest, take" in out
    assert "ipvsadm -L -n -c" in out
    rows = run(str(case), "--no-index", "--header", "X-Team").stdout
    assert "before the capture" in rows
    assert "? (1 candidates)" not in rows
    assert "? (1 candidate)" in rows


def test_csv_and_parquet_have_all_columns(case: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(str(case), "--format", "csv", "--no-index", "--header", "X-Team").stdout)))
    assert [row["real_client"] for row in rows] == ["198.51.100.7:4660", "198.51.100.8:5000", ""]
    assert rows[0]["header:X-Team"] == "checkout"
    assert rows[2]["candidates"] == "6.6.6.6 (header, possible)"
    assert rows[2]["open_before_capture"] == "true"
    assert rows[0]["first"].endswith("Z")
    path = tmp_path / "out.parquet"
    path.write_bytes(run(str(case), "--format", "parquet", "--no-index", "--header", "X-Team").stdout_bytes)
    with duckdb.connect(":memory:") as db:
        found = db.execute(f"SELECT client, basis, \"header:X-Team\" FROM '{path}' ORDER BY client LIMIT 1").fetchall()
        assert found == [("10.9.0.1:1025", ["toa"], "checkout")]
        path.write_bytes(run(str(case), "--format", "parquet", "--no-index", "--group-by", "client").stdout_bytes)
        assert db.execute(f"SELECT \"group\", connections FROM '{path}' ORDER BY ALL NULLS LAST").fetchall() == [
            ("198.51.100.7", 1), ("198.51.100.8", 1), (None, 1),
        ]  # fmt: skip
    groups = list(csv.DictReader(io.StringIO(run(str(case), "--format", "csv", "--no-index", "--group-by", "client").stdout)))
    assert [row["group"] for row in groups] == ["198.51.100.7", "198.51.100.8", ""]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--group-by", "team"), "--group-by"),
        (("--group-by", "network/200"), "--group-by"),
        (("--header", "a b"), "--header"),
        (("--old", "soon"), "--old"),
        (("--vantage", "nobody"), "--vantage"),
        (("--filter", "vlan 3"), "--filter"),
        (("--trusted-hops", "-1"), "trusted-hops"),
        (("--format", "xml"), "format"),
        (tuple(word for at in range(65) for word in ("--header", f"X-{at}")), "--header"),
    ],
)
def test_what_cannot_be_asked_gives_status_2(case: Path, words: tuple[str, ...], named: str) -> None:
    done = run(str(case), "--no-index", *words)
    assert done.exit_code == 2, done.output
    assert named in done.stderr
    assert not done.stdout


def test_a_case_without_captures_gives_status_2(tmp_path: Path) -> None:
    write_state(tmp_path / "lb1" / "state", taken_ms=0, ipvsadm_connections="IPVS connection entries\n")
    done = run(str(tmp_path), "--no-index")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "holds no capture" in done.stderr


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_could_not_be_read_gives_status_3_and_is_named(case: Path, form: str) -> None:
    write_state(case / "lb1" / "state", taken_ms=0, ipvsadm_connections="this is no table of connections\n")
    done = run(str(case), "--no-index", "--format", form)
    assert done.exit_code == 3, done.output
    assert "ipvsadm-connections.txt" in " ".join((done.stdout + done.stderr).split())
    if form == "json":
        assert json.loads(done.stdout)["incomplete"] is True


def test_a_cut_value_and_values_beyond_the_limit_are_told(tmp_path: Path) -> None:
    long = [request("a" * 600 + end) for end in "bc"]
    write_talks(tmp_path / "rs1" / "rs1.pcap", [
        Talk("10.9.0.1:1025", requests=long, toa="198.51.100.7:4660"),
        Talk("10.9.0.1:1026", requests=[request(f"team{at}") for at in range(20)], toa="198.51.100.7:4661"),
    ])  # fmt: skip
    data = json.loads(run(str(tmp_path), "--no-index", "--json", "--header", "X-Team").stdout)
    assert data["connections"][0]["headers"]["X-Team"].endswith("a…")
    assert any("longer than 512 bytes" in note for note in data["notes"])
    assert any(note.startswith("4 values of headers are left out") for note in data["notes"])
