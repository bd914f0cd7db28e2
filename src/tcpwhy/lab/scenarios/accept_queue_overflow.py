"""A program hangs, and its accept queue fills up: the kernel drops SYNs, ignores last ACKs, or answers them with RST."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from concurrent.futures import wait

from ..firewall import Attempt, Row, attempts, build, linear_syns_off, one_request, require_each
from ..hanging import HangingServer
from ..host import Host
from ..load import Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..view import CaseView
from ..world import World

PATIENCE = 4.5
"""Seconds after which the clients give up: SYN and SYN-ACK are repeated after 1 and 3 s until then."""

PREY = 8


def story(world: World) -> None:
    """The second service hangs with a full queue, or one with a single free place; eight clients come at once. The first is well."""
    row = build(world)
    port, backlog = world.random.randrange(5000, 9000), world.random.randrange(3, 12)
    hanging = HangingServer(row.server, port, backlog)
    crowd = world.host("crowd")
    world.link(crowd, row.firewall)
    crowd.default_route(crowd.interfaces[0].peer)
    world.notes["second"] = endpoint(row.address, port)
    if world.random.random() < 0.5:
        linear_syns_off(crowd)
    if world.form == "reset":
        row.server.sysctl("net.ipv4.tcp_abort_on_overflow", 1)
    world.record()
    begun = time.monotonic()
    Load(world, row.client, row.address, row.port).mixed(50, 7.0)
    second = Load(world, crowd, row.address, port)
    for _ in range(6):
        second.talk("before", one_request).result()
    if world.fault:
        hanging.hang()
    time.sleep(0.2)
    for _ in range(backlog + (world.form == "")):
        second.talk("waits", wait_in_the_queue)
    time.sleep(0.8)
    if world.fault and world.form:
        slow_down(row, crowd)
    prey = [second.talk("prey", give_up_unless_taken, timeout=PATIENCE) for _ in range(PREY)]
    wait(prey, PATIENCE + 1)
    if world.form == "burst":
        time.sleep(2)  # until the ignored data was repeated for the third time
        hanging.resume()
    time.sleep(max(1.0, begun + 7.5 - time.monotonic()))


def slow_down(row: Row, crowd: Host) -> None:
    """The way back to the crowd becomes slow, so that all its SYNs come before the first of its last ACKs."""
    device = row.firewall.interfaces[-1].port
    row.firewall.run(["tc", *f"qdisc add dev {device} root tbf rate 20kbit burst 400 latency 20s".split()])

    def use_up() -> None:
        sock = socket.socket(socket.AF_INET6 if ":" in crowd.address else socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(4):
            sock.sendto(bytes(200), (crowd.address, 9))
        sock.close()

    row.firewall.inside(use_up)


def wait_in_the_queue(talk: Talk) -> None:
    """A client with more patience than the lab."""
    talk.socket.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    talk.load.world.over.wait(600)


def give_up_unless_taken(talk: Talk) -> None:
    """Asks, and gives up where the kernel did not take the question; who is in the queue waits on."""
    try:
        one_request(talk)
    except TimeoutError:
        unsent = struct.unpack("i", fcntl.ioctl(talk.socket, termios.TIOCOUTQ, bytes(4)))[0]  # tcp(7) SIOCOUTQ
        if unsent:
            raise
        talk.load.world.over.wait(600)


def check(view: CaseView) -> Truth:
    """The server's capture has what the server's kernel ignored; its counter rose by as many packets at least."""
    tried = attempts(view, view.note("second"))
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    gone = {str(outcome["client"]) for outcome in view.outcomes if outcome["kind"] == "prey" and outcome["error"]}
    prey = [one for one in tried if one.client in gone]
    view.require(len(prey) >= PREY - 1, f"{len(prey)} connections failed, expected {PREY - 1} at least")
    view.require_healthy_outcomes(but=gone)
    late = [one for one in prey if not one.count("SA")]  # its SYN came when the queue was full already
    require_each(view, late, lambda one: one.count("S", "server") > 2, "a SYN repeated, as the server saw it")
    half_open = [one for one in prey if one not in late]
    view.require(len(half_open) >= 3 if view.form else not half_open, f"{len(half_open)} connections got a SYN-ACK")
    if view.form == "burst":
        # With a short backlog the kernel answers by SYN cookies, and repeats no SYN-ACK.
        require_each(view, half_open, lambda one: ignored_data(one) > 2, "data repeated, as the server saw it")
    elif view.form == "reset":
        require_each(view, half_open, lambda one: one.count("R", "server"), "reset")
    rose = view.counter("server", "TcpExtListenOverflows")
    view.require(rose is None or rose >= len(prey), f"ListenOverflows is {rose}")
    by_state = {"none": "possible", "both": "confirmed"}.get(view.options.state, "confirmed" if view.form == "" else "possible")
    return Truth(
        [one.failed("accept-queue-overflow") for one in prey],
        healthy_connections=len(view.connections()) - len(prey),
        confidence=by_state,
    )


def ignored_data(one: Attempt) -> int:
    """Packets with data from the client that came to the server."""
    return sum(packet.source == one.client and packet.length > 0 for packet in one.packets.get("server", []))


SCENARIOS = tuple(
    Scenario(
        name="accept-queue-overflow" + (f"-{form}" if form else ""),
        title=f"a program hangs and its accept queue is full: {what}",
        story=story,
        check=check,
        cause="accept-queue-overflow",
        form=form,
        needs=frozenset({"tbf"} if form else ()),
        defaults={"state": "both"},
    )
    for form, what in (
        ("", "SYNs are dropped without a word"),
        ("burst", "the handshake's last ACK and the data behind it are ignored"),
        ("reset", "with tcp_abort_on_overflow the last ACK is answered with RST"),
    )
)
