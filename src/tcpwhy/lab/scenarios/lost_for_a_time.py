"""For some seconds a firewall eats every SYN, or every SYN-ACK; who begins then gives up, or gets through late."""

from __future__ import annotations

import time

from ..firewall import attempts, build, linear_syns_off, one_request
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

PATIENCE = 1.5  # s; below the three seconds from which a connect that worked in the end would be a finding


def story(world: World) -> None:
    """The firewall is ill for three seconds; twelve clients with little patience begin then, others before or after."""
    row = build(world, firewall_seen=world.random.random() < 0.5)
    linear_syns_off(row.client)
    flags = "SYN,ACK SYN,ACK" if world.form == "synack-lost" else "SYN,ACK SYN"
    side = "--sport" if world.form == "synack-lost" else "--dport"
    rule = f"FORWARD -p tcp {side} {row.port} --tcp-flags {flags} -j DROP"
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(30, 1.2)
    time.sleep(2)
    if world.fault:
        row.firewall.iptables(f"-A {rule}")
    for _ in range(12):
        load.talk("prey", one_request, after=world.random.uniform(0.1, 2.8), timeout=PATIENCE)
    time.sleep(3)
    if world.fault:
        row.firewall.iptables(f"-D {rule}")
    load.mixed(30, 1.2)
    time.sleep(3)


def check(view: CaseView) -> Truth:
    """Clients whose connect timed out have a SYN and, as the form says, a SYN-ACK at the server or nothing."""
    given_up = {str(o["client"]) for o in view.outcomes if o["error"] is not None}
    tried = attempts(view, view.note("service"))
    view.require_healthy_outcomes(but=given_up)
    lost = [one for one in tried if one.client in given_up]
    if not view.fault:
        view.require(not given_up, "a client gave up without a fault")
        return Truth(healthy_connections=len(tried))
    view.require(len(lost) == len(given_up) >= 3, f"{len(lost)} of {len(given_up)} connects that timed out were seen")
    for one in lost:
        seen = bool(one.count("SA", "server"))
        # a SYN-ACK may still come when the firewall is well again and the client has long given up (it answers RST)
        late = [p for p in one.packets.get("client", []) if p.kind == "SA"]
        in_time = [p for p in late if p.time_ns < one.first_ns + int(PATIENCE * 1e9)]
        view.require(not in_time, f"{one.client}: a SYN-ACK reached the client in time")
        view.require(seen == (view.form == "synack-lost"), f"{one.client}: the server saw another story")
    through = [one for one in tried if one not in lost and one.count("S", "client") > 1]
    return Truth(
        [one.failed(view.form) for one in lost],
        healthy_connections=len(tried) - len(lost),
        confidence="confirmed",
        notes=[f"{len(through)} connections got through on a later try: healthy"],
    )


SCENARIOS = tuple(
    Scenario(
        name=f"{cause}-for-a-time",
        title=f"a firewall eats every {what} for three seconds",
        story=story,
        check=check,
        cause=cause,
        form=cause,
    )
    for cause, what in (("syn-lost", "SYN"), ("synack-lost", "SYN-ACK"))
)
