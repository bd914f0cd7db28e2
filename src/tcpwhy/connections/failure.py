"""A connection goes in; whether it failed, how, and by which segments comes out (docs/json.md: "A connection failed")."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Sequence

from tcpwhy.connections.connection import SIDES, Connection, Segment
from tcpwhy.connections.packet import ACK, FIN, RST, SYN, Side, other_side, seq_before, seq_distance

SECOND_NS = 1_000_000_000

SILENT_REPEATS = 3
"""Retransmissions or probes without anything back that make a silence a failure (docs/json.md) …"""

SILENT_SPAN_NS = 3 * SECOND_NS
"""… over at least so long."""

UNANSWERED_AGAIN_NS = SECOND_NS
"""A SYN was repeated and the repetition, too, was unanswered for so long: tried and not established. Round trips are shorter."""

FIRST_SYN_TIMEOUT_NS = SECOND_NS
"""A SYN is first repeated after one second (RFC 6298 section 2.1; Linux TCP_TIMEOUT_INIT)."""

RESET_AT_BIRTH_NS = SECOND_NS
"""A stateless RST so soon after the handshake, before any data, comes from a host that does not know the connection."""

HTTP_METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")
TLS_ALERT = 21
"""TLS record type (RFC 8446 section 5.1); close_notify is one, and nothing answers it."""

TLS_13_ALERT = bytes([23, 3, 3, 0, 19])
"""An alert in TLS 1.3 looks like application data of 19 bytes: level, description, type and a tag of 16 (RFC 8446 section 5.2)."""


def is_tls_alert(segment: Segment) -> bool:
    """A segment that carries nothing but the end of TLS."""
    payload = segment.packet.payload
    old = payload[:2] == bytes([TLS_ALERT, 3]) and segment.length <= 64
    return old or (payload[:5] == TLS_13_ALERT and segment.length == len(TLS_13_ALERT) + 19)


class Kind(enum.Enum):
    """How a connection failed."""

    UNANSWERED = "the client's SYN was never answered"
    REFUSED = "the client's SYN was answered with RST"
    PROHIBITED = "the client's SYN was answered with an ICMP error"
    HALF_OPEN = "the server's SYN-ACK was never acknowledged"
    RESET = "the connection was reset with data undelivered or unanswered"
    SILENT = "one end fell silent: data was repeated and never acknowledged"
    GAVE_UP = "the connection was closed before the request was answered"
    STALLED = "data was held up for long before it got through"
    LOSSY = "packets of it were lost on a link that loses many, and were made good"
    REPORTED = "the client's log reports an error, although TCP delivered an answer"

    @property
    def in_handshake(self) -> bool:
        """The connection was never established."""
        return self in (Kind.UNANSWERED, Kind.REFUSED, Kind.PROHIBITED, Kind.HALF_OPEN)


LONGEST_TRACE = 30
"""Hops up to which a traceroute with SYNs goes; a host's own packets set out with 64 or more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """That a connection failed, and what shows it."""

    kind: Kind
    symptom: str
    segments: tuple[Segment, ...]
    at_ns: int
    """When it was over, aligned."""


def find_failure(connection: Connection, *, answers_seen: bool) -> Failure | None:
    """The failure of a connection, or None where no program on its ends got, or will get, an error or a timeout.

    `answers_seen`: the places that saw it saw answers of any server at all; a capture of SYNs alone shows no failure.
    """
    if not connection.segments:
        return _refused_by_icmp(connection)
    if (connection.syns or connection.syn_acks) and not connection.established:
        return _in_handshake(connection, answers_seen)
    return _refused_unseen(connection) or _reset(connection) or _silent(connection) or _unanswered_close(connection)


def _refused_unseen(connection: Connection) -> Failure | None:
    """A RST that answers a SYN which no capture holds: the host's own firewall refused it before it could be captured.

    RFC 9293 section 3.10.7.1: only what has no ACK flag is answered with sequence number 0, and a client sends nothing else without.
    """
    answers = [one for one in connection.segments if one.sender == "server" and one.is_reset and one.flags & ACK and one.seq == 0]
    if len(answers) != len(connection.segments) or not answers[0].packet.is_stateless_reset:
        return None
    return Failure(Kind.REFUSED, "a SYN that was not captured was answered with RST", tuple(answers[:1]), answers[0].aligned_ns)


