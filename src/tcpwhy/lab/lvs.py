"""A client, a router, an IPVS director and real servers: what the LVS scenarios are made of, and their truth."""

from __future__ import annotations

from dataclasses import dataclass

from .firewall import Attempt, answered, attempts
from .host import Host
from .load import Load, endpoint
from .services import backend
from .view import CaseView
from .world import World

#: ipvsadm's words for how a packet reaches its real server (ipvsadm(8)).
FORWARDING = {"tun": "-i", "dr": "-g"}
DIRECTORS = ("director", "lb1", "lvs-01", "balancer")
SERVERS = ("rs", "web", "real-", "app-")
#: Seconds after which the load's clients give up: a SYN and its repetitions at 1 and 3 s fit in.
PATIENCE = 3.6
#: Seconds for which healthy connections go on after the last one that may fail: captures must show that it fell silent.
LASTING = 5.4


@dataclass
class Lvs:
    """The built topology; nothing is balanced before `balance`."""

    world: World
    mode: str
    client: Host
    router: Host
    director: Host
    servers: list[Host]
    vip: str
    port: int

    @property
    def service(self) -> str:
        """`ip:port` of the virtual service."""
        return endpoint(self.vip, self.port)

    def balance(self, scheduler: str = "rr") -> None:
        """Gives the director its virtual service with all real servers."""
        self.director.run(["ipvsadm", "-A", "-t", self.service, "-s", scheduler])
        for server in self.servers:
            at = endpoint(server.address, self.port)
            self.director.run(["ipvsadm", "-a", "-t", self.service, "-r", at, FORWARDING[self.mode], "-w", "1"])

    def bear_vip(self, server: Host, device: str) -> None:
        """Puts the VIP on a real server's `device` and keeps the server from answering ARP for it."""
        server.ip(f"addr add {self.vip}/32 dev {device}")
        server.sysctl("net.ipv4.conf.all.arp_ignore", 1)
        server.sysctl("net.ipv4.conf.all.arp_announce", 2)

    def tunnel(self, server: Host, device: str = "tunl0") -> None:
        """Lets a real server take IPIP packets, the VIP on `device` (tunl0 or lo); the tunnel is captured too."""
        server.ip("link set tunl0 up")
        server.taps.append("tunl0")
        self.bear_vip(server, device)
        server.sysctl("net.ipv4.conf.tunl0.rp_filter", 0)

    def load(self, count: int, seconds: float) -> None:
        """`count` connections to the virtual service, and others beside them to the real servers' own addresses (`beside`)."""
        Load(self.world, self.client, self.vip, self.port, patience=PATIENCE).mixed(count, seconds)
        self.beside(24 // len(self.servers), seconds + LASTING)

    def beside(self, count: int, seconds: float) -> None:
        """`count` connections of the client to each real server, and checks of the director, who thus sees traffic to the end."""
        for server in self.servers:
            Load(self.world, self.client, server.address, self.port).mixed(count, seconds)
            Load(self.world, self.director, server.address, self.port).mixed(5, seconds)


def build(world: World, mode: str, *, servers: int = 3, router_seen: bool = False) -> Lvs:
    """The hosts, their cables and routes, nginx on each real server; DR has one LAN, TUN that or a cable for each host.

    The client is a vantage point in half of all worlds. Raises ValueError for IPv6, which IPIP does not carry.
    """
    if world.options.ip == "6":
        raise ValueError("variant ip=6: IPIP and the LVS scenarios are IPv4 only")
    draw = world.random
    client = world.host("client", vantage=draw.random() < 0.5)
    router = world.host("router", vantage=router_seen, forwards=True)
    director = world.host(draw.choice(DIRECTORS))
    stem = draw.choice(SERVERS)
    real = [world.host(f"{stem}{number:02d}") for number in range(1, servers + 1)]
    world.link(client, router)
    client.default_route(client.interfaces[0].peer)
    port = draw.choice([80, 80, 443, 8080, draw.randrange(1024, 9999)])
    if mode == "dr" or draw.random() < 0.5:
        taken = world.lan(router, director, *real)
        network = router.interfaces[-1].network
        vip = next(str(one) for one in draw.sample(list(network.hosts()), 9) if str(one) not in taken)
    else:
        for host in (director, *real):
            world.link(router, host)
        vip = str(world.subnet().network_address + draw.randrange(2, 250))
        router.ip(f"route add {vip}/32 via {director.address}")
    director.ip(f"addr add {vip}/32 dev {director.interfaces[0].logical}")
    for host in (director, *real):
        host.default_route(host.interfaces[0].peer)
    for host in real:
        backend(host, port=port)
    built = Lvs(world, mode, client, router, director, real, vip, port)
    world.notes |= {"service": built.service, "director": director.name, "servers": [host.name for host in real]}
    return built


def servers_of(view: CaseView) -> list[str]:
    """The real servers' names."""
    names = view.notes["servers"]
    assert isinstance(names, list)
    return names


def victims(view: CaseView) -> list[str]:
    """The names of the hosts that the story's fault was made on."""
    names = view.notes["victims"]
    assert isinstance(names, list)
    return names


def unanswered(view: CaseView) -> list[Attempt]:
    """The attempts at the virtual service to which no real server ever spoke."""
    return [one for one in attempts(view, view.note("service")) if not answered(one) and not one.count("SA")]
