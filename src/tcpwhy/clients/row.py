"""What is said of real clients: translations of addresses go in from tables and captures, one row a connection goes out."""

from __future__ import annotations

from typing import Literal

import msgspec

from tcpwhy.evidence.source import Source

Basis = Literal["toa", "proxy", "header", "lb-table", "lb-capture", "conntrack", "log", "capture"]
"""What a name rests on: a TCP option, a PROXY protocol header, an HTTP header of a trusted hop, a balancer's table of connections, the
balancer's two sides joined by their numbers, a NAT host's connection tracking, a log line that holds both sides, or a capture on the
client's own host."""

Confidence = Literal["confirmed", "likely", "possible"]
"""Confirmed: two independent witnesses agree, or packets seen on both sides prove it; likely: one witness, and nothing speaks against it;
possible: a witness that others could have written, or one of several."""


class Ends(msgspec.Struct, frozen=True):
    """A connection's two ends as one place sees them."""

    client_ip: str
    client_port: int
    server_ip: str
    server_port: int


class Translation(msgspec.Struct, frozen=True):
    """One connection before and behind a host that rewrites addresses: `behind` is nearer to the server."""

    behind: Ends
    before: Ends
    basis: Basis
    source: Source
    vantage_point: str
    taken_ns: int | None = None
    """When the table was read, by its host's clock, where known: the entry speaks for that moment."""
    is_open: bool = True
    """False where the table calls the connection closed or closing."""
    may_be_shared: bool = False
    """True where the connection behind may carry other clients' requests too, as HAProxy's in mode http (`http-reuse`): the entry then
    speaks for the moment `taken_ns` alone."""


class Candidate(msgspec.Struct, frozen=True):
    """One possible name of a connection's client."""

    real_client: str
    """`ip:port`, `[ip6]:port`, or the address alone where the witness carries no port."""
    basis: tuple[Basis, ...]
    confidence: Confidence
    because: str
    """One line: what it rests on, by file and frame or line."""


class ClientRow(msgspec.Struct, frozen=True):
    """One connection at the server's vantage point, and whose it is."""

    client: str
    server: str
    real_client: str | None
    basis: tuple[Basis, ...]
    confidence: Confidence | None
    """None where `real_client` is None."""
    candidates: tuple[Candidate, ...]
    headers: dict[str, str]
    """Values of the headers that were asked for, by their names as asked; several different ones are joined by ", "."""
    requests: int
    bytes: int
    """Payload of both directions at that vantage point, retransmitted bytes included."""
    first_ns: int
    last_ns: int
    open_before_capture: bool
    vantage_point: str
    also_seen_as: tuple[tuple[str, str, str], ...] = ()
    """(vantage point, client, server) where the addresses are others."""
    because: tuple[str, ...] = ()
    """What the answer rests on, outwards from the server; why there is none where `real_client` is None."""
    age_at_least_s: float = 0.0
    """Seconds between the first and the last packet there: it may have been open before and after."""
