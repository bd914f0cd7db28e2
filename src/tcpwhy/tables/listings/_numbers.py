"""Sequence numbers go in as a listing prints them, relative to a number that it may not tell; numbers of the whole space come out."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from tcpwhy.connections.packet import ACK, FIN, RST, SYN, seq_before, seq_distance
from tcpwhy.tables.listings._row import Row

Tuple = tuple[str, int, str, int]
"""Two ends in the order of their text, so that both directions have one."""

Known = Mapping[tuple[Tuple, int, bool], int]
"""Bases found by comparing places: by tuple, incarnation, and whether of the first end."""

FLOWS_KEPT = 200_000
"""Flows whose numbers are followed at once; of more, the ones that were quiet longest are forgotten."""

SMALL = 1 << 20
"""A number below is taken for a relative one where nothing tells; an absolute one is so small once in 4,096 connections."""

MASK = 0xFFFF_FFFF


@dataclasses.dataclass(slots=True)
class Flow:
    """What is known of the numbers of one connection; pairs are by end, the first one of its tuple first."""

    incarnation: int = 0
    base: list[int | None] = dataclasses.field(default_factory=lambda: [None, None])
    """What is added to a printed number."""
    is_guessed: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    next: list[int | None] = dataclasses.field(default_factory=lambda: [None, None])
    """One past what the end sent, or what the other end acknowledged."""
    has_sent: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    has_syn: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    has_fin: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    shift: list[int | None] = dataclasses.field(default_factory=lambda: [None, None])
    """Window scale of the end's SYN."""
    ended: bool = False
    was_open: bool = False
    overhead: int | None = None
    """Bytes of a frame beside its payload, of segments that carry timestamps or none alike."""
    asked: bool | None = None
    """The last message was a request; None where that is not known."""
    is_shut: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    """The end announced a window of 0 last."""
    is_quiet: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    """Since the end sent data, the other one sent nothing that asks for an ACK."""
    last_ack: list[int | None] = dataclasses.field(default_factory=lambda: [None, None])
    """What the end acknowledged last."""
    in_message: list[bool] = dataclasses.field(default_factory=lambda: [False, False])
    """The end's last segment held a part of a message that was not complete: the next one does not begin with its head."""


class Numbering(Protocol):
    """What a dialect prints for numbers, over one section."""

    is_inferring: bool

    def settle(self, row: Row) -> bool:
        """Writes the true numbers into the row's segment; True where its own number was inferred and not printed."""

    def flow_of(self, row: Row) -> tuple[Tuple, Flow] | None:
        """The flow of a row that was settled."""


def tuple_of(row: Row) -> tuple[Tuple, int]:
    """The tuple of a segment, and which of its ends (0 or 1) sent it."""
    source, source_port, destination, destination_port = row.ends
    if (source, source_port) <= (destination, destination_port):
        return (source, source_port, destination, destination_port), 0
    return (destination, destination_port, source, source_port), 1


def synthetic(key: Tuple, incarnation: int, end: int, salt: str = "") -> int:
    """A stand-in for the number that a listing does not tell: the same wherever the connection is the same."""
    text = f"{key}/{incarnation}/{end}/{salt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest())


class _Flows:
    """Flows by tuple, as many as are kept."""

    def __init__(self) -> None:
        self.flows: collections.OrderedDict[Tuple, Flow] = collections.OrderedDict()

    def get(self, key: Tuple) -> Flow | None:
        flow = self.flows.get(key)
        if flow is not None:
            self.flows.move_to_end(key)
        return flow

    def put(self, key: Tuple, flow: Flow) -> Flow:
        self.flows[key] = flow
        self.flows.move_to_end(key)
        if len(self.flows) > FLOWS_KEPT:
            self.flows.popitem(last=False)
        return flow

    def flow_of(self, row: Row) -> tuple[Tuple, Flow] | None:
        key, _ = tuple_of(row)
        flow = self.flows.get(key)
        return None if flow is None else (key, flow)


def _follow(flow: Flow, row: Row, sender: int) -> None:
    """Keeps what the flow's ends have sent."""
    segment = row.segment
    if segment is None or segment.seq is None:
        return
    flow.has_sent[sender] = True
    if segment.flags & RST:
        flow.ended = True
        return
    taken = segment.length + bool(segment.flags & SYN) + bool(segment.flags & FIN)
    flow.is_shut[sender] = segment.window == 0
    flow.last_ack[sender] = segment.ack
    if taken:
        flow.is_quiet[sender], flow.is_quiet[1 - sender] = True, False
    _advance(flow, sender, (segment.seq + taken) & MASK)
    if segment.flags & ACK and segment.ack is not None:
        _advance(flow, 1 - sender, segment.ack)
    if not segment.flags & SYN:
        flow.was_open = True
    if segment.flags & FIN:
        flow.has_fin[sender] = True
        flow.ended = flow.ended or all(flow.has_fin)
    if segment.flags & SYN:
        flow.has_syn[sender] = True


