"""One TCP connection as all vantage points saw it: the object that causes reason over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tcpwhy.connections.packet import ACK, FIN, RST, SYN, Endpoint, Packet, Side, Sighting, flag_text, other_side

if TYPE_CHECKING:
    from tcpwhy.connections.failure import Failure
    from tcpwhy.connections.losses import Crossing
    from tcpwhy.connections.told import Told
    from tcpwhy.connections.topology import Topology
    from tcpwhy.connections.traffic import Traffic
    from tcpwhy.tables.host import HostTables


@dataclasses.dataclass(slots=True, eq=False)
class Segment:
    """What an end sent once; the sightings are what became of it."""

    sender: Side
    flags: int
    seq: int
    ack: int
    length: int
    ts_value: int | None
    ts_echo: int | None
    ip_id: int | None
    """None where no listing that shows it tells."""
    sightings: dict[str, Sighting]
    """By vantage point: seen there as it was sent."""
    covered: dict[str, list[Sighting]] = dataclasses.field(default_factory=dict)
    """By vantage point: its bytes seen there, cut differently (offload)."""
    retransmits: Segment | None = None
    """The segment of which this one repeats bytes, SYN or FIN."""

    @property
    def first(self) -> Sighting:
        """The sighting nearest to its sender."""
        return next(iter(self.sightings.values()))

    @property
    def packet(self) -> Packet:
        """The packet nearest to its sender."""
        return self.first.packet

    @property
    def aligned_ns(self) -> int:
        """When it was sent, on the common clock."""
        return self.first.aligned_ns

    @property
    def seq_end(self) -> int:
        """One past the last sequence number it takes."""
        return self.packet.seq_end

    @property
    def places(self) -> tuple[str, ...]:
        """Where it was seen, whole or cut differently; nearest to the sender first."""
        return (*self.sightings, *(place for place in self.covered if place not in self.sightings))

    def seen_at(self, place: str) -> bool:
        """True where the place saw it, whole or cut differently."""
        return place in self.sightings or place in self.covered

    def sighting_at(self, place: str) -> Sighting | None:
        """What the place saw of it."""
        if place in self.sightings:
            return self.sightings[place]
        return self.covered[place][0] if self.covered.get(place) else None

    def has(self, flags: int) -> bool:
        """True where all these flags are set."""
        return self.flags & flags == flags

    @property
    def opens(self) -> bool:
        """A SYN without ACK."""
        return bool(self.flags & SYN) and not self.flags & ACK

    @property
    def is_syn_ack(self) -> bool:
        """A SYN with ACK."""
        return self.has(SYN | ACK)

    @property
    def is_reset(self) -> bool:
        """A RST."""
        return bool(self.flags & RST)

    @property
    def is_fin(self) -> bool:
        """A FIN."""
        return bool(self.flags & FIN)

    def __repr__(self) -> str:
        return f"<{self.sender} {flag_text(self.flags)} seq {self.seq} ack {self.ack} len {self.length} at {self.places}>"


@dataclasses.dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error that quotes the connection."""

    packet: Packet
    aligned_ns: int

    @property
    def is_prohibition(self) -> bool:
        """Administratively prohibited, of any of its codes (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1)."""
        if ":" in self.packet.source.ip:
            return self.packet.icmp_type == 1 and self.packet.icmp_code in (1, 5, 6)
        return self.packet.icmp_type == 3 and self.packet.icmp_code in (9, 10, 13)

    @property
    def is_from_itself(self) -> bool:
        """The host that sent the quoted packet sent the error too, to itself."""
        sender, _, receiver = self.packet.quoted_by.partition(" > ")
        return sender == receiver == self.packet.source.ip

    @property
    def ends_attempt(self) -> bool:
        """A connect(2) fails at once of it: unreachable of any kind, or time exceeded (net/ipv4/tcp_ipv4.c tcp_v4_err, tcp_v6_err)."""
        return self.is_unreachable or self.packet.icmp_type == (3 if ":" in self.packet.source.ip else 11)

    @property
    def is_too_big(self) -> bool:
        """Fragmentation needed (RFC 1191 section 4), packet too big (RFC 4443 section 3.2)."""
        if ":" in self.packet.source.ip:
            return self.packet.icmp_type == 2
        return self.packet.icmp_type == 3 and self.packet.icmp_code == 4

    @property
    def is_unreachable(self) -> bool:
        """Destination unreachable, fragmentation needed left out."""
        if ":" in self.packet.source.ip:
            return self.packet.icmp_type == 1
        return self.packet.icmp_type == 3 and self.packet.icmp_code != 4


