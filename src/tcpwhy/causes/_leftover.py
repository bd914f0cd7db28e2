"""An attempt to connect goes in; what the server still holds of an older connection, as its answers show, comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.causes._verdict import Exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import ACK, FIN, RST, SYN, Endpoint, seq_distance

MS = 1_000_000

ANSWERED_NS = 700 * MS
"""A kernel answers at once, but a second ACK within tcp_invalid_ratelimit (500 ms) of the last is suppressed (net/ipv4/tcp_input.c)."""

NEAR = 1 << 24
"""So close to the last numbers of a connection, numbers are its own; a chance of one in 256 for each of the two spaces."""

HOLDING = ("ESTABLISHED", "TIME-WAIT", "CLOSE-WAIT", "FIN-WAIT-1", "FIN-WAIT-2", "LAST-ACK", "CLOSING")
"""States in which a socket answers a SYN with an ACK of its own numbers (RFC 9293 section 3.10.7.4, RFC 5961 section 4)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Met:
    """A packet of the older connection's numbers, and the connection to whose packets the addresses at that place make it belong."""

    segment: Segment
    owner: Connection


@dataclasses.dataclass(frozen=True, slots=True)
class Leftover:
    """What answered the SYNs of an attempt."""

    old: Connection | None
    """The older connection, where some capture holds it."""
    answers: tuple[Met, ...]
    """Bare ACKs of other numbers, each the answer to a SYN of the attempt, in the order of time."""
    resets: tuple[Met, ...]
    """The RSTs with which the client refused them (RFC 9293 section 3.10.7.3: SEQ=SEG.ACK)."""
    socket: Exhibit | None
    """The server's socket of the older connection, where its host's state shows it."""
    socket_state: str | None

    @property
    def is_half_open(self) -> bool:
        """The older connection was captured and never established: its SYN-ACK was lost."""
        return self.old is not None and not self.old.established

    @property
    def state(self) -> str | None:
        """In which state the server holds it: by its socket, else by who closed."""
        return self.socket_state or (state_of_old(self.old, self.answers[0].segment) if self.old is not None else None)

    @property
    def remembered_ts(self) -> int | None:
        """The newest timestamp of the older connection's client: what the server echoes, else the last that was seen."""
        echoed = self.answers[0].segment.ts_echo
        if echoed:
            return echoed
        return last_timestamp(self.old, self.answers[0].segment) if self.old is not None else None

    def is_server_host(self, connection: Connection, place: str) -> bool:
        """True where a place is surely the server's own host; packets that an address translator gives to the older connection count."""
        return any(place in one.views and one.is_server_host(place) for one in (connection, self.old) if one is not None)

    def places(self, met: tuple[Met, ...]) -> frozenset[str]:
        """Where any of these was seen."""
        return frozenset(place for one in met for place in one.segment.places)


def leftover(connection: Connection) -> Leftover | None:
    """What is left of an older connection, None where no bare ACK of other numbers answered a SYN."""
    isn = connection.client_isn
    if isn is None:
        return None
    begin = connection.syns[0]
    answers = [
        Met(segment, owner)
        for owner in (connection, *connection.earlier)
        for segment in owner.segments
        if _is_bare_ack(segment)
        and not (owner is connection and _is_its_own(connection, segment))
        and _is_after(segment, begin)
        and _answers_one(segment, connection)
    ]
    if not answers:
        return None
    answers.sort(key=lambda one: one.segment.aligned_ns)
    numbers = {one.segment.ack for one in answers}
    resets = [
        Met(segment, owner)
        for owner in (connection, *connection.earlier)
        for segment in owner.resets
        if segment.sender == "client" and segment.seq in numbers and _is_after(segment, begin)
    ]
    socket, state = _socket(connection)
    return Leftover(
        _old(connection, answers[0].segment), tuple(answers), tuple(sorted(resets, key=lambda one: one.segment.aligned_ns)), socket, state
    )


def _is_bare_ack(segment: Segment) -> bool:
    return segment.sender == "server" and bool(segment.flags & ACK) and not segment.flags & (SYN | RST | FIN) and not segment.length


def _is_its_own(connection: Connection, segment: Segment) -> bool:
    """It acknowledges what the client sent in this very attempt."""
    isn = connection.syns[0].seq
    sent = max(seq_distance(isn, one.seq_end) for one in connection.sent(by="client") if not one.is_reset)
    return 0 < seq_distance(isn, segment.ack) <= sent


