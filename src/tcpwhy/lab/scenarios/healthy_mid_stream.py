"""A capture that begins and ends in the middle: transfers and idle connections older and longer than it."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load
from ..scenario import Scenario
from ..world import World


def story(world: World) -> None:
    """Thirty connections are in use before the captures start; most are still so at their end."""
    row = build(world, firewall_seen=True)
    old = Load(world, row.client, row.address, row.port)
    for _ in range(6):
        old.get(40, pause=0.5)
        old.idle()
        old.slow_upload(pieces=70, interval=0.1)
        old.talk("slow-download", lambda talk: talk.ask("GET", "/slow/100k"))
        old.get(6, pause=0.4)
    time.sleep(1)
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(20, 2)
    for _ in range(5):
        load.slow_upload(pieces=70, interval=0.1, after=2.0)
        load.talk("slow-download", lambda talk: talk.ask("GET", "/slow/100k"), after=2.5)
    time.sleep(3.5)


SCENARIOS = (
    Scenario(
        name="healthy-mid-stream",
        title="captures that begin and end in the middle of connections",
        story=story,
        check=all_well,
    ),
)
