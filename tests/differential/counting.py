"""The counters of the kernel that this thread stands in: nothing goes in; MIBs and rule counters come out."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

WATCHED = frozenset(
    {
        "TcpExtIPReversePathFilter", "TcpExtListenDrops", "TcpExtListenOverflows", "TcpOutRsts", "TcpInErrs", "TcpInCsumErrors",
        "IpInAddrErrors", "IpInHdrErrors", "IpInDiscards", "IpInDelivers", "IpInUnknownProtos", "IpForwDatagrams", "IpFragFails",
        "IpOutNoRoutes", "IpOutDiscards", "IpExtInNoRoutes", "IcmpOutDestUnreachs", "IcmpOutTimeExcds", "UdpNoPorts",
    }
)  # fmt: skip
"""nstat's names of what says something about one packet."""


def read_counters() -> dict[str, int]:
    """The watched counters, from /proc/net/snmp and netstat: a line of names, and one of values below it."""
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                full = prefix[:-1] + key
                if full in WATCHED:
                    found[full] = int(value)
    return found


def rule_lines(flavour: str) -> dict[int, int]:
    """Packets counted by each line of `iptables-save -c`, rules and policies, by number from 1."""
    done = subprocess.run([f"iptables-{flavour}-save", "-c"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return _count_lines(done.stdout)


def _count_lines(text: str) -> dict[int, int]:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        counted = re.match(r"(?::\S+ \S+ )?\[(\d+):\d+\]", line)
        if counted:
            found[number] = int(counted[1])
    return found


def rule_comments() -> dict[str, int]:
    """Packets counted by each nft rule that has a counter and a comment, by its comment."""
    done = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    found = {}
    for entry in json.loads(done.stdout)["nftables"]:
        rule = entry.get("rule", {})
        counters = [one["counter"]["packets"] for one in rule.get("expr", ()) if isinstance(one.get("counter"), dict)]
        if "comment" in rule and counters:
            found[rule["comment"]] = counters[0]
    return found
