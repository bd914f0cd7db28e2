"""What the HAProxy and the nginx access log of this host, and its Python, Node and Java, say of five ways to fail is told apart today."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.logs.test_real_programs import events, free_port, running
from tests.programs import installed

LATE_S = 3.0
"""So late the slow server answers; clients wait for 0.5 s."""


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _closes(_connection: socket.socket) -> None:
    """Goes without a word."""


def _cut_short(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")


def _late(_connection: socket.socket) -> None:
    time.sleep(LATE_S)


def _well(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


WAYS: dict[str, Callable[[socket.socket], None]] = {"reset": _reset, "eof": _closes, "cut": _cut_short, "late": _late, "well": _well}


@contextlib.contextmanager
def servers() -> Iterator[dict[str, int]]:
    """The port of a server for each way, and of none for `refused`."""
    with contextlib.ExitStack() as stack:
        ports = {"refused": free_port()}
        for name, act in WAYS.items():
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports[name] = listening.getsockname()[1]
            threading.Thread(target=_serve, args=(listening, act), daemon=True).start()
        yield ports


def _serve(listening: socket.socket, act: Callable[[socket.socket], None]) -> None:
    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(4096)
            act(connection)

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()


def ask(port: int, path: str) -> None:
    """One request; what comes of it stands in the log."""
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.connect()
            break
        except OSError:
            time.sleep(0.05)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        connection.getresponse().read()


def test_haproxy(tmp_path: Path) -> None:
    haproxy, port = installed("haproxy"), free_port()
    with servers() as ports:
        uses = "".join(f" use_backend {name} if {{ path /{name} }}\n" for name in ports)
        backends = "".join(f"backend {name}\n mode http\n server s1 127.0.0.1:{number}\n" for name, number in ports.items())
        (tmp_path / "haproxy.cfg").write_text(
            "global\n log stdout format raw local0\ndefaults\n log global\n mode http\n retries 0\n"
            " timeout connect 2s\n timeout client 9s\n timeout server 500ms\n"
            f"frontend f\n bind 127.0.0.1:{port}\n"
            ' log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r'
            ' %bi:%bp %si:%sp"\n'
            f"{uses}{backends}"
        )
        with running([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], tmp_path / "out.log"):
            for name in ports:
                ask(port, f"/{name}")
            time.sleep(0.3)
    found = {event.asked: event for event in events(tmp_path / "out.log") if event.failing}
    assert {path: (event.dialect, event.kind) for path, event in found.items()} == {
        "/refused": ("haproxy", "refused"),
        "/reset": ("haproxy", "ended"),
        "/eof": ("haproxy", "ended"),
        "/cut": ("haproxy", "ended"),
        "/late": ("haproxy", "timeout_reading"),
    }
    for path in ("/reset", "/eof", "/late"):
        assert found[path].remote == f"127.0.0.1:{ports[path[1:]]}"
        assert (found[path].local or "").startswith("127.0.0.1:")
    assert (found["/late"].waited_ns or 0) == pytest.approx(0.5e9, abs=0.25e9)


NAMED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
    ' uaddr="$upstream_addr" ustatus="$upstream_status" uct="$upstream_connect_time" uht="$upstream_header_time"'
)
INGRESS = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length'
    " $request_time [app] [] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id"
)
JSON = (
    '{"msec":"$msec","remote_addr":"$remote_addr","request":"$request","status":$status,"upstream_addr":"$upstream_addr",'
    '"upstream_status":"$upstream_status","upstream_connect_time":"$upstream_connect_time","upstream_header_time":"$upstream_header_time"}'
)


def test_nginx_access_logs(tmp_path: Path) -> None:
    nginx, port = installed("nginx"), free_port()
    with servers() as ports:
        places = "".join(f"location /{name} {{ proxy_pass http://127.0.0.1:{number}; }}\n" for name, number in ports.items())
        temporary = "".join(f"{kind}_temp_path {tmp_path};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log error;\nevents {{}}\n"
            f"http {{ log_format named '{NAMED}'; log_format ingress '{INGRESS}'; log_format js escape=json '{JSON}';\n"
            f"access_log {tmp_path}/named.log named; access_log {tmp_path}/ingress.log ingress; access_log {tmp_path}/js.log js;\n"
            f"{temporary}proxy_read_timeout 500ms;\n"
            f"upstream two {{ server 127.0.0.1:{ports['refused']}; server 127.0.0.1:{ports['well']}; }}\n"
            f"server {{ listen 127.0.0.1:{port}; {places} location /two {{ proxy_pass http://two; }} }} }}\n"
        )
        with running([nginx, "-c", f"{tmp_path}/nginx.conf", "-p", str(tmp_path)], tmp_path / "out"):
            for name in (*ports, "two", "two"):
                ask(port, f"/{name}")
    told = {"/refused": "other", "/reset": "ended", "/eof": "ended", "/late": "timeout_reading", "/two": "other"}
    for name in ("named", "js"):
        found = {event.asked: event for event in events(tmp_path / f"{name}.log")}
        assert {path: event.kind for path, event in found.items()} == told, name
        assert found["/two"].remote == f"127.0.0.1:{ports['refused']}"
        assert all(event.time_ns is not None and event.client == "127.0.0.1" for event in found.values())
    found = {event.asked: event for event in events(tmp_path / "ingress.log")}
    assert {path: event.kind for path, event in found.items()} == {path: "timeout" if path == "/late" else "other" for path in told}


def test_python(tmp_path: Path) -> None:
    script = (
        "import logging, sys, urllib.request\n"
        "logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s')\n"
        "for port in sys.argv[1:]:\n"
        "    try: urllib.request.urlopen(f'http://127.0.0.1:{port}/x', timeout=0.5).read()\n"
        "    except Exception: logging.exception('asked %s', port)\n"
    )
    with servers() as ports:
        order = ("refused", "reset", "eof", "cut", "late", "well")
        run = subprocess.run([sys.executable, "-c", script, *(str(ports[name]) for name in order)], capture_output=True, check=True)
    (tmp_path / "app.log").write_bytes(run.stderr)
    found = events(tmp_path / "app.log")
    assert [(event.dialect, event.kind) for event in found] == [
        ("python", kind) for kind in ("refused", "reset", "eof", "eof", "timeout")
    ]  # fmt: skip
    assert all(event.naive_time_ns is not None for event in found)


def test_node(tmp_path: Path) -> None:
    node = installed("node")
    script = (
        "const http = require('node:http');\n"
        "(async () => { for (const port of process.argv.slice(1)) await new Promise(done => {\n"
        "  const asked = http.get({host: '127.0.0.1', port, path: '/x'}, answer => {\n"
        "    answer.on('data', () => {}); answer.on('error', e => { console.error(e); done() }); answer.on('end', done) });\n"
        "  asked.on('error', e => { console.error(e); done() }) }) })();\n"
    )
    with servers() as ports:
        order = ("refused", "reset", "eof", "cut", "well")
        run = subprocess.run([node, "-e", script, *(str(ports[name]) for name in order)], capture_output=True, check=True)
    (tmp_path / "app.log").write_bytes(run.stderr)
    found = events(tmp_path / "app.log")
    assert [(event.dialect, event.kind) for event in found] == [("node", kind) for kind in ("refused", "reset", "eof", "eof")]
    assert found[0].remote == f"127.0.0.1:{ports['refused']}"


JAVA = """
import java.net.*;
public class Asks { public static void main(String[] ports) {
    for (String port : ports) try {
        var asked = (HttpURLConnection) new URL("http://127.0.0.1:" + port + "/x").openConnection();
        asked.setReadTimeout(500);
        asked.getInputStream().readAllBytes();
    } catch (Exception error) { error.printStackTrace(); }
} }
"""


def test_java(tmp_path: Path) -> None:
    java = installed("java") if installed("javac") else ""
    (tmp_path / "Asks.java").write_text(JAVA)
    with servers() as ports:
        order = ("refused", "reset", "eof", "late", "well")
        command = [java, str(tmp_path / "Asks.java"), *(str(ports[name]) for name in order)]
        run = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    (tmp_path / "app.log").write_bytes(run.stderr)
    assert [(event.dialect, event.kind) for event in events(tmp_path / "app.log")] == [
        ("java", kind) for kind in ("refused", "reset", "eof", "timeout_reading")
    ]  # fmt: skip
