"""Whole logs: wrappers, zones, sessions, damage."""

import gzip
import json
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import Source
from tcpwhy.tables.logs import LogReading, dialects, read_log

GO = "http: proxy error: read tcp 10.0.0.1:5000->10.0.0.2:80: read: connection reset by peer"
GO_TIMED = "2023/05/05 17:33:07 " + GO
UTC = 1_683_307_987 * 10**9


def read(path: Path, data: str | bytes, zone: str | None = None, offset: int | None = None) -> LogReading:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    reading = LogReading()
    read_log(path, Source("gw", path.name), reading, zone=zone, utc_offset_s=offset)
    return reading


def test_dialects_are_found_by_being_there() -> None:
    assert {"go_http", "nginx_error"} <= {dialect.name for dialect in dialects()}


def test_zone_from_settings_from_the_host_or_none(tmp_path: Path) -> None:
    path = tmp_path / "gw.log"
    event = read(path, "first\n" + GO_TIMED + "\n").events[0]
    assert (event.time_ns, event.naive_time_ns, event.time_zone_known) == (None, UTC, False)
    assert event.source == Source("gw", "gw.log", line=2)
    event = read(path, GO_TIMED, zone="Asia/Shanghai").events[0]
    assert (event.time_ns, event.time_zone_known) == (UTC - 8 * 3600 * 10**9, True)
    assert read(path, GO_TIMED, offset=-3600).events[0].time_ns == UTC + 3600 * 10**9


def test_the_hour_that_comes_twice_is_in_no_zone(tmp_path: Path) -> None:
    line = "2023/10/29 02:30:00 " + GO
    event = read(tmp_path / "x.log", line, zone="Europe/Berlin").events[0]
    assert event.time_ns is None
    assert event.naive_time_ns is not None


def test_wrappers_are_taken_off_and_their_zone_counts(tmp_path: Path) -> None:
    ns = UTC + 669_794_202
    wrapped = {
        "cri": f"2023-05-05T17:33:07.669794202Z stderr F {GO_TIMED}",
        "docker": json.dumps({"log": GO_TIMED + "\n", "stream": "stderr", "time": "2023-05-05T17:33:07.669794202Z"}),
        "kubectl": f"[pod/gw-1/gateway] 2023-05-05T17:33:07.669794202Z {GO_TIMED}",
        "rfc3339 syslog": f"2023-05-05T19:33:07.669794202+02:00 host gateway[12]: {GO_TIMED}",
        "elastic": json.dumps({"_source": {"@timestamp": "2023-05-05T17:33:07.669794202Z", "message": GO_TIMED}}),
        "zap": json.dumps({"ts": "2023-05-05T17:33:07.669794202Z", "msg": "upstream", "error": GO}).replace(">", "\\u003e"),
    }
    for name, line in wrapped.items():
        reading = read(tmp_path / "x.log", line + "\n")
        assert reading.events, name
        event = reading.events[0]
        assert (event.time_ns, event.kind, event.local, event.remote) == (
            ns,
            "reset",
            "10.0.0.1:5000",
            "10.0.0.2:80",
        ), name


def test_syslog_prefix_without_year_leaves_the_time_to_the_line(tmp_path: Path) -> None:
    for prefix in ("May 05 17:33:07 host gateway[77]: ", "May 05 17:33:07 *: ", "gateway-1  | "):
        event = read(tmp_path / "x.log", prefix + GO_TIMED).events[0]
        assert (event.naive_time_ns, event.local) == (UTC, "10.0.0.1:5000"), prefix
    event = read(tmp_path / "x.log", "May 05 17:33:07 host gateway[77]: " + GO).events[0]
    assert (event.naive_time_ns, event.kind) == (None, "reset")


def test_parts_of_a_container_line_are_joined(tmp_path: Path) -> None:
    cut = GO_TIMED.index("->") + 4
    lines = [
        f"2023-05-05T17:33:07.1Z stderr P {GO_TIMED[:cut]}",
        "2023-05-05T17:33:07.1Z stdout F something else",
        f"2023-05-05T17:33:07.2Z stderr P {GO_TIMED[cut:]}",
    ]
    reading = read(tmp_path / "x.log", "\n".join(lines))
    assert [(event.remote, event.source.line) for event in reading.events] == [("10.0.0.2:80", 1)]


