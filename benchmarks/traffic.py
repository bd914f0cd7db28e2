"""A seed and a size come in, a pcap file of that size goes out: HTTP over many interleaved connections.

The same seed and size give the same bytes. Sequence numbers, acknowledgements and checksums are right, so
that no reader takes a short cut; every connection opens with a handshake and, unless the file ends first,
closes with FINs.
"""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEGMENT_BYTES = 1448  # what an MTU of 1500 leaves beside 20 bytes of IPv4 and 32 of TCP with timestamps
FIN, SYN, PSH, ACK = 0x01, 0x02, 0x08, 0x10  # RFC 9293 section 3.1
SYN_OPTIONS = bytes.fromhex("020405b40402080a00000000000000000103030a")  # MSS 1460, SACK, timestamps, scale
START_US = 1_760_000_000_000_000  # an arbitrary moment of 2025, so that the same seed gives the same bytes

PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)  # microseconds, Ethernet
RECORD = struct.Struct("<IIII")
IPV4 = struct.Struct("!BBHHHBBHII")
TCP = struct.Struct("!HHIIHHHH")
TIMESTAMPS = struct.Struct("!BBBBII")
ETHERNET = (
    bytes.fromhex("020000000001020000000002" + "0800"),
    bytes.fromhex("020000000002020000000001" + "0800"),
)


@dataclass(frozen=True)
class Payload:
    """Bytes of a segment and the sum of their 16-bit words, so that no packet sums them again."""

    content: bytes
    words: int


@dataclass(slots=True)
class Packet:
    """One TCP segment, before it is written."""

    time_us: int
    from_client: bool
    flags: int
    sequence: int
    acknowledgement: int
    payload: Payload


def word_sum(content: bytes) -> int:
    """The sum of the big-endian 16-bit words, an odd last byte padded with zero (RFC 1071)."""
    if len(content) % 2:
        content += b"\0"
    return sum(struct.unpack(f"!{len(content) // 2}H", content))


def checksum(words: int) -> int:
    """The Internet checksum of a sum of 16-bit words (RFC 1071)."""
    words = (words & 0xFFFF) + (words >> 16)
    words = (words & 0xFFFF) + (words >> 16)
    return ~(words + (words >> 16)) & 0xFFFF


def payload(content: bytes) -> Payload:
    """A payload with its sum."""
    return Payload(content, word_sum(content))


EMPTY = payload(b"")


class Payloads:
    """A fixed stock of requests and pieces of answers, drawn from by every connection."""

    def __init__(self, chance: random.Random) -> None:
        self.requests = [
            payload(
                f"GET /items/{number:05d} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\n"
                f"Cookie: session={chance.randbytes(chance.randrange(16, 200)).hex()}\r\n\r\n".encode()
            )
            for number in range(200)
        ]
        self.full = [payload(chance.randbytes(SEGMENT_BYTES)) for _ in range(64)]
        self.tails = [payload(chance.randbytes(chance.randrange(1, SEGMENT_BYTES))) for _ in range(200)]


class Talk:
    """One connection while it is made: the time, and the numbers of both ends."""

    def __init__(self, chance: random.Random, begin_us: int) -> None:
        self.now_us = begin_us
        self.client, self.server = chance.getrandbits(32), chance.getrandbits(32)
        self.round_trip_us = chance.randrange(200, 40_000)

    def packet(self, from_client: bool, flags: int, content: Payload = EMPTY) -> Packet:
        """The next packet of an end, which takes its place in the sequence space."""
        sequence, acknowledgement = (self.client, self.server) if from_client else (self.server, self.client)
        taken = len(content.content) + (flags & (SYN | FIN) != 0)
        if from_client:
            self.client = (self.client + taken) & 0xFFFFFFFF
        else:
            self.server = (self.server + taken) & 0xFFFFFFFF
        return Packet(self.now_us, from_client, flags, sequence, acknowledgement if flags & ACK else 0, content)

    def opening(self) -> Iterator[Packet]:
        """The handshake."""
        yield self.packet(True, SYN)
        self.now_us += self.round_trip_us
        yield self.packet(False, SYN | ACK)
        self.now_us += 50
        yield self.packet(True, ACK)

    def closing(self) -> Iterator[Packet]:
        """A FIN of each end."""
        yield self.packet(True, FIN | ACK)
        self.now_us += self.round_trip_us
        yield self.packet(False, FIN | ACK)
        self.now_us += 50
        yield self.packet(True, ACK)


def small_conversation(chance: random.Random, begin_us: int) -> Iterator[Packet]:
    """One connection of short messages, no packet above 100 bytes: a handshake, one to eight questions with answers, and the close."""
    talk = Talk(chance, begin_us)
    yield from talk.opening()
    for _ in range(chance.randrange(1, 9)):
        asked, answered = payload(chance.randbytes(chance.randrange(1, 34))), payload(chance.randbytes(chance.randrange(1, 34)))
        yield talk.packet(True, PSH | ACK, asked)
        talk.now_us += talk.round_trip_us + chance.randrange(100, 50_000)
        yield talk.packet(False, PSH | ACK, answered)
        talk.now_us += 40
        if chance.randrange(3):
            yield talk.packet(True, ACK)
        talk.now_us += chance.randrange(1_000, 400_000)
    yield from talk.closing()


