"""Data that waited for lost packets goes in; how these were spread, and which causes lose packets otherwise, come out."""

from __future__ import annotations

import dataclasses
import enum
import itertools

from tcpwhy.causes._claims import most_claims, sent_to
from tcpwhy.causes._lost import Wait
from tcpwhy.causes._resets import is_socket_reset
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.link_loss import BY_CHANCE, Rate, is_by_size
from tcpwhy.connections.losses import Crossing, crossings
from tcpwhy.connections.packet import Side, other_side, seq_before

IDLE_NS = 1_000_000_000
"""After such a silence a device on the way may have forgotten the connection (idle-timeout): some are set to a few seconds."""


class Pattern(enum.Enum):
    """How losses are spread over the connection, and over the others."""

    MIXED = "Between those that were lost, others came through."
    GAP = "For that time nothing came through; then the link carried packets again."
    ALL_DIED = "From then on nothing came through any more, of this connection and of all others."
    HELD_BACK = "They come in there and do not leave, while what was sent before them left on another interface: it drops them itself."
    ONE_DIED = (
        "From then on nothing of this connection came through any more in that direction, which a device that drops it on purpose does too."
    )


def pattern_of(connection: Connection, wait: Wait) -> Pattern:
    """How the losses of the wait are spread."""
    crossing = wait.crossing
    begin_ns, end_ns = _span(crossing, wait)
    if any(begin_ns < one.aligned_ns < end_ns for one in crossing.passed):
        return Pattern.MIXED
    traffic = connection.traffic
    others = 0 if traffic is None else traffic.others(connection, crossing.far, crossing.side, begin_ns, end_ns)
    by_chance = traffic is not None and traffic.rate_of(crossing).share ** len(wait.lost) >= BY_CHANCE
    if others and traffic is not None and by_chance and traffic.is_random(crossing):
        return Pattern.MIXED
    if wait.stall.ended or any(one.aligned_ns >= end_ns and not one.is_reset for one in crossing.passed):
        return Pattern.GAP
    before = [segment.aligned_ns for segment in connection.segments if segment.aligned_ns < begin_ns]
    silence_ns = begin_ns - before[-1] if before else 0
    if silence_ns < IDLE_NS and _is_held_back(connection, crossing, begin_ns):
        return Pattern.HELD_BACK
    if others or silence_ns >= IDLE_NS:
        return Pattern.ONE_DIED
    if _is_dead_both_ways(connection, crossing, begin_ns):
        return Pattern.ALL_DIED
    begun = 0 if traffic is None else traffic.others(connection, crossing.near, crossing.side, begin_ns, end_ns, what="syn")
    return Pattern.ALL_DIED if begun and crossing.side == "client" else Pattern.ONE_DIED


def _span(crossing: Crossing, wait: Wait) -> tuple[int, int]:
    """From the first loss of the wait to its end."""
    lost = [one.segment.aligned_ns for one in crossing.missing if one.segment.aligned_ns >= wait.stall.start_ns]
    begin_ns = min([*lost, wait.lost[0].segment.aligned_ns])
    return begin_ns, max([wait.stall.end_ns, *lost]) if not wait.stall.ended else wait.lost[-1].segment.aligned_ns


def _is_held_back(connection: Connection, crossing: Crossing, since_ns: int) -> bool:
    """True where a host between the ends has what was lost on one interface only, what passed on two, and both directions all along."""
    if crossing.near in (connection.places[0], connection.places[-1]):
        return False
    here = connection.views[crossing.near]
    other = [one.aligned_ns for one in here.sent_by(other_side(crossing.side))]
    if not other or min(other) >= since_ns:
        return False
    ways = [_interfaces(one, crossing.near) for one in crossing.passed if one.aligned_ns < since_ns]
    lost = [_interfaces(one.segment, crossing.near) for one in crossing.missing]
    files = {file for way in ways for file, _ in way}
    last_ns = max((one.segment.aligned_ns for one in crossing.missing), default=since_ns)
    if not connection.topology.all_ran(crossing.near, files, since_ns, last_ns):
        return False  # The other interface's capture may have ended.
    return bool(ways) and all(len(way) > 1 for way in ways) and all(len(way) == 1 for way in lost)


