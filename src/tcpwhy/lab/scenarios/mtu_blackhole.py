"""A link in the middle carries less than the others, and the ICMP errors that would say so are dropped on their way back."""

from __future__ import annotations

import time
from itertools import pairwise

from ..firewall import Attempt, attempts
from ..host import Host
from ..load import Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView
from ..world import World

TUNNELS = (1480, 1476, 1450, 1420, 1400)
"""What is left of 1500 bytes inside IPIP, GRE, VXLAN, WireGuard, and inside two of them."""

PREY = 6
PATIENCE = 5.0  # s; longer than four repetitions of a segment (0.2 + 0.4 + 0.8 + 1.6 s)
LONG = 3_000_000_000  # ns; what the contract calls held up


def story(world: World) -> None:
    """Client - near - far - server, the link between near and far narrow; a guard before the senders of full segments drops ICMP.

    Forms: `upload`, `download`, `probing` (uploads of a client whose kernel finds the hole by itself, after seconds). The twin has the
    narrow link too, and a guard that lets ICMP pass.
    """
    near_is_seen = world.random.random() < 0.5
    client, server = world.host("client"), world.host("server")
    near = world.host("near", vantage=near_is_seen, forwards=True)
    far = world.host("far", vantage=False, forwards=True)
    guard = world.host("guard", vantage=False, forwards=True)
    row = [client, near, far, guard, server] if world.form == "download" else [client, guard, near, far, server]
    address = _in_a_row(world, row)
    narrow = world.random.choice([mtu for mtu in TUNNELS if mtu < world.mtu])
    near.ip(f"link set {near.interfaces[1].port} mtu {narrow}")
    far.ip(f"link set {far.interfaces[0].port} mtu {narrow}")
    if world.fault:
        _drop_icmp(guard)
    if world.form == "probing":
        client.sysctl("net.ipv4.tcp_mtu_probing", 1)
    port = world.random.choice([80, 8080, 3306, world.random.randrange(1024, 9999)])
    backend(server, port=port)
    world.notes.update(service=endpoint(address, port), narrow=narrow)
    world.record()
    load = Load(world, client, address, port)
    for _ in range(24):
        load.get(world.random.randrange(1, 5), after=world.random.uniform(0.05, 6))
    for _ in range(PREY):
        after = world.random.uniform(0.1, 1.5)
        if world.form == "download":
            load.talk("prey", lambda talk: talk.ask("GET", "/files/100k"), after=after, timeout=PATIENCE)
        else:
            load.talk("prey", _upload, after=after, timeout=15.0 if world.form == "probing" else PATIENCE)
    time.sleep(9.5)


def _upload(talk: Talk) -> None:
    talk.ask("POST", "/upload", talk.load.random.randbytes(talk.load.random.randrange(20_000, 90_000)))


def _in_a_row(world: World, hosts: list[Host]) -> str:
    """Cables from each host to the next, with routes along them; returns the last one's address."""
    for left, right in pairwise(hosts):
        world.link(left, right)
    family = "-6 " if world.options.ip == "6" else ""
    for place, host in enumerate(hosts[1:-1], start=1):
        for before in hosts[: place - 1]:
            host.ip(f"{family}route add {before.interfaces[-1].network} via {host.interfaces[0].peer}")
        for behind in hosts[place + 2 :]:
            host.ip(f"{family}route add {behind.interfaces[0].network} via {host.interfaces[1].peer}")
    hosts[0].default_route(hosts[0].interfaces[0].peer)
    hosts[-1].default_route(hosts[-1].interfaces[0].peer)
    return hosts[-1].address


def _drop_icmp(guard: Host) -> None:
    """The rule of somebody who takes all ICMP for an attack."""
    icmp = "ipv6-icmp --icmpv6-type packet-too-big" if guard.world.options.ip == "6" else "icmp --icmp-type fragmentation-needed"
    guard.iptables(f"-A FORWARD -p {icmp} -j DROP")


def check(view: CaseView) -> Truth:
    """Full segments of the prey were repeated and never came to the other end, small ones did; everybody else is well."""
    prey = {str(outcome["client"]) for outcome in view.outcomes if outcome["kind"] == "prey"}
    tried = [one for one in attempts(view, view.note("service")) if one.client in prey]
    view.require(len(tried) == PREY, f"{len(tried)} connections with full segments, expected {PREY}")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    rescued = view.form == "probing"
    view.require_healthy_outcomes(but=set() if rescued else prey)
    if not rescued:
        view.require(all(one["error"] for one in view.outcomes if one["client"] in prey), "a full segment got through")
    for one in tried:
        sender, receiver = ("server", "client") if view.form == "download" else ("client", "server")
        lost = _lost(one, sender, receiver)
        view.require(len(lost) >= 3, f"{one.client}: {len(lost)} repetitions of a full segment were lost")
        view.require(lost[-1] - lost[0] >= LONG * 0.8, f"{one.client}: it was held up for {(lost[-1] - lost[0]) / 1e9:.1f} s only")
    return Truth(
        [one.failed("mtu-blackhole") for one in tried],
        healthy_connections=len(view.connections()) - len(tried),
        confidence="confirmed",
        notes=[f"the narrow link carries {view.notes['narrow']} bytes"],
    )


def _lost(one: Attempt, sender: str, receiver: str) -> list[int]:
    """When the first full segment, and each repetition of it, left its sender; none of them was seen at the receiver."""
    source = one.client if sender == "client" else one.server
    sent = [packet for packet in one.packets.get(sender, []) if packet.source == source and packet.length]
    seen = {(packet.sequence, packet.timestamp) for packet in one.packets.get(receiver, []) if packet.source == source and packet.length}
    missing = [packet for packet in sent if (packet.sequence, packet.timestamp) not in seen and packet.length > 1000]
    return [packet.time_ns for packet in missing if packet.sequence == missing[0].sequence]


SCENARIOS = tuple(
    Scenario(
        name=name,
        title=title,
        story=story,
        check=check,
        cause="mtu-blackhole",
        needs=frozenset({"iptables"}),
        defaults=defaults,
        form=form,
    )
    for name, title, form, defaults in (
        ("mtu-blackhole", "uploads do not fit a narrow link, and nobody hears so", "upload", {"state": "full"}),
        ("mtu-blackhole-download", "answers do not fit a narrow link, and nobody hears so", "download", {}),
        ("mtu-blackhole-probing", "uploads do not fit, until the client's kernel tries smaller segments", "probing", {}),
    )
)