def _probes_window(flow: Flow, sender: int, ack: int | None) -> bool:
    """An ACK that nothing asked for, to an end without room, is a probe: it has the number before (Linux tcp_xmit_probe_skb())."""
    return flow.is_shut[1 - sender] and flow.is_quiet[sender] and ack is not None and ack == flow.last_ack[sender]


def _advance(flow: Flow, end: int, number: int) -> None:
    before = flow.next[end]
    if before is None or seq_before(before, number):
        flow.next[end] = number


class TcpdumpNumbering(_Flows):
    """As tcpdump counts (print-tcp.c, tcp_print).

    The first segment with ACK, and each with SYN, is printed with the numbers that it has; those after it relative to them; those without
    ACK always as they are. A bare ACK's own number is printed with -vv only.
    """

    is_inferring = True

    def __init__(self, *, is_whole_head: bool, command: str, known: Known | None = None) -> None:
        """`is_whole_head`: the listing begins where tcpdump began; `command`: its arguments, where they were pasted."""
        super().__init__()
        self._is_whole_head = is_whole_head
        self._known = known or {}
        self._absolute: bool | None = True if re.search(r"(?:^|\s)-[A-Za-z]*S|--absolute-tcp-sequence-numbers", command) else None

    def settle(self, row: Row) -> bool:
        """See Numbering."""
        segment = row.segment
        assert segment is not None
        key, sender = tuple_of(row)
        flow = self.get(key)
        if not segment.flags & ACK:
            flow = self._without_ack(row, key, sender, flow)
        elif segment.flags & SYN:
            flow = self._registered(key, flow, sender, segment.seq, segment.ack)
        elif flow is None or flow.base == [None, None]:
            flow = self._first(row, key, sender, flow)
        elif not self._is_absolute(flow, sender, segment.ack):
            own, other = flow.base[sender], flow.base[1 - sender]
            segment.seq = None if segment.seq is None else ((own or 0) + segment.seq) & MASK
            segment.ack = None if segment.ack is None else ((other or 0) + segment.ack) & MASK
        inferred = segment.seq is None
        if inferred:
            reached = flow.next[sender]
            reached = self._own(key, flow, sender) if reached is None else reached
            segment.seq = (reached - _probes_window(flow, sender, segment.ack)) & MASK
        _follow(flow, row, sender)
        return inferred

    def _without_ack(self, row: Row, key: Tuple, sender: int, flow: Flow | None) -> Flow:
        segment = row.segment
        assert segment is not None
        if segment.flags & SYN:
            if flow is None or flow.next[sender] is None or flow.next[sender] != ((segment.seq or 0) + 1) & MASK:
                # tcpdump keeps its base until the SYN-ACK; a new connection's numbers are followed from here.
                fresh = Flow(0 if flow is None else flow.incarnation + 1)
                if flow is not None:
                    fresh.base, fresh.is_guessed = list(flow.base), list(flow.is_guessed)
                flow = self.put(key, fresh)
        elif flow is None:
            flow = self.put(key, Flow())
        elif segment.flags & RST and flow.is_guessed[sender] and not self._known:
            # It is printed as it is, while the numbers around it are relative to one that is not told: it is set where the end had come to.
            segment.seq = flow.next[sender] if flow.next[sender] is not None else segment.seq
        return flow

    def _registered(self, key: Tuple, flow: Flow | None, sender: int, seq: int | None, ack: int | None) -> Flow:
        if flow is None or (flow.was_open and flow.base[sender] != seq):
            flow = self.put(key, Flow(0 if flow is None else flow.incarnation + 1))
        flow.base[sender] = seq
        flow.base[1 - sender] = None if ack is None else (ack - 1) & MASK
        flow.is_guessed = [False, False]
        return flow

    def _first(self, row: Row, key: Tuple, sender: int, flow: Flow | None) -> Flow:
        """The first segment with ACK of a connection: its numbers are the base, unless the listing was cut off in front of it."""
        segment = row.segment
        assert segment is not None
        if flow is None:
            flow = self.put(key, Flow())
        ack = segment.ack or 0
        told = self._is_whole_head or any(flow.has_syn) or (ack >= SMALL and (segment.seq is None or segment.seq >= SMALL))
        if self._absolute:
            flow.base = [0, 0]
        elif told:
            own = segment.seq if segment.seq is not None else flow.next[sender]
            if own is None:
                own = self._own(key, flow, sender)
            segment.seq = own if segment.seq is None else segment.seq
            flow.base[sender], flow.base[1 - sender] = own, (ack - 1) & MASK
        else:
            for end in (0, 1):
                flow.base[end] = self._base(key, flow, end)
            segment.seq = None if segment.seq is None else ((flow.base[sender] or 0) + segment.seq) & MASK
            segment.ack = ((flow.base[1 - sender] or 0) + ack) & MASK
        return flow

    def _base(self, key: Tuple, flow: Flow, end: int) -> int:
        flow.is_guessed[end] = True
        return self._known.get((key, flow.incarnation, end == 0), synthetic(key, flow.incarnation, end))

    def _own(self, key: Tuple, flow: Flow, end: int) -> int:
        base = flow.base[end]
        return self._base(key, flow, end) if base is None else base

    def _is_absolute(self, flow: Flow, sender: int, ack: int | None) -> bool:
        """Whether -S was given, told by the first number that can be only one of both."""
        if self._absolute is None and ack is not None and not any(flow.is_guessed):
            base = flow.base[1 - sender] or 0
            reached = flow.next[1 - sender]
            if reached is not None:
                as_printed, as_relative = abs(seq_distance(reached, ack)), abs(seq_distance(reached, (base + ack) & MASK))
                if as_printed != as_relative:
                    self._absolute = as_printed < as_relative
        return bool(self._absolute)


