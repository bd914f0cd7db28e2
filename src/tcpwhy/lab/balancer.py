"""A full-NAT balancer that runs on a host of the lab: its service comes in, real packets are taken and sent by raw sockets.

The kernel of that host takes no part: it owns neither the virtual nor the local addresses and does not forward.
"""

from __future__ import annotations

import ipaddress
import json
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .balancer_tables import dpvs_table, lvs_table
from .fullnat import FullNat, Manner
from .segment import End

if TYPE_CHECKING:
    from .host import Host

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD  # linux/if_ether.h
PACKET_OUTGOING = 4  # linux/if_packet.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
RECEIVE_BUFFER = 16 << 20  # bytes
TICK = 0.2  # seconds between looks at what expired
TABLE_FILES = {"dpvs": "ipvsadm-connections.txt", "lvs": "proc-net-ip_vs_conn.txt"}
"""The file of a state/ that holds each kind's table."""


@dataclass(frozen=True)
class Plan:
    """What the scenario tells the balancer's process: `interfaces`, and the files for its table and for the sign that it runs."""

    kind: str
    manner: Manner
    virtual: tuple[str, int]
    reals: tuple[tuple[str, int], ...]
    local_addresses: tuple[str, ...]
    ports: tuple[int, int]
    mtu: int
    seed: int
    interfaces: tuple[str, ...]
    table: str
    ready: str


def read_plan(text: str) -> Plan:
    """The plan in the JSON that its dataclass makes."""
    read: dict[str, Any] = json.loads(text)
    return Plan(**read | {"manner": Manner(**read["manner"])})


class Balancer:
    """A running balancer, seen from the scenario."""

    def __init__(
        self,
        host: Host,
        kind: str,
        manner: Manner,
        virtual: tuple[str, int],
        reals: Sequence[tuple[str, int]],
        local_addresses: Sequence[str],
        ports: tuple[int, int] = (1025, 65535),
    ) -> None:
        """Starts it on `host`, whose cables it makes plain; `kind` (`dpvs` or `lvs`) is how its table is written, empty for not at all."""
        self._table = host.scratch / "balancer-table"
        self._world = host.world
        self._talk = host.scratch / "output"
        ready = host.scratch / "balancer-ready"
        plan = Plan(
            kind=kind,
            manner=manner,
            virtual=virtual,
            reals=tuple(reals),
            local_addresses=tuple(local_addresses),
            ports=ports,
            mtu=server_side_mtu(host),
            seed=host.world.random.getrandbits(32),
            interfaces=tuple(interface.logical for interface in host.interfaces),
            table=str(self._table),
            ready=str(ready),
        )
        file = host.scratch / "balancer.json"
        file.write_text(json.dumps(asdict(plan)))
        host.sysctl("net.ipv4.ip_forward", 0)
        host.sysctl("net.ipv6.conf.all.forwarding", 0)
        self._process = host.start([sys.executable, "-m", __name__, str(file)])
        host.world.wait_for(lambda: ready.exists() or self._process.poll() is not None, 20, "the balancer")
        self._require_running()
        if kind:
            host.tables[TABLE_FILES[kind]] = self.table

    def table(self) -> str:
        """Its connection table at this moment."""
        self._table.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        self._world.wait_for(lambda: self._table.exists() or self._process.poll() is not None, 10, "the balancer's table")
        self._require_running()
        return self._table.read_text()

    def _require_running(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"the balancer ended: {self._talk.read_text()[-500:]}")


def plain_cables(*hosts: Host) -> None:
    """Makes each packet on these hosts' cables one that fits the wire, its checksum computed by who sends it."""
    for host in hosts:
        for interface in host.interfaces:
            for device in dict.fromkeys((interface.port, interface.logical)):
                host.run(["ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])


def server_side_mtu(host: Host) -> int:
    """The least MTU of the interfaces behind the first, in bytes."""
    rows = json.loads(host.ip("-j link"))
    return min(int(row["mtu"]) for row in rows if row["ifname"] in {one.logical for one in host.interfaces[1:]})


def run(plan: Plan) -> None:
    """Balances until it is ended by a signal; SIGUSR1 makes it write its table."""
    balancer = FullNat(
        plan.manner,
        _end(plan.virtual),
        [_end(real) for real in plan.reals],
        [ipaddress.ip_address(text).packed for text in plan.local_addresses],
        ports=plan.ports,
        mtu=plan.mtu,
        seed=plan.seed,
    )
    sockets = [_listen(name, protocol) for name in plan.interfaces for protocol in (ETH_P_IP, ETH_P_IPV6)]
    # IPPROTO_RAW takes whole packets, headers included (raw(7); for IPv6 net/ipv6/raw.c rawv6_init_sk)
    senders = {family: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) for family in (socket.AF_INET, socket.AF_INET6)}
    write = dpvs_table if plan.kind == "dpvs" else lvs_table
    table = Path(plan.table)

    def write_table(*_: object) -> None:
        part = table.with_suffix(".part")
        part.write_text(write(balancer.entries, time.time()))
        part.rename(table)

    signal.signal(signal.SIGUSR1, write_table)
    Path(plan.ready).touch()
    swept = time.monotonic()
    while True:
        segments = []
        for sock in select.select(sockets, [], [], TICK)[0]:
            packet, origin = sock.recvfrom(65535)
            if origin[2] != PACKET_OUTGOING and (segment := balancer.take(packet, time.time())) is not None:
                segments.append(segment)
        if time.monotonic() - swept > TICK:
            swept = time.monotonic()
            segments += balancer.expire(time.time())
        for segment in segments:
            family = socket.AF_INET6 if segment.is_ipv6 else socket.AF_INET
            senders[family].sendto(segment.to_bytes(), (socket.inet_ntop(family, segment.target[0]), 0))


def _listen(interface: str, protocol: int) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:  # beyond net.core.rmem_max for the real root only (net/core/sock.c sockopt_capable)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.bind((interface, protocol))
    return sock


def _end(end: tuple[str, int]) -> End:
    return ipaddress.ip_address(end[0]).packed, end[1]


if __name__ == "__main__":
    run(read_plan(Path(sys.argv[1]).read_text()))
