"""The filters for a real client go in, the text that `tcpwhy filter` prints comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tcpwhy.filters import FilterAnswer, ReadyFilter
from tcpwhy.report.color import Paint, plain
from tcpwhy.report.escape import wrapped

MARGIN = "   "
ROOM = len("also matches") + 2


def render_filters(answer: FilterAnswer, *, width: int, paint: Paint = plain) -> str:
    """Each filter with what there is to know of it; an expression is one line, however long, so that it can be copied whole."""
    layouts = " ".join(layout.name for layout in answer.layouts)
    lines = wrapped(f"{answer.real_client} as the client that a TCP option names (TOA), kind/length {layouts}", width)
    if answer.left_out:
        lines += _labelled("not sought", [f"{one.name}: {one.because}" for one in answer.left_out], width, paint)
    lines += ["", *wrapped(answer.reminder, width), "", *wrapped(answer.trust, width)]
    for fact in answer.all_match:
        lines += ["", *wrapped(f"All of them also match {fact}.", width)]
    for ready in answer.filters:
        lines += ["", *_of_filter(ready, answer.all_match, width, paint)]
    return "\n".join(lines) + "\n"


def _of_filter(ready: ReadyFilter, all_match: tuple[str, ...], width: int, paint: Paint) -> Iterator[str]:
    yield paint("heading", ready.name)
    yield from (MARGIN + line for line in wrapped(ready.explanation, width - len(MARGIN)))
    for command in ready.use:
        yield f"{MARGIN}{paint('label', 'use')}{' ' * (ROOM - len('use'))}{command}"
    if ready.snap_length is not None:
        yield from _labelled("snap length", [f"-s {ready.snap_length} or more"], width, paint)
    false_matches = [fact for fact in ready.false_matches if fact not in all_match]
    for label, facts in (("also matches", false_matches), ("misses", ready.misses), ("limits", ready.limits)):
        if facts:
            yield from _labelled(label, facts, width, paint)
    yield ""
    yield from ready.expressions


def _labelled(label: str, facts: Sequence[str], width: int, paint: Paint) -> Iterator[str]:
    first, *rest = wrapped("; ".join(facts), max(width - len(MARGIN) - ROOM, 20))
    yield f"{MARGIN}{paint('label', label)}{' ' * (ROOM - len(label))}{first}"
    yield from (MARGIN + " " * ROOM + line for line in rest)
