"""Packets of an established connection suddenly reach another backend of the same address, which does not know it.

Mechanism.  Several backends share one address (ECMP from BGP, MetalLB, anycast, a balancer without state), and a hash chooses the
    backend of each packet. When the hash's result changes in mid-connection (a member joins or leaves, a route changes, the hash is
    reloaded, packets are sprayed one by one), packets arrive at a backend that has no such connection. Its kernel answers RST, the
    gateway's socket dies (`connection reset by peer`, `broken pipe`: 502), and the first backend's next packet meets its RST.

Signature.
    at backend 1     gateway > address  PA  …                       # handshake and history are here
    at backend 3     gateway > address  PA  seq, ack and TSval go on where backend 1's end
                     address > gateway  R   seq = the stray's ack, no options, window 0
    at backend 1     gateway > address  R                           # an effect: the gateway's socket is gone

    Where a firewall at the other backend drops what it does not know, there is no RST; the strays are repeated into nothing.

Source.  RFC 9293 section 3.10.7.1 (RST to a segment of no connection); RFC 2992 (hash-threshold ECMP and what a change of next hops
    disturbs); Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset(), net/ipv4/fib_semantics.c fib_select_multipath().

Fix.  Make the choice of backend stable: resilient (consistent) hashing on the router, fewer changes of membership, draining before a
    route is withdrawn; or put a balancer that keeps state in front. Retries of idempotent requests at the gateway hide what is left.

Not to be taken for.  keepalive-race: there the server closed first. injected-reset: there no backend sent the RST. A retransmission:
    copies of an "any" capture have the same IP ID. Fragmentation: a frame of 1516 bytes is 1500 of IP and a cooked header of 16.
    arp-conflict: two hosts that claim one address by ARP on one network.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpwhy.causes._asking import backends_of
from tcpwhy.causes._claims import came_from, moved_between_claims, sent_to
from tcpwhy.causes._moves import Move, client_data, doubt_of, move_to
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import ACK, RST, SYN

SUSPECT = (
    "client_resets + server_resets > 0 OR client_retransmissions + server_retransmissions >= 2 OR (client_syns = 0 AND server_packets = 0)"
)
REFERENCES = ("RFC 9293 section 3.10.7.1", "RFC 2992", "Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset()")

TOGETHER_NS = 2_000_000_000
"""Connections that moved within this time moved at once."""


def examine(connection: Connection) -> Verdict:
    """Looks for a second place at the server's end that saw later packets of the connection and knows nothing of it."""
    failure = connection.failure
    if failure is None or failure.kind.in_handshake:
        return RuledOut("the connection was never established")
    claimed = moved_between_claims(connection)
    if claimed is not None:
        first, second = sent_to(claimed[1], claimed[0]), sent_to(claimed[2], claimed[0])
        return RuledOut(f"its packets moved from {first} to {second}, which both claim the address by ARP")
    moves = [move for stranger in connection.places for move in [move_to(connection, stranger)] if move is not None]
    if not moves:
        return _from_one_place(connection)
    doubt = next((doubt for move in moves for doubt in [doubt_of(connection, move)] if doubt), None)
    if doubt is not None:
        move = moves[0]
        return Open(
            doubt,
            (backends_of(connection, "to which backend each packet of the connection came"),),
            _exhibits(connection, move),
            _where(connection, move),
        )
    return _found(connection, moves)


def _where(connection: Connection, move: Move) -> tuple[str, str]:
    """From the last place that saw the strays on their way to the home, to the home."""
    before = [place for place in connection.places if place not in (move.home, move.stranger)
              and any(segment.seen_at(place) for segment in move.strays)]  # fmt: skip
    if any(segment.seen_at(move.home) for segment in move.strays):
        return move.home, str(connection.views[move.home].server)
    return (before[-1] if before else connection.client.ip), move.home


