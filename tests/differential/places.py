"""The addresses that a random configuration plays with: a source of chance goes in, networks and addresses that meet come out."""

from __future__ import annotations

import random

from tests.differential.configuration import WIRES

MAIN = {"eth0": "10.1.0.1/24", "eth1": "10.2.0.1/24", "eth2": "10.3.0.1/24"}
FURTHER = (("eth0", "10.1.0.2/24"), ("eth0", "10.1.0.3/32"), ("eth1", "10.4.0.1/16"), ("eth2", "10.3.9.1/32"), ("eth1", "10.2.0.200/25"))
ON_LOOPBACK = ("10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32", "10.8.0.1/29")
"""Virtual addresses; of the last one the whole network is local (fib_frontend.c fib_add_ifaddr, loopback devices)."""
PORTS = (22, 53, 80, 443, 8080, 15001)
MARKS = (1, 2, 3, 0x10, 0x11, 0x4000)
UIDS = (0, 1000, 1337)
NETWORKS = (
    "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.8.0.0/29", "10.9.0.0/24", "10.9.0.1/32", "10.11.0.0/16",
    "10.11.0.0/17", "10.12.0.0/16", "10.13.0.0/16", "10.1.0.1/32", "10.2.0.1/32", "10.50.0.0/16", "10.50.1.0/24", "10.60.0.0/16",
    "10.1.0.77/32", "10.2.0.64/26", "127.0.0.0/8", "0.0.0.0/0",
)  # fmt: skip
"""Of rules and routes; they hold many of the addresses that probes use."""


def gateway(interface: str) -> str:
    """The router behind a cable."""
    return f"10.{WIRES.index(interface) + 1}.0.254"


def behind(chance: random.Random, interface: str) -> str:
    """An address of the network that lies behind a cable's router."""
    return f"10.1{WIRES.index(interface) + 1}.{chance.choice((0, 1, 128, 200))}.{chance.randrange(1, 255)}"


def beside(chance: random.Random, interface: str) -> str:
    """An address of a neighbour on the cable."""
    return f"10.{WIRES.index(interface) + 1}.0.{chance.choice((77, 77, 78, chance.randrange(60, 250), chance.randrange(60, 250)))}"


def strange(chance: random.Random) -> str:
    """An address that no host should use as a source."""
    return chance.choice(("127.0.0.1", "127.3.3.3", "0.0.0.0", "0.1.2.3", "224.0.0.9", "255.255.255.255", "240.1.1.1", "10.1.0.255"))


def routed(chance: random.Random) -> str:
    """An address that some special route may be about, or none."""
    return f"10.{chance.choice((50, 50, 50, 60, 61))}.{chance.randrange(4)}.{chance.randrange(1, 255)}"
