"""Exceptions of Java's network code (java.net, java.nio, Apache HttpClient, Netty, java.net.http) go in; what happened comes out.

    java.net.ConnectException: Connection refused
    java.net.SocketException: Connection reset
    Caused by: java.net.SocketTimeoutException: Read timed out
    org.apache.http.conn.HttpHostConnectException: Connect to 10.0.1.2:80 [/10.0.1.2] failed: Connection refused

java.net names no addresses; clients that wrap it do. `Unexpected end of file from server`, NoHttpResponseException and `header parser
received no bytes` are a FIN before the answer; RST is `Connection reset` (java.base NioSocketImpl, sun.net.www.http.HttpClient).
"""

from __future__ import annotations

import re

from tcpwhy.tables.logs._event import ParsedLine, What, endpoint

_TEXTS: tuple[tuple[str, What], ...] = (
    ("Unexpected end of file from server", "eof"),
    ("NoHttpResponseException", "eof"),
    ("failed to respond", "eof"),
    ("received no bytes", "eof"),
    ("PrematureCloseException", "eof"),
    ("prematurely closed", "eof"),
    ("Premature EOF", "eof"),
    ("ConnectTimeoutException", "timeout_connecting"),
    ("HttpConnectTimeoutException", "timeout_connecting"),
    ("onnect timed out", "timeout_connecting"),
    ("onnection timed out", "timeout_connecting"),
    ("ReadTimeoutException", "timeout_reading"),
    ("Read timed out", "timeout_reading"),
    ("WriteTimeoutException", "timeout_writing"),
    ("HttpTimeoutException", "timeout"),
    ("onnection refused", "refused"),
    ("onnection reset", "reset"),
    ("Broken pipe", "broken_pipe"),
    ("No route to host", "unreachable"),
    ("Network is unreachable", "unreachable"),
    ("Network unreachable", "unreachable"),
    ("fixed content-length: ", "eof"),
    ("chunked transfer encoding, state: ", "eof"),
    ("request timed out", "timeout"),
    ("java.net.ConnectException", "other"),
    ("ClosedChannelException", "closed_locally"),
    ("Socket closed", "closed_locally"),
)
"""In the order in which they are looked for: the more telling first."""

MARKERS = tuple(text for text, _ in _TEXTS)
"""A line without any of these is none of this dialect."""

CONTINUES = ("Caused by: ", "Suppressed: ")
"""What a further exception of one failure begins with."""

_RAISED = re.compile(r"(?:^|[\s:\[(])(?:[a-z_]\w{0,60}\.){1,12}[\w$]{1,120}Exception\b(?::|\s|$|\$)", re.ASCII)
_TO = re.compile(
    r"(?:Connect to (\S{1,255}):(\d{1,5}) (?:\[[^\]/]{0,255}/([0-9a-fA-F.:]{2,45})[^\]]{0,400}\])?|(?:refused|out|reset|host|unreachable)"
    r"(?:: no further information)?: (?:[\w.-]{0,255}/)?([0-9a-fA-F.:]{2,45}|\[[0-9a-fA-F.:]{2,45}\]):(\d{1,5})\b"
    r"|(\S{1,255}):(\d{1,5}) failed to respond)",
    re.ASCII,
)
_URL = re.compile(r'I/O error on [A-Z]{3,8} request for "https?://([^/"\s]{1,255})(/[^"\s]{0,2000})?"', re.ASCII)


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection that failed, or None."""
    if not any(marker in line for marker in MARKERS):
        return None
    text = line[:8000]
    if line.startswith(("\tat ", "    at ")) or _RAISED.search(text) is None:
        return None
    kind = next((kind for marker, kind in _TEXTS if marker in text), None)
    if kind is None:
        return None
    to, url = _TO.search(text), _URL.search(text)
    remote = None
    if to is not None:
        host, port = (to[3] or to[1], to[2]) if to[2] else (to[4], to[5]) if to[5] else (to[6], to[7])
        host = host.strip("[]")
        remote = endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    elif url is not None:
        remote = endpoint(url[1]) or endpoint(f"{url[1]}:80")
    served = "ClientAbortException" in text or "AsyncRequestNotUsable" in text
    return ParsedLine(
        kind=kind,
        failing=kind != "closed_locally",
        message=line,
        remote=remote,
        about="client" if served else "upstream" if remote or kind in ("refused", "timeout_connecting", "eof", "other") else None,
        asked=url[2] if url else None,
    )
