"""Full NAT as DPVS and Alibaba's LVS do it: packets of clients and real servers come in, rewritten packets go out.

What each rewrites, inserts and remembers: DPVS src/ipvs/ip_vs_proto_tcp.c tcp_fnat_in_handler, tcp_fnat_out_handler;
Alibaba LVS net/netfilter/ipvs/ip_vs_proto_tcp.c, functions of the same names.
"""

from __future__ import annotations

import hashlib
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from .segment import ACK, FIN, MSS, NOP, OPTION_ROOM, RST, SACK, SYN, TIMESTAMPS, End, Segment, read_segment

MODULUS = 2**32
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"  # the signature of the PROXY protocol's binary form, section 2.2
#: Seconds that an idle entry lives by its state: the TCP tables of DPVS and Alibaba's LVS (ip_vs_proto_tcp.c).
TIMEOUTS = {"SYN_RECV": 30.0, "ESTABLISHED": 90.0, "FIN_WAIT": 7.0, "TIME_WAIT": 7.0, "CLOSE": 3.0}


@dataclass(frozen=True)
class Manner:
    """How a balancer names the client to the real server.

    `mark` is `toa`, `proxy-v1`, `proxy-v2` or `none`. `kind4` and `kind6` are the TCP option kinds of TOA with an IPv4
    address (8 bytes) and an IPv6 address (20 bytes). `on_syn` puts it on the SYN too (Alibaba's LVS; DPVS does not),
    `on_fin` on a FIN (DPVS; LVS does not). `place` among the other options: `first` (at offset 20 of the TCP header),
    `last`, or `anywhere`, between others or behind some NOPs. `time_wait_s` replaces the time of closed entries.
    """

    mark: str = "toa"
    kind4: int = 254
    kind6: int = 254
    on_syn: bool = False
    on_fin: bool = True
    place: str = "first"
    time_wait_s: float = TIMEOUTS["TIME_WAIT"]


@dataclass
class Entry:
    """One connection of the balancer. `shift` is added to the client's sequence numbers on their way to the server."""

    client: End
    virtual: End
    local: End
    real: End
    client_isn: int
    shift: int
    preface: bytes = b""  # the PROXY header, empty for none
    preface_sent: bool = False
    first_byte: int | None = None  # the server's ISN + 1
    state: str = "SYN_RECV"
    touched: float = 0.0
    closing: set[str] = field(default_factory=set)
    last: dict[str, tuple[int, int]] = field(default_factory=dict)  # next sequence and acknowledgement by direction


