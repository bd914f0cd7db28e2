"""A host falls silent in mid-connection, for good and for everybody, while others on its network go on."""

from __future__ import annotations

import json
import time

from ..firewall import Attempt, attempts, require_each
from ..host import Host, run_checked
from ..load import Load, Talk
from ..scenario import Truth, forms
from ..services import backend
from ..view import CaseView
from ..world import World

BUSY = 6  # connections that are in the middle of something when the host goes
LATE = 4  # that are tried afterwards
PATIENCE = 5.5  # s; longer than three retransmissions over three seconds, however late the first one is
GONE_AT = 4.0  # s after the captures began
LENGTH = 13.0


def story(world: World) -> None:
    """A client, a router, and two servers on one network; one host's only interface goes down for good.

    Forms: `server` (nobody says that it is gone: the router goes on sending to its hardware address), `unreachable` (the
    router asks for the address in vain and says so by ICMP), `client` (the client is gone, the servers repeat their
    answers; another client goes on).
    """
    router = world.host("router", forwards=True)
    client, other, server, second = (world.host(name) for name in ("client", "client-02", "server", "server-02"))
    world.lan(router, client, other)
    _, address, second_address = world.lan(router, server, second)
    if world.form == "unreachable":
        _asks_soon(router)
    port = world.random.choice([80, 8080, 9200, world.random.randrange(1024, 9999)])
    for host in (client, other, server, second):
        host.default_route(host.interfaces[0].peer)
    for host in (server, second):
        backend(host, port=port, rate="12k")
    victim = client if world.form == "client" else server
    world.notes["victim"] = victim.address
    if world.form == "server":
        _know_for_ever(router, server)
    world.record()
    begun = time.monotonic()
    for source in (client, other):
        for target in (address, second_address):
            here = victim.address in (source.address, target)
            Load(world, source, target, port).mixed(18, GONE_AT - 2.5 if here else LENGTH - 2)
    if world.form == "client":
        _downloads(world, client, address, port)
    else:
        _uploads(world, (client, other), address, port)
    time.sleep(begun + GONE_AT - time.monotonic())
    world.notes["gone_ns"] = time.time_ns()
    if world.fault:
        victim.ip(f"link set {victim.interfaces[0].port} down")
    if world.form != "client":
        late = Load(world, other, address, port, patience=PATIENCE)
        for number in range(LATE):
            late.talk("prey", lambda talk: talk.ask("GET", "/"), after=0.3 + number * 0.2)
    time.sleep(begun + LENGTH - time.monotonic())


def _asks_soon(router: Host) -> None:
    """A neighbour is asked for again after a second or two without a sign of life, instead of half a minute (arp(7))."""
    cache = "ndisc_cache" if router.world.options.ip == "6" else "arp_cache"
    for interface in router.interfaces:
        router.ip(f"ntable change name {cache} dev {interface.logical} base_reachable 1500 delay_probe 1000 retrans 400")


def _know_for_ever(router: Host, server: Host) -> None:
    """A neighbour entry that no missing answer invalidates."""
    link = json.loads(run_checked(["ip", "-j", "-n", server.netns, "link", "show", server.interfaces[0].logical]))
    mac = link[0]["address"]
    inside = next(one.logical for one in router.interfaces if one.network == server.interfaces[0].network)
    router.ip(f"neigh replace {server.address} lladdr {mac} dev {inside} nud permanent")


def _uploads(world: World, sources: tuple[Host, ...], address: str, port: int) -> None:
    """Uploads that are under way when the server goes."""
    for number in range(BUSY):
        load = Load(world, sources[number % len(sources)], address, port, patience=PATIENCE)
        load.slow_upload(after=0.4 + number * 0.2, pieces=30, piece=world.random.randrange(300, 2000), interval=0.16)


def _downloads(world: World, client: Host, address: str, port: int) -> None:
    """Downloads, handed out slowly, that are under way when the client goes."""
    load = Load(world, client, address, port)
    for number in range(BUSY):
        load.talk("slow-download", _read, after=0.4 + number * 0.15)


def _read(talk: Talk) -> None:
    talk.ask("GET", "/slow/100k")
    talk.close()


def check(view: CaseView) -> Truth:
    """Nothing of the victim is seen after it went; what is sent to it is repeated to the end, and all others are well."""
    victim = view.note("victim")
    tried = [one for server in sorted({str(one["server"]) for one in view.outcomes}) for one in attempts(view, server)]
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(tried))
    gone_ns = int(str(view.notes["gone_ns"]))
    hit = [one for one in tried if _address(one.client if view.form == "client" else one.server) == victim]
    late = {str(one["client"]) for one in view.outcomes if one["kind"] == "prey" and one["error"]}
    failed = [one for one in hit if one.client in late or _repeats(one, victim, gone_ns)]
    view.require_healthy_outcomes(but={one.client for one in hit})
    errors = {str(one["client"]) for one in view.outcomes if one["error"]}
    view.require(view.form == "client" or errors <= {one.client for one in failed}, "a program met an error that its packets do not show")
    view.require(len(failed) >= BUSY - 1, f"{len(failed)} connections were repeated into nothing, expected {BUSY - 1}")
    require_each(view, failed, lambda one: not _heard(one, victim, gone_ns), "silent to the end")
    errors_seen = view.frames("router", "icmp.type == 3 || icmpv6.type == 1")
    view.require(view.form == "client" or bool(errors_seen) == (view.form == "unreachable"), f"the router sent {errors_seen} ICMP errors")
    return Truth(
        [one.failed("peer-vanished") for one in failed],
        tolerated=[f"{one.client}-{one.server}" for one in hit if one not in failed and _after(one, gone_ns)],
        healthy_connections=len(tried) - len(failed),
        confidence="confirmed",
    )


def _address(endpoint: str) -> str:
    return endpoint.rpartition(":")[0].strip("[]")


def _after(one: Attempt, gone_ns: int) -> list[str]:
    """Who sent what was seen a tenth of a second after the host went, or later."""
    return [p.source for packets in one.packets.values() for p in packets if p.time_ns > gone_ns + 100_000_000]


def _heard(one: Attempt, victim: str, gone_ns: int) -> bool:
    return any(_address(source) == victim for source in _after(one, gone_ns))


def _repeats(one: Attempt, victim: str, gone_ns: int) -> bool:
    """Whether one segment with data, or the SYN, went to the victim four times over three seconds."""
    for packets in one.packets.values():
        times: dict[int, list[int]] = {}
        for p in packets:
            if p.time_ns > gone_ns - 1_000_000_000 and _address(p.source) != victim and (p.length or p.kind == "S"):
                times.setdefault(p.sequence, []).append(p.time_ns)
        if any(len(sent) >= 4 and sent[-1] - sent[0] >= 3_000_000_000 for sent in times.values()):
            return True
    return False


SCENARIOS = forms(
    (
        ("peer-vanished", "a server falls silent for good, and nobody says so", "server"),
        (
            "peer-vanished-unreachable",
            "a server falls silent for good; after a time its router says by ICMP that it cannot be reached",
            "unreachable",
        ),
        ("peer-vanished-client", "a client falls silent for good while answers are on their way to it", "client"),
    ),
    story=story,
    check=check,
    cause="peer-vanished",
)
