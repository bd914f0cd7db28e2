"""Real HAProxy before real nginx, on this machine's loopback; nginx answers who a connection is by itself and by its PROXY header."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HAPROXY = """\
global
    stats socket {folder}/haproxy.sock level {level}
    {more}
    maxconn 500
    nbthread 2
defaults
    timeout connect 5s
    timeout client 120s
    timeout server 120s
frontend tcp-v1
    mode tcp
    bind 127.0.3.1:{ports[0]}
    default_backend v1
frontend tcp-both
    mode tcp
    bind :::{ports[1]} v4v6
    default_backend v2
frontend web
    mode http
    bind 127.0.3.1:{ports[2]}
    default_backend web
backend v1
    mode tcp
    server one 127.0.3.2:{ports[3]} send-proxy source 127.0.3.9
backend v2
    mode tcp
    server one 127.0.3.2:{ports[3]} send-proxy-v2 source 127.0.3.9
backend web
    mode http
    server one 127.0.3.2:{ports[3]} send-proxy-v2 source 127.0.3.9
"""
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 400; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.3.2:{ports[3]} proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_port $remote_addr $remote_port"; }}
    }}
}}
"""
WAYS = (("127.0.3.1", 0), ("127.0.3.1", 1), ("::1", 1), ("127.0.3.1", 2))
"""Address and number of the port of each way to nginx; the last is mode http."""

Answer = tuple[tuple[str, int], tuple[str, int]]
"""The client by its PROXY header, and HAProxy's own end, as nginx sees them."""


class Programs:
    """The two programs while they run."""

    def __init__(self, folder: Path, ports: tuple[int, ...]) -> None:
        self.folder = folder
        self.ports = ports
        self.sockets: list[socket.socket] = []

    @property
    def stats(self) -> Path:
        return self.folder / "haproxy.sock"

    def close(self) -> None:
        """Ends the clients."""
        for one in self.sockets:
            one.close()

    def ask(self, command: str) -> list[str]:
        """What HAProxy answers on its stats socket."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self.stats))
            stats.sendall(command.encode() + b"\n")
            answer = b""
            while part := stats.recv(1 << 16):
                answer += part
        return answer.decode().splitlines()

    def connect(self, way: tuple[str, int]) -> Answer:
        """A connection that stays open, in mode http within a request, and what nginx says of it."""
        made = socket.create_connection((way[0], self.ports[way[1]]), timeout=10)
        self.sockets.append(made)
        made.sendall(b"POST / HTTP/1.1\r\nHost: nginx\r\nContent-Length: 1000\r\n\r\nabc")
        answer = b""
        while answer.count(b" ") < 5 or len(answer.rpartition(b"\r\n\r\n")[2].split()) < 4:
            part = made.recv(4096)
            assert part, answer
            answer += part
        client, port, own, own_port = answer.rpartition(b"\r\n\r\n")[2].decode().split()
        assert int(port) == made.getsockname()[1]
        return (client.removeprefix("::ffff:"), int(port)), (own, int(own_port))


def free_ports(count: int) -> tuple[int, ...]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)) for _ in range(count)]
        return tuple(one.getsockname()[1] for one in sockets)


@contextlib.contextmanager
def running(folder: Path, *, level: str = "operator", more: str = "") -> Iterator[Programs]:
    """Both programs, ready; `more` goes into HAProxy's global section. Skips the test where one is not installed."""
    for program in ("haproxy", "nginx"):
        if shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"{program} is not installed")
    ports = free_ports(4)
    folder.mkdir(exist_ok=True)
    (folder / "haproxy.cfg").write_text(HAPROXY.format(folder=folder, level=level, more=more.format(folder=folder), ports=ports))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, ports=ports))
    path = {"PATH": "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"}
    with contextlib.ExitStack() as stack:
        for command in (
            ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")],
            ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")],
        ):
            process = subprocess.Popen(command, env=path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        programs = Programs(folder, ports)
        stack.callback(programs.close)
        end = time.monotonic() + 20
        while not programs.stats.exists() or not all(_listens(port) for port in ports):
            assert time.monotonic() < end, "the programs did not start"
            time.sleep(0.05)
        yield programs


def _listens(port: int) -> bool:
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)
