"""A report and its ladders go in, one text for a terminal comes out; the same text for the same input, width and zone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tcpwhy.diagnosis.finding import (
    At,
    Between,
    Clock,
    ConnectionReference,
    Evidence,
    Finding,
    Report,
    RuledOutCause,
    Unexplained,
    VantagePointReport,
)
from tcpwhy.diagnosis.ladder import Ladder
from tcpwhy.report.color import Paint, plain
from tcpwhy.report.escape import columns_of, padded, shortened, visible, wrapped
from tcpwhy.report.ladder import draw_ladder
from tcpwhy.report.times import show_span

NARROWEST, WIDEST = 60, 160
"""Columns: below, lines wrap at 60 all the same; above, longer lines would be harder to read."""

CONNECTIONS_SHOWN = 8
"""Of one finding, and of the list of what is unexplained; the JSON lists all."""

EVIDENCE_SHOWN = 8
"""Packets that the ladder does not draw, and other facts, of one finding; the JSON lists all."""

FILES_SHOWN = 4

_INDENT = "   "
_LABEL = 9  # columns: the longest label and a gap


def render_report(
    report: Report,
    ladders: Sequence[Ladder | None],
    *,
    width: int = 80,
    utc: bool = False,
    paint: Paint = plain,
) -> str:
    """The whole report: findings with their ladders, what is unexplained, the vantage points with their notes, the totals.

    ladders: parallel to the report's findings, None where one has none. Ends with a line feed.
    """
    width = min(max(width, NARROWEST), WIDEST)
    blocks = []
    drawn = list(ladders) + [None] * (len(report.findings) - len(ladders))
    for begin, end in _groups(report.findings):
        if end - begin == 1:
            blocks.append(_finding_lines(begin + 1, report.findings[begin], drawn[begin], width, utc, paint))
        else:
            ladder = next((one for one in drawn[begin:end] if one is not None), None)
            blocks.append(_possible_lines(begin + 1, report.findings[begin:end], ladder, width, utc, paint))
    if report.unexplained:
        blocks.append(_unexplained_lines(report.unexplained, width, utc, paint))
    if not report.findings and not report.unexplained and not report.totals.failed:
        blocks.append([paint("healthy", line) for line in wrapped(healthy_sentence(report), width)])
    if report.vantage_points:
        blocks.append(_vantage_point_lines(report.vantage_points, width, utc, paint))
    if report.notes:
        blocks.append(
            [
                paint("heading", "notes"),
                *(line for note in report.notes for line in _item("-", shortened(note), width, paint)),
            ]
        )
    if report.findings or report.unexplained or report.totals.failed:
        blocks.append(wrapped(totals_sentence(report), width))
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks) + "\n"


def render_ladders(ladders: Sequence[Ladder], *, width: int = 80, utc: bool = False, paint: Paint = plain) -> str:
    """What `tcpwhy show` prints: each incarnation of a connection as a ladder. Ends with a line feed."""
    width = min(max(width, NARROWEST), WIDEST)
    blocks = []
    for number, ladder in enumerate(ladders, 1):
        lines = draw_ladder(ladder, width, utc=utc, paint=paint)
        if len(ladders) > 1:
            lines.insert(0, paint("heading", f"{number} of {len(ladders)} connections with these addresses and ports"))
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks) + "\n"


def healthy_sentence(report: Report) -> str:
    """What the report says where nothing failed."""
    places = len(report.vantage_points)
    packets = sum(place.packets for place in report.vantage_points)
    size = f"{_count(packets, 'packet')} of {_count(places, 'vantage point')}"
    if report.totals.connections == 0:
        sentence = f"No TCP connection stands in the evidence: {size} read."
    else:
        sentence = f"No connection failed: {_count(report.totals.connections, 'connection')} examined, {size} read."
    if report.incomplete:
        sentence += " Part of the input could not be read, as the notes say."
    return sentence


def totals_sentence(report: Report) -> str:
    """The report's last line, such as `142 connections, 3 failed: 2 explained, 1 unexplained.`."""
    totals = report.totals
    sentence = f"{_count(totals.connections, 'connection')}, {totals.failed} failed"
    if totals.failed:
        sentence += f": {totals.explained} explained, {totals.unexplained} unexplained"
    sentence += "."
    if report.incomplete:
        sentence += " Part of the input could not be read, as the notes say."
    return sentence


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _item(label: str, text: str, width: int, paint: Paint, columns: int | None = None) -> list[str]:
    """A label and a text that wraps beside it."""
    taken = columns_of(label) + 1 if columns is None else columns
    first, *more = wrapped(text, width - len(_INDENT) - taken)
    padding = " " * (taken - columns_of(label))
    return [f"{_INDENT}{paint('label', label)}{padding}{first}", *(f"{_INDENT}{' ' * taken}{line}" for line in more)]


def _items(label: str, texts: Iterable[str], width: int, paint: Paint) -> list[str]:
    return [line for text in texts for line in _item(label, text, width, paint, _LABEL)]


def _paragraph(text: str, width: int) -> list[str]:
    return [_INDENT + line for line in wrapped(visible(text), width - len(_INDENT))]


