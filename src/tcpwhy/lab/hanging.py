"""A host and a port come in; a program that can be told to hang, so that its accept queue fills up, goes out."""

from __future__ import annotations

import select
import socket
import threading

from .healthy import answer_http, read_request
from .host import Host
from .services import listener


class HangingServer:
    """Answers small HTTP requests on a port. While it hangs it accepts nobody, and its kernel queues `backlog` + 1 connections."""

    def __init__(self, host: Host, port: int, backlog: int) -> None:
        self.backlog = backlog
        self._world = host.world
        self._hangs = threading.Event()
        self._door = host.inside(lambda: listener("::" if host.world.options.ip == "6" else "0.0.0.0", port, backlog))
        host.world.undo.callback(self._door.close)
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Stops accepting, as a program does whose only thread is busy."""
        self._hangs.set()

    def resume(self) -> None:
        """Goes on; what waits is served first."""
        self._hangs.clear()

    def _accept(self) -> None:
        while not self._world.over.is_set():
            if self._hangs.is_set():
                self._world.over.wait(0.05)
            elif select.select([self._door], [], [], 0.05)[0] and not self._hangs.is_set():
                connection, _ = self._door.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while read_request(connection):
                answer_http(connection, b"done\n")
        except OSError:
            return  # the client went first
        finally:
            connection.close()
