"""Incident 1, moved by a reload of the hash: the same members, but another seed or other fields spread anew."""

from __future__ import annotations

import time

from ..gateway import (
    FIVE_TUPLE,
    Gateway,
    before_the_capture,
    build,
    hash_fields,
    logged_a_reset,
    ordinary_load,
    rehash_truth,
)
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

WITHOUT_PROTOCOL = FIVE_TUPLE & ~0x0004  # spreads as well, but otherwise


def story(world: World) -> None:
    """The router's hash is loaded anew after two seconds."""
    proxy, _, way = world.form.partition("-")
    built = build(world, proxy)
    spread(built, way, first=True)
    before_the_capture(built)
    world.record()
    ordinary_load(built, healthy=50, seconds=3.5, uploads=3)
    time.sleep(2)
    if world.fault:
        spread(built, way, first=False)
    time.sleep(2.2)


def spread(built: Gateway, way: str, *, first: bool) -> None:
    """Sets the hash of the router, by `seed` or by `fields`, to its first or its second state."""
    if way == "seed":
        built.router.sysctl("net.ipv4.fib_multipath_hash_seed", built.world.random.getrandbits(31) | 1)
    elif not first:
        hash_fields(built.router, built.world.options.ip, WITHOUT_PROTOCOL)


def check(view: CaseView) -> Truth:
    """Connections went on at another backend, and the gateway logged it."""
    truth = rehash_truth(view)
    logged_a_reset(view)
    return truth


SCENARIOS = tuple(
    Scenario(
        name=f"gateway-502-hash-{way}-{proxy}",
        title=f"a {proxy} gateway's connections move when the router's hash gets another {way}",
        story=story,
        check=check,
        cause="mid-connection-rehash",
        needs=needs,
        defaults={"capture": capture},
        form=f"{proxy}-{way}",
    )
    for proxy, way, capture, needs in (
        ("go", "seed", "any", frozenset({"hash-seed"})),
        ("nginx", "fields", "iface", frozenset()),
    )
)
