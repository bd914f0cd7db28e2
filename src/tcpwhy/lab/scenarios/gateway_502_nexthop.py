"""Incident 1, moved by a change of members: one of three next hops leaves the route while uploads are under way."""

from __future__ import annotations

import time

from ..gateway import LOGGED, before_the_capture, build, ordinary_load, rehash_truth
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Backend 2 leaves the route for good after two seconds."""
    built = build(world, world.form)
    before_the_capture(built)
    world.record()
    ordinary_load(built, healthy=50, seconds=3.5, uploads=4)
    time.sleep(2)
    if world.fault:
        built.route(0, 2)
    time.sleep(2.2)


def check(view: CaseView) -> Truth:
    """Uploads met RSTs from a backend that never had them, and the gateway logged it."""
    truth = rehash_truth(view)
    log = view.log("gateway/proxy.log") + view.log("gateway/error.log")
    if view.fault:
        view.require(any(words in log for words in LOGGED), f"the gateway logged no reset: {log[-400:]}")
    return truth


SCENARIOS = tuple(
    Scenario(
        name=f"gateway-502-nexthop-{proxy}",
        title=f"a {proxy} gateway's uploads meet another backend when a next hop leaves the ECMP route",
        story=story,
        check=check,
        cause="mid-connection-rehash",
        defaults={"capture": capture},
        form=proxy,
    )
    for proxy, capture in (("nginx", "any"), ("go", "iface"))
)
