"""Leftover sidecar rules turn connections to a local port: to a dead one or a stranger; in the twins a proxy listens there."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from datetime import datetime
from zoneinfo import ZoneInfo

from ..firewall import Row, build
from ..healthy import read_request, serve
from ..host import Host
from ..load import LINGER_RESET, Load, Talk
from ..scenario import FailedConnection, Scenario, Truth
from ..services import nginx
from ..sidecar import SHAPES, Redirect, relay
from ..view import CaseView
from ..world import World

PREY = 8
STRANGER = 'server {{ listen {wide}:{port}; server_name _; location / {{ return 404 "nothing here\\n"; }} }}'


def story(world: World) -> None:
    """Rules on the client's host (OUTPUT), on a node or on the server's host (PREROUTING); form: `SHAPE WHO PLACE`."""
    shape, who, place = world.form.split()
    row = build(world, firewall_seen=place == "firewall", port=world.random.choice([80, 80, 8080, world.random.randrange(5000, 9000)]))
    row.client.taps.append("lo")
    other_port = 8000 if row.port == 80 else 80
    other = _other(row, other_port)
    build_rules, uid, fixed = SHAPES[shape]
    redirect = Redirect(
        network=f"{row.address}/{world.full_length}",
        port=row.port,
        to=fixed or world.random.choice([row.port, world.random.randrange(10_000, 19_999)]),
        uid=uid or world.random.randrange(900, 60_000),
        family=world.options.ip,
    )
    host = {"client": row.client, "firewall": row.firewall, "server": row.server}[place]
    rules = build_rules(world, redirect)
    if shape == "nft":
        host.nft(rules)
    else:
        host.restore_iptables(rules)
    if not world.fault:
        relay(host, redirect.to, redirect.uid)
    elif who == "stranger":
        _stranger(host, redirect.to)
    elif who == "reset":
        serve(host, redirect.to, _hang_up)
    world.notes |= {"redirect": redirect.to, "other": other.address}
    world.record()
    Load(world, row.client, other.address, other_port).mixed(40, 3.0)
    prey = Load(world, row.client, row.address, row.port)
    log = Log(row.client, row.service)
    for _ in range(PREY):
        prey.talk("prey", log.ask, after=world.random.uniform(0.1, 2.5))
    time.sleep(4.2)


def _other(row: Row, port: int) -> Host:
    """A second server behind the firewall, which the rules do not name."""
    other = row.world.host("other", vantage=False)
    row.world.link(row.firewall, other)
    other.default_route(other.interfaces[0].peer)
    wide = "[::]" if row.world.options.ip == "6" else "0.0.0.0"
    folder = other.scratch / "files"
    folder.mkdir()
    for name, size in (("1k", 1_000), ("20k", 20_000), ("100k", 100_000)):
        (folder / name).write_bytes(row.world.random.randbytes(size))
    nginx(other, f"server {{ listen {wide}:{port}; location / {{ return 200 well; }} location /files/ {{ alias {folder}/; }} }}", port=port)
    return other


def _stranger(host: Host, port: int) -> None:
    wide = "[::]" if host.world.options.ip == "6" else "0.0.0.0"
    nginx(host, STRANGER.format(wide=wide, port=port), port=port)


def _hang_up(connection: socket.socket) -> None:
    """A stranger that understands nothing: reads, and ends with RST."""
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


class Log:
    """The client program: it writes down in Go's form what it did not expect."""

    def __init__(self, host: Host, service: str) -> None:
        self._file = host.folder / "service.log"
        self._service = service
        self._zone = ZoneInfo(host.world.options.zone)
        self._lock = threading.Lock()

    def ask(self, talk: Talk) -> None:
        """One request; any answer but 200 is an error."""
        path = f"/api/v1/item/{talk.load.random.randrange(1000, 9999)}"
        status = talk.ask("GET", path)
        if status == 200:
            talk.close()
            return
        words = f"unexpected status {status} {http.client.responses[status]}"
        with self._lock, self._file.open("a") as log:
            log.write(f'{datetime.now(self._zone):%Y/%m/%d %H:%M:%S} Get "http://{self._service}{path}": {words}\n')
        raise http.client.HTTPException(words)


def check(view: CaseView) -> Truth:
    """The client's program failed, its packets were turned to the local port, and the server it asked heard nothing."""
    shape, who, place = view.form.split()
    service = view.note("service")
    prey = [one for one in view.outcomes if one["kind"] == "prey"]
    view.require(len(prey) == PREY, f"{len(prey)} connections were to be turned, expected {PREY}")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(prey) + 40)
    view.require(all(one["error"] for one in prey), f"a connection that was to be turned went well: {prey}")
    clients = {str(one["client"]) for one in prey}
    view.require_healthy_outcomes(but=clients)
    # what comes back bears the address that was asked; what goes out bears it before the place of the rules only
    turned = {p.source for p in view.packets["client"] if p.kind == "S" and p.target != service and p.source in clients}
    view.require(place != "client" or turned == clients, f"{len(turned)} SYNs stand on lo, expected {len(clients)}")
    heard = {p.source for p in view.packets["server"] if p.source in clients and p.target == service}
    view.require(place == "server" or not heard, "the server heard of a connection that was to be turned")
    first = {client: min(p.time_ns for p in view.packets["client"] if client in (p.source, p.target)) for client in clients}
    saved = view.state(place, "nft-ruleset.json" if shape == "nft" else "iptables-save.txt")
    if saved is not None and view.options.ip == "4":
        wanted = f'"packets": {PREY}' if shape == "nft" else f"[{PREY}:"
        view.require(wanted in saved, f"no rule of {place} counts {PREY} connections")
    return Truth(
        [FailedConnection(client, service, "local-redirect", first[client]) for client in sorted(clients)],
        healthy_connections=40,
        confidence="confirmed",
        notes=[f"turned at {place} to port {view.notes['redirect']}, where {who} answers"],
    )


def _scenario(name: str, title: str, form: str, *needs: str) -> Scenario:
    return Scenario(name, title, story, check, "local-redirect", frozenset(needs), {"state": "full"}, form)


SCENARIOS = (
    _scenario(
        "local-redirect", "a half-made sidecar's OUTPUT chain turns a service to a dead local port", "own nobody client", "nat", "owner"
    ),
    _scenario("local-redirect-istio", "Istio's OUTPUT chains are left, its proxy is gone", "istio nobody client", "nat", "owner"),
    _scenario("local-redirect-linkerd", "Linkerd's chains are left, its proxy is gone", "linkerd nobody client", "nat", "owner"),
    _scenario("local-redirect-nft", "a redirect of nft is left, its proxy is gone", "nft nobody client", "nft-nat", "nft"),
    _scenario("local-redirect-stranger", "a leftover redirect gives the client a stranger's 404", "own stranger client", "nat", "owner"),
    _scenario(
        "local-redirect-hang-up", "a leftover redirect gives the client to a program that hangs up", "own reset client", "nat", "owner"
    ),
    _scenario("local-redirect-node", "a node on the way turns what passes to its own dead port", "inbound nobody firewall", "nat"),
    _scenario("local-redirect-server", "the server's own host turns arrivals to a dead port", "inbound nobody server", "nat"),
)
