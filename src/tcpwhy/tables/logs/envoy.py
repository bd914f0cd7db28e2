"""Lines of Envoy's access log, and the words that it answers its clients with, go in; whose connection failed and how come out.

    [2026-11-21T12:00:01.456Z] "POST /orders HTTP/1.1" 503 UF upstream_reset_before_response_started{connection_failure} -
      "delayed_connect_error:_111" 0 91 4 - "-" "curl/8" "f47a" "orders" "10.0.10.5:8080" outbound|80||orders - 10.96.45.67:80
      10.0.0.9:33210 - -

A response flag does not tell RST from FIN; a failed connect(2) has its errno. Sources: Envoy's documentation of access logging (response
flags, response code details), source/common/stream_info/utility.cc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tcpwhy.tables.logs._envoy_fields import EnvoyFields, read_object, read_text
from tcpwhy.tables.logs._event import About, ParsedLine, What, address, endpoint

MILLISECOND_NS = 1_000_000

_FLAGS: tuple[tuple[str, What, About, bool], ...] = (
    ("UF", "other", "upstream", True),
    ("UC", "ended", "upstream", True),
    ("UT", "timeout_reading", "upstream", True),
    ("UMSDR", "timeout_reading", "upstream", True),
    ("DT", "timeout_reading", "upstream", True),
    ("SI", "timeout", "client", True),
    ("UH", "other", "upstream", True),
    ("LR", "closed_locally", "upstream", True),
    ("UR", "other", "upstream", False),
    ("UPE", "other", "upstream", False),
    ("URX", "other", "upstream", False),
    ("DC", "canceled", "client", True),
    ("DPE", "other", "client", False),
)
"""In the order in which they count where a line has several. UR resets a stream of HTTP/2 and the connection goes on; UPE and DPE are
answers or requests that break the protocol; URX only says that it was tried often enough. Flags that are missing here speak of no
connection (NR, NC, UO, RL, …)."""

_ERRNOS: dict[int, What] = {111: "refused", 101: "unreachable", 113: "unreachable", 110: "timeout_connecting", 104: "reset"}
"""Linux numbers, errno(3), as in `delayed_connect_error:_111`, `immediate_connect_error:_101`."""

_ERRNO = re.compile(r"connect.error:.(\d{1,3})\b", re.ASCII)
_BODY = re.compile(
    r"upstream connect error or disconnect/reset before headers\.(?: retried and the latest)? (?:reset reason: |)([a-z ]{3,40})"
    r"(?:, transport failure reason: ([^\"\\\n]{0,300}))?",
    re.ASCII,
)

MARKERS = (
    *(f" {flag}{end}" for flag, _, _, failing in _FLAGS if failing for end in (" ", ",")),
    *(f"{key}{flag}" for flag, _, _, failing in _FLAGS if failing for key in ('_flags":"', '_flags": "')),
    "disconnect/reset before headers",
)
"""A line without any of these is none of this dialect."""


def parse(line: str) -> ParsedLine | None:
    """What a line of text says of a connection that failed, or None."""
    if line.startswith("["):
        fields = read_text(line)
        return None if fields is None else _told(fields, line)
    found = _BODY.search(line[:8000])
    if found is None:
        return None
    kind: What = "timeout_connecting" if found[1] == "connection timeout" else "ended" if found[1] == "connection termination" else "other"
    return ParsedLine(kind=_by_words(kind, found[2] or ""), failing=True, message=line)


def parse_object(fields: Mapping[str, Any], text: str) -> ParsedLine | None:
    """The same of a line of JSON."""
    found = read_object(fields)
    return None if found is None else _told(found, text)


def _told(fields: EnvoyFields, message: str) -> ParsedLine | None:
    flags = fields.flags.split(",")
    found = next((entry for entry in _FLAGS if entry[0] in flags), None)
    if found is None:
        return None
    flag, kind, about, failing = found
    words = f"{fields.details} {fields.transport_failure}"
    if flag == "UF":
        kind = _by_words("timeout_connecting" if "connection_timeout" in words else kind, words)
    local, server = endpoint(fields.local), endpoint(fields.server)
    asked, client = endpoint(fields.asked), endpoint(fields.client)
    towards_server = about == "upstream"
    return ParsedLine(
        kind=kind,
        failing=failing,
        message=message,
        local=local if towards_server else asked,
        remote=server if towards_server else client,
        client=address(fields.client.rpartition(":")[0]),
        about=about,
        asked=fields.path or None,
        waited_ns=fields.duration_ns if kind.startswith("timeout") else None,
        naive_time_ns=fields.begin_ns + (fields.duration_ns or 0),
        time_precision_ns=MILLISECOND_NS,
        zone_offset_s=0,
    )


def _by_words(kind: What, words: str) -> What:
    """What the transport says of the failure, where it says it."""
    found = _ERRNO.search(words)
    if found is not None:
        return _ERRNOS.get(int(found[1]), kind)
    lowered = words.lower().replace("_", " ")
    if "connection refused" in lowered:
        return "refused"
    if "reset by peer" in lowered:
        return "reset"
    if "unreachable" in lowered or "no route to host" in lowered:
        return "unreachable"
    return "timeout_connecting" if "connection timed out" in lowered or "connect timeout" in lowered else kind
