"""Incident 1, single packets astray: for a while the router sprays packets over the backends instead of flows."""

from __future__ import annotations

import time

from ..gateway import Gateway, before_the_capture, build, ordinary_load, rehash_truth
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

TABLE = 100  # the first of three routing tables, one a backend


def story(world: World) -> None:
    """A few packets in a hundred go astray for two seconds, or (form `turns`) all go round in turns for a moment."""
    proxy, _, turns = world.form.partition("-")
    world.offload = False  # so that the pieces of one request are packets of their own, as on the wire
    built = build(world, proxy)
    before_the_capture(built)
    world.record()
    ordinary_load(built, healthy=60, seconds=4, uploads=3)
    time.sleep(1.8)
    if world.fault:
        spray(built, turns=bool(turns))
        time.sleep(0.1 if turns else 1.0)
        built.router.iptables("-t mangle -F PREROUTING")
        time.sleep(2.2)
    else:
        time.sleep(2.5)


def spray(built: Gateway, *, turns: bool) -> None:
    """Marks packets from the gateway by chance or in turns, and routes marks to backends."""
    version = "-6 " if ":" in built.vip else ""
    router = built.router
    for number, (hop, device) in enumerate(built.paths):
        router.ip(f"{version}route add default via {hop} dev {device} table {TABLE + number}")
        router.ip(f"{version}rule add fwmark {number + 1} lookup {TABLE + number}")
    chance = built.world.random.choice(["0.01", "0.02"])
    for number in range(3):
        which = f"--mode nth --every 3 --packet {number}" if turns else f"--mode random --probability {chance}"
        router.iptables(f"-t mangle -A PREROUTING -d {built.vip} -p tcp -m statistic {which} -j MARK --set-mark {number + 1}")


def check(view: CaseView) -> Truth:
    """Single packets of some connections were seen at a backend that did not have them."""
    return rehash_truth(view)


SCENARIOS = tuple(
    Scenario(
        name=f"gateway-502-spray{turns}-{proxy}",
        title=f"a {proxy} gateway's packets are sprayed over three backends{' in turns' if turns else ' by chance'}",
        story=story,
        check=check,
        cause="mid-connection-rehash",
        defaults={"capture": capture},
        form=f"{proxy}{turns}",
    )
    for proxy, turns, capture in (("nginx", "", "iface"), ("go", "", "any"), ("go", "-turns", "iface"))
)
