"""The collecting script by itself, in each shell that hosts have, with each program missing, old, slow, endless or talking nonsense."""

import json
import os
import shutil
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from tcpwhy.evidence.state import STATE_FILES
from tcpwhy.record.collect import script
from tests.record.scripts import files_of, host_of, run_script, world

SHELLS = {
    "sh": ("/bin/sh",),
    "dash": ("dash",),
    "busybox": ("busybox", "sh"),
    "bash": ("bash", "--posix"),
}
OTHER_FORMS = {  # file → what stands in its place where it was not needed or not there
    "nft-ruleset.txt": "nft-ruleset.json",
    "iptables-legacy-save.txt": "iptables-save.txt",
    "ip6tables-legacy-save.txt": "ip6tables-save.txt",
    "proc-net-tcp.txt": "ss-tcp.txt",
    "proc-net-tcp6.txt": "ss-tcp.txt",
    "proc-net-netstat.txt": "nstat.txt",
    "proc-net-snmp.txt": "nstat.txt",
    "proc-net-ip_vs.txt": "ipvsadm-rules.txt",
    "proc-net-ip_vs_conn.txt": "ipvsadm-connections.txt",
    "haproxy-sessions-2.txt": "haproxy-sessions.txt",
    "haproxy-sessions-3.txt": "haproxy-sessions.txt",
    "haproxy-sessions-4.txt": "haproxy-sessions.txt",
}
CONTRACT = {name for name in STATE_FILES if "listing" not in name}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_writes_every_file_or_says_why_not(shell: str, tmp_path: Path) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"the shell {SHELLS[shell][0]} is not installed")
    done = run_script(world(tmp_path), shell=SHELLS[shell])
    assert done.returncode == 0, done.stderr
    files = files_of(done.stdout)
    about = host_of(files)
    assert set(files) <= CONTRACT
    told = set(files) | set(about["failed"])
    assert {name for name in CONTRACT if name not in told and OTHER_FORMS.get(name) not in told} == set()
    for name in ("nstat.txt", "sysctl.txt", "ip-addr.json", "ip-route.json", "ip-rule.json", "host.json"):
        assert files[name], name
    assert set(about["none"]) <= set(files)
    for name in about["failed"]:
        assert name not in files or name == "ss-tcp.txt", name
    lines = done.stderr.decode().splitlines()
    assert all(line.startswith("tcpwhy collect: ") for line in lines)
    assert f"{len(files)} files" in lines[-1]


def test_host_json_says_whose_state_it_is_and_when(tmp_path: Path) -> None:
    environment = {**world(tmp_path), "TZ": "Asia/Kolkata"}
    began = int(time.time())
    about = host_of(files_of(run_script(environment, "-n", "gw 1/ü").stdout))
    taken = datetime.fromisoformat(about["time"])
    assert began <= taken.timestamp() <= time.time()
    assert (about["utc_offset"], str(taken.utcoffset())) == ("+05:30", "5:30:00")
    assert (about["name"], about["hostname"], about["kernel"]) == ("gw_1___", os.uname().nodename, os.uname().release)
    assert about["uptime_s"] > 0


@pytest.mark.parametrize("name", ["", ".", "-x", "..", "/", "a" * 300])
def test_a_name_cannot_lead_out_of_the_archive(name: str, tmp_path: Path) -> None:
    done = run_script(world(tmp_path), "-n", name)
    assert done.returncode == 0, done.stderr
    assert "host.json" in files_of(done.stdout)


def test_nothing_stays_behind(tmp_path: Path) -> None:
    def trace() -> tuple[object, ...]:
        modules = Path("/proc/modules")
        loaded = sorted(line.split()[0] for line in modules.read_text().splitlines()) if modules.exists() else []
        histories = {path.name: path.read_bytes() for path in Path("/tmp").glob(".nstat*")}
        return loaded, histories, sorted(path.name for path in tmp_path.rglob("*"))

    environment = world(tmp_path)
    before = trace()
    done = run_script(environment)
    assert done.returncode == 0, done.stderr
    assert trace() == before
    assert running_with(str(tmp_path)) == []


