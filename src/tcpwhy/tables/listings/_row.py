"""What one packet of a listing says, as its dialect read it: fields that the text does not print are None."""

from __future__ import annotations

import dataclasses
from typing import Literal

StampKind = Literal["none", "epoch", "date", "clock", "elapsed"]
"""`date`: with a date; `clock`: a time of day alone; `elapsed`: since the first packet or since the one before."""

TunnelKind = Literal["", "ipip", "gre", "vxlan", "geneve"]


class Unreadable(ValueError):
    """A record that looks like a packet and is none that can be understood."""


@dataclasses.dataclass(slots=True)
class Stamp:
    """The time of a row as it stands there."""

    kind: StampKind
    nanoseconds: int = 0
    """Since 1970 as if in UTC, since midnight, or elapsed."""
    is_utc: bool = False


@dataclasses.dataclass(slots=True)
class Head:
    """One IP header, the outermost first."""

    source: str
    destination: str
    ttl: int | None = None
    ip_id: int | None = None
    dont_fragment: bool = True
    more_fragments: bool = False
    offset: int = 0
    carries: TunnelKind = ""
    """By what the next header is carried."""
    ports: tuple[int, int] = (0, 0)
    """Of the UDP header of a tunnel."""
    network: int = 0
    """The tunnel's VNI."""


@dataclasses.dataclass(slots=True)
class Segment:
    """The TCP header; numbers as they are printed."""

    source_port: int
    destination_port: int
    flags: int
    seq: int | None
    ack: int | None
    window: int | None
    length: int
    options: bytes = b""
    is_told: bool = True
    """False where the row names what is carried and not the TCP header."""
    is_part: bool = False
    """The row says that a message begins or goes on in this segment and ends in a later one."""
    is_new: bool | None = None
    """Whether a SYN has another number than the one before it of the same addresses and ports; None where the row does not say."""


@dataclasses.dataclass(slots=True)
class Error:
    """An ICMP error, and what it says of the packet that it is about."""

    type: int
    code: int
    mtu: int = 0
    about: str | None = None
    """The destination of that packet …"""
    port: int | None = None
    """… and its port, where told."""
    quoted: Row | None = None


@dataclasses.dataclass(slots=True)
class Claim:
    """An ARP packet that claims an address."""

    operation: int
    mac: bytes
    ip: str
    target: str = "0.0.0.0"


@dataclasses.dataclass(slots=True)
class Row:
    """One packet of a listing."""

    line: int
    stamp: Stamp
    heads: list[Head] = dataclasses.field(default_factory=list)
    segment: Segment | None = None
    error: Error | None = None
    claim: Claim | None = None
    payload: bytes = b""
    """The first bytes of what the segment carries, as far as the listing shows them."""
    raw: bytes = b""
    """The packet from its IP header on, where it was dumped."""
    interface: str = ""
    direction: Literal["", "in", "out"] = ""
    macs: tuple[bytes, bytes] | None = None
    """Source and destination."""
    vlan: int = 0
    frame_length: int | None = None
    number: int | None = None
    """The number that tshark gives it."""

    @property
    def ends(self) -> tuple[str, int, str, int]:
        """The addresses and ports of its segment."""
        head, segment = self.heads[-1], self.segment
        if segment is None:
            raise Unreadable("no segment")
        return head.source, segment.source_port, head.destination, segment.destination_port
