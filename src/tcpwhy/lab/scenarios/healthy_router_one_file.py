"""A router captured on two interfaces into one pcapng: every forwarded packet stands there twice."""

from __future__ import annotations

import shutil
import subprocess
import time

from ..firewall import build
from ..healthy import all_well
from ..host import end_process
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """One dumpcap takes both cables of the router; big and small transfers with offload as it comes."""
    row = build(world)
    router = row.firewall
    folder = world.case / "router"
    folder.mkdir()
    target = router.scratch / "both.pcapng"  # a dumpcap that gave up its rights cannot write into the case
    talk = router.scratch / "dumpcap.txt"
    with talk.open("wb") as sink:
        dumpcap = subprocess.Popen(
            router.command(["dumpcap", "-q", "-i", "eth0", "-i", "eth1", "-w", str(target)]),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    world.undo.callback(end_process, dumpcap)
    world.wait_for(lambda: target.exists() and target.stat().st_size > 0, 10, "dumpcap's file")
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(42, 3)
    time.sleep(4)
    end_process(dumpcap)
    shutil.copyfile(target, folder / "both.pcapng")


def check(view: CaseView) -> Truth:
    """What was forwarded stands in the router's file twice."""
    seen = view.packets["router"]
    different = {(p.source, p.sequence, p.acknowledgement, p.length, p.flags, p.timestamp) for p in seen}
    view.require(
        len(seen) >= 1.8 * len(different),
        f"{len(seen)} sightings of {len(different)} packets: no twofold copies",
    )
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-router-one-file",
        title="a router's two interfaces in one pcapng: twofold copies",
        story=story,
        check=check,
    ),
)
