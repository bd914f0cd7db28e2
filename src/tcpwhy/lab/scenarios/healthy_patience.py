"""Slow, idle and one-sided, all as it should be: long polls, slow downloads, half-closes, logs, idle timeouts."""

from __future__ import annotations

import time

from ..firewall import build
from ..healthy import all_well, half_close, read_all_then_answer, serve, ship, slow_answers, swallow
from ..load import Load, Talk
from ..scenario import Scenario
from ..services import backend
from ..world import World


def story(world: World) -> None:
    """Five services of patience beside the ordinary one."""
    row = build(world)
    serve(row.server, 9001, slow_answers(5))
    serve(row.server, 9002, swallow)
    serve(row.server, 9003, read_all_then_answer)
    backend(row.server, port=9004, keepalive=2, rate="20k")
    row.client.sysctl("net.ipv4.tcp_keepalive_time", 1)
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(24, 5)
    polls = Load(world, row.client, row.address, 9001)
    for _ in range(6):
        polls.talk("long-poll", lambda talk: talk.ask("GET", "/poll"), after=world.random.uniform(0, 0.8))
    logs = Load(world, row.client, row.address, 9002)
    for _ in range(5):
        logs.talk("log-shipping", ship(world, 20, 0.1), after=world.random.uniform(0, 2))
    halves = Load(world, row.client, row.address, 9003)
    for _ in range(6):
        halves.talk("half-close", half_close(world, 30_000), after=world.random.uniform(0, 3))
    idle = Load(world, row.client, row.address, 9004)
    for _ in range(6):
        idle.talk("closed-by-the-server", wait_for_the_end, after=world.random.uniform(0, 2))
        idle.talk(
            "slow-download",
            lambda talk: talk.ask("GET", "/slow/100k") and None,
            after=world.random.uniform(0, 1),
        )
    time.sleep(7)


def wait_for_the_end(talk: Talk) -> None:
    """One request, then silence until the server's idle timeout closes the connection."""
    talk.ask("GET", "/")
    assert talk.socket.recv(1) == b""
    talk.close()


SCENARIOS = (
    Scenario(
        name="healthy-patience",
        title="long polls, slow downloads, half-closes, log shipping, idle connections that the server closes",
        story=story,
        check=all_well,
    ),
)
