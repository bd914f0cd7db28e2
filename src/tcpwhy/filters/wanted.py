"""The choices that a user has go in here as one value, which each tool's writer takes."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tcpwhy.filters.layout import Layout
from tcpwhy.filters.target import Target

Tool = Literal["tcpdump", "wireshark", "nft", "iptables"]

Offsets = Literal["every", "aligned", "first"]
"""At which places among the TCP options an expression that cannot walk them looks: all; multiples of four; directly behind the base
header, where LVS and DPVS put it."""

IpVersion = Literal[4, 6]
"""Of the packet, whichever the client's address is: NAT64 and dual-stack sockets have IPv6 options on IPv4 packets, and the reverse."""

BASE_HEADER = 20
"""Bytes of a TCP header without options (RFC 9293 section 3.1)."""

LONGEST_HEADER = 60
"""Bytes: the data offset is four bits of 32-bit words (RFC 9293 section 3.1)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What to find, and how."""

    target: Target
    layouts: tuple[Layout, ...]
    offsets: Offsets = "every"
    versions: tuple[IpVersion, ...] = (4, 6)

    def places(self, layout: Layout) -> tuple[int, ...]:
        """The offsets from the start of the TCP header at which this layout is looked for, ascending.

        A layout whose length is no multiple of four is aligned when NOPs stand behind or before it.
        """
        every = range(BASE_HEADER, LONGEST_HEADER - layout.length + 1)
        if self.offsets == "first":
            return (BASE_HEADER,)
        if self.offsets == "aligned":
            return tuple(place for place in every if place % 4 in (0, -layout.length % 4))
        return tuple(every)


def header_words(end: int) -> int:
    """The least data offset, in 32-bit words, of a TCP header that reaches to `end`."""
    return -(-end // 4)
