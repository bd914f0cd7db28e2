"""An old cluster: clients, many of them behind a NAT node, a balancer's host and nginx servers; and what the clients do.

inside clients - nat - edge - balancer - (switch) - real servers
outside clients -------/
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .host import Host
from .load import Load, Talk, endpoint
from .services import backend, nginx
from .world import World

BALANCER, NAT = "balancer", "nat"
SERVERS = ("nginx-01", "nginx-02", "nginx-03")
APPS = ("app-01", "app-02")
TEAMS = ("orders", "search", "billing", "risk control", "mobile-gateway", "reports", "crawler", "team/payments", "stock")
HEADER = "X-Team"
MASQUERADE_PORTS = "10000-19999"  # apart from the ports that the kernels of clients and balancers hand out
Conversation = Callable[[Talk], None]
PROXY = """
  keepalive_timeout 600s; keepalive_requests 10000;
  upstream app {{ {apps} }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://app; proxy_set_header Host $host;
      proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
"""
LASTING = 3.5  # seconds of the captures in which clients talk


@dataclass
class Cluster:
    """The built topology; nothing is balanced yet."""

    world: World
    inside: Host
    outside: Host
    nat: Host
    edge: Host
    balancer: Host
    servers: list[Host]
    vip: str
    port: int
    server_port: int

    @property
    def reals(self) -> list[tuple[str, int]]:
        """Address and port of each real server."""
        return [(server.address, self.server_port) for server in self.servers]

    def note_translations(self) -> None:
        """Notes what the NAT node translates, for the truth."""
        family = "ipv6" if self.world.options.ip == "6" else "ipv4"
        self.world.notes["conntrack"] = self.nat.run(["conntrack", "-L", "-f", family, "-p", "tcp"])


def build(
    world: World,
    *,
    captured: frozenset[str] = frozenset({BALANCER, NAT}),
    proxy_protocol: bool = False,
    chain: bool = False,
    server_family: str = "",
) -> Cluster:
    """The hosts, their cables and routes, the masquerading, and nginx on each real server.

    The balancer and the NAT node are vantage points; `captured` names those of them where packets are taken. `proxy_protocol`
    lets nginx expect a PROXY header. `chain` lets nginx pass requests on to two more servers, and name its peer in headers.
    `server_family` is the address family (`4` or `6`) of the servers, where it is not that of the clients.
    """
    draw = world.random
    inside = world.host("inside", vantage=False)
    outside = world.host("outside", vantage=False)
    nat = world.host(NAT, captured=NAT in captured, forwards=True)
    edge = world.host("edge", vantage=False, forwards=True)
    balancer = world.host(BALANCER, captured=BALANCER in captured)
    servers = [world.host(name) for name in SERVERS[: draw.choice([2, 3])]]
    for left, right in ((inside, nat), (nat, edge), (outside, edge), (edge, balancer)):
        world.link(left, right)
    if world.options.vxlan:
        for server in servers:
            world.link(balancer, server)
    else:
        world.lan(balancer, *servers, family=server_family)
    for host in (inside, outside):
        more_addresses(host, 5)
        host.default_route(host.interfaces[0].peer)
    nat.default_route(nat.interfaces[1].peer)
    uplink = nat.interfaces[1].logical
    nat.iptables(f"-t nat -A POSTROUTING -o {uplink} -p tcp -j MASQUERADE --to-ports {MASQUERADE_PORTS}")
    vip = str(world.subnet().network_address + draw.randrange(2, 250))
    family = "-6 " if world.options.ip == "6" else ""
    edge.ip(f"{family}route add {vip}/{world.full_length} via {balancer.interfaces[0].address}")
    balancer.default_route(balancer.interfaces[0].peer)
    port, server_port = draw.choice([80, 80, 8080]), draw.choice([80, 8080, 8000])
    for server in servers:
        server.default_route(server.interfaces[0].peer)
        if chain:
            continue
        backend(
            server,
            port=server_port,
            address="[::]" if ":" in server.address else "0.0.0.0",
            extra=" proxy_protocol" if proxy_protocol else "",
            keepalive=600,
            served=served_log(server),
        )
    if chain:
        pass_on(world, servers, server_port)
    world.notes |= {
        "servers": [server.name for server in servers],
        "apps": list(APPS) if chain else [],
        "service": endpoint(vip, port),
        "inside": [inside.name],
    }
    return Cluster(world, inside, outside, nat, edge, balancer, servers, vip, port, server_port)


def served_log(server: Host) -> Path:
    """Where the nginx of a host writes what it served, for the truth alone."""
    return server.world.scratch / f"served-{server.name}.log"


def pass_on(world: World, servers: Sequence[Host], port: int) -> None:
    """Two application servers, one network with those of nginx; each request gets a connection of its own to one of them."""
    apps = [world.host(name) for name in APPS]
    addresses = world.lan(*apps, *servers)
    for app in apps:
        backend(app, port=8000, served=served_log(app))
    wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
    upstream = " ".join(f"server {endpoint(address, 8000)};" for address in addresses[: len(apps)])
    for server in servers:
        nginx(server, PROXY.format(apps=upstream, listen=f"{wide}:{port}"), port=port, served=served_log(server))


def more_addresses(host: Host, count: int) -> None:
    """Gives a host's first interface `count` further addresses of its network: so many clients more."""
    first = host.interfaces[0]
    taken = {first.address, first.peer}
    world = host.world
    while len(taken) < count + 2:
        address = str(first.network.network_address + world.random.randrange(2, 250))
        if address not in taken:
            taken.add(address)
            host.ip(f"addr add {address}/{first.network.prefixlen} dev {first.logical}{world.nodad}")
    world.notes[f"addresses of {host.name}"] = sorted(taken - {first.peer})


class Clients:
    """What the clients of a cluster do: `open_old` before the captures, `talk` while they run."""

    def __init__(self, cluster: Cluster, *, forged: bool = False, small: bool = False) -> None:
        """`forged` lets some clients send an X-Forwarded-For of their own making; `small` lets none move a lot of data."""
        self.cluster = cluster
        self.random = cluster.world.random
        self.forged = forged
        self.small = small
        self._recorded = threading.Event()
        self._opened: list[threading.Event] = []
        self._loads: list[tuple[Load, str]] = []
        for host in (cluster.inside, cluster.outside):
            addresses = cluster.world.notes[f"addresses of {host.name}"]
            assert isinstance(addresses, list)
            for address in addresses:
                load = Load(cluster.world, host, cluster.vip, cluster.port, threads=24, source=address)
                self._loads.append((load, self.random.choice(TEAMS)))

    def open_old(self, *, each: int = 2) -> None:
        """Opens `each` long-lived connections a client; returns when each has had its first answers, and some time went by."""
        for load, team in self._loads:
            for number in range(each):
                opened = threading.Event()
                self._opened.append(opened)
                load.talk("old", self._old(team, opened, silent=number > 0 and self.random.random() < 0.25))
        for opened in self._opened:
            if not opened.wait(20):
                raise TimeoutError("an old connection was not answered")
        time.sleep(0.5)

    def record(self) -> None:
        """Starts the captures, and lets the old connections go on."""
        world = self.cluster.world
        world.record()
        time.sleep(0.1)
        world.notes["recorded_ns"] = time.time_ns()
        self._recorded.set()

    def talk(self, short: int, *, long: int = 6) -> None:
        """`short` connections of one to three requests and `long` ones that stay open, begun at random while the captures run."""
        for number in range(short + long):
            load, team = self.random.choice(self._loads)
            after = self.random.uniform(0.05, LASTING - 1.2)
            load.talk("short" if number < short else "long", self._fresh(team, stays=number >= short), after=after)
        time.sleep(LASTING)
        self.cluster.note_translations()

    def _old(self, team: str, opened: threading.Event, *, silent: bool) -> Conversation:
        first, later = self.random.randint(1, 3), self.random.randint(2, 5)
        seed = self.random.getrandbits(32)

        def conversation(talk: Talk) -> None:
            for _ in range(first):
                talk.ask("GET", "/", headers=self._headers(talk, team, 0.5))
            opened.set()
            self._recorded.wait(60)
            named = False
            for turn in range(0 if silent else later):
                time.sleep(talk.load.random.uniform(0.05, 0.5))
                headers = self._headers(talk, team, 1.0 if turn == later - 1 and not named and seed % 5 else 0.4)
                named = named or HEADER in headers
                self._one_request(talk, headers)
            self.cluster.world.over.wait(60)

        return conversation

    def _fresh(self, team: str, *, stays: bool) -> Conversation:
        requests = self.random.randint(1, 3)

        def conversation(talk: Talk) -> None:
            for _ in range(requests):
                self._one_request(talk, self._headers(talk, team, 0.7))
                time.sleep(talk.load.random.uniform(0.02, 0.3))
            if stays:
                self.cluster.world.over.wait(60)
            talk.close()

        return conversation

    def _headers(self, talk: Talk, team: str, chance: float) -> dict[str, str]:
        draw = talk.load.random
        headers = {"User-Agent": f"client/{draw.randrange(1, 5)}.{draw.randrange(10)}", "Accept": "*/*"}
        if draw.random() < chance:
            headers[HEADER] = team
        if self.forged and draw.random() < 0.3:
            headers["X-Forwarded-For"] = f"203.0.113.{draw.randrange(1, 255)}"  # RFC 5737
        return headers

    def _one_request(self, talk: Talk, headers: Mapping[str, str]) -> None:
        draw = talk.load.random
        dice = draw.random()
        if dice < 0.35:
            talk.ask_in_pieces(f"/?q={draw.getrandbits(20)}", headers, draw.randint(2, 4), 0.03)
        elif dice < 0.7 and not self.small:
            self._large(talk, headers)
        else:
            talk.ask("GET", f"/?q={draw.getrandbits(20)}", headers=headers)

    def _large(self, talk: Talk, headers: Mapping[str, str]) -> None:
        draw = talk.load.random
        if draw.random() < 0.4:
            talk.ask("POST", "/upload", draw.randbytes(draw.randrange(500, 12_000)), headers=headers)
        else:
            talk.ask("GET", draw.choice(["/files/1k", "/files/20k"]), headers=headers)
