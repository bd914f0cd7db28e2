"""Numbers come in, the text of docs/accuracy.md goes out."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.accuracy.counting import CauseCount, Count
from benchmarks.accuracy.judging import ANSWERS, Answer
from tcpwhy import __version__
from tcpwhy.causes import ALL_IDS

RECALL_AT_PLACE = 0.95
"""The goal with one place alone; with all evidence it is 1."""

RUNS = 20
HEALTHY = 100_000
"""How much has to be run for the numbers to say something."""

INTRODUCTION = """\
# Accuracy

`make accuracy` makes this page. Every scenario of the lab ([design.md](design.md)) happens on a real Linux kernel, again and again, with
other addresses, ports, sizes and load, IPv4 and IPv6, link types (Ethernet, VLAN, VXLAN, `any` with both of its headers), file formats,
snap lengths, clocks apart, and state of the hosts or none; what is true of each case is asserted by Wireshark's dissection, counters
and logs, never by tcpwhy. Each case is then diagnosed with all of its evidence, with each vantage point alone, with one piece of it
removed (a place, a capture, a log, a file of a state, a host's state) and with two.

An answer about a connection that failed is *confirmed*, *likely* or *possible* where the true cause is named so ([json.md](json.md));
*no cause* where the failure is told and nothing named; *missed* where the failure is not told; *wrong* where another cause is called
confirmed or likely, or where the list of possible ones lacks the true one. Recall is the share of the first three.
"""

ONE_PLACE = """\
## With one place alone

One answer for each connection at each place that saw a packet of it. *Silent*: missed, and in that place's packets of the connection
(as tshark lists them) no reset, no data or SYN sent again, and no closed window shows: all is in order there; or it counts as failed
only because its link loses 1 % and more, which two places tell, and all that it lost was made good soon. These do not count for the
recall.
"""

LESS = """\
## With less evidence

All answers with one vantage point alone, and with one or two removals. *Weaker*: less sure than with all evidence, missed included.
"""

OTHERS = """\
## Beside tshark and tcptrace

What both say of the same captures. tshark *flags* a connection with a packet whose expert info tells a reset, or that Wireshark
colours as bad TCP; tcptrace one of which it counts a reset, a retransmission, a zero window, or packets of one side only.
Neither claims to name a cause, and neither does; a flag on a healthy connection (a reset after everything was delivered, a packet
captured twice) is no mistake of theirs, but it is what somebody has to look at.
"""


def page(numbers: Count, versions: Mapping[str, str]) -> str:
    """The whole page."""
    sections = [
        INTRODUCTION,
        *_setting(numbers, versions),
        *_goals(numbers),
        "## With all evidence\n",
        _whole(numbers),
        ONE_PLACE,
        _place(numbers),
    ]
    sections += [LESS, _less(numbers), "## Healthy connections\n", _healthy(numbers), "## Who was taken for whom\n", _confusion(numbers)]
    sections += [OTHERS, _others(numbers)]
    return "\n".join(sections)


def _setting(numbers: Count, versions: Mapping[str, str]) -> list[str]:
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    kernels = ", ".join(sorted({release.partition("-")[0] for release in numbers.kernels}))  # without what a builder added
    machine = f"{os.cpu_count()} processors ({platform.machine()}), {_system()}"
    return [f"Made with tcpwhy {__version__}, {others}; Linux {kernels}; {machine}, Python {platform.python_version()}.\n"]


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())


def _goals(numbers: Count) -> list[str]:
    wrong = sum(one.whole["wrong"] + one.less["wrong"] for one in numbers.causes.values())
    accused = sum(numbers.accused.values())
    all_named = _together(numbers.causes.values())
    fewest = min(numbers.causes[cause].runs if cause in numbers.causes else 0 for cause in ALL_IDS)
    goals = [
        (f"runs of each of the {len(ALL_IDS)} causes, at least {RUNS}", f"{fewest:,}", fewest >= RUNS),
        (f"connections in runs where nothing fails, at least {HEALTHY:,}", f"{numbers.healthy:,}", numbers.healthy >= HEALTHY),
        ("wrong causes, with all evidence or less", f"{wrong:,}", wrong == 0),
        ("healthy connections accused, with all evidence or less", f"{accused:,}", accused == 0),
        ("recall with all evidence", _percent(all_named.recall), all_named.recall == 1),
        ("recall with one place alone", _percent(all_named.recall_at_place), all_named.recall_at_place >= RECALL_AT_PLACE),
        ("diagnoses that crashed", f"{numbers.crashes:,}", numbers.crashes == 0),
    ]
    rows = [[name, value, "yes" if reached else "**no**"] for name, value, reached in goals]
    lead = f"{numbers.parts.total():,} diagnoses of {_runs(numbers):,} cases.\n"
    return [lead, _table(["", "", "goal reached"], rows)]


def _runs(numbers: Count) -> int:
    return numbers.healthy_runs + sum(one.runs for one in numbers.causes.values())


def _together(causes: Iterable[CauseCount]) -> CauseCount:
    total = CauseCount()
    for one in causes:
        total.runs += one.runs
        total.connections += one.connections
        total.whole += one.whole
        total.at_place += one.at_place
        total.unseen += one.unseen
        total.less += one.less
        total.weakened += one.weakened
        total.tshark += one.tshark
        total.tcptrace += one.tcptrace
        total.tcptrace_read += one.tcptrace_read
    return total


def _rows(numbers: Count) -> list[tuple[str, CauseCount]]:
    return [*((f"`{cause}`", one) for cause, one in numbers.causes.items()), ("all", _together(numbers.causes.values()))]


def _whole(numbers: Count) -> str:
    head = ["cause", "runs", "connections", *_ANSWER_WORDS, "recall"]
    rows = [[name, f"{one.runs:,}", f"{one.connections:,}", *_answers(one.whole), _percent(one.recall)] for name, one in _rows(numbers)]
    return _table(head, rows)


_ANSWER_WORDS = tuple("no cause" if answer == "unexplained" else answer for answer in ANSWERS)


def _answers(counted: Counter[Answer]) -> list[str]:
    return [f"{counted[answer]:,}" for answer in ANSWERS]


def _place(numbers: Count) -> str:
    head = ["cause", "answers", "silent", *_ANSWER_WORDS, "recall"]
    rows = []
    for name, one in _rows(numbers):
        loud = one.at_place.copy()
        loud["missed"] -= one.unseen
        rows.append([name, f"{one.at_place.total():,}", f"{one.unseen:,}", *_answers(loud), _percent(one.recall_at_place)])
    return _table(head, rows)


def _less(numbers: Count) -> str:
    head = ["cause", "answers", "as sure", "weaker", "wrong"]
    rows = []
    for name, one in _rows(numbers):
        same = one.less.total() - one.weakened - one.less["wrong"]
        rows.append([name, *(f"{value:,}" for value in (one.less.total(), same, one.weakened, one.less["wrong"]))])
    return _table(head, rows)


def _healthy(numbers: Count) -> str:
    text = (
        f"{numbers.healthy_runs:,} runs in which nothing fails hold {numbers.healthy:,} connections; {numbers.beside:,} healthy ones more\n"
    )
    text += "run beside those that fail. A connection is accused where it is said to have failed at all, be it of possible causes only.\n"
    rows = [
        [kind, f"{numbers.parts[kind]:,}", f"{numbers.accused[kind]:,}"] for kind in ("all", "one place", "one removal", "two removals")
    ]
    return text + "\n" + _table(["evidence", "diagnoses", "connections accused"], rows)


def _confusion(numbers: Count) -> str:
    said = [*ALL_IDS, "several", "unexplained", "missed"]
    columns = [*(str(number) for number in range(1, len(ALL_IDS) + 1)), "several possible", "no cause", "missed"]
    rows = [
        [f"{ALL_IDS.index(cause) + 1} `{cause}`", *(f"{numbers.confusion[cause, one] or '·'}" for one in said)] for cause in numbers.causes
    ]
    lead = "A row is a true cause, a column what was called confirmed or likely with all evidence; the columns have the rows' numbers.\n\n"
    return lead + _table(["", *columns], rows)


def _others(numbers: Count) -> str:
    rows = [
        [name, f"{one.connections:,}", _part(one.tshark, one.connections), _part(one.tcptrace, one.tcptrace_read), _percent(one.recall)]
        for name, one in _rows(numbers)
    ]
    flags = numbers.flagged
    healthy = [f"{flags['tshark of']:,}", *(_part(flags[name], flags[f"{name} of"]) for name in ("tshark", "tcptrace"))]
    rows.append(["healthy, as tshark counts them, capture by capture", *healthy, ""])
    read = _part(flags["tcptrace captures"] - flags["tcptrace unread"], flags["tcptrace captures"])
    lead = f"tcptrace could read {read} of the healthy runs' captures (it does not know LINUX_SLL2, nor VXLAN's and IPIP's inside);\n"
    lead += "its shares are of connections in captures that it could read.\n\n"
    return lead + _table(["connections", "number", "tshark flags", "tcptrace flags", "tcpwhy names the cause"], rows)


def _part(part: int, whole: int) -> str:
    return _percent(part / whole) if whole else "–"


def _percent(share: float) -> str:
    """Rounded down: what is not whole is never 100 %."""
    return "100 %" if share >= 1 else f"{int(share * 1000) / 10:.1f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
