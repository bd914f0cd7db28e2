"""A connection goes in; which of the client's packets the listener's kernel ignored, or reset, as a full accept queue does, comes out."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import ACK, RST, SYN

MS = 1_000_000

AT_ONCE_NS = 100 * MS
"""A kernel answers at once; a busy host and a virtual machine's clock need some of this."""

REPEATED_NS = 500 * MS
"""A SYN-ACK that is sent so long after the last ACK had come is no packet that crossed it: the first repetition comes after a second."""

Form = Literal["SYN", "ACK", "RST"]


@dataclasses.dataclass(frozen=True, slots=True)
class Ignored:
    """What a full accept queue would do, and was done to this connection."""

    form: Form
    """SYNs without an answer; a last ACK, and data, that were not taken; a RST in answer to them."""
    packets: tuple[Segment, ...]
    """The client's packets of which the server took no notice, or which it reset, in the order of time."""
    answers: tuple[Segment, ...] = ()
    """The SYN-ACKs that were repeated although the last ACK had been sent; or the RST."""


def ignored(connection: Connection) -> Ignored | None:
    """None where the packets look otherwise."""
    if connection.failure is None or not (connection.syns or connection.syn_acks):
        return None
    if connection.failure.kind is Kind.UNANSWERED:
        return None if connection.icmp else Ignored("SYN", tuple(connection.syns))
    if not connection.syn_acks:
        return None
    acks = [one for one in connection.segments if one.sender == "client" and one.flags & ACK and not one.flags & (SYN | RST)]
    if acks:
        return _after_the_handshake(connection, acks)
    return None


def _after_the_handshake(connection: Connection, acks: list[Segment]) -> Ignored | None:
    """The client's side of the handshake is over."""
    first = acks[0]
    said = [one for one in connection.segments if one.sender == "server" and not one.flags & SYN]
    spoke = next((one for one in said if not one.is_reset), None)
    reset = next((one for one in said if one.is_reset), None)
    until = min((one.aligned_ns for one in said), default=None)
    repeats = tuple(
        one for one in connection.syn_acks if one.aligned_ns - first.aligned_ns >= REPEATED_NS and (until is None or one.aligned_ns < until)
    )
    taken = [one for one in acks if until is None or one.aligned_ns < until]
    data = [one for one in taken if one.length]
    if repeats:
        return Ignored("ACK", tuple(taken), repeats)
    if reset is not None and spoke is None and reset.packet.is_stateless_reset and not reset.flags & ACK:
        begin = connection.syns[0].aligned_ns if connection.syns else first.aligned_ns
        soon = reset.aligned_ns - first.aligned_ns <= AT_ONCE_NS + 2 * (first.aligned_ns - begin)  # round trips
        return Ignored("RST", tuple(taken) or (first,), (reset,)) if soon and reset.seq == first.ack else None
    held_up = connection.failure is not None and connection.failure.kind is Kind.STALLED and len(connection.syns) > 1
    if held_up:
        waited = tuple(one for one in connection.syns if one.aligned_ns < connection.syn_acks[0].aligned_ns - AT_ONCE_NS)
        return Ignored("SYN", waited) if waited else None
    # With SYN cookies nothing is kept that could be repeated.
    if reset is None and len(data) > 2 and data[-1].retransmits is not None and data[-1].aligned_ns - data[0].aligned_ns >= REPEATED_NS:
        return Ignored("ACK", tuple(data))
    return None
