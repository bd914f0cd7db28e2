"""What the healthy scenarios share: small servers and clients of their own, and the truth that nothing failed."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable

from .host import Host
from .load import Talk
from .scenario import Truth
from .services import listener
from .view import CaseView
from .world import World


def all_well(view: CaseView) -> Truth:
    """Every client got what it asked for, and there was enough to be wrong about."""
    view.require_healthy_outcomes()
    count = len(view.connections())
    view.require(count >= 20, f"only {count} connections, expected at least 20")
    return Truth(healthy_connections=count)


def serve(host: Host, port: int, answer: Callable[[socket.socket], None], *, address: str | None = None) -> None:
    """A small server: `answer` gets each accepted connection, in a thread of its own, until the world ends."""
    world = host.world
    wide = address or ("::" if world.options.ip == "6" else "0.0.0.0")
    door = host.inside(lambda: listener(wide, port))
    world.undo.callback(door.close)

    def one(connection: socket.socket) -> None:
        try:
            answer(connection)
        except OSError:
            return  # the client went first
        finally:
            connection.close()

    def accept() -> None:
        while not world.over.is_set():
            if select.select([door], [], [], 0.2)[0]:
                connection, _ = door.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def read_request(connection: socket.socket) -> bytes:
    """One HTTP request without body, or what came before the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return data


def answer_http(connection: socket.socket, body: bytes) -> None:
    """One HTTP answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def slow_answers(seconds: float) -> Callable[[socket.socket], None]:
    """A server that answers each request after `seconds`: a long poll."""

    def answer(connection: socket.socket) -> None:
        while read_request(connection):
            time.sleep(seconds)
            answer_http(connection, b"news\n")

    return answer


def swallow(connection: socket.socket) -> None:
    """A server that reads to the end and says nothing: a log receiver."""
    while connection.recv(65536):
        pass


def read_all_then_answer(connection: socket.socket) -> None:
    """A server that answers when its client has closed its half."""
    size = 0
    while chunk := connection.recv(65536):
        size += len(chunk)
    connection.sendall(b"%d bytes\n" % size)


def ship(world: World, lines: int, interval: float) -> Callable[[Talk], None]:
    """A client that only sends, then closes."""

    def conversation(talk: Talk) -> None:
        for _ in range(lines):
            talk.socket.sendall(b"<13>" + world.random.randbytes(120).hex().encode() + b"\n")
            time.sleep(interval)
        talk.close()

    return conversation


def half_close(world: World, size: int) -> Callable[[Talk], None]:
    """A client that sends, closes its half, and reads the answer."""

    def conversation(talk: Talk) -> None:
        talk.socket.sendall(world.random.randbytes(size))
        talk.socket.shutdown(socket.SHUT_WR)
        while talk.socket.recv(65536):
            pass
        talk.close()

    return conversation
