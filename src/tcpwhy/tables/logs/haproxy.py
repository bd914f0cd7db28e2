"""Lines of HAProxy's traffic log go in, whose connection failed and how its termination state tells it come out.

    127.0.0.1:55606 [21/Nov/2026:07:00:43.850] web app/s1 0/0/-1/-1/1001 503 217 - - SC-- 1/1/0/0/1 0/0 "GET /x HTTP/1.1"
    127.0.0.1:50164 [21/Nov/2026:07:00:50.553] t app/s1 1/0/1 0 SD 1/1/0/0/0 0/0
    Server app/s1 is DOWN, reason: Layer4 connection problem, info: "Connection refused", check duration: 0ms. …

The client stands with its port, the server by its name alone; its address and HAProxy's own end only where the format adds `%bi:%bp` and
`%si:%sp` (configuration.txt, "Log format" and "Session state at disconnection"). A state does not tell RST from FIN.
"""

from __future__ import annotations

import re

from tcpwhy.tables.haproxy_sessions import end_of
from tcpwhy.tables.logs._event import About, ParsedLine, What, endpoint
from tcpwhy.tables.logs._wrapping import COMMON_TIME, common_time

MILLISECOND_NS = 1_000_000

_STATES: dict[str, tuple[What, About, bool]] = {
    "CR": ("canceled", "client", False),
    "CQ": ("canceled", "client", True),
    "CC": ("canceled", "client", True),
    "CH": ("canceled", "client", True),
    "CD": ("canceled", "client", True),
    "CL": ("canceled", "client", True),
    "cR": ("timeout_reading", "client", False),
    "cH": ("timeout_reading", "client", True),
    "cD": ("timeout", "client", True),
    "SC": ("refused", "upstream", True),
    "SH": ("ended", "upstream", True),
    "SD": ("ended", "upstream", True),
    "SL": ("ended", "upstream", True),
    "sQ": ("other", "upstream", True),
    "sC": ("timeout_connecting", "upstream", True),
    "sH": ("timeout_reading", "upstream", True),
    "sD": ("timeout", "upstream", True),
    "sL": ("timeout", "upstream", True),
    "PC": ("other", "upstream", True),
    "RC": ("other", "upstream", True),
    "DC": ("closed_locally", "upstream", True),
    "DH": ("closed_locally", "upstream", True),
    "DD": ("closed_locally", "upstream", True),
    "KH": ("closed_locally", "upstream", True),
    "KD": ("closed_locally", "upstream", True),
}
"""By the first two letters: who ended it (a small letter by its timeout) and in which phase. A client that goes away before its request
is whole (CR), or never sends one (cR), is a probe or was done; C and c in later phases left something unanswered."""

MARKERS = (*(f" {state}" for state, (_, _, failing) in _STATES.items() if failing), ", reason: Layer4 ")
"""A line without any of these is none of this dialect."""

_LINE = re.compile(
    r"(?:^|[\s:])(\S{3,60}) \[" + COMMON_TIME + r"\] (\S{1,255}) (\S{1,255})/(\S{1,255})"
    r" (\+?-?\d{1,10}(?:/\+?-?\d{1,10}){2,4}) (.*)",
    re.ASCII | re.DOTALL,
)
_TCP = re.compile(r"\+?(\d{1,20}) ([A-Za-z-]{2}) \d{1,10}/", re.ASCII)
_HTTP = re.compile(r"(-1|\d{3}) \+?(\d{1,20}) \S{1,500} \S{1,500} ([A-Za-z-]{2})[A-Za-z-]{2} \d{1,10}/", re.ASCII)
_REQUEST = re.compile(r'"[A-Z]{3,10} ([^"\s]{1,2000})', re.ASCII)
_ENDS = re.compile(r"(?<![\w.:\[/])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:.]{2,45}|\[[0-9a-fA-F:.]{2,45}\]):\d{1,5}(?![\w.:])", re.ASCII)
_DOWN = re.compile(
    r'Server (\S{1,255})/(\S{1,255}) is DOWN, reason: Layer4 (connection problem|timeout)(?:, info: "([^"]{0,200})")?', re.ASCII
)

EPHEMERAL_FROM = 32_768
"""First port of Linux's default ip_local_port_range (Documentation/networking/ip-sysctl.rst)."""


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection that failed; None for sessions that ended in order."""
    if not any(marker in line for marker in MARKERS):
        return None
    down = _DOWN.search(line[:2000])
    if down is not None:
        return _check(down)
    found = _LINE.search(line)
    if found is None:
        return None
    client = end_of(found[1])
    stamp = common_time(found.groups()[1:9])
    rest, timers = found[14], [int(part.removeprefix("+")) for part in found[13].split("/")]
    tcp = _TCP.match(rest) if len(timers) == 3 else None
    http = _HTTP.match(rest) if len(timers) == 5 else None
    state = tcp[2] if tcp else http[3] if http else ""
    if client is None or stamp is None or state not in _STATES:
        return None
    kind, about, failing = _STATES[state]
    if tcp is not None and state in ("sD", "cD") and tcp[1] != "0":
        failing = False  # An idle tunnel: something had been said, and nobody is known to have waited.
    if state == "SC" and found[12] == "<NOSRV>":
        kind = "other"
    remote = f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}"
    request = _REQUEST.search(rest)
    local, server = _server_side(rest[: request.start()] + rest[request.end() :] if request else rest)
    total_ns = max(timers[-1], 0) * MILLISECOND_NS
    return ParsedLine(
        kind=kind,
        failing=failing,
        message=line[found.start(1) :],
        local=local if about == "upstream" else None,
        remote=server if about == "upstream" else remote,
        client=client[0],
        about=about,
        asked=request[1] if request and about == "upstream" else None,
        waited_ns=_waited(state, timers),
        naive_time_ns=stamp.naive_ns + total_ns,
        time_precision_ns=stamp.precision_ns,
        zone_offset_s=stamp.zone_offset_s,
    )


def _waited(state: str, timers: list[int]) -> int | None:
    """What is left of the whole time once the phases that were finished are taken off: the phase that its timeout ended."""
    if not state.startswith("s"):
        return None
    waited = timers[-1] - sum(timer for timer in timers[:-1] if timer > 0)
    return waited * MILLISECOND_NS if waited >= 0 else None


def _server_side(text: str) -> tuple[str | None, str | None]:
    """HAProxy's own end and the server's, where the format adds them: two ends, or one whose port tells which it is."""
    ends: list[tuple[str, int]] = []
    for word in _ENDS.findall(text):
        end = endpoint(word)
        pair = (
            end_of(word.replace("[", "").replace("]", ""))
            if end is None
            else (end.rpartition(":")[0].strip("[]"), int(end.rpartition(":")[2]))
        )
        if pair is not None and pair[1] and pair not in ends:
            ends.append(pair)
    texts = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in ends]
    if len(ends) == 2:
        return texts[0], texts[1]
    if len(ends) == 1:
        return (texts[0], None) if ends[0][1] >= EPHEMERAL_FROM else (None, texts[0])
    return None, None


def _check(down: re.Match[str]) -> ParsedLine:
    """A health check that no connection came of."""
    info = (down[4] or "").lower()
    kind: What = "timeout_connecting" if down[3] == "timeout" else "other"
    if "refused" in info:
        kind = "refused"
    elif "unreachable" in info or "no route" in info:
        kind = "unreachable"
    return ParsedLine(kind=kind, failing=True, message=down[0], about="upstream")