def _finding_lines(number: int, finding: Finding, ladder: Ladder | None, width: int, utc: bool, paint: Paint) -> list[str]:
    counted = _count(finding.connection_count, "connection") if finding.connection_count else "foretold by the state of the host"
    verdict = (
        f"{number:<{len(_INDENT)}}{paint(finding.confidence, visible(finding.cause))}   "
        f"{paint(finding.confidence, finding.confidence)}   {counted}"
    )
    lines = [verdict, *_paragraph(finding.title, width)]
    if finding.explanation and finding.explanation != finding.title:
        lines += ["", *_paragraph(finding.explanation, width)]
    if ladder is not None:
        lines += ["", *draw_ladder(ladder, width, utc=utc, paint=paint)]
    details = _items("where", _place(finding), width, paint)
    details += _connection_lines(finding, width, utc, paint)
    details += _evidence_lines(finding.evidence, ladder, width, paint)
    details += _items("not", _ruled_out(finding.ruled_out), width, paint)
    return [*lines, "", *details, *_advice_lines(finding, width, paint)]


def _groups(findings: Sequence[Finding]) -> list[tuple[int, int]]:
    """Begin and end of each run of findings to tell together: possible causes of the very same connections."""
    groups: list[tuple[int, int]] = []
    for at, finding in enumerate(findings):
        if groups:
            begin, end = groups[-1]
            first = findings[begin]
            same = bool(finding.connections) and finding.connections == first.connections
            if finding.confidence == first.confidence == "possible" and same:
                groups[-1] = (begin, end + 1)
                continue
        groups.append((at, at + 1))
    return groups


def _possible_lines(number: int, findings: Sequence[Finding], ladder: Ladder | None, width: int, utc: bool, paint: Paint) -> list[str]:
    """Several possible causes of the same connections: what all share stands once, then each cause with what it alone has."""
    first = findings[0]
    heading = f"{number}-{number + len(findings) - 1}"
    gap = " " * max(len(_INDENT) - len(heading), 1)
    count = _count(first.connection_count, "connection")
    lines = [f"{heading}{gap}{paint('possible', 'possible')}   {count}   {len(findings)} causes fit; their order says nothing"]
    told = [_sentences(finding.explanation) for finding in findings]
    lines += _paragraph(" ".join(one for one in told[0] if all(one in other for other in told)), width)
    if ladder is not None:
        lines += ["", *draw_ladder(ladder, width, utc=utc, paint=paint)]
    lines += ["", *_connection_lines(first, width, utc, paint)]
    facts: dict[tuple[object, ...], Evidence] = {}
    for one in (one for finding in findings for one in finding.evidence):
        facts.setdefault((one.file, one.frame or one.line or one.text), one)
    lines += _evidence_lines(list(facts.values()), ladder, width, paint)
    for_all = [one for one in first.ruled_out if all(one in finding.ruled_out for finding in findings)]
    lines += _items("not", _ruled_out(for_all), width, paint)
    asked = [text for text in first.next_evidence if all(_asks(text, finding) for finding in findings)]
    lines += _items("next", [shortened(_request(text)) for text in asked], width, paint)
    for at, (finding, sentences) in enumerate(zip(findings, told, strict=True), number):
        lines += ["", f"{at:<{len(_INDENT)}}{paint('possible', visible(finding.cause))}", *_paragraph(finding.title, width)]
        own = " ".join(one for one in sentences if not all(one in other for other in told))
        if own and own != finding.title:
            lines += _paragraph(own, width)
        lines += _items("where", _place(finding), width, paint)
        lines += _items("not", _ruled_out(one for one in finding.ruled_out if one not in for_all), width, paint)
        shared = {_request(text) for text in asked}
        lines += _items("next", [shortened(text) for text in finding.next_evidence if _request(text) not in shared], width, paint)
        lines += _items("mend", map(visible, finding.fix), width, paint)
    return lines


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.]) (?=[A-Z])", text)


def _request(text: str) -> str:
    """What is to be collected, without what it would decide for one cause; the note of all causes that it decides between stays."""
    request, _, decides = text.partition(": ")
    _, note, causes = decides.partition(" (it decides between ")
    return f"{request}: it decides between {causes.removesuffix(')')}" if note else request


def _asks(text: str, finding: Finding) -> bool:
    return any(_request(other) == _request(text) for other in finding.next_evidence)


def _evidence_lines(evidence: Sequence[Evidence], ladder: Ladder | None, width: int, paint: Paint) -> list[str]:
    """What is not drawn in the ladder, as far as EVIDENCE_SHOWN goes."""
    drawn = {(cell.file, cell.frame if cell.line is None else -cell.line) for row in ladder.rows for cell in row.cells} if ladder else set()
    wanted = [one for one in evidence if (one.file, one.frame if one.kind != "packet" or one.line is None else -one.line) not in drawn]
    packets = [one for one in wanted if one.kind == "packet"]
    others = [one for one in wanted if one.kind != "packet"]
    lines = []
    for kind in (packets, others):
        for one in kind[:EVIDENCE_SHOWN]:
            lines += _items(_EVIDENCE_LABELS[one.kind], [_evidence_text(one)], width, paint)
        if len(kind) > EVIDENCE_SHOWN:
            lines += _items("", [f"… and {len(kind) - EVIDENCE_SHOWN} more; --json lists them all"], width, paint)
    return lines


