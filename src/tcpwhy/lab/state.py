"""A host's network state as the contract's section 2 names it: a host comes in, raw outputs go into a folder."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .host import iptables_name

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
    ("sysctl.txt", "sysctl -a --pattern ^net\\."),
    ("conntrack.txt", "conntrack -L -o extended"),
)


def write_state(host: Host, folder: Path) -> None:
    """Writes the state of `host` into `folder`, and host.json beside it: kernel, time, zone, and what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    family_4, family_6 = iptables_name("4"), iptables_name("6")
    commands = [
        *COMMANDS,
        ("iptables-save.txt", f"{family_4}-save -c"),
        ("ip6tables-save.txt", f"{family_6}-save -c"),
    ]
    if family_4.endswith("nft"):
        commands.append(("nft-ruleset.json", "nft -j list ruleset"))
    now = time.time()
    zone = ZoneInfo(host.world.options.zone)
    failed: dict[str, str] = {}
    for name, command in commands:
        done = subprocess.run(
            host.command(command.split()),
            capture_output=True,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
        if done.returncode:
            failed[name] = done.stderr.strip()[:300]
        else:
            (folder / name).write_text(done.stdout)
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
