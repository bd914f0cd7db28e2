"""Asymmetric routing: packets come over one uplink and their answers would leave by another, which a reverse-path filter forbids."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..firewall import answered, attempts, require_each
from ..host import Host
from ..load import Load, endpoint
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World

PREY = 6
STRICT, LOOSE = 1, 2  # ip-sysctl.rst rp_filter


@dataclass
class Uplinks:
    """Two routers in parallel: `near` - left/right - `far`; `odd` and `even` are clients on one side."""

    world: World
    near: Host
    left: Host
    right: Host
    far: Host

    @property
    def prefix(self) -> str:
        """The words that `ip` needs before a route."""
        return "-6 " if self.world.options.ip == "6" else ""


def build(world: World, seen: str) -> Uplinks:
    """Client side `near`, server side `far`, a router on each way; `seen` names the routers that are vantage points."""
    near = world.host("client")
    left = world.host("router-a", vantage="a" in seen, forwards=True)
    right = world.host("router-b", vantage="b" in seen, forwards=True)
    far = world.host("server")
    for router in (left, right):
        world.link(near, router)
        world.link(router, far)
    for host in (near, far):
        host.default_route(host.interfaces[0].peer)
    return Uplinks(world, near, left, right, far)


def story(world: World) -> None:
    """Who filters: form `server`, `client`, `router`, or `rule` (a netfilter rule on the server does what the sysctl would)."""
    built = build(world, "a" if world.form == "router" else "")
    near, left, right, far = built.near, built.left, built.right, built.far
    near_a, near_b = (one.address for one in near.interfaces)
    far_a, far_b = (one.address for one in far.interfaces)
    port = world.random.choice([80, 443, 8080, world.random.randrange(1024, 9999)])
    backend(far, port=port)
    length = world.full_length
    # healthy both ways over b: from the client's second address to the server's second address
    near.ip(f"{built.prefix}route add {far_b}/{length} via {near.interfaces[1].peer} src {near_b}")
    far.ip(f"{built.prefix}route add {near_b}/{length} via {far.interfaces[1].peer}")
    if world.form == "client":
        # the server answers the client's first address over b: the SYN-ACK comes to the client's second uplink
        far.ip(f"{built.prefix}route add {near_a}/{length} via {far.interfaces[1].peer}")
        right.ip(f"{built.prefix}route add {near_a}/{length} via {near_b}")
        place, interface = near, near.interfaces[1]
    elif world.form == "router":
        # router-a knows the client's inner address by way of the server's side only, router-b carries the answers
        inner = str(world.subnet().network_address + world.random.randrange(2, 250))
        near.ip(f"addr add {inner}/{length} dev lo{world.nodad}")
        near.sysctl("net.ipv4.conf.all.arp_announce", 2)  # an ARP request from `inner` would be dropped like its SYNs
        near.ip(f"{built.prefix}route add {far_a}/{length} via {near.interfaces[0].peer} src {inner}")
        far.ip(f"{built.prefix}route add {inner}/{length} via {far.interfaces[1].peer}")
        right.ip(f"{built.prefix}route add {inner}/{length} via {near_b}")
        left.ip(f"{built.prefix}route add {inner}/{length} via {far_a}")
        place, interface = left, left.interfaces[0]
    else:
        # the server's way back to the client's first address leaves by b
        far.ip(f"{built.prefix}route add {near_a}/{length} via {far.interfaces[1].peer}")
        right.ip(f"{built.prefix}route add {near_a}/{length} via {near_b}")
        place, interface = far, far.interfaces[0]
    if world.form == "rule":
        if world.fault:
            by_rule(place)
    else:
        where = world.random.choice(["all", interface.logical])
        place.sysctl(f"net.ipv4.conf.{where.replace('.', '/')}.rp_filter", STRICT if world.fault else LOOSE)
    near.sysctl("net.ipv4.tcp_syn_retries", 2)
    far.sysctl("net.ipv4.tcp_synack_retries", 1)  # nothing is to be dropped any more when the state is taken
    world.notes |= {"service": endpoint(far_a, port), "place": place.name, "interface": interface.port}
    world.record()
    begun = time.monotonic()
    Load(world, near, far_b, port).mixed(42, 6.2)
    prey = Load(world, near, far_a, port, patience=3.4)
    for _ in range(PREY):
        prey.talk("prey", lambda talk: talk.ask("GET", "/"), after=world.random.uniform(0.1, 1.5))
    time.sleep(max(0.0, begun + 6.8 - time.monotonic()))


def by_rule(host: Host) -> None:
    """The reverse-path check as a rule, in iptables' words or in nft's."""
    if host.world.random.random() < 0.5:
        host.restore_iptables("*raw\n-A PREROUTING -m rpfilter --invert -j DROP\nCOMMIT\n")
    else:
        rule = "type filter hook prerouting priority raw; fib saddr . iif oif missing counter drop;"
        host.nft(f"table inet filter {{ chain prerouting {{ {rule} }}; }}")


def check(view: CaseView) -> Truth:
    """What arrived where the filter is went no further, and was counted there."""
    tried = attempts(view, view.note("service"))
    view.require(len(tried) == PREY, f"{len(tried)} connections over the odd way, expected {PREY}")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require_healthy_outcomes(but={one.client for one in tried})
    require_each(view, tried, lambda one: not answered(one), "unanswered")
    place = view.note("place")
    kind = "SA" if place == "client" else "S"
    require_each(view, tried, lambda one: one.count(kind, place), f"seen at {place}")
    require_each(view, tried, lambda one: place == "client" or not one.count("SA"), "without a SYN-ACK")
    require_each(view, tried, lambda one: place != "router-a" or not one.count("S", "server"), "unseen behind the router")
    drops = view.counter(place, "TcpExtIPReversePathFilter")
    if drops is not None and view.form != "rule":
        arrived = sum(one.count(kind, place) for one in tried)
        view.require(drops >= arrived, f"{place} counts {drops} drops of {arrived} packets")
    return Truth(
        [one.failed("reverse-path-filter") for one in tried],
        healthy_connections=len(view.connections()) - len(tried),
        confidence="confirmed",
    )


SCENARIOS = tuple(
    Scenario(
        name=f"reverse-path-filter-{form}",
        title=title,
        story=story,
        check=check,
        cause="reverse-path-filter",
        needs=frozenset({"rpfilter", "nft-fib"}) if form == "rule" else frozenset(),
        defaults={"state": "full"},
        form=form,
    )
    for form, title in (
        ("server", "two uplinks: the server's strict rp_filter drops SYNs whose answer would leave by the other (twin: loose)"),
        ("client", "two uplinks: the client's strict rp_filter drops SYN-ACKs that come by the other (twin: loose)"),
        ("router", "a router's strict rp_filter drops SYNs, its way back is another (twin: loose)"),
        ("rule", "two uplinks: a rule of the server checks the reverse path, the sysctl is 0"),
    )
)