class RelativeNumbering(_Flows):
    """As tshark counts: from 0 at a SYN and from 1 at the first segment of a connection that was open before; the base is never told."""

    is_inferring = False

    def __init__(self, *, known: Known | None = None) -> None:
        """`known`: bases that other places tell."""
        super().__init__()
        self._known = known or {}
        self._absolute: bool | None = None

    def settle(self, row: Row) -> bool:
        """See Numbering."""
        segment = row.segment
        assert segment is not None
        key, sender = tuple_of(row)
        flow = self.get(key)
        if segment.flags & SYN and self._absolute is None and segment.seq is not None:
            self._absolute = segment.seq != 0
        opens = bool(segment.flags & SYN) and not segment.flags & ACK
        is_new = segment.is_new if segment.is_new is not None else flow is None or flow.was_open or flow.ended
        if flow is None or (opens and is_new):
            flow = self.put(key, Flow(0 if flow is None else flow.incarnation + 1))
        elif opens:
            flow.ended = False
        if segment.is_told and (segment.length or segment.flags & SYN):
            flow.asked = None if segment.length else False  # what it carries is not named
        for end in (0, 1):
            if flow.base[end] is None:
                flow.base[end] = 0 if self._absolute else self._known.get(
                    (key, flow.incarnation, end == 0), synthetic(key, flow.incarnation, end)
                )  # fmt: skip
                flow.is_guessed[end] = not self._absolute
        own, other = flow.base[sender] or 0, flow.base[1 - sender] or 0
        inferred = segment.seq is None
        answers_syn = flow.has_syn[1 - sender] and not flow.was_open and not flow.has_sent[sender]
        if segment.is_part or not segment.is_told:
            flow.in_message[sender] = segment.is_part
        if inferred:
            reached = flow.next[sender]
            segment.seq = reached if reached is not None else (own + 1) & MASK
            acknowledged = flow.next[1 - sender]
            segment.ack = acknowledged if acknowledged is not None else (other + 1) & MASK
        elif segment.flags & RST and segment.flags & ACK and answers_syn and segment.seq == 1:
            # Whoever refuses a SYN sends number 0 (RFC 9293 section 3.10.7.1), which tshark calls 1.
            segment.seq, segment.ack = 0, (other + (segment.ack or 1)) & MASK
        else:
            segment.seq = (own + (segment.seq or 0)) & MASK
            segment.ack = None if segment.ack is None else (other + segment.ack) & MASK
        if segment.flags & SYN:
            flow.shift[sender] = _scale(segment.options)
        elif segment.window:
            scale = flow.shift[sender] if flow.shift[sender] is not None and flow.shift[1 - sender] is not None else None
            segment.window = min(max(segment.window >> (scale or 0), 1), 0xFFFF)
        if segment.seq != 0 or not segment.flags & RST:
            _follow(flow, row, sender)
        else:
            flow.has_sent[sender] = flow.ended = True
        return inferred


def _scale(options: bytes) -> int | None:
    """The window scale that a SYN announces (RFC 7323 section 2.2)."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if at + 1 >= len(options) or options[at + 1] < 2:
            return None
        if options[at] == 3 and at + 2 < len(options):
            return options[at + 2]
        at += options[at + 1]
    return None
