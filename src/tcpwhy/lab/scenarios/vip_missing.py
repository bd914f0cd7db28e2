"""Packets for a virtual address reach a host that does not have it: LVS real servers (DR, TUN), or the director itself."""

from __future__ import annotations

import time

from ..firewall import require_each
from ..load import Load
from ..lvs import LASTING, PATIENCE, build, unanswered, victims
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

PREY = 12


def story(world: World) -> None:
    """Form: `MODE PLACE`: a real server (or the `director`) without the VIP, which may forward (`forwards`) or not."""
    mode, place, *more = world.form.split()
    built = build(world, mode, servers=2)
    lacking = built.director if place == "director" else world.random.choice(built.servers)
    for server in built.servers:
        bare = world.fault and server is lacking
        if mode == "tun":
            built.tunnel(server, world.random.choice(["tunl0", "lo"]))
            if bare:
                server.ip(f"addr flush dev tunl0 to {built.vip}/32")
                server.ip(f"addr flush dev lo to {built.vip}/32")
        elif not bare:
            built.bear_vip(server, "lo")
        if more:
            server.sysctl("net.ipv4.ip_forward", 1)
            server.sysctl("net.ipv4.conf.all.send_redirects", 0)
            server.sysctl(f"net.ipv4.conf.{server.interfaces[0].logical.replace('.', '/')}.send_redirects", 0)
    if place == "director" and world.fault:
        # as on a standby that was made active by half: it has the service, and nobody gave it the address
        built.director.ip(f"addr del {built.vip}/32 dev {built.director.interfaces[0].logical}")
        built.router.ip(f"route replace {built.vip}/32 via {built.director.address}")
    built.balance()
    world.notes["victims"] = [lacking.name]
    world.record()
    built.beside(14, 2.0 + LASTING)
    virtual = Load(world, built.client, built.vip, built.port, patience=PATIENCE)
    for _ in range(PREY):
        virtual.talk("virtual", lambda talk: talk.ask("GET", "/"), after=world.random.uniform(0.1, 2.0))
    time.sleep(7.8)


def check(view: CaseView) -> Truth:
    """The SYNs arrived at the host without the address and were dropped there, or sent away."""
    _, place, *more = view.form.split()
    lost = unanswered(view)
    if not view.fault:
        view.require_healthy_outcomes()
        view.require(not lost, "a connection was not answered without a fault")
        return Truth(healthy_connections=len(view.connections()))
    (host,) = victims(view)
    wanted = PREY if place == "director" else PREY // 2
    view.require(len(lost) == wanted, f"{len(lost)} connections were not answered, expected {wanted}")
    view.require_healthy_outcomes(but={one.client for one in lost})
    require_each(view, lost, lambda one: one.count("S", host) > 1, f"repeated at {host}")
    drops = view.counter(host, "IpInAddrErrors")
    forwarded = view.counter(host, "IpForwDatagrams")
    if drops is not None and forwarded is not None:
        view.require((forwarded if more else drops) >= wanted, f"{host} counts {drops} wrong addresses and {forwarded} forwarded")
        view.require(view.counter(host, "TcpExtIPReversePathFilter") == 0, f"{host} dropped sources")
    return Truth(
        [one.failed("vip-missing") for one in lost],
        healthy_connections=len(view.connections()) - len(lost),
        confidence="confirmed",
        notes=[f"{host} has no {view.note('service')}"],
    )


SCENARIOS = tuple(
    Scenario(
        name=name,
        title=title,
        story=story,
        check=check,
        cause="vip-missing",
        needs=frozenset({"ip_vs", "ipip", "bridge"}),
        defaults={"state": "full"},
        form=form,
    )
    for name, title, form in (
        ("vip-missing-dr", "LVS-DR: a real server without the VIP drops what it gets", "dr server"),
        ("vip-missing-dr-forwarded", "LVS-DR: a real server without the VIP, a router too, sends it away", "dr server forwards"),
        ("vip-missing-tun", "LVS-TUN: a real server without the VIP drops what leaves its tunnel", "tun server"),
        ("vip-missing-director", "a director has the virtual service, and not its address", "dr director"),
    )
)
