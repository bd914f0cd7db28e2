"""Nobody listens on the port that some clients ask for; the service beside it is well."""

from __future__ import annotations

import time

from ..firewall import attempts, build, one_request, require_each
from ..host import end_process
from ..load import Load, endpoint
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """A second service is never there (or stops in the middle, form `stopped`); six clients ask for it."""
    row = build(world, port=80)
    second = world.random.randrange(5000, 9000)
    stops = world.form == "stopped"
    process = backend(row.server, port=second) if stops or not world.fault else None
    world.notes["second"] = endpoint(row.address, second)
    world.record()
    load = Load(world, row.client, row.address, 80)
    load.mixed(50, 4.0)
    other = Load(world, row.client, row.address, second)
    if stops or not world.fault:
        for _ in range(6):
            other.get(2, after=world.random.uniform(0, 1.2))
    time.sleep(2)
    if world.fault and process is not None:
        end_process(process)
    for _ in range(6):
        other.talk("prey", one_request, after=world.random.uniform(0, 1.8))
    time.sleep(2.5)


def check(view: CaseView) -> Truth:
    """The late connections got RST+ACK from the server itself; with `ss` the missing listener is on record."""
    tried = attempts(view, view.note("second"))
    refused = [one for one in tried if one.count("R", "server") and not one.count("SA")]
    if not view.fault:
        view.require_healthy_outcomes()
        view.require(not refused, "a connection was refused without a fault")
        return Truth(healthy_connections=len(view.connections()))
    view.require(len(refused) == 6, f"{len(refused)} connections were refused, expected 6")
    view.require_healthy_outcomes(but={one.client for one in refused})
    require_each(view, refused, lambda one: one.count("R", "client"), "refused at the client")
    return Truth(
        [one.failed("port-closed") for one in refused],
        healthy_connections=len(view.connections()) - len(refused),
        confidence="possible" if view.options.state == "none" else "confirmed",
    )


SCENARIOS = tuple(
    Scenario(name=name, title=title, story=story, check=check, cause="port-closed", form=form)
    for name, title, form in (
        ("port-closed", "nobody listens on the port: RST to the SYN", ""),
        ("port-closed-stopped", "a service stops in the middle: served before, refused after", "stopped"),
    )
)
