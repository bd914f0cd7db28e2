"""A server closes idle connections just as the next request is sent on them: its idle timeout and the caller's are the same."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from ..delay import delay
from ..firewall import Row, attempts, build
from ..healthy import answer_http, read_request, serve
from ..load import LINGER_RESET, Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..services import backend, nginx
from ..view import ACK, CaseView, Packet
from ..world import World

PREY = 8
AWAY = 0.2  # s that an answer is under way: so long is the moment in which a request and the close cross

EDGE = """
  upstream pool {{ server {service}; keepalive 32; keepalive_timeout 60s; }}
  server {{
    listen {wide}:80; keepalive_timeout 65s;
    location / {{ proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
"""


def story(world: World) -> None:
    """Form: `crossing` (a pool of its own, FIN or RST), `late` (the pool writes long after the FIN), `nginx` (an nginx before another)."""
    row = build(world)
    delay(row.firewall, row.firewall.interfaces[1].logical, AWAY)
    patience = world.random.choice([1.5, 2.0, 2.5]) if world.form != "nginx" else 2.0
    port = world.random.randrange(10_000, 19_000)
    world.notes |= {"prey": endpoint(row.address, port), "patience": patience}
    pause = patience - AWAY / 2 if world.form != "late" else patience + AWAY + world.random.uniform(0.4, 1.2)
    if not world.fault:
        pause = patience / 3
    if world.form == "nginx":
        backend(row.server, port=port, keepalive=2)
        _through_nginx(row, port, pause)
    else:
        serve(row.server, port, closes_when_idle(patience))
        world.record()
        prey = Load(world, row.client, row.address, port, patience=5)
        for number in range(PREY):
            prey.talk("prey", _again_after(pause, "GET"), after=0.3 + 0.15 * number)
    Load(world, row.client, row.address, row.port).mixed(30, 3.5)
    time.sleep(0.3 + 0.15 * PREY + pause + 1.5)


def _through_nginx(row: Row, port: int, pause: float) -> None:
    """Users of an edge that all ask at once, and once more when the connections behind it are about to be closed."""
    world, edge = row.world, row.client
    user = world.host("user", vantage=False)
    at_edge = world.link(user, edge)[1]
    wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
    nginx(edge, EDGE.format(service=endpoint(row.address, port), wide=wide), error_log=edge.folder / "error.log")
    (world.case / "tcpwhy.toml").write_text(f'[vantage.client]\nrole = "proxy"\nlog_timezone = "{world.options.zone}"\n')
    world.record()
    users = Load(world, user, at_edge, 80, patience=5)
    for _ in range(PREY):
        users.talk("prey", _again_after(pause, "POST"), after=0.5)


def _again_after(pause: float, method: str) -> Callable[[Talk], None]:
    """A request, a pause, and another one on the same connection; nginx repeats no POST by itself (RFC 9110 section 9.2.2)."""

    def conversation(talk: Talk) -> None:
        talk.ask(method, "/upload")
        time.sleep(pause)
        status = talk.ask(method, "/upload")
        if status != 200:
            raise OSError(f"HTTP {status}")
        talk.close()

    return conversation


def closes_when_idle(patience: float) -> Callable[[socket.socket], None]:
    """A server that answers requests, and closes a connection on which none comes for `patience` seconds; every third one by RST."""
    count = 0

    def answer(connection: socket.socket) -> None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        while select.select([connection], [], [], patience)[0] and read_request(connection):
            answer_http(connection, b"stored\n")

    return answer


def check(view: CaseView) -> Truth:
    """Each prey's last request was sent on a connection that its server had closed idle, and was never answered."""
    service = view.note("prey")
    tried = attempts(view, service)
    view.require(len(tried) >= PREY // 2, f"{len(tried)} connections of the prey")
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    failed = [one for one in tried if _met_the_end(one.packets["server"], service)]
    names = {str(one["client"]) for one in view.outcomes if one["kind"] == "prey"}
    view.require_healthy_outcomes(but=names)
    view.require(len(failed) >= 3, f"{len(failed)} requests met the close, expected at least 3")
    if view.form == "nginx":
        log = view.log("client/error.log")
        hits = log.count("upstream prematurely closed connection") + log.count("Connection reset by peer")
        view.require(hits >= len(failed), f"{hits} lines in the edge's log for {len(failed)} connections")
    # What had come unread when the server aborted may as well have been read: no packet tells (a busy machine runs into this).
    unread = any(_end_of(one.packets["server"], service)[1] for one in failed)
    return Truth(
        [one.failed("keepalive-race") for one in failed],
        healthy_connections=len(view.connections()) - len(failed),
        confidence="likely" if unread else "confirmed",
    )


def _met_the_end(packets: list[Packet], service: str) -> bool:
    """The client's bytes begin where the server, when it closed, had got to, or had just come; no answer to them came."""
    met, _ = _end_of(packets, service)
    return met is not None and not any(p.source == service and p.length and p.time_ns > met.time_ns for p in packets)


def _end_of(packets: list[Packet], service: str) -> tuple[Packet | None, bool]:
    """The request that met the server's end, and whether it had come, unread."""
    ends = [p for p in packets if p.source == service and (p.kind == "F" or (p.kind == "R" and p.has(ACK)))]
    asked = [p for p in packets if p.target == service and p.length]
    for end in ends[:1]:
        beyond = [p for p in asked if p.sequence == end.acknowledgement]
        if beyond:
            return beyond[0], False
        last = [p for p in asked if (p.sequence + p.length) % 2**32 == end.acknowledgement]
        answers = [p for p in packets if p.source == service and p.length]
        if end.kind == "R" and last and (not answers or answers[-1].time_ns < last[0].time_ns):
            return last[0], True
    return None, False


SCENARIOS = tuple(
    Scenario(name, title, story, check, "keepalive-race", frozenset({"tun"}), form=form)
    for name, title, form in (
        ("keepalive-race", "a server closes idle connections as the next request is on its way: by FIN, or by RST", "crossing"),
        ("keepalive-race-late", "a pool writes on connections long after it was told that they were closed", "late"),
        ("keepalive-race-nginx", "an nginx keeps connections longer than the nginx behind it: 502", "nginx"),
    )
)
