"""A gateway, a router, three backends behind one VIP: what gateway-502 scenarios are made of, and their truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .host import Host
from .load import Load, endpoint
from .scenario import FailedConnection, Truth
from .services import backend, go_proxy, nginx
from .view import CaseView, Packet
from .world import World

GATEWAY_HTTP = """
  upstream pool {{ server {vip}; keepalive 24; }}
  server {{
    listen {wide}:80;
    keepalive_timeout 65s;
    location / {{
      proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_read_timeout {timeout}s; proxy_send_timeout {timeout}s;
    }}
    location /fresh/ {{ proxy_pass http://{vip}/; proxy_request_buffering off; proxy_read_timeout {timeout}s; }}
  }}
"""

#: What nginx and Go say when their upload met a RST; the last one is Go's own Close, which came first.
LOGGED = ("reset by peer", "roken pipe", "use of closed network connection")

#: net.ipv4.fib_multipath_hash_fields (ip-sysctl.rst): 0x0001 source, 0x0002 destination, 0x0004 protocol,
#: 0x0010 source port, 0x0020 destination port
FIVE_TUPLE = 0x0037

#: An acknowledgement that comes later after its request belongs to a slow answer, ns; far above a delayed one (40 ms).
SLOW_NS = 350_000_000


@dataclass
class Gateway:
    """The built topology. `paths` is how the router reaches each backend: (next hop, interface)."""

    world: World
    client: Host
    gateway: Host
    router: Host
    backends: list[Host]
    vip: str
    paths: list[tuple[str, str]]

    def nexthops(self, members: Sequence[int]) -> str:
        """The words of a route over these backends."""
        family = "-6 " if ":" in self.vip else ""
        hops = " ".join(f"nexthop via {self.paths[m][0]} dev {self.paths[m][1]} weight 1" for m in members)
        return f"{family}route replace {self.vip}/{self.world.full_length} {hops}"

    def route(self, *members: int) -> None:
        """Spreads the VIP over these backends (one alone is a plain route)."""
        self.router.ip(self.nexthops(members))


def build(world: World, proxy: str, *, timeout: int = 20, router_seen: bool = True) -> Gateway:
    """A row of client, gateway and router, and three backends behind it; `proxy` is `nginx` or `go`."""
    client = world.host("client", vantage=False)
    gateway = world.host("gateway")
    router = world.host("router", vantage=router_seen, forwards=True)
    world.link(client, gateway)
    world.link(gateway, router)
    vip = str(world.subnet().network_address + world.random.randrange(2, 250))
    server = endpoint(vip, 80)
    backends, paths = [], []
    for number in (1, 2, 3):
        host = world.host(f"backend-{number:02d}")
        router_side, host_side = world.link(router, host)
        host.ip(f"addr add {vip}/{world.full_length} dev lo{world.nodad}")
        host.default_route(router_side)
        backends.append(host)
        paths.append((host_side, router.interfaces[-1].logical))
        backend(host)
    upstream = gateway.interfaces[1]
    family = "-6 " if world.options.ip == "6" else ""
    gateway.ip(f"{family}route add {vip}/{world.full_length} via {upstream.peer}")
    built = Gateway(world, client, gateway, router, backends, vip, paths)
    hash_fields(router, world.options.ip, FIVE_TUPLE)
    built.route(0, 1, 2)
    if proxy == "go":
        words = () if world.random.random() < 0.5 else ("-micro",)
        go_proxy(
            gateway,
            f"http://{server}",
            log=gateway.folder / "proxy.log",
            words=(*words, "-header-timeout", f"{timeout}s"),
        )
    else:
        wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
        text = GATEWAY_HTTP.format(vip=server, wide=wide, timeout=timeout)
        nginx(gateway, text, error_log=gateway.folder / "error.log")
    (world.case / "tcpwhy.toml").write_text(
        f'[vantage.gateway]\nrole = "proxy"\nlog_timezone = "{world.options.zone}"\n'
        f'\n[service."{server}"]\nname = "checkout"\nbackends = ["backend-01", "backend-02", "backend-03"]\n'
    )
    world.notes |= {"vip": server, "gateway": upstream.address, "proxy": proxy}
    return built


def hash_fields(router: Host, family: str, fields: int) -> None:
    """Lets the router spread flows by these fields of the packet.

    Policy 1 would trust the hash that the sender's socket left on the packet, which a wire does not carry: a veth
    does, and then a retransmission changes its path (net/ipv4/route.c fib_multipath_hash, sk_rethink_txhash).
    """
    router.sysctl(f"net.ipv{family}.fib_multipath_hash_fields", fields)
    router.sysctl(f"net.ipv{family}.fib_multipath_hash_policy", 3)


def ordinary_load(built: Gateway, *, healthy: int, seconds: float, uploads: int = 0, interval: float = 0.1) -> Load:
    """`healthy` mixed connections through the gateway; `uploads` slow ones are under way for most of the time."""
    world = built.world
    load = Load(world, built.client, built.client.interfaces[0].peer, 80)
    load.mixed(healthy // 2, seconds)
    load.mixed(healthy - healthy // 2, seconds, base="/fresh" if world.notes["proxy"] == "nginx" else "")
    for _ in range(5):
        load.posts(int(seconds / 0.3), after=world.random.uniform(0, 0.5))
    for _ in range(2 if uploads else 0):
        load.slow_download(after=world.random.uniform(0.2, 0.8))
    for _ in range(uploads):
        after = world.random.uniform(0.2, 0.8)
        size = world.random.choice([700, 1552, 3000, 9000])
        load.slow_upload(after=after, pieces=int(seconds / interval * 0.8), piece=size, interval=interval)
    return load


def before_the_capture(built: Gateway) -> None:
    """Some connections that are open before the captures start, and stay in use."""
    load = Load(built.world, built.client, built.client.interfaces[0].peer, 80)
    for _ in range(4):
        load.get(12, pause=1.0)
        load.idle()
    time.sleep(0.4)


def rehash_truth(view: CaseView, *, few: bool = True) -> Truth:
    """Which connections to the VIP were carried to a second backend, as all captures together show it.

    Owner of a connection is the backend that saw its SYN, or spoke in it with anything but a stateless RST. A packet
    of the gateway that reached another backend is a stray. Strays that are only FIN or RST, and strays that were the
    last word of a finished exchange, leave room: those connections are tolerated either way.
    """
    vip = view.note("vip")
    backends = [place for place in view.places if place.startswith("backend")]
    failed, tolerated = [], []
    table = view.connections(server=vip)
    for (client, server), places in sorted(table.items()):
        isns = {p.sequence for packets in places.values() for p in packets if p.kind == "S"}
        view.require(len(isns) <= 1, f"{client} was used for two connections")
        owners = {place for place in backends if any(_owns(p, client) for p in places.get(place, []))}
        strays = [packet for place in backends if place not in owners for packet in places.get(place, []) if packet.source == client]
        if not strays and len(owners) < 2:
            continue
        first = min(p.time_ns for packets in places.values() for p in packets)
        if len(owners) > 1:
            tolerated.append(f"{client}-{server}")
        elif any(_hurts(p, places) for p in strays):
            failed.append(FailedConnection(client, server, "mid-connection-rehash", first))
        else:
            tolerated.append(f"{client}-{server}")
    healthy = len(view.connections()) - len(failed) - len(tolerated)
    # the gateway's client felt it too: an effect, which may be told or not
    felt = [outcome for outcome in view.outcomes if outcome["error"] is not None]
    tolerated += [f"{outcome['client']}-{outcome['server']}" for outcome in felt]
    if view.fault:
        view.require(failed, "no connection was moved")
        view.require(healthy >= 20, f"only {healthy} connections stayed well")
        if few:
            view.require(len(failed) <= healthy, f"{len(failed)} of {healthy} connections were moved")
    else:
        view.require(not failed and not tolerated, f"connections strayed without a fault: {failed} {tolerated}")
        view.require_healthy_outcomes()
    return Truth(failed, tolerated, healthy, "confirmed" if failed else None)


def _hurts(stray: Packet, places: dict[str, list[Packet]]) -> bool:
    """Whether losing this packet costs the connection something: data, the end of its handshake, or a RST in an answer."""
    if stray.length:
        return True
    handshake = [(p.sequence, p.acknowledgement) for packets in places.values() for p in packets if p.kind == "SA"]
    # A keep-alive probe of a connection that was never used has the same numbers, less one.
    if stray.kind == "A" and handshake and (stray.acknowledgement, stray.sequence) == ((handshake[0][0] + 1) % 2**32, handshake[0][1]):
        return True
    # An acknowledgement long after the request is one of an answer that the server hands out slowly: the RST for it
    # cuts the answer off. All other answers are sent and acknowledged at once.
    before = [p for packets in places.values() for p in packets if p.source == stray.source and p.length and p.time_ns < stray.time_ns]
    if stray.kind != "A" or not before:
        return False
    # One number behind what was sent it is a keep-alive probe of an idle connection.
    last = max(before, key=lambda packet: packet.time_ns)
    probe = stray.sequence == (last.sequence + last.length - 1) % 2**32
    return not probe and stray.time_ns - last.time_ns > SLOW_NS


def _owns(packet: Packet, client: str) -> bool:
    if packet.source == client:
        return packet.kind == "S"
    return packet.kind != "R"


def logged_a_reset(view: CaseView) -> None:
    """The gateway's log holds what a program says that met a RST (in a run with the fault)."""
    log = view.log("gateway/proxy.log") + view.log("gateway/error.log")
    if view.fault:
        view.require(any(words in log for words in LOGGED), f"the gateway logged no reset: {log[-400:]}")
