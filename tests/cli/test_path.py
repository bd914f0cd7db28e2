"""`tcpwhy path` as a program: a state folder and a packet go in, an answer and an exit status come out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.path.states import host

TCPWHY = Path(sys.executable).with_name("tcpwhy")
SCHEMA = Path(__file__).parents[2] / "docs/schema/tcpwhy-path-1.json"
SYN = "in eth0: tcp 10.0.0.77:4000 > 10.0.0.1:80 S"
STRICT = "in eth0: tcp 10.1.0.5:4000 > 10.0.0.1:80 S"


def path(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TCPWHY, "path", *words], capture_output=True, text=True, check=False)


def test_the_text_names_each_line(tmp_path: Path) -> None:
    host(tmp_path / "rs1/state", settings={"net.ipv4.conf.all.rp_filter": 1})
    done = path(str(tmp_path / "rs1/state"), STRICT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fate: reverse-path-filter" in done.stdout
    assert "net.ipv4.conf.all.rp_filter = 1" in done.stdout
    assert "sysctl.txt:2" in done.stdout


def test_a_change_is_walked_too(tmp_path: Path) -> None:
    host(tmp_path / "rs1/state", settings={"net.ipv4.conf.all.rp_filter": 1, "net.ipv4.conf.eth0.rp_filter": 1})
    vain = path(str(tmp_path / "rs1"), STRICT, "--with", "sysctl net.ipv4.conf.eth0.rp_filter=0")
    assert "the change does not help" in vain.stdout
    helps = path(str(tmp_path / "rs1"), STRICT, "--with", "sysctl net.ipv4.conf.eth0.rp_filter=2")
    assert "the change turns reverse-path-filter into accepted" in helps.stdout


def test_a_setting_that_the_host_was_not_seen_to_have_is_named(tmp_path: Path) -> None:
    host(tmp_path / "rs1/state")
    done = path(str(tmp_path / "rs1"), SYN, "--with", "sysctl net.ipv4.conf.tunl00.rp_filter=0")
    assert done.returncode == 0
    assert done.stderr == "--with: net.ipv4.conf.tunl00.rp_filter is none of the settings that were collected; its name is taken as it is\n"
    assert path(str(tmp_path / "rs1"), SYN, "--with", "sysctl net/ipv4/conf/eth0/rp_filter=0").stderr == ""


def test_a_state_file_that_is_a_pipe_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "rs1/state"
    host(folder)
    (folder / "ipset.txt").unlink(missing_ok=True)
    os.mkfifo(folder / "ipset.txt")
    done = path(str(folder), SYN)
    assert done.returncode == 3
    assert "ipset.txt is no regular file; passed over" in done.stderr


def test_the_json_is_valid_and_the_same_again(tmp_path: Path) -> None:
    host(tmp_path / "rs1/state")
    words = (str(tmp_path), SYN, "--vantage", "rs1", "--json", "--with", "sysctl net.ipv4.ip_forward=0")
    first, second = path(*words), path(*words)
    assert first.stdout == second.stdout
    told = json.loads(first.stdout)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(told)
    assert (told["forward"]["fate"], told["reverse"]["fate"]) == ("accepted", "sent")
    assert told["proposed"]["changes_fate"] is False


def test_what_is_not_understood_is_told_and_steers_no_terminal(tmp_path: Path) -> None:
    host(tmp_path / "rs1/state", {"iptables-save.txt": "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m \x1b[31mred -j DROP\nCOMMIT\n"})
    done = path(str(tmp_path / "rs1"), SYN, "--json")
    assert done.returncode == 3
    assert "iptables-save.txt" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert len(json.loads(done.stdout)["notes"]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere", SYN), "nowhere"),
        ((".", "tcp 1.2.3.4:5 > 6.7.8.9:80 S"), "does not say where the packet is"),
        ((".", SYN, "--with", "magic"), "read `magic`, expected"),
        ((".", SYN, "--without", "-A INPUT -j NOTHING"), "no rule is"),
        ((".", SYN, "--vantage", "rs9"), "rs9"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    host(tmp_path / "rs1/state")
    where = str(tmp_path / "rs1") if words[0] == "." else str(tmp_path / words[0])
    done = path(where, *words[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_diagnose_ends_alike_where_a_state_is_not_understood(tmp_path: Path) -> None:
    host(tmp_path / "well/rs1/state")
    host(tmp_path / "odd/rs1/state", {"iptables-save.txt": "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m strange -j DROP\nCOMMIT\n"})
    statuses = [
        subprocess.run([TCPWHY, "diagnose", tmp_path / name, "--no-index"], capture_output=True, check=False).returncode
        for name in ("well", "odd")
    ]
    assert statuses == [0, 3]
