"""A line of Envoy's access log, in Envoy's or Istio's stock format, text or JSON, goes in; its values by name come out.

[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 3 1 "-" "curl/7.73.0" "84961386" "httpbin:8000"
  "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound_.8000_._.httpbin default
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

LONGEST_VALUE = 4000
"""Characters of one value."""


@dataclasses.dataclass(frozen=True, slots=True)
class EnvoyFields:
    """Values as the line has them; `-` and what is missing as an empty text."""

    begin_ns: int
    """When the request, or the connection of TCP, began."""
    duration_ns: int | None
    method: str
    """Empty for a connection of TCP."""
    path: str
    status: str
    flags: str
    """%RESPONSE_FLAGS%."""
    details: str
    """%RESPONSE_CODE_DETAILS% and %CONNECTION_TERMINATION_DETAILS%."""
    transport_failure: str
    """%UPSTREAM_TRANSPORT_FAILURE_REASON%."""
    server: str
    """%UPSTREAM_HOST%, or the remote address towards it."""
    local: str
    """Envoy's own end towards the server."""
    asked: str
    """What the client connected to."""
    client: str
    """%DOWNSTREAM_REMOTE_ADDRESS%: what PROXY or X-Forwarded-For say instead, where Envoy is made to believe them."""


def read_text(text: str) -> EnvoyFields | None:
    """A line of text; None for other lines.

    Envoy does not escape what clients send, so that a value with quotes in it can feign addresses (CVE-2024-45808): a line with other
    quotes than its format's own is none. Sources: Istio pilot/pkg/model/telemetry_logging.go EnvoyTextLogFormat; Envoy's documentation
    of access logging, default format.
    """
    parts = text.split('"', 15)
    begin_ns = time_of(parts[0].strip().removeprefix("[").removesuffix("]")) if text.startswith("[") else None
    if begin_ns is None or len(parts) not in (13, 15):
        return None
    istio = len(parts) == 15
    request, answer = parts[1].split(" "), parts[2].split()
    numbers = (parts[4] if istio else " ".join(answer[2:])).split()
    ends = parts[14].split() if istio else ["-"] * 6
    if len(request) < 2 or len(answer) != (4 if istio else 6) or len(numbers) != 4 or len(ends) != 6:
        return None
    return EnvoyFields(
        begin_ns=begin_ns,
        duration_ns=_milliseconds(numbers[2]),
        method=_value(request[0]),
        path=_value(request[1]),
        status=_value(answer[0]),
        flags=_value(answer[1]),
        details=" ".join(value for value in answer[2:4] if value != "-") if istio else "",
        transport_failure=_value(parts[3]) if istio else "",
        server=_value(parts[13] if istio else parts[11]),
        local=_value(ends[1]),
        asked=_value(ends[2]),
        client=_value(ends[3]),
    )


def read_object(fields: Mapping[str, Any]) -> EnvoyFields | None:
    """A line of JSON, with the keys of Istio's EnvoyJSONLogFormatIstio; None for other objects."""
    begin = _text(fields, "start_time")
    begin_ns = time_of(begin) if begin else None
    if begin_ns is None or not ("response_flags" in fields or "upstream_host" in fields):
        return None
    details = (_text(fields, "response_code_details"), _text(fields, "connection_termination_details"))
    return EnvoyFields(
        begin_ns=begin_ns,
        duration_ns=_milliseconds(_text(fields, "duration")),
        method=_text(fields, "method"),
        path=_text(fields, "path"),
        status=_text(fields, "response_code"),
        flags=_text(fields, "response_flags"),
        details=" ".join(value for value in details if value),
        transport_failure=_text(fields, "upstream_transport_failure_reason"),
        server=_text(fields, "upstream_host") or _text(fields, "upstream_remote_address"),
        local=_text(fields, "upstream_local_address"),
        asked=_text(fields, "downstream_local_address"),
        client=_text(fields, "downstream_remote_address"),
    )


def time_of(text: str) -> int | None:
    """`2020-11-25T21:26:18.409Z` in nanoseconds since 1970; None for anything else, and without a zone."""
    try:
        time = datetime.datetime.fromisoformat(text[:40])
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    since = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _milliseconds(text: str) -> int | None:
    return int(text) * 1_000_000 if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return _value(value) if isinstance(value, str) else str(value) if 0 <= value < 10**12 else ""


def _value(text: str) -> str:
    return "" if text == "-" else text[:LONGEST_VALUE]
