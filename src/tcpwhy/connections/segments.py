"""Sightings of one connection at several places go in; segments, each with the places that saw it, come out."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from tcpwhy.connections.connection import Segment, View
from tcpwhy.connections.packet import RST, SYN, Sighting, seq_distance

SAME_PACKET_NS = 500_000_000
"""Two places that saw equal packets this far apart by aligned clocks saw two packets: a SYN-ACK or RST without timestamps and with IP
ID 0 looks like the one before it."""


BURST_NS = 1_000_000
"""Equal packets so close together are one burst."""


def match_segments(views: Mapping[str, View], places: Sequence[str], aligned: set[str]) -> list[Segment]:
    """The segments of both ends in the order of the common clock.

    `places` are nearest to the client first; `aligned` are those on the common clock. A segment's numbers, timestamps and IP ID name
    it; where offload cut the same bytes differently at another place, that place's sightings cover it.
    """
    segments: list[Segment] = []
    key = _key_for(views.values())
    for side, way in (("client", places), ("server", tuple(reversed(places)))):
        own: list[Segment] = []
        for place in way:
            _add_place(own, [sighting for sighting in views[place].sightings if sighting.sender == side], place, aligned, key)
        segments.extend(own)
    witness = _best_witness(segments, places)

    def order(segment: Segment) -> tuple[int, int]:
        seen = segment.sightings.get(witness) or segment.first
        return seen.aligned_ns, seen.packet.frame

    segments.sort(key=order)
    _mark_retransmissions(segments)
    return segments


def _best_witness(segments: Sequence[Segment], places: Sequence[str]) -> str:
    """The place that saw most of both directions: within it order is certain, between places only as far as the clocks are known."""

    def seen(place: str) -> tuple[int, int]:
        counts = [sum(place in segment.sightings for segment in segments if segment.sender == side) for side in ("client", "server")]
        return min(counts), sum(counts)

    return max(places, key=seen)


def _key(sighting: Sighting) -> Hashable:
    packet = sighting.packet
    return (packet.flags, packet.seq, packet.ack, packet.length, packet.ts_value, packet.ts_echo, packet.ip_id)


def _key_as_listed(sighting: Sighting) -> Hashable:
    """What a listing tells of a packet for certain: a bare ACK's own number is not among it, nor the IP ID."""
    packet = sighting.packet
    if packet.is_bare_ack:
        return (packet.flags, packet.ack, packet.ts_value, packet.ts_echo)
    return (packet.flags, packet.seq, packet.ack, packet.length, packet.ts_value, packet.ts_echo)


def _key_of_bytes(sighting: Sighting) -> Hashable:
    """What is certain of a segment of which a listing names what it carries and not its header."""
    packet = sighting.packet
    if packet.is_bare_ack or packet.flags & (SYN | RST):
        return _key_as_listed(sighting)
    return (packet.seq, packet.length)


def _key_for(views: Iterable[View]) -> Callable[[Sighting], Hashable]:
    """By what equal packets are told: by less where a listing tells less."""
    packets = [sighting.packet for view in views for sighting in view.sightings]
    if any(packet.is_inferred and not packet.is_bare_ack for packet in packets):
        return _key_of_bytes
    return _key_as_listed if any(packet.is_inferred or packet.ip_id is None for packet in packets) else _key