def _advice_lines(finding: Finding, width: int, paint: Paint) -> list[str]:
    lines = _items("next", map(shortened, finding.next_evidence), width, paint)
    lines += _items("mend", map(visible, finding.fix), width, paint)
    if finding.references:
        lines += _items("see", [visible("; ".join(finding.references))], width, paint)
    return lines


_EVIDENCE_LABELS = {"packet": "packet", "state": "state", "log": "log", "counter": "counter"}


def _place(finding: Finding) -> list[str]:
    match finding.where:
        case Between(between=(before, after)):
            return [f"between {visible(before)} and {visible(after)}"]
        case At(at=place):
            return [f"at {visible(place)}"]
        case _:
            return []


def _ruled_out(ruled_out: Iterable[RuledOutCause]) -> list[str]:
    """A line for each reason, with all causes that it rules out."""
    causes: dict[str, list[str]] = {}
    for one in ruled_out:
        causes.setdefault(one.because, []).append(visible(one.cause))
    return [f"{', '.join(names)}: {shortened(because)}" for because, names in causes.items()]


def _connection_lines(finding: Finding, width: int, utc: bool, paint: Paint) -> list[str]:
    shown = [_connection_text(connection, utc) for connection in finding.connections[:CONNECTIONS_SHOWN]]
    lines = _items("failed", shown, width, paint)
    left_out = len(finding.connections) - len(shown)
    if left_out:
        lines += _items("", [f"… and {left_out} more; --json lists them all"], width, paint)
    return lines


def _connection_text(connection: ConnectionReference, utc: bool) -> str:
    text = f"{visible(connection.client)} → {visible(connection.server)}  {_span(connection.first, connection.last, utc)}"
    for other in connection.also_seen_as:
        text += f"; at {visible(other.vantage_point)} {visible(other.client)} → {visible(other.server)}"
    return text


def _span(first: str | None, last: str | None, utc: bool) -> str:
    return visible(show_span(first, last, utc=utc))


def _evidence_text(evidence: Evidence) -> str:
    at = visible(evidence.file)
    if evidence.frame is not None:
        at += f" #{evidence.frame}"
    elif evidence.line is not None:
        at += f":{evidence.line}"
    return f"{at}  {shortened(evidence.text)}"


def _unexplained_lines(unexplained: Sequence[Unexplained], width: int, utc: bool, paint: Paint) -> list[str]:
    lines = [paint("heading", f"unexplained: {len(unexplained)} without a confirmed or likely cause")]
    for one in unexplained[:CONNECTIONS_SHOWN]:
        when = f"  {_span(one.first, one.last, utc)}" if one.first or one.last else ""
        if one.client is None and one.server is None:
            lines += _item("-", f"{shortened(one.symptom)}{when}", width, paint)
            continue
        ends = f"{visible(one.client or '?')} → {visible(one.server or '?')}"
        lines += _item("-", f"{ends}{when}: {shortened(one.symptom)}", width, paint)
    if len(unexplained) > CONNECTIONS_SHOWN:
        lines += _item("-", f"… and {len(unexplained) - CONNECTIONS_SHOWN} more; --json lists them all", width, paint)
    return lines


def _vantage_point_lines(places: Sequence[VantagePointReport], width: int, utc: bool, paint: Paint) -> list[str]:
    lines = [paint("heading", "vantage points")]
    name_width = max(columns_of(visible(place.name)) for place in places)
    for place in places:
        texts = [_count(place.packets, "packet")]
        if place.first is not None or place.last is not None:
            texts[0] += f", {_span(place.first, place.last, utc)}"
        files = ", ".join(visible(file) for file in place.files[:FILES_SHOWN])
        if len(place.files) > FILES_SHOWN:
            files += f" and {len(place.files) - FILES_SHOWN} more"
        if files:
            texts.append(files)
        if place.clock is not None and place.clock.relative_to != place.name:
            texts.append(_clock_text(place.clock))
        texts += [f"note: {shortened(note)}" for note in place.notes]
        column = min(name_width, 20) + 2
        name = visible(place.name)
        if columns_of(name) > 20:
            lines.append(_INDENT + name)
            name = ""
        for text in texts:
            first, *more = wrapped(text, width - len(_INDENT) - column)
            lines += [f"{_INDENT}{padded(name, column)}{first}", *(f"{_INDENT}{' ' * column}{line}" for line in more)]
            name = ""
    return lines


def _clock_text(clock: Clock) -> str:
    about = f"±{_small_time(clock.uncertainty_s)}"
    if abs(clock.offset_s) <= clock.uncertainty_s:
        return f"clock as that of {visible(clock.relative_to)} ({about})"
    return f"clock {clock.offset_s:+.6f} s {about} against {visible(clock.relative_to)}"


def _small_time(seconds: float) -> str:
    """Two significant digits with a fitting unit: `40 µs`, `1.2 ms`, `3 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"
