"""Rows of the core's packet table go in, typed packets come out, copies of one packet folded into one sighting."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
"""TCP flag bits, RFC 9293 section 3.1."""

FLAG_LETTERS = ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "A"))

Side = Literal["client", "server"]


def other_side(side: Side) -> Side:
    """The opposite end."""
    return "server" if side == "client" else "client"


def seq_before(a: int, b: int) -> bool:
    """True where sequence number `a` lies behind `b`, modulo 2^32 (RFC 9293 section 3.4)."""
    return seq_distance(b, a) < 0


def seq_distance(start: int, end: int) -> int:
    """How far `end` lies ahead of `start` in sequence space, -2^31 … 2^31-1."""
    return ((end - start + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


class Endpoint(NamedTuple):
    """An address and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @staticmethod
    def parse(text: str) -> Endpoint:
        """`1.2.3.4:80` or `[2001:db8::1]:80`, the address in its canonical spelling.

        Raises ValueError with a sentence where the text is neither.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"read `{text}`, expected an address and a port such as 10.0.0.1:80 or [2001:db8::1]:80")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"read `{text}`, expected an IP address before the port") from None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return Endpoint(str(address), int(port))


class ListedFrames(Protocol):
    """What a listing in text does not show of the frames that were made of it."""

    def has_ip_id(self, frame: int) -> bool:
        """False where the IP ID is unknown."""

    def is_inferred(self, frame: int) -> bool:
        """True where the sequence number was not shown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packet:
    """One record of a capture, decoded; fields as in the core's packet table."""

    vantage_point: str
    file: str
    """Relative to the case."""
    file_number: int
    frame: int
    time_ns: int
    """By the clock of the vantage point."""
    flow: int
    """Row number of its flow in the vantage point's flow table."""
    source: Endpoint
    destination: Endpoint
    flags: int
    seq: int
    ack: int
    length: int
    """Payload bytes on the wire."""
    window: int
    ip_id: int | None
    """None where a listing does not show it: unknown, which is not 0."""
    ttl: int
    """0 where a listing does not show it."""
    ip_length: int
    ts_value: int | None
    ts_echo: int | None
    mss: int | None
    window_scale: int | None
    sack: str
    options: bytes
    payload: bytes
    """The first bytes, as far as captured or shown."""
    checksum: int
    interface: str
    """Name or index of the interface, empty where the capture does not tell."""
    direction: Literal["", "in", "out"]
    tunnels: str
    tunnel_depth: int
    vlan: int
    source_mac: str
    destination_mac: str
    captured_length: int
    original_length: int
    kind: Literal["segment", "fragment", "icmp"]
    icmp_type: int
    icmp_code: int
    icmp_mtu: int
    quoted_by: str
    """Of an ICMP error: who sent it to whom."""
    more_fragments: bool = False
    is_listed: bool = False
    """Read from a listing in text: a field that is empty or None is not shown there, whatever the packet had."""
    is_inferred: bool = False
    """A listing does not show its own number: it was taken from what the end had sent before."""

    @property
    def is_bare_ack(self) -> bool:
        """An ACK that takes no sequence number: its own number may be inferred."""
        return self.length == 0 and not self.flags & (SYN | FIN | RST)

    @property
    def seq_end(self) -> int:
        """One past the last sequence number taken; SYN and FIN take one each (RFC 9293 section 3.4)."""
        taken = self.length + bool(self.flags & SYN) + bool(self.flags & FIN)
        return (self.seq + taken) & 0xFFFF_FFFF

    @property
    def is_stateless_reset(self) -> bool:
        """A RST that no live socket sent: no options, window 0, and either no ACK flag or sequence number 0.

        Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset(); RFC 9293 section 3.10.7.1.
        """
        return bool(self.flags & RST) and not self.options and self.window == 0 and (not self.flags & ACK or self.seq == 0)


@dataclasses.dataclass(slots=True)
class Sighting:
    """A packet as one vantage point saw it: its copies in the order of time, the first of which stands for all."""

    packet: Packet
    copies: list[Packet]
    sender: Side
    aligned_ns: int
    """On the common clock; by the vantage point's own where the clocks could not be aligned."""

    @property
    def time_ns(self) -> int:
        """By the clock of the vantage point."""
        return self.packet.time_ns

    @property
    def vantage_point(self) -> str:
        """Where it was seen."""
        return self.packet.vantage_point


def flag_text(flags: int) -> str:
    """`S`, `SA`, `PA`, … in the order that the reports use; `.` for none."""
    return "".join(letter for bit, letter in FLAG_LETTERS if flags & bit) or "."


def packets_from_rows(
    columns: list[str],
    rows: list[tuple[Any, ...]],
    vantage_point: str,
    files: list[str],
    interfaces: list[list[str]],
    flow_numbers: list[int],
    listed: Sequence[ListedFrames | None] = (),
) -> list[tuple[Packet, int | None]]:
    """Typed packets, each with the row of the packet that it is a copy of (None for the first one met).

    `files`, `interfaces` and `listed` (where a file was made of a listing) are by file number; `flow_numbers` gives
    the flow-table row of each flow asked for.
    """
    at = {name: number for number, name in enumerate(columns)}
    directions: tuple[Literal["", "in", "out"], ...] = ("", "in", "out")
    kinds: tuple[Literal["segment", "fragment", "icmp"], ...] = ("segment", "fragment", "icmp")
    found: list[tuple[Packet, int | None]] = []
    for row in rows:

        def field(name: str, row: tuple[Any, ...] = row) -> Any:
            return row[at[name]]

        file_number = field("file")
        shown = listed[file_number] if file_number < len(listed) else None
        names = interfaces[file_number]
        number = field("interface")
        interface = names[number] if number < len(names) else ""
        if field("ifindex"):
            interface = f"ifindex {field('ifindex')}"
        found.append(
            (
                Packet(
                    vantage_point=vantage_point,
                    file=files[file_number],
                    file_number=file_number,
                    frame=field("frame"),
                    time_ns=field("time_ns"),
                    flow=flow_numbers[field("flow")],
                    source=Endpoint(field("source"), field("source_port")),
                    destination=Endpoint(field("destination"), field("destination_port")),
                    flags=field("flags"),
                    seq=field("seq"),
                    ack=field("ack"),
                    length=field("length"),
                    window=field("window"),
                    ip_id=field("ip_id") if shown is None or shown.has_ip_id(field("frame")) else None,
                    ttl=field("ttl"),
                    ip_length=field("ip_length"),
                    ts_value=field("ts_value"),
                    ts_echo=field("ts_echo"),
                    mss=field("mss"),
                    window_scale=field("window_scale"),
                    sack=field("sack"),
                    options=field("options"),
                    payload=field("payload"),
                    checksum=field("checksum"),
                    interface=interface,
                    direction=directions[field("direction")],
                    tunnels=field("tunnels"),
                    tunnel_depth=field("tunnel_depth"),
                    vlan=field("vlan"),
                    source_mac=field("source_mac"),
                    destination_mac=field("destination_mac"),
                    captured_length=field("captured_length"),
                    original_length=field("original_length"),
                    kind=kinds[field("kind")],
                    icmp_type=field("icmp_type"),
                    icmp_code=field("icmp_code"),
                    icmp_mtu=field("icmp_mtu"),
                    quoted_by=field("quoted"),
                    more_fragments=field("more_fragments"),
                    is_listed=shown is not None,
                    is_inferred=shown is not None and shown.is_inferred(field("frame")),
                ),
                field("copy_of"),
            )
        )
    return found
