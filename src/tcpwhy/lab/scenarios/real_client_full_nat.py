"""Incident 4: clients behind NAT and a full-NAT balancer, which names them in a TCP option of early packets only; or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..balancer import Balancer, plain_cables
from ..cluster import BALANCER, NAT, SERVERS, Clients, build
from ..fullnat import Manner
from ..real_clients import truth_of
from ..scenario import Scenario, Truth
from ..segment import read_options
from ..view import CaseView, Packet
from ..world import World

DPVS = Manner()
LVS = Manner(on_syn=True, on_fin=False, kind6=253)
SERVERS_ONLY = ",".join(SERVERS)


@dataclass(frozen=True)
class Form:
    """What differs between the scenarios.

    `table` is how the balancer writes its own table (empty: it does not), `captured` names the hosts beside the servers
    where packets are taken. `forged` lets clients send headers of others, `small` lets them move little data; `chain` puts
    more servers behind nginx, `server_family` gives the servers another IP version than the clients'. `old` is the number
    of old connections a client, `short` that of all short ones, `locals` that of the balancer's local addresses, each with
    `ports`.
    """

    manner: Manner
    title: str
    table: str = "dpvs"
    captured: frozenset[str] = frozenset({BALANCER, NAT})
    options: Mapping[str, str] = field(default_factory=lambda: {"state": "ss"})
    forged: bool = False
    small: bool = False
    chain: bool = False
    server_family: str = ""
    old: int = 2
    short: int = 24
    locals: int = 3
    ports: tuple[int, int] = (1025, 65535)


FORMS = {
    "dpvs": Form(DPVS, "DPVS: TOA on the third ACK and on what the client sends until the server is acknowledged", forged=True),
    "dpvs-ipv6": Form(DPVS, "DPVS, IPv6: TOA of kind 254 and 20 bytes", options={"state": "ss", "ip": "6"}),
    "lvs": Form(LVS, "Alibaba's LVS: TOA on the SYN too", "lvs"),
    "lvs-ipv6": Form(LVS, "Alibaba's LVS, IPv6: TOA of kind 253 and 20 bytes, on the SYN too", "lvs", options={"state": "ss", "ip": "6"}),
    "nat64": Form(
        DPVS,
        "DPVS between clients of IPv6 and servers of IPv4: an option of 20 bytes on packets of IPv4",
        options={"state": "ss", "ip": "6"},
        server_family="4",
    ),
    "offsets": Form(
        Manner(kind4=200, on_syn=True, place="anywhere"),
        "TOA of kind 200 (Tencent, UCloud, JD) anywhere among the options",
    ),
    "proxy-v1": Form(Manner(mark="proxy-v1"), "full NAT that inserts a PROXY header instead of TOA"),
    "proxy-v2": Form(Manner(mark="proxy-v2"), "full NAT that inserts a binary PROXY header instead of TOA"),
    "captures": Form(DPVS, "captures only, no table of any host", options={"state": "none"}),
    "joined": Form(Manner(mark="none"), "captures only, and a balancer that inserts nothing", options={"state": "none"}),
    "tables": Form(Manner(mark="none"), "tables of the balancer and the NAT node, captures of the servers alone", captured=frozenset()),
    "chain": Form(
        DPVS,
        "nginx behind the balancer passes requests on and names its peer, the balancer, in X-Forwarded-For",
        chain=True,
        short=16,
        small=True,
    ),
    "old-cluster": Form(
        DPVS,
        "an old cluster that somebody still uses: the balancer's captures and the NAT node's state, no table of the balancer",
        table="",
        captured=frozenset({BALANCER}),
        short=12,
        small=True,
    ),
    "servers": Form(DPVS, "nothing but the servers' captures: TOA tells the new ones, nothing the old", options={"places": SERVERS_ONLY}),
    "unknown": Form(
        Manner(mark="none"),
        "nothing but the servers' captures, and a balancer that inserts nothing: nobody can tell",
        options={"places": SERVERS_ONLY},
    ),
    "reused-ports": Form(
        Manner(time_wait_s=0.8),
        "local ports of the balancer that one client after the other has",
        old=1,
        short=70,
        locals=1,
        ports=(5000, 5029),
    ),
}


def story(world: World) -> None:
    """Old connections stay in use while the captures run, and short ones are opened beside them."""
    form = FORMS[world.form]
    cluster = build(
        world,
        captured=form.captured,
        proxy_protocol=form.manner.mark.startswith("proxy"),
        chain=form.chain,
        server_family=form.server_family,
    )
    network = world.subnet(form.server_family)
    local = [str(network.network_address + number) for number in world.random.sample(range(2, 250), form.locals)]
    family = "-6 " if network.version == 6 else ""
    for server in cluster.servers:
        server.ip(f"{family}route add {network} via {server.interfaces[0].peer}")
    plain_cables(cluster.edge, cluster.balancer, *cluster.servers)
    Balancer(cluster.balancer, form.table, form.manner, (cluster.vip, cluster.port), cluster.reals, local, form.ports)
    world.notes["forwards"] = "fullnat"
    clients = Clients(cluster, forged=form.forged, small=form.small)
    clients.open_old(each=form.old)
    clients.record()
    clients.talk(form.short)


def check(view: CaseView) -> Truth:
    """The options were seen where the form says; what the programs noted is the truth."""
    form = FORMS[view.form]
    truth = truth_of(view, mark="" if form.manner.mark == "none" else form.manner.mark.partition("-")[0])
    assert truth.clients is not None
    marked = [packet for place in view.places if place in SERVERS for packet in view.packets[place] if _marks(packet, form.manner)]
    kinds = {packet.kind for packet in marked}
    expected = set() if form.manner.mark != "toa" else {"S", "A"} if form.manner.on_syn else {"A"}
    view.require(kinds - {"F"} == expected, f"the servers saw TOA on packets of kind {kinds}")
    marked_clients = {packet.source for packet in marked}
    fresh = {row.client for row in truth.clients if not row.open_before_capture and row.evidence}
    view.require(marked_clients == (fresh if expected else set()), "TOA was not seen on exactly the new connections")
    if form.manner.place == "anywhere":
        places = {packet.options.index(bytes([form.manner.kind4, 8])) for packet in marked}
        view.require(len(places) >= 5, f"TOA was seen at {len(places)} offsets only")
    if view.form == "reused-ports":
        ends = Counter((row.client, row.server) for row in truth.clients)
        view.require(sum(count > 1 for count in ends.values()) >= 5, "too few local ports were used again")
    return truth


def _marks(packet: Packet, manner: Manner) -> bool:
    layouts = {(manner.kind4, 8), (manner.kind6, 20)}
    return any((option[0], len(option)) in layouts for option in read_options(packet.options))


SCENARIOS = tuple(
    Scenario(
        name=f"real-client-{name}",
        title=form.title,
        story=story,
        check=check,
        needs=frozenset({"nat", "bridge"}),
        defaults=form.options,
        form=name,
    )
    for name, form in FORMS.items()
)
