"""A server takes its time over an answer, and whoever asked gives up: a client, nginx with a 504, a Go proxy."""

from __future__ import annotations

import socket
import time

from ..firewall import attempts
from ..healthy import answer_http, read_request, serve
from ..host import Host
from ..load import Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..services import backend, go_proxy, nginx
from ..view import CaseView
from ..world import World

PREY = 5
PORT = 9006
SLOW = 6.0  # s until the report is ready
QUICK = 1.2  # s; a long poll that is answered
PATIENCE = 3  # s
WAITED_NS = 2_500_000_000

PROXY = """
  server {{
    listen {wide}:8081;
    location / {{ proxy_pass http://{target}; proxy_read_timeout {patience}s; }}
  }}
"""


def story(world: World) -> None:
    """Reports that take six seconds are asked for with three seconds of patience, beside quick requests and ordinary traffic."""
    client, server = world.host("client", vantage=world.form == "client"), world.host("server")
    if world.form == "client":
        router = world.host("router", vantage=False, forwards=True)
        world.link(client, router)
        address = world.link(router, server)[1]
        client.default_route(client.interfaces[0].peer)
        server.default_route(server.interfaces[0].peer)
        prey = Load(world, client, address, PORT, patience=PATIENCE)
    else:
        gateway = world.host("gateway")
        front = world.link(client, gateway)[1]
        address = world.link(gateway, server)[1]
        _proxy(world, gateway, endpoint(address, PORT))
        prey = Load(world, client, front, 8081)
        backend(gateway)
    backend(server)
    serve(server, PORT, reports(SLOW if world.fault else QUICK))
    world.notes["service"] = endpoint(address, PORT)
    world.record()
    near = Load(world, client, prey.server if world.form != "client" else address, 80)
    near.mixed(24, 6)
    for number in range(12):
        prey.talk("quick", quick, after=0.1 + number * 0.4)
    for number in range(PREY):
        prey.talk("prey", report, after=0.5 + number * 0.3)
    time.sleep(9.5)


def _proxy(world: World, gateway: Host, target: str) -> None:
    if world.form == "go":
        go_proxy(gateway, f"http://{target}", port=8081, log=gateway.folder / "proxy.log", words=("-header-timeout", f"{PATIENCE}s"))
        return
    wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
    text = PROXY.format(wide=wide, target=target, patience=PATIENCE)
    nginx(gateway, text, port=8081, error_log=gateway.folder / "error.log")


def reports(seconds: float):  # type: ignore[no-untyped-def]
    """A server that computes a report for `seconds`, and answers all else at once."""

    def answer(connection: socket.socket) -> None:
        while request := read_request(connection):
            time.sleep(seconds if b"/report" in request else 0)
            answer_http(connection, b"done\n")

    return answer


def report(talk: Talk) -> None:
    """Asks for a report."""
    talk.ask("GET", f"/report?id={talk.load.random.getrandbits(20)}")
    talk.close()


def quick(talk: Talk) -> None:
    """Two requests on one connection that are answered at once."""
    talk.ask("GET", "/quick")
    time.sleep(0.2)
    talk.ask("GET", "/quick")
    talk.close()


def check(view: CaseView) -> Truth:
    """The server acknowledged each request at once and answered none before the one who asked had closed."""
    service = view.note("service")
    tried = attempts(view, service)
    prey = {str(o["client"]) for o in view.outcomes if o["kind"] == "prey"}
    view.require_healthy_outcomes(but=prey if view.fault and view.form == "client" else None)
    if not view.fault:
        return Truth(healthy_connections=len(view.connections()))
    failed = []
    for one in tried:
        place = "client" if view.form == "client" else "gateway"
        packets = one.packets[place]
        asked = [p for p in packets if p.source == one.client and p.length]
        ends = [p for p in packets if p.source == one.client and p.kind in "FR"]
        if not asked or not ends:
            continue
        last = asked[-1]
        if any(p.source == one.server and p.length and last.time_ns < p.time_ns < ends[0].time_ns for p in packets):
            continue
        view.require(ends[0].time_ns - last.time_ns >= WAITED_NS, f"{one.client} closed without having waited")
        acks = [p for p in packets if p.source == one.server and p.time_ns > last.time_ns and p.acknowledgement > last.sequence]
        view.require(acks and acks[0].time_ns - last.time_ns < 300_000_000, f"{one.client}'s request was not acknowledged at once")
        failed.append(one)
    view.require(len(failed) == PREY, f"{len(failed)} of {PREY} requests were given up")
    if view.form != "client":
        statuses = [str(o["statuses"]) for o in view.outcomes if o["kind"] == "prey"]
        view.require(all("504" in s or "502" in s for s in statuses), f"the proxy answered {statuses}")
    return Truth(
        [one.failed("slow-server") for one in failed],
        healthy_connections=len(view.connections()) - len(failed),
        confidence="likely",
    )


SCENARIOS = tuple(
    Scenario(
        name=f"slow-server-{form}",
        title=title,
        story=story,
        check=check,
        cause="slow-server",
        form=form,
    )
    for form, title in (
        ("client", "clients give up before a slow answer comes, and refuse it then"),
        ("nginx", "nginx gives up waiting for its upstream and answers 504"),
        ("go", "a Go proxy gives up waiting for the head of its upstream's answer"),
    )
)
