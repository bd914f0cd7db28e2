"""Clients, a firewall and a server in a row: what the handshake scenarios are made of, and their truth."""

from __future__ import annotations

import errno
import socket
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from .host import Host
from .load import Load, Talk, endpoint
from .scenario import FailedConnection
from .services import backend
from .view import CaseView, Packet
from .world import World

SYN_PATIENCE = 4.5
"""Seconds after which clients give up: the SYN is repeated after 1 and 3 s until then (linear_syns_off())."""


@dataclass
class Row:
    """client - firewall - server, the server's nginx on `port`."""

    world: World
    client: Host
    firewall: Host
    server: Host
    address: str
    port: int

    @property
    def service(self) -> str:
        """`ip:port` of the service."""
        return endpoint(self.address, self.port)

    def prey_ports(self, count: int) -> list[int]:
        """Source ports of connections that the fault will hit, apart from the ports that the kernel hands out."""
        return sorted(self.world.random.sample(range(20_000, 30_000), count))


def build(world: World, *, firewall_seen: bool = False, port: int | None = None) -> Row:
    """The topology with the server running; `firewall_seen` takes evidence on the firewall too."""
    client = world.host("client")
    firewall = world.host("firewall", vantage=firewall_seen, forwards=True)
    server = world.host("server")
    world.link(client, firewall)
    address = world.link(firewall, server)[1]
    client.default_route(client.interfaces[0].peer)
    server.default_route(server.interfaces[0].peer)
    chosen = port or world.random.choice([80, 80, 8080, 3306, 6379, world.random.randrange(1024, 9999)])
    backend(server, port=chosen)
    row = Row(world, client, firewall, server, address, chosen)
    world.notes["service"] = row.service
    return row


def linear_syns_off(host: Host) -> None:
    """Makes the kernel repeat SYNs at 1, 3, 7 s as those before Linux 6.5 do, where it knows another schedule."""
    if host.read_sysctl("net.ipv4.tcp_syn_linear_timeouts") is not None:
        host.sysctl("net.ipv4.tcp_syn_linear_timeouts", 0)


def one_request(talk: Talk) -> None:
    """The conversation of a client that would be well if the network let it."""
    talk.ask("GET", "/")
    talk.close()


def try_ports(load: Load, ports: list[int], *, timeout: float, spread: float) -> list[Future[None]]:
    """One connection from each of these source ports, begun within `spread` seconds, given up after `timeout`."""
    return [load.talk("prey", one_request, after=load.random.uniform(0.1, spread), source_port=port, timeout=timeout) for port in ports]


@dataclass(frozen=True)
class Attempt:
    """One incarnation of a client's connection: its SYN's number and all packets at each place that belong to it."""

    client: str
    server: str
    isn: int
    first_ns: int
    packets: dict[str, list[Packet]]

    def count(self, kind: str, place: str | None = None) -> int:
        """How many packets of this kind were seen (at `place`)."""
        return sum(p.kind == kind for name, packets in self.packets.items() if place in (None, name) for p in packets)

    def failed(self, cause: str, *, made_good: bool = False) -> FailedConnection:
        """This attempt as an entry of the truth."""
        return FailedConnection(self.client, self.server, cause, self.first_ns, made_good)


def attempts(view: CaseView, server: str) -> list[Attempt]:
    """All incarnations of connections to `server` whose SYN was seen, split by the SYN's sequence number.

    A packet belongs to the last incarnation whose SYN came before it, unless its own numbers name an older one.
    """
    found = []
    for (client, service), places in sorted(view.connections(server=server).items()):
        isns: dict[int, int] = {}
        for packets in places.values():
            for packet in packets:
                if packet.kind == "S" and packet.source == client:
                    isns[packet.sequence] = min(packet.time_ns, isns.get(packet.sequence, packet.time_ns))
        order = sorted(isns, key=lambda isn: isns[isn])
        parts: dict[int, dict[str, list[Packet]]] = {isn: defaultdict(list) for isn in order}
        for place, packets in places.items():
            for packet in packets:
                owner = _owner(packet, client, order, isns)
                if owner is not None:
                    parts[owner][place].append(packet)
        found += [Attempt(client, service, isn, isns[isn], parts[isn]) for isn in order]
    return found


def _owner(packet: Packet, client: str, order: list[int], isns: dict[int, int]) -> int | None:
    for isn in order:
        named = packet.sequence if packet.source == client else packet.acknowledgement - 1
        if named % 2**32 == isn or (packet.kind == "R" and packet.source == client and packet.sequence == (isn + 1) % 2**32):
            return isn
    before = [isn for isn in order if isns[isn] <= packet.time_ns]
    return before[-1] if before else None


def connect_once(host: Host, address: str, port: int, source_port: int, wait: float) -> str:
    """One raw connect from a fixed source port, closed after `wait` seconds whatever came; returns what came.

    `connected`, `refused`, `timeout` or the error's name.
    """

    def body() -> str:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host.address, source_port))
        sock.settimeout(wait)
        try:
            sock.connect((address, port))
            return "connected"
        except TimeoutError:
            return "timeout"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        finally:
            sock.close()

    return host.inside(body)


def answered(attempt: Attempt) -> bool:
    """Whether the server's data reached somebody: the attempt worked."""
    return any(p.source == attempt.server and p.length for packets in attempt.packets.values() for p in packets)


def require_each(view: CaseView, tried: list[Attempt], test: Callable[[Attempt], object], what: str) -> None:
    """Every attempt passes the test, else the story did not happen."""
    for attempt in tried:
        view.require(test(attempt), f"{attempt.client} (ISN {attempt.isn}): not {what}")
