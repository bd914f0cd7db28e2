"""Two hosts answer ARP for one address: packets of one connection go to the first, then to the second."""

from __future__ import annotations

import json
import socket
import struct
import time

from ..host import Host
from ..load import Load, endpoint
from ..lvs import build as build_lvs
from ..scenario import FailedConnection, Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World

ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826, for Ethernet and IPv4
ETHERTYPE_ARP = 0x0806


def story_pair(world: World) -> None:
    """A failover pair on one LAN: the standby takes the address and nobody gives it up; each announces it in turn.

    Form `deaf`: the second host has the address by mistake, and no such service.
    """
    if world.options.ip == "6":
        raise ValueError("variant ip=6: ARP is IPv4 only")
    client = world.host("client")
    router = world.host("router", forwards=True)
    first, second = world.host("server-01"), world.host("server-02")
    world.link(client, router)
    client.default_route(client.interfaces[0].peer)
    taken = world.lan(router, first, second)
    network = router.interfaces[1].network
    shared = next(str(one) for one in world.random.sample(list(network.hosts()), 9) if str(one) not in taken)
    port = world.random.choice([80, 443, 8080])
    for host in (first, second):
        host.default_route(host.interfaces[0].peer)
        backend(host, port=port if world.form != "deaf" or host is first else 8081)
    first.ip(f"addr add {shared}/{network.prefixlen} dev {first.interfaces[0].logical}")
    announce(first, shared)
    world.notes |= {"service": endpoint(shared, port), "servers": ["server-01", "server-02"]}
    world.record()
    begun = time.monotonic()
    conversations(world, client, shared, port)
    Load(world, client, taken[1], port).mixed(24, 3.0)
    for number, host in enumerate((second, first, second)):
        time.sleep(max(0.0, begun + 1.5 * (number + 1) - time.monotonic()))
        if world.fault:
            if not number:
                host.ip(f"addr add {shared}/{network.prefixlen} dev {host.interfaces[0].logical}")
            announce(host, shared)
    time.sleep(2.0)


def story_lvs(world: World) -> None:
    """LVS-DR: one real server speaks ARP with the VIP as its own, and the router hears it in the middle of the story."""
    built = build_lvs(world, "dr", servers=3, router_seen=True)
    careless = world.random.choice(built.servers)
    for server in built.servers:
        built.bear_vip(server, "lo")
    if world.fault:
        careless.sysctl("net.ipv4.conf.all.arp_ignore", 0)
        careless.sysctl("net.ipv4.conf.all.arp_announce", 0)
    built.balance()
    lan, own = built.router.interfaces[1], careless.interfaces[0]
    built.router.ip(f"neigh replace {built.vip} lladdr {hardware_address(built.director)} dev {lan.logical} nud reachable")
    careless.ip(f"neigh replace {own.peer} lladdr {hardware_address(built.router, 1)} dev {own.logical} nud reachable")
    world.record()
    announce(built.director, built.vip)  # as keepalived does from time to time (vrrp_garp_master_refresh)
    conversations(world, built.client, built.vip, built.port)
    for server in built.servers:
        Load(world, built.client, server.address, built.port).mixed(8, 5.0)
    time.sleep(2.0)
    # As when the entry has grown old: the server asks for the router anew, and its question bears the VIP as sender
    # (net/ipv4/arp.c arp_solicit, arp_announce=0), so that the router takes it for the VIP's owner (arp_process).
    careless.ip(f"neigh del {own.peer} dev {own.logical}")
    time.sleep(4.0)


def conversations(world: World, client: Host, address: str, port: int) -> None:
    """Short connections, and some that last for the whole story."""
    load = Load(world, client, address, port, patience=6.0)
    for _ in range(24):
        load.get(1, after=world.random.uniform(0.05, 4.2))
    for _ in range(12):
        load.get(10, after=world.random.uniform(0.05, 1.0), pause=0.6)


def hardware_address(host: Host, number: int = 0) -> str:
    """The MAC address of one of a host's interfaces."""
    (link,) = json.loads(host.ip(f"-j link show dev {host.interfaces[number].logical}"))
    address = link["address"]
    assert isinstance(address, str)
    return address


def announce(host: Host, address: str) -> None:
    """Sends a gratuitous ARP request for `address`, as a host does that has just taken it (RFC 5227 section 3)."""
    own = bytes.fromhex(hardware_address(host).replace(":", ""))
    packed = socket.inet_aton(address)
    frame = b"\xff" * 6 + own + struct.pack("!H", ETHERTYPE_ARP) + ARP.pack(1, 0x0800, 6, 4, 1, own, packed, bytes(6), packed)

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((host.interfaces[0].logical, 0))
            raw.send(frame)

    host.inside(send)


def check(view: CaseView) -> Truth:
    """Each failed connection was carried to a host that does not know it, and that host answered RST."""
    service = view.note("service")
    names = view.notes["servers"]
    assert isinstance(names, list)
    table = view.connections(server=service)
    failed, tolerated = [], []
    errors = {str(one["client"]) for one in view.outcomes if one["error"] is not None and one["server"] == service}
    for (client, server), places in sorted(table.items()):
        reached = [name for name in names if any(p.source == client for p in places.get(name, []))]
        if client in errors:
            refused = [name for name in reached if any(p.kind == "R" and p.source == server for p in places[name])]
            view.require(refused, f"{client} failed, and no host of {reached} answered it with RST")
            view.require(len(reached) == 2 or view.form == "deaf", f"{client} failed, and its packets reached {reached}")
            failed.append(FailedConnection(client, server, "arp-conflict", min(p.time_ns for one in places.values() for p in one)))
        elif len(reached) > 1:
            tolerated.append(f"{client}-{server}")
    view.require_healthy_outcomes(but=errors)
    if not view.fault:
        view.require(not failed and not tolerated, "a connection went to two hosts without a fault")
        return Truth(healthy_connections=len(view.connections()))
    view.require(len(failed) >= 4, f"{len(failed)} connections failed, expected some")
    healthy = len(view.connections()) - len(failed) - len(tolerated)
    return Truth(failed, tolerated, healthy, "confirmed")


SCENARIOS = (
    *(
        Scenario(name, title, story_pair, check, "arp-conflict", frozenset({"bridge"}), {"state": "full"}, form)
        for name, title, form in (
            ("arp-conflict", "two hosts of a failover pair have one address, and announce it in turn", "pair"),
            ("arp-conflict-deaf", "a host without the service takes the address of another", "deaf"),
        )
    ),
    Scenario(
        name="arp-conflict-dr",
        title="LVS-DR: a real server speaks ARP with the VIP as its own, and the router believes it",
        story=story_lvs,
        check=check,
        cause="arp-conflict",
        needs=frozenset({"ip_vs", "bridge"}),
        defaults={"state": "full"},
        form="lvs",
    ),
)
