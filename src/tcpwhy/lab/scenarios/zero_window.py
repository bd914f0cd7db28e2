"""A program stops reading while its peer has much to send: its kernel's buffer fills up, and the window closes."""

from __future__ import annotations

import os
import signal
import socket
import time

from ..firewall import attempts, build
from ..healthy import read_request, serve
from ..load import Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..services import backend
from ..view import CaseView, Packet
from ..world import World

PREY = 4
MUCH = 4_000_000  # bytes; no buffer of these hosts holds it
PAUSE = 4.5  # s; longer than the three seconds from which a stall is a finding
SHORT_PAUSE = 0.6
PATIENCE = 6.0
HELD_UP_NS = 3_000_000_000
PORT = 9005


def story(world: World) -> None:
    """Ordinary traffic beside a few transfers whose receiver stops reading.

    Forms: `stopped` (the server's program is stopped like by SIGSTOP, and clients that upload give up), `reader` (clients stop
    reading a download for a while and go on), `killed` (the server's program reads no more, and closes with data unread).
    """
    row = build(world)
    prey = Load(world, row.client, row.address, PORT)
    world.notes["port"] = PORT
    world.notes["service"] = endpoint(row.address, PORT)
    if world.form == "reader":
        serve(row.server, PORT, large_answers)
    elif world.form == "killed":
        serve(row.server, PORT, leaves_half if world.fault else takes_all)
    else:
        program = backend(row.server, port=PORT)
    world.record()
    Load(world, row.client, row.address, row.port).mixed(24, 6)
    prey.mixed(12, 1.5) if world.form == "stopped" else None
    time.sleep(2)
    if world.form == "stopped" and world.fault:
        os.kill(program.pid, signal.SIGSTOP)
    for number in range(PREY):
        after = 0.1 + number * 0.3
        if world.form == "reader":
            prey.talk("prey", pauses(PAUSE if world.fault else SHORT_PAUSE), after=after)
        else:
            prey.talk("prey", upload, after=after, timeout=PATIENCE)
    time.sleep(8.5)


def upload(talk: Talk) -> None:
    """A large POST."""
    talk.ask("POST", "/upload", talk.load.random.randbytes(MUCH))
    talk.close()


def large_answers(connection: socket.socket) -> None:
    """A server that answers each request with much."""
    while read_request(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MUCH)
        connection.sendall(bytes(MUCH))


def pauses(seconds: float):  # type: ignore[no-untyped-def]
    """A client that reads the beginning of a large answer, does something else, and reads on."""

    def conversation(talk: Talk) -> None:
        talk.socket.sendall(b"GET /much HTTP/1.1\r\nHost: files\r\n\r\n")
        got = len(talk.socket.recv(20_000))
        time.sleep(seconds)
        while got < MUCH:
            chunk = talk.socket.recv(200_000)
            if not chunk:
                raise ConnectionError("the answer ended early")
            got += len(chunk)
        talk.close()

    return conversation


def leaves_half(connection: socket.socket) -> None:
    """A server that reads some of the request, hangs, and goes: its kernel answers the unread rest with RST."""
    connection.recv(20_000)
    time.sleep(PAUSE)


def takes_all(connection: socket.socket) -> None:
    """A server that reads the whole request, answers, and waits for its client to close."""
    head = read_request(connection)
    left = MUCH - len(head.partition(b"\r\n\r\n")[2])
    while left > 0:
        left -= len(connection.recv(200_000))
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    connection.recv(1)


def check(view: CaseView) -> Truth:
    """The receiver says window 0 for three seconds and more, and answers the sender's probes; nothing of it is lost."""
    service = view.note("service")
    given_up = {str(o["client"]) for o in view.outcomes if o["error"] is not None}
    prey = {str(o["client"]) for o in view.outcomes if o["kind"] == "prey"}
    tried = attempts(view, service)
    view.require_healthy_outcomes(but=prey if view.fault else None)
    if not view.fault:
        return Truth(healthy_connections=len(view.connections()))
    view.require(given_up == (set() if view.form == "reader" else prey), f"{len(given_up)} of {len(prey)} clients gave up")
    held_up = [one for one in tried if one.client in prey]
    receiver = "client" if view.form == "reader" else "server"
    for one in held_up:
        source = one.client if receiver == "client" else one.server
        for place, packets in one.packets.items():
            view.require(_closed_ns(packets, source) >= HELD_UP_NS, f"{one.client}: {place} saw no closed window for long")
    view.require(len(held_up) == PREY, f"{len(held_up)} of {PREY} transfers were seen")
    return Truth(
        [one.failed("zero-window") for one in held_up],
        healthy_connections=len(view.connections()) - len(held_up),
        confidence="confirmed",
    )


def _closed_ns(packets: list[Packet], source: str) -> int:
    """The longest time between a window of 0 and the next other one, or the last 0 before the RST or the end."""
    longest, since, last = 0, None, None
    for packet in packets:
        if packet.source != source or packet.kind != "A":
            continue
        if packet.window == 0:
            since = since or packet.time_ns
            last = packet.time_ns
        if since is not None and last is not None:
            longest = max(longest, (last if packet.window == 0 else packet.time_ns) - since)
        if packet.window:
            since = None
    return longest


SCENARIOS = tuple(
    Scenario(
        name=f"zero-window-{form}",
        title=title,
        story=story,
        check=check,
        cause="zero-window",
        form=form,
    )
    for form, title in (
        ("stopped", "a server's program is stopped in mid-upload, and its clients give up"),
        ("reader", "clients stop reading a download for some seconds and go on"),
        ("killed", "a server's program stops reading an upload and closes with data unread"),
    )
)
