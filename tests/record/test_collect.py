"""`tcpwhy collect` as a user calls it: here, in a namespace that has rules and connections, and over a real sshd."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcpwhy.evidence.single_state import open_state
from tcpwhy.record.collect import CollectError, archive_name, check_archive, script
from tcpwhy.tables.host import HostTables
from tests.record.scripts import files_of, world

COMMAND = [sys.executable, "-c", "from tcpwhy.cli import main; main()", "collect"]


def collect(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, env=environment, stdin=subprocess.DEVNULL, timeout=120, check=False
    )


def test_an_archive_is_read_by_tcpwhy(tmp_path: Path) -> None:
    done = collect(tmp_path, "-w", "host.tar", environment=world(tmp_path))
    assert (done.returncode, done.stdout) == (0, b"host.tar\n"), done.stderr
    with open_state(tmp_path / "host.tar") as state:
        host = HostTables(state)
        assert state.host.kernel == os.uname().release
        assert state.host.time_ns is not None
        assert abs(state.host.time_ns / 1e9 - time.time()) < 60
        assert host.links is not None
        assert host.addresses is not None
        assert "127.0.0.1" in {address.ip for address in host.addresses.entries}
        assert host.counters is not None
        assert host.counters.get("TcpOutSegs") is not None
        assert host.sockets is not None
        assert host.sysctls is not None
        assert host.routes is not None
        assert [piece for piece in host.unread() if piece.source.file.endswith(("conntrack.txt", "ipvsadm-rules.txt"))] == []
    diagnosed = subprocess.run(
        [sys.executable, "-c", "from tcpwhy.cli import main; main()", "diagnose", "--no-index", "host.tar"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert diagnosed.returncode == 0, diagnosed.stderr
    assert not list((tmp_path / "tmp").iterdir())


def test_to_standard_output_to_a_folder_and_to_a_name_of_its_own(tmp_path: Path) -> None:
    files = files_of(collect(tmp_path, "-w", "-").stdout)
    assert "host.json" in files
    done = collect(tmp_path, "-w", "folder")
    assert (done.returncode, done.stdout) == (0, b"folder/state\n")
    with open_state(tmp_path / "folder") as state:
        assert state.host.name
    again = collect(tmp_path, "-w", "folder")
    assert again.returncode == 2
    assert b"expected a new folder" in again.stderr
    named = collect(tmp_path)
    path = tmp_path / named.stdout.decode().strip()
    assert path.suffix == ".tar"
    assert path.stem == archive_name(os.uname().nodename)
    before = path.read_bytes()
    once_more = collect(tmp_path)
    assert (once_more.returncode, path.read_bytes()) == (2, before)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["folder", path.name])


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (("web1",), b"expected --ssh"),
        (("--ssh",), b"expected --ssh with one HOST"),
        (("--ssh", "--", "-oProxyCommand=touch pwned"), b"is no host name"),
        (("--ssh", "--", "user@-oProxyCommand=x"), b"is no host name"),
        (("--ssh", "web1", "me@web1"), b"each host once"),
        (("--ssh", "web1", "web2", "-w", "-"), b"expected a folder"),
        (("--ssh", "web1", "web2", "-w", "x.tar"), b"expected a folder"),
        (("--print-script", "-w", "x.tar"), b"stands alone"),
        (("-w", "no/such/folder/x.tar"), b"no/such/folder is no folder"),
        (("--ssh", "web1", "-w", "no/such/folder/x.tar"), b"no/such/folder is no folder"),
    ],
)
def test_calls_that_cannot_be_meant(words: tuple[str, ...], because: bytes, tmp_path: Path) -> None:
    environment = world(tmp_path, {"ssh": f"touch {tmp_path}/called; exit 255"})
    done = collect(tmp_path, *words, environment=environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert because in done.stderr
    assert not (tmp_path / "called").exists()
    assert not (tmp_path / "pwned").exists()
    assert not list(tmp_path.glob("*.tar"))


def test_names_of_hosts() -> None:
    names = {
        "web1": "web1",
        "me@web1": "web1",
        "ssh://me@web1:2222": "web1",
        "10.0.0.1": "10.0.0.1",
        "fe80::1%eth0": "fe80__1_eth0",
        "a/../b": "a_.._b",
    }
    assert {host: archive_name(host) for host in names} == names
    for host in ("", " ", "-x", "me@-x", "a\nb", "..", "ssh://"):
        with pytest.raises(CollectError):
            archive_name(host)


def test_the_script_is_printed_as_it_is(tmp_path: Path) -> None:
    done = collect(tmp_path, "--print-script")
    assert (done.returncode, done.stdout) == (0, script())


def test_what_broke_off_is_no_archive(tmp_path: Path) -> None:
    whole = collect(tmp_path, "-w", "-").stdout
    check_archive(io.BytesIO(whole))
    for part in (b"", whole[:100], whole[: len(whole) // 2], b"Welcome\n" + whole, b"\0" * 1024):
        with pytest.raises(CollectError):
            check_archive(io.BytesIO(part))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_leaves_nothing(number: int, status: int, tmp_path: Path) -> None:
    environment = world(tmp_path, {"nstat": f"touch {tmp_path}/begun; exec sleep 40"})
    running = subprocess.Popen([*COMMAND, "-w", "x.tar"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    running.send_signal(number)
    output, _ = running.communicate(timeout=15)
    assert (running.returncode, output) == (status, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "bin", "home", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


IN_A_NAMESPACE = r"""
set -e
mount -t tmpfs none /run
ip link set lo up
ip addr add 10.77.0.1/32 dev lo
sysctl -q -w net.ipv4.conf.all.rp_filter=2
{iptables}-A INPUT -p tcp -m tcp --dport 4242 -m comment --comment 'a \ -j "b"' -j REJECT --reject-with tcp-reset
{nft}
{connect}
exec "$@"
"""
CONNECT = (
    "python3 -c \"import socket; s = socket.create_server(('10.77.0.1', 80)); "
    "c = socket.create_connection(('10.77.0.1', 80)); print(c.getsockname()[1])\" >port"
)


def test_in_a_namespace_with_rules_and_connections(tmp_path: Path) -> None:
    lines = IN_A_NAMESPACE.format(
        iptables="iptables-nft ",
        nft="nft -f - <<END\ntable inet own { chain in { type filter hook input priority 10; ct state invalid drop; }; }\nEND",
        connect=CONNECT,
    )
    root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *root, "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", lines, "sh", *COMMAND, "-w", "ns.tar"],
        cwd=tmp_path,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    if not (tmp_path / "port").exists():
        pytest.skip(f"rules cannot be made in a namespace here: {done.stderr.decode()[-200:]}")
    assert done.returncode == 0, done.stderr
    port = int((tmp_path / "port").read_text())
    files = files_of((tmp_path / "ns.tar").read_bytes())
    assert b"--dport 4242" in files["iptables-save.txt"]
    assert b'"own"' in files["nft-ruleset.json"]
    with open_state(tmp_path / "ns.tar") as state:
        host = HostTables(state)
        assert host.conntrack is not None
        assert (host.conntrack.unread.count, host.conntrack.is_complete) == (0, True)
        ports = {(entry.original.source_port, entry.original.destination_port) for entry in host.conntrack.entries}
        assert (port, 80) in ports
        assert host.addresses is not None
        assert {address.ip for address in host.addresses.entries} >= {"127.0.0.1", "10.77.0.1"}
    assert b"net.ipv4.conf.all.rp_filter = 2" in files["sysctl.txt"]


# --- over ssh ---


class Server:
    """An sshd of this test's own on 127.0.0.1, and an environment whose `ssh` knows it as `web1`, and nobody as `web2`."""

    def __init__(self, folder: Path) -> None:
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized")
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.port, self.nobody = one.getsockname()[1], other.getsockname()[1]
        config = folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile none\nLogLevel ERROR\n"
        )
        client = folder / "ssh_config"
        client.write_text(
            f"Host *\n IdentityFile {folder}/user_key\n IdentitiesOnly yes\n StrictHostKeyChecking no\n UserKnownHostsFile {folder}/known\n"
            " HostName 127.0.0.1\n LogLevel ERROR\n BatchMode yes\n"
            f"Host web1 db.example.com\n Port {self.port}\nHost web2\n Port {self.nobody}\n"
        )
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        # sshd wants a folder /run/sshd; it gets one that only it sees
        own_run = "mount -t tmpfs none /run && mkdir -p -m 755 /run/sshd && exec "
        words = (
            ["unshare", "--mount", "sh", "-c", f"{own_run}{sshd} -D -e -f {config}"]
            if os.geteuid() == 0
            else [str(sshd), "-D", "-e", "-f", str(config)]
        )
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ssh = shutil.which("ssh")
        self.environment = world(folder, {"ssh": f'exec {ssh} -F {client} "$@"'})

    def is_ready(self) -> bool:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return True
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("ssh-keygen") is None or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        pytest.skip("OpenSSH's sshd is not installed")
    folder = tmp_path / "ssh"
    folder.mkdir()
    running = Server(folder)
    try:
        if not running.is_ready():
            pytest.skip("sshd cannot be started here")
        yield running
    finally:
        running.process.terminate()
        running.process.wait(10)


