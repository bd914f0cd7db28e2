"""The programs that serve in a lab: a host and what it serves come in, a running nginx or Go proxy goes out."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .host import CommandFailed

if TYPE_CHECKING:
    from .host import Host

FILES = {"1k": 1_000, "20k": 20_000, "100k": 100_000}
GO_SOURCE = Path(__file__).parent / "goproxy" / "main.go"

NGINX_FRAME = """
user root root; daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {error_log} {level};
events {{ worker_connections {connections}; }}
http {{
  log_format served "$msec $request_time $connection $remote_addr $remote_port $server_addr $server_port $http_x_request_id";
  access_log {access_log};
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 64m; client_body_buffer_size 1m; default_type text/plain;
  {http}
}}
"""

BACKEND = """
  keepalive_timeout {keepalive}s; keepalive_requests 10000;
  server {{
    listen {listen};
    location / {{ return 200 "{name} says hello\\n"; }}
    location /files/ {{ alias {folder}/files/; }}
    location /slow/ {{ alias {folder}/files/; limit_rate {rate}; }}
    location /upload {{ proxy_pass http://unix:{folder}/stored.sock; }}
  }}
  server {{ listen unix:{folder}/stored.sock; location / {{ return 200 "stored\\n"; }} }}
"""


def nginx(
    host: Host, http: str, *, error_log: Path | None = None, level: str = "error", port: int = 80, served: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts nginx with `http` as the inside of its http block, and returns when it listens on `port`.

    `served` gets a line a request: when it ended, how long it took, the connection's number, both its ends, the request's X-Request-Id.
    """
    folder = host.scratch / f"nginx-{port}"
    folder.mkdir(exist_ok=True)
    conf = folder / "nginx.conf"
    errors = error_log or folder / "error.log"
    access_log = f"{served} served" if served else "off"
    connections = 1024 * host.world.options.load
    conf.write_text(
        NGINX_FRAME.format(folder=folder, error_log=errors, level=level, access_log=access_log, connections=connections, http=http)
    )
    process = host.start(["nginx", "-p", str(folder), "-e", str(errors), "-c", str(conf)])
    wait_until_listening(host, port, process)
    return process


def backend(
    host: Host,
    *,
    port: int = 80,
    keepalive: int = 65,
    address: str | None = None,
    rate: str = "30k",
    extra: str = "",
    served: Path | None = None,
) -> subprocess.Popen[bytes]:
    """An nginx that answers `/`, serves `/files/1k` …, reads uploads whole, and serves `/slow/` at `rate` bytes/s.

    `served` is what `nginx` takes.
    """
    folder = host.scratch / f"nginx-{port}"
    (folder / "files").mkdir(parents=True, exist_ok=True)
    for name, size in FILES.items():
        (folder / "files" / name).write_bytes(host.world.random.randbytes(size))
    wide = "[::]" if host.world.options.ip == "6" else "0.0.0.0"
    listen = f"{address or wide}:{port}{extra}"
    # nginx makes every socket in its own folder; a path of a socket may have 107 bytes at most (unix(7))
    text = BACKEND.format(listen=listen, name=host.name, folder=folder, keepalive=keepalive, rate=rate)
    return nginx(host, text, port=port, served=served)


def go_proxy(host: Host, target: str, *, port: int = 80, log: Path | None = None, words: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Starts the Go httputil.ReverseProxy towards `target` (a URL); its log goes to `log`."""
    binary = build_go_proxy()
    wide = "[::]" if host.world.options.ip == "6" else "0.0.0.0"
    process = host.start(
        [str(binary), "-listen", f"{wide}:{port}", "-target", target, *words],
        output=log or host.scratch / "go.log",
    )
    wait_until_listening(host, port, process)
    return process


def build_go_proxy() -> Path:
    """The proxy's program, built once for each state of its source and kept in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tcpwhy-lab"
    digest = hashlib.sha256(GO_SOURCE.read_bytes()).hexdigest()[:16]
    binary = cache / f"goproxy-{digest}"
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        raise CommandFailed("go: not found, the Go proxy cannot be built")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / "goproxy"
        environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": ""}
        done = subprocess.run(
            ["go", "build", "-o", str(fresh), str(GO_SOURCE)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(f"go build: {done.stderr.strip()}")
        fresh.rename(binary)
    return binary


def wait_until_listening(host: Host, port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when something listens on the TCP port; raises CommandFailed when the program ended before."""

    def listens() -> bool:
        if process.poll() is not None:
            words = (host.scratch / "output").read_text()[-500:]
            raise CommandFailed(f"{host.name}: the program for port {port} ended: {words}")
        return bool(host.run(["ss", "-Htln", f"sport = :{port}"]).strip())

    host.world.wait_for(listens, 20, f"a listener on {host.name}:{port}")


def listener(address: str, port: int, backlog: int = 64) -> socket.socket:
    """A listening socket, to be called inside a host."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock
