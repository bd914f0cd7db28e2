"""Incident 5: LVS in tunnel mode, and real servers whose reverse-path filter drops what comes out of the tunnel."""

from __future__ import annotations

import time

from ..firewall import require_each
from ..lvs import build, servers_of, unanswered, victims
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Some or all of three real servers drop; forms: `tunl0`, `all` (strict on either), `loose` (tunl0 has no address)."""
    built = build(world, "tun")
    for server in built.servers:
        built.tunnel(server, "lo" if world.form == "loose" else "tunl0")
    built.balance()
    hit = world.random.sample(built.servers, world.random.choice([1, 1, 2, 3]))
    world.notes["victims"] = [host.name for host in hit]
    for server in hit if world.fault else []:
        if world.form == "loose":
            # net/ipv4/fib_frontend.c __fib_validate_source: loose mode accepts nothing on an address-less interface
            server.sysctl(f"net.ipv4.conf.{world.random.choice(['all', 'tunl0'])}.rp_filter", 2)
        else:
            server.sysctl(f"net.ipv4.conf.{world.form}.rp_filter", 1)
    world.record()
    built.load(24, 2.0)
    time.sleep(7.8)


def check(view: CaseView) -> Truth:
    """The SYNs left the tunnel on the real server, were never answered, and its counter of dropped sources says so."""
    lost = unanswered(view)
    if not view.fault:
        view.require_healthy_outcomes()
        view.require(not lost, "a connection was not answered without a fault")
        return Truth(healthy_connections=len(view.connections()))
    hit = victims(view)
    view.require(len(lost) == 8 * len(hit), f"{len(lost)} connections were not answered, expected 8 a server")
    view.require_healthy_outcomes(but={one.client for one in lost})
    require_each(view, lost, lambda one: any(one.count("S", place) > 1 for place in hit), "repeated at a real server")
    for place in servers_of(view) if view.options.capture == "iface" else []:
        bare = [p for p in view.packets[place] if p.file.startswith("tunl0") and any(p.source == one.client for one in lost)]
        drops = view.counter(place, "TcpExtIPReversePathFilter")
        view.require(drops is None or drops == len(bare), f"{place} counts {drops} drops, and {len(bare)} packets left its tunnel")
    return Truth(
        [one.failed("reverse-path-filter") for one in lost],
        healthy_connections=len(view.connections()) - len(lost),
        confidence="confirmed",
        notes=[f"of the real servers {', '.join(hit)} drop"],
    )


SCENARIOS = tuple(
    Scenario(
        name=name,
        title=title,
        story=story,
        check=check,
        cause="reverse-path-filter",
        needs=frozenset({"ip_vs", "ipip", "bridge"}),
        defaults={"state": "full"},
        form=form,
    )
    for name, title, form in (
        ("lvs-tun-rp-filter", "LVS-TUN: rp_filter=1 on tunl0 drops every SYN of a real server", "tunl0"),
        ("lvs-tun-rp-filter-all", "LVS-TUN: rp_filter=1 for all interfaces, 0 on tunl0: the greater counts", "all"),
        ("lvs-tun-rp-filter-loose", "LVS-TUN: rp_filter=2 on a tunl0 without an address, the VIP on lo", "loose"),
    )
)