def _is_after(segment: Segment, begin: Segment) -> bool:
    """After the SYN: by one capture where one has both, else by the common clock."""
    for place in segment.places:
        own, first = segment.sighting_at(place), begin.sighting_at(place)
        if own is not None and first is not None:
            return (own.time_ns, own.packet.frame) > (first.time_ns, first.packet.frame)
    return segment.aligned_ns >= begin.aligned_ns


def _answers_one(segment: Segment, connection: Connection) -> bool:
    """It came within a moment of one of the SYNs: the older connection's own traffic does not."""
    return any(-MS <= segment.aligned_ns - syn.aligned_ns <= ANSWERED_NS for syn in connection.syns)


def _old(connection: Connection, answer: Segment) -> Connection | None:
    """The older connection whose numbers an answer carries: the flow that holds it, or one whose last numbers are just these."""
    for other in connection.earlier:
        if any(segment is answer for segment in other.segments):
            return other
    for other in connection.earlier:
        sent = [one.seq_end for one in other.sent(by="client") if not one.is_reset]
        heard = [one.seq_end for one in other.sent(by="server") if not one.is_reset]
        if sent and heard and abs(seq_distance(sent[-1], answer.ack)) < NEAR and abs(seq_distance(heard[-1], answer.seq)) < NEAR:
            return other
    return None


def state_of_old(old: Connection, until: Segment | None = None) -> str | None:
    """The state in which the server's end of a connection was left, by its FINs before `until`; None where it was reset."""
    own = [segment for segment in old.segments if until is None or segment.aligned_ns < until.aligned_ns]
    if any(segment.is_reset for segment in own):
        return None
    closed = [segment.sender for segment in own if segment.is_fin]
    if "server" in closed and "client" in closed:
        return "TIME-WAIT" if closed[0] == "server" else "LAST-ACK"
    return "FIN-WAIT-2" if "server" in closed else "CLOSE-WAIT" if "client" in closed else "ESTABLISHED"


def last_timestamp(old: Connection, until: Segment) -> int | None:
    """The last timestamp that the client of a connection sent before `until`."""
    sent = [one.ts_value for one in old.sent(by="client") if one.ts_value is not None and one.aligned_ns < until.aligned_ns]
    return sent[-1] if sent else None


def _socket(connection: Connection) -> tuple[Exhibit | None, str | None]:
    """The server's socket with these two ends, which cannot be the attempt's own: that was never established."""
    for place, view in connection.views.items():
        host = connection.hosts.get(place)
        if host is None or host.sockets is None or not connection.is_server_host(place):
            continue
        for one in host.sockets.between(str(view.server), str(view.client)):
            if (
                one.state in HOLDING
                and one.local == str(view.server)
                and connection.failure is not None
                and connection.failure.kind.in_handshake
            ):
                text = f"{one.local} is in {one.state} with {one.remote}"
                return Exhibit("state", place, one.source.file, text, line=one.source.line), one.state
    return None, None


def is_behind(connection: Connection, left: Leftover) -> bool | None:
    """True where the SYN's timestamp lies behind the older connection's, as signed 32 bits (RFC 7323 section 5.2); None without one."""
    own, old = connection.syns[0].ts_value, left.remembered_ts
    return None if own is None or old is None else seq_distance(old, own) < 0


def old_client(connection: Connection, left: Leftover) -> Endpoint | None:
    """The older connection's client as the place nearest to it saw it, where that is another one than this attempt's."""
    return left.old.client if left.old is not None and left.old.client != connection.client else None


def is_same_client(connection: Connection, left: Leftover) -> bool:
    """Both came from one host: its own capture has both."""
    place = connection.places[0]
    return (
        left.old is not None
        and left.old.client == connection.client
        and left.old.places[0] == place
        and connection.is_client_host(place) is True
    )


def is_lasting(connection: Connection, left: Leftover) -> bool:
    """Each SYN that came to the place nearest to the server met it, as far as the kernel's rate limit shows; none got a SYN-ACK before."""
    place = next(iter(left.answers[0].segment.places))
    times = [one.segment.aligned_ns for one in left.answers]
    syns = [syn for syn in connection.syns if syn.seen_at(place)] or connection.syns
    first_syn_ack = min((one.aligned_ns for one in connection.syn_acks), default=None)
    waiting = [syn for syn in syns if first_syn_ack is None or syn.aligned_ns < first_syn_ack]
    if connection.syn_acks and (connection.failure is None or connection.failure.kind is not Kind.STALLED):
        return False
    if first_syn_ack is not None and len(waiting) > 1:
        waiting = waiting[:-1]  # the last one was taken
    return all(any(abs(at - syn.aligned_ns) <= ANSWERED_NS for at in times) for syn in waiting)
