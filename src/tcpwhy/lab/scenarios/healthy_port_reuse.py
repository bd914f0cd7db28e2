"""The same source ports again and again, while the last connection rests in TIME_WAIT at either end: it all works."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load, Talk
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Five source ports are used five times each; the server closes first, so that TIME_WAIT is on its side."""
    row = build(world)
    ports = row.prey_ports(5)
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(20, 3)
    for _ in range(5):
        futures = [load.talk("again", until_closed, source_port=port, after=0.05) for port in ports]
        for future in futures:
            future.result()
        time.sleep(0.3)
    small = world.host("second-client", vantage=False)
    world.link(small, row.firewall)
    small.default_route(small.interfaces[0].peer)
    small.sysctl("net.ipv4.ip_local_port_range", "30000 30019")
    crowd = Load(world, small, row.address, row.port)
    for _ in range(60):
        crowd.talk("few-ports", until_closed, after=world.random.uniform(0, 2.5))
    time.sleep(3.5)


def until_closed(talk: Talk) -> None:
    """One request with `Connection: close`; the server ends the connection."""
    talk.socket.sendall(b"GET /files/1k HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    while talk.socket.recv(65536):
        pass
    talk.close()


def check(view: CaseView) -> Truth:
    """Ports were used again with other numbers, and all was answered."""
    used: dict[str, set[int]] = {}
    for packet in view.packets["client"]:
        if packet.kind == "S":
            used.setdefault(packet.source, set()).add(packet.sequence)
    view.require(sum(len(isns) > 1 for isns in used.values()) >= 5, "ports were not used again")
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-port-reuse",
        title="source ports used again, over TIME_WAIT, and it works",
        story=story,
        check=check,
    ),
)
