"""What the tables hold of one connection and of those that lie before it goes in; plain structs for the resolver come out."""

from __future__ import annotations

import dataclasses

from tcpwhy.clients.row import Basis

End = tuple[str, int | None]
"""An address and a port; None where the witness carries no port."""

SLACK_NS = 10_000_000_000
"""By how much moments of two hosts may differ and still be one: clocks of hosts that share no packets, logs of whole seconds, the time
between the two handshakes of a balancer with a SYN proxy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """When a connection was open, as far as packets tell, on the common clock."""

    first_ns: int
    last_ns: int
    opened_ns: int | None
    """When its SYN was seen; None where it was open before."""
    closed_ns: int | None
    """When it was reset or both ends had sent FIN; None where it was still open at the last packet."""
    followed_ns: int | None = None
    """When the next connection with the same addresses and ports was first seen."""

    def meets(self, other: Life, *, one_handshake: bool) -> bool:
        """False where the two cannot have been one connection's two sides.

        one_handshake: the side before is opened and the side behind at once with it, as address translation does it.
        """
        if self.opened_ns is not None and other.opened_ns is not None and one_handshake:
            return abs(self.opened_ns - other.opened_ns) <= SLACK_NS
        for one, two in ((self, other), (other, self)):
            if one.closed_ns is not None and one.closed_ns + SLACK_NS < (two.first_ns if two.opened_ns is None else two.opened_ns):
                return False
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """An address that the connection's own bytes name: a TCP option or a PROXY header."""

    basis: Basis
    what: str
    """`client`, or `local` for a proxy's own connection (PROXY v2 command LOCAL, v1 UNKNOWN); other addresses name no client."""
    end: End
    ambiguous: bool
    """The port equals a registered ExID (RFC 6994): it may be another option altogether."""
    because: str
    layout: str = ""
    followed_ns: int | None = None
    """When the next connection that claims the same client was first seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class HeaderLine:
    """One value of one HTTP header."""

    name: str
    """In lower case."""
    value: str
    count: int
    """Requests that carried it."""
    because: str
    is_cut: bool = False
    """Its end was left out: what the last proxy appended may be gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Before:
    """A captured connection that may lie before another one."""

    connection: int
    kind: str
    """`bytes` where the payload and the numbers are the same (table `behind`), `address` where only an address ties them."""
    sure: bool
    because: str


@dataclasses.dataclass(slots=True)
class Node:
    """One captured connection."""

    connection: int
    client: End
    """At its place nearest to the server."""
    server: End
    outer: End
    """The client's end at its place nearest to the client."""
    outer_place: str
    outer_ttl: int
    """TTL of the client's packets there; 0 where it sent none."""
    life: Life
    tuples: tuple[tuple[End, End], ...]
    """Client and server at every place that saw it."""
    join_basis: str = ""
    """What its places were joined by, in words; empty where one place saw it."""
    requests: int = 0
    heads_lost: int = 0
    is_tls: bool = False
    claims: list[Claim] = dataclasses.field(default_factory=list)
    headers: list[HeaderLine] = dataclasses.field(default_factory=list)
    before: list[Before] = dataclasses.field(default_factory=list)

    @property
    def client_ends(self) -> frozenset[End]:
        """The client's end at every place."""
        return frozenset(client for client, _ in self.tuples)


def shown_end(end: End) -> str:
    """`ip:port`, `[ip6]:port`, or the address alone."""
    ip, port = end
    if port is None:
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def same_client(one: End, other: End) -> bool:
    """True where two witnesses can mean one client: one address, and no two different ports."""
    return one[0] == other[0] and (one[1] is None or other[1] is None or one[1] == other[1])
