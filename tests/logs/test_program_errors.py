"""What Node, Python and Java programs, Caddy, uWSGI, gunicorn and Traffic Server print of a failed connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcpwhy.evidence import Source
from tcpwhy.tables.logs import LogEvent, LogReading, ParsedLine, caddy, java, node, python, read_log, trafficserver, uwsgi

Seen = tuple[str, str | None, str | None, str | None]


def seen(parsed: ParsedLine | LogEvent | None) -> Seen | None:
    """Kind, side, and both ends."""
    return None if parsed is None else (parsed.kind or "", parsed.about, parsed.local, parsed.remote)


def events(tmp_path: Path, text: str) -> list[LogEvent]:
    path = tmp_path / "app.log"
    path.write_text(text)
    reading = LogReading()
    read_log(path, Source("app", "app.log"), reading)
    assert reading.losses == []
    assert reading.failing == sum(event.failing for event in reading.events)
    return reading.events


# As Node 20.20 printed them.
NODE: list[tuple[str, Seen | None]] = [
    ("Error: connect ECONNREFUSED 127.0.0.1:18080", ("refused", "upstream", None, "127.0.0.1:18080")),
    ("  [cause]: Error: connect ECONNREFUSED ::1:18080", ("refused", "upstream", None, "[::1]:18080")),
    ("Error: connect EHOSTUNREACH 10.0.0.3:80 - Local (10.0.0.1:40000)", ("unreachable", "upstream", "10.0.0.1:40000", "10.0.0.3:80")),
    ("Error: connect ETIMEDOUT 10.0.0.3:80", ("timeout_connecting", "upstream", None, "10.0.0.3:80")),
    ("/rst Error: read ECONNRESET", ("reset", None, None, None)),
    ("Error: write EPIPE", ("broken_pipe", None, None, None)),
    ("Error: socket hang up", ("eof", "upstream", None, None)),
    ("Error: aborted", ("eof", "upstream", None, None)),
    ("AxiosError: timeout of 1000ms exceeded", ("timeout", "upstream", None, None)),
    (
        "ConnectTimeoutError: Connect Timeout Error (attempted address: 10.0.0.3:80, timeout: 10000ms)",
        ("timeout_connecting", "upstream", None, "10.0.0.3:80"),
    ),
    ("  code: 'ECONNRESET',", None),
    ("we read ECONNRESETS all day", None),
]


@pytest.mark.parametrize(("line", "expected"), NODE)
def test_node(line: str, expected: Seen | None) -> None:
    assert seen(node.parse(line)) == expected


def test_node_prints_the_ends_of_a_socket_below_its_error(tmp_path: Path) -> None:
    text = """fetch /fin TypeError: fetch failed
    at async file:///c.mjs:5:17 {
  [cause]: SocketError: other side closed
      at Socket.<anonymous> (node:internal/deps/undici/undici:6436:28)
    code: 'UND_ERR_SOCKET',
    socket: {
      localAddress: '127.0.0.1',
      localPort: 50032,
      remoteAddress: '127.0.0.1',
      remotePort: 18082,
      remoteFamily: 'IPv4',
      timeout: undefined,
      bytesWritten: 173,
      bytesRead: 0
    },
