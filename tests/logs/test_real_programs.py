"""What the nginx and the Go of this host write today is understood."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcpwhy.evidence import Source
from tcpwhy.tables.logs import LogEvent, LogReading, read_log
from tests.programs import installed

GO = """package main
import ("log"; "net/http"; "net/http/httputil"; "net/url"; "os")
func main() {
	target, _ := url.Parse(os.Args[2])
	log.Fatal(http.ListenAndServe(os.Args[1], httputil.NewSingleHostReverseProxy(target)))
}
"""


@contextlib.contextmanager
def resetting_server() -> Iterator[int]:
    """A server that reads a request and answers with RST."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.recv(4096)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ask(port: int) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=5)
        except urllib.error.HTTPError as error:
            code = error.code
            break
        except OSError:
            time.sleep(0.05)
    else:
        pytest.fail("the proxy did not answer")
    assert code == 502


def events(path: Path) -> list[LogEvent]:
    reading = LogReading()
    read_log(path, Source("gw", path.name), reading)
    return reading.events


@contextlib.contextmanager
def running(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(command, stderr=out, stdout=out, env=environment) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.mark.parametrize("fault", ["reset", "refused"])
def test_nginx(tmp_path: Path, fault: str) -> None:
    program = installed("nginx")
    with resetting_server() as resetting:
        upstream, port = resetting if fault == "reset" else free_port(), free_port()
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log info;\n"
            "events {}\nhttp { access_log off;\n"
            + "".join(f"{kind}_temp_path {tmp_path};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }} }}\n",
            encoding="ascii",
        )
        with running([program, "-c", f"{tmp_path}/nginx.conf", "-p", str(tmp_path)], tmp_path / "out"):
            ask(port)
    found = [event for event in events(tmp_path / "error.log") if event.failing]
    assert [(event.dialect, event.kind, event.remote, event.client) for event in found] == [
        ("nginx_error", fault, f"127.0.0.1:{upstream}", "127.0.0.1")
    ]


@pytest.mark.parametrize("fault", ["reset", "refused"])
def test_go(tmp_path: Path, fault: str) -> None:
    program = installed("go")
    (tmp_path / "main.go").write_text(GO, encoding="ascii")
    cache = os.environ.get("GOCACHE") or str(Path("~/.cache/go-build").expanduser())
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": cache, "GOFLAGS": ""}
    build = [program, "build", "-o", str(tmp_path / "proxy"), str(tmp_path / "main.go")]
    subprocess.run(build, check=True, env=environment, cwd=tmp_path)
    with resetting_server() as resetting:
        upstream, port = resetting if fault == "reset" else free_port(), free_port()
        with running(
            [str(tmp_path / "proxy"), f"127.0.0.1:{port}", f"http://127.0.0.1:{upstream}"],
            tmp_path / "go.log",
        ):
            ask(port)
    found = events(tmp_path / "go.log")
    assert {(event.dialect, event.kind, event.remote, event.failing) for event in found} == {
        ("go_http", fault, f"127.0.0.1:{upstream}", True)
    }
    assert all((event.local is not None) == (fault == "reset") for event in found)
