"""Lines of uWSGI and gunicorn about clients that went away and workers that were killed go in; what happened comes out.

    Sat Nov 21 10:00:00 2026 - SIGPIPE: writing to a closed pipe/socket/fd (probably the client disconnected) on request /x (ip 1.2.3.4) !!!
    [2026-11-21 10:00:00 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:12)

Neither names a port. Sources: unbit/uwsgi core/writer.c, core/utils.c; benoitc/gunicorn gunicorn/arbiter.py.
"""

from __future__ import annotations

import re

from tcpwhy.tables.logs._event import ParsedLine, address
from tcpwhy.tables.logs._wrapping import MONTHS, naive_ns

MARKERS = ("SIGPIPE: writing to a closed", "uwsgi_response_w", "WORKER TIMEOUT (pid:")
"""A line without any of these is none of this dialect."""

_ASKED = re.compile(r"on request (\S{1,2000}) \(ip (\S{2,64})\)", re.ASCII)
_BROKEN = re.compile(r"(?:SIGPIPE: writing to a closed|uwsgi_response_w\w{1,40}\(\): (?:Broken pipe|Connection reset by peer))", re.ASCII)
_CTIME = re.compile(r"(?:[A-Z][a-z]{2} )([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4}) - ", re.ASCII)


def parse(line: str) -> ParsedLine | None:
    """What a line says of a client's connection, or None."""
    if "WORKER TIMEOUT (pid:" in line:
        return ParsedLine(kind="closed_locally", failing=True, message=line, about="client")
    broken = _BROKEN.search(line[:4000])
    if broken is None:
        return None
    asked, written = _ASKED.search(line[:4000]), _CTIME.match(line)
    naive = None
    if written is not None and written[1] in MONTHS:
        year, month, day = int(written[6]), MONTHS.index(written[1]) + 1, int(written[2])
        naive = naive_ns(year, month, day, int(written[3]), int(written[4]), int(written[5]))
    return ParsedLine(
        kind="reset" if "reset by peer" in broken[0] else "broken_pipe",
        failing=True,
        message=line,
        client=address(asked[2]) if asked else None,
        about="client",
        asked=asked[1] if asked else None,
        naive_time_ns=naive,
    )