class FullNat:
    """The balancer of one virtual service."""

    def __init__(
        self,
        manner: Manner,
        virtual: End,
        reals: Sequence[End],
        local_addresses: Sequence[bytes],
        *,
        ports: tuple[int, int],
        mtu: int,
        seed: int,
    ) -> None:
        """`ports` are the first and the last local port; `mtu` is that of the real servers' side, in bytes."""
        self.manner = manner
        self.virtual = virtual
        self.reals = list(reals)
        self.local_addresses = list(local_addresses)
        self.ports = ports
        self.mtu = mtu
        self.unmarked = 0  # segments that had no room for TOA
        self.refused = 0  # SYNs for which no local port was free
        self._random = random.Random(seed)
        self._secret = self._random.randbytes(16)
        self._turn = 0
        self._inward: dict[End, Entry] = {}
        self._outward: dict[tuple[End, End], Entry] = {}

    @property
    def entries(self) -> list[Entry]:
        """All entries, the oldest first."""
        return list(self._inward.values())

    def take(self, packet: bytes, now: float) -> Segment | None:
        """The packet as it goes on, None where it is not of this service or belongs to no connection."""
        segment = read_segment(packet)
        if segment is None or segment.hops <= 1:
            return None
        segment.hops -= 1
        if segment.target == self.virtual:
            return self._to_server(segment, now)
        entry = self._outward.get((segment.source, segment.target))
        return None if entry is None else self._to_client(entry, segment, now)

    def expire(self, now: float) -> list[Segment]:
        """Forgets entries that were idle for too long; returns the RSTs that both ends of an open one get."""
        resets = []
        for entry in self.entries:
            limit = self.manner.time_wait_s if entry.state == "TIME_WAIT" else TIMEOUTS[entry.state]
            if now - entry.touched < limit:
                continue
            self._forget(entry)
            if entry.state == "ESTABLISHED":
                for direction, source, target in (("in", entry.local, entry.real), ("out", entry.virtual, entry.client)):
                    sequence, acknowledgement = entry.last.get(direction, (0, 0))
                    resets.append(Segment(source, target, sequence, acknowledgement, RST | ACK, 0))
        return resets

    def _to_server(self, segment: Segment, now: float) -> Segment | None:
        entry = self._inward.get(segment.source)
        if segment.flags & SYN and (entry is None or entry.client_isn != segment.sequence):
            if entry is not None:
                self._forget(entry)
            entry = self._connect(segment, now)
            self.refused += entry is None
        if entry is None:
            return None
        offset = (segment.sequence - entry.client_isn - 1) % MODULUS
        segment.sequence = (segment.sequence + entry.shift) % MODULUS
        if entry.preface and 0 < offset < MODULUS // 2:
            segment.sequence = (segment.sequence + len(entry.preface)) % MODULUS
        elif entry.preface and offset == 0 and segment.payload and not segment.flags & SYN:
            segment.payload = entry.preface + segment.payload
            entry.preface_sent = True
        if segment.flags & SYN:
            blank = [bytes([NOP])]
            segment.options = [
                part for option in segment.options for part in (blank * len(option) if option[0] == TIMESTAMPS else [option])
            ]
        _readdress(segment, entry.local, entry.real)
        if self._is_marked(entry, segment):
            self._mark(entry, segment)
        self._follow(entry, segment, "in", now)
        return segment

    def _to_client(self, entry: Entry, segment: Segment, now: float) -> Segment:
        if segment.flags & SYN:
            entry.first_byte = (segment.sequence + 1) % MODULUS
            segment.options = [self._less_mss(option, entry) for option in segment.options]
        if segment.flags & ACK:
            segment.acknowledgement = self._client_number(entry, segment.acknowledgement)
        segment.options = [self._shift_back(entry, option) if option[0] == SACK else option for option in segment.options]
        _readdress(segment, entry.virtual, entry.client)
        self._follow(entry, segment, "out", now)
        return segment

    def _client_number(self, entry: Entry, number: int) -> int:
        """A sequence number of the server's side as the client counts."""
        number = (number - entry.shift) % MODULUS
        offset = (number - entry.client_isn - 1) % MODULUS
        if entry.preface_sent and 0 < offset < MODULUS // 2:
            number -= min(offset, len(entry.preface))
        return number % MODULUS

    def _shift_back(self, entry: Entry, option: bytes) -> bytes:
        edges = struct.unpack(f"!{(len(option) - 2) // 4}I", option[2:])
        return option[:2] + struct.pack(f"!{len(edges)}I", *(self._client_number(entry, edge) for edge in edges))

    def _less_mss(self, option: bytes, entry: Entry) -> bytes:
        """The server's MSS less what will be inserted (tcp_out_adjust_mss, tcp_opt_adjust_mss)."""
        if option[0] != MSS or self.manner.mark == "none":
            return option
        inserted = len(entry.preface) or (20 if len(entry.client[0]) == 16 else 8)
        inserted += 20 if len(entry.client[0]) > len(entry.real[0]) else 0  # the longer IP header on the client's side
        return option[:2] + struct.pack("!H", struct.unpack("!H", option[2:4])[0] - inserted)

    def _is_marked(self, entry: Entry, segment: Segment) -> bool:
        if self.manner.mark != "toa" or segment.flags & RST:
            return False
        if segment.flags & SYN:
            return self.manner.on_syn
        if segment.flags & FIN and not self.manner.on_fin:
            return False
        return segment.acknowledgement == entry.first_byte

    def _mark(self, entry: Entry, segment: Segment) -> None:
        """Inserts TOA; what makes room for it, where there is too little, is what DPVS takes away."""
        address, port = entry.client
        kind = self.manner.kind6 if len(address) == 16 else self.manner.kind4
        option = struct.pack("!BBH", kind, 4 + len(address), port) + address
        if segment.size + len(option) > self.mtu:
            self.unmarked += 1
            return
        if segment.option_length + len(option) > OPTION_ROOM:
            kept = [one for one in segment.options if one[0] == TIMESTAMPS or (segment.flags & SYN and one[0] != NOP)]
            if sum(map(len, kept)) + len(option) > OPTION_ROOM:
                self.unmarked += 1
                return
            segment.options = kept
        segment.options = self._placed(option, segment)

    def _placed(self, option: bytes, segment: Segment) -> list[bytes]:
        """The segment's options with one more, where the balancer's manner puts it."""
        others = segment.options
        if self.manner.place == "first":
            return [option, *others]
        if self.manner.place == "last":
            return [*others, option]
        spare = min(OPTION_ROOM - segment.option_length, self.mtu - segment.size) - len(option)
        padding = [bytes([NOP])] * self._random.randint(0, min(spare // 4 * 4, 11))  # whole words, for they are filled up
        place = self._random.randint(0, len(others))
        return [*others[:place], *padding, option, *others[place:]]

    def _connect(self, segment: Segment, now: float) -> Entry | None:
        real = self.reals[self._turn % len(self.reals)]
        self._turn += 1
        local = self._free_local(real)
        if local is None:
            return None
        isn = self._isn(local, real, now)
        preface = _preface(self.manner.mark, segment.source, self.virtual)
        shift = (isn - segment.sequence) % MODULUS
        entry = Entry(segment.source, self.virtual, local, real, segment.sequence, shift, preface)
        self._inward[segment.source] = self._outward[real, local] = entry
        return entry

    def _free_local(self, real: End) -> End | None:
        """An unused local address and port towards a real server, None where all are in use."""
        first, last = self.ports
        start = self._random.randint(first, last)
        for address in self._random.sample(self.local_addresses, len(self.local_addresses)):
            for port in (*range(start, last + 1), *range(first, start)):
                if (real, (address, port)) not in self._outward:
                    return address, port
        return None

    def _isn(self, local: End, real: End, now: float) -> int:
        """A number from a secret hash and a clock of 64 ns, as secure_tcp_seq (net/core/secure_seq.c) makes it."""
        words = repr((local, real)).encode() + self._secret
        return (int.from_bytes(hashlib.blake2b(words, digest_size=4).digest(), "big") + int(now * 1e9) // 64) % MODULUS

    def _follow(self, entry: Entry, segment: Segment, direction: str, now: float) -> None:
        entry.touched = now
        entry.last[direction] = ((segment.sequence + segment.length) % MODULUS, segment.acknowledgement)
        if segment.flags & RST:
            entry.state = "CLOSE"
        elif segment.flags & FIN:
            entry.closing.add(direction)
            entry.state = "TIME_WAIT" if len(entry.closing) == 2 else "FIN_WAIT"
        elif entry.state == "SYN_RECV" and direction == "in" and segment.flags & ACK:
            entry.state = "ESTABLISHED"

    def _forget(self, entry: Entry) -> None:
        del self._inward[entry.client]
        del self._outward[entry.real, entry.local]


def _readdress(segment: Segment, source: End, target: End) -> None:
    """Gives a segment new ends; those of the other IP version (NAT64) leave nothing of the old header but the hop limit."""
    if len(source[0]) != len(segment.source[0]):
        segment.traffic, segment.identification, segment.fragment = 0, 0, 0x4000
    segment.source, segment.target = source, target


def _preface(mark: str, client: End, virtual: End) -> bytes:
    """The PROXY header of a connection (PROXY protocol, sections 2.1 and 2.2), empty where there is none."""
    is_ipv6 = len(client[0]) == 16
    if mark == "proxy-v1":
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        addresses = [socket.inet_ntop(family, end[0]) for end in (client, virtual)]
        return f"PROXY TCP{6 if is_ipv6 else 4} {addresses[0]} {addresses[1]} {client[1]} {virtual[1]}\r\n".encode()
    if mark == "proxy-v2":
        body = client[0] + virtual[0] + struct.pack("!HH", client[1], virtual[1])
        return PROXY_V2 + struct.pack("!BBH", 0x21, 0x21 if is_ipv6 else 0x11, len(body)) + body
    return b""
