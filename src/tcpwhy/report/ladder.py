"""A ladder goes in, lines of text come out: places as columns where the width allows it, else a few lines a segment."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence

from tcpwhy.diagnosis.ladder import Ladder, LadderCell, LadderRow
from tcpwhy.report.color import Paint, plain
from tcpwhy.report.escape import columns_of, padded, shortened, visible, wrapped
from tcpwhy.report.times import show_offset, show_time

MARGIN = 3
"""Columns before a row's time; the mark of a row that the finding rests on stands there."""

GAP = 2
FLAGS = 3
"""Columns of a segment's flags; its label stands on a line below where there is no more room beside the places."""

WIDEST_LABEL = 44
"""Columns of a label beside the places; a longer one wraps."""

LONGEST_LABEL = 120
"""Characters of a label; a request line can be long."""

LEAST_CELL = 18
"""Columns beside a place's name in the form for many places; with fewer the name has a line of its own."""

NOT_SEEN = "✗ not seen"
_ARROWS = {"client": "─►", "server": "◄─"}


@dataclasses.dataclass(frozen=True)
class _Form:
    """How cells are written: with their file, or with a letter that a legend explains."""

    cells: list[dict[str, str]]
    """By row: what stands under each place."""
    legend: list[str]


def draw_ladder(ladder: Ladder, width: int, *, utc: bool, paint: Paint = plain) -> list[str]:
    """The ladder's heading, its clocks, its rows and what its signs mean, in lines of at most `width` columns.

    A row: aligned time since the first one, flags and label, and under each place that saw it an arrow (`─►` from the client, `◄─`
    from the server) with file and frame. `✗ not seen` stands under the first place that a lost segment did not reach. Where even
    frames alone do not fit side by side, each place has a line of its own.
    """
    indent = " " * MARGIN
    ends = f"{visible(ladder.client)} → {visible(ladder.server)}"
    begin = f"from {visible(show_time(ladder.start, utc=utc))}"
    lines = [indent + line for line in (*wrapped(ends, width - MARGIN), *wrapped(begin, width - MARGIN))]
    if MARGIN + columns_of(ends) + MARGIN + columns_of(begin) <= width:
        lines = [indent + ends + " " * MARGIN + begin]
    for clock in ladder.clocks:
        lines += [indent + line for line in wrapped(f"({shortened(clock)})", width - MARGIN)]
    lines.append("")
    room = width - MARGIN - _time_width(ladder.rows) - GAP
    for form in (_with_files(ladder), _with_letters(ladder)):
        if form is None:
            continue
        room_for_label = room - sum(GAP + taken for taken in _place_widths(ladder, form).values())
        if room_for_label >= FLAGS:
            lines += [indent + line for entry in form.legend for line in wrapped(entry, width - MARGIN)]
            lines += _side_by_side(ladder, form, width, room_for_label, paint)
            break
    else:
        lines += _one_below_the_other(ladder, width, paint)
    if ladder.left_out:
        lines += ["", *(indent + line for line in wrapped(_left_out(ladder.left_out), width - MARGIN))]
    return lines + _signs(ladder, width)


def _left_out(count: int) -> str:
    return f"… {count} more segment{'s are' if count > 1 else ' is'} not drawn"


def _file_of(cell: LadderCell) -> str:
    return visible(cell.file.removeprefix(cell.place + "/"))


def _at(cell: LadderCell) -> str:
    return f" {cell.position}" if cell.line is None else cell.position


def _suffix(cell: LadderCell) -> str:
    return (f" ×{cell.copies}" if cell.copies > 1 else "") + (" ~" if cell.partial else "")


def _with_files(ladder: Ladder) -> _Form:
    cells = [{cell.place: f"{_ARROWS[row.sender]} {_file_of(cell)}{_at(cell)}{_suffix(cell)}" for cell in row.cells} for row in ladder.rows]
    return _Form(_with_losses(ladder, cells), [])


def _with_letters(ladder: Ladder) -> _Form | None:
    files: dict[tuple[str, str], str] = {}
    for row in ladder.rows:
        for cell in row.cells:
            files.setdefault((cell.place, cell.file), "")
    order = {place: number for number, place in enumerate(ladder.places)}
    files = dict(sorted(files.items(), key=lambda item: order.get(item[0][0], len(order))))
    several = [key for key in files if sum(place == key[0] for place, _ in files) > 1]
    if len(several) > len(string.ascii_uppercase):
        return None
    files.update(zip(several, string.ascii_uppercase, strict=False))
    cells = [
        {cell.place: f"{_ARROWS[row.sender]} {files[cell.place, cell.file]}{cell.position}{_suffix(cell)}" for cell in row.cells}
        for row in ladder.rows
    ]
    legend = [f"{visible(place)}{f' {letter}' if letter else ''}: {visible(file)}" for (place, file), letter in files.items()]
    return _Form(_with_losses(ladder, cells), legend)


def _with_losses(ladder: Ladder, cells: list[dict[str, str]]) -> list[dict[str, str]]:
    for row, under in zip(ladder.rows, cells, strict=True):
        if row.lost_before in ladder.places and row.lost_before not in under:
            under[row.lost_before or ""] = NOT_SEEN
    return cells


