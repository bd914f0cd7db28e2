"""A line of Envoy's access log in Istio's stock format, text or JSON, goes in; both sides of what it speaks of come out."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from tcpwhy.tables.logs._envoy_fields import read_object, read_text
from tcpwhy.tables.logs._event import endpoint

MARKERS = (b'" inbound|', b'" outbound|', b'" PassthroughCluster ', b'" InboundPassthroughCluster ', b"upstream_local_address")
"""Without any of these no line is one of the format."""


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
    """What the line tells; None for other lines, and where an address is missing or has no port."""
    fields = read_object(_object(text)) if text.startswith("{") else read_text(text)
    if fields is None:
        return None
    client, asked, local, server = (endpoint(one) for one in (fields.client, fields.asked, fields.local, fields.server))
    if client is None or asked is None or local is None or server is None:
        return None
    return EnvoyLine(client, asked, local, server, bool(fields.method), fields.begin_ns, fields.duration_ns)


def _object(text: str) -> dict[str, Any]:
    try:
        raw: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}
