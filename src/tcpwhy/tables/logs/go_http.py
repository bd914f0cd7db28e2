"""Lines of Go's net/http and httputil go in, the connection they speak of and what happened to it come out.

    2023/05/05 17:33:07 http: proxy error: read tcp 10.20.0.7:51392->10.20.32.11:80: read: connection reset by
    peer

A net.OpError is printed as operation, network, source->address, cause: the source is this program's own end,
for reads as well as for writes, and a failed dial has none (net/net.go OpError.Error). `readfrom … splice: …`
names the socket that was written to, while the one that was read from failed (net/splice_linux.go).
"""

from __future__ import annotations

import re

from tcpwhy.tables.logs._event import SECOND_NS, About, ParsedLine, Ports, What, endpoint, ports_of
from tcpwhy.tables.logs._wrapping import naive_ns

MARKERS = (
    " tcp",
    "http: proxy error",
    "ReverseProxy",
    "net/http:",
    "http: server closed idle",
    "Client.Timeout",
    "context canceled",
    "context deadline exceeded",
    ": EOF",
    "unexpected EOF",
    "TLS handshake error",
    "unexpected status",
)
"""A line without any of these is none of this dialect."""

_PREFIX = re.compile(r"(?:^|[\s:\]])(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{6}))? ", re.ASCII)
_OPERATION = re.compile(
    r"\b(read|write|readfrom|writeto|dial|close|set|accept) tcp[46]?"
    r"(?: ([^\s\"]{1,300}?)->([^\s\"]{1,300}?)| ([^\s\"]{1,300}?))?: (?=(.{0,120}))",
    re.ASCII,
)
_SPEAKERS = (
    "http: proxy error: ",
    "httputil: ReverseProxy read error during body copy: ",
    "suppressing panic for copyResponse error in test; copy error: ",
    "http: TLS handshake error from ",
)
_CALLED = re.compile(r'\b(?:Get|Head|Post|Put|Patch|Delete|Options|Trace) "(?:(https?)://([^/"\s]{1,300}))?([^"\n]{0,2000})": ', re.ASCII)
_UNEXPECTED = re.compile(r'"https?://([^/"\s]{1,300})[^"\n]{0,2000}": unexpected status\D{0,12}\d{3}\b', re.ASCII)
"""As clients print a status that they did not expect behind the call's method and address."""
_TLS_FROM = re.compile(r"TLS handshake error from (\S{1,80}): (.*)", re.ASCII)

_ALONE = (
    "net/http: HTTP/1.x transport",
    "http: server closed idle connection",
    "net/http: timeout awaiting response headers",
)
"""Said of a connection without naming it."""

