"""What the collecting script takes of a real HAProxy, and what it says where it can take nothing."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tcpwhy.evidence import Source
from tcpwhy.tables.haproxy_sessions import HaproxySessions, parse_sessions
from tests.record.scripts import files_of, host_of, run_script, world
from tests.state.haproxy_programs import WAYS, Programs, running

TALKERS = "for program in socat nc ncat"


def collected(
    folder: Path, programs: Programs, changes: Mapping[str, str] | None = None, bin_programs: Mapping[str, str] | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and host.json; of all HAProxy processes of this machine only the test's own is seen."""
    own = {"grep -E 'haproxy|hapee'": f"grep -F '{programs.folder}/'", **(changes or {})}
    done = run_script(world(folder, bin_programs), changes=own)
    assert done.returncode == 0, done.stderr
    files = files_of(done.stdout)
    return {name: text for name, text in files.items() if name.startswith("haproxy-")}, host_of(files)


def parsed(text: bytes) -> HaproxySessions:
    table = HaproxySessions()
    parse_sessions(text.decode().splitlines(), Source("lb", "haproxy-sessions.txt"), table)
    assert table.unread.count == 0
    return table


def test_all_sessions_are_taken_and_each_process_once(tmp_path: Path) -> None:
    with running(tmp_path / "lb", more="stats socket {folder}/second.sock level admin") as programs:
        truth = dict(programs.connect(way)[::-1] for way in WAYS)
        files, about = collected(tmp_path, programs)
    assert set(files) == {"haproxy-sessions.txt"}
    assert "haproxy-sessions.txt" not in {**about["failed"], **about["none"]}
    named = {one.local_end: one.client for one in parsed(files["haproxy-sessions.txt"]).sessions if one.local_end}
    assert named == truth


def test_of_very_many_the_short_form_is_taken(tmp_path: Path) -> None:
    with running(tmp_path / "lb") as programs:
        clients = {programs.connect(way)[0] for way in WAYS}
        files, about = collected(tmp_path, programs, {"MOST_SESSIONS=20000": "MOST_SESSIONS=2"})
    sessions = parsed(files["haproxy-sessions.txt"]).sessions
    assert {one.client for one in sessions if one.client} == clients
    assert all(one.local_end is None for one in sessions)
    assert about["failed"]["haproxy-sessions.txt"].startswith("more than 2 sessions")


def test_an_nc_that_knows_unix_sockets_serves_as_well(tmp_path: Path) -> None:
    nc = (
        'case "$*" in -h) echo "usage: nc [-46CDdFhklNnrStUuvZz]" >&2; exit 1 ;; esac\n[ "$1" = -U ] && exec socat -t 9 - "UNIX-CONNECT:$2"'
    )
    with running(tmp_path / "lb") as programs:
        client, _ = programs.connect(WAYS[0])
        files, _ = collected(tmp_path, programs, {TALKERS: "for program in nc"}, {"nc": nc})
    assert client in [one.client for one in parsed(files["haproxy-sessions.txt"]).sessions]


@pytest.mark.parametrize(
    ("level", "changes", "said"),
    [
        ("user", {}, "Permission denied"),
        ("operator", {TALKERS: "for program in no-such-program"}, "neither socat nor an nc that knows -U is installed"),
        ("operator", {TALKERS: "for program in nc"}, "neither socat nor an nc that knows -U is installed"),
        ("operator", {'[ ! -w "$socket" ]': "true"}, "haproxy.sock cannot be written without root"),
        ("operator", {"attempt \"$1\" sh -c": "attempt \"$1\" sleep 0 ;: "}, "haproxy.sock: "),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_said(level: str, changes: dict[str, str], said: str, tmp_path: Path) -> None:
    with running(tmp_path / "lb", level=level) as programs:
        files, about = collected(tmp_path, programs, changes, {"nc": 'echo "usage: nc [-hlnu]"'})
    assert files == {}
    assert said in about["failed"]["haproxy-sessions.txt"]


def test_a_socket_s_name_runs_nothing(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="haproxy-", dir="/tmp"))  # a socket's path has 107 bytes
    names = [folder / "x", folder / "x!!SYSTEM:cd;id>ran"]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for name in names:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(name))
            listening.listen()
        done = run_script(world(tmp_path), changes={"grep -E 'haproxy|hapee'": f"grep -F '{names[1]}'"})
    assert not (tmp_path / "home" / "ran").exists()
    about = host_of(files_of(done.stdout))
    assert about["failed"]["haproxy-sessions.txt"].startswith(f"{names[1]} has signs in its name")


def test_a_host_without_haproxy_has_an_empty_file(tmp_path: Path) -> None:
    done = run_script(world(tmp_path), changes={"grep -E 'haproxy|hapee'": "grep -F no-such-name"})
    files = files_of(done.stdout)
    assert files["haproxy-sessions.txt"] == b""
    assert host_of(files)["none"]["haproxy-sessions.txt"].startswith("no process of this network namespace")
