"""Where a lab's world comes from: a plan goes in, and it runs in fresh namespaces or in User Mode Linux."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

PACKAGE_PARENT = Path(__file__).parent.parent  # with this on the path the lab is a package of its own: `lab`
PR_SET_PDEATHSIG = 1  # linux/prctl.h
UML_KERNELS = Path("/usr/lib/uml/modules")
UML_MODULES = (
    "veth bridge vxlan 8021q macvlan dummy ipip tun sch_netem sch_tbf ipv6 ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh"
    " iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter ip6table_nat ip6table_mangle ip6table_raw"
    " nf_conntrack nf_conntrack_netlink tcp_diag ip_set ip_set_hash_ip ip_set_hash_net"
    " xt_statistic xt_conntrack xt_state xt_tcpudp xt_multiport xt_mark xt_connmark xt_nat xt_REDIRECT xt_MASQUERADE xt_LOG"
    " xt_owner xt_addrtype xt_comment xt_limit xt_set xt_TCPMSS xt_CT ipt_REJECT ip6t_REJECT ipt_rpfilter ip6t_rpfilter"
)
#: What each kind of kernel has, in the words of `Scenario.needs`; the host's own kernel is probed.
UML_FEATURES = frozenset(
    {"netem", "vlan", "vxlan", "ipip", "ip_vs", "dummy", "bridge", "iptables", "owner", "reject", "rpfilter", "nat", "tun", "tbf"}
)
PROBES = {
    "vlan": "ip link add p0 type veth && ip link add link p0 name p0.5 type vlan id 5",
    "vxlan": "ip link add p1 type vxlan id 5 dstport 4789 local 127.0.0.1",
    "bridge": "ip link add p2 type bridge",
    "ipip": "ip link add p3 type ipip local 127.0.0.1 remote 127.0.0.2",
    "netem": "tc qdisc add dev lo root netem delay 1ms",
    "tbf": "ip link add p6 type veth && tc qdisc add dev p6 root tbf rate 20kbit burst 400 latency 1s",
    "nft": "nft add table inet probe",
    "iptables": "iptables-nft -A INPUT -p tcp -m statistic --mode nth --every 2 --packet 0 -j DROP",
    "ip_vs": "ipvsadm -A -t 127.0.0.1:1 -s rr",
    "dummy": "ip link add p4 type dummy",
    "owner": "iptables-nft -A OUTPUT -m owner --uid-owner 1337 -m addrtype --dst-type LOCAL -j ACCEPT",
    "reject": "iptables-nft -A INPUT -p tcp -j REJECT --reject-with tcp-reset",
    "rpfilter": "iptables-nft -t raw -A PREROUTING -m rpfilter --invert -j DROP",
    "nat": "iptables-nft -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 1",
    "nft-nat": "nft 'table ip p { chain c { type nat hook output priority -100; meta skuid 1337 return; tcp dport 1 redirect to :1; }; }'",
    "nft-fib": "nft 'table ip q { chain c { type filter hook prerouting priority 0; fib saddr . iif oif missing drop; }; }'",
    "tun": "ip tuntap add dev p5 mode tun",
    "hash-seed": "test -e /proc/sys/net/ipv4/fib_multipath_hash_seed",
}
PROGRAMS = ("ip", "tcpdump", "tshark", "nginx", "ss", "nstat", "nsenter", "ethtool", "editcap")


class CannotRun(RuntimeError):
    """This machine cannot run what was asked; the message says why."""


def missing_programs() -> list[str]:
    """The programs that every scenario needs and that are not there."""
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    """PATH with the folders of administration, which an ordinary user's lacks."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def _unshare() -> list[str]:
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return words if os.geteuid() == 0 else [*words, "--user", "--map-root-user"]


