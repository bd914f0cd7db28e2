"""Direct return: requests pass a router, answers go straight back, so that most captures see one direction only."""

from __future__ import annotations

import time

from ..healthy import all_well
from ..load import Load
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """A row of client, router and server, and a cable from server to client for answers, which nobody captures."""
    client = world.host("client", vantage=False)
    router = world.host("router", forwards=True)
    server = world.host("server")
    world.link(client, router)
    address = world.link(router, server)[1]
    back_client, _ = world.link(client, server)
    family = "-6 " if world.options.ip == "6" else ""
    client.ip(f"{family}route add {server.interfaces[0].network} via {client.interfaces[0].peer}")
    length = world.full_length
    server.ip(f"{family}route add {client.address}/{length} via {back_client}")
    backend(server)
    seen = server.interfaces.pop()  # the cable of the answers has no capture
    world.record()
    server.interfaces.append(seen)
    load = Load(world, client, address, 80)
    load.mixed(40, 3)
    load.slow_upload(after=0.2)
    time.sleep(4)


def check(view: CaseView) -> Truth:
    """The router saw nothing from the server."""
    view.require(
        not any(p.source.endswith(":80") for p in view.packets["router"]),
        "the router saw answers, it should not",
    )
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-direct-return",
        title="answers go another way: captures of one direction",
        story=story,
        check=check,
    ),
)
