"""Lines of Apache Traffic Server (squid.log and error.log) go in; whose connection failed and how come out.

    1795244443.850 1001 10.0.0.9 ERR_CONNECT_FAIL/502 312 GET http://a.test/x - DIRECT/10.0.1.2 text/html
    20261121.10h00m00s CONNECT: attempt fail [CONNECTION_ERROR] to 10.0.1.2:80 for host='a.test' connection_result=Connection refused
      [111] error=Connection refused [111] retry_attempts=0 url='http://a.test/x'

Sources: apache/trafficserver doc/admin-guide/logging/formatting.en.rst and examples.en.rst (squid format, result codes),
src/proxy/http/HttpTransact.cc and HttpSM.cc.
"""

from __future__ import annotations

import re

from tcpwhy.tables.logs._event import About, ParsedLine, What, address, endpoint, seconds_ns
from tcpwhy.tables.logs._wrapping import naive_ns

_CODES: dict[str, tuple[What, About, bool]] = {
    "ERR_CONNECT_FAIL": ("other", "upstream", True),
    "ERR_READ_TIMEOUT": ("timeout_reading", "upstream", True),
    "ERR_READ_ERROR": ("ended", "upstream", True),
    "ERR_CLIENT_ABORT": ("canceled", "client", True),
    "ERR_CLIENT_READ_ERROR": ("canceled", "client", True),
}

MARKERS = (*(f" {code}/" for code in _CODES), "CONNECT: attempt fail", "CONNECT : ")
"""A line without any of these is none of this dialect."""

_SQUID = re.compile(
    r"(\d{9,11}\.\d{3})\s{1,10}(\d{1,10}) (\S{2,64}) (ERR_[A-Z_]{4,40})/\d{3} \d{1,20} [A-Z]{3,10} (\S{1,4000})"
    r" \S{1,200} [A-Z_]{1,40}/(\S{1,255})",
    re.ASCII,
)
_ATTEMPT = re.compile(r"CONNECT: attempt fail \[([A-Z_]{1,60})\] to (\S{3,80}) for host='([^']{0,255})'(.{0,2000})", re.ASCII)
_MARKED = re.compile(r"CONNECT ?: (\S[^\n]{0,200}?) connecting to (\S{2,80}) for host='", re.ASCII)
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)\.(\d\d)h(\d\d)m(\d\d)s ", re.ASCII)
_PATH = re.compile(r"https?://[^/\s]{1,255}(/[^\s']{0,2000})", re.ASCII)


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection that failed, or None."""
    squid = _SQUID.match(line)
    if squid is not None and squid[4] in _CODES:
        kind, about, failing = _CODES[squid[4]]
        waited_ns, path = int(squid[2]) * 1_000_000, _PATH.match(squid[5])
        begin_ns = seconds_ns(squid[1])
        return ParsedLine(
            kind=kind,
            failing=failing,
            message=line,
            remote=endpoint(squid[6]) if about == "upstream" else None,
            client=address(squid[3]),
            about=about,
            asked=path[1] if path else None,
            waited_ns=waited_ns if kind == "timeout_reading" else None,
            naive_time_ns=None if begin_ns is None else begin_ns + waited_ns,  # cqtq is when the request came
            time_precision_ns=1_000_000,
            zone_offset_s=0,
        )
    attempt = _ATTEMPT.search(line[:4000])
    marked = None if attempt else _MARKED.search(line[:2000])
    if attempt is None and marked is None:
        return None
    words, to = (f"{attempt[1]}{attempt[4]}", attempt[2]) if attempt else (marked[1], marked[2]) if marked else ("", "")
    path = _PATH.search(line[:4000])
    written = _TIME.search(line[:200])
    return ParsedLine(
        kind=_kind(words),
        failing=True,
        message=line,
        remote=endpoint(to),
        about="upstream",
        asked=path[1] if path else None,
        naive_time_ns=naive_ns(*(int(part) for part in written.groups())) if written else None,
    )


def _kind(words: str) -> What:
    if "[111]" in words or "refused" in words:
        return "refused"
    if "[104]" in words or "reset by peer" in words:
        return "reset"
    if "[110]" in words or "timed out" in words or "TIMEOUT" in words:
        return "timeout_connecting" if "CONNECTION_ERROR" in words or "CONNECT" in words else "timeout"
    if "[113]" in words or "[101]" in words or "unreachable" in words or "No route" in words:
        return "unreachable"
    return "other"
