"""Caddy's JSON lines go in; whose connection failed and how, by the Go error that they carry, come out.

    {"level":"error","ts":1641801941.15,"logger":"http.log.error","msg":"dial tcp 127.0.0.1:8080: connect: connection refused",
     "request":{"remote_ip":"10.0.0.9","remote_port":"57796","method":"GET","host":"a.test","uri":"/x"},"duration":0.0008,"status":502}

Sources: caddyserver/caddy modules/caddyhttp/marshalers.go (LoggableHTTPRequest), server.go (logger http.log.error), reverseproxy.go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tcpwhy.tables.logs._event import ParsedLine, address, endpoint
from tcpwhy.tables.logs._wrapping import member
from tcpwhy.tables.logs.go_http import parse as parse_go

MARKERS = ('"http.log.error', '"http.handlers.reverse_proxy"')
"""A line without any of these is none of this dialect."""

_LOGGERS = ("http.log.error", "http.handlers.reverse_proxy")
_GO_SPEAKER = "http: proxy error: "


def parse_object(fields: Mapping[str, Any], text: str) -> ParsedLine | None:
    """What a line says of a connection that failed, or None."""
    logger = fields.get("logger")
    if not isinstance(logger, str) or not logger.startswith(_LOGGERS) or fields.get("level") not in ("error", "warn"):
        return None
    error = fields.get("error") or fields.get("msg")
    if not isinstance(error, str):
        return None
    told = parse_go(_GO_SPEAKER + error)
    if told is None or told.kind == "other":
        return None
    if told.kind == "canceled":
        told = dataclasses.replace(told, about="client", local=None, remote=_client(fields))
    ip = member(fields, "request.remote_ip")
    upstream = member(fields, "upstream")
    if told.about == "upstream" and told.remote is None and isinstance(upstream, str):
        told = dataclasses.replace(told, remote=endpoint(upstream))
    uri, duration = member(fields, "request.uri"), fields.get("duration")
    return dataclasses.replace(
        told,
        message=text,
        client=address(ip) if isinstance(ip, str) else None,
        asked=uri if isinstance(uri, str) else None,
        waited_ns=int(duration * 1e9) if isinstance(duration, int | float) and 0 <= duration < 1e6 else None,
    )


def _client(fields: Mapping[str, Any]) -> str | None:
    """The client's end: one text in old versions, address and port in new ones."""
    old = member(fields, "request.remote_addr")
    if isinstance(old, str):
        return endpoint(old)
    ip, port = member(fields, "request.remote_ip"), member(fields, "request.remote_port")
    if not isinstance(ip, str) or not isinstance(port, str):
        return None
    return endpoint(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
