"""Offload makes frames far above the MTU on one side and joins them on the other; captures see both."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load, Talk
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Uploads and downloads of half a megabyte, TSO and GRO on."""
    world.offload = True
    world.mtu = 1500
    row = build(world, firewall_seen=True)
    row.server.run(["ethtool", "-K", "eth0", "gro", "on"])
    row.firewall.run(["ethtool", "-K", "eth1", "tso", "off", "gso", "off"])  # the middle cuts them into pieces of the MTU
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(30, 3)

    def much(talk: Talk) -> None:
        talk.ask("POST", "/upload", load.random.randbytes(300_000))
        talk.ask("GET", "/files/100k")
        talk.close()

    for _ in range(4):
        load.talk("much", much, after=world.random.uniform(0, 2))
    time.sleep(4)


def check(view: CaseView) -> Truth:
    """Frames above the MTU were seen."""
    view.require(any(p.length > 10_000 for p in view.packets["client"]), "no big frame was seen")
    return all_well(view)


SCENARIOS = (Scenario(name="healthy-big-frames", title="TSO and GRO: frames far above the MTU", story=story, check=check),)