def conversation(chance: random.Random, stock: Payloads, begin_us: int) -> Iterator[Packet]:
    """One connection's packets in order: a handshake, one to twenty requests with answers, and the close."""
    talk = Talk(chance, begin_us)
    yield from talk.opening()
    for _ in range(chance.randrange(1, 20)):
        yield talk.packet(True, PSH | ACK, chance.choice(stock.requests))
        talk.now_us += talk.round_trip_us + chance.randrange(100, 50_000)
        pieces = [chance.choice(stock.full) for _ in range(int(chance.expovariate(1 / 6)))]
        pieces.append(chance.choice(stock.tails))
        body_bytes = sum(len(piece.content) for piece in pieces)
        pieces.insert(0, payload(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body_bytes))
        last = len(pieces) - 1
        for number, piece in enumerate(pieces):
            yield talk.packet(False, (PSH if number == last else 0) | ACK, piece)
            talk.now_us += 12
            if number % 2 or number == last:
                talk.now_us += 30
                yield talk.packet(True, ACK)
        talk.now_us += chance.randrange(1_000, 400_000)
    yield from talk.closing()


@dataclass(frozen=True)
class Ends:
    """The two ends of a connection, addresses as numbers."""

    client: int
    client_port: int
    server: int
    server_port: int


def encode(packet: Packet, ends: Ends, identification: int) -> bytes:
    """The pcap record of one packet: Ethernet, IPv4, TCP with options."""
    tick = packet.time_us // 1000 & 0xFFFFFFFF
    options = SYN_OPTIONS if packet.flags & SYN else TIMESTAMPS.pack(1, 1, 8, 10, tick, tick)
    if packet.from_client:
        source, target, ports = ends.client, ends.server, (ends.client_port, ends.server_port)
    else:
        source, target, ports = ends.server, ends.client, (ends.server_port, ends.client_port)
    tcp_bytes = TCP.size + len(options) + len(packet.payload.content)
    fields = (*ports, packet.sequence, packet.acknowledgement)
    offset_and_flags = (TCP.size + len(options)) // 4 << 12 | packet.flags
    addresses = (source >> 16) + (source & 0xFFFF) + (target >> 16) + (target & 0xFFFF)
    head = TCP.pack(*fields, offset_and_flags, 502, 0, 0) + options
    tcp_checksum = checksum(addresses + 6 + tcp_bytes + word_sum(head) + packet.payload.words)
    head = TCP.pack(*fields, offset_and_flags, 502, tcp_checksum, 0) + options
    total = IPV4.size + tcp_bytes
    ip_checksum = checksum(0x4500 + total + identification + 0x4000 + (64 << 8 | 6) + addresses)
    ip = IPV4.pack(0x45, 0, total, identification, 0x4000, 64, 6, ip_checksum, source, target)
    frame = ETHERNET[not packet.from_client] + ip + head + packet.payload.content
    seconds, micros = divmod(packet.time_us, 1_000_000)
    return RECORD.pack(seconds, micros, len(frame), len(frame)) + frame


def write_capture(path: Path, size_bytes: int, seed: int = 1, concurrent: int = 2000, *, small: bool = False) -> int:
    """Write a capture of `size_bytes` and less than a packet more; the number of its packets is returned.

    About `concurrent` connections are open at a time; one that ends makes room for the next. `small`: no packet is longer than 100 bytes.
    """
    chance = random.Random(seed)
    stock = Payloads(chance)
    serial = 0
    packets = 0
    written = len(PCAP_HEADER)
    live: list[tuple[int, int, Packet, Iterator[Packet], Ends]] = []

    def admit(begin_us: int) -> None:
        nonlocal serial
        serial += 1
        packets_of_it = small_conversation(chance, begin_us) if small else conversation(chance, stock, begin_us)
        # Clients from 10.32.0.0 up call 10.64.0.1 to .40, no 4-tuple twice in 3 thousand million.
        ends = Ends(0x0A200000 + (serial // 50_000) % 65_536, 10_000 + serial % 50_000, 0x0A400001 + serial % 40, 80)
        first = next(packets_of_it)
        heapq.heappush(live, (first.time_us, serial, first, packets_of_it, ends))

    with path.open("wb", buffering=1 << 20) as file:
        file.write(PCAP_HEADER)
        for _ in range(concurrent):
            admit(START_US + chance.randrange(2_000_000))
        while written < size_bytes:
            now, number, packet, rest, ends = live[0]
            record = encode(packet, ends, packets & 0xFFFF)
            file.write(record)
            written += len(record)
            packets += 1
            following = next(rest, None)
            if following is None:
                heapq.heappop(live)
                admit(now + chance.randrange(10_000))
            else:
                heapq.heapreplace(live, (following.time_us, number, following, rest, ends))
    return packets