@cache
def namespace_features() -> frozenset[str] | None:
    """What the host's own kernel has, None where namespaces with tcpdump in them may not be made."""
    script = "mount -t tmpfs none /run && ip link set lo up && ip netns add probe || exit 9\n"
    # tcpdump changes its user's groups, which a user namespace of an ordinary user forbids (user_namespaces(7))
    script += "timeout 0.3 tcpdump -Z root -i lo -w - 2>&1 >/dev/null | grep -q 'listening on' || exit 9\n"
    script += "".join(f"( {probe} ) >/dev/null 2>&1 && echo {name}\n" for name, probe in PROBES.items())
    done = subprocess.run(
        [*_unshare(), "sh", "-c", script + "true"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": search_path()},
        check=False,
    )
    return None if done.returncode else frozenset(done.stdout.split())


def uml_features() -> frozenset[str] | None:
    """What User Mode Linux has, None where it is not installed."""
    return UML_FEATURES if shutil.which("linux.uml") and UML_KERNELS.is_dir() else None


def choose(needs: frozenset[str], wanted: str = "auto") -> str:
    """`namespaces` or `uml`: the first of them that has all of `needs`; raises CannotRun saying what is missing."""
    absent = missing_programs()
    if absent:
        raise CannotRun(f"programs are missing: {', '.join(absent)}")
    reasons = []
    for name, features in (("namespaces", namespace_features), ("uml", uml_features)):
        if wanted not in ("auto", name):
            continue
        have = features()
        if have is None:
            reasons.append(
                "network namespaces with tcpdump in them may not be made here" if name == "namespaces" else "linux.uml is not installed"
            )
        elif needs <= have:
            return name
        else:
            kernel = "the host's kernel" if name == "namespaces" else "User Mode Linux"
            reasons.append(f"{kernel} lacks {', '.join(sorted(needs - have))}")
    raise CannotRun("; ".join(reasons))


def start(runner: str, plan: dict[str, object], scratch: Path) -> subprocess.Popen[bytes]:
    """Starts a world that works through `plan`; `scratch` gets its talk. It ends when its process is killed."""
    plan_file = scratch / "plan.json"
    plan_file.write_text(json.dumps(plan))
    command = _namespace_command(plan_file) if runner == "namespaces" else _uml_command(plan_file, scratch)
    with (scratch / "world.txt").open("ab") as sink:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  it only calls prctl(2), which takes no lock
            env={
                **os.environ,
                "PATH": search_path(),
                "PYTHONPATH": str(PACKAGE_PARENT),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )


def stop(world: subprocess.Popen[bytes]) -> None:
    """Ends a world and all that runs in it."""
    if world.poll() is None:
        try:
            os.killpg(world.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        world.wait()
        _wait_for_group(world.pid)


def _wait_for_group(group: int) -> None:
    """Returns when the last process of a killed group is gone, after two seconds at most."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.02)


def _namespace_command(plan_file: Path) -> list[str]:
    script = f"mount -t tmpfs none /run && ip link set lo up && exec {sys.executable} -m lab.inside {plan_file}"
    return [*_unshare(), "sh", "-c", script]


def _uml_command(plan_file: Path, scratch: Path) -> list[str]:
    init = scratch / "init"
    init.write_text(
        f"""#!/bin/sh
exec >{scratch}/uml.txt 2>&1
export PATH={search_path()} HOME={Path.home()} PYTHONPATH={PACKAGE_PARENT} PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs none /run
mkdir -p /run/modules/lib/modules; ln -s {UML_KERNELS}/$(uname -r) /run/modules/lib/modules/
for module in {UML_MODULES}; do modprobe -d /run/modules $module; done
ip link set lo up
{sys.executable} -m lab.inside {plan_file}
poweroff -f
"""
    )
    init.chmod(0o755)
    return (
        f"linux.uml root=/dev/root rootfstype=hostfs rw mem=768M init={init} con=null con0=fd:0,fd:1 uml_dir={scratch} umid=lab"
    ).split()


def _die_with_parent() -> None:
    """The world does not outlive the lab, however the lab ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
