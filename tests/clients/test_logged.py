"""Log lines that tell both sides of a balancer: DPVS's, and those of a real nginx with its stream module."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.clients.logged import logged_translations
from tcpwhy.clients.row import Ends, Translation
from tcpwhy.evidence import open_evidence
from tests.state.haproxy_programs import free_ports

NAMED = "TOA add failed(no room): [10.0.0.9]:40001 -> [10.0.0.1]:80; [10.0.10.1]:1025 -> [10.0.10.5]:8080"
NAMED_6 = "TOA add failed(need fragment (1)): [2001:db8::9]:40001 -> [2001:db8::1]:80; [10.0.10.1]:1026 -> [10.0.10.5]:8080"
BEFORE = Ends("10.0.0.9", 40001, "10.0.0.1", 80)
BEHIND = Ends("10.0.10.1", 1025, "10.0.10.5", 8080)
PREFIXES = {
    "IPVS: ": None,
    "2026-11-21 12:00:01 IPVS: ": None,
    "2026-11-21T12:00:01.5+08:00 IPVS: ": 1795233601_500000000,
    "Nov 21 12:00:01 lb1 dpvs[812]: IPVS: ": None,
    "2026-11-21T12:00:01.5Z lb1 dpvs[812]: IPVS: ": 1795262401_500000000,
    "[12345.678901] IPVS: ": None,
}


def all_of(folder: Path, text: str, *, name: str = "dpvs.log", state: str = "") -> list[Translation]:
    host = folder / "lb"
    (host / "state").mkdir(parents=True, exist_ok=True)
    (host / "state" / "host.json").write_text(state or "{}")
    (host / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    with open_evidence([str(folder)]) as evidence:
        return list(logged_translations(evidence))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["dpvs.log", "syslog.1.gz"])
def test_dpvs_s_line_under_any_prefix(prefix: str, name: str, tmp_path: Path) -> None:
    (one,) = all_of(tmp_path, f"2026-11-21 11:00:00 begun\n\n{prefix}{NAMED}\n", name=name)
    assert (one.before, one.behind, one.basis, one.is_open, one.may_be_shared) == (BEFORE, BEHIND, "log", True, False)
    assert (one.source.file, one.source.line, one.vantage_point) == (f"lb/{name}", 3, "lb")
    assert one.taken_ns == PREFIXES[prefix]


def test_the_host_s_own_zone_makes_a_wall_clock_a_time(tmp_path: Path) -> None:
    (one,) = all_of(tmp_path, f"2026-11-21 12:00:01 IPVS: {NAMED}\n", state='{"utc_offset": "+08:00"}')
    assert one.taken_ns == 1795233601_000000000


def test_a_client_of_ipv6_before_servers_of_ipv4(tmp_path: Path) -> None:
    (one,) = all_of(tmp_path, f"2026-11-21T12:00:01Z IPVS: {NAMED_6}\n")
    assert (one.before, one.behind) == (Ends("2001:db8::9", 40001, "2001:db8::1", 80), Ends("10.0.10.1", 1026, "10.0.10.5", 8080))


def test_repeated_lines_are_one_until_the_ports_may_be_another_connection_s(tmp_path: Path) -> None:
    times = ("12:00:01", "12:00:01", "12:00:50", "13:00:00")
    found = all_of(tmp_path, "".join(f"2026-11-21T{clock}Z IPVS: {NAMED}\n" for clock in times))
    assert [one.source.line for one in found] == [1, 4]


@pytest.mark.parametrize(
    "line",
    [
        NAMED.replace("[10.0.0.9]", "[10.0.0.999]"),
        NAMED.replace(":40001", ":0"),
        NAMED.replace(":40001", ":70000"),
        NAMED.replace("; [", " ["),
        NAMED[:-30],
        f'10.0.0.66 - - [21/Nov/2026:12:00:01 +0000] "GET / HTTP/1.1" 200 2 "-" "IPVS: {NAMED}"',
        NAMED + "12345",
    ],
)
def test_a_damaged_line_names_nobody(line: str, tmp_path: Path) -> None:
    assert all_of(tmp_path, f"2026-11-21T12:00:01Z IPVS: {line}\n") == []


STREAM = """\
2026/11/21 16:30:56 [info] 812#812: *34 client 10.0.0.9:35410 connected to 0.0.0.0:80
2026/11/21 16:30:56 [info] 812#812: *35 client [2001:db8::9]:35411 connected to [::]:80
2026/11/21 16:30:57 [info] 812#812: *35 proxy [2001:db8:1::1]:48837 connected to [2001:db8:1::5]:8080
2026/11/21 16:30:57 [info] 812#812: *34 proxy 10.0.10.1:48836 connected to 10.0.10.5:8080
2026/11/21 16:30:58 [info] 812#812: *36 udp client 10.0.0.9:35412 connected to 0.0.0.0:53
2026/11/21 16:30:58 [info] 812#812: *36 udp proxy 10.0.10.1:48838 connected to 10.0.10.5:53
2026/11/21 16:30:59 [info] 812#812: *34 proxy 10.0.10.1:50000 connected to 10.0.10.5:8080
2026/11/21 16:30:59 [info] 813#813: *37 client 10.0.0.9:35413 connected to 0.0.0.0:80
2026/11/21 16:30:59 [info] 812#812: *37 proxy 10.0.10.1:50001 connected to 10.0.10.5:8080
"""


def test_the_two_lines_of_nginx_are_joined_by_process_and_number(tmp_path: Path) -> None:
    found = all_of(tmp_path, STREAM, name="error.log", state='{"utc_offset": "+00:00"}')
    assert [(one.before, one.behind, one.source.line) for one in found] == [
        (Ends("2001:db8::9", 35411, "::", 80), Ends("2001:db8:1::1", 48837, "2001:db8:1::5", 8080), 3),
        (Ends("10.0.0.9", 35410, "0.0.0.0", 80), Ends("10.0.10.1", 48836, "10.0.10.5", 8080), 4),
    ]
    assert found[1].taken_ns == 1795278657_000000000


def test_what_a_client_writes_into_its_request_is_not_nginx_s_word(tmp_path: Path) -> None:
    feigned = "".join(f'10.0.0.66 - - "GET / HTTP/1.1" 200 2 "{line}"\n' for line in STREAM.splitlines())
    assert all_of(tmp_path, feigned, name="access.log") == []


NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/lb/error.log info;
{load}
events {{ worker_connections 100; }}
stream {{ server {{ listen 127.0.3.1:{front}; proxy_pass 127.0.3.2:{back}; proxy_bind 127.0.3.9; }} }}
"""
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@contextlib.contextmanager
def listening(port: int) -> Iterator[list[tuple[bytes, tuple[str, int]]]]:
    """What the server behind is told by each client, and the address it sees of it."""
    seen: list[tuple[bytes, tuple[str, int]]] = []
    with socket.create_server(("127.0.3.2", port)) as server, contextlib.ExitStack() as stack:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, peer = server.accept()
                    stack.callback(connection.close)
                    seen.append((connection.recv(100), peer))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_real_nginx_with_its_stream_module(tmp_path: Path) -> None:
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed")
    front, back = free_ports(2)
    (tmp_path / "lb").mkdir()
    load = f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, front=front, back=back, load=load))
    command = ["/usr/sbin/nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    if b'unknown directive "stream"' in subprocess.run([*command, "-t"], capture_output=True, check=False).stderr:
        pytest.fail("this nginx has no stream module: scripts/install-debian-packages brings it")
    with listening(back) as seen, contextlib.ExitStack() as stack:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        end = time.monotonic() + 20
        truth: dict[bytes, tuple[str, int]] = {}
        while len(truth) < 8:
            try:
                client = stack.enter_context(socket.create_connection(("127.0.3.1", front), timeout=5))
            except ConnectionRefusedError:
                assert time.monotonic() < end, "nginx did not start"
                time.sleep(0.05)
                continue
            name = str(client.getsockname()[1]).encode()
            client.sendall(name)
            truth[name] = client.getsockname()
        while len(seen) < 8:
            assert time.monotonic() < end, "the server was not reached"
            time.sleep(0.05)
    with open_evidence([str(tmp_path)]) as evidence:
        found = list(logged_translations(evidence))
    behind = {(one.behind.client_ip, one.behind.client_port): (one.before.client_ip, one.before.client_port) for one in found}
    assert behind == {peer: truth[name] for name, peer in seen}
    assert {(one.before.server_ip, one.before.server_port) for one in found} == {("127.0.3.1", front)}
    assert {(one.behind.server_ip, one.behind.server_port) for one in found} == {("127.0.3.2", back)}


@given(st.lists(st.sampled_from([NAMED, NAMED_6, *STREAM.splitlines()]) | st.text(max_size=80).map(lambda text: f"TOA add failed({text}")))
def test_any_lines_end_in_translations_that_a_line_tells(lines: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = all_of(Path(folder), "\n".join(["2026-11-21T12:00:01Z begun", *lines]))
    assert len(found) <= len(lines)
    assert {one.before.client_ip for one in found} <= {"10.0.0.9", "2001:db8::9"}
