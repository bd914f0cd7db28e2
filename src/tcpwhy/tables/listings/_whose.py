"""Rows go in as they are read, settled rows come out in their order: each with the connection that it belongs to.

Rows of tshark that name an HTTP message or a TLS record, and ICMP errors without what they quote, do not say to which connection they
belong. They are given to the one that they can belong to by addresses and, where these leave several, by the numbers that come after.
What can belong to several is given to none, and the connections in question are told.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator

from tcpwhy.connections.packet import ACK, RST, SYN, seq_distance
from tcpwhy.tables.listings._numbers import MASK, Flow, Numbering, Tuple, tuple_of
from tcpwhy.tables.listings._row import Row, Segment

PENDING = 1_000
"""Rows kept back while one of them waits for the numbers that tell whose it is."""

WAITING_MOST = 6
"""Rows of one direction between two hosts that wait at once; of more, not all ways to share them out are tried."""

FLOWS_OF_A_PAIR = 256
"""Connections between two hosts among which a row is looked for; where more are open at once, it is given to none."""

ERROR_AFTER_NS = 4_000_000_000
"""An ICMP error comes so soon after the packet that it is about: a neighbour is asked for three times, a second each (arp(7))."""

AT_ONCE_NS = 5_000_000
"""A router that refuses a packet says so within this time."""

LATEST = 2_048
"""Packets kept in which the one that an error is about is looked for."""


@dataclasses.dataclass(slots=True)
class Settled:
    """A row that is done, or one that nobody can be given."""

    row: Row
    time_ns: int
    is_inferred: bool = False
    is_ready: bool = True
    is_lost: bool = False
    candidates: list[Tuple] = dataclasses.field(default_factory=list)


class Attribution:
    """The rows of one section on their way through."""

    def __init__(self, numbering: Numbering) -> None:
        """`numbering` settles the numbers of each row when its connection is known."""
        self._numbering = numbering
        self._kept: collections.deque[Settled] = collections.deque()
        self._pairs: dict[frozenset[str], collections.OrderedDict[Tuple, Flow]] = {}
        self._crowded: dict[frozenset[str], set[Tuple]] = {}
        self._latest: collections.deque[Settled] = collections.deque(maxlen=LATEST)
        self._link: dict[Tuple, int] = {}
        self._usual_link: int | None = None
        self._stamped: dict[Tuple, int] = {}
        self.unsure: set[Tuple] = set()
        """Connections to which a row may belong that was given to none."""
        self.lost = 0
        """Rows that were given to none."""

    def feed(self, row: Row, time_ns: int) -> Iterator[Settled]:
        """The next row; what is done by it comes out."""
        one = Settled(row, time_ns)
        if row.error is not None:
            if row.error.quoted is None:
                self._find_quoted(one)
            elif row.error.quoted.segment is not None:
                self._settle_quoted(row.error.quoted)
        elif row.segment is not None and not row.segment.is_told:
            one.is_ready = False
            self._place(one)
        elif row.segment is not None and not row.raw:
            self._explain(row)
            self._settle(one)
        if one.row.segment is not None and one.is_ready:
            self._latest.append(one)
        self._kept.append(one)
        if len(self._kept) > PENDING:
            self._give_up(self._kept[0])
        yield from self._done()

    def finish(self) -> Iterator[Settled]:
        """What is left when the listing ends."""
        while self._kept:
            self._give_up(self._kept[0])
            yield from self._done()

    def _done(self) -> Iterator[Settled]:
        while self._kept and (self._kept[0].is_ready or self._kept[0].is_lost):
            one = self._kept.popleft()
            if not one.is_lost:
                yield one

    def _give_up(self, one: Settled) -> None:
        """What nothing contradicts is taken for the only connection that it fits; else the row is lost."""
        if one.is_ready or one.is_lost:
            return
        if len(one.candidates) == 1:
            key = one.candidates[0]
            length = self._length(one.row, key, None)
            if length > 0:
                self._give(one, key, _end(one.row, key), length)
                return
        head = one.row.heads[-1]
        self.unsure.update(one.candidates or self._flows(head.source, head.destination))
        self.unsure.update(self._crowded.get(frozenset((head.source, head.destination)), ()))
        one.is_lost = True
        self.lost += 1

    # Rows whose numbers are told

    def _settle(self, one: Settled) -> None:
        row = one.row
        assert row.segment is not None
        one.is_inferred = self._numbering.settle(row)
        found = self._numbering.flow_of(row)
        if found is None or row.frame_length is None or self._numbering.is_inferring:
            return
        key, flow = found
        head = row.heads[-1]
        hosts = frozenset((head.source, head.destination))
        pair = self._pairs.setdefault(hosts, collections.OrderedDict())
        pair[key] = flow
        pair.move_to_end(key)
        if len(pair) > FLOWS_OF_A_PAIR:
            oldest = next((other for other, known in pair.items() if known.ended), next(iter(pair)))
            if not pair.pop(oldest).ended:
                self._crowded.setdefault(hosts, set(pair)).add(oldest)
        ip = 40 if ":" in head.source else 20
        link = row.frame_length - ip - 20 - len(row.segment.options) - row.segment.length
        if row.frame_length > 60 and link >= 0:  # a shorter frame of Ethernet was filled up (IEEE 802.3 clause 3.2.8)
            self._link[key] = self._usual_link = link
        if not row.segment.flags & (SYN | RST):
            self._stamped[key] = len(row.segment.options) if len(row.segment.options) <= 12 else 12
        elif row.segment.flags & SYN and key not in self._stamped:
            self._stamped[key] = 12 if b"\x08\x0a" in row.segment.options else 0

    def _explain(self, told: Row) -> None:
        """Gives waiting rows to the connection of `told`, where its numbers have a gap that just they fill."""
        if not self._kept or self._numbering.is_inferring:
            return
        head, segment = told.heads[-1], told.segment
        assert segment is not None
        key, sender = tuple_of(told)
        flow = self._flows(head.source, head.destination).get(key)
        if segment.flags & SYN or (segment.flags & RST and segment.window == 0 and segment.flags & ACK and flow is None):
            return
        for end, number in ((sender, segment.seq), (1 - sender, segment.ack if segment.flags & ACK else None)):
            if number is None:
                continue
            reached = 1
            if flow is not None and flow.next[end] is not None:
                reached = ((flow.next[end] or 0) - (flow.base[end] or 0)) & MASK
            gap = seq_distance(reached, number)
            if 0 < gap < 1 << 24:
                self._fill(told, key, end, gap)
            elif gap == 0 and end == sender and not segment.flags & RST and segment.length:
                # It goes on where it was: what waits is not of this connection.
                for one in self._kept:
                    if not one.is_ready and key in one.candidates and _end(one.row, key) == end:
                        one.candidates = [other for other in one.candidates if other != key]

    def _fill(self, told: Row, key: Tuple, end: int, gap: int) -> None:
        """A message may carry the FIN too, which takes one number and which its row does not tell."""
        source, destination = (key[0], key[2]) if end == 0 else (key[2], key[0])
        waiting = [
            one
            for one in self._kept
            if not one.is_ready and not one.is_lost and key in (one.candidates or [key])
            and (one.row.heads[-1].source, one.row.heads[-1].destination) == (source, destination)
        ]  # fmt: skip
        certain = [one for one in waiting if one.candidates == [key]]
        sizes = {id(one): self._length(one.row, key, told) for one in waiting}
        total = 0
        for count, one in enumerate(certain, 1):
            total += sizes[id(one)]
            if sizes[id(one)] < 0 or total > gap:
                break
            if total in (gap, gap - 1) and (total == gap or count == len(certain) or sizes[id(certain[count])] != 1):
                self._give_all(certain[:count], key, end, sizes, has_fin=total < gap)
                return
        waiting = waiting[:WAITING_MOST]
        for has_fin in (False, True):
            fitting = [
                chosen
                for number in range(1, len(waiting) + 1)
                for chosen in itertools.combinations(waiting, number)
                if sum(sizes[id(one)] for one in chosen) + has_fin == gap and all(sizes[id(one)] >= 0 for one in chosen)
            ]
            if len(fitting) == 1:
                self._give_all(list(fitting[0]), key, end, sizes, has_fin=has_fin)
            if fitting:
                return

    def _give_all(self, chosen: list[Settled], key: Tuple, end: int, sizes: dict[int, int], *, has_fin: bool) -> None:
        for number, one in enumerate(chosen, 1):
            self._give(one, key, end, sizes[id(one)], has_fin=has_fin and number == len(chosen))

    # Rows whose numbers are not told

    def _flows(self, source: str, destination: str) -> collections.OrderedDict[Tuple, Flow]:
        return self._pairs.get(frozenset((source, destination)), collections.OrderedDict())

    def _place(self, one: Settled) -> None:
        """Gives the row to the only connection that it can belong to, if there is one."""
        head = one.row.heads[-1]
        flows = {key: flow for key, flow in self._flows(head.source, head.destination).items() if not flow.ended}
        payload = one.row.payload
        # Nobody asks again before the answer, pipelining apart, which nobody uses (RFC 9112 section 9.3.2), nor answers what was not asked.
        if payload.startswith(b"HTTP/"):
            fitting = [key for key, flow in flows.items() if flow.asked is not False]
        elif payload.endswith(b" HTTP/1.1\r\n"):
            fitting = [key for key, flow in flows.items() if flow.was_open and not flow.asked]
        else:
            fitting = [key for key, flow in flows.items() if flow.was_open]
        one.candidates = [key for key in fitting or flows if self._length(one.row, key, None) >= 0]
        if head.source == head.destination or frozenset((head.source, head.destination)) in self._crowded:
            one.candidates = []  # from a host to itself neither end is told
        for key in one.candidates:
            flows[key].asked = _asks(payload, flows[key].asked) if len(one.candidates) == 1 else None

    def _length(self, row: Row, key: Tuple, told: Row | None) -> int:
        """Bytes of payload of a row that tells its frame's length only."""
        ip = 40 if ":" in key[0] else 20
        link = self._link.get(key, self._usual_link)
        options = self._stamped.get(key)
        if told is not None and told.segment is not None and told.frame_length is not None:
            options = len(told.segment.options) if options is None else options
            if link is None:
                link = told.frame_length - ip - 20 - len(told.segment.options) - told.segment.length
        return (row.frame_length or 0) - ip - 20 - (options or 0) - (link if link is not None else 14)

    def _give(self, one: Settled, key: Tuple, end: int, length: int, *, has_fin: bool = False) -> None:
        row = one.row
        ports = (key[1], key[3]) if end == 0 else (key[3], key[1])
        is_part = row.segment is not None and row.segment.is_part
        row.segment = Segment(ports[0], ports[1], 0x19 if has_fin else 0x18, None, None, 1, length, is_told=False, is_part=is_part)
        row.frame_length = None
        found = self._numbering.flow_of(row)
        if found is not None:
            flow = found[1]
            flow.asked = _asks(row.payload, flow.asked)
            if flow.in_message[end] or flow.next[end] is None:
                # A message is named where it is complete: this segment holds the last part of it, and its head came before.
                row.payload = b""
        self._numbering.settle(row)
        one.is_inferred = one.is_ready = True
        self._latest.append(one)

    # ICMP errors

    def _settle_quoted(self, quoted: Row) -> None:
        """A quoted segment's number is printed as those of its connection are, but it is no new packet of it."""
        segment = quoted.segment
        assert segment is not None
        found = self._numbering.flow_of(quoted)
        if found is not None and segment.flags & ACK and not segment.flags & SYN:
            _key, flow = found
            sender = tuple_of(quoted)[1]
            segment.seq = flow.next[sender] if segment.seq is None else ((flow.base[sender] or 0) + segment.seq) & MASK

    def _find_quoted(self, one: Settled) -> None:
        error, head = one.row.error, one.row.heads[-1]
        assert error is not None
        fitting: dict[Tuple, Settled] = {}
        for earlier in self._latest:
            sent = earlier.row.heads[-1]
            segment = earlier.row.segment
            if segment is None or one.time_ns - earlier.time_ns > ERROR_AFTER_NS or sent.source != head.destination:
                continue
            if error.about not in (None, sent.destination) or error.port not in (None, segment.destination_port):
                continue
            fitting[tuple_of(earlier.row)[0]] = earlier
        if len(fitting) > 1:
            at_once = {key: earlier for key, earlier in fitting.items() if one.time_ns - earlier.time_ns <= AT_ONCE_NS}
            fitting = at_once or fitting
        if len(fitting) == 1:
            error.quoted = next(iter(fitting.values())).row
        else:
            one.is_lost = True
            self.lost += 1
            self.unsure.update(fitting)


def _asks(payload: bytes, before: bool | None) -> bool | None:
    """Whether an answer is due when this was sent, as far as it is named."""
    return False if payload.startswith(b"HTTP/") else True if payload.endswith(b" HTTP/1.1\r\n") else before


def _end(row: Row, key: Tuple) -> int:
    """Which end of a connection sent a row whose ports are not told."""
    return 0 if row.heads[-1].source == key[0] else 1