def _interfaces(segment: Segment, place: str) -> set[tuple[str, str]]:
    sighting = segment.sighting_at(place)
    copies = sighting.copies if sighting is not None else []
    return {(copy.file, copy.interface) for copy in copies}


def _is_dead_both_ways(connection: Connection, crossing: Crossing, since_ns: int) -> bool:
    """True where the other direction lost packets on the same link from then on too, and nothing of it passed."""
    for back in crossings(connection):
        if back.side != crossing.side and back.near == crossing.far and back.far == crossing.near and back.doubt is None:
            lost = any(one.segment.aligned_ns >= since_ns for one in back.missing)
            return lost and not any(one.aligned_ns > since_ns for one in back.passed)
    return False


def rates_told(connection: Connection, crossing: Crossing) -> str:
    """Both directions' rates on the link: of all connections where it could be measured, else of this one."""
    near, far = crossing.between
    link = connection.traffic.link_of(crossing) if connection.traffic is not None else None
    own: dict[Side, Rate] = {one.side: Rate(one.lost, one.sent) for one in crossings(connection) if {one.near, one.far} == {near, far}}
    rates = own if link is None or not link.rates[crossing.side].lost else link.rates
    whose = "this connection's" if rates is own else "all connections'"
    there, back = rates[crossing.side], rates.get(other_side(crossing.side), Rate(0, 0))
    return f"Of {whose} packets, {there} were lost from {near} to {far}, and {back} the other way."


def signs(connection: Connection) -> str:
    """What speaks for loss in what was captured, as a clause; empty where nothing does."""
    failure = connection.failure
    repeated = [one for one in connection.segments if one.retransmits is not None and not one.is_reset]
    if repeated:
        return f"{len(repeated)} of its segments were repeated"
    if any(one.packet.sack for one in connection.segments if not one.flags & 2):
        return "a receiver says that it lacks data before what it got"
    if any(_has_hole(connection, side) for side in ("client", "server")):
        return "bytes are missing before others that came"
    if failure is not None and failure.kind is Kind.SILENT:
        return "what was sent drew nothing"
    if unseen_close(connection):
        return "the client's host had no such connection any more: that it closed was lost on the way, and what it waited for came late"
    waiting = failure is not None and failure.kind is Kind.GAVE_UP and not any(_speaks(connection, one) for one in connection.segments)
    if waiting and not connection.is_server_host(connection.places[-1]) and not _closed_in_order(connection):
        return "the answer may have been sent, and lost on the way each time"
    return ""


def _closed_in_order(connection: Connection) -> bool:
    """True where the server's FIN came with no byte missing before it: all that it ever sent is known."""
    own = [one for one in connection.segments if one.sender == "server" and not one.is_reset and not one.packet.is_inferred]
    return len(own) > 1 and any(one.is_fin for one in own[1:]) and not _has_hole(connection, "server")


def last_ack_may_be_lost(connection: Connection) -> bool:
    """True at the server alone where a SYN-ACK is repeated, nothing else came of the client, and it did not ask again either."""
    if not connection.syn_acks or not connection.is_server_host(connection.places[0]):
        return False
    first_ns = connection.syn_acks[0].aligned_ns
    return not any(one.sender == "client" and one.aligned_ns > first_ns for one in connection.segments)


def _speaks(connection: Connection, segment: Segment) -> bool:
    failure = connection.failure
    return (
        segment.sender == "server" and bool(segment.length) and failure is not None and segment.aligned_ns >= failure.segments[0].aligned_ns
    )


def unseen_close(connection: Connection) -> bool:
    """True where a host without a socket answers in the client's name, whose close nobody saw, although it had waited just before.

    Only away from the client's host: there its close would have been captured.
    """
    failure = connection.failure
    if failure is None or failure.kind is not Kind.RESET or connection.resets[0].sender != "client":
        return False
    reset = connection.resets[0]
    own = [one for one in connection.segments if one.sender == "client" and not one.is_reset]
    if is_socket_reset(reset) or connection.is_client_host(connection.places[0]) or any(one.is_fin for one in own):
        return False
    return any(later.aligned_ns - earlier.aligned_ns >= IDLE_NS for earlier, later in itertools.pairwise(own))


