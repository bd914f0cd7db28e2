"""A host's network state as the contract's section 2 names it: a host comes in, raw outputs go into a folder."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .host import iptables_flavour

if TYPE_CHECKING:
    from .host import Host

#: file, command; a command that cannot run here is named in host.json and leaves no file
COMMANDS: tuple[tuple[str, str], ...] = (
    ("ss-tcp.txt", "ss -tanpioem"),
    ("nstat.txt", "nstat -asz"),
    ("ip-link.json", "ip -j -d -s link"),
    ("ip-addr.json", "ip -j -d addr"),
    ("ip-neigh.json", "ip -j -d neigh"),
    ("ip-route.json", "ip -j -d route show table all"),
    ("ip-rule.json", "ip -j -d rule"),
    ("ip6-route.json", "ip -6 -j -d route show table all"),
    ("ip6-rule.json", "ip -6 -j -d rule"),
    ("sysctl.txt", "sysctl -a --pattern ^net[.]"),
    ("conntrack.txt", "conntrack -L -o extended"),
)

#: What only a full state has.
FURTHER: tuple[tuple[str, str], ...] = (
    ("conntrack-stats.txt", "conntrack -S"),
    ("ipvsadm-rules.txt", "ipvsadm -S -n"),
    ("ipvsadm-connections.txt", "ipvsadm -L -n -c"),
    ("ipset.txt", "ipset save"),
    ("tc.txt", "tc -s qdisc"),
    ("ip-route-cache.txt", "ip route show cache"),
)

#: The kernel's log belongs to all hosts of a world: it would tell one host what happened in another.
SHARED = {"dmesg-net.txt": "one kernel's log is shared by all hosts of the lab"}


def write_state(host: Host, folder: Path, *, full: bool = False) -> None:
    """Writes the state of `host` into `folder`, and host.json beside it: kernel, time, zone, and what failed.

    `full` takes IPVS, ipset, queueing, and the legacy iptables where both variants exist too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    zone = ZoneInfo(host.world.options.zone)
    failed = dict(SHARED) if full else {}
    commands = _commands(full)
    # One shell for all: in User Mode Linux each program that starts costs tens of milliseconds.
    errors = host.scratch / "state-errors"
    errors.mkdir(exist_ok=True)
    script = "".join(f"{command} >{folder}/{name} 2>{errors}/{name} || echo {name}\n" for name, command in commands)
    done = subprocess.run(
        host.command(["sh", "-c", script]), stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )
    for name in done.stdout.split():
        failed[name] = (errors / name).read_text().strip()[:300]
        (folder / name).unlink()
    for file in folder.glob("*-legacy-save.txt"):
        if not file.stat().st_size:  # both variants exist where the other one has rules
            file.unlink()
    offset = datetime.fromtimestamp(now, zone).strftime("%z")
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    about = {
        "name": host.name,
        "kernel": release,
        "time": datetime.fromtimestamp(now, ZoneInfo("UTC")).isoformat(),
        "utc_offset": f"{offset[:3]}:{offset[3:]}",
        "failed": failed,
    }
    (folder / "host.json").write_text(json.dumps(about, indent=1) + "\n")


def _commands(full: bool) -> list[tuple[str, str]]:
    flavour = iptables_flavour()
    saves = [(f"{name}-save.txt", f"{name}-{flavour}-save -c") for name in ("iptables", "ip6tables")]
    commands = [*COMMANDS, *saves]
    if flavour == "nft":
        commands.append(("nft-ruleset.json", "nft -j list ruleset"))
    if full:
        commands += FURTHER
        if flavour == "nft":
            commands += [(f"{name}-legacy-save.txt", f"{name}-legacy-save -c") for name in ("iptables", "ip6tables")]
    return commands
