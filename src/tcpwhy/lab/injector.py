"""A device that listens on a forwarding host and forges RSTs: what it dislikes and how it forges come in, RSTs go out."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .host import Host
from .segment import ACK, RST, End, Segment, read_segment

ETH_P_ALL = 0x0003  # linux/if_ether.h
STEPS = (0, 1460, 4380)  # ahead of the true number: a burst meets the window of an end that has gone on (RFC 5961 section 1.2)
LARGEST = 65_536  # bytes of an IP packet


@dataclass
class Injector:
    """Ends each connection from `prey` ports so many seconds after its first request: `towards` holds `client`, `server` or both.

    `flags` are those of its RSTs; `hops` their TTL when they set out, None for a copy of what the victim's packets had; `steps` how far
    ahead of the true number each RST of a burst lies.
    """

    host: Host
    interface: str
    prey: frozenset[int]
    towards: tuple[str, ...]
    flags: int
    hops: int | None
    steps: tuple[int, ...] = (0,)
    after: float = 0.0
    count: int = 0
    _seen: dict[tuple[End, End], dict[str, Segment]] = field(default_factory=dict)
    _due: list[tuple[float, tuple[End, End]]] = field(default_factory=list)
    _served: set[tuple[End, End]] = field(default_factory=set)

    def start(self) -> None:
        """Listens from now on until the world ends."""
        world = self.host.world
        ear, mouth = self.host.inside(lambda: (self._ear(), _mouth(world.options.ip)))
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(ear, mouth, stop.is_set), daemon=True)
        thread.start()
        for close in (mouth.close, ear.close):
            world.undo.callback(close)
        world.undo.callback(thread.join, 2)
        world.undo.callback(stop.set)

    def _ear(self) -> socket.socket:
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        ear.bind((self.interface, ETH_P_ALL))
        return ear

    def _run(self, ear: socket.socket, mouth: socket.socket, is_over: Callable[[], bool]) -> None:
        rng = random.Random(self.host.world.random.getrandbits(64))
        while not is_over():
            wait = min(0.1, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.1
            if select.select([ear], [], [], wait)[0]:
                self._hear(read_segment(ear.recv(LARGEST)))
            while self._due and self._due[0][0] <= time.monotonic():
                self._forge(self._due.pop(0)[1], mouth, rng)

    def _hear(self, segment: Segment | None) -> None:
        if segment is None or segment.flags & RST:
            return
        if segment.source[1] in self.prey:
            ends, side = (segment.source, segment.target), "client"
        elif segment.target[1] in self.prey:
            ends, side = (segment.target, segment.source), "server"
        else:
            return
        self._seen.setdefault(ends, {})[side] = segment
        if side == "client" and segment.payload and ends not in self._served:
            self._served.add(ends)
            self._due.append((time.monotonic() + self.after, ends))

    def _forge(self, ends: tuple[End, End], mouth: socket.socket, rng: random.Random) -> None:
        """RSTs to the ends that are to get them, with the numbers that the last packets of both name."""
        seen = self._seen[ends]
        if len(seen) < 2:
            return
        for side in self.towards:
            victim, last = ("server", "client") if side == "client" else ("client", "server")
            asked, copied = seen[last], seen[victim]
            for step in self.steps:
                number = (asked.acknowledgement + step) % 2**32
                forged = Segment(
                    source=asked.target,
                    target=asked.source,
                    sequence=number,
                    acknowledgement=(asked.sequence + asked.length) % 2**32 if self.flags & ACK else 0,
                    flags=self.flags,
                    window=0,
                    hops=copied.hops if self.hops is None else self.hops,
                    identification=rng.randrange(1, 65536),
                )
                mouth.sendto(forged.to_bytes(), (socket.inet_ntop(mouth.family, forged.target[0]), 0))
                self.count += 1


def _mouth(family: str) -> socket.socket:
    """A socket that sends whole IP packets with any source (raw(7), ipv6(7))."""
    return socket.socket(socket.AF_INET6 if family == "6" else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
