"""A link loses some packets for a moment, and everything is made good: far below what anybody suffers from."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

MOST = 0.006  # the contract makes 1 % of a link's packets a finding; this stays well below


def story(world: World) -> None:
    """Two packets in a hundred are lost towards the server for half a second, while uploads run."""
    row = build(world, firewall_seen=world.random.random() < 0.5)
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(60, 4)
    for _ in range(8):
        load.slow_upload(pieces=30, piece=6000, interval=0.1)
    time.sleep(1.5)
    port = row.firewall.interfaces[1].port
    row.firewall.run(f"tc qdisc add dev {port} root netem loss 2%".split())
    time.sleep(0.4)
    row.firewall.run(f"tc qdisc del dev {port} root".split())
    time.sleep(3.5)


def check(view: CaseView) -> Truth:
    """Something was lost on that link, but little, and no connection was held up for three seconds."""
    service = view.note("service")

    def sent(place: str) -> set[tuple[str, int, int, int, int | None, int]]:
        return {
            (p.source, p.sequence, p.length, p.flags, p.timestamp, p.identification) for p in view.packets[place] if p.target == service
        }

    client, server = sent("client"), sent("server")
    lost = client - server
    view.require(lost, "nothing was lost")
    view.require(len(lost) <= MOST * len(client), f"{len(lost)} of {len(client)} packets were lost: too many")
    for outcome in view.outcomes:
        if outcome["kind"] != "idle":
            took = int(str(outcome["ended_ns"])) - int(str(outcome["started_ns"]))
            view.require(took < 8e9, f"a connection took {took / 1e9:.1f} s")
    truth = all_well(view)
    truth.notes.append(f"{len(lost)} of {len(client)} packets towards the server were lost and made good")
    return truth


SCENARIOS = (
    Scenario(
        name="healthy-loss-made-good",
        title="a short spell of loss that retransmissions make good",
        story=story,
        check=check,
        needs=frozenset({"netem"}),
    ),
)
