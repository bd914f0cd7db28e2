"""Incident 1 with the move between SYN and third ACK: the backends are 250 ms away, the route changes meanwhile."""

from __future__ import annotations

import time

from ..gateway import before_the_capture, build, ordinary_load, rehash_truth
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

AWAY_MS = 250  # the delay of each path to a backend: long against a route change, short against a retransmission


def story(world: World) -> None:
    """Ten connections are begun at once, and the route changes while their SYN-ACKs are under way."""
    built = build(world, world.form)
    for _, device in built.paths:
        port = device if not (world.options.vlan or world.options.vxlan) else f"eth{device.lstrip('vxethbr').split('.')[0]}"
        built.router.run(f"tc qdisc add dev {port} root netem delay {AWAY_MS}ms".split())
    before_the_capture(built)
    world.record()
    ordinary_load(built, healthy=30, seconds=1)
    time.sleep(2.5)
    crowd = Load(world, built.client, built.client.interfaces[0].peer, 80)
    for _ in range(10):
        crowd.upload(3000, base="/fresh")
    if world.fault:
        time.sleep(0.04)  # all SYNs are past the router, no SYN-ACK is back
        built.route(2, 0)
    time.sleep(1.2)
    ordinary_load(built, healthy=30, seconds=1)
    time.sleep(2.5)


def check(view: CaseView) -> Truth:
    """At least one connection has its SYN at one backend and its third ACK at another."""
    truth = rehash_truth(view)
    if view.fault:
        table = view.connections(server=view.note("vip"))
        moved = 0
        for failed in truth.failed:
            places = table[failed.client, failed.server]
            backends = {place: packets for place, packets in places.items() if place.startswith("backend")}
            owners = [packets for packets in backends.values() if any(p.kind == "S" for p in packets)]
            moved += any(all(p.kind in ("S", "SA", "R") for p in packets) for packets in owners)
        view.require(moved > 1, f"{moved} connections moved between SYN and third ACK, expected at least 2")
        truth.notes.append(f"{moved} of them moved between SYN and third ACK")
    return truth


SCENARIOS = (
    Scenario(
        name="gateway-502-handshake-nginx",
        title="the ECMP route changes between the SYN and the third ACK of some connections",
        story=story,
        check=check,
        cause="mid-connection-rehash",
        needs=frozenset({"netem"}),
        form="nginx",
    ),
)
