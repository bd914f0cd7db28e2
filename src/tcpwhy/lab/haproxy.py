"""HAProxy on a host of the lab: what it listens on and how it names the client come in, a running proxy goes out."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .load import endpoint
from .services import wait_until_listening

if TYPE_CHECKING:
    from .host import Host

CONF = """
global
  stats socket {stats} mode 600 level admin
  nbthread 1
  pidfile {folder}/haproxy.pid
defaults
  mode {mode}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
{defaults}
frontend web
  bind {bind}
{frontend}  default_backend app
backend app
  balance roundrobin
{servers}
"""


def haproxy(
    host: Host,
    bind: tuple[str, int],
    servers: Sequence[tuple[str, int]],
    *,
    mode: str,
    words: str = "",
    defaults: str = "",
    frontend: str = "",
) -> None:
    """Starts HAProxy in `mode` (tcp or http) on `bind`; `words` stand behind each server, `defaults` and `frontend` in those sections.

    What it answers to `show sess all` becomes a file of the host's state.
    """
    folder = host.scratch
    stats, conf = folder / "haproxy.sock", folder / "haproxy.cfg"
    lines = "".join(f"  server s{number} {endpoint(*real)} {words}\n" for number, real in enumerate(servers, 1))
    sections = {"defaults": _indented(defaults), "frontend": _indented(frontend), "servers": lines}
    conf.write_text(CONF.format(stats=stats, folder=folder, mode=mode, bind=endpoint(*bind), **sections))
    process = host.start(["haproxy", "-db", "-f", str(conf)])
    wait_until_listening(host, bind[1], process)
    host.tables["haproxy-sessions.txt"] = lambda: ask(stats, "show sess all")


def _indented(lines: str) -> str:
    return "".join(f"  {line}\n" for line in lines.splitlines())


def ask(stats: Path, command: str) -> str:
    """What HAProxy answers to a command on its stats socket (management guide, section 9.3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(stats))
        sock.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()
