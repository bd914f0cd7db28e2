"""Small captures on disk go in, through the installed program; its exit status and streams must be the contract's."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.cli.captures import PCAP, healthy, unanswered, write

TCPWHY = Path(sys.executable).with_name("tcpwhy")
SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "tcpwhy-1.json"


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([TCPWHY, *arguments], input=stdin, capture_output=True, check=False, timeout=60)


def case_of(tmp_path: Path, records: list[bytes]) -> Path:
    write(tmp_path / "case" / "client" / "any.pcap", records)
    return tmp_path / "case"


def test_nothing_failed(tmp_path: Path) -> None:
    done = run("diagnose", "--no-index", case_of(tmp_path, healthy()))
    assert (done.returncode, done.stderr) == (0, b""), done
    assert done.stdout.startswith(b"No connection failed: 1 connection examined")


def test_something_failed(tmp_path: Path) -> None:
    done = run("diagnose", "--no-index", case_of(tmp_path, unanswered()))
    assert (done.returncode, done.stderr) == (1, b""), done
    assert "10.0.0.1:40000 → 10.0.0.2:80".encode() in done.stdout


def test_the_json_of_a_real_run_is_valid_and_the_same_again(tmp_path: Path) -> None:
    case = case_of(tmp_path, unanswered())
    first, second = (run("diagnose", "--json", case) for _ in range(2))
    assert first.returncode == 1
    assert first.stdout == second.stdout
    report = json.loads(first.stdout)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(report)
    assert report["totals"] == {"connections": 1, "failed": 1, "explained": 0, "unexplained": 1}


def test_no_index_leaves_nothing_and_else_it_lies_in_the_case(tmp_path: Path) -> None:
    case = case_of(tmp_path, healthy())
    before = sorted(tmp_path.rglob("*"))
    run("diagnose", "--no-index", case)
    assert sorted(tmp_path.rglob("*")) == before
    assert run("index", case).returncode == 0
    assert (case / ".tcpwhy").is_dir()


def test_what_is_damaged_in_the_middle_is_said_and_gives_3(tmp_path: Path) -> None:
    damage = b"\xff" * 16 + b"\xee" * 400
    case = case_of(tmp_path, [*healthy(), damage])
    done = run("diagnose", "--no-index", case)
    assert done.returncode == 3, done
    assert b"Part of the input could not be read" in done.stdout
    assert b"1 connection examined" in done.stdout


def test_a_last_record_that_is_cut_off_is_a_note_only(tmp_path: Path) -> None:
    records = healthy()
    case = case_of(tmp_path, [*records, records[-1][:-5]])
    done = run("diagnose", "--no-index", case)
    assert done.returncode == 0, done
    assert b"note: " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("diagnose", "/dev/null/absent"),
        ("diagnose", "CASE", "--connection", "nonsense"),
        ("diagnose", "CASE", "--connection", "9.9.9.9:1-8.8.8.8:2"),
        ("diagnose", "CASE", "--since", "yesterday"),
        ("diagnose", "CASE", "--filter", "host example.com"),
        ("show", "CASE", "9.9.9.9:1-8.8.8.8:2"),
        ("show", "CASE", "nonsense"),
        ("connections", "CASE", "--where", "nosuch = 1"),
        ("connections", "CASE", "--filter", "vlan 5"),
        ("extract", "CASE", "10.0.0.1:40000-10.0.0.2:80", "-w", "/dev/null/out.pcapng"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    case = case_of(tmp_path, healthy())
    done = run(*(str(case) if word == "CASE" else word for word in arguments))
    assert (done.returncode, done.stdout) == (2, b""), done
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 or (len(lines) == 3 and lines[1] == "" and lines[2].startswith("hint: ")), lines
    assert ": " in lines[0]


def test_a_capture_on_standard_input(tmp_path: Path) -> None:
    done = run("diagnose", "--no-index", "-", stdin=PCAP + b"".join(unanswered()))
    assert done.returncode == 1, done


def test_show_connections_and_extract_of_a_real_capture(tmp_path: Path) -> None:
    case = case_of(tmp_path, healthy())
    done = run("show", case, "10.0.0.2:80-10.0.0.1:40000")
    assert done.returncode == 0, done
    assert b"any.pcap #9" in done.stdout
    done = run("connections", case, "--where", "client_port = 40000 and not failed", "--format", "json")
    assert [row["server_ip"] for row in json.loads(done.stdout)] == ["10.0.0.2"]
    for expression, count in (("host 10.0.0.2 and port 80", 1), ("net 10.9.0.0/16", 0)):
        done = run("connections", case, "--filter", expression, "--format", "json")
        assert (done.returncode, len(json.loads(done.stdout))) == (0, count), done
    done = run("extract", case, "10.0.0.1:40000-10.0.0.2:80", "-w", "-")
    assert (done.returncode, done.stdout[:4]) == (0, b"\x0a\x0d\x0d\x0a"), done.stderr


def test_a_reader_that_stops_leaves_the_status_as_it_is(tmp_path: Path) -> None:
    read, write_end = os.pipe()
    os.close(read)
    command: list[str | Path] = [TCPWHY, "diagnose", "--no-index", case_of(tmp_path, unanswered())]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_on_a_terminal_the_answer_is_coloured_and_standard_output_holds_no_progress(tmp_path: Path) -> None:
    main_end, terminal = pty.openpty()
    command: list[str | Path] = [TCPWHY, "diagnose", "--no-index", case_of(tmp_path, healthy())]
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, env=environment, check=False, timeout=60)
    os.close(terminal)
    shown = os.read(main_end, 65536)
    os.close(main_end)
    assert done.returncode == 0
    assert shown.startswith(b"\x1b[32mNo connection failed")
    assert done.stderr == b""