def _exhibits(connection: Connection, move: Move) -> tuple[Exhibit, ...]:
    shown: list[Exhibit] = []
    first_stray = move.strays[0]
    before = [segment for segment in move.history if segment.sender == "client" and segment.aligned_ns <= first_stray.aligned_ns]
    opening = [segment for segment in connection.syns if segment.seen_at(move.home)]
    if opening:
        shown.append(exhibit(opening[0], connection, f"the connection was opened with {move.home}", move.home))
    data = [segment for segment in before if segment.length] or before
    if data:
        shown.append(exhibit(data[-1], connection, f"until here {move.home} has the connection", move.home))
    answers = [segment for segment in move.history if segment.sender == "server" and segment.flags & ACK]
    if answers and not opening:
        shown.append(exhibit(answers[0], connection, f"{move.home} answers: it knows the connection", move.home))
    note = f"the next bytes of the same connection, at {move.stranger}, which never saw it before"
    shown.append(exhibit(first_stray, connection, note, move.stranger))
    note = f"{move.stranger} does not know the connection: RST, seq = the stray's ack"
    shown += [exhibit(reset, connection, note, move.stranger) for reset in move.resets[:1]]
    effects = [
        segment
        for segment in connection.resets
        if segment.sender == "client" and segment.seen_at(move.home) and segment.aligned_ns >= first_stray.aligned_ns
    ]
    note = "an effect: the client's socket is gone, and the first backend's packet meets a RST"
    shown += [exhibit(reset, connection, note, move.home) for reset in effects[:1]]
    return tuple(shown)


def _how(connection: Connection, moves: Sequence[Move]) -> str:
    """When it moved, whether it moved back, or whether single packets were sprayed."""
    strangers = {move.stranger for move in moves}
    trail: list[str] = []
    for segment in client_data(connection):
        at = next((place for place in strangers if segment.seen_at(place)), "home")
        if not trail or trail[-1] != at:
            trail.append(at)
    changes = len(trail) - 1
    if any(segment.packet.more_fragments for move in moves for segment in move.strays):
        return "Fragments went astray: a hash over ports cannot be computed for them."
    if changes >= 4:
        return f"Its packets changed between the backends {changes} times: they are sprayed packet by packet."
    if trail and trail[-1] == "home" and changes >= 2:
        return "It moved there and back again."
    return "From then on its packets went there."


def _found(connection: Connection, moves: list[Move]) -> Found:
    move = moves[0]
    drew = (
        f"{move.stranger} has no such connection and answered RST"
        if move.resets
        else f"{move.stranger} has no such connection and dropped them"
    )
    opened = "was opened with" if any(segment.flags & SYN for segment in move.history) else "lives at"
    home = move.home if not any(segment.seen_at(move.home) for segment in move.strays) else "another backend"
    exhibits = tuple(shown for one in moves[:2] for shown in _exhibits(connection, one))
    return Found(
        statement=f"packets of {connection.client} → {connection.server} reached {move.stranger}; {drew}",
        exhibits=tuple(dict.fromkeys(exhibits)),
        basis="two places",
        where=_where(connection, move),
        explanation=(
            f"The connection {opened} {home}. {len(move.strays)} of its packets reached {move.stranger}, with sequence numbers, "
            f"acknowledgments and timestamps that go on where those before end; {drew}. {_how(connection, moves)}"
        ),
        at_ns=move.strays[0].aligned_ns,
        excludes=_excluded(connection, move),
        fix=(
            "make the choice of backend stable on the router: resilient (consistent) hashing, and draining before a next hop is withdrawn",
            "let the gateway retry idempotent requests on another connection",
        ),
    )


def _excluded(connection: Connection, move: Move) -> dict[str, str]:
    claims = connection.topology.arp_claims.get(connection.views[move.stranger].server.ip, frozenset())
    sent = f"{move.stranger} itself sent the RST" if move.resets else "the packets are seen to arrive at the wrong host"
    excluded = {
        "injected-reset": sent,
        "idle-timeout": f"{sent}: no device between forgot the connection",
        "keepalive-race": f"the request reached {move.stranger}, not the backend that has the connection",
        "reset-with-unread-data": sent,
        "peer-vanished": f"{move.home} was alive and had the connection",
        "mtu-blackhole": "the packets arrived, at another host",
        "packet-loss": "the packets arrived, at another host",
        "asymmetric-drop": "the packets arrived, at another host",
        "zero-window": "the packets went to another host",
        "slow-server": "the packets went to another host",
        "accept-queue-overflow": f"{move.stranger} never saw the handshake",
        "reverse-path-filter": "the packets went to another host",
        "stale-connection": f"{move.stranger} never had the connection",
        "synack-lost": "the connection was established",
        "rejected-by-firewall": sent,
    }
    arp = _why_no_arp_conflict(connection, move) if len(claims) < 2 else ""
    return {**excluded, "arp-conflict": arp} if arp else excluded


