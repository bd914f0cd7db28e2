"""Traefik's access log (JSON or its common format) and its own log go in; whose connection failed and how come out.

    10.0.0.9 - - [21/Nov/2026:07:00:43 +0000] "GET /x HTTP/1.1" 502 11 "-" "-" 7 "app@docker" "http://10.0.1.2:80" 3ms
    {"ClientAddr":"10.0.0.9:50000","DownstreamStatus":504,"ServiceAddr":"10.0.1.2:80","Duration":30000000000,"StartUTC":"…"}
    time="…" level=debug msg="'502 Bad Gateway' caused by: dial tcp 10.0.1.2:80: connect: connection refused"

Traefik itself answers 502 where the connection failed, 504 where it timed out and 499 where its client went away, with that status in
words as the body (pkg/proxy/httputil/proxy.go ErrorHandler): an answer of another size is the server's own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tcpwhy.tables.logs._event import About, ParsedLine, What, address, endpoint
from tcpwhy.tables.logs._wrapping import COMMON_TIME, common_time, stamp_of
from tcpwhy.tables.logs.go_http import parse as parse_go

_WORDS: dict[str, tuple[str, What, About]] = {
    "502": ("Bad Gateway", "other", "upstream"),
    "504": ("Gateway Timeout", "timeout", "upstream"),
    "499": ("Client Closed Request", "canceled", "client"),
}
"""By status: the body that Traefik writes, what happened, and towards whom."""

MARKERS = (
    *(f'" {status} {len(words)} "' for status, (words, _, _) in _WORDS.items()),
    *(f'DownstreamStatus":{space}{status}' for status in _WORDS for space in ("", " ")),
    *(f"{status} {words}" for status, (words, _, _) in _WORDS.items()),
)
"""A line without any of these is none of this dialect."""

_COMMON = re.compile(
    r"(\S{2,64}) - \S{1,200} \[" + COMMON_TIME + r'\] "[A-Z]{3,10} ([^"\s]{1,4000}) [^"\s]{1,20}" (\d{3}) (\d{1,15})'
    r' "[^"]{0,4000}" "[^"]{0,4000}" \d{1,20} "[^"]{0,300}" "([^"]{0,300})" (\d{1,12})ms',
    re.ASCII,
)
_CAUSED = re.compile(r"'?(502|504|499) (?:Bad Gateway|Gateway Timeout|Client Closed Request)'?(?: caused by)?: (.{1,2000})")
_URL = re.compile(r"https?://([^/\s]{1,200})", re.ASCII)


def parse(line: str) -> ParsedLine | None:
    """What a line of text says of a connection that failed, or None."""
    found = _COMMON.match(line)
    if found is not None:
        stamp = common_time(found.groups()[1:9])
        told = _told(found[11], found[12], found[13], line)
        if told is None or stamp is None:
            return None
        waited_ns = int(found[14]) * 1_000_000
        return dataclasses.replace(
            told,
            client=address(found[1]),
            asked=found[10],
            waited_ns=waited_ns if told.kind == "timeout" else None,
            naive_time_ns=stamp.naive_ns + waited_ns,  # the time is that of the begin (pkg/middlewares/accesslog/logger.go)
            time_precision_ns=stamp.precision_ns,
            zone_offset_s=stamp.zone_offset_s,
        )
    caused = _CAUSED.search(line[:4000])
    if caused is None:
        return None
    told = parse_go(f"http: proxy error: {caused[2]}")
    if told is not None:
        return dataclasses.replace(told, message=line)
    _, kind, about = _WORDS[caused[1]]
    return ParsedLine(kind=kind, failing=True, message=line, about=about)


def parse_object(fields: Mapping[str, Any], text: str) -> ParsedLine | None:
    """What a line of JSON says of a connection that failed, or None."""
    status = fields.get("DownstreamStatus")
    if isinstance(status, bool) or not isinstance(status, int):
        return None
    size = fields.get("DownstreamContentSize", fields.get("OriginContentSize"))
    server = fields.get("ServiceAddr") or fields.get("ServiceURL")
    told = _told(str(status), str(size) if isinstance(size, int) else "", server if isinstance(server, str) else "", text)
    if told is None:
        return None
    client, path, duration, start = (fields.get(key) for key in ("ClientAddr", "RequestPath", "Duration", "StartUTC"))
    duration_ns = duration if isinstance(duration, int) and 0 <= duration < 10**16 else 0
    told = _at(told, start, duration_ns)
    end = endpoint(client) if isinstance(client, str) else None
    return dataclasses.replace(
        told,
        remote=end if told.about == "client" else told.remote,
        client=None if end is None else address(end.rpartition(":")[0]),
        asked=path if isinstance(path, str) else None,
        waited_ns=duration_ns if told.kind == "timeout" else None,
    )


def _at(told: ParsedLine, start: Any, duration_ns: int) -> ParsedLine:
    """With the time of its end."""
    stamp = stamp_of(start) if isinstance(start, str) else None
    if stamp is None:
        return told
    return dataclasses.replace(
        told, naive_time_ns=stamp.naive_ns + duration_ns, time_precision_ns=stamp.precision_ns, zone_offset_s=stamp.zone_offset_s
    )


def _told(status: str, size: str, server: str, message: str) -> ParsedLine | None:
    if status not in _WORDS or (size and size != str(len(_WORDS[status][0]))):
        return None
    _, kind, about = _WORDS[status]
    url = _URL.match(server)
    remote = endpoint(url[1] if url else server)
    if url and remote is None:
        remote = endpoint(f"{url[1]}:{443 if server.startswith('https') else 80}")
    if about == "upstream" and not server:
        return None
    return ParsedLine(kind=kind, failing=True, message=message, remote=remote if about == "upstream" else None, about=about)
