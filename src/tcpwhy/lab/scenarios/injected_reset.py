"""A device on the way forges RSTs in the name of one end or of both; the real ends know nothing of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..firewall import Attempt, attempts, build
from ..healthy import serve, slow_answers
from ..injector import STEPS, Injector
from ..load import Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..segment import ACK, RST
from ..view import CaseView
from ..world import World

PREY = 8
THINKS = 0.8  # s that the server needs for an answer
STRIKES = 0.25  # s after the request


def story(world: World) -> None:
    """Form: `own` (towards the client, with a TTL of its own), `both` (bursts towards both ends), `copied` (the victim's TTL)."""
    row = build(world, firewall_seen=world.form == "copied" and world.random.random() < 0.5)
    slow = world.random.randrange(10_000, 19_000)
    serve(row.server, slow, slow_answers(THINKS))
    ports = row.prey_ports(PREY)
    world.notes |= {"ports": ports, "services": [row.service, endpoint(row.address, slow)]}
    device = Injector(
        row.firewall,
        row.firewall.interfaces[0].logical,
        frozenset(ports),
        towards=("client", "server") if world.form == "both" else ("client",),
        flags=world.random.choice([RST, RST | ACK]),
        hops=None if world.form == "copied" else world.random.choice([255, 128, 57, 49, 120, 33]),
        steps=STEPS if world.form == "both" else (0,),
        after=STRIKES,
    )
    if world.fault:
        device.start()
    world.record()
    Load(world, row.client, row.address, row.port).mixed(45, 3.0)
    answers = Load(world, row.client, row.address, slow, patience=5)
    files = Load(world, row.client, row.address, row.port, patience=8)
    for number, port in enumerate(ports):
        # RSTs to both ends in mid-download leave nothing on the way: who was cut off is known by the answer's length only.
        load, path = (answers, "/report") if number % 2 or world.form == "both" else (files, "/slow/100k")
        load.talk("prey", asks(path), after=0.2 + 0.15 * number, source_port=port)
    time.sleep(5.5 if not world.fault else 4.5)


def asks(path: str) -> Callable[[Talk], None]:
    """A client that asks once."""

    def conversation(talk: Talk) -> None:
        talk.ask("GET", path)
        talk.close()

    return conversation


def check(view: CaseView) -> Truth:
    """Each prey met a RST that the server's capture does not have as sent, and the server had its request."""
    services, ports = view.notes["services"], view.notes["ports"]
    assert isinstance(services, list)
    assert isinstance(ports, list)
    tried = [one for service in services for one in attempts(view, service) if int(one.client.rsplit(":", 1)[1]) in ports]
    view.require(len(tried) == PREY, f"{len(tried)} connections of the prey, expected {PREY}")
    names = {one.client for one in tried}
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but=names)
    errors = {str(one["client"]): str(one["error"]) for one in view.outcomes}
    for one in tried:
        view.require("reset" in errors[one.client].lower(), f"{one.client} met {errors[one.client]}")
        view.require(_resets(one, one.server, "client"), f"{one.client} got no RST")
        view.require(not _resets(one, one.server, "server"), f"the server itself sent a RST to {one.client}")
        if view.form == "both":
            view.require(len(_resets(one, one.client, "server")) >= len(STEPS), f"no burst in the name of {one.client}")
    return Truth(
        [one.failed("injected-reset") for one in tried],
        healthy_connections=len(view.connections()) - len(tried),
        confidence="confirmed",
    )


def _resets(one: Attempt, source: str, place: str) -> list[int]:
    return [p.sequence for p in one.packets.get(place, []) if p.kind == "R" and p.source == source]


SCENARIOS = tuple(
    Scenario(name, title, story, check, "injected-reset", form=form)
    for name, title, form in (
        ("injected-reset", "a device ends connections by RSTs to the client, with a TTL of its own", "own"),
        ("injected-reset-both", "a device ends connections by bursts of RSTs to both ends", "both"),
        ("injected-reset-copied", "a device forges RSTs that bear the server's TTL", "copied"),
    )
)