def _refused_by_icmp(connection: Connection) -> Failure | None:
    """ICMP errors that a host sends to itself, and no packet: its own firewall rejects what its programs send, before any capture."""
    own = [error for error in connection.icmp if error.is_unreachable and error.is_from_itself]
    if not own:
        return None
    symptom = f"the host answers its own packet with an ICMP error (type {own[0].packet.icmp_type}, code {own[0].packet.icmp_code})"
    return Failure(Kind.PROHIBITED, symptom, (), own[0].aligned_ns)


def _in_handshake(connection: Connection, answers_seen: bool) -> Failure | None:
    syns, syn_acks = connection.syns, connection.syn_acks
    isn = connection.client_isn
    for reset in connection.resets:
        answers_syn = reset.sender == "server" and isn is not None and reset.flags & ACK and reset.ack == (isn + 1) & 0xFFFF_FFFF
        if answers_syn and not syn_acks:
            return Failure(Kind.REFUSED, Kind.REFUSED.value, (*syns[:1], reset), reset.aligned_ns)
        if answers_syn:
            return Failure(Kind.HALF_OPEN, "the server reset the half-open connection", (*syn_acks[:1], reset), reset.aligned_ns)
    # A SYN that set out with few hops to live asks for this answer: a route is being traced.
    traces = bool(syns) and 0 < syns[0].packet.ttl <= LONGEST_TRACE
    errors = [error for error in connection.icmp if error.is_unreachable or (error.ends_attempt and not traces)]
    # Linux ends a connect() at the first such error (net/ipv4/tcp_ipv4.c tcp_v4_err(), TCP_SYN_SENT): no SYN follows it.
    ended = bool(errors and syns) and errors[-1].aligned_ns >= syns[-1].aligned_ns
    if errors and not syn_acks and (ended or _is_one_packet(syns) or _given_up(connection, syns)):
        kind = Kind.PROHIBITED if errors[0].is_prohibition else Kind.UNANSWERED
        symptom = f"the client's SYN was answered with an ICMP error (type {errors[0].packet.icmp_type}, code {errors[0].packet.icmp_code})"
        return Failure(kind, symptom, tuple(syns[:1]), errors[0].aligned_ns)
    client_resets = [reset for reset in connection.resets if reset.sender == "client"]
    refused = _refused_and_tried_again(connection, client_resets)
    if refused is not None:
        return refused
    if client_resets:
        return _reset_by_client(connection, client_resets[0])
    if syns and not syn_acks:
        if (len(syns) > 1 or answers_seen) and _given_up(connection, syns):
            repeats = f"{len(syns)} times" if len(syns) > 1 else "once"
            return Failure(
                Kind.UNANSWERED,
                f"the client sent its SYN {repeats} and never got an answer",
                tuple(syns),
                syns[-1].aligned_ns,
            )
        return None
    begun_anew = any(later.syns for later in connection.later)
    unheard = bool(syns) and (len(syns) > 1 or not _arrived(connection, syn_acks)) and _given_up(connection, syns)
    if syn_acks and (_repeated(syn_acks) or (syns and begun_anew) or unheard):
        last = max(syns[-1:] + syn_acks[-1:], key=lambda segment: segment.aligned_ns)
        symptom = f"the server sent its SYN-ACK {len(syn_acks)} times and it was never acknowledged"
        return Failure(Kind.HALF_OPEN, symptom, (*syns, *syn_acks), last.aligned_ns)
    return None


def _is_one_packet(syns: Sequence[Segment]) -> bool:
    """One SYN, seen once or going round in a loop: a repetition has another identification (RFC 6864; 0 tells nothing)."""
    return len(syns) == 1 or (bool(syns) and syns[0].ip_id != 0 and len({syn.ip_id for syn in syns}) == 1)


