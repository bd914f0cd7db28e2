"""A firewall eats the SYN-ACKs of some connections until their clients give up; the others are well."""

from __future__ import annotations

import time

from ..firewall import answered, attempts, build, linear_syns_off, require_each, try_ports
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """SYN-ACKs towards five source ports are dropped in the middle; clients give up after two repetitions."""
    row = build(world, firewall_seen=world.form == "firewall-seen")
    if world.random.random() < 0.5:
        linear_syns_off(row.client)
    row.client.sysctl("net.ipv4.tcp_syn_retries", 2)
    early = Load(world, row.client, row.address, row.port)
    for _ in range(3):
        early.get(10, pause=1.0)
        early.idle()
    time.sleep(0.3)
    ports = row.prey_ports(5)
    world.notes["ports"] = ports
    if world.fault:
        row.firewall.iptables(
            f"-A FORWARD -p tcp --sport {row.port} --tcp-flags SYN,ACK,RST SYN,ACK"
            f" -m multiport --dports {','.join(map(str, ports))} -j DROP"
        )
    world.record()
    begun = time.monotonic()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(60, 6.0)
    for future in try_ports(load, ports, timeout=20, spread=1.5):
        future.result()
    time.sleep(max(0.5, begun + 6.5 - time.monotonic()))  # the twin lasts as long


def check(view: CaseView) -> Truth:
    """The client never saw a SYN-ACK, the server sent several."""
    tried = attempts(view, view.note("service"))
    ports = view.notes["ports"]
    assert isinstance(ports, list)
    prey = [one for one in tried if int(one.client.rsplit(":", 1)[1]) in ports]
    view.require(len(prey) == len(ports), "a connection that was to be hit is missing")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but={one.client for one in prey})
    require_each(view, prey, lambda one: one.count("S", "client") > 1, "a SYN repeated by the client")
    require_each(view, prey, lambda one: one.count("SA", "server") > 1, "a SYN-ACK repeated by the server")
    require_each(view, prey, lambda one: not one.count("SA", "client"), "without a SYN-ACK at the client")
    require_each(view, prey, lambda one: not answered(one), "unanswered")
    return Truth(
        [one.failed("synack-lost") for one in prey],
        healthy_connections=len(view.connections()) - len(prey),
        confidence="confirmed",
    )


SCENARIOS = (
    Scenario(
        name="synack-lost",
        title="a firewall drops SYN-ACKs to some ports until the clients give up",
        story=story,
        check=check,
        cause="synack-lost",
    ),
    Scenario(
        name="synack-lost-firewall-seen",
        title="the same, captured on both sides of the firewall too",
        story=story,
        check=check,
        cause="synack-lost",
        form="firewall-seen",
    ),
)
