"""How the lab runs: variants take the form that was asked for, nothing stays behind, and what cannot be is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tcpwhy import lab
from tcpwhy.cli.lab import command
from tcpwhy.evidence.state import STATE_FILES
from tcpwhy.lab.options import Options, with_words
from tcpwhy.lab.run import spread

pytestmark = [pytest.mark.lab, pytest.mark.alone]


def invoke(*words: str) -> Result:
    return CliRunner().invoke(command, words)


def link_type(capture: Path) -> str:
    done = subprocess.run(["capinfos", "-E", "-M", str(capture)], capture_output=True, text=True, check=True)
    return done.stdout


def processes_of(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended meanwhile
            if marker in words:
                found.append(words)
    return found


def test_variants_take_the_form_that_was_asked_for(tmp_path: Path) -> None:
    words = {"capture": "any-sll", "ip": "6", "format": "pcapng", "state": "ss", "clocks": "apart", "snap": "96", "zone": "Asia/Shanghai"}
    (case,) = lab.run_scenarios(["port-closed"], tmp_path, 3, words)
    assert case.folder.parent == tmp_path
    captures = sorted(case.folder.glob("*/*"))
    assert {path.name for path in captures} == {"any.pcapng", "state"}
    assert "linux-sll\n" in link_type(case.folder / "client" / "any.pcapng")
    assert all(entry["client"].startswith("[") for entry in lab.failed_of(case))
    assert set(case.truth["clock_offsets_s"]) == {"client", "server"}  # type: ignore[call-overload]
    host = json.loads((case.folder / "server" / "state" / "host.json").read_text())
    assert host["kernel"] == case.kernel
    sockets = (case.folder / "server" / "state" / "ss-tcp.txt").read_text()
    asked = lab.failed_of(case)[0]["server"]
    listening = {line.split()[3] for line in sockets.splitlines() if line.startswith("LISTEN")}
    assert any(socket.endswith(":80") for socket in listening)
    assert not any(socket.endswith(asked.rpartition("]")[2]) for socket in listening)
    assert case.truth["confidence_with_all"] == "confirmed"


def test_a_full_state_is_taken_before_and_after_and_lo_is_captured_where_it_matters(tmp_path: Path) -> None:
    (case,) = lab.run_scenarios(["rejected-client"], tmp_path, variants={"state": "both"})
    client = case.folder / "client"
    assert {path.name for path in client.iterdir()} == {"eth0.pcap", "lo.pcap", "state", "state-before"}
    before, after = ((client / name / "iptables-save.txt").read_text() for name in ("state-before", "state"))
    prey = len(lab.failed_of(case))
    assert "[0:0] -A" in before
    assert f"[{prey}:" not in before
    assert f"[{prey}:" in after
    files = {path.name for path in (client / "state").iterdir()}
    assert {"ss-tcp.txt", "sysctl.txt", "ip-route.json", "conntrack.txt", "ipset.txt", "host.json"} <= files <= set(STATE_FILES)


def test_places_that_were_not_asked_for_are_taken_away(tmp_path: Path) -> None:
    (case,) = lab.run_scenarios(["port-closed-healthy"], tmp_path, variants={"places": "server"})
    assert [path.name for path in case.folder.iterdir()] == ["server"]


def test_user_mode_linux_runs_the_same_scenarios(tmp_path: Path) -> None:
    try:
        lab.choose(frozenset(), "uml")
    except lab.CannotRun as reason:
        pytest.skip(str(reason))
    cases = lab.run_scenarios(["syn-lost", "port-closed-healthy"], tmp_path, variants={"vlan": "77"}, runner="uml")
    assert [len(lab.failed_of(case)) for case in cases] == [5, 0]
    assert all(case.kernel.startswith("6.1.") for case in cases)


def test_kept_hosts_can_be_entered_until_they_were_looked_at(tmp_path: Path) -> None:
    try:
        lab.choose(frozenset(), "namespaces")
    except lab.CannotRun as reason:
        pytest.skip(str(reason))
    seen: list[tuple[str, int, str]] = []

    def look(runner: str, process: int, listing: str) -> None:
        inside = ["nsenter", "-t", str(process), "-U", "--preserve-credentials", "-n", "-m", "-p", "-r"]
        if os.geteuid() == 0:
            inside = ["nsenter", "-t", str(process), "-n", "-m", "-p", "-r"]
        done = subprocess.run([*inside, "ip", "netns", "list"], capture_output=True, text=True, check=True)
        seen.append((runner, process, done.stdout))
        assert done.stdout.split()[0] in listing

    (case,) = lab.run_scenarios(["port-closed-healthy"], tmp_path, keep=look)
    ((runner, process, names),) = seen
    assert runner == "namespaces"
    assert "client" in names
    assert "server" in names
    assert not Path(f"/proc/{process}").exists()
    assert case.folder.is_dir()


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    out = tmp_path / "out"
    program = "from tcpwhy.cli.lab import command; command()"
    run = subprocess.Popen(
        [sys.executable, "-c", program, "run", "syn-lost", "port-closed", "--out", str(out)],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not any(scratch.glob("*/*/case-1/*/*.pcap")):
        assert time.monotonic() < end, "no capture began"
        assert run.poll() is None
        time.sleep(0.05)
    assert processes_of(str(scratch))
    run.send_signal(signal.SIGINT)
    assert run.wait(20) != 0
    assert processes_of(str(scratch)) == []
    assert list(scratch.iterdir()) == []
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "no-such"), "no scenario is called `no-such`"),
        (("run", "syn-lost", "--variant", "ip=5"), "read `5`, expected one of 4, 6"),
        (("run", "syn-lost", "--variant", "vlan"), "read `vlan`, expected K=V"),
        (("run", "syn-lost", "--variant", "colour=red"), "no variant `colour`"),
        (("run", "syn-lost", "--variant", "snap=-1"), "expected a number"),
        (("run", "syn-lost", "--variant", "load=0"), "expected a number from 1 to 100"),
    ],
)
def test_an_unusable_call_ends_with_one_line_and_2(words: tuple[str, ...], says: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert says in result.output
    assert len(result.output.splitlines()) == 1


def test_list_names_every_scenario_and_where_it_runs() -> None:
    rows = json.loads(invoke("list", "--json").output)
    assert [row["name"] for row in rows] == list(lab.catalogue())
    assert all(row["runs_in"] in ("namespaces", "uml") or row["runs_in"].startswith("cannot run: ") for row in rows)


def test_worlds_that_boot_a_kernel_are_spread_among_the_others() -> None:
    def batches(names: str) -> list[list[str]]:
        return [[name] for name in names]

    def in_turn(booted: str, others: str) -> str:
        return "".join(name for (name,) in spread(batches(booted), batches(others)))

    assert in_turn("ABC", "123456789") == "A12B34C56789"
    assert in_turn("ABC", "12") == "ABC12"
    assert in_turn("", "12") == "12"


def test_options_survive_being_written_as_words() -> None:
    options = Options(capture="any", ip="6", vlan=7, places=("a", "b"), zone="Asia/Shanghai", load=3)
    assert with_words(Options(), options.as_words()) == options
