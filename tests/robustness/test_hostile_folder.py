"""Case folders that nobody would make on purpose: pipes, devices, loops, and names that a terminal would obey."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcpwhy import CaseError, open_case
from tests.robustness import generated

CAPTURE = generated.pcap(1, generated.frames("ethernet", generated.conversations(3)))
TCPWHY = Path(sys.executable).with_name("tcpwhy")


@pytest.fixture
def case(tmp_path: Path) -> Path:
    (tmp_path / "case" / "gateway").mkdir(parents=True)
    (tmp_path / "case" / "gateway" / "a.pcap").write_bytes(CAPTURE)
    return tmp_path / "case"


def test_pipes_and_loops_do_not_hang(case: Path) -> None:
    os.mkfifo(case / "gateway" / "pipe.pcap")
    os.mkfifo(case / "pipe")
    (case / "gateway" / "up").symlink_to(case)
    (case / "self").symlink_to("self")
    (case / "gateway" / "gone.pcap").symlink_to("/nowhere/at/all")
    with open_case(str(case), index=False) as opened:
        (point,) = opened.diagnosis().report.vantage_points
        assert (point.name, point.packets) == ("gateway", 27)
        told = " ".join(opened.evidence.notes + opened.evidence.losses)
    for name in ("pipe", "gateway/pipe.pcap", "self", "gateway/gone.pcap"):
        assert name in told


def test_what_is_no_regular_file_in_a_state_is_told(case: Path) -> None:
    state = case / "gateway" / "state"
    (state / "ip-route.json").mkdir(parents=True)
    os.mkfifo(state / "nstat.txt")
    (state / "sysctl.txt").symlink_to("/dev/zero")
    (state / "ss-tcp.txt").symlink_to("ss-tcp.txt")
    (state / "conntrack.txt").write_text("")
    with open_case(str(case), index=False) as opened:
        opened.diagnosis()
        losses = " ".join(opened.evidence.losses)
    for name in ("ip-route.json", "nstat.txt", "sysctl.txt", "ss-tcp.txt"):
        assert f"gateway/state/{name} is no regular file" in losses
    assert "conntrack.txt" not in losses


def test_a_device_is_refused() -> None:
    with pytest.raises(CaseError, match="device"):
        open_case("/dev/zero", index=False)


def test_names_are_never_obeyed_by_terminal_or_database(case: Path) -> None:
    names = ["gateway/\x1b[31mred\n.pcap", "gateway/\u202eevil.pcap", "x'; DROP TABLE flow;--/a.pcap", "a\nb/a.pcap"]
    for name in names:
        (case / name).parent.mkdir(exist_ok=True)
        (case / name).write_bytes(CAPTURE)
    ended = subprocess.run([TCPWHY, "diagnose", case, "--no-index"], capture_output=True, timeout=60, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    assert b"DROP TABLE" in ended.stdout
    for bad in (b"\x1b", "\u202e".encode()):
        assert bad not in ended.stdout + ended.stderr


def test_a_scan_that_is_interrupted_leaves_no_index_behind(case: Path) -> None:
    """Many files side by side keep the scan busy for long enough."""
    records = generated.frames("ethernet", generated.conversations(2_000))
    for number in range(12):
        (case / "gateway" / f"{number}.pcap").write_bytes(generated.pcap(1, records))
    running = subprocess.Popen([TCPWHY, "index", case], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    home = case / ".tcpwhy"
    deadline = time.monotonic() + 20
    while not (home.is_dir() and any(home.iterdir())) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    if running.returncode == 0:
        pytest.skip("the scan ended before it could be interrupted")
    assert running.returncode == 130
    assert [path for path in case.rglob("*") if path.is_file() and ".tcpwhy" in path.parts] == []
