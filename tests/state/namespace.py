"""A network namespace with a rich configuration goes in; what the programs of this machine print of it comes out, by command."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from tcpwhy.evidence.state import State

SETUP = """
link set lo up
link add eth0 type veth peer name p0
link add eth1 type veth peer name p1
link add br0 type bridge
link set eth1 master br0
link add vx0 type vxlan id 42 remote 10.9.9.9 local 10.1.0.2 dev eth0 dstport 4789
link add link eth0 name eth0.5 type vlan id 5
link add red type vrf table 100
link add tunl1 type ipip remote 10.9.9.9 local 10.1.0.2 dev eth0
link set eth0 up
link set p0 up
link set eth1 up
link set br0 up
link set vx0 up
link set eth0 alias up<link,one
address add 10.1.0.2/24 brd + dev eth0
address add 10.1.0.3/24 dev eth0 label eth0:1
address add 10.7.0.1 peer 10.7.0.2/32 dev br0
address add 10.5.0.1/24 dev eth1 noprefixroute valid_lft 1000 preferred_lft 500
address add 192.0.2.1/32 dev lo scope host
address add fd00::1/64 dev eth0 nodad
route add default via 10.1.0.1 dev eth0 metric 100
route add 10.20.0.0/16 nexthop via 10.1.0.1 dev eth0 weight 2 nexthop via 10.1.0.9 dev eth0 weight 1 onlink
route add blackhole 10.30.0.0/16
route add unreachable 10.31.0.0/16 metric 7
route add prohibit 10.32.0.0/16
route add throw 10.33.0.0/16 table 100
route add 10.34.0.0/16 via 10.99.0.1 dev eth0 onlink src 10.1.0.3 mtu 1400 advmss 1360 initcwnd 10 rto_min 200ms
route add 10.35.0.0/16 dev br0 table 200 proto static tos 0x10
route add 10.35.0.0/16 dev br0 table 200 tos 0x08
route add local 10.36.0.0/16 dev lo table 133
nexthop add id 7 via 10.1.0.1 dev eth0
nexthop add id 8 via 10.1.0.9 dev eth0
nexthop add id 9 group 7/8
route add 10.37.0.0/16 nhid 7
route add 10.38.0.0/16 nhid 9
route add 10.39.0.0/16 encap ip id 30 dst 10.77.0.1 via 10.1.0.1 dev eth0
route add 10.40.0.0/16 via inet6 fd00::9 dev eth0
route add 10.41.0.0/16 via 10.1.0.1 features ecn congctl reno realm 5
route add default dev p0 table 300
-6 route add default via fd00::9 dev eth0 metric 50
-6 route add default dev p0 table 300
-6 route add blackhole fd01::/64
-6 route add fd02::/64 nexthop via fd00::9 dev eth0 nexthop via fd00::8 dev eth0
rule add from 10.1.0.0/24 table 100 pref 100
rule add not to 10.2.0.0/16 fwmark 0x10/0xff lookup 200 pref 101
rule add from 10.1.0.3 iif eth0 tos 0x10 lookup main suppress_prefixlength 0 pref 102
rule add oif nosuch uidrange 100-200 ipproto tcp sport 80-90 dport 443 lookup 4000000 pref 103
rule add l3mdev pref 104
rule add goto 200 pref 105
rule add goto 999 pref 106
rule add nop pref 107
rule add blackhole from 10.66.0.0/16 pref 108
rule add prohibit dport 22 ipproto gre pref 110
rule add pref 200 lookup main suppress_ifgroup 5
rule add fwmark 5 lookup 133 pref 201
rule add fwmark 0/0xf lookup 133 pref 202
-6 rule add from fd00::/64 lookup 100 pref 50
neigh add 10.1.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud stale
neigh add proxy 10.1.0.77 dev eth0
"""
"""Lines for `ip`; those of which this kernel knows nothing fail, and the rest is what is compared."""

COMMANDS = (
    *("ip -j -d -s link", "ip -j -p -d link", "ip -s -d link", "ip -d link", "ip -d -o link"),
    *("ip -j -d addr", "ip -j -p -d addr", "ip -d address", "ip address", "ip -o addr"),
    *("ip -j -d neigh", "ip neigh", "ip -s -s neigh show"),
    *("ip -j -d route show table all", "ip -j -p route show table all", "ip -d route show table all", "ip route show table all"),
    *("ip -o -d route show table all", "ip -6 -j -d route show table all", "ip -6 route show table all"),
    *("ip -j -d rule", "ip -d rule", "ip rule", "ip -6 -j -d rule", "ip -6 rule"),
    "sysctl -a --pattern ^net\\.",
)


@functools.cache
def outputs() -> dict[str, str]:
    """What each of COMMANDS prints; skips the test where no namespace can be made or a program is missing."""
    if shutil.which("ip") is None or shutil.which("sysctl") is None or shutil.which("unshare") is None:
        pytest.skip("ip, sysctl or unshare is missing")
    steps = [f"ip {line} 2>/dev/null" for line in SETUP.split("\n") if line]
    mark = "----- 7f2a "
    steps += [f"echo '{mark}{command}'; {command} 2>/dev/null" for command in (one.replace("\\", "\\\\") for one in COMMANDS)]
    script = "\n".join(steps).replace("^net\\\\.", "'^net\\.'").replace("up<link,one", "'up<link,one'")
    for how in ("-n", "-rn"):
        done = subprocess.run(["unshare", how, "sh", "-c", script], capture_output=True, text=True, check=False)
        parts = done.stdout.split(mark)[1:]
        if len(parts) == len(COMMANDS):
            return {command: part.split("\n", 1)[1] for command, part in zip(COMMANDS, parts, strict=True)}
    pytest.skip("no network namespace can be made here")


def state_of(folder: Path, **files: str | bytes) -> State:
    """A state of files by name, `ip_route_json` for ip-route.json."""
    named = {name.replace("__", ".").replace("_", "-"): content for name, content in files.items()}
    for name, content in named.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return State("h", {name: folder / name for name in named}, {name: f"h/state/{name}" for name in named}, [])
