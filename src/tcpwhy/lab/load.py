"""The load of a lab: how clients talk comes in, real TCP connections go out, and what each of them met comes back."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from .host import enter

if TYPE_CHECKING:
    from .host import Host
    from .world import World

LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST (socket(7))


@dataclass(frozen=True)
class Asked:
    """One request: its X-Request-Id, the other headers that it was given, and when it began to be sent, ns since 1970."""

    id: str
    headers: dict[str, str]
    time_ns: int


@dataclass
class Outcome:
    """What the program on the client's side met: `error` is None where all went well. Times are ns since 1970."""

    kind: str
    host: str
    client: str
    server: str
    started_ns: int
    ended_ns: int = 0
    error: str | None = None
    statuses: str = ""
    requests: list[Asked] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The outcome as JSON wants it."""
        return asdict(self)


def endpoint(address: str, port: int) -> str:
    """`ip:port` as the contract writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Talk:
    """One client connection in progress: connects, asks over HTTP, ends as it is told."""

    def __init__(self, load: Load, kind: str, source_port: int | None, timeout: float) -> None:
        family = socket.AF_INET6 if ":" in load.server else socket.AF_INET
        self.load = load
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.outcome = Outcome(kind, load.host.name, "", endpoint(load.server, load.port), time.time_ns())
        load.outcomes.append(self.outcome)
        if source_port is not None or load.source is not None:
            source = load.source or load.host.address
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((source, source_port or 0))
            self.outcome.client = endpoint(source, source_port) if source_port else ""
        self._http: http.client.HTTPConnection | None = None

    def connect(self) -> None:
        """The handshake."""
        try:
            self.socket.connect((self.load.server, self.load.port))
        finally:
            name = self.socket.getsockname()
            if name[1]:
                self.outcome.client = endpoint(name[0], name[1])
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._http = http.client.HTTPConnection(self.load.name, self.load.port)
        self._http.sock = self.socket

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> int:
        """One request and its whole answer; returns the status."""
        assert self._http is not None
        self._http.request(method, path, body=body, headers=self._named(headers))
        return self.answer()

    def ask_in_pieces(self, path: str, headers: Mapping[str, str], pieces: int, interval: float) -> int:
        """A GET whose head goes out in so many pieces, cut at random places, `interval` seconds apart."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.load.name}", *(f"{name}: {value}" for name, value in self._named(headers).items())]
        head = "\r\n".join([*lines, "", ""]).encode()
        cuts = [0, *sorted(self.load.random.sample(range(1, len(head)), pieces - 1)), len(head)]
        for start, end in pairwise(cuts):
            self.socket.sendall(head[start:end])
            time.sleep(interval if end < len(head) else 0)
        response = http.client.HTTPResponse(self.socket, method="GET")
        response.begin()
        response.read()
        self.outcome.statuses += f"{response.status} "
        return response.status

    def _named(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        """The headers with a fresh X-Request-Id; what was asked is noted."""
        asked = Asked(f"{self.load.random.getrandbits(64):016x}", dict(headers or {}), time.time_ns())
        self.outcome.requests.append(asked)
        return {"X-Request-Id": asked.id, **asked.headers}

    def answer(self) -> int:
        """Reads one answer to its end; returns the status."""
        assert self._http is not None
        response = self._http.getresponse()
        response.read()
        self.outcome.statuses += f"{response.status} "
        return response.status

    def upload_slowly(self, path: str, pieces: int, piece: int, interval: float) -> int:
        """A POST whose body goes out in pieces of `piece` bytes, `interval` seconds apart."""
        assert self._http is not None
        self._http.putrequest("POST", path)
        self._http.putheader("Content-Length", str(pieces * piece))
        self._http.endheaders()
        for _ in range(pieces):
            time.sleep(interval)
            self.socket.sendall(self.load.random.randbytes(piece))
        return self.answer()

    def close(self, *, reset: bool = False) -> None:
        """Ends the connection with FIN, or with RST."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.socket.close()