@dataclasses.dataclass(slots=True)
class View:
    """What one vantage point saw of the connection."""

    place: str
    client: Endpoint
    server: Endpoint
    sightings: list[Sighting]
    first_ns: int
    last_ns: int
    capture_last_ns: int
    """When this place's capture ended, aligned."""
    unseen_acked_bytes: int
    """Bytes acknowledged that the capture never saw: it lost them, the network did not."""
    left_out: int = 0
    """Packets in the middle of a very long flow that were not read."""
    translated: tuple[tuple[Endpoint, Endpoint], ...] = ()
    """Other addresses of client and server that the connection had in this very place: the host translates them."""

    @property
    def hands_on(self) -> bool:
        """The client's packets leave the place again for the address that they came for: as a balancer hands them to a real server.

        IPVS by direct return changes the hardware address only (net/netfilter/ipvs/ip_vs_xmit.c ip_vs_dr_xmit()).
        """
        for sighting in self.sent_by("client"):
            copies = [copy for copy in sighting.copies if copy.destination == self.server and copy.interface != "lo"]
            ways = {copy.direction for copy in copies}
            hosts = {copy.destination_mac for copy in copies if copy.destination_mac}
            if len(copies) > 1 and (("in" in ways and "out" in ways) or len(hosts) > 1):
                return True
        return False

    def sent_by(self, side: Side) -> list[Sighting]:
        """What this end sent, in order."""
        return [sighting for sighting in self.sightings if sighting.sender == side]

    def host_of(self, own_addresses: frozenset[str] = frozenset()) -> Side | None:
        """Whose host this place is, or is next to: the end whose packets leave here and have crossed no router.

        None where captures do not tell: both ends on one network, without directions.
        """
        if self.server.ip in own_addresses:
            return "server"
        if self.client.ip in own_addresses:
            return "client"
        ways = {side: {copy.direction for one in self.sent_by(side) for copy in one.copies} for side in SIDES}
        for side in SIDES:
            if ways[side] == {"out"} and ways[other_side(side)] <= {"in"}:
                return side
            if ways[other_side(side)] == {"in"} and not ways[side]:
                return side
        hops = dict(zip(SIDES, self.hops, strict=True))
        near = [side for side in SIDES if hops[side] == 0]
        far = [side for side in SIDES if hops[side]]
        if len(near) == 1 and len(far) == 1:
            return near[0]
        if len(far) == 1 and hops[other_side(far[0])] is None:
            return other_side(far[0]) if ways[far[0]] == {"in"} else None
        return None

    @property
    def hops(self) -> tuple[int | None, int | None]:
        """Routers between the client and here, and between the server and here, by the TTLs; None where that end was not seen."""
        return tuple(_hops(self.sent_by(side)) for side in ("client", "server"))  # type: ignore[return-value]


FRAMES_PER_FLOW = 6_000
"""So many packets of a flow are read; of a longer one, half from its beginning and half from its end."""

INITIAL_TTLS = frozenset((64, 128, 255))
"""With which hosts send: Linux and BSD, Windows, network devices."""

SIDES: tuple[Side, Side] = ("client", "server")


def _hops(sightings: Iterable[Sighting]) -> int | None:
    ttls = [sighting.packet.ttl for sighting in sightings if sighting.packet.ttl]
    if not ttls:
        return None
    # A socket sends all its packets with one TTL; a stateless reset may start higher, so that the most common one counts.
    ttl = max(set(ttls), key=ttls.count)
    return next(initial for initial in (64, 128, 255) if ttl <= initial) - ttl


