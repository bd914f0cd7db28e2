"""Lines of nginx's error log (http, stream, Lua sockets) go in, whose connection failed and how come out.

    2026/11/21 06:59:55 [error] 1080#1080: *3 recv() failed (104: Connection reset by peer) while reading
    response header from upstream, client: 10.0.0.9, server: a.test, request: "GET / HTTP/1.1", upstream:
    "http://10.0.1.2:80/", host: "a.test"

The client is printed without its port, the upstream with its own, the local port towards the upstream by the
stream module alone, on a line of its own (`proxy A connected to B`) with the same `*CONN`
(ngx_stream_proxy_module.c).
"""

from __future__ import annotations

import re

from tcpwhy.tables.logs._event import SECOND_NS, About, ParsedLine, What, address, endpoint
from tcpwhy.tables.logs._wrapping import naive_ns

MARKERS = ("[error] ", "[crit] ", "[alert] ", "[emerg] ", "[warn] ", "[notice] ", "[info] ")
"""A line without any of these is none of this dialect."""

_PREFIX = re.compile(
    r"(?:^|[\s:])(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) "
    r"\[(error|crit|alert|emerg|warn|notice|info)\] (\d{1,10})#\d{1,20}: (?:\*(\d{1,20}) )?",
    re.ASCII,
)
_CONNECTED = re.compile(r"(client|proxy) (\S{1,80}) connected to (\S{1,80})$", re.ASCII)
_ERRNO = re.compile(r"\((\d{1,4}): ", re.ASCII)
_CLIENT = re.compile(r", client: (\S{1,80}?)(?:,|$)", re.ASCII)
_UPSTREAM = re.compile(r', upstream: "(?:[a-z]{1,12}://)?(\[[0-9a-fA-F:.%]{2,64}\]:\d{1,5}|[0-9.]{7,15}:\d{1,5})([^"\s]{0,2000})', re.ASCII)
_LUA_TO = re.compile(r"when (?:connecting to|reading from|writing to) (\S{1,80}?)(?:,|$)", re.ASCII)
_CALL = re.compile(r"\b(?:connect|recv|recvmsg|send|sendmsg|readv|writev|sendfile|read|write|SSL_\w+|epoll_wait|kevent|peek)\(\)")

_ERRNOS: dict[int, What] = {
    111: "refused",
    104: "reset",
    32: "broken_pipe",
    101: "unreachable",
    113: "unreachable",
    112: "unreachable",
    107: "closed_locally",
}
"""Linux numbers, errno(3): ECONNREFUSED, ECONNRESET, EPIPE, ENETUNREACH, EHOSTUNREACH, EHOSTDOWN,
ENOTCONN."""

_IDLE = ("while waiting for request", "while keepalive", "in keepalive", "keepalive connection")
"""Between requests: a client that goes away then has lost nothing."""


def unfinished(line: str) -> bool:
    """True where the line quotes a client's bytes, line ends among them, and the quotation is open."""
    at = line.find('broken header: "')
    return at >= 0 and '" while reading PROXY protocol' not in line[at:]


def parse(line: str) -> ParsedLine | None:
    """What a line says of a connection, or None where it says nothing of one."""
    prefix = _PREFIX.search(line[:600])
    if prefix is None:
        return None
    message = line[prefix.end() :]
    numbers = [int(part) for part in prefix.groups()[:6]]
    naive = naive_ns(*numbers)
    key = f"{prefix.group(8)}*{prefix.group(9)}" if prefix.group(9) else None
    told = _CONNECTED.search(message[:400])
    if told is not None and message.startswith(told.group(0)):
        return _told(told, message, key, naive)
    head = message.partition(", client: ")[0][:4000]
    found = _what(head)
    if found is None:
        return None
    kind, failing = found
    client = _CLIENT.search(message)
    upstream = _UPSTREAM.search(message)
    about = _about(head, has_upstream=upstream is not None)
    remote = endpoint(upstream.group(1)) if upstream and about == "upstream" else None
    if "lua tcp socket" in head or (remote is None and about == "upstream"):
        lua = _LUA_TO.search(message[:4000])
        remote = endpoint(lua.group(1)) if lua else remote
    client_ip = None
    if client:
        end = endpoint(client.group(1))
        client_ip = end.rpartition(":")[0].strip("[]") if end else address(client.group(1))
        if about == "client" and end:
            remote = end
    return ParsedLine(
        kind=kind,
        failing=failing,
        message=message,
        remote=remote,
        client=client_ip,
        about=about,
        key=key,
        asked=upstream.group(2) or None if upstream and about == "upstream" else None,
        naive_time_ns=naive,
        time_precision_ns=SECOND_NS,
    )


def _told(told: re.Match[str], message: str, key: str | None, naive: int | None) -> ParsedLine | None:
    """`client A connected to B`, where B is the own end, and `proxy A connected to B`, where A is."""
    first, second = endpoint(told.group(2)), endpoint(told.group(3))
    if key is None or first is None or second is None:
        return None
    towards_client = told.group(1) == "client"
    return ParsedLine(
        kind=None,
        failing=False,
        message=message,
        local=second if towards_client else first,
        remote=first if towards_client else second,
        about="client" if towards_client else "upstream",
        key=key,
        naive_time_ns=naive,
    )


def _about(head: str, *, has_upstream: bool) -> About | None:
    if "client prematurely closed connection" in head or "client timed out" in head:
        return "client"
    if "upstream" in head or "lua tcp socket" in head:
        return "upstream"
    if re.search(r"(?:reading|waiting|sending to|writing to|prereading|PROXY protocol|keepalive)", head):
        return "client"
    return "upstream" if has_upstream and "client" not in head else None


def _what(head: str) -> tuple[What, bool] | None:
    """Kind, and whether a connection failed; None for what is no matter of a connection."""
    if "client prematurely closed connection" in head:
        return "canceled", True
    if "upstream prematurely closed connection" in head or "peer closed connection in SSL handshake" in head:
        return "eof", True
    if "lua tcp socket" in head and "timed out" in head:
        return _lua_timeout(head), True
    if "upstream timed out" in head or "client timed out" in head:
        return _timeout(head), not any(idle in head for idle in _IDLE)
    if "no live upstreams" in head:
        return "other", True
    if "upstream server temporarily disabled" in head:
        return "other", False  # what follows of failures that have their own lines
    if "broken header: " in head or "upstream sent" in head:
        return "other", True
    number = _ERRNO.search(head)
    if number is None or not _CALL.search(head):
        return None
    errno = int(number.group(1))
    if errno == 110:  # ETIMEDOUT: the kernel gave up
        kind: What = _timeout(head)
    elif errno in _ERRNOS:
        kind = _ERRNOS[errno]
    elif "connect()" in head:
        kind = "other"
    else:
        return None
    return kind, not any(idle in head for idle in _IDLE)


def _timeout(head: str) -> What:
    if "connecting to upstream" in head or "connect()" in head:
        return "timeout_connecting"
    if "while sending" in head or "writing to" in head or "sending to" in head:
        return "timeout_writing"
    return "timeout_reading"


def _lua_timeout(head: str) -> What:
    if "connect timed out" in head:
        return "timeout_connecting"
    return "timeout_writing" if "write timed out" in head or "send timed out" in head else "timeout_reading"
