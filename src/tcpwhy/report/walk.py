"""A walk of a packet through a host goes in; the text and the JSON of `tcpwhy path` come out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Literal

import msgspec

from tcpwhy.path import Doubt, Fate, Packet, Step, Trace, Walk
from tcpwhy.report.color import Paint, plain
from tcpwhy.report.escape import visible


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a state file."""

    file: str
    line: int | None = None


class StepReport(msgspec.Struct, frozen=True):
    """One thing that happens to the packet."""

    stage: str
    hook: str
    text: str
    rule: str
    """The rule, route or setting as it stands in its file; empty without one."""
    evidence: tuple[Place, ...]
    before: str
    after: str


class DoubtReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the evidence does not decide, and what this way takes for true."""

    text: str
    because: str
    assumed: str
    file: str | None = None
    line: int | None = None


class Alternative(msgspec.Struct, frozen=True):
    """One way of a packet whose fate is unknown."""

    fate: str
    end: str
    steps: tuple[StepReport, ...]
    doubts: tuple[DoubtReport, ...]


class TraceReport(msgspec.Struct, frozen=True):
    """One direction, to its end."""

    packet: str
    end: str
    fate: str
    possible: tuple[str, ...]
    """Of an unknown fate: what it may be."""
    ends: tuple[str, ...]
    """All packets in which it may end: several where a balancer or a multipath route chooses."""
    answer: str | None
    steps: tuple[StepReport, ...]
    doubts: tuple[DoubtReport, ...]
    alternatives: tuple[Alternative, ...]


class Change(msgspec.Struct, frozen=True):
    """The same packet with the proposed changes in place."""

    changes: tuple[str, ...]
    forward: TraceReport
    reverse: TraceReport | None
    changes_fate: bool
    """Whether the packet, or its answer, fares otherwise than before."""


class WalkReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that `tcpwhy path --json` says."""

    schema: Literal["tcpwhy-path/1"] = "tcpwhy-path/1"
    vantage_point: str
    forward: TraceReport
    reverse: TraceReport | None
    proposed: Change | None = None
    notes: tuple[str, ...] = ()
    """What of the state could not be read or understood."""


def described(packet: Packet) -> str:
    """`in eth0: tcp …`, as the command takes it."""
    return f"{f'in {packet.in_interface}' if packet.in_interface else 'out'}: {packet}"


def report_walk(
    vantage_point: str, walk: Walk, proposed: Walk | None = None, changes: Sequence[str] = (), notes: Sequence[str] = ()
) -> WalkReport:
    """The walk as data; with `proposed`, the walk after the changes beside it."""
    change = None
    if proposed is not None:
        differs = _fates(walk) != _fates(proposed)
        change = Change(tuple(changes), _trace(proposed.forward), _optional(proposed.reverse), differs)
    return WalkReport(vantage_point=vantage_point, forward=_trace(walk.forward), reverse=_optional(walk.reverse), proposed=change,
                      notes=tuple(notes))  # fmt: skip


def _fates(walk: Walk) -> tuple[object, ...]:
    reverse = walk.reverse
    return walk.forward.fate, walk.forward.possible, walk.forward.ends, None if reverse is None else (reverse.fate, reverse.ends)


def _optional(trace: Trace | None) -> TraceReport | None:
    return None if trace is None else _trace(trace)


def _trace(trace: Trace) -> TraceReport:
    return TraceReport(
        packet=described(trace.packet),
        end=str(trace.end),
        fate=trace.fate.value,
        possible=tuple(fate.value for fate in trace.possible),
        ends=tuple(str(end) for end in trace.ends),
        answer=None if trace.answer is None else str(trace.answer),
        steps=tuple(map(_step, trace.steps)),
        doubts=tuple(map(_doubt, trace.doubts)),
        alternatives=tuple(
            Alternative(one.fate.value, str(one.end), tuple(map(_step, one.steps)), tuple(map(_doubt, one.doubts)))
            for one in trace.alternatives
        ),
    )


def _step(step: Step) -> StepReport:
    places = tuple(Place(source.file, source.line) for source in step.sources)
    return StepReport(step.stage.value, step.hook, step.text, step.rule, places, str(step.before), str(step.after))


