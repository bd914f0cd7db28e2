"""The state of the host that this thread stands in: a folder comes in and is filled with what the contract's section 2 names."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

COMMANDS = {
    "ip-link.json": "ip -j -d -s link",
    "ip-addr.json": "ip -j -d addr",
    "ip-neigh.json": "ip -j -d neigh",
    "ip-route.json": "ip -j -d route show table all",
    "ip-rule.json": "ip -j -d rule",
    "sysctl.txt": r"sysctl -a --pattern ^net\.",
    "ss-tcp.txt": "ss -tanpioem",
    "nstat.txt": "nstat -asz",
    "conntrack.txt": "conntrack -L -o extended",
}


def collect(folder: Path, *, has_nft: bool, has_sets: bool, has_services: bool) -> None:
    """Runs the commands, all at once; raises RuntimeError where one fails."""
    folder.mkdir(parents=True, exist_ok=True)
    variant = "nft" if has_nft else "legacy"
    commands = {**COMMANDS, **{f"{name}-save.txt": f"{name}-{variant}-save -c" for name in ("iptables", "ip6tables")}}
    if has_nft:
        commands["nft-ruleset.json"] = "nft -j list ruleset"
    if has_sets:
        commands["ipset.txt"] = "ipset save"
    if has_services:
        commands |= {"ipvsadm-rules.txt": "ipvsadm -S -n", "ipvsadm-connections.txt": "ipvsadm -L -n -c"}
    running = []
    for name, command in commands.items():
        with (folder / name).open("wb") as sink:
            running.append((name, subprocess.Popen(command.split(), stdout=sink, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)))
    for name, process in running:
        _, errors = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"{name}: {errors.decode(errors='replace')}")
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    (folder / "host.json").write_text(json.dumps({"name": "host", "kernel": release, "time": time.time()}))
