"""A connection and what is missing go in; the request for it comes out: a command to run, where, and what it would decide.

Requests for the same evidence begin with the same words whichever cause makes them: the diagnosis puts the one first that decides
between most of the causes that are left (diagnosis/splitting.py). Words and what is decided are parted by `: `.
"""

from __future__ import annotations

from tcpwhy.connections.connection import Connection
from tcpwhy.connections.packet import Side

PARTED = ": "
"""Between the request itself and what it decides."""


def capture_at(connection: Connection, side: Side, decides: str) -> str:
    """A capture on the host of one end; where that one was captured and the other was not, on the other."""
    at_client = any(connection.is_client_host(place) for place in connection.places)
    at_server = any(connection.is_server_host(place) for place in connection.places)
    if at_client != at_server:
        side = "server" if at_client else "client"
    ip, role = (connection.client.ip, "client") if side == "client" else (connection.server.ip, "server")
    command = f"`tcpdump -ni any -s 160 -w {role}.pcap tcp port {connection.server.port}` on {ip}, the {role}'s host, while it happens"
    return f"{command}{PARTED}{decides}"


def capture_between(connection: Connection, first: str, second: str, decides: str) -> str:
    """Captures at the hops of a stretch of the way, each complete."""
    command = f"`tcpdump -ni any -s 160 -w HOP.pcap tcp port {connection.server.port}` on each hop between {first} and {second}"
    return f"{command}, at the same time{PARTED}{decides}"


def capture_again(connection: Connection, place: str, decides: str) -> str:
    """The same capture once more, because the one at hand proves nothing."""
    command = f"`tcpdump -ni any -s 160 -B 65536 -w {place}.pcap tcp port {connection.server.port}` on {place}, complete"
    return f"{command}, over the whole time{PARTED}{decides}"


def backends_of(connection: Connection, decides: str) -> str:
    """Captures at all hosts that share the server's address."""
    command = f"`tcpdump -ni any -s 160 -w BACKEND.pcap tcp port {connection.server.port}` on each host that has {connection.server.ip}"
    return f"{command}, at the same time{PARTED}{decides}"


def arp_at(address: str, decides: str) -> str:
    """A capture of ARP, and of the hardware addresses that packets go to, on the network of an address."""
    return f"`tcpdump -eni any -w arp.pcap arp or host {address}` on a host of the network of {address}{PARTED}{decides}"


def state_of(host: str, decides: str) -> str:
    """The state of one host, once."""
    return f"`tcpwhy collect` on {host}, as root, while it happens{PARTED}{decides}"


def counters_of(host: str, decides: str) -> str:
    """The state of one host twice, around one more attempt: counters are told by their difference."""
    return f"`tcpwhy collect` on {host}, as root, before and after one more attempt{PARTED}{decides}"


def log_of(host: str, decides: str) -> str:
    """What the program at one end has to say."""
    return f"the log of the program on {host} at that time{PARTED}{decides}"