Error: read ECONNRESET
"""
    assert [(seen(one), one.source.line) for one in events(tmp_path, text)] == [
        (("eof", "upstream", "127.0.0.1:50032", "127.0.0.1:18082"), 3),
        (("reset", None, None, None), 16),
    ]


# As CPython 3.11, urllib3 2, aiohttp 3 and httpx 0.28 printed them.
POOL = "HTTPConnectionPool(host='10.0.1.2', port=80)"
PYTHON: list[tuple[str, Seen | None]] = [
    ("ConnectionRefusedError: [Errno 111] Connection refused", ("refused", None, None, None)),
    ("ConnectionResetError: [Errno 104] Connection reset by peer", ("reset", None, None, None)),
    ("BrokenPipeError: [Errno 32] Broken pipe", ("broken_pipe", None, None, None)),
    ("http.client.RemoteDisconnected: Remote end closed connection without response", ("eof", "upstream", None, None)),
    (
        "requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
        ("reset", "upstream", None, None),
    ),
    (f"requests.exceptions.ReadTimeout: {POOL}: Read timed out. (read timeout=0.6)", ("timeout_reading", "upstream", None, "10.0.1.2:80")),
    (
        (
            f"requests.exceptions.ConnectTimeout: {POOL}: Max retries exceeded with url: /x (Caused by ConnectTimeoutError('Connection to"
            " 10.0.1.2 timed out. (connect timeout=0.5)'))"
        ),
        ("timeout_connecting", "upstream", None, "10.0.1.2:80"),
    ),
    (
        ("aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host 10.0.1.2:80 [Connect call failed ('10.0.1.2', 80)]"),
        ("refused", "upstream", None, "10.0.1.2:80"),
    ),
    ("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected", ("eof", "upstream", None, None)),
    ("httpx.ReadTimeout: timed out", ("timeout_reading", "upstream", None, None)),
    ("httpcore.RemoteProtocolError: Server disconnected without sending a response.", ("eof", "upstream", None, None)),
    ("TimeoutError: timed out", ("timeout", None, None, None)),
    ("http.client.IncompleteRead: IncompleteRead(3 bytes read, 997 more expected)", ("eof", "upstream", None, None)),
    ("    raise RemoteDisconnected(", None),
    ("handled 3 ReadTimeout errors", None),
]


@pytest.mark.parametrize(("line", "expected"), PYTHON)
def test_python(line: str, expected: Seen | None) -> None:
    assert seen(python.parse(line)) == expected


def test_a_timeout_of_which_nothing_is_said_is_no_failure_of_a_connection() -> None:
    for line, failing in (("asyncio.exceptions.TimeoutError", False), ("TimeoutError: ", False), ("TimeoutError: timed out", True)):
        told = python.parse(line)
        assert told is not None
        assert told.failing is failing


def test_a_chain_of_python_exceptions_is_one_failure_with_the_time_of_its_message(tmp_path: Path) -> None:
    quoted = '  File "x.py", line 1, in f\n    sock.connect(sa)\n'
    between = "\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
    wrapped = f"requests.exceptions.ReadTimeout: {POOL}: Read timed out. (read timeout=0.6)\n"
    text = (
        "2026-11-21 20:21:06,241 ERROR app: first\nTraceback (most recent call last):\n"
        + quoted
        + "TimeoutError: timed out\n"
        + between
        + quoted * 30
        + wrapped
        + "2026-11-21 20:21:07,500 ERROR app: second\nTraceback (most recent call last):\n"
        + quoted
        + "KeyError: 3\n"
        + between
        + quoted
        + "ConnectionResetError: [Errno 104] Connection reset by peer\n"
    )
    first, second = events(tmp_path, text)
    assert (seen(first), first.waited_ns) == (("timeout_reading", "upstream", None, "10.0.1.2:80"), 600_000_000)
    assert first.naive_time_ns == 1_795_292_466_241_000_000
    assert (second.kind, second.naive_time_ns) == ("reset", 1_795_292_467_500_000_000)


# As Java 17 printed them, and as Apache HttpClient, Netty and Spring word them.
JAVA: list[tuple[str, Seen | None]] = [
    ("java.net.ConnectException: Connection refused", ("refused", "upstream", None, None)),
    ("java.net.SocketException: Connection reset", ("reset", None, None, None)),
    ("java.net.SocketException: Broken pipe", ("broken_pipe", None, None, None)),
    ("java.net.SocketException: Unexpected end of file from server", ("eof", "upstream", None, None)),
    ("java.net.SocketTimeoutException: Read timed out", ("timeout_reading", None, None, None)),
    ("Caused by: java.net.SocketTimeoutException: Connect timed out", ("timeout_connecting", "upstream", None, None)),
    ("java.net.NoRouteToHostException: No route to host", ("unreachable", None, None, None)),
    ("java.net.http.HttpTimeoutException: request timed out", ("timeout", None, None, None)),
    (
        "org.apache.http.conn.HttpHostConnectException: Connect to app:80 [app/10.0.1.2] failed: Connection refused (Connection refused)",
        ("refused", "upstream", None, "10.0.1.2:80"),
    ),
    ("org.apache.http.NoHttpResponseException: 10.0.1.2:80 failed to respond", ("eof", "upstream", None, "10.0.1.2:80")),
    (
        "io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: app/10.0.1.2:80",
        ("refused", "upstream", None, "10.0.1.2:80"),
    ),
    (
        'org.springframework.web.client.ResourceAccessException: I/O error on GET request for "http://10.0.1.2:8080/x": Connection reset',
        ("reset", "upstream", None, "10.0.1.2:8080"),
    ),
    ("org.apache.catalina.connector.ClientAbortException: java.io.IOException: Broken pipe", ("broken_pipe", "client", None, None)),
    ("\tat java.net.SocketException.of(Connection reset)", None),
    ("ConnectionResetError: [Errno 104] Connection reset by peer", None),
]


@pytest.mark.parametrize(("line", "expected"), JAVA)
def test_java(line: str, expected: Seen | None) -> None:
    assert seen(java.parse(line)) == expected


def test_a_java_exception_and_its_causes_are_one_failure(tmp_path: Path) -> None:
    stack = "\tat java.base/sun.nio.ch.NioSocketImpl.implRead(NioSocketImpl.java:328)\n" * 20
    text = (
        "2026-11-21T20:21:06.241Z ERROR 1 --- [main] c.e.App : call failed\n\n"
        "java.io.IOException: HTTP/1.1 header parser received no bytes\n"
        + stack
        + "Caused by: java.net.SocketException: Connection reset\n"
        + stack
        + "java.net.SocketTimeoutException: Read timed out\n"
    )
    first, second = events(tmp_path, text)
    assert (first.kind, first.about, first.time_ns) == ("reset", "upstream", 1_795_292_466_241_000_000)
    assert second.kind == "timeout_reading"


CADDY = {
    "level": "error", "ts": 1641801941.15, "logger": "http.log.error", "msg": "dial tcp 127.0.0.1:8080: connect: connection refused",
    "request": {"remote_ip": "10.0.0.9", "remote_port": "57796", "method": "GET", "host": "a.test", "uri": "/x"},
    "duration": 0.25, "status": 502,
}  # fmt: skip


def test_caddy() -> None:
    told = caddy.parse_object(CADDY, "line")
    assert seen(told) == ("refused", "upstream", None, "127.0.0.1:8080")
    assert told is not None
    assert (told.message, told.asked, told.client, told.waited_ns) == ("line", "/x", "10.0.0.9", 250_000_000)
    assert seen(caddy.parse_object({**CADDY, "msg": "EOF"}, "")) == ("eof", "upstream", None, None)
    read = "read tcp 10.0.0.1:50000->10.0.0.2:80: read: connection reset by peer"
    warning = {**CADDY, "level": "warn", "logger": "http.handlers.reverse_proxy", "msg": "aborting with incomplete response", "error": read}
    assert seen(caddy.parse_object(warning, "")) == ("reset", "upstream", "10.0.0.1:50000", "10.0.0.2:80")
    assert seen(caddy.parse_object({**CADDY, "msg": "context canceled"}, "")) == ("canceled", "client", None, "10.0.0.9:57796")
    assert caddy.parse_object({**CADDY, "level": "info"}, "") is None
    assert caddy.parse_object({**CADDY, "msg": "{id=x} no such file"}, "") is None
    assert caddy.parse_object({**CADDY, "msg": 3, "error": {}}, "") is None


def test_uwsgi_and_gunicorn() -> None:
    pipe = "SIGPIPE: writing to a closed pipe/socket/fd (probably the client disconnected) on request /x (ip 10.0.0.9) !!!"
    told = uwsgi.parse(f"Sat Nov 21 20:21:06 2026 - {pipe}")
    assert seen(told) == ("broken_pipe", "client", None, None)
    assert told is not None
    assert (told.client, told.asked, told.naive_time_ns) == ("10.0.0.9", "/x", 1_795_292_466 * 10**9)
    assert seen(uwsgi.parse("[2026-11-21 10:00:00 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:12)")) == (
        "closed_locally",
        "client",
        None,
        None,
    )
    assert uwsgi.parse("uwsgi_response_writev_headers_and_body_do(): No such file [core/writer.c line 306]") is None


def test_traffic_server() -> None:
    squid = "1795292466.850 1001 10.0.0.9 ERR_CONNECT_FAIL/502 312 GET http://a.test/x - DIRECT/10.0.1.2 text/html"
    told = trafficserver.parse(squid)
    assert told is not None
    assert (seen(told), told.client, told.asked) == (("other", "upstream", None, None), "10.0.0.9", "/x")
    assert told.naive_time_ns == 1_795_292_467_851_000_000
    assert trafficserver.parse(squid.replace("ERR_CONNECT_FAIL/502", "TCP_MISS/200")) is None
    attempt = (
        "20261121.20h21m06s CONNECT: attempt fail [CONNECTION_ERROR] to 10.0.1.2:80 for host='a.test' connection_result=Connection refused"
        " [111] error=Connection refused [111] retry_attempts=0 url='http://a.test/x'"
    )
    told = trafficserver.parse(attempt)
    assert told is not None
    assert (seen(told), told.asked) == (("refused", "upstream", None, "10.0.1.2:80"), "/x")
    assert told.naive_time_ns == 1_795_292_466 * 10**9
