"""A packet as the walk knows it: what was said of it goes in, a value that each step may replace comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
CtState = Literal["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"]


@dataclasses.dataclass(frozen=True, slots=True)
class CtTuple:
    """The tuple by which conntrack first saw the connection: what -m conntrack --ctorigdst and its like look at."""

    source: Address
    source_port: int | None
    destination: Address
    destination_port: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One packet at one moment of its way. None is always: not known."""

    protocol: str
    """tcp, udp, icmp, icmpv6, ipip (4), ipv6 (41), gre (47), or a number as text."""
    source: Address
    destination: Address
    source_port: int | None = None
    destination_port: int | None = None
    flags: str | None = None
    """Of TCP, as tcpdump prints them with letters of SFRPAUEW: `S`, `SA`, `A`, `R`, `RA`, `PA`."""
    icmp_type: int | None = None
    icmp_code: int | None = None
    length: int | None = None
    """Bytes of the IP packet."""
    ttl: int | None = None
    dscp: int = 0
    mark: int = 0
    in_interface: str = ""
    """Empty: sent by this host itself."""
    out_interface: str = ""
    """Empty until it is routed."""
    uid: int | None = None
    """Of the sending socket, for packets that the host itself sends."""
    gid: int | None = None
    ct_state: CtState | None = None
    """None before conntrack has looked at it, or where it is not known whether it is tracked."""
    ct_is_tracked: bool = True
    """False after -j CT --notrack, or where no rule of the host makes the kernel track."""
    ct_mark: int | None = 0
    ct_original: CtTuple | None = None
    ct_is_dnat: bool = False
    ct_is_snat: bool = False
    is_reply: bool = False
    """True in the reply direction of its connection."""
    is_established_socket: bool = False
    """It belongs to an established socket of this host: early demux takes it past the reverse-path check."""
    encapsulated: Packet | None = None
    """The inner packet, of a tunnel's outer one."""

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.source.version

    @property
    def is_from_here(self) -> bool:
        """Sent by the host itself."""
        return not self.in_interface

    def __str__(self) -> str:
        return describe_packet(self)


def describe_packet(packet: Packet) -> str:
    """`tcp 10.1.0.2:49880 > 10.20.73.29:80 S`, as `parse_packet` reads it; what a tunnel holds stands in brackets behind its outside."""
    text = f"{packet.protocol} {_end(packet.source, packet.source_port)} > {_end(packet.destination, packet.destination_port)}"
    if packet.flags:
        text += f" {packet.flags}"
    if packet.icmp_type is not None:
        text += f" type {packet.icmp_type}" + (f" code {packet.icmp_code}" if packet.icmp_code is not None else "")
    if packet.mark:
        text += f" mark {packet.mark:#x}"
    return f"{text} ( {packet.encapsulated} )" if packet.encapsulated is not None else text


def _end(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