@dataclasses.dataclass(slots=True, eq=False)
class Connection:
    """The flows that are one TCP connection; addresses are those at the place nearest to the client."""

    number: int
    """Unique in the case: the table `member` has it."""
    client: Endpoint
    server: Endpoint
    places: tuple[str, ...]
    """Vantage points that saw it, nearest to the client first."""
    views: dict[str, View]
    segments: list[Segment]
    """In the order in which they were sent."""
    icmp: list[IcmpError]
    topology: Topology
    join_basis: str
    """What holds the flows of several places together; empty with one."""
    earlier: list[Connection] = dataclasses.field(default_factory=list)
    """Attempts with the same addresses before this one, the latest first."""
    later: list[Connection] = dataclasses.field(default_factory=list)
    failure: Failure | None = None
    crossed: tuple[Crossing, ...] | None = None
    """What its packets met between its places, once asked for (losses.py)."""
    traffic: Traffic | None = None
    """What else passed the places that saw it, set before its failure is told."""
    told: list[Told] = dataclasses.field(default_factory=list)
    """Lines of logs that speak of it, set before its failure is told and its causes are asked."""
    hosts: Mapping[str, HostTables] = dataclasses.field(default_factory=dict)
    """The tables of all vantage points that have a state, also of those that did not see the connection."""

    def sent(self, *, by: Side | None = None, syn: bool | None = None, seen_at: str | None = None) -> list[Segment]:
        """Segments by sender, SYN flag and the place that saw them."""
        return [
            segment
            for segment in self.segments
            if (by is None or segment.sender == by)
            and (syn is None or bool(segment.flags & SYN) == syn)
            and (seen_at is None or segment.seen_at(seen_at))
        ]

    @property
    def syns(self) -> list[Segment]:
        """The client's SYNs, retransmissions included."""
        return [segment for segment in self.segments if segment.opens and segment.sender == "client"]

    @property
    def syn_acks(self) -> list[Segment]:
        """The server's SYN-ACKs, retransmissions included."""
        return [segment for segment in self.segments if segment.is_syn_ack and segment.sender == "server"]

    @property
    def resets(self) -> list[Segment]:
        """All RSTs."""
        return [segment for segment in self.segments if segment.is_reset]

    @property
    def client_isn(self) -> int | None:
        """The client's initial sequence number, if a SYN was seen."""
        return self.syns[0].seq if self.syns else None

    @property
    def server_isn(self) -> int | None:
        """The server's initial sequence number, if a SYN-ACK was seen."""
        return self.syn_acks[0].seq if self.syn_acks else None

    def is_server_host(self, place: str) -> bool:
        """True where a place that saw the connection is surely the server's own host.

        By its addresses where they are known; else by directions, and by other packets of the server that crossed no router before it.
        """
        view = self.views[place]
        own = self.topology.addresses.get(place, frozenset())
        if own:
            return view.server.ip in own and not view.hands_on
        ttls = self.topology.server_ttls.get((place, view.server.ip), frozenset())
        return view.host_of() == "server" and bool(ttls) and ttls <= INITIAL_TTLS

    def is_client_host(self, place: str) -> bool | None:
        """Whether a place is the client's own host: by its addresses, directions or hops; None where nothing tells."""
        view = self.views[place]
        own = self.topology.addresses.get(place, frozenset())
        if own:
            return view.client.ip in own
        ways = {sighting.packet.direction for sighting in view.sent_by("client")}
        if ways == {"out"}:
            return True
        if "in" in ways or view.hops[0]:
            return False
        return None

    @property
    def is_turned_to_itself(self) -> bool:
        """Packets of it are seen to go to a loopback address, although the program asked another one: they never leave the host."""
        servers = [server for view in self.views.values() for _, server in view.translated]
        return any(server.ip.startswith("127.") or server.ip == "::1" for server in servers)

    @property
    def failed_repeating(self) -> bool:
        """Data was sent again and again while it failed, or was held up: what an end sent, or the answers to it, did not arrive."""
        if self.failure is None:
            return False
        own = {id(segment) for segment in self.failure.segments}
        return any(
            segment.length and segment.retransmits is not None and (id(segment) in own or id(segment.retransmits) in own)
            for segment in self.segments
        )

    @property
    def first_ns(self) -> int:
        """Of the place nearest to the client, by its own clock."""
        return self.views[self.places[0]].first_ns

    @property
    def last_ns(self) -> int:
        """Of the place nearest to the client, by its own clock."""
        return self.views[self.places[0]].last_ns

    @property
    def established(self) -> bool:
        """The handshake was finished: the client acknowledged a SYN-ACK, or the connection was there before the capture."""
        if not self.syns and not self.syn_acks:
            return any(segment.flags & ACK and not segment.is_reset for segment in self.segments)
        server_isn = self.server_isn
        for segment in self.segments:
            acknowledges = segment.sender == "client" and segment.flags & ACK and not segment.flags & (SYN | RST)
            if acknowledges and (server_isn is None or segment.ack != server_isn):
                return True
            if segment.sender == "server" and segment.length and not segment.is_reset:
                return True
        return False

    def __repr__(self) -> str:
        return f"<Connection {self.client} > {self.server} at {self.places}, {len(self.segments)} segments>"