def _reset_by_client(connection: Connection, reset: Segment) -> Failure | None:
    """The client's RST before the handshake was over: a probe of an open port is none, the end of a broken attempt is one."""
    answered = [segment for segment in connection.segments if segment.sender == "server" and segment.aligned_ns <= reset.aligned_ns]
    bare = [segment for segment in answered if segment.flags & ACK and not segment.flags & (SYN | RST)]
    repeated = len(connection.syns) > 1 or len(connection.syn_acks) > 1 or bool(connection.later) or bool(connection.earlier)
    late = [answer for answer in connection.syn_acks if len(connection.syns) > 1 and answer.seen_at(connection.places[0])]
    waited = bool(late) and late[0].aligned_ns - connection.syns[0].aligned_ns > FIRST_SYN_TIMEOUT_NS // 2
    if not (bare or waited or (repeated and not _arrived(connection, connection.syn_acks))):
        return None
    if waited and not bare:
        symptom = "the client had given up when the SYN-ACK arrived, and answered it with RST"
        return Failure(Kind.HALF_OPEN, symptom, (*connection.syns[:1], late[0], reset), reset.aligned_ns)
    evidence = (*connection.syns[:1], *bare[:1], reset)
    return Failure(Kind.HALF_OPEN, "the client reset the attempt before it was established", evidence, reset.aligned_ns)


def _refused_and_tried_again(connection: Connection, resets: Sequence[Segment]) -> Failure | None:
    """The SYN-ACK is refused with RST, and the client goes on with the same SYN: it never took the answer for its own.

    The answer came from another address than it asked; or somebody on the way sent the RST in its name.
    """
    syns = connection.syns
    if not resets or not any(syn.aligned_ns > resets[0].aligned_ns for syn in syns) or not _given_up(connection, syns):
        return None
    symptom = "each SYN-ACK was answered with a RST in the client's name, and the client went on with its SYN"
    for place, view in connection.views.items():
        asked = {one.packet.destination for one in view.sent_by("client") if one.packet.flags & SYN}
        for answer in view.sent_by("server"):
            if asked and connection.is_client_host(place) is not False and answer.packet.source not in asked:
                symptom = (
                    f"the client's SYN was answered from another address: {answer.packet.source}, and the client refused that with RST"
                )
    return Failure(Kind.HALF_OPEN, symptom, (*syns[:2], resets[0]), resets[0].aligned_ns)


def _arrived(connection: Connection, segments: Sequence[Segment]) -> bool:
    """True where the place nearest to the client saw one of these."""
    return any(segment.seen_at(connection.places[0]) for segment in segments)


def _repeated(segments: Sequence[Segment]) -> bool:
    return len(segments) > SILENT_REPEATS and segments[-1].aligned_ns - segments[0].aligned_ns >= SILENT_SPAN_NS


def _given_up(connection: Connection, syns: Sequence[Segment]) -> bool:
    """The client has stopped trying: it repeated for long, it began anew, or the next repetition did not come while the capture ran on."""
    if _repeated(syns) or any(later.syns for later in connection.later):
        return True
    place = syns[-1].first.vantage_point
    ran_on_ns = connection.views[place].capture_last_ns - syns[-1].aligned_ns
    if len(syns) > 1:
        return ran_on_ns >= UNANSWERED_AGAIN_NS
    return ran_on_ns > FIRST_SYN_TIMEOUT_NS + SECOND_NS // 5


@dataclasses.dataclass(slots=True)
class _Progress:
    """How far one end had sent, and how far the other had acknowledged."""

    data_end: int | None = None
    acked: int | None = None
    last_data: Segment | None = None

    @property
    def unacknowledged(self) -> int:
        """Payload bytes outstanding; 0 where the other end's acknowledgments were not seen at all."""
        if self.data_end is None or self.acked is None:
            return 0
        return max(0, seq_distance(self.acked, self.data_end))


