"""Raw outputs of commands go in, the tables of a host come out: a state folder that a test writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tcpwhy.evidence.state import State
from tcpwhy.tables.host import HostTables

RULES = [
    {"priority": 0, "src": "all", "table": "local"},
    {"priority": 32766, "src": "all", "table": "main"},
    {"priority": 32767, "src": "all", "table": "default"},
]

LISTENERS = """\
LISTEN 0 128 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=812,fd=6))
LISTEN 3 2 0.0.0.0:81 0.0.0.0:*
LISTEN 0 128 127.0.0.1:15001 0.0.0.0:* users:(("envoy",pid=9,fd=6))
"""


def link(index: int, name: str, **more: object) -> dict[str, object]:
    flags = ["LOOPBACK", "UP", "LOWER_UP"] if name == "lo" else ["BROADCAST", "UP", "LOWER_UP"]
    return {"ifindex": index, "ifname": name, "flags": flags, "mtu": 1500, "address": "02:00:00:00:00:01", **more}


def address(name: str, *networks: str) -> dict[str, object]:
    infos = []
    for number, network in enumerate(networks):
        ip, _, length = network.partition("/")
        scope = "host" if ip.startswith("127.") else "global"
        infos.append({"family": "inet", "local": ip, "prefixlen": int(length), "scope": scope, **({"secondary": True} if number else {})})
    return {"ifname": name, "addr_info": infos}


def local(ip: str, dev: str) -> dict[str, object]:
    return {
        "type": "local",
        "dst": ip,
        "dev": dev,
        "table": "local",
        "scope": "host",
        "prefsrc": ip.partition("/")[0].replace("127.0.0.0", "127.0.0.1"),
    }


ROUTER: dict[str, object] = {
    "ip-link.json": [link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
    "ip-addr.json": [address("lo", "127.0.0.1/8"), address("eth0", "10.0.0.1/24", "10.0.0.9/24"), address("eth1", "10.1.0.1/24")],
    "ip-route.json": [
        local("127.0.0.0/8", "lo"),
        local("10.0.0.1", "eth0"),
        local("10.0.0.9", "eth0"),
        local("10.1.0.1", "eth1"),
        {"type": "broadcast", "dst": "10.0.0.255", "dev": "eth0", "table": "local", "scope": "link"},
        {"dst": "10.0.0.0/24", "dev": "eth0", "scope": "link", "prefsrc": "10.0.0.1"},
        {"dst": "10.1.0.0/24", "dev": "eth1", "scope": "link", "prefsrc": "10.1.0.1"},
        {"dst": "10.66.0.0/16", "type": "blackhole"},
        {"dst": "10.67.0.0/16", "type": "prohibit"},
        {"dst": "10.68.0.0/16", "type": "unreachable"},
        {"dst": "172.16.0.0/12", "gateway": "10.1.0.254", "dev": "eth1"},
    ],
    "ip-rule.json": RULES,
    "iptables-save.txt": "",
    "ss-tcp.txt": LISTENERS,
    "conntrack.txt": "",
}

SETTINGS = {
    "net.ipv4.ip_forward": 1,
    **{f"net.ipv4.conf.{name}.rp_filter": 0 for name in ("all", "lo", "eth0", "eth1", "tunl0")},
    **{f"net.ipv4.conf.{name}.forwarding": 1 for name in ("all", "lo", "eth0", "eth1", "tunl0")},
    **{f"net.ipv4.conf.{name}.{key}": 0 for name in ("all", "lo", "eth0", "eth1", "tunl0") for key in
       ("accept_local", "route_localnet", "src_valid_mark", "send_redirects")},
}  # fmt: skip


def host(folder: Path, files: Mapping[str, object] | None = None, *, settings: Mapping[str, int] | None = None,
         without: Sequence[str] = ()) -> HostTables:  # fmt: skip
    """ROUTER, with `files` in the place of its own (text, or what becomes JSON), and `settings` over SETTINGS."""
    sysctls = "".join(f"{key} = {value}\n" for key, value in {**SETTINGS, **(settings or {})}.items())
    contents = {**ROUTER, "sysctl.txt": sysctls, **(files or {})}
    paths = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if name in without:
            continue
        paths[name] = folder / name
        paths[name].write_text(content if isinstance(content, str) else json.dumps(content))
    return HostTables(State("rs1", paths, {name: f"rs1/state/{name}" for name in paths}, []))
