"""Lines as real Go 1.19 programs wrote them."""

import pytest

from tcpwhy.tables.logs.go_http import parse

A, B = "127.0.0.1:51564", "127.0.0.1:35951"

CASES = [
    # text, kind, local, remote, failing
    (
        "http: proxy error: dial tcp 127.0.0.1:38313: connect: connection refused",
        "refused",
        None,
        "127.0.0.1:38313",
        True,
    ),
    (f"http: proxy error: read tcp {A}->{B}: read: connection reset by peer", "reset", A, B, True),
    (
        f"http: proxy error: readfrom tcp {A}->{B}: write tcp {A}->{B}: use of closed network connection",
        "closed_locally",
        A,
        B,
        True,
    ),
    (
        f"http: proxy error: readfrom tcp {A}->{B}: write tcp {A}->{B}: write: broken pipe",
        "broken_pipe",
        A,
        B,
        True,
    ),
    ("http: proxy error: EOF", "eof", None, None, True),
    ("http: proxy error: unexpected EOF", "eof", None, None, True),
    ("http: proxy error: net/http: timeout awaiting response headers", "timeout_reading", None, None, True),
    ("http: proxy error: context canceled", "canceled", None, None, True),
    (
        f"httputil: ReverseProxy read error during body copy: read tcp {A}->{B}: read: connection reset by peer",
        "reset",
        A,
        B,
        True,
    ),
    ("httputil: ReverseProxy read error during body copy: unexpected EOF", "eof", None, None, True),
    (
        'Get "http://127.0.0.1:38313/x?a=1": dial tcp 127.0.0.1:38313: connect: connection refused',
        "refused",
        None,
        "127.0.0.1:38313",
        True,
    ),
    ('Get "http://h/": dial tcp 10.99.0.9:80: i/o timeout', "timeout_connecting", None, "10.99.0.9:80", True),
    ("dial tcp 10.250.0.1:80: connect: network is unreachable", "unreachable", None, "10.250.0.1:80", True),
    (
        "dial tcp 10.250.0.1:80: connect: connection timed out",
        "timeout_connecting",
        None,
        "10.250.0.1:80",
        True,
    ),
    ("dial tcp6 [::1]:1: connect: connection refused", "refused", None, "[::1]:1", True),
    ("read tcp [::1]:40000->[::1]:80: i/o timeout", "timeout_reading", "[::1]:40000", "[::1]:80", True),
    (f"write tcp {A}->{B}: i/o timeout", "timeout_writing", A, B, True),
    (f"write tcp {A}->{B}: write: connection reset by peer", "reset", A, B, True),
    ('Post "http://10.0.0.1/b": EOF', "eof", None, "10.0.0.1:80", True),
    ("http: server closed idle connection", "idle_closed", None, None, True),
    (
        'Get "http://h/": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
        "timeout_reading",
        None,
        None,
        True,
    ),
    # the socket that was read from failed, the line names the one that was written to
    (
        f"http: proxy error: readfrom tcp {A}->{B}: splice: connection reset by peer",
        "reset",
        None,
        None,
        True,
    ),
    # two sockets in one line: the innermost failed
    (
        f"readfrom tcp {A}->{B}: read tcp 10.0.0.1:80->10.0.0.2:50000: read: connection reset by peer",
        "reset",
        "10.0.0.1:80",
        "10.0.0.2:50000",
        True,
    ),
    # no failures of a connection
    ("dial tcp: lookup nonexist.invalid on 10.255.255.53:53: no such host", "other", None, None, False),
    ("accept tcp [::]:80: use of closed network connection", "closed_locally", "[::]:80", None, False),
    ("http: TLS handshake error from 10.0.0.3:40000: EOF", "eof", None, "10.0.0.3:40000", False),
]


@pytest.mark.parametrize(("text", "kind", "local", "remote", "failing"), CASES)
def test_each_message_names_its_connection_and_what_happened(
    text: str, kind: str, local: str | None, remote: str | None, failing: bool
) -> None:
    found = parse("2026/11/21 10:12:35 " + text)
    assert found is not None
    assert (found.kind, found.local, found.remote, found.failing) == (kind, local, remote, failing)
    assert found.naive_time_ns == 1_795_255_955 * 10**9
    assert found.message == text


def test_other_pairs_of_a_line_are_kept_apart() -> None:
    found = parse(f"readfrom tcp {A}->{B}: splice: connection reset by peer")
    assert found is not None
    assert found.also == ((A, B),)
    found = parse(f"readfrom tcp {A}->{B}: read tcp 10.0.0.1:80->10.0.0.2:50000: read: connection reset by peer")
    assert found is not None
    assert found.also == ((A, B),)


@pytest.mark.parametrize(
    ("text", "about"),
    [
        (f"http: proxy error: read tcp {A}->{B}: read: connection reset by peer", "upstream"),
        ("http: proxy error: EOF", "upstream"),
        ("http: proxy error: context canceled", "client"),
        ("dial tcp 10.0.0.1:80: connect: connection refused", "upstream"),
        (f"read tcp {A}->{B}: read: connection reset by peer", None),
        (f"http: proxy error: readfrom tcp {A}->{B}: splice: connection reset by peer", None),
    ],
)
def test_which_side_a_line_speaks_of(text: str, about: str | None) -> None:
    found = parse(text)
    assert found is not None
    assert found.about == about


def test_microseconds_and_names() -> None:
    found = parse("2026/11/21 10:12:36.112821 dial tcp 127.0.0.1:38313: connect: connection refused")
    assert found is not None
    assert found.naive_time_ns == 1_795_255_956_112_821_000
    assert found.time_precision_ns == 1000
    found = parse("http: proxy error: read tcp ip-proxy:51392->ip-backend:80: read: connection reset by peer")
    assert found is not None
    assert (found.kind, found.local, found.remote, found.naive_time_ns) == ("reset", None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "2026/11/21 10:12:35 listening on tcp :8080",
        "2026/11/21 10:12:35 GET /EOF 200",
        "2026/11/21 10:12:35 server started",
        "",
    ],
)
def test_ordinary_lines_are_none(text: str) -> None:
    assert parse(text) is None
