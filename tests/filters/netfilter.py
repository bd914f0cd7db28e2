"""Rules and frames go in; which frames each rule matched in this machine's kernel comes out, by their TCP source ports.

Runs as a program inside a network namespace: `python netfilter.py` reads JSON from standard input and writes JSON.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FIRST_PORT = 1024
"""Source port of the first frame: a frame's port tells which it is."""

_SETUP = (
    "ip link set lo up",
    "ip link add eth0 address 02:00:00:00:00:01 type veth peer name p0",
    "sysctl -qw net.ipv6.conf.p0.disable_ipv6=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0",
    "ip link set eth0 up",
    "ip address add 10.0.0.1/24 dev eth0",
    "ip -6 address add fd00::1/64 dev eth0 nodad",
    "ip neighbour add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
    "ip link set p0 up",
)


def matched(rules: dict[str, list[str]], frames: list[bytes]) -> dict[str, set[int]]:
    """For `nft`, `iptables` and `ip6tables`, as far as they have rules, the places of the frames that one of its rules matched.

    Each frame's source port must be FIRST_PORT plus its place. Skips the test where a program or the kernel's means are missing.
    """
    told = run(__file__, {"rules": rules, "frames": [frame.hex() for frame in frames]}, ("nft", *rules))
    return {tool: {port - FIRST_PORT for port in ports} for tool, ports in told.items()}


def run(program: str, task: object, needed: tuple[str, ...]) -> Any:
    """What a program of this folder answers in a namespace of its own; skips the test where that cannot be."""
    import pytest

    missing = [name for name in (*needed, "unshare", "ip") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is missing")
    link = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "p0"]
    able = [how for how in ("-n", "-rn") if subprocess.run(["unshare", how, *link], capture_output=True, check=False).returncode == 0]
    if not able:
        pytest.skip("no network namespace with veth can be made here")
    command = ["unshare", able[0], sys.executable, program]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def set_up() -> socket.socket:
    """The namespace's devices, and a socket on the far end of eth0."""
    for line in _SETUP:
        subprocess.run(line.split(), check=True, capture_output=True)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("p0", 0))
    return wire


def load(program: tuple[str, ...], text: str) -> None:
    """Rules as the program reads them; a refusal ends everything with its words."""
    done = subprocess.run(program, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{program}: {done.stderr}\n{text}")


def ports_in(name: str) -> list[int]:
    """What a set of nft holds."""
    command = ["nft", "-j", "list", "set", "inet", "seen", name]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return sorted(next(one["set"] for one in shown["nftables"] if "set" in one).get("elem", []))


def _nft_rules(rules: dict[str, list[str]]) -> str:
    """nft's own rules; and rules that note what iptables has marked in the table raw, which comes before (-300)."""
    lines = ["table inet seen {"]
    lines += [f"set {tool} {{ type inet_service; size 65535; flags dynamic; }}" for tool in rules]
    lines += ["chain c { type filter hook prerouting priority -290; }", "}"]
    lines += [f"add rule inet seen c {match} add @nft {{ tcp sport }}" for match in rules.get("nft", [])]
    for family, tool in (("ipv4", "iptables"), ("ipv6", "ip6tables")):
        if tool in rules:
            lines.append(f"add rule inet seen c meta nfproto {family} meta mark 1 add @{tool} {{ tcp sport }}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The program inside the namespace."""
    task = json.load(sys.stdin)
    rules: dict[str, list[str]] = task["rules"]
    wire = set_up()
    for tool in ("iptables", "ip6tables"):
        marks = [f"-A PREROUTING {match} -j MARK --set-mark 1" for match in rules.get(tool, [])]
        if marks:
            load((f"{tool}-restore",), "\n".join(["*raw", *marks, "COMMIT", ""]))
    load(("nft", "-f", "-"), _nft_rules(rules))
    frames = [bytes.fromhex(text) for text in task["frames"]]
    for frame in frames:
        wire.send(frame)
    time.sleep(0.2)  # veth hands frames over in a softirq of the sender: by now the last one is through
    print(json.dumps({tool: ports_in(tool) for tool in rules}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
