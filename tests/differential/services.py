"""A source of chance and the host's addresses go in; random virtual services for `ipvsadm -R` come out."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.differential import places
from tests.differential.configuration import WIRES


def random_services(chance: random.Random, local: Sequence[str]) -> str:
    """One to three services; their addresses are the host's own, without which IPVS never sees a packet, and rarely another."""
    lines: list[str] = []
    taken = set()
    for _ in range(chance.choice((1, 2, 3))):
        address = chance.choice([*local, *local, "10.9.0.1", "10.9.0.2"])
        service = f"-t {address}:{chance.choice(places.PORTS)}"
        if service in taken or address.startswith("127."):
            continue
        taken.add(service)
        lines.append(f"-A {service} -s {chance.choice(('rr', 'wrr', 'sh'))}")
        servers = {
            chance.choice((places.beside(chance, chance.choice(WIRES)), places.behind(chance, chance.choice(WIRES)), chance.choice(local)))
            for _ in range(chance.choice((0, 1, 1, 2)))
        }
        for server in sorted(servers):
            way = chance.choice(("-g", "-i", "-m"))
            port = chance.choice(places.PORTS) if way == "-m" else service.rpartition(":")[2]
            lines.append(f"-a {service} -r {server}:{port} {way} -w {chance.choice((0, 1, 1, 1, 3))}")
    return "".join(f"{line}\n" for line in lines)
