"""A host that translates addresses, captured on `any`: each connection stands there with two sets of addresses."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well
from ..load import Load
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """The host in the middle hides the client (SNAT), or stands for the server (DNAT), or both."""
    row = build(world, firewall_seen=True)
    family = world.options.ip
    outside = row.firewall.interfaces[0].address
    backend(row.server, port=8081)
    inner = f"[{row.address}]" if family == "6" else row.address
    row.firewall.iptables(f"-t nat -A PREROUTING -d {outside} -p tcp --dport 8000 -j DNAT --to-destination {inner}:8081")
    row.firewall.iptables(f"-t nat -A POSTROUTING -o {row.firewall.interfaces[1].logical} -p tcp --dport 8081 -j MASQUERADE")
    world.record()
    Load(world, row.client, row.address, row.port).mixed(12, 2)  # as they are
    Load(world, row.client, row.address, 8081).mixed(18, 3)  # SNAT
    Load(world, row.client, outside, 8000).mixed(24, 3)  # both
    time.sleep(4)


def check(view: CaseView) -> Truth:
    """The server saw the translator as its client, and all was well."""
    clients = {p.source.rsplit(":", 1)[0] for p in view.packets["server"] if p.kind == "S"}
    view.require(len(clients) == 2, f"the server saw {clients}, expected the client and the translator")
    return all_well(view)


SCENARIOS = (
    Scenario(
        name="healthy-nat-any",
        title="SNAT and DNAT in a host captured on `any`",
        story=story,
        check=check,
        needs=frozenset({"iptables"}),
        defaults={"capture": "any"},
    ),
)
