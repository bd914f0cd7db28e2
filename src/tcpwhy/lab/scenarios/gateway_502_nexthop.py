"""Incident 1, moved by a change of members: one of three next hops leaves the route while uploads are under way."""

from __future__ import annotations

import time

from ..gateway import before_the_capture, build, logged_a_reset, ordinary_load, rehash_truth
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Backend 2 leaves the route after two seconds, for good or (form `back`) for a quarter of a second."""
    proxy, _, back = world.form.partition("-")
    built = build(world, proxy)
    before_the_capture(built)
    world.record()
    ordinary_load(built, healthy=50, seconds=3.5, uploads=4)
    time.sleep(2)
    if world.fault:
        built.route(0, 2)
        if back:
            time.sleep(0.25)
            built.route(0, 1, 2)
    time.sleep(2.2)


def check(view: CaseView) -> Truth:
    """Uploads met RSTs from a backend that never had them, and the gateway logged it."""
    truth = rehash_truth(view)
    logged_a_reset(view)
    return truth


SCENARIOS = tuple(
    Scenario(
        name=f"gateway-502-{'there-and-back' if back else 'nexthop'}-{proxy}",
        title=f"a {proxy} gateway's uploads meet another backend: a next hop leaves the route{back and ' and returns'}",
        story=story,
        check=check,
        cause="mid-connection-rehash",
        defaults={"capture": capture},
        form=proxy + back,
    )
    for proxy, back, capture in (
        ("nginx", "", "any"),
        ("go", "", "iface"),
        ("nginx", "-back", "iface"),
        ("go", "-back", "any"),
    )
)