def _has_hole(connection: Connection, side: str) -> bool:
    """Data, or a bare ACK or FIN behind it, that came although the bytes right before it had not."""
    end: int | None = None
    for segment in connection.segments:
        if segment.sender == side and not segment.is_reset and not segment.packet.is_inferred:
            if end is not None and seq_before(end, segment.seq):
                return True
            end = segment.seq_end if end is None or seq_before(end, segment.seq_end) else end
    return False


def excluded(connection: Connection, wait: Wait, pattern: Pattern) -> dict[str, str]:
    """The causes that the spread of the losses contradicts, and why."""
    crossing, failure = wait.crossing, connection.failure
    near, far = crossing.between
    lost = f"what was waited for was seen at {near} and lost before {far}"
    spread = (
        "others of its packets passed between those that were lost" if pattern is Pattern.MIXED else "nothing passed the link at that time"
    )
    found = {
        "idle-timeout": f"{spread}: no device forgot this connection",
        "mid-connection-rehash": f"{spread}, and other connections' packets reach {far}",
        "asymmetric-drop": f"{spread}, whatever the state of a firewall",
        "keepalive-race": lost,
        "reset-with-unread-data": lost,
        "slow-server": f"{lost}: the program did not have it",
        "accept-queue-overflow": lost,
        "stale-connection": lost,
        "timestamp-rejected": lost,
        "peer-vanished": f"{lost}, and {far} went on capturing",
    }
    if pattern in (Pattern.MIXED, Pattern.GAP, Pattern.HELD_BACK) and len(most_claims(connection)) < 2:
        found["arp-conflict"] = f"{spread}, and no two hosts are seen to claim the address by ARP"
    elif len({mac for mac in _sent_to(crossing) if mac}) == 1:
        found["arp-conflict"] = f"what was lost after {near} went to the same hardware address as what passed"
    if not any(not one.packet.window and not one.is_reset for one in connection.segments):
        found["zero-window"] = "no window was closed"
    if not lost_by_size(connection, crossing) and not narrowed(connection, wait):
        found["mtu-blackhole"] = _sizes_told(crossing)
    if failure is None or failure.kind is not Kind.RESET or connection.resets[0].seen_at(_home(connection, connection.resets[0].sender)):
        found["injected-reset"] = "what was lost came before any RST"
    return found


def _sent_to(crossing: Crossing) -> set[str]:
    """The hardware addresses to which the near place saw what was lost, and what passed, leave."""
    return {sent_to(one, crossing.near) for one in (*crossing.passed, *(missing.segment for missing in crossing.missing))}


def lost_by_size(connection: Connection, crossing: Crossing) -> bool:
    """True where only the larger packets are lost, and what the link loses else does not explain that."""
    rate = connection.traffic.rate_of(crossing) if connection.traffic is not None else Rate(0, 0)
    return is_by_size(crossing, rate)


def narrowed(connection: Connection, wait: Wait) -> bool:
    """True where since the losses of the wait only smaller packets pass, of this connection, as where the way became narrower then.

    What was sent again in smaller pieces tells that whatever is longer from then on was merged by offload.
    """
    crossing = wait.crossing
    begin_ns, _ = _span(crossing, wait)
    lost = [one for one in crossing.missing if one.segment.aligned_ns >= begin_ns]
    passed = [one for one in crossing.passed if one.aligned_ns >= begin_ns and not one.is_reset]
    begins = {one.segment.seq: one.size for one in lost}
    fitting = [one.length for one in passed if 0 < one.length < begins.get(one.seq, 0)]
    largest = max((min([one.length, *fitting[:1]]) for one in passed), default=-1)
    rate = connection.traffic.rate_of(crossing) if connection.traffic is not None else Rate(0, 0)
    since = dataclasses.replace(crossing, missing=tuple(lost), passed=tuple(passed), largest_passed=largest)
    return is_by_size(since, rate)


def _home(connection: Connection, side: Side) -> str:
    return connection.places[0] if side == "client" else connection.places[-1]


def _sizes_told(crossing: Crossing) -> str:
    if crossing.smallest_lost <= crossing.largest_passed:
        return f"packets with {crossing.smallest_lost} bytes of payload were lost, and others with {crossing.largest_passed} passed"
    return "packets of any size are lost on that link"