def _doubt(doubt: Doubt) -> DoubtReport:
    source = doubt.source
    return DoubtReport(doubt.text, doubt.because, doubt.assumed, None if source is None else source.file,
                       None if source is None else source.line)  # fmt: skip


def render_walk(walk: Walk, proposed: Walk | None = None, changes: Sequence[str] = (), *, width: int = 100, paint: Paint = plain) -> str:
    """The walk for a terminal: a line a step, the rule and its place below it, the fate at the end."""
    blocks = [_render(walk, width, paint)]
    if proposed is not None:
        blocks.append(paint("heading", "with " + visible("; ".join(changes))) + "\n" + _render(proposed, width, paint))
        before, after = walk.forward.fate, proposed.forward.fate
        if _fates(walk) == _fates(proposed):
            blocks.append(f"the change does not help: the packet fares as before ({before.value})\n")
        elif before is after:
            blocks.append(f"the packet still ends as {before.value}; its way, its end or its answer changes\n")
        else:
            blocks.append(f"the change turns {before.value} into {after.value}\n")
    return "\n".join(blocks)


def _render(walk: Walk, width: int, paint: Paint) -> str:
    text = _render_trace(walk.forward, width, paint)
    if walk.reverse is not None:
        text += "\n" + paint("heading", "its answer") + "\n" + _render_trace(walk.reverse, width, paint)
    return text


def _render_trace(trace: Trace, width: int, paint: Paint) -> str:
    lines = [paint("heading", visible(described(trace.packet)))]
    if trace.fate is not Fate.UNKNOWN or not trace.alternatives:
        lines += _render_steps(trace.steps, width)
    for number, one in enumerate(trace.alternatives, 1):
        lines.append(f"   way {number}, {one.fate.value}, if")
        lines += [_wrapped(f"{_named(doubt)}: {doubt.assumed} ({doubt.because})", 6, width) for doubt in one.doubts]
        lines += _render_steps(one.steps, width, indent=6)
    condition = visible(trace.fate.condition)
    lines.append(_wrapped(f"fate: {trace.fate.value}. {condition}", 3, width))
    if trace.fate is Fate.UNKNOWN:
        possible = ", ".join(fate.value for fate in trace.possible if fate is not Fate.UNKNOWN)
        lines += [_wrapped(f"possible: {possible}", 3, width)] if possible else []
        lines += [_wrapped(f"it hangs on {_named(doubt)}: {doubt.because}", 3, width) for doubt in _one_each(trace.doubts)]
    elif len(trace.ends) > 1:
        lines += [_wrapped(f"may end as {end}", 3, width) for end in trace.ends]
    if trace.answer is not None:
        lines.append(_wrapped(f"answers {trace.answer}", 3, width))
    return "\n".join(lines) + "\n"


def _one_each(doubts: Sequence[Doubt]) -> list[Doubt]:
    return list({(doubt.source, doubt.text, doubt.because): doubt for doubt in doubts}.values())


def _named(doubt: Doubt) -> str:
    place = "" if doubt.source is None else f"{doubt.source} "
    return visible(f"{place}{doubt.text}".strip())


def _render_steps(steps: Sequence[Step], width: int, indent: int = 3) -> list[str]:
    lines = []
    for step in steps:
        where = step.hook or step.stage.value
        lines.append(_wrapped(f"{where:<13}{visible(step.text)}", indent, width, hanging=indent + 13))
        if step.rule and step.rule not in step.text:
            places = ", ".join(str(source) for source in step.sources)
            lines.append(_wrapped(visible(f"{step.rule}{'  (' + places + ')' if places else ''}"), indent + 15, width))
        elif step.sources:
            lines.append(_wrapped(visible("(" + ", ".join(str(source) for source in step.sources) + ")"), indent + 15, width))
        if step.before != step.after and str(step.before) != str(step.after):
            lines.append(_wrapped(visible(f"now {step.after}"), indent + 15, width))
    return lines


def _wrapped(text: str, indent: int, width: int, hanging: int | None = None) -> str:
    return textwrap.fill(
        text,
        max(width, indent + 40),
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2 if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