def test_stream_sessions_give_the_local_port(tmp_path: Path) -> None:
    p = "2026/11/21 07:00:00 [info] 9#9: *34 "
    text = (
        p
        + "client 127.0.0.1:35410 connected to 127.0.0.1:18003\n"
        + p
        + "proxy 127.0.0.1:48836 connected to 127.0.0.1:18081\n"
        + p.replace("*34", "*35")
        + "proxy 127.0.0.1:48840 connected to 127.0.0.1:18081\n"
        + p.replace("info", "error")
        + "recv() failed (104: Connection reset by peer) while proxying and reading from upstream, client: 127.0.0.1,"
        ' server: 127.0.0.1:18003, upstream: "127.0.0.1:18081", bytes from/to client:7/0, bytes from/to upstream:0/7\n'
    )
    reading = read(tmp_path / "x.log", text)
    assert (reading.lines, reading.recognised, reading.failing) == (4, 4, 1)
    event = reading.events[0]
    assert (event.local, event.remote, event.kind) == ("127.0.0.1:48836", "127.0.0.1:18081", "reset")


def test_broken_header_over_several_lines(tmp_path: Path) -> None:
    p = "2026/11/21 07:00:00 [error] 9#9: "
    text = (
        p + '*30 broken header: "GET / HTTP/1.0\r\nHost: x\r\n\r\n" while reading PROXY protocol, client: 127.0.0.1,'
        " server: 127.0.0.1:18001\n" + p + "*31 connect() failed (111: Connection refused) while connecting to upstream,"
        ' client: 127.0.0.1, upstream: "http://127.0.0.1:1/"\n'
    )
    reading = read(tmp_path / "x.log", text)
    assert [(event.kind, event.client, event.source.line) for event in reading.events] == [
        ("other", "127.0.0.1", 1),
        ("refused", "127.0.0.1", 5),
    ]


def test_compressed_damaged_and_odd_bytes(tmp_path: Path) -> None:
    body = (GO_TIMED + "\n").encode() * 3000
    assert len(read(tmp_path / "x.log.gz", gzip.compress(body)).events) == 3000
    cut = read(tmp_path / "y.log.gz", gzip.compress(bytes(range(256)) * 40 + b"\n" + body)[:-20])
    assert len(cut.events) > 2000
    assert cut.losses
    odd = read(tmp_path / "z.log", b"\0" * 5000 + body[:200] + b"\xff\xfe\n" + b"\x1b[31m" + body[:100])
    assert [event.kind for event in odd.events][:1] == ["reset"]
    missing = LogReading()
    read_log(tmp_path / "none.log", Source("gw", "none.log"), missing)
    assert missing.losses == ["none.log cannot be read (No such file or directory)"]


def test_a_line_without_end_costs_no_memory(tmp_path: Path) -> None:
    began = time.monotonic()
    reading = read(tmp_path / "x.log", GO_TIMED.encode() + b" " * 30_000_000 + b"\n" + GO_TIMED.encode())
    assert [event.source.line for event in reading.events] == [1, 2]
    assert max(len(event.message) for event in reading.events) <= 2000
    assert time.monotonic() - began < 5


REAL = [
    GO_TIMED,
    (
        "2023/05/05 15:03:34 http: proxy error: readfrom tcp 10.0.0.1:56344->10.0.0.2:80: write tcp 10.0.0.1:56344->10.0.0.2:80:"
        " write: broken pipe"
    ),
    (
        "May 05 17:33:07 host nginx: 2026/11/21 06:59:55 [error] 1#1: *1 connect() failed (111: Connection refused) while "
        'connecting to upstream, client: 127.0.0.1, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:1/", host: "h"'
    ),
    '{"log":"2023/05/05 17:33:07 http: proxy error: EOF\\n","time":"2023-05-05T17:33:07Z"}',
    "2023-05-05T17:33:07.669794202Z stderr P dial tcp [::1]:80: i/o timeout",
]


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(REAL), st.integers(0, 200), st.binary(max_size=12)), max_size=6),
    st.binary(max_size=200),
)
def test_changed_lines_never_raise(tmp_path: Path, parts: list[tuple[str, int, bytes]], noise: bytes) -> None:
    lines = [line.encode()[:at] + patch + line.encode()[at + len(patch) // 2 :] for line, at, patch in parts]
    reading = read(tmp_path / "x.log", b"\n".join([*lines, noise, *lines]))
    assert reading.failing <= reading.recognised <= reading.lines
    for event in reading.events:
        assert event.source.line is not None
        assert 1 <= event.source.line <= reading.lines


@settings(max_examples=100, deadline=2000)
@given(
    st.sampled_from([" tcp ", "->", "read tcp ", "[error] ", "*1 ", ": ", "(", "1", "{", '"', "client: ", "%"]),
    st.integers(1, 4000),
    st.text(max_size=50),
)
def test_repetition_is_never_slow(part: str, count: int, end: str) -> None:
    text = ("2026/11/21 06:59:55 [error] 1#1: *1 read tcp " + part * count + end)[:16384]
    began = time.monotonic()
    for dialect in dialects():
        dialect.parse(text)
    assert time.monotonic() - began < 0.5