def _place_widths(ladder: Ladder, form: _Form) -> dict[str, int]:
    return {
        place: max([columns_of(visible(place)), *(columns_of(under.get(place, "")) for under in form.cells)]) for place in ladder.places
    }


def _time_width(rows: Sequence[LadderRow]) -> int:
    return max((len(show_offset(row.offset_ns)) for row in rows), default=10)


def _label(row: LadderRow) -> str:
    return f"{visible(row.flags):<3} {shortened(row.label, LONGEST_LABEL)}".rstrip()


def _note_lines(row: LadderRow, ladder: Ladder, columns: int) -> list[str]:
    lines = []
    if row.lost_before is not None and row.lost_before not in ladder.places:
        lines += wrapped(f"✗ lost before {visible(row.lost_before)}", columns)
    if row.note:
        first, *more = wrapped(shortened(row.note), columns - 2)
        lines += ["└ " + first, *("  " + line for line in more)]
    return lines


def _painted(row: LadderRow, line: str, paint: Paint) -> str:
    if row.lost_before is not None:
        return paint("lost", line)
    return paint("marked", line) if row.marked else line


def _side_by_side(ladder: Ladder, form: _Form, width: int, room_for_label: int, paint: Paint) -> list[str]:
    """Rows with the places as columns; labels that do not fit beside them stand on a line below the flags."""
    widths = _place_widths(ladder, form)
    time_width = _time_width(ladder.rows)
    before = MARGIN + time_width + GAP
    natural = min(max(map(columns_of, map(_label, ladder.rows)), default=0), WIDEST_LABEL)
    beside = natural <= room_for_label
    label_width = natural if beside else FLAGS
    end = before + label_width + sum(GAP + taken for taken in widths.values()) + GAP
    header = "".join(" " * GAP + padded(visible(place), taken) for place, taken in widths.items())
    lines = [paint("heading", (" " * (before + label_width) + header).rstrip())]
    for row, under in zip(ladder.rows, form.cells, strict=True):
        if beside:
            first, *more = wrapped(_label(row), label_width)
        else:
            first, more = visible(row.flags), wrapped(shortened(row.label, LONGEST_LABEL), width - before) if row.label else []
        mark = " > " if row.marked else " " * MARGIN
        line = f"{mark}{show_offset(row.offset_ns):<{time_width}}{' ' * GAP}{padded(first, label_width)}"
        line += "".join(" " * GAP + padded(under.get(place, ""), taken) for place, taken in widths.items())
        notes = _note_lines(row, ladder, width - before)
        if not more and len(notes) == 1 and end + columns_of(notes[0]) <= width:
            line = padded(line, end) + notes.pop().removeprefix("└ ")
        lines.append(_painted(row, line.rstrip(), paint))
        lines += [" " * before + below for below in (*more, *notes)]
    return lines


def _one_below_the_other(ladder: Ladder, width: int, paint: Paint) -> list[str]:
    time_width = _time_width(ladder.rows)
    before = MARGIN + time_width + GAP
    name_width = max((columns_of(visible(place)) for place in ladder.places), default=0)
    lines = []
    for row in ladder.rows:
        first, *more = wrapped(f"{_ARROWS[row.sender]} {_label(row)}", width - before)
        mark = " > " if row.marked else " " * MARGIN
        lines.append(_painted(row, f"{mark}{show_offset(row.offset_ns):<{time_width}}{' ' * GAP}{first}", paint).rstrip())
        below = more
        seen = {cell.place: f"{_file_of(cell)}{_at(cell)}{_suffix(cell)}" for cell in row.cells}
        if row.lost_before in ladder.places and row.lost_before not in seen:
            seen[row.lost_before or ""] = NOT_SEEN
        for place in ladder.places:
            if place in seen:
                below += _hanging(padded(visible(place), name_width) + "  ", seen[place], width - before)
        below += _note_lines(row, ladder, width - before)
        lines += [" " * before + line for line in below]
    return lines


def _hanging(head: str, text: str, columns: int) -> list[str]:
    taken = columns_of(head)
    if columns - taken < LEAST_CELL:
        return [*wrapped(head.rstrip(), columns), *wrapped(text, columns)]
    first, *more = wrapped(text, columns - taken)
    return [head + first, *(" " * taken + line for line in more)]


def _signs(ladder: Ladder, width: int) -> list[str]:
    meanings = []
    if any(cell.copies > 1 for row in ladder.rows for cell in row.cells):
        meanings.append("×2: the capture holds the packet twice (two interfaces, or a tunnel's outside and inside)")
    if any(cell.partial for row in ladder.rows for cell in row.cells):
        meanings.append("~: seen there cut into other segments (offload); the frame is the first of them")
    if any(row.marked for row in ladder.rows):
        meanings.append(">: the finding rests on it")
    if not meanings:
        return []
    return ["", *(" " * MARGIN + line for meaning in meanings for line in wrapped(meaning, width - MARGIN))]
