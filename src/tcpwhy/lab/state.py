"""A host's network state as `tcpwhy collect` writes it: a host of the lab comes in, raw outputs go into a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from .host import Host

SCRIPT = Path(__file__).parents[1] / "record" / "collect.sh"
"""Inside a world the lab is a package of its own, so the script is found beside it."""

FEW = frozenset({
    "ss-tcp.txt", "nstat.txt", "ip-link.json", "ip-addr.json", "ip-neigh.json", "ip-route.json", "ip-rule.json", "ip6-route.json",
    "ip6-rule.json", "sysctl.txt", "conntrack.txt", "iptables-save.txt", "ip6tables-save.txt", "nft-ruleset.json", "host.json",
})  # fmt: skip
"""What a state that is not full holds."""

SHARED = {
    "dmesg-net.txt": "one kernel's log is shared by all hosts of the lab",
    "bpf-net.txt": "one kernel's programs are shared by all hosts of the lab",
}
"""What would tell one host what happened in another."""


def write_state(host: Host, folder: Path, *, full: bool = False) -> None:
    """Writes the state of `host` into `folder`; one that is not full is cut down to FEW."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = host.scratch / f"collect-{folder.name}"
    done = subprocess.run(
        host.command(["sh", str(SCRIPT), "-n", host.name, "-d", str(scratch)]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # its temporary files go away with the world's, also where a world is killed
        env={**os.environ, "TZ": _posix_zone(host.world.options.zone), "TMPDIR": str(host.scratch)},
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the state of {host.name} was not collected: {done.stderr.strip()[-500:]}")
    wanted = {path.name for path in (scratch / "state").iterdir()} - set(SHARED)
    if not full:
        wanted &= FEW
    folder.mkdir(exist_ok=True)
    for name in sorted(wanted):
        shutil.move(scratch / "state" / name, folder / name)
        (folder / name).chmod(0o644)
    shutil.rmtree(scratch)
    for name, table in host.tables.items():
        (folder / name).write_text(table())
    _forget_shared(folder / "host.json", wanted - set(host.tables), set(host.tables), full=full)


def _posix_zone(name: str) -> str:
    """`TZ` that needs no zone files: `<+0800>-08:00` is eight hours east of Greenwich (POSIX.1-2017, 8.3)."""
    offset = datetime.fromtimestamp(time.time(), ZoneInfo(name)).strftime("%z")
    return f"<{offset}>{'-' if offset[0] == '+' else '+'}{offset[1:3]}:{offset[3:5]}"


def _forget_shared(path: Path, kept: set[str], told: set[str], *, full: bool) -> None:
    """host.json speaks of what this state has, and of the kernel's time since its start not at all: all hosts share it."""
    about = json.loads(path.read_text())
    about.pop("uptime_s", None)
    about["hostname"] = about["name"]
    about["none"] = {name: why for name, why in about["none"].items() if name in kept}
    about["failed"] = {name: why for name, why in about["failed"].items() if (full or name in FEW) and name not in told}
    if full:
        about["failed"] |= SHARED
    path.write_text(json.dumps(about, indent=1) + "\n")
