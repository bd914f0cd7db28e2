"""Any line, any JSON and any cut of a log are read to their end, in time that grows with their length alone."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables.logs import LogReading, dialects, read_log
from tcpwhy.tables.logs._marked_lines import BLOCK, LONGEST_LINE, MarkedLines
from tcpwhy.tables.logs._wrapping import unwrap

REAL = [
    "2023/05/05 17:33:07 http: proxy error: read tcp 10.0.0.1:5000->10.0.0.2:80: read: connection reset by peer",
    ('2026/11/21 06:59:55 [error] 1#1: *1 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.9,'
    ' upstream: "http://127.0.0.1:1/", host: "h"'),
    '10.0.0.9 - - [21/Nov/2026:20:23:51 +0000] "GET /x HTTP/1.1" 502 157 "-" "curl" uaddr="10.0.1.2:80" ustatus="502" uct="-"',
    '{"time_iso8601":"2026-11-21T20:23:52+00:00","status":504,"request":"GET /8 HTTP/1.1","upstream_addr":"10.0.1.2:80","request_time":0}',
    'Feb  6 12:14:14 lb haproxy[1]: 127.0.0.1:33508 [21/Nov/2026:20:23:48.004] h b/s1 0/0/-1/-1/0 503 217 - - SC-- 1/1/0/0/0 0/0 "GET /"',
    ('[2026-11-21T12:00:01.456Z] "POST /o HTTP/1.1" 503 UC x - "-" 156 91 30004 - "-" "agent" "f47a" "orders" "10.0.10.5:8080" outbound|80|'
    " 10.0.10.1:54321 10.96.45.67:8080 10.0.0.9:33210 - default"),
    '{"start_time":"2026-11-21T12:00:01.456Z","response_flags":"UF","upstream_host":"10.0.10.5:8080","duration":30004,"response_code":503}',
    '10.0.0.9 - - [21/Nov/2026:20:23:51 +0000] "GET /x HTTP/1.1" 502 11 "-" "-" 7 "app@docker" "http://10.0.1.2:80" 3ms',
    '{"ClientAddr":"10.0.0.9:50000","DownstreamStatus":504,"ServiceAddr":"10.0.1.2:80","Duration":30000000000,"StartUTC":"2026-11-21T20:23:51Z"}',
    '{"level":"error","ts":1641801941.15,"logger":"http.log.error","msg":"EOF","request":{"remote_ip":"10.0.0.9","uri":"/x"},"duration":0.1}',
    "Error: connect ECONNREFUSED 127.0.0.1:18080",
    "ConnectTimeoutError: Connect Timeout Error (attempted address: 10.0.0.3:80, timeout: 10000ms)",
    "requests.exceptions.ReadTimeout: HTTPConnectionPool(host='10.0.1.2', port=80): Read timed out. (read timeout=0.6)",
    "org.apache.http.conn.HttpHostConnectException: Connect to app:80 [app/10.0.1.2] failed: Connection refused (Connection refused)",
    "Sat Nov 21 20:21:06 2026 - SIGPIPE: writing to a closed pipe/socket/fd (x) on request /x (ip 10.0.0.9) !!!",
    "1795292466.850 1001 10.0.0.9 ERR_CONNECT_FAIL/502 312 GET http://a.test/x - DIRECT/10.0.1.2 text/html",
    '{"_index":"x","_source":{"@timestamp":"2026-11-21T20:23:52Z","message":"Error: read ECONNRESET","source":{"ip":"10.0.0.1","port":4}}}',
    "<134>1 2026-11-21T20:23:48.004903+00:00 - haproxy 27237 - - 127.0.0.1:1 [21/Nov/2026:20:23:48.004] t b/s1 1/0/0 0 SD 1/1/0/0/0 0/0",
    "2023-05-05T17:33:07.669794202Z stderr P dial tcp [::1]:80: i/o timeout",
]  # fmt: skip


def read(path: Path, data: bytes) -> LogReading:
    path.write_bytes(data)
    reading = LogReading()
    read_log(path, Source("gw", path.name), reading)
    return reading


def test_each_of_these_lines_is_understood(tmp_path: Path) -> None:
    reading = read(tmp_path / "x.log", "\n".join(REAL).encode())
    assert [event.source.line for event in reading.events] == list(range(1, len(REAL) + 1))
    assert {event.dialect for event in reading.events} >= {dialect.name for dialect in dialects()} - {"nginx_error"}


@settings(max_examples=250, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(REAL), st.integers(0, 240), st.binary(max_size=12), st.integers(0, 12)), max_size=8),
    st.binary(max_size=200),
)
def test_changed_lines_never_raise(tmp_path: Path, parts: list[tuple[str, int, bytes, int]], noise: bytes) -> None:
    lines = [line.encode()[:at] + patch + line.encode()[at + gone :] for line, at, patch, gone in parts]
    reading = read(tmp_path / "x.log", b"\n".join([*lines, noise, *lines]))
    assert reading.failing <= reading.recognised <= reading.lines
    assert reading.failing == sum(event.failing for event in reading.events)
    for event in reading.events:
        assert event.source.line is not None
        assert 1 <= event.source.line <= reading.lines


KEYS = [
    "status", "upstream_addr", "upstream_status", "request", "msec", "DownstreamStatus", "ServiceAddr", "ServiceURL", "StartUTC",
    "logger", "level", "msg", "error", "request", "duration", "start_time", "response_flags", "upstream_host", "message", "_source",
    "source", "destination", "ip", "port", "@timestamp", "time", "ts", "MESSAGE", "log", "ClientAddr", "Duration",
]  # fmt: skip
WORDS = ["502", "504", "UF", "error", "http.log.error", "-", "10.0.0.1:80", "2026-11-21T20:23:52Z", "EOF", "21/Nov/2026:20:23:52 +0000"]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.sampled_from(WORDS), st.sampled_from([502, 10**30, -1])
)
OBJECTS = st.recursive(
    VALUES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)), max_leaves=20
)


@settings(max_examples=300, deadline=2000)
@given(st.dictionaries(st.sampled_from(KEYS), OBJECTS, max_size=10))
def test_any_json_is_told_or_passed_over(fields: dict[str, Any]) -> None:
    text = json.dumps(fields)
    wrapped = unwrap(text)
    for dialect in dialects():
        dialect.parse(wrapped.text)
        if wrapped.fields is not None:
            dialect.parse_object(wrapped.fields, text)


MARKERS = sorted({marker.decode() for dialect in dialects() for marker in dialect.markers})
PARTS = [*MARKERS, '"', "[", " ", "a.", "1.1.1.1:1, ", "{", "1/", "(", "'", "=", ": ", '10.0.0.9 - - [21/Nov/2026:20:23:51 +0000] "GET /']


@pytest.mark.parametrize("end", ["", '"', " 502 ", "\n"])
@settings(max_examples=60, deadline=3000)
@given(part=st.sampled_from(PARTS), start=st.sampled_from([*REAL, "", '"GET ', "a - - ["]))
def test_repetition_is_never_slow(part: str, start: str, end: str) -> None:
    text = (start + part * (LONGEST_LINE // len(part)))[: LONGEST_LINE - 20] + end
    began = time.monotonic()
    wrapped = unwrap(text)
    for dialect in dialects():
        dialect.unfinished(text)
        dialect.parse(wrapped.text)
        dialect.parse(text)
    assert time.monotonic() - began < 1


@settings(max_examples=100, deadline=2000)
@given(st.lists(st.sampled_from([b"x", b"mark", b"a mark b", b"", b"marmark", b"y" * 40]), max_size=60), st.booleans(), st.integers(1, 50))
def test_marked_lines_are_those_a_plain_search_finds(parts: list[bytes], ends: bool, piece: int) -> None:
    data = b"\n".join(parts) + (b"\n" if ends and parts else b"")
    lines = MarkedLines(_Pieces(data, piece), [b"mark"])
    found = []
    while (line := lines.next_marked()) is not None:
        above = list(lines.before(3))
        number = lines.number
        assert above == [parts[at] for at in range(number - 2, max(-1, number - 5), -1)][: len(above)]
        found.append((number, line))
    plain = data.split(b"\n")[:-1] if data.endswith(b"\n") else data.split(b"\n") if data else []
    assert found == [(number, line) for number, line in enumerate(plain, 1) if b"mark" in line]
    assert lines.lines == len(plain)


class _Pieces(io.BytesIO):
    """A stream that gives its bytes in pieces, as a pipe does."""

    def __init__(self, data: bytes, piece: int) -> None:
        super().__init__(data)
        self._piece = piece

    def read1(self, size: int | None = -1) -> bytes:
        """At most one piece."""
        return super().read1(min(self._piece, size if size and size > 0 else self._piece))


def test_lines_longer_than_any_program_writes_are_cut_and_counted() -> None:
    data = b"mark " + b"a" * (3 * BLOCK) + b" mark\nmark\n" + b"b" * (2 * BLOCK) + b"mark\nlast mark"
    lines = MarkedLines(io.BytesIO(data), [b"mark"])
    found = []
    while (line := lines.next_marked()) is not None:
        assert len(line) <= LONGEST_LINE
        found.append(lines.number)
    assert (found, lines.lines) == ([1, 2, 4], 4)


def test_the_time_of_many_lines_without_one_is_found_without_looking_twice(tmp_path: Path) -> None:
    began = time.monotonic()
    reading = read(tmp_path / "x.log", b"java.net.SocketException: Connection reset\n\n" * 30_000)
    assert reading.failing == 30_000
    assert time.monotonic() - began < 10
