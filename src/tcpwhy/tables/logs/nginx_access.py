"""Lines of nginx's access log, text or JSON, go in; whose connection failed comes out, where the format names the upstream server.

    10.0.0.9 - - [21/Nov/2026:07:00:43 +0000] "GET /x HTTP/1.1" 502 157 "-" "curl/8" uaddr="10.0.1.2:80" ustatus=502 uct=- uht=- urt=0.001
    {"time_iso8601":"2026-11-21T07:00:43+00:00","status":504,"request":"GET /x HTTP/1.1","upstream_addr":"10.0.1.2:80","request_time":60.0}

Formats are everybody's own: what follows a request and its status is read by its names, and by its looks where an address has none. An
answer of the upstream server's own (its header came) is no failure of a connection, and neither is a status without an upstream; reset
and truncated bodies keep their status 200 and are in the error log alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tcpwhy.tables.logs._event import ParsedLine, address, seconds_ns
from tcpwhy.tables.logs._upstream_tries import Try, failed_try, split_list
from tcpwhy.tables.logs._wrapping import member, stamp_of

_STATUSES = ("499", "502", "504")

MARKERS = (
    *(f'" {status} ' for status in _STATUSES),
    *(f"{before}{status}" for status in _STATUSES for before in (":", ": ", ':"', ': "')),
    "502, ",
    "504, ",
)
"""A line without any of these is none of this dialect."""

_REQUEST = re.compile(r'"([A-Z]{3,10}) ([^"\s]{1,4000}) HTTP/\d(?:\.\d)?" (\d{3}) ', re.ASCII)
_CLIENT = re.compile(r"(\S{2,64}) ", re.ASCII)
_END = r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{2,45}\]):\d{1,5}|unix:[^\s,;\"]{1,200}"
_ENDS = re.compile(rf"(?<![\w.:/@])(?:{_END})(?:(?:, | : |,)(?:{_END}))*(?![\w.:/])", re.ASCII)
_LENGTHS = re.compile(r" ((?:-|\d{1,15})(?:, (?:-|\d{1,15})){0,15}) (?:-|\d{1,9}\.\d{3})", re.ASCII)
"""Behind the addresses in ingress-nginx's format: $upstream_response_length $upstream_response_time."""

_QUOTED = re.compile(r'"[^"]{0,4000}"')
_NAMED = re.compile(
    r'(?<![\w.])(\w{1,40})["\s]{0,2}[=:]["\s]{0,2}((?:-|[\w.:/\[\]-]{1,200})(?:(?:, | : |,)(?:-|[\w.:/\[\]-]{1,200})){0,15})', re.ASCII
)

_NAMES: dict[str, tuple[str, ...]] = {
    "addresses": ("upstream_addr", "upstream", "uaddr", "ua_addr", "us_addr", "upstream_address", "upstreamaddr", "upstream_host"),
    "statuses": ("upstream_status", "ustatus", "us", "upstreamstatus"),
    "connects": ("upstream_connect_time", "uct", "upstream_connect", "connect_time"),
    "headers": ("upstream_header_time", "uht", "upstream_header"),
    "responses": ("upstream_response_time", "urt", "upstream_time", "upstream_response"),
    "lengths": ("upstream_response_length", "upstream_length", "ulen"),
    "total": ("request_time", "rt", "reqtime"),
}
"""By argument of failed_try: nginx's own name of the variable, and what formats call it."""


def parse(line: str) -> ParsedLine | None:
    """What a line of text says of a connection that failed, or None."""
    request = _REQUEST.search(line)
    if request is None:
        return None
    tail = line[request.end() :]
    named = {name.lower(): value for name, value in _NAMED.findall(_QUOTED.sub(_keep_values, tail))}
    values = {argument: next((named[name] for name in names if name in named), "") for argument, names in _NAMES.items()}
    if not values["addresses"]:
        runs = list(dict.fromkeys(_ENDS.findall(_QUOTED.sub(_keep_values, tail))))
        values["addresses"] = runs[0] if len(runs) == 1 else ""
    tries = len(split_list(values["addresses"]))
    if tries > 1 and not values["statuses"]:
        lists = re.findall(rf"(?<![\w.])(?:\d{{3}}|-)(?:, (?:\d{{3}}|-)){{{tries - 1}}}(?![\w.])", tail, re.ASCII)
        values["statuses"] = lists[0] if len(lists) == 1 else ""
    if values["addresses"] and not values["headers"] and not values["lengths"]:
        following = _LENGTHS.match(tail.partition(values["addresses"])[2])
        values["lengths"] = following[1] if following else ""
    found = failed_try(request[3], **values)
    if found is None:
        return None
    client = _CLIENT.match(line)
    return _told(found, line, request[2], address(client[1]) if client else None)


def _keep_values(quoted: re.Match[str]) -> str:
    """Quoted values without spaces but between tries; what clients send (referrer, user agent) and words are left out."""
    inner = quoted[0][1:-1]
    plain = re.fullmatch(r"[\w.:/\[\]-]{1,200}(?:(?:, | : |,)[\w.:/\[\]-]{1,200}){0,15}", inner, re.ASCII)
    return f'"{inner}"' if plain and "//" not in inner else '""'


def parse_object(fields: Mapping[str, Any], text: str) -> ParsedLine | None:
    """The same of a line of JSON."""
    status = _word(member(fields, "status"))
    if not re.fullmatch(r"\d{3}", status, re.ASCII):
        return None
    values = {
        argument: next((word for word in (_word(member(fields, name)) for name in names) if word), "") for argument, names in _NAMES.items()
    }
    if not values["addresses"]:
        return None
    found = failed_try(status, **values)
    if found is None:
        return None
    path = (
        _word(member(fields, "request_uri"))
        or _word(member(fields, "uri"))
        or _word(member(fields, "request")).partition(" ")[2].partition(" ")[0]
    )
    return _told(found, text, path, address(_word(member(fields, "remote_addr"))), seconds_ns(_word(member(fields, "msec"))))


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)[:4000]


def _told(found: Try, message: str, path: str, client: str | None, epoch_ns: int | None = None) -> ParsedLine:
    stamp = stamp_of(message)
    return ParsedLine(
        kind=found.kind,
        failing=True,
        message=message,
        remote=found.remote,
        client=client,
        about=found.about,
        asked=path or None,
        waited_ns=found.waited_ns,
        naive_time_ns=epoch_ns if epoch_ns is not None else stamp.naive_ns if stamp else None,
        time_precision_ns=1_000_000 if epoch_ns is not None else stamp.precision_ns if stamp else 1_000_000_000,
        zone_offset_s=0 if epoch_ns is not None else stamp.zone_offset_s if stamp else None,
    )