def _progress(segments: Sequence[Segment], until: Segment | None = None) -> dict[Side, _Progress]:
    """Both ends' progress; data sent before `until`, acknowledgments at any time."""
    progress: dict[Side, _Progress] = {"client": _Progress(), "server": _Progress()}
    reached = False
    for segment in segments:
        reached = reached or segment is until
        mine, other = progress[segment.sender], progress[other_side(segment.sender)]
        if segment.length and not reached and not segment.is_reset and not is_tls_alert(segment):
            end = (segment.seq + segment.length) & 0xFFFF_FFFF
            if mine.data_end is None or seq_before(mine.data_end, end):
                mine.data_end = end
                mine.last_data = segment
        stateless = segment.is_reset and segment.packet.is_stateless_reset
        if segment.flags & ACK and not stateless and (other.acked is None or seq_before(other.acked, segment.ack)):
            other.acked = segment.ack
    # What was never acknowledged at all counts from its first byte, once the other end was heard.
    for side, own in progress.items():
        heard = any(segment.sender != side for segment in segments)
        if own.acked is None and own.data_end is not None and heard:
            own.acked = next(segment.seq for segment in segments if segment.sender == side and segment.length)
    return progress


def _reset(connection: Connection) -> Failure | None:
    if not connection.resets:
        return None
    reset = connection.resets[0]
    progress = _progress(connection.segments, until=reset)
    evidence: list[Segment] = []
    symptom = ""
    for side, own in progress.items():
        if own.unacknowledged and own.last_data is not None:
            symptom = symptom or (f"the {reset.sender} sent RST while {own.unacknowledged} bytes of the {side} were not acknowledged")
            evidence.append(own.last_data)
    if not symptom:
        question = _unanswered_request(connection, reset)
        if question is not None:
            symptom = f"the {reset.sender} sent RST before the client's request was answered"
            evidence.append(question)
    goes_on = _goes_on(connection, reset)
    if not symptom and goes_on is not None:
        symptom = f"a RST in the name of the {reset.sender} ended the connection, and the {reset.sender} goes on sending"
        evidence.append(goes_on)
    if not symptom and _reset_at_birth(connection, reset):
        symptom = "the handshake's last ACK, or what followed it, was answered with RST"
    if not symptom:
        return None
    return Failure(Kind.RESET, symptom, (*evidence, reset), reset.aligned_ns)


def _unanswered_request(connection: Connection, end: Segment) -> Segment | None:
    """The client's last message, if it wanted an answer that had not begun when `end` came."""
    message: Segment | None = None
    speaker: Side | None = None
    closed: set[Side] = set()
    if not any(segment.sender == "server" for segment in connection.segments):
        return None  # One direction only was captured (direct return): nobody knows what was answered.
    for segment in connection.segments:
        if segment is end:
            break
        if segment.is_fin:
            closed.add(segment.sender)
        if segment.length and not segment.is_reset and segment.retransmits is None:
            if segment.sender == "client" and (speaker != "client" or segment.packet.payload.startswith(HTTP_METHODS)):
                message = segment
            speaker = segment.sender
    if speaker != "client" or message is None or _answered(connection, message):
        return None
    payload = message.packet.payload
    if payload.startswith(HTTP_METHODS):
        return message
    # Without HTTP nobody knows whether an answer was due: an open connection that the server resets is an error to the client all
    # the same; a client's own close is not, nor is an alert that ends TLS.
    if end.is_reset and end.sender == "server" and not closed and not is_tls_alert(message):
        return message
    return None


def _goes_on(connection: Connection, reset: Segment) -> Segment | None:
    """Data that the end which is said to have sent the RST sends afterwards: the real end never reset the connection.

    None where the end that got the RST had closed before: then it was done, and the RST met what was left.
    """
    for segment in connection.segments:
        if segment is reset:
            break
        if segment.is_fin and segment.sender != reset.sender:
            return None
    return next(
        (
            segment
            for segment in connection.segments
            if segment.sender == reset.sender and segment.length and segment.aligned_ns > reset.aligned_ns and not segment.is_reset
        ),
        None,
    )


def _answered(connection: Connection, message: Segment) -> bool:
    """True where the server sent data that acknowledges the message: by its numbers, which no clock can put in another order.

    Or where the client acknowledges more than any capture holds: the captures lost the answer, the client did not.
    """
    end = (message.seq + message.length) & 0xFFFF_FFFF
    seen_end = message.ack
    for segment in connection.segments:
        if segment.sender != "server" or not segment.length:
            continue
        if segment.flags & ACK and not seq_before(segment.ack, end):
            return True
        own_end = (segment.seq + segment.length) & 0xFFFF_FFFF
        seen_end = own_end if seq_before(seen_end, own_end) else seen_end
    # One number more is the server's FIN.
    return any(
        segment.sender == "client" and segment.flags & ACK and not segment.is_reset and seq_distance(seen_end, segment.ack) > 1
        for segment in connection.segments
        if not seq_before(segment.seq, end)
    )


