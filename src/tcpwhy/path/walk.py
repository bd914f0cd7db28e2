"""A host's tables and a packet go in; the packet's way through the host comes out, and the way of its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tcpwhy.path.engine import Engine
from tcpwhy.path.own_source import source_towards
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Doubt, Fate, Stage, Step, Trace, Walk
from tcpwhy.path.way import Binding, Ending, inverted, tuple_of
from tcpwhy.tables.host import HostTables

ANSWERED = frozenset({Fate.ACCEPTED, Fate.REFUSED, Fate.REJECTED_BY_RULE})
"""Fates in which the host itself answers."""

PASSED_ON = frozenset({Fate.FORWARDED, Fate.SENT})
"""Fates in which the answer comes from elsewhere."""


def walk(host: HostTables, packet: Packet) -> Walk:
    """Walks a packet through a host, and its answer back, in the kernel's order.

    Where a rule, a route or a setting cannot be told, both ways are walked; a fate on which they differ is Fate.UNKNOWN, with the lines
    on which it hangs. Nothing is sent and nothing is changed.
    """
    endings = Engine(host, packet.version).go(packet)
    forward = _conclude(packet, endings)
    return Walk(forward, _answer_walk(host, packet, endings, forward))


def _answer_walk(host: HostTables, packet: Packet, endings: Sequence[Ending], forward: Trace) -> Trace | None:
    """The answer's way, where all ways of the packet lead to one fate."""
    ending = next((one for one in endings if one.fate is forward.fate), None)
    if ending is None:
        return None
    way = ending.way
    own = way.packet.ct_original or tuple_of(way.packet)
    binding = way.confirmed or way.binding or Binding(own, inverted(own))
    if forward.fate in ANSWERED:
        if ending.answer is None or way.is_broadcast:
            return None
        answer = ending.answer
        if forward.fate is Fate.REJECTED_BY_RULE:
            return _rejection_walk(host, ending, answer, binding)
    elif forward.fate in PASSED_ON:
        end = way.packet
        is_balanced = any(step.stage is Stage.IPVS for step in way.steps)
        if end.encapsulated is not None or (is_balanced and end.ct_state == "UNTRACKED") or end.protocol not in ("tcp", "udp"):
            return None
        answer = Packet(
            protocol=end.protocol,
            source=end.destination,
            destination=end.source,
            source_port=end.destination_port,
            destination_port=end.source_port,
            flags="SA" if end.flags == "S" else "A" if end.protocol == "tcp" else None,
            in_interface=end.out_interface,
        )
    else:
        return None
    # What was left untracked, or is invalid, has no entry that its answer could find.
    is_tracked = way.packet.ct_state not in ("INVALID", "UNTRACKED") and answer.protocol == way.packet.protocol
    known = dataclasses.replace(binding, has_reply=True, mark=way.packet.ct_mark)
    engine = Engine(host, answer.version, (known,) if is_tracked else (), is_answer=True)
    return _conclude(answer, engine.go(answer))


def _rejection_walk(host: HostTables, ending: Ending, answer: Packet, binding: Binding) -> Trace:
    """What REJECT sends belongs to the packet's connection from the start, where that has one."""
    way = ending.way
    if answer.destination_port is None and not (way.steps and way.steps[-1].hook == "INPUT"):
        # net/ipv4/icmp.c __icmp_send: of a packet that is not for this host, the source is what the way to its sender chooses.
        source = source_towards(host, way.packet.source)
        answer = answer if source is None else dataclasses.replace(answer, source=source)
    attached = None if way.packet.ct_state in (None, "INVALID", "UNTRACKED") else binding
    answer = dataclasses.replace(answer, ct_mark=way.packet.ct_mark if attached is not None else 0)
    return _conclude(answer, Engine(host, answer.version, is_answer=True, attached=attached).go(answer))


def _conclude(packet: Packet, endings: Sequence[Ending]) -> Trace:
    """One trace of all ways: their common fate, or UNKNOWN with what it hangs on."""
    fates = list(dict.fromkeys(ending.fate for ending in endings))
    if len(fates) == 1:
        first = endings[0]
        ends = tuple(dict.fromkeys(ending.way.packet for ending in endings))
        doubts = _doubts(endings) if first.fate is Fate.UNKNOWN else ()
        return Trace(packet, first.way.packet, first.fate, _steps(endings), doubts, (first.fate,), first.answer, ends)
    alternatives = []
    for fate in fates:
        members = [ending for ending in endings if ending.fate is fate]
        first = members[0]
        ends = tuple(dict.fromkeys(ending.way.packet for ending in members))
        alternatives.append(Trace(packet, first.way.packet, fate, _steps(members), first.way.doubts, (fate,), first.answer, ends))
    first = endings[0]
    relevant = _relevant(endings)
    return Trace(packet, first.way.packet, Fate.UNKNOWN, first.way.steps, relevant, tuple(fates), None, (), tuple(alternatives))


def _steps(endings: Sequence[Ending]) -> tuple[Step, ...]:
    """The steps of the first way; where rules of several ways may have ended the packet alike, one more step names all of them."""
    first = endings[0]
    if first.fate not in (Fate.DROPPED_BY_RULE, Fate.REJECTED_BY_RULE):
        return first.way.steps
    last = {ending.way.steps[-1].sources: ending.way.steps[-1] for ending in endings if ending.way.steps}
    if len(last) < 2:
        return first.way.steps
    named = " or ".join(dict.fromkeys(f"`{step.rule}`" for step in last.values() if step.rule))
    sources = tuple(source for step in last.values() for source in step.sources)
    text = f"which of several rules ends it cannot be told: {named}"
    packet = first.way.packet
    return (*first.way.steps, Step(Stage.END, first.way.steps[-1].hook, text, sources, "", packet, packet))


def _doubts(endings: Sequence[Ending]) -> tuple[Doubt, ...]:
    return tuple(dict.fromkeys(doubt for ending in endings for doubt in ending.way.doubts))


def _relevant(endings: Sequence[Ending]) -> tuple[Doubt, ...]:
    """The doubts on which the fate hangs: those whose answers lead to different sets of fates."""
    found: list[Doubt] = []
    for doubt in _doubts(endings):
        key = (doubt.source, doubt.text, doubt.because)
        by_assumption: dict[str, set[Fate]] = {}
        for ending in endings:
            for other in ending.way.doubts:
                if (other.source, other.text, other.because) == key:
                    by_assumption.setdefault(other.assumed, set()).add(ending.fate)
        sets = list(by_assumption.values())
        if len(sets) < 2 or any(one != sets[0] for one in sets):
            found.append(doubt)
    return tuple(found) or _doubts(endings)
