"""Exceptions of Python's HTTP clients (http.client, urllib3, requests, aiohttp, httpx) go in; whose connection failed and how come out.

    requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))
    requests.exceptions.ReadTimeout: HTTPConnectionPool(host='10.0.1.2', port=80): Read timed out. (read timeout=0.6)
    ConnectionResetError: [Errno 104] Connection reset by peer

A FIN before the answer is RemoteDisconnected (Lib/http/client.py), also of a kept connection that the server closed; a RST has its errno.
Exceptions that were raised while others were handled are one failure.
"""

from __future__ import annotations

import re

from tcpwhy.tables.logs._event import ParsedLine, What, endpoint, seconds_ns

_TEXTS: tuple[tuple[str, What], ...] = (
    ("[Errno 104]", "reset"),
    ("ConnectionResetError", "reset"),
    ("RemoteDisconnected", "eof"),
    ("ServerDisconnectedError", "eof"),
    ("Server disconnected", "eof"),
    ("IncompleteRead(", "eof"),
    ("ClientPayloadError", "eof"),
    ("RemoteProtocolError", "eof"),
    ("ConnectTimeout", "timeout_connecting"),
    ("ConnectionTimeoutError", "timeout_connecting"),
    ("ReadTimeout", "timeout_reading"),
    ("SocketTimeoutError", "timeout_reading"),
    ("ServerTimeoutError", "timeout_reading"),
    ("Read timed out", "timeout_reading"),
    ("WriteTimeout", "timeout_writing"),
    ("[Errno 111]", "refused"),
    ("ConnectionRefusedError", "refused"),
    ("[Errno 32]", "broken_pipe"),
    ("BrokenPipeError", "broken_pipe"),
    ("[Errno 113]", "unreachable"),
    ("[Errno 101]", "unreachable"),
    ("[Errno 110]", "timeout_connecting"),
    ("Connect call failed", "refused"),
    ("TimeoutError", "timeout"),
)
"""In the order in which they are looked for: the errno says most, but what wraps it says more of a timeout."""

MARKERS = tuple(text for text, _ in _TEXTS)
"""A line without any of these is none of this dialect."""

BETWEEN = ("During handling of the above exception", "The above exception was the direct cause")
"""What stands between the exceptions of one failure."""

_RAISED = re.compile(
    r"(?:^|[\s:(])(?:[A-Za-z_]\w{0,60}\.){0,8}(?:[A-Z]\w{0,60}(?:Error|Timeout|Exception)|RemoteDisconnected|IncompleteRead)\b(?:[:(]|$)",
    re.ASCII,
)
_BARE = re.compile(r"(?:^|[\s.])TimeoutError(?:: ?)?$", re.ASCII)
_POOL = re.compile(r"HTTPS?ConnectionPool\(host='([^']{1,255})', port=(\d{1,5})\)", re.ASCII)
_URL = re.compile(r"with url: (\S{1,2000}?)(?: \(Caused by|$)", re.ASCII)
_TO = re.compile(
    r"(?:Connection to ([^\s']{1,255}) timed out|Connect call failed \('([^']{1,64})', (\d{1,5})|connect to host (\S{1,255}):(\d{1,5}) )",
    re.ASCII,
)
_WAITED = re.compile(r"\((?:read|connect) timeout=(\d{1,6}(?:\.\d{1,9})?)\)", re.ASCII)


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection that failed, or None."""
    if not any(marker in line for marker in MARKERS):
        return None
    text = line[:8000]
    kind = _kind(text)
    if kind is None or line.startswith((" ", "\t")) or _RAISED.search(text) is None:
        return None  # indented: a line of source that a traceback quotes
    pool, url, to, waited = _POOL.search(text), _URL.search(text), _TO.search(text), _WAITED.search(text)
    remote = endpoint(_joined(pool[1], pool[2])) if pool else None
    if remote is None and to is not None:
        host, port = (to[2], to[3]) if to[2] else (to[4], to[5])
        remote = endpoint(_joined(host, port)) if host else None
    return ParsedLine(
        kind=kind,
        failing=not _BARE.search(text),  # without a word it may have been a lock or a task that was waited for
        message=line,
        remote=remote,
        about="upstream" if remote or pool or _speaks_as_client(text) else None,
        asked=url[1] if url else None,
        waited_ns=seconds_ns(waited[1]) if waited else None,
    )


def _kind(text: str) -> What | None:
    return next((kind for marker, kind in _TEXTS if marker in text), None)


def _speaks_as_client(text: str) -> bool:
    """Only clients raise these; plain errors of a socket come from servers too."""
    return any(
        word in text
        for word in (
            "requests.",
            "urllib",
            "http.client.",
            "aiohttp.client",
            "httpx.",
            "httpcore.",
            "RemoteDisconnected",
            "ServerDisconnected",
        )
    )


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