class Load:
    """Clients on one host that talk to one service. Every conversation runs in a thread of that host."""

    def __init__(
        self, world: World, host: Host, server: str, port: int, *, threads: int = 96, patience: float = 30.0, source: str | None = None
    ) -> None:
        """`source` is the address to talk from, where it is not for the kernel to choose.

        `patience`: after so many seconds without progress a conversation is given up, where it names no other time.
        """
        self.world = world
        self.host = host
        self.server = server
        self.port = port
        self.patience = patience
        self.source = source
        self.random = random.Random(world.random.getrandbits(64))
        self.name = f"{self.random.choice(['shop', 'checkout', 'files', 'media', 'api'])}.example"
        self.outcomes: list[Outcome] = []
        self._pool = ThreadPoolExecutor(threads * world.options.load, initializer=enter, initargs=(host.netns,))
        self._futures: list[Future[None]] = []
        world.loads.append(self)
        world.undo.callback(self._pool.shutdown, wait=False, cancel_futures=True)
        world.undo.callback(world.over.set)

    def talk(
        self,
        kind: str,
        conversation: Callable[[Talk], object],
        *,
        after: float = 0.0,
        source_port: int | None = None,
        timeout: float | None = None,
    ) -> Future[None]:
        """Runs a conversation `after` seconds; an OSError or a broken HTTP answer becomes its outcome's error."""

        def body() -> None:
            if self.world.over.wait(after):
                return
            talk = Talk(self, kind, source_port, self.patience if timeout is None else timeout)
            try:
                talk.connect()
                conversation(talk)
            except (OSError, http.client.HTTPException) as error:
                talk.outcome.error = f"{type(error).__name__}: {error}"
            finally:
                talk.outcome.ended_ns = time.time_ns()
                talk.socket.close()

        future = self._pool.submit(body)
        self._futures.append(future)
        return future

    def mixed(self, count: int, seconds: float, *, base: str = "") -> None:
        """`count` healthy connections of all everyday kinds, begun at random within `seconds`; the option `load` multiplies them."""
        kinds: list[Callable[[float], object]] = [
            lambda after: self.get(1, after=after, base=base),
            lambda after: self.get(self.random.randrange(2, 7), after=after, base=base),
            lambda after: self.upload(self.random.randrange(200, 100_000), after=after, base=base),
            lambda after: self.download(self.random.choice(["1k", "20k", "100k"]), after=after, base=base),
            lambda after: self.idle(after=after, base=base),
            lambda after: self.reset_after_answer(after=after, base=base),
        ]
        for number in range(count * self.world.options.load):
            kinds[number % len(kinds)](self.random.uniform(0.05, seconds))

    def get(self, requests: int, *, after: float = 0.0, base: str = "", pause: float = 0.15) -> Future[None]:
        """A connection with some requests for small answers, then closed."""

        def conversation(talk: Talk) -> None:
            for _ in range(requests):
                talk.ask("GET", f"{base}/?q={self.random.getrandbits(20)}")
                time.sleep(self.random.uniform(0, pause))
            talk.close()

        return self.talk("get", conversation, after=after)

    def posts(self, requests: int, *, after: float = 0.0, base: str = "", tick: float = 0.3) -> Future[None]:
        """A connection with some small POSTs, each written in one go.

        All such clients ask at the same ticks, so that a proxy needs as many connections as there are clients.
        """

        def conversation(talk: Talk) -> None:
            for _ in range(requests):
                talk.ask("POST", f"{base}/upload", self.random.randbytes(self.random.randrange(40, 2500)))
                time.sleep(tick - time.monotonic() % tick)
            talk.close()

        return self.talk("posts", conversation, after=after)

    def upload(self, size: int, *, after: float = 0.0, base: str = "") -> Future[None]:
        """A POST of `size` bytes in one go."""

        def conversation(talk: Talk) -> None:
            talk.ask("POST", f"{base}/upload", self.random.randbytes(size))
            talk.close()

        return self.talk("upload", conversation, after=after)

    def download(self, name: str, *, after: float = 0.0, base: str = "") -> Future[None]:
        """A GET of a file of the server."""

        def conversation(talk: Talk) -> None:
            talk.ask("GET", f"{base}/files/{name}")
            talk.close()

        return self.talk("download", conversation, after=after)

    def idle(self, *, after: float = 0.0, base: str = "") -> Future[None]:
        """One request, then silence until captures have ended."""

        def conversation(talk: Talk) -> None:
            talk.ask("GET", f"{base}/")
            self.world.over.wait(60)

        return self.talk("idle", conversation, after=after)

    def reset_after_answer(self, *, after: float = 0.0, base: str = "") -> Future[None]:
        """A client that ends with RST when everything was delivered and acknowledged."""

        def conversation(talk: Talk) -> None:
            talk.ask("GET", f"{base}/files/1k")
            time.sleep(0.15)  # longer than a delayed acknowledgement (40 ms, tcp.h TCP_DELACK_MIN)
            talk.close(reset=True)

        return self.talk("reset-after-answer", conversation, after=after)

    def slow_download(self, *, after: float = 0.0, base: str = "") -> Future[None]:
        """A GET of 100 kB that the server hands out slowly."""
        return self.talk("slow-download", lambda talk: talk.ask("GET", f"{base}/slow/100k"), after=after)

    def slow_upload(
        self,
        *,
        after: float = 0.0,
        base: str = "",
        pieces: int = 20,
        piece: int = 1552,
        interval: float = 0.1,
    ) -> Future[None]:
        """A POST that takes `pieces` times `interval` seconds."""

        def conversation(talk: Talk) -> None:
            talk.upload_slowly(f"{base}/upload", pieces, piece, interval)
            talk.close()

        return self.talk("slow-upload", conversation, after=after)

    def wait(self, seconds: float) -> None:
        """Waits until all conversations are over, `seconds` at most."""
        wait(self._futures, seconds)