_CAUSES: tuple[tuple[str, What], ...] = (
    ("use of closed network connection", "closed_locally"),
    ("connection refused", "refused"),
    ("connection reset by peer", "reset"),
    ("broken pipe", "broken_pipe"),
    ("network is unreachable", "unreachable"),
    ("no route to host", "unreachable"),
    ("host is down", "unreachable"),
    ("server closed idle connection", "idle_closed"),
    ("context canceled", "canceled"),
    ("operation was canceled", "canceled"),
    ("request canceled", "canceled"),
    ("net/http: abort Handler", "canceled"),
    ("timeout awaiting response headers", "timeout_reading"),
    ("Client.Timeout exceeded while awaiting headers", "timeout_reading"),
    ("Client.Timeout or context cancellation while reading body", "timeout_reading"),
    ("TLS handshake timeout", "timeout_reading"),
    ("connection timed out", "timeout_reading"),
    ("i/o timeout", "timeout_reading"),
    ("context deadline exceeded", "timeout_reading"),
    ("unexpected EOF", "eof"),
    ("server closed connection", "eof"),
    ("EOF", "eof"),
)
"""In the order in which they are looked for: a line may hold several, the more telling first."""


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection, or None where it is no line of net/http's about one."""
    if not any(marker in line for marker in MARKERS):
        return None
    prefix = _PREFIX.search(line[:400])
    message = line[prefix.end() :] if prefix else line
    operations = list(_OPERATION.finditer(message[:8000]))[:8]
    speaker = next((speaker for speaker in _SPEAKERS if speaker in message), "")
    called = _CALLED.search(message[:4000])
    if not (operations or speaker or called or any(text in message for text in _ALONE)):
        return None
    naive, precision = _time(prefix)
    unexpected = _UNEXPECTED.search(message[:4000]) if called and not operations else None
    if unexpected is not None:
        host = unexpected.group(1)
        scheme = "https" if '"https://' in message else "http"
        return ParsedLine(
            kind="unexpected_answer",
            failing=False,
            message=message,
            remote=endpoint(host) or endpoint(f"{host}:{443 if scheme == 'https' else 80}"),
            about="upstream",
            naive_time_ns=naive,
            time_precision_ns=precision,
        )
    if speaker.startswith("http: TLS"):
        return _handshake_error(message, naive, precision)
    kind = _cause(message)
    if kind is None:
        kind = "other"
    local: str | None = None
    remote: str | None = None
    operation = ""
    pairs: list[tuple[str, str]] = []
    ports: Ports = (None, None)
    if operations:
        innermost = operations[-1]
        operation = innermost.group(1)
        local = endpoint(innermost.group(2) or "")
        remote = endpoint(innermost.group(3) or innermost.group(4) or "")
        if innermost.group(2) and innermost.group(3) and not (local and remote):
            ports = ports_of(innermost.group(2), innermost.group(3))
        if operation == "accept":
            local, remote = remote, None
        for found in operations:
            pair = (endpoint(found.group(2) or ""), endpoint(found.group(3) or ""))
            if pair[0] and pair[1] and (pair[0], pair[1]) not in pairs:
                pairs.append((pair[0], pair[1]))
        if operation == "readfrom" and innermost.group(5).startswith(("splice:", "sendfile:", "EOF", "unexpected EOF")):
            local, remote, ports = None, None, (None, None)  # the source of the copy failed; the line names its destination
    kind = _by_operation(kind, operation, message)
    if called and not operations and called.group(2):
        remote = endpoint(called.group(2)) or endpoint(f"{called.group(2)}:{443 if called.group(1) == 'https' else 80}")
    return ParsedLine(
        kind=kind,
        failing=_is_failing(operation, message),
        message=message,
        local=local,
        remote=remote,
        about="upstream" if called else _about(kind, speaker, operation, named=local is not None or remote is not None, pairs=len(pairs)),
        also=tuple(pair for pair in pairs if pair != (local, remote)),
        ports=ports,
        asked=called.group(3) or None if called else None,
        naive_time_ns=naive,
        time_precision_ns=precision,
    )


def _about(kind: What, speaker: str, operation: str, *, named: bool, pairs: int) -> About | None:
    """Which side, where the line tells.

    ReverseProxy's errors are those of its transport, but for the body that it copies from its client.
    """
    if kind == "canceled":
        return "client"
    if operation == "dial":
        return "upstream"
    if speaker.startswith(_SPEAKERS[:2]) and pairs <= 1 and (named or not operation):
        return "upstream"
    return None


def _time(prefix: re.Match[str] | None) -> tuple[int | None, int]:
    if prefix is None:
        return None, SECOND_NS
    naive = naive_ns(*(int(part) for part in prefix.groups()[:6]))
    if naive is None or not prefix.group(7):
        return naive, SECOND_NS
    return naive + int(prefix.group(7)) * 1000, 1000


def _cause(message: str) -> What | None:
    return next((kind for text, kind in _CAUSES if text in message), None)


def _by_operation(kind: What, operation: str, message: str) -> What:
    """A timeout says what was waited for by the operation that it ended."""
    if kind != "timeout_reading":
        return kind
    if operation == "dial" and "TLS handshake" not in message:
        return "timeout_connecting"
    if operation == "write":
        return "timeout_writing"
    return kind


def _is_failing(operation: str, message: str) -> bool:
    if operation == "accept":
        return False  # a listener that is closed says so at each orderly end of a program
    if ": lookup " in message and operation in ("dial", "read", "write", ""):
        return "->" in message and " udp" not in message and ": lookup " not in message
    return True


def _handshake_error(message: str, naive: int | None, precision: int) -> ParsedLine:
    found = _TLS_FROM.search(message[:1000])
    remote = endpoint(found.group(1)) if found else None
    return ParsedLine(
        kind=_cause(found.group(2) if found else message) or "other",
        failing=False,  # whoever connects and goes away before a request was made: health checks, port scans
        message=message,
        remote=remote,
        client=remote.rpartition(":")[0].strip("[]") if remote else None,
        about="client",
        naive_time_ns=naive,
        time_precision_ns=precision,
    )
