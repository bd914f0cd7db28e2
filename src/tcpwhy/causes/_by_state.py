"""Where the hosts' states say that a packet ends goes in; the parts of a verdict that all causes of host state share come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tcpwhy.causes._asking import counters_of, state_of
from tcpwhy.causes._ends import PASSED_ON, deciding
from tcpwhy.causes._stops import Stop, end_of, stops
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.packet import Packet
from tcpwhy.path.trace import Fate, Step


def examine_by_state(
    cause: str,
    connection: Connection,
    found: Callable[[Stop], Verdict],
    fits: Callable[[Connection], str | None],
    ask: tuple[str, ...],
) -> Verdict:
    """The answer of a cause that the state of one host proves.

    `found` makes the verdict where the state names this cause; `fits` says why it may be so where no state tells, or None where the
    packets exclude it; `ask` is what would decide it.
    """
    end = end_of(connection)
    if end is not None and end.cause == cause:
        return found(end)
    if end is not None and (end.is_seen or end.counter is not None):
        return RuledOut(told(end))
    passed = stops(connection)
    last = passed[-1] if passed else None
    because = fits(connection)
    if last is not None and last.contradiction and last.cause == cause:
        text = f"{told(last)}; but {last.contradiction}: the state contradicts itself, or was taken after something changed"
        return Open(
            text,
            (counters_of(last.place, "what the state says and what the packets show would agree"),),
            packet_exhibits(connection, last),
            last.place,
        )
    if because is None:
        return RuledOut("nothing in its packets looks like it")
    if last is not None and last.fate is Fate.UNKNOWN:
        doubts = doubts_of(last)
        return Open(f"{because}; the state of {last.place} does not tell: {doubts}", (state_of(last.place, "what could not be told"),),
                    packet_exhibits(connection, last), last.place)  # fmt: skip
    if last is not None and last.is_seen and last.cause is None and last.fate not in (*PASSED_ON, Fate.ACCEPTED, Fate.UNKNOWN):
        return Open(f"{because}; {told(last)}", ask, (*packet_exhibits(connection, last), *state_exhibits(last)), last.place)
    if last is not None and last.fate is Fate.ACCEPTED and last.is_seen:
        # The packets show no answer, or another one: the state, or something between its lines, is not what it was then.
        text = f"{because}; by the state of {last.place} it comes to a socket ({end_told(last)}), which the packets deny"
        return Open(text, (state_of(last.place, "the state there is of another time, or lacks what decides"),))
    return Open(because, ask)


def told(stop: Stop) -> str:
    """`at rs1 the packet ends so: …` in one clause."""
    step = deciding(stop.trace)
    what = "the answer" if stop.is_answer else "the packet"
    return f"the state of {stop.place} says where {what} ends: {_sentence(step)}"


def _sentence(step: Step | None) -> str:
    if step is None:
        return "nothing of it is known"
    where = f" ({', '.join(str(source) for source in step.sources[:3])})" if step.sources else ""
    return f"{step.text}{where}"


def end_told(stop: Stop) -> str:
    """Where the packet ends, without the lines: for a title."""
    step = deciding(stop.trace)
    return step.text if step is not None else str(stop.fate.value)


def doubts_of(stop: Stop) -> str:
    """What a fate hangs on that cannot be told."""
    doubts = [doubt for one in stop.walks for trace in (one.forward, one.reverse) if trace is not None for doubt in trace.doubts]
    texts = [f"{doubt.text}{f' ({doubt.source})' if doubt.source is not None else ''}: {doubt.because}" for doubt in doubts]
    if not texts:
        names = " or ".join(stop.arrival.interfaces)
        return f"by which interface the packet came ({names}) decides"
    return "; ".join(dict.fromkeys(texts[:3]))


def packet_exhibits(connection: Connection, stop: Stop, note: str = "") -> tuple[Exhibit, ...]:
    """The packet as the host's own capture has it, or as the last capture before it does."""
    segment = stop.arrival.segment
    place = stop.place if segment.seen_at(stop.place) else None
    deepest = _deepest(stop)
    same = [one for one in connection.segments if one.sender == segment.sender and one.flags == segment.flags and one.seq == segment.seq]
    shown = [one for one in (same or [segment]) if place is None or one.seen_at(place)][:2]
    text = note or (f"as {place} saw it" if place is not None else "the last that was seen of it")
    exhibits = [exhibit(one, connection, text, place) for one in shown]
    if deepest is not None and shown and shown[0] is segment:
        exhibits[0] = dataclasses.replace(exhibits[0], file=deepest.file, frame=deepest.frame, time_ns=deepest.time_ns)
    return tuple(exhibits)


def _deepest(stop: Stop) -> Packet | None:
    """The copy that got farthest into the host."""
    sighting = stop.arrival.sighting
    came = [copy for copy in sighting.copies if copy.direction != "out"] if sighting is not None else []
    innermost = [copy for copy in came if not copy.tunnel_depth]
    return innermost[-1] if innermost and any(copy.tunnel_depth for copy in came) else None


def state_exhibits(stop: Stop) -> tuple[Exhibit, ...]:
    """The lines on which the end rests, and the counter."""
    step = deciding(stop.trace)
    shown: list[Exhibit] = []
    if stop.rule is not None:
        shown.append(stop.rule.exhibit("the rule that ends it"))
    elif step is not None:
        shown += [Exhibit("state", stop.place, source.file, step.text, line=source.line) for source in step.sources[:4]]
    if stop.counter is not None:
        shown.append(stop.counter.exhibit)
    return tuple(shown)


def all_but(cause: str, because: str) -> dict[str, str]:
    """Every other cause of the catalogue, excluded for one reason: the host's state shows how the packet ends."""
    from tcpwhy.causes._catalogue import ALL_IDS

    return {other: because for other in ALL_IDS if other != cause}


def found_at(
    cause: str, connection: Connection, stop: Stop, *, statement: str, explanation: str, exhibits: tuple[Exhibit, ...], fix: tuple[str, ...]
) -> Verdict:
    """The finding that a host's state proves; weaker where nobody saw the packet come to that host.

    Without a capture there, only a counter shows that such packets arrive at all; without one, it stays open.
    """
    because = told(stop)
    if stop.is_seen:
        return Found(
            statement=statement,
            exhibits=exhibits,
            basis="state",
            where=stop.place,
            explanation=explanation,
            at_ns=stop.arrival.segment.aligned_ns,
            excludes=all_but(cause, because),
            fix=fix,
        )
    arrives = (stop.counter is not None and stop.counter.happened) or (stop.rule is not None and bool(stop.rule.packets))
    ask = (f"capture on {stop.place} while it happens: whether the packet arrives there",)
    if not arrives:
        return Open(f"{because}; whether it arrived there was not captured", ask, exhibits, stop.place)
    return Found(
        statement=statement,
        exhibits=exhibits,
        basis="state",
        where=stop.place,
        explanation=f"{explanation} Nobody captured on {stop.place}: that such packets come there is shown by the counter alone.",
        at_ns=stop.arrival.segment.aligned_ns,
        excludes=all_but(cause, because),
        at_most="likely",
        next_evidence=ask,
        fix=fix,
    )