def running_with(text: str) -> list[str]:
    """The processes that have `text` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.name != str(os.getpid()) and text.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("timeout", ["real", "none"])
@pytest.mark.parametrize("shell", ["sh", "busybox"])
def test_killed_in_the_middle_it_leaves_nothing(number: int, timeout: str, shell: str, tmp_path: Path) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"the shell {SHELLS[shell][0]} is not installed")
    programs = {"nstat": f"touch {tmp_path}/begun; sleep 50"}
    if timeout == "none":
        programs["timeout"] = "exit 127"
    path = tmp_path / "collect.sh"
    path.write_bytes(script())
    running = subprocess.Popen(
        [*SHELLS[shell], str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=world(tmp_path, programs),
    )
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    running.send_signal(number)
    output, _ = running.communicate(timeout=30)
    assert (running.returncode, output) == (128 + number, b"")
    assert list((tmp_path / "tmp").iterdir()) == []
    if timeout == "real":  # without timeout(1) only the command itself can be ended, not what it started
        end = time.monotonic() + 15
        while running_with(str(tmp_path)) and time.monotonic() < end:
            time.sleep(0.05)
        assert running_with(str(tmp_path)) == []


@pytest.mark.parametrize("timeout", ["real", "none"])
def test_a_command_that_hangs_is_ended_and_its_proc_form_taken(timeout: str, tmp_path: Path) -> None:
    programs = {"nstat": "exec sleep 60"}
    if timeout == "none":
        programs["timeout"] = "exit 127"
    began = time.monotonic()
    done = run_script(world(tmp_path, programs), changes={"COMMAND_S=20 ": "COMMAND_S=1 "})
    assert time.monotonic() - began < 15
    files = files_of(done.stdout)
    assert "longer than 1 seconds" in host_of(files)["failed"]["nstat.txt"]
    assert files["proc-net-netstat.txt"].startswith(b"TcpExt:")
    assert files["proc-net-snmp.txt"].startswith(b"Ip:")
    assert "nstat.txt" not in files
    assert running_with(str(tmp_path)) == []


def test_no_command_is_begun_after_its_time(tmp_path: Path) -> None:
    done = run_script(world(tmp_path), changes={"ALL_S=90 ": "ALL_S=0 "})
    files = files_of(done.stdout)
    assert "used up" in host_of(files)["failed"]["nstat.txt"]
    assert set(files) == {"host.json", *host_of(files)["none"]}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_without_end_is_left_out_whole(shell: str, tmp_path: Path) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"the shell {SHELLS[shell][0]} is not installed")
    programs = {"nstat": "exec yes IpInReceives"}
    done = run_script(world(tmp_path, programs), shell=SHELLS[shell], changes={"LARGEST=128 ": "LARGEST=1 "})
    files = files_of(done.stdout)
    assert "nstat.txt" not in files
    assert host_of(files)["failed"]["nstat.txt"] == "more than 1 MiB"


def test_errors_of_any_bytes_stay_valid_json(tmp_path: Path) -> None:
    programs = {"nstat": r"""printf '\n\377"\\\001\033[31m\t\342\200\256 end\n' >&2; exit 3"""}
    files = files_of(run_script(world(tmp_path, programs)).stdout)
    reason = host_of(files)["failed"]["nstat.txt"]
    assert reason.startswith("nstat: ")
    assert '"\\' in reason
    assert reason.isprintable()


def test_programs_of_old_versions(tmp_path: Path) -> None:
    refuse = 'case " $* " in *" -j "*) echo "Option \\"-j\\" is unknown, try \\"ip -help\\"." >&2; exit 255 ;; esac'
    programs = {
        "ip": f'{refuse}\nPATH=/usr/sbin:/sbin:/usr/bin:/bin exec ip "$@"',
        "sysctl": "exit 1",
    }
    files = files_of(run_script(world(tmp_path, programs)).stdout)
    assert b"LOOPBACK" in files["ip-link.json"]
    assert b"lookup local" in files["ip-rule.json"]
    lines = files["sysctl.txt"].decode().splitlines()
    assert any(line.startswith("net.ipv4.conf.all.rp_filter = ") for line in lines)
    assert all(line.startswith("net.") for line in lines)
    assert not any("tcp_fastopen_key" in line or "stable_secret" in line for line in lines)


def test_keys_are_the_same_without_a_sysctl_that_knows_patterns(tmp_path: Path) -> None:
    if "--pattern" not in subprocess.run(["sysctl", "--help"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("this machine's sysctl knows no --pattern")
    by_program = files_of(run_script(world(tmp_path)).stdout)["sysctl.txt"].decode()
    by_walk = files_of(run_script(world(tmp_path, {"sysctl": "exit 1"})).stdout)["sysctl.txt"].decode()
    names = [{line.partition(" = ")[0] for line in text.splitlines()} for text in (by_program, by_walk)]
    assert names[0] == names[1]


def test_as_an_ordinary_user_it_takes_what_it_may_and_says_what_root_would_add(tmp_path: Path) -> None:
    shell: tuple[str, ...] = ("/bin/sh",)
    if os.geteuid() == 0:
        shell = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh")
    environment = {**world(tmp_path), "TMPDIR": "/tmp"}
    before = set(Path("/tmp").glob("tcpwhy-collect.*"))
    done = run_script(environment, shell=shell)
    assert done.returncode == 0, done.stderr
    files = files_of(done.stdout)
    failed = host_of(files)["failed"]
    assert {"ip-addr.json", "ip-route.json", "nstat.txt", "sysctl.txt"} <= set(files)
    assert "ss-tcp.txt" in files or "proc-net-tcp.txt" in files
    for name in ("nft-ruleset.json", "iptables-save.txt", "ipset.txt", "conntrack.txt"):
        assert (name in failed and "root" in failed[name]) or name in host_of(files)["none"], name
    assert b"not root" in done.stderr
    assert set(Path("/tmp").glob("tcpwhy-collect.*")) == before


def test_a_folder_instead_of_an_archive_never_mixes_two_snapshots(tmp_path: Path) -> None:
    environment = world(tmp_path)
    done = run_script(environment, "-d", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (0, b"")
    names = {path.name for path in (tmp_path / "out" / "state").iterdir()}
    assert "host.json" in names
    again = run_script(environment, "-d", str(tmp_path / "out"))
    assert again.returncode == 2
    assert b"expected a new folder" in again.stderr


def test_without_a_place_for_temporary_files_it_says_so(tmp_path: Path) -> None:
    done = run_script(world(tmp_path, {"mktemp": "exit 1"}))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"TMPDIR" in done.stderr


MOUNTS = ("unshare", "--mount", "sh", "-c")


@pytest.mark.skipif(
    subprocess.run([*MOUNTS, "true"], capture_output=True, check=False).returncode != 0, reason="needs a namespace of mounts"
)
@pytest.mark.parametrize("size", ["16k", "48k", "64k", "96k"])
def test_a_full_disk_never_makes_a_damaged_archive(size: str, tmp_path: Path) -> None:
    environment = world(tmp_path, {"ss": "head -c 60000 /dev/zero | tr '\\0' x; exit 0"})
    mount = f"mount -t tmpfs -o size={size} none '{tmp_path}/tmp' && exec /bin/sh -s"
    done = subprocess.run([*MOUNTS, mount], input=script(), capture_output=True, env=environment, timeout=60, check=False)
    if done.returncode == 2:
        assert done.stdout == b""
        assert b"no space is left" in done.stderr
        return
    assert done.returncode == 0
    files = files_of(done.stdout)
    about = host_of(files)
    assert about["failed"]
    assert len(files.get("ss-tcp.txt", b"x" * 60_000)) == 60_000  # whole, or left out
    assert set(about["failed"]).isdisjoint(files)


def test_a_reader_that_goes_away_ends_it_cleanly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(["/bin/sh", "-s"], input=script(), stdout=out, stderr=subprocess.PIPE, env=world(tmp_path), check=False)
    assert done.returncode in (2, 141)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="the program shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "collect.sh"
    path.write_bytes(script())
    done = subprocess.run(["shellcheck", "-s", "sh", "-f", "json", str(path)], capture_output=True, check=False)
    assert json.loads(done.stdout) == []
