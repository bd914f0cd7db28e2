"""Incident 3: a connect times out because its SYN-ACK is lost, and a new SYN comes from the same port too soon.

The server is still in SYN_RECV for the first SYN. A new number outside its receive window draws a bare ACK of the OLD
number, the client's RST (form `outside`), and that once more or, if the firewall is well again, a handshake that works
(form `healed`). A number inside the window draws RST+ACK (form `inside`).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ..firewall import Attempt, attempts, build, connect_once, linear_syns_off, require_each
from ..load import Load
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World


def story(world: World) -> None:
    """Five source ports are used twice each while SYN-ACKs towards them are dropped."""
    row = build(world)
    if world.random.random() < 0.5:
        linear_syns_off(row.client)
    ports = row.prey_ports(5)
    world.notes["ports"] = ports
    rule = f"FORWARD -p tcp --sport {row.port} --tcp-flags SYN,ACK,RST SYN,ACK -m multiport --dports {','.join(map(str, ports))} -j DROP"
    if world.fault:
        row.firewall.iptables(f"-A {rule}")
    world.record()
    begun = time.monotonic()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(50, 4.0)
    inside = world.form == "inside"
    patience = 0.0008 if inside else world.random.uniform(0.6, 1.4)  # s; the number grows by one each 64 ns
    with ThreadPoolExecutor(len(ports)) as pool:

        def attempt(port: int, wait: float) -> str:
            return connect_once(row.client, row.address, row.port, port, wait)

        if inside:
            time.sleep(1)
            results = [[attempt(port, patience), attempt(port, 2.0)] for port in ports]
        else:
            begin = list(pool.map(attempt, ports, [patience] * len(ports)))
            if world.form == "healed" and world.fault:
                row.firewall.iptables(f"-D {rule}")
            again = list(pool.map(attempt, ports, [3.0] * len(ports)))
            results = [list(pair) for pair in zip(begin, again, strict=True)]
    world.notes["results"] = results
    time.sleep(max(1.5, begun + 4.5 - time.monotonic()))


def check(view: CaseView) -> Truth:
    """The server's answers are as the kernel gives them in SYN_RECV, and the client met what they lead to."""
    tried = attempts(view, view.note("service"))
    ports = view.notes["ports"]
    assert isinstance(ports, list)
    prey: dict[str, list[Attempt]] = {}
    for one in tried:
        if int(one.client.rsplit(":", 1)[1]) in ports:
            prey.setdefault(one.client, []).append(one)
    view.require_healthy_outcomes()
    if not view.fault:
        results = view.notes["results"]
        assert isinstance(results, list)
        view.require(all(first == "connected" for first, _ in results), f"a connect failed without a fault: {results}")
        return Truth(healthy_connections=len(tried))
    view.require(len(prey) == len(ports), "a port was not used")
    for client, incarnations in prey.items():
        view.require(len(incarnations) == 2, f"{client} was used {len(incarnations)} times, expected twice")
        first, second = incarnations
        view.require(first.count("SA", "server") and not first.count("SA", "client"), "the first SYN-ACK was not lost")
        if view.form == "inside":
            view.require(second.count("R", "client"), f"{client}: the second SYN was not refused")
        else:
            old = (first.isn + 1) % 2**32
            packets = [p for place in (*first.packets.values(), *second.packets.values()) for p in place]
            bare = [p for p in packets if p.source == first.server and p.kind == "A" and p.acknowledgement == old]
            resets = [p for p in packets if p.source == client and p.kind == "R" and p.sequence == old]
            view.require(bare and resets, f"{client}: no bare ACK of the old number and RST of it")
        healed = view.form == "healed"
        view.require(bool(second.count("SA", "client")) == healed, f"{client}: the second attempt ended otherwise")
    failed = [one for pair in prey.values() for one in (pair[:1] if view.form == "healed" else pair)]
    require_each(view, failed, lambda one: one.count("S", "client"), "seen at the client")
    return Truth(
        [one.failed("synack-lost") for one in failed],
        healthy_connections=len(tried) - len(failed),
        confidence="confirmed",
    )


SCENARIOS = tuple(
    Scenario(
        name=f"synack-lost-reused-port-{form}",
        title=f"the port of a connect that timed out is used again: {what}",
        story=story,
        check=check,
        cause="synack-lost",
        form=form,
    )
    for form, what in (
        ("outside", "a bare ACK of the old number, RST, and no connection"),
        ("healed", "a bare ACK of the old number, RST, and then it works"),
        ("inside", "RST+ACK, the request destroyed"),
    )
)
