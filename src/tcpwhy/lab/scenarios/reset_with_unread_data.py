"""An end closes its socket while data is unread or still coming: its kernel answers with RST, and what was sent before may be lost."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

from ..delay import delay
from ..firewall import Attempt, attempts, build
from ..healthy import answer_http, read_request, serve
from ..host import Host
from ..load import LINGER_RESET, Load, Talk, endpoint
from ..scenario import Scenario, Truth
from ..services import nginx, wait_until_listening
from ..view import CaseView, Packet
from ..world import World

PREY = 6

EARLY = """
  server {{
    listen {wide}:{port}; client_max_body_size 2k; lingering_timeout {patience};
    location / {{ proxy_pass http://unix:{folder}/stored.sock; }}
  }}
  server {{ listen unix:{folder}/stored.sock; location / {{ return 200 "stored\\n"; }} }}
"""

#: A program that accepts and reads nothing, until it is killed.
DEAF = """
import socket, sys
door = socket.create_server((sys.argv[1], int(sys.argv[2])), family=getattr(socket, sys.argv[3]))
held = []
while True:
    held.append(door.accept()[0])
"""


def story(world: World) -> None:
    """Form: `server` (closes, sets SO_LINGER to 0, or is killed), `early` (nginx answers 413), `client` (gives up a download)."""
    row = build(world)
    if world.form == "client":
        delay(row.firewall, row.firewall.interfaces[1].logical, 0.1)  # so that some of the answer is always on its way
    port, other = world.random.sample(range(10_000, 19_000), 2)
    world.notes["services"] = [endpoint(row.address, port), endpoint(row.address, other)]
    killed = None
    if world.form == "early":
        folder = row.server.scratch / f"nginx-{port}"
        wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
        # nginx reads a refused body on until none comes for so long, 5 s by default (ngx_http_discarded_request_body_handler())
        words = EARLY.format(wide=wide, port=port, folder=folder, patience="40ms" if world.fault else "5s")
        nginx(row.server, words, port=port)
    else:
        serve(row.server, port, hasty if world.fault else patient)
        killed = _deaf(row.server, other) if world.fault and world.form == "server" else None
    world.record()
    Load(world, row.client, row.address, row.port).mixed(45, 3.5)
    prey = Load(world, row.client, row.address, port, patience=6)
    for number in range(PREY):
        prey.talk("prey", _conversation(world, number), after=0.2 + 0.2 * number)
    if killed is not None:
        victims = Load(world, row.client, row.address, other, patience=6)
        for number in range(2):
            victims.talk("prey", uploads(30, 900), after=0.3 + 0.2 * number)
        time.sleep(1.5)
        killed()
    time.sleep(4.5)


def _conversation(world: World, number: int) -> Callable[[Talk], None]:
    if world.form == "client":
        return leaves_in_the_middle if world.fault else reads_to_the_end
    if world.form == "early" and not world.fault:
        return uploads(2, 700)
    return uploads(20, world.random.choice([700, 1300, 4000]) if number % 2 else 9000)


def _deaf(host: Host, port: int) -> Callable[[], None]:
    """Starts the program that reads nothing; returns what kills it."""
    six = host.world.options.ip == "6"
    process = host.start([sys.executable, "-c", DEAF, "::" if six else "0.0.0.0", str(port), "AF_INET6" if six else "AF_INET"])
    wait_until_listening(host, port, process)
    return process.kill


def hasty(connection: socket.socket) -> None:
    """A server that reads the head and a little, waits, and closes; or answers a download for ever."""
    head = read_request(connection)
    if head.startswith(b"GET"):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
        for _ in range(80):
            connection.sendall(b"x" * 5000)
            time.sleep(0.05)
        return
    connection.recv(500)
    time.sleep(0.4)
    if head[-1] % 2:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


def patient(connection: socket.socket) -> None:
    """A server that answers each request, uploads read whole."""
    while head := read_request(connection):
        size = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        got = len(head.partition(b"\r\n\r\n")[2])
        while got < size:
            got += len(connection.recv(65536))
        answer_http(connection, b"y" * (100_000 if head.startswith(b"GET") else 10))


def uploads(pieces: int, piece: int) -> Callable[[Talk], None]:
    """A POST that takes its time; an answer that nothing good stands in is an error too."""

    def conversation(talk: Talk) -> None:
        status = talk.upload_slowly("/upload", pieces, piece, 0.1)
        if status != 200:
            raise OSError(f"HTTP {status}")
        talk.close()

    return conversation


def leaves_in_the_middle(talk: Talk) -> None:
    """A download that its reader leaves: some of it is unread when the socket is closed."""
    talk.socket.sendall(b"GET /film HTTP/1.1\r\nHost: media.example\r\n\r\n")
    talk.socket.recv(3000)
    time.sleep(0.5)
    talk.outcome.error = "the reader left"
    talk.close()


def reads_to_the_end(talk: Talk) -> None:
    """The same download, read whole."""
    talk.ask("GET", "/film")
    talk.close()


def check(view: CaseView) -> Truth:
    """A RST of the closing end's own making met each prey, with data unread or still coming."""
    services = view.notes["services"]
    assert isinstance(services, list)
    tried = [one for service in services for one in attempts(view, service)]
    if not view.fault:
        view.require_healthy_outcomes()
        return Truth(healthy_connections=len(view.connections()))
    view.require(len(tried) >= PREY, f"{len(tried)} connections of the prey, expected {PREY}")
    view.require_healthy_outcomes(but={one.client for one in tried})
    failed = [one for one in tried if _own_reset(view, one)]
    view.require(len(failed) == len(tried), f"{len(failed)} of {len(tried)} were ended by RST")
    if view.form == "early":
        said = [p for packets in view.packets.values() for p in packets if p.kind == "R" and not p.has(0x10)]
        view.require(said, "nothing met a socket that was closed with FIN")
    return Truth(
        [one.failed("reset-with-unread-data") for one in failed],
        healthy_connections=len(view.connections()) - len(failed),
        confidence="confirmed",
    )


def _own_reset(view: CaseView, one: Attempt) -> bool:
    """The closing end's first RST left its own host, while the other end still had data on the way or unread."""
    closing, place = (one.client, "client") if view.form == "client" else (one.server, "server")
    packets = one.packets.get(place, [])
    resets = [p for p in packets if p.kind == "R" and p.source == closing]
    others = [p for p in packets if p.kind == "R" and p.source != closing]
    return bool(resets) and not (others and others[0].time_ns < resets[0].time_ns) and any(_data(p, closing) for p in packets)


def _data(packet: Packet, closing: str) -> bool:
    return bool(packet.length) and packet.source != closing


SCENARIOS = tuple(
    Scenario(name, title, story, check, "reset-with-unread-data", frozenset({"tun"} if form == "client" else ()), form=form)
    for name, title, form in (
        ("reset-with-unread-data", "a server closes, aborts or is killed while an upload is under way", "server"),
        ("reset-with-unread-data-early", "an nginx answers 413 and closes while the body still comes", "early"),
        ("reset-with-unread-data-client", "a client leaves a download in the middle", "client"),
    )
)
