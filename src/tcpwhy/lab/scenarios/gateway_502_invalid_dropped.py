"""Incident 1 where the backends' firewalls drop what conntrack calls INVALID: strays vanish, nobody answers RST."""

from __future__ import annotations

import time

from ..gateway import before_the_capture, build, ordinary_load, rehash_truth
from ..scenario import Scenario, StoryDidNotHappen, Truth
from ..view import CaseView
from ..world import World

GIVES_UP_AFTER = 4  # s; the gateway's timeout, longer than three retransmissions (0.2 + 0.4 + 0.8 + 1.6 s)


def story(world: World) -> None:
    """Backend 2 leaves the route; the strays are dropped, the gateway's requests time out."""
    built = build(world, world.form, timeout=GIVES_UP_AFTER)
    for host in built.backends:
        host.iptables("-A INPUT -m conntrack --ctstate INVALID -j DROP")
        host.sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)  # else conntrack takes a stray for a new connection
    before_the_capture(built)
    world.record()
    ordinary_load(built, healthy=50, seconds=3.5, uploads=4)
    time.sleep(2)
    if world.fault:
        built.route(0, 2)
    time.sleep(2.5 + GIVES_UP_AFTER)


def check(view: CaseView) -> Truth:
    """Strays were repeated and never answered; the gateway logged a timeout."""
    truth = rehash_truth(view)
    if view.fault:
        log = view.log("gateway/proxy.log") + view.log("gateway/error.log")
        view.require("timed out" in log or "timeout" in log, f"the gateway logged no timeout: {log[-400:]}")
        table = view.connections(server=view.note("vip"))
        for failed in truth.failed:
            for place, packets in table[failed.client, failed.server].items():
                if place.startswith("backend") and all(p.source == failed.client for p in packets):
                    break
            else:
                raise StoryDidNotHappen(f"the strays of {failed.client} were answered")
    return truth


SCENARIOS = tuple(
    Scenario(
        name=f"gateway-502-invalid-dropped-{proxy}",
        title=f"a {proxy} gateway's connections move, and the strays are dropped as INVALID",
        story=story,
        check=check,
        cause="mid-connection-rehash",
        needs=frozenset({"iptables"}),
        defaults={"state": "ss"},
        form=proxy,
    )
    for proxy in ("nginx", "go")
)
