"""Incident 4: clients behind NAT and a full-NAT balancer, which names them in a TCP option of early packets only; or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..balancer import Balancer, plain_cables
from ..cluster import Clients, build
from ..fullnat import Manner
from ..real_clients import truth_of
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

LOCAL_ADDRESSES = 3
DPVS = Manner()
LVS = Manner(on_syn=True, on_fin=False, kind6=253)


@dataclass(frozen=True)
class Form:
    """What differs between the scenarios: `table` is how the balancer writes its own, `forged` whether clients send headers of others."""

    manner: Manner
    title: str
    table: str = "dpvs"
    forged: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: {"state": "ss"})


FORMS = {
    "dpvs": Form(DPVS, "DPVS: TOA on the third ACK and on what the client sends until the server is acknowledged", forged=True),
}


def story(world: World) -> None:
    """Old connections stay in use while the captures run, and short ones are opened beside them."""
    form = FORMS[world.form]
    cluster = build(world)
    network = world.subnet()
    local = [str(network.network_address + number) for number in world.random.sample(range(2, 250), LOCAL_ADDRESSES)]
    family = "-6 " if world.options.ip == "6" else ""
    for server in cluster.servers:
        server.ip(f"{family}route add {network} via {server.interfaces[0].peer}")
    plain_cables(cluster.edge, cluster.balancer, *cluster.servers)
    Balancer(cluster.balancer, form.table, form.manner, (cluster.vip, cluster.port), cluster.reals, local)
    world.notes["forwards"] = "fullnat"
    clients = Clients(cluster, forged=form.forged)
    clients.open_old()
    clients.record()
    clients.talk(24)


def check(view: CaseView) -> Truth:
    """The options were seen where the form says; what the programs noted is the truth."""
    mark = FORMS[view.form].manner.mark
    return truth_of(view, mark="" if mark == "none" else mark.partition("-")[0])


SCENARIOS = tuple(
    Scenario(
        name=f"real-client-{name}",
        title=form.title,
        story=story,
        check=check,
        needs=frozenset({"nat", "bridge"}),
        defaults=form.options,
        form=name,
    )
    for name, form in FORMS.items()
)
