"""Resets that are no failure: SO_LINGER 0 after the answer, health checks, clients that leave when all is done."""

from __future__ import annotations

import socket
import time

from ..firewall import build
from ..healthy import all_well
from ..load import LINGER_RESET, Load, Talk
from ..scenario import Scenario
from ..world import World


def story(world: World) -> None:
    """Ordinary load, and beside it health checks of three kinds every half second."""
    row = build(world)
    world.record()
    load = Load(world, row.client, row.address, row.port)
    load.mixed(30, 3)
    for number in range(12):
        load.reset_after_answer(after=0.25 * number)
    checks = Load(world, row.client, row.address, row.port)
    for number in range(7):
        checks.talk("check-close", lambda talk: talk.close(), after=0.5 * number)
        checks.talk("check-reset", lambda talk: talk.close(reset=True), after=0.5 * number + 0.1)
        row.client.inside(lambda: half_open_check(row.address, row.port))
        time.sleep(0.3)
    tail = Load(world, row.client, row.address, row.port)
    for number in range(6):
        tail.talk("leave-in-mid-keepalive", leave, after=0.2 * number)
    time.sleep(2)


def half_open_check(address: str, port: int) -> None:
    """SYN, SYN-ACK, RST: the check of a balancer that lets the kernel hold back its third ACK."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    sock.settimeout(3)
    sock.connect((address, port))
    sock.close()


def leave(talk: Talk) -> None:
    """Two requests, then RST on the idle connection."""
    talk.ask("GET", "/")
    talk.ask("GET", "/files/20k")
    time.sleep(0.3)
    talk.close(reset=True)


SCENARIOS = (
    Scenario(
        name="healthy-resets",
        title="benign RSTs: after the answer, and health checks",
        story=story,
        check=all_well,
    ),
)