def _why_no_arp_conflict(connection: Connection, move: Move) -> str:
    """Why it is no conflict of two hosts on one network, which only ARP or hardware addresses tell; empty where neither was captured."""
    shown = [sighting.packet for one in connection.segments for sighting in one.sightings.values()]
    # A listing without -e shows ARP's answers, and not from which hardware address an announcement came.
    if connection.topology.arp_claims and not any(packet.is_listed and not packet.source_mac for packet in shown):
        return "no two hosts are seen to claim the address by ARP, although ARP was captured"
    at_home, at_stranger = (
        {came_from(one, place) for one in segments if one.sender == "client"} - {""}
        for segments, place in ((move.history, move.home), (move.strays, move.stranger))
    )
    if at_home and at_stranger and not at_home & at_stranger:
        first, second = min(at_home), min(at_stranger)
        return f"{move.home} gets its packets from {first}, {move.stranger} from {second}: these are two networks"
    return ""


def _from_one_place(connection: Connection) -> Verdict:
    """With one place, or without the other backend: at most open."""
    failure = connection.failure
    everywhere = (backends_of(connection, "the strays, and the RST that answers them, would be at another one"),)
    waited = failure is not None and failure.kind in (Kind.STALLED, Kind.GAVE_UP) and connection.failed_repeating
    if failure is None or not (waited or failure.kind in (Kind.RESET, Kind.SILENT)):
        return RuledOut("the connection was neither reset, nor did it fall silent or repeat what it had sent")
    first = connection.resets[0] if connection.resets else None
    closed_first = any(
        segment.is_fin and segment.sender == "server" and first is not None and segment.aligned_ns < first.aligned_ns
        for segment in connection.segments
    )
    if closed_first and first is not None:
        return RuledOut("the server had closed its side before the RST", (exhibit(first, connection, "the RST"),))
    if first is not None and not first.packet.is_stateless_reset:
        return RuledOut(
            "the RST came from a live socket, not from a host without the connection",
            (exhibit(first, connection, "the RST"),),
        )
    if first is not None and first.sender == "server":
        origin = connection.places[-1]
        own = connection.topology.addresses.get(origin, frozenset())
        at_host = connection.views[origin].host_of(own) == "server"
        if (
            at_host
            and first.seen_at(origin)
            and any(segment.sender == "server" and not segment.flags & RST and segment.seen_at(origin) for segment in connection.segments)
        ):
            return RuledOut(
                f"the RST came from {origin}, which has the connection",
                (exhibit(first, connection, "the RST", origin),),
            )
    if first is None:
        home = _reached(connection)
        if home is not None:
            return RuledOut(f"all that the client sent came to {home}, which has the connection")
    shown = (exhibit(first, connection, "a RST of a host without the connection"),) if first is not None else ()
    return Open("a host without the connection may have got its packets; the captures do not show which", everywhere, shown)


def _reached(connection: Connection) -> str | None:
    """The server's own host, if each packet of the client that any place saw came to it."""
    for place in connection.places:
        if connection.is_server_host(place) and any(one.sender == "server" and one.seen_at(place) for one in connection.segments):
            sent = connection.sent(by="client")
            return place if len(connection.places) > 1 and all(one.seen_at(place) for one in sent) else None
    return None


def together(founds: Sequence[Found]) -> str:
    """Whether the connections of one finding moved at once."""
    if len(founds) < 2:
        return ""
    times = sorted(found.at_ns for found in founds)
    if times[-1] - times[0] <= TOGETHER_NS:
        return f"All {len(founds)} connections moved within {(times[-1] - times[0]) / 1e9:.1f} s: one change of routes or members."
    return f"{len(founds)} connections moved over {(times[-1] - times[0]) / 1e9:.0f} s, not at once."
