"""Lines as nginx 1.22.1 wrote them."""

import pytest

from tcpwhy.tables.logs.nginx_error import parse, unfinished

P = "2026/11/21 06:59:55 [error] 1080#1080: "
TAIL = ', client: 10.0.0.9, server: example.test, request: "GET /x HTTP/1.1", upstream: "http://10.0.1.2:8081/x", host: "example.test"'

CASES = [
    ("connect() failed (111: Connection refused) while connecting to upstream", "refused", True),
    ("connect() failed (113: No route to host) while connecting to upstream", "unreachable", True),
    (
        "connect() to 10.0.1.2:8081 failed (101: Network is unreachable) while connecting to upstream",
        "unreachable",
        True,
    ),
    (
        "connect() to 10.0.1.2:8081 failed (99: Cannot assign requested address) while connecting to upstream",
        "other",
        True,
    ),
    (
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "reset",
        True,
    ),
    ("readv() failed (104: Connection reset by peer) while reading upstream", "reset", True),
    ("writev() failed (32: Broken pipe) while sending request to upstream", "broken_pipe", True),
    ("upstream prematurely closed connection while reading response header from upstream", "eof", True),
    (
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        "timeout_connecting",
        True,
    ),
    (
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
        "timeout_reading",
        True,
    ),
    (
        "upstream timed out (110: Connection timed out) while sending request to upstream",
        "timeout_writing",
        True,
    ),
    ("upstream server temporarily disabled while connecting to upstream", "other", False),
    ("lua tcp socket read timed out", "timeout_reading", True),
]


@pytest.mark.parametrize(("text", "kind", "failing"), CASES)
def test_failures_towards_the_upstream(text: str, kind: str, failing: bool) -> None:
    found = parse(P + "*1 " + text + TAIL)
    assert found is not None
    assert (found.kind, found.failing, found.about, found.client) == (kind, failing, "upstream", "10.0.0.9")
    assert found.local is None
    assert found.naive_time_ns == 1_795_244_395 * 10**9
    if not text.startswith("lua"):
        assert found.remote == "10.0.1.2:8081"


def test_upstream_that_is_a_name_or_an_ipv6_address() -> None:
    found = parse(P + '*2 no live upstreams while connecting to upstream, client: ::1, server: a, upstream: "http://dead/x"')
    assert found is not None
    assert (found.kind, found.remote, found.client, found.failing) == ("other", None, "::1", True)
    found = parse(P + '*2 recv() failed (104: x) while reading upstream, client: fd00::9, upstream: "http://[fd00:0::1]:80/"')
    assert found is not None
    assert (found.remote, found.client) == ("[fd00::1]:80", "fd00::9")


def test_lua_sockets_name_whom_they_meant_to_reach() -> None:
    found = parse(P + "*9 lua tcp socket connect timed out, when connecting to 10.0.0.7:6379, client: 10.0.0.9, server: a")
    assert found is not None
    assert (found.kind, found.remote, found.about) == ("timeout_connecting", "10.0.0.7:6379", "upstream")
    found = parse(P + '*9 lua tcp socket connect timed out, client: 10.0.0.9, server: a, request: "GET / HTTP/1.1"')
    assert found is not None
    assert (found.kind, found.remote) == ("timeout_connecting", None)


def test_failures_towards_the_client() -> None:
    found = parse(
        "2026/11/21 06:59:55 [info] 1#1: *28 epoll_wait() reported that client prematurely closed connection, so upstream"
        " connection is closed too while reading upstream" + TAIL
    )
    assert found is not None
    assert (found.kind, found.about, found.remote, found.client) == ("canceled", "client", None, "10.0.0.9")


@pytest.mark.parametrize(
    "text",
    [
        "recv() failed (104: Connection reset by peer) while waiting for request, client: 10.0.0.9, server: 0.0.0.0:80",
        "recv() failed (104: Connection reset by peer) while keepalive, client: 10.0.0.9, server: 0.0.0.0:80",
        "client timed out (110: Connection timed out) while waiting for request, client: 10.0.0.9",
    ],
)
def test_idle_connections_that_end_are_no_failures(text: str) -> None:
    found = parse("2026/11/21 06:59:55 [info] 1#1: *1 " + text)
    assert found is not None
    assert not found.failing
    assert found.about == "client"


@pytest.mark.parametrize(
    "text",
    [
        P + '*1 open() "/var/www/x" failed (2: No such file or directory), client: 10.0.0.9, server: a',
        "2026/11/21 06:59:55 [notice] 1#1: signal process started",
        "2026/11/21 06:59:55 [info] 1#1: *5 client 10.0.0.9 closed keepalive connection",
        P + "*1 access forbidden by rule, client: 10.0.0.9",
    ],
)
def test_what_is_no_matter_of_a_connection_is_none(text: str) -> None:
    assert parse(text) is None


def test_a_quotation_with_line_ends_is_unfinished() -> None:
    first = P + '*30 broken header: "GET / HTTP/1.0'
    assert unfinished(first)
    assert not unfinished(first + '\n\n" while reading PROXY protocol, client: 127.0.0.1, server: 127.0.0.1:18001')
