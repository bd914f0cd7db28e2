"""`tcpwhy follow -i` on interfaces of a namespace of its own, under traffic that `flood.py` sends."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.record.flood import sent_frames
from tests.record.segments import Conversation, pcapng_frames, toa

CHECKOUT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from tcpwhy.cli import main; main()", "follow"]
TICKS = os.sysconf("SC_CLK_TCK")

ONE_CLIENT = ("--real-client", "192.0.2.7")


class Namespace:
    """A network namespace with a cable whose two ends, near0 and far0, are both in it, for as long as a process holds it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "600"], stdin=subprocess.DEVNULL)
        self.enter = ["nsenter", "--net", f"--target={self._holder.pid}"]
        own = Path("/proc/self/ns/net").readlink()
        for _ in range(500):  # until unshare has made it
            with contextlib.suppress(OSError):
                if Path(f"/proc/{self._holder.pid}/ns/net").readlink() != own:
                    break
            time.sleep(0.01)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "near0", "mtu", "9000", "type", "veth", "peer", "name", "far0", "mtu", "9000")
        for name in ("near0", "far0"):
            self.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
            self.run("ip", "link", "set", name, "up")

    def run(self, *words: str) -> str:
        """What a command in the namespace prints."""
        done = subprocess.run([*self.enter, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def flood(self, interface: str, rate: int, seconds: float, connections: int, out: Path) -> dict[str, float]:
        """Sends, and returns what was sent."""
        words = [str(rate), str(seconds), str(connections), str(out)]
        done = subprocess.run(
            [*self.enter, sys.executable, "-m", "tests.record.flood", interface, *words],
            cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=seconds * 5 + 60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told: dict[str, float] = json.loads(done.stdout)
        return told

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "nsenter", "ip", "setpriv")):
        pytest.skip("only root makes a namespace and captures in it")
    made = Namespace()
    try:
        yield made
    finally:
        made.close()


class Running:
    """A `tcpwhy follow` that runs, from when it has begun to capture."""

    def __init__(self, namespace: Namespace, folder: Path, *words: str, prefix: tuple[str, ...] = ()) -> None:
        self.errors = folder / "stderr"
        self.answers = folder / "stdout"
        with self.errors.open("wb") as errors, self.answers.open("wb") as answers:
            self.process = subprocess.Popen(
                [*namespace.enter, *prefix, *COMMAND, *words], stdin=subprocess.DEVNULL, stdout=answers, stderr=errors, cwd=folder
            )
        self.wait_for("AF_PACKET ring")

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + 60
        while text not in self.errors.read_text():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < until, self.errors.read_text()
            time.sleep(0.02)

    def wait_for_lines(self, count: int) -> None:
        until = time.monotonic() + 60
        while self.answers.read_bytes().count(b"\n") < count and time.monotonic() < until:
            time.sleep(0.05)

    def cpu_seconds(self) -> float:
        """Processor time until now, in the process and in the kernel for it (proc(5): utime and stime)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def test_what_is_said_and_what_is_left(namespace: Namespace, tmp_path: Path) -> None:
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "near0", "-w", "out.pcapng", "--header", "X-Team")
    assert "promiscuity 1" in namespace.run("ip", "-d", "link", "show", "near0")
    told = namespace.flood("far0", 0, 1, 3, tmp_path / "sent")
    running.wait_for_lines(int(told["requests"]))
    assert running.end() == 130
    errors = running.errors.read_text()
    assert "classic BPF filter: tcp" in errors
    assert "only connections that are opened from now on can be chosen" in errors
    assert "3 connections followed, 99 packets of them, 30 request heads" in errors
    assert re.search(r"\n\d+ packets passed the filter, 0 dropped", errors)
    assert errors.count("TCP option 254/8 names the client") == 3
    assert "was open before" not in errors
    lines = running.answers.read_text().splitlines()
    assert len(lines) == 30
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} \S+  "
        r"192\.0\.2\.7:4660  10\.0\.0\.1:2000 > 10\.0\.0\.5:80  GET /0 HTTP/1\.1  X-Team: team-0",
        lines[0],
    )
    sent = sent_frames((tmp_path / "sent").read_bytes())
    assert pcapng_frames((tmp_path / "out.pcapng").read_bytes()) == sent
    assert "promiscuity 0" in namespace.run("ip", "-d", "link", "show", "near0")


def test_a_killed_one_leaves_nothing(namespace: Namespace, tmp_path: Path) -> None:
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "near0", "-w", "out.pcapng")
    told = namespace.flood("far0", 0, 0.5, 2, tmp_path / "sent")
    running.wait_for_lines(int(told["requests"]))
    time.sleep(0.5)
    running.end(signal.SIGKILL)
    assert "promiscuity 0" in namespace.run("ip", "-d", "link", "show", "near0")
    assert pcapng_frames((tmp_path / "out.pcapng").read_bytes()) == sent_frames((tmp_path / "sent").read_bytes())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_it_cleanly(number: int, status: int, namespace: Namespace, tmp_path: Path) -> None:
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "near0", "-p", "-w", "out.pcapng", "--json")
    assert "promiscuity 0" in namespace.run("ip", "-d", "link", "show", "near0")
    told = namespace.flood("far0", 0, 0.5, 2, tmp_path / "sent")
    running.wait_for_lines(int(told["requests"]) + 2)
    assert running.end(number) == status
    events = [json.loads(line) for line in running.answers.read_text().splitlines()]
    assert [event["event"] for event in events].count("request") == told["requests"]
    assert (events[-1]["event"], events[-1]["how"], events[-1]["dropped"]) == ("end", "stopped", 0)
    assert pcapng_frames((tmp_path / "out.pcapng").read_bytes()) == sent_frames((tmp_path / "sent").read_bytes())


def test_ends_by_itself_after_so_many_packets(namespace: Namespace, tmp_path: Path) -> None:
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "any", "-c", "7", "-w", "out.pcapng")
    namespace.flood("far0", 0, 0.5, 2, tmp_path / "sent")
    assert running.process.wait(30) == 0
    frames = pcapng_frames((tmp_path / "out.pcapng").read_bytes())
    assert len(frames) == 7
    assert set(frames) <= set(sent_frames((tmp_path / "sent").read_bytes()))


def test_every_interface_copies_and_loopback_once(namespace: Namespace, tmp_path: Path) -> None:
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "any", "-w", "out.pcapng")
    told = namespace.flood("lo", 0, 0.5, 2, tmp_path / "sent")
    running.wait_for_lines(int(told["requests"]))
    running.end()
    data = (tmp_path / "out.pcapng").read_bytes()
    assert pcapng_frames(data) == sent_frames((tmp_path / "sent").read_bytes())
    assert b"\x02\0\x02\0lo\0\0" in data  # if_name


def test_a_user_with_that_capability_alone(namespace: Namespace, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+net_raw")
    if subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", "import tcpwhy._core"], check=False).returncode:
        pytest.skip("this checkout cannot be read by another user")
    running = Running(
        namespace, tmp_path, *ONE_CLIENT, "-i", "near0", "-w", "out.pcapng",
        prefix=(*nobody, "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"),
    )  # fmt: skip
    effective = re.search(r"CapEff:\s*(\w+)", Path(f"/proc/{running.process.pid}/status").read_text())
    assert effective is not None
    assert int(effective[1], 16) == 1 << 13  # CAP_NET_RAW of linux/capability.h
    told = namespace.flood("far0", 0, 0.5, 2, tmp_path / "sent")
    running.wait_for_lines(int(told["requests"]))
    assert running.end() == 130
    assert pcapng_frames((tmp_path / "out.pcapng").read_bytes()) == sent_frames((tmp_path / "sent").read_bytes())
    refused = subprocess.run(
        [*namespace.enter, *nobody, "--inh-caps=-all", *COMMAND, *ONE_CLIENT, "-i", "near0", "-w", "other.pcapng"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert refused.stderr.startswith("near0: no permission to capture packets, expected root or the capability CAP_NET_RAW\n\nhint: ")
    assert not (tmp_path / "other.pcapng").exists()


def test_the_interface_goes_away(namespace: Namespace, tmp_path: Path) -> None:
    namespace.run("ip", "link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
    namespace.run("ip", "link", "set", "gone0", "up")
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "gone0")
    namespace.run("ip", "link", "set", "gone0", "down")
    running.wait_for("gone0 went down")
    namespace.run("ip", "link", "del", "gone0")
    assert running.process.wait(30) == 3
    assert "gone0: the interface is gone" in running.errors.read_text()


def test_no_such_interface(namespace: Namespace, tmp_path: Path) -> None:
    done = subprocess.run([*namespace.enter, *COMMAND, *ONE_CLIENT, "-i", "no0"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no0: no such interface\n")


def test_a_ring_that_is_full_is_told(namespace: Namespace, tmp_path: Path) -> None:
    running = Running(namespace, tmp_path, *ONE_CLIENT, "-i", "near0", "-B", "2048")
    running.process.send_signal(signal.SIGSTOP)
    namespace.flood("far0", 50_000, 1, 1, tmp_path / "sent")
    running.process.send_signal(signal.SIGCONT)
    running.wait_for("packets were dropped, for the ring had no room")
    running.end()
    dropped = re.search(r"(\d+) packets passed the filter, (\d+) dropped", running.errors.read_text())
    assert dropped is not None
    assert 0 < int(dropped[2]) < int(dropped[1])


def lossless(namespace: Namespace, folder: Path, interface: str, rate: int, seconds: float) -> tuple[float, float]:
    """Follows 50 connections amid a flood; the share of one processor that it took, and the rate that the flood reached."""
    out = "near0" if interface == "far0" else interface
    running = Running(namespace, folder, *ONE_CLIENT, "-i", out, "-w", "out.pcapng", "--header", "X-Team")
    before, begun = running.cpu_seconds(), time.monotonic()
    told = namespace.flood(interface, rate, seconds, 50, folder / "sent")
    used, took = running.cpu_seconds() - before, time.monotonic() - begun
    running.wait_for_lines(int(told["requests"]))
    assert running.end() == 130
    errors = running.errors.read_text()
    sent = collections.Counter(sent_frames((folder / "sent").read_bytes()))
    got = collections.Counter(pcapng_frames((folder / "out.pcapng").read_bytes()))
    assert (sent - got, got - sent) == (collections.Counter(), collections.Counter()), errors
    assert sent.total() == told["followed"]
    assert running.answers.read_bytes().count(b"X-Team: team-") == told["requests"]
    assert "50 connections followed" in errors
    assert re.search(r"\b0 dropped", errors), errors
    print(f"{interface}: {told}, {used:.2f} s of {took:.1f} s, {errors.splitlines()[-2]}")
    return used / took, told["others"] / told["seconds"]


@pytest.mark.parametrize("interface", ["far0", "lo"])
def test_loses_nothing_amid_other_traffic(interface: str, namespace: Namespace, tmp_path: Path) -> None:
    share, _ = lossless(namespace, tmp_path, interface, 50_000, 3)
    assert share < 0.5


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("TCPWHY_FULL_LOAD"), reason="needs two idle processors for 20 s: TCPWHY_FULL_LOAD=1")
@pytest.mark.parametrize("interface", ["far0", "lo"])
def test_loses_nothing_amid_two_hundred_thousand_packets_a_second(interface: str, namespace: Namespace, tmp_path: Path) -> None:
    share, rate = lossless(namespace, tmp_path, interface, 200_000, 20)
    assert rate > 190_000
    assert share < 0.5


_SEND = """
import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind((sys.argv[1], 0))
for line in sys.stdin.read().split():
    sender.send(bytes.fromhex(line))
"""


def send(namespace: Namespace, interface: str, frames: list[bytes]) -> None:
    """Sends frames as they are."""
    text = "\n".join(frame.hex() for frame in frames)
    subprocess.run([*namespace.enter, sys.executable, "-c", _SEND, interface], input=text, text=True, check=True)


def test_tags_that_the_kernel_took_off_are_put_back(namespace: Namespace, tmp_path: Path) -> None:
    six = Conversation("[2001:db8::1]:1025", "[2001:db8::5]:80", toa("[2001:db8:1::7]:4660", before=1))
    plain = [segment.frame() for segment in [*six.opening(), *six.exchanges(2)]]
    tags = [b"\x81\x00\x20\x05", b"\x88\xa8\x00\x07", b"\x88\xa8\x00\x07\x81\x00\x00\x05"]
    running = Running(namespace, tmp_path, "--real-client", "2001:db8:1::7", "-i", "near0", "-w", "out.pcapng")
    frames = [frame[:12] + tags[number % 3] + frame[12:] for number, frame in enumerate(plain)]
    send(namespace, "far0", frames)
    running.wait_for_lines(2)
    assert running.end() == 130
    assert running.answers.read_text().count("[2001:db8:1::7]:4660  [2001:db8::1]:1025 > [2001:db8::5]:80  GET /") == 2
    assert pcapng_frames((tmp_path / "out.pcapng").read_bytes()) == frames


_TALK = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
print("%s:%d-%s:%d" % (*client.getsockname(), *server.getsockname()), flush=True)
input()
request = b"POST /big HTTP/1.1\\r\\nContent-Length: 4000000\\r\\n\\r\\n" + b"x" * 4000000
threading.Thread(target=lambda: (client.sendall(request), client.close())).start()
while server.recv(1 << 20):
    pass
"""


def test_frames_that_offload_made_large_are_whole(namespace: Namespace, tmp_path: Path) -> None:
    talk = subprocess.Popen([*namespace.enter, sys.executable, "-c", _TALK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert talk.stdout is not None
    running = Running(namespace, tmp_path, "--connection", talk.stdout.readline().strip(), "-i", "lo", "-w", "out.pcapng")
    talk.communicate("\n", timeout=60)
    time.sleep(0.5)  # nothing answers the request, which is told at the end: in mid-stream only what follows makes it certain
    assert running.end() == 130
    assert "POST /big HTTP/1.1" in running.answers.read_text()
    frames = pcapng_frames((tmp_path / "out.pcapng").read_bytes())
    assert max(map(len, frames)) > 32_768
    assert sum(len(frame) - 66 for frame in frames) >= 4_000_000  # Ethernet, IPv4, TCP with timestamps