def test_hosts_over_ssh_and_one_that_fails(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = collect(tmp_path, "--ssh", "web1", "web2", "db.example.com", "-w", str(out), environment=server.environment)
    assert done.returncode == 3, done.stderr
    assert done.stdout.decode().splitlines() == [f"{out}/web1.tar", f"{out}/db.example.com.tar"]
    assert sorted(path.name for path in out.iterdir()) == ["db.example.com.tar", "web1.tar"]
    assert b"web2: ssh ended with status 255" in done.stderr
    with open_state(out / "web1.tar") as state:
        assert (state.host.name, state.vantage_point) == ("web1", "web1")
        assert state.host.kernel == os.uname().release
        assert "nstat.txt" in state.collected
    assert list(Path(server.environment["TMPDIR"]).iterdir()) == []


def test_one_host_over_ssh_to_a_file_and_to_standard_output(server: Server, tmp_path: Path) -> None:
    done = collect(tmp_path, "--ssh", "root@web1" if os.geteuid() == 0 else "web1", "-w", "mine.tar", environment=server.environment)
    assert (done.returncode, done.stdout) == (0, b"mine.tar\n"), done.stderr
    assert "host.json" in files_of((tmp_path / "mine.tar").read_bytes())
    assert "host.json" in files_of(collect(tmp_path, "--ssh", "web1", "-w", "-", environment=server.environment).stdout)
    failed = collect(tmp_path, "--ssh", "web2", environment=server.environment)
    assert (failed.returncode, failed.stdout) == (2, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.tar", "ssh"]


def test_the_printed_script_over_ssh_alone(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(["ssh", "web1", "sh", "-s"], input=script(), capture_output=True, env=server.environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "host.json" in files_of(done.stdout)


def test_a_host_that_answers_something_else_is_told(tmp_path: Path) -> None:
    environment = world(tmp_path, {"ssh": "echo welcome; exit 0"})
    done = collect(tmp_path, "--ssh", "web1", environment=environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no whole archive" in done.stderr
    assert not list(tmp_path.glob("*.tar")) + list(tmp_path.glob(".web*"))
