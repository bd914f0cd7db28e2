"""Hosts that filter sources strictly and rules that drop, where every route is symmetric and no rule is met: all is well."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

RULES = """*filter
:INPUT DROP [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m conntrack --ctstate NEW -m multiport --dports 22,{port} -j ACCEPT
-A INPUT -p tcp -j REJECT --reject-with tcp-reset
COMMIT
"""


def story(world: World) -> None:
    """rp_filter=1 everywhere, and a server that lets in what it serves."""
    row = build(world, firewall_seen=True)
    for host in (row.client, row.firewall, row.server):
        host.sysctl("net.ipv4.conf.all.rp_filter", 1)
        host.sysctl("net.ipv4.conf.all.log_martians", 1)
    row.server.restore_iptables(RULES.format(icmp="ipv6-icmp" if world.options.ip == "6" else "icmp", port=row.port))
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(48, 3)
    load.slow_upload(after=0.2)
    time.sleep(4)


def check(view: CaseView) -> Truth:
    """Nothing was dropped because of its source."""
    for place in view.places:
        drops = view.counter(place, "TcpExtIPReversePathFilter")
        view.require(not drops, f"{place} dropped {drops} sources")
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-strict-filters",
        title="strict rp_filter and a strict ruleset, symmetric routes: nothing is dropped",
        story=story,
        check=check,
        needs=frozenset({"iptables", "reject"}),
        defaults={"state": "full"},
    ),
)