def _reset_at_birth(connection: Connection, reset: Segment) -> bool:
    """A stateless RST right behind the handshake, before the server said anything and although the client had not closed."""
    if reset.sender != "server" or not reset.packet.is_stateless_reset or not connection.syn_acks:
        return False
    spoke = any(segment.sender == "server" and segment.length for segment in connection.segments)
    closed = any(segment.sender == "client" and segment.is_fin for segment in connection.segments)
    acks = [segment for segment in connection.segments if segment.sender == "client" and segment.flags & ACK]
    soon = bool(acks) and reset.aligned_ns - acks[0].aligned_ns < RESET_AT_BIRTH_NS
    return soon and not spoke and not closed


def _heard_at_home(connection: Connection, side: Side) -> list[Segment]:
    """The connection as this end itself met it: what the place nearest to it saw, if both directions pass there.

    An ACK that was sent and strayed to another host is in some capture, and yet the end that waits for it hears nothing.
    """
    homes = Counter(segment.first.vantage_point for segment in connection.segments if segment.sender == side and not segment.is_reset)
    for home, _ in homes.most_common(1):
        seen = [segment for segment in connection.segments if segment.seen_at(home)]
        if any(segment.sender != side for segment in seen):
            return seen
    return connection.segments


def _silent(connection: Connection) -> Failure | None:
    for side in SIDES:
        segments = _heard_at_home(connection, side)
        progress = _progress(segments)
        own = progress[side]
        # What the other end repeats says only that it, too, hears nothing.
        heard = [segment for segment in segments if segment.sender != side and segment.retransmits is None]
        last_heard = max((segment.aligned_ns for segment in heard), default=segments[0].aligned_ns)
        if not any(segment.sender != side for segment in segments):
            # One direction only was captured: what is repeated counts once nothing new is sent any more.
            new = [segment for segment in segments if segment.length and segment.retransmits is None]
            last_heard = new[-1].aligned_ns if new else last_heard
        tries = [
            segment
            for segment in segments
            if segment.sender == side
            and segment.aligned_ns > last_heard
            and ((segment.length and segment.retransmits is not None) or _is_probe(segment, own))
        ]
        outstanding = own.unacknowledged or (own.acked is None and own.data_end is not None)
        probing = bool(tries) and not tries[-1].length
        question = progress["client"].last_data if probing else None
        if len(tries) < SILENT_REPEATS or tries[-1].aligned_ns - last_heard < SILENT_SPAN_NS:
            continue
        if not outstanding and question is None:
            continue
        word = "probes" if probing else "retransmissions"
        seconds = (tries[-1].aligned_ns - last_heard) / SECOND_NS
        symptom = f"{len(tries)} {word} of the {side} over {seconds:.1f} s drew nothing from the {other_side(side)}"
        return Failure(Kind.SILENT, symptom, tuple(tries), tries[-1].aligned_ns)
    return None


def _is_probe(segment: Segment, own: _Progress) -> bool:
    """A keep-alive probe: one sequence number behind what was sent, with no byte or one (RFC 9293 section 3.8.4)."""
    if segment.flags & (SYN | FIN | RST) or segment.length > 1 or own.data_end is None:
        return False
    return segment.seq == (own.data_end - 1) & 0xFFFF_FFFF


def _unanswered_close(connection: Connection) -> Failure | None:
    fin = next((segment for segment in connection.segments if segment.is_fin), None)
    if fin is None:
        return None
    answered_later = any(
        segment.sender == "server" and segment.length and segment.retransmits is None and segment.aligned_ns >= fin.aligned_ns
        for segment in connection.segments
    )
    request = _unanswered_request(connection, fin)
    if request is None or answered_later or fin.length:
        return None
    waited = (fin.aligned_ns - request.aligned_ns) / SECOND_NS
    symptom = f"the {fin.sender} closed {waited:.1f} s after the client's request, which was never answered"
    return Failure(Kind.GAVE_UP, symptom, (request, fin), fin.aligned_ns)
