"""A line of Envoy's access log in Istio's stock format, text or JSON, goes in; both sides of what it speaks of come out.

[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 3 1 "-" "curl/7.73.0" "84961386" "httpbin:8000"
  "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound_.8000_._.httpbin default
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

import msgspec

from tcpwhy.tables.logs._event import endpoint

MARKERS = (b'" inbound|', b'" outbound|', b'" PassthroughCluster ', b'" InboundPassthroughCluster ', b"upstream_local_address")
"""Without any of these no line is one of the format."""

_START = re.compile(r'\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z)\] "(\S{1,32}) ', re.ASCII)
_DURATION = re.compile(r' (?:"[^"]{0,400}"|\S{1,400}) \d{1,20} \d{1,20} (\d{1,12}) (?:\d{1,12}|-) "', re.ASCII)
_ADDRESSES = re.compile(r'"(\S{1,80})" (?:\S{1,300}) (\S{1,80}) (\S{1,80}) (\S{1,80}) \S{1,300} \S{1,300}\s*', re.ASCII)
_LONGEST_TAIL = 1600
"""Characters at the end of a line in which the addresses stand."""

_QUOTES = 14
"""Of a line in text: seven values stand in them. Envoy does not escape what clients send, so that a server name (SNI) with quotes in it can
feign addresses; such a line has more (CVE-2024-45808)."""

_KEYS = ("downstream_remote_address", "downstream_local_address", "upstream_local_address", "upstream_host")


@dataclasses.dataclass(frozen=True, slots=True)
class EnvoyLine:
    """A request of HTTP, or a connection of TCP from its begin to its end. Ends are `ip:port` in canonical spelling."""

    client: str
    """Towards Envoy; what PROXY or X-Forwarded-For say instead, where Envoy is made to believe them."""
    asked: str
    """What the client connected to."""
    local: str
    """Envoy's own end towards the server."""
    server: str
    is_http: bool
    """True where the connection to the server may carry requests of other clients: Envoy keeps a pool of them."""
    begin_ns: int
    duration_ns: int | None


def parse_envoy(text: str) -> EnvoyLine | None:
    """What the line tells; None for other lines, and where an address is missing or has no port.

    Sources: Istio pkg/config/mesh and pilot/pkg/model/telemetry_logging.go EnvoyTextLogFormat, EnvoyJSONLogFormatIstio;
    Envoy's documentation of access logging, command operators.
    """
    if text.startswith("{"):
        return _of_json(text)
    begin = _START.match(text)
    tail = text[-_LONGEST_TAIL:]
    quote = tail.rfind('"')
    quote = tail.rfind('"', 0, quote) if quote > 0 else -1
    found = _ADDRESSES.fullmatch(tail, quote) if quote >= 0 else None
    if begin is None or found is None or text.count('"') != _QUOTES:
        return None
    duration = _DURATION.search(text[begin.end() :])
    server, local, asked, client = found.groups()
    return _line(client, asked, local, server, begin[2], begin[1], None if duration is None else int(duration[1]))


def _of_json(text: str) -> EnvoyLine | None:
    try:
        raw: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), str) for key in _KEYS):
        return None
    begin, method, duration = raw.get("start_time"), raw.get("method"), raw.get("duration")
    if not isinstance(begin, str) or not isinstance(method, str | None):
        return None
    told = duration if isinstance(duration, int) and not isinstance(duration, bool) and 0 <= duration < 10**12 else None
    client, asked, local, server = (raw[key] for key in _KEYS)
    return _line(client, asked, local, server, method or "-", begin, told)


def _line(client: str, asked: str, local: str, server: str, method: str, begin: str, duration_ms: int | None) -> EnvoyLine | None:
    ends = [endpoint(one) for one in (client, asked, local, server)]
    begin_ns = _time_ns(begin)
    if ends[0] is None or ends[1] is None or ends[2] is None or ends[3] is None or begin_ns is None:
        return None
    duration_ns = None if duration_ms is None else duration_ms * 1_000_000
    return EnvoyLine(ends[0], ends[1], ends[2], ends[3], method != "-", begin_ns, duration_ns)


def _time_ns(text: str) -> int | None:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    since = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