def _add_place(
    segments: list[Segment], sightings: Sequence[Sighting], place: str, aligned: set[str], key: Callable[[Sighting], Hashable]
) -> None:
    by_key: dict[Hashable, list[Segment]] = {}
    for segment in segments:
        by_key.setdefault(key(segment.first), []).append(segment)
    unmatched: list[Sighting] = []
    for sighting in sightings:
        candidates = [
            segment
            for segment in by_key.get(key(sighting), [])
            if place not in segment.sightings and _same_time(segment.first, sighting, aligned)
        ]
        if candidates:
            apart = {id(segment): abs(segment.first.aligned_ns - sighting.aligned_ns) for segment in candidates}
            nearest_ns = min(apart.values())
            # Equal packets of one burst keep their order; only time tells those of different bursts apart.
            chosen = next(segment for segment in candidates if apart[id(segment)] <= nearest_ns + BURST_NS)
            chosen.sightings[place] = sighting
        else:
            unmatched.append(sighting)
    known = list(segments)
    for sighting in unmatched:
        if not (sighting.packet.length and _cover(known, sighting, place, aligned)):
            packet = sighting.packet
            segments.append(
                Segment(
                    sender=sighting.sender,
                    flags=packet.flags,
                    seq=packet.seq,
                    ack=packet.ack,
                    length=packet.length,
                    ts_value=packet.ts_value,
                    ts_echo=packet.ts_echo,
                    ip_id=packet.ip_id,
                    sightings={place: sighting},
                )
            )


def _same_time(segment: Sighting, sighting: Sighting, aligned: set[str]) -> bool:
    if segment.vantage_point not in aligned or sighting.vantage_point not in aligned:
        return True
    if sighting.packet.ip_id and segment.packet.ip_id is not None:
        return True
    return abs(segment.aligned_ns - sighting.aligned_ns) <= SAME_PACKET_NS


def _cover(segments: Sequence[Segment], sighting: Sighting, place: str, aligned: set[str]) -> bool:
    """Attaches a sighting to the segments whose bytes it holds; False where they are not all known."""
    packet = sighting.packet
    start, end = packet.seq, packet.seq + packet.length
    pieces: list[tuple[int, int, Segment]] = []
    for segment in segments:
        if not segment.length or place in segment.sightings or segment.is_reset:
            continue
        if segment.ts_value is not None and segment.ts_value != packet.ts_value and not packet.is_inferred:
            continue
        if not _same_time(segment.first, sighting, aligned):
            continue
        left = start + seq_distance(start & 0xFFFF_FFFF, segment.seq)
        right = left + segment.length
        if left < end and right > start:
            pieces.append((left, right, segment))
    reach = start
    for left, right, _ in sorted(pieces, key=lambda piece: piece[:2]):
        if left > reach:
            break
        reach = max(reach, right)
    if reach < end:
        return False
    for _, _, segment in pieces:
        segment.covered.setdefault(place, []).append(sighting)
    return True


def _mark_retransmissions(segments: Sequence[Segment]) -> None:
    """Links each segment whose sequence space was all sent before with the first that held its start."""
    for side in ("client", "server"):
        sent = _SentSpace()
        newest: int | None = None
        end = 0  # counted on beyond 2^32
        for segment in segments:
            if segment.sender != side or segment.is_reset or segment.seq == segment.seq_end:
                continue
            begin = 0 if newest is None else end + seq_distance(newest, segment.seq)
            stop = begin + (segment.seq_end - segment.seq & 0xFFFF_FFFF)
            if newest is not None and stop <= end:
                segment.retransmits = sent.holder(begin)
            if newest is None or stop > end:
                newest, end = segment.seq_end, stop
            sent.add(begin, stop, segment)


class _SentSpace:
    """Which segment first held each sequence number: spans in order, none of which overlaps another."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._spans: list[tuple[int, Segment]] = []
        """One past the last number, and who held it first; parallel to the begins."""

    def holder(self, number: int) -> Segment | None:
        """The first segment that held a number."""
        at = bisect.bisect_right(self._begins, number) - 1
        return self._spans[at][1] if at >= 0 and number < self._spans[at][0] else None

    def add(self, begin: int, stop: int, segment: Segment) -> None:
        """What of these numbers nobody held before, this segment holds."""
        at = bisect.bisect_right(self._begins, begin)
        if at:
            begin = max(begin, self._spans[at - 1][0])
        while begin < stop:
            following = self._begins[at] if at < len(self._begins) else stop
            if begin < following:
                self._begins.insert(at, begin)
                self._spans.insert(at, (min(following, stop), segment))
                at += 1
            if at == len(self._begins):
                return
            begin = self._spans[at][0]
            at += 1
