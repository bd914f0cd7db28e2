"""Access logs of nginx, HAProxy, Envoy and Traefik: which lines tell of a connection that failed, of which, and which do not."""

import json

import pytest

from tcpwhy.tables.logs import ParsedLine, envoy, haproxy, nginx_access, traefik

Seen = tuple[str, bool, str | None, str | None, str | None]


def seen(parsed: ParsedLine | None) -> Seen | None:
    """Kind, whether it failed, side, and both ends."""
    return None if parsed is None else (parsed.kind or "", parsed.failing, parsed.about, parsed.local, parsed.remote)


# As nginx 1.22.1 wrote them, in three formats.
N = '10.0.0.9 - - [21/Nov/2026:20:23:51 +0000] "GET /81?a=1 HTTP/1.1" '
AGENT = ' "http://a.test:80/" "curl/7.88.1 10.9.9.9:99"'
UP = "10.0.1.2:18081"
NGINX: list[tuple[str, Seen | None]] = [
    (f'502 157{AGENT} rt=0.000 uaddr="{UP}" ustatus="502" uct="-" uht="-" urt="0.000"', ("other", True, "upstream", None, UP)),
    (f'502 157{AGENT} rt=0.040 uaddr="{UP}" ustatus="502" uct="0.000" uht="-" urt="0.040"', ("ended", True, "upstream", None, UP)),
    (
        f'504 167{AGENT} rt=0.729 uaddr="{UP}" ustatus="504" uct="0.000" uht="-" urt="0.730"',
        ("timeout_reading", True, "upstream", None, UP),
    ),
    (f'504 167{AGENT} rt=0.729 uaddr="{UP}" ustatus="504" uct="-" uht="-" urt="0.7"', ("timeout_connecting", True, "upstream", None, UP)),
    (f'502 4{AGENT} rt=0.000 uaddr="{UP}" ustatus="502" uct="0.000" uht="0.000" urt="0.000"', None),
    (f'499 0{AGENT} rt=0.212 uaddr="{UP}" ustatus="-" uct="0.000" uht="-" urt="0.213"', ("canceled", True, "upstream", None, UP)),
    (f'200 2{AGENT} uaddr="{UP}, 10.0.1.3:80" ustatus="502, 200" uct="-, 0.0" uht="-, 0.0"', ("other", True, "upstream", None, UP)),
    (f'200 3{AGENT} rt=0.018 uaddr="{UP}" ustatus="200" uct="0.000" uht="0.018" urt="0.018"', None),
    (f"502 157{AGENT} 81 0.040 [app] [] {UP} 0 0.040 502 cc8070a1", ("other", True, "upstream", None, UP)),
    (f"504 167{AGENT} 81 0.729 [app] [] {UP} 0 0.730 504 b0bbd9a8", ("timeout", True, "upstream", None, UP)),
    (f"502 4{AGENT} 82 0.000 [app] [] {UP} 4 0.000 502 65e92e8e", None),
    (f"200 2{AGENT} 82 0.001 [app] [] {UP}, 10.0.1.3:80 0, 2 0.000, 0.000 502, 200 0028", ("other", True, "upstream", None, UP)),
    (f"502 157{AGENT}", None),
    (f"499 0{AGENT}", ("canceled", True, "client", None, None)),
    (f"200 502{AGENT}", None),
    (f"502 157{AGENT} upstream_addr=[2001:db8::2]:80", ("other", True, "upstream", None, "[2001:db8::2]:80")),
]


@pytest.mark.parametrize(("tail", "expected"), NGINX)
def test_nginx_in_text(tail: str, expected: Seen | None) -> None:
    parsed = nginx_access.parse(N + tail)
    assert seen(parsed) == expected
    if parsed is not None:
        assert (parsed.asked, parsed.client, parsed.naive_time_ns) == ("/81?a=1", "10.0.0.9", 1_795_292_631 * 10**9)
        assert parsed.zone_offset_s == 0


def test_nginx_in_json() -> None:
    line = {
        "time_iso8601": "2026-11-21T20:23:52+00:00", "msec": "1795292632.652", "remote_addr": "10.0.0.9", "request": "GET /83 HTTP/1.1",
        "status": 504, "request_time": 0.729, "upstream_addr": UP, "upstream_status": "504", "upstream_connect_time": "0.000",
        "upstream_header_time": "-", "upstream_response_time": "0.730",
    }  # fmt: skip
    parsed = nginx_access.parse_object(line, json.dumps(line))
    assert seen(parsed) == ("timeout_reading", True, "upstream", None, UP)
    assert parsed is not None
    assert (parsed.asked, parsed.waited_ns, parsed.naive_time_ns) == ("/83", 730_000_000, 1_795_292_632_652_000_000)
    assert nginx_access.parse_object({**line, "upstream_header_time": "0.7"}, "") is None
    assert nginx_access.parse_object({"status": 502}, "") is None
    assert nginx_access.parse_object({**line, "status": 200, "upstream_status": "200"}, "") is None
    assert nginx_access.parse_object({**line, "status": [1], "upstream_addr": {}}, "") is None


# As HAProxy 2.6.12 wrote them.
H = "127.0.0.1:33508 [21/Nov/2026:20:23:48.004] h b80/s1 "
REST = ' 1/1/0/0/0 0/0 "GET /80 HTTP/1.1"'
HAPROXY: list[tuple[str, Seen | None, int | None]] = [
    (f"0/0/-1/-1/0 503 217 - - SC--{REST}", ("refused", True, "upstream", None, None), 4),
    (f"0/0/0/-1/1 502 209 - - SH--{REST}", ("ended", True, "upstream", None, None), 5),
    (f"0/0/0/-1/701 504 198 - - sH--{REST}", ("timeout_reading", True, "upstream", None, None), 705),
    (f"0/0/-1/-1/3003 503 217 - - sC--{REST}", ("timeout_connecting", True, "upstream", None, None), 3007),
    (f"0/0/0/16/16 200 55 - - SD--{REST}", ("ended", True, "upstream", None, None), 20),
    (f"0/0/0/16/+16 200 +55 - - SDNI{REST}", ("ended", True, "upstream", None, None), 20),
    (f"0/0/0/-1/0 502 209 - - SH--{REST} 10.0.0.1:40172 10.0.1.2:80", ("ended", True, "upstream", "10.0.0.1:40172", "10.0.1.2:80"), 4),
    (f"0/0/0/-1/0 502 209 - - SH--{REST} 10.0.1.2:80", ("ended", True, "upstream", None, "10.0.1.2:80"), 4),
    (f"0/0/0/-1/0 502 209 - - SH--{REST} 10.0.0.1:40172", ("ended", True, "upstream", "10.0.0.1:40172", None), 4),
    (f"0/0/0/-1/0 502 9 - - SH--{REST} ::1:40172 2001:db8::2:80", ("ended", True, "upstream", "[::1]:40172", "[2001:db8::2]:80"), 4),
    ("1/0/0 0 SD 1/1/0/0/0 0/0", ("ended", True, "upstream", None, None), 4),
    ("1/-1/0 0 SC 1/1/0/0/0 0/0", ("refused", True, "upstream", None, None), 4),
    ("1/0/60001 0 sD 1/1/0/0/0 0/0", ("timeout", True, "upstream", None, None), 60_005),
    ("1/0/60001 812 sD 1/1/0/0/0 0/0", ("timeout", False, "upstream", None, None), 60_005),
    (f"0/0/0/-1/900 -1 0 - - CH--{REST}", ("canceled", True, "client", None, "127.0.0.1:33508"), 904),
    (f"-1/-1/-1/-1/3000 408 0 - - cR--{REST} SH", ("timeout_reading", False, "client", None, "127.0.0.1:33508"), 3004),
    (f"0/0/0/3/3 200 55 - - ----{REST}", None, None),
    (f"0/0/0/3/3 200 55 - - --NI{REST}", None, None),
    ("1/0/10 90 -- 1/1/0/0/0 0/0", None, None),
    (f"0/0/-1/-1/0 400 217 - - PR--{REST}", None, None),
]


@pytest.mark.parametrize(("tail", "expected", "end_ms"), HAPROXY)
@pytest.mark.parametrize("prefix", ["", "haproxy[2494]: ", "Feb  6 12:14:14 lb haproxy[14389]: "])
def test_haproxy(tail: str, expected: Seen | None, end_ms: int | None, prefix: str) -> None:
    parsed = haproxy.parse(prefix + H + tail)
    assert seen(parsed) == expected
    if parsed is not None and end_ms is not None:
        assert parsed.naive_time_ns == 1_795_292_628 * 10**9 + end_ms * 10**6
        assert parsed.zone_offset_s is None
        assert parsed.client == "127.0.0.1"


def test_haproxy_says_how_long_it_waited_and_why_a_server_is_down() -> None:
    parsed = haproxy.parse(f"{H}12/0/5/-1/717 504 198 - - sH--{REST}")
    assert parsed is not None
    assert parsed.waited_ns == 700_000_000
    down = 'Server bk/s1 is DOWN, reason: Layer4 connection problem, info: "Connection refused", check duration: 0ms. 0 active'
    assert seen(haproxy.parse(down)) == ("refused", True, "upstream", None, None)
    assert seen(haproxy.parse("Server bk/s1 is DOWN, reason: Layer4 timeout, check duration: 2001ms.")) == (
        "timeout_connecting", True, "upstream", None, None,
    )  # fmt: skip


# After Envoy's and Istio's stock formats.
def istio(status: str, flags: str, details: str, failure: str, local: str, duration: str = "30004") -> str:
    return (
        f'[2026-11-21T12:00:01.456Z] "POST /orders HTTP/1.1" {status} {flags} {details} - "{failure}" 156 91 {duration} - "-" "agent"'
        f' "f47a" "orders" "10.0.10.5:8080" outbound|8080||orders {local} 10.96.45.67:8080 10.0.0.9:33210 - default'
    )


BODY = "upstream connect error or disconnect/reset before headers"
BEFORE = "upstream_reset_before_response_started"
LOCAL, SERVER = "10.0.10.1:54321", "10.0.10.5:8080"
ENVOY: list[tuple[str, Seen | None]] = [
    (
        istio("503", "UF", f"{BEFORE}{{connection_failure,delayed_connect_error:_111}}", "delayed_connect_error:_111", "-"),
        ("refused", True, "upstream", None, SERVER),
    ),
    (
        istio("503", "UF,URX", f"{BEFORE}{{remote_connection_failure}}", "delayed_connect_error:_113", "-"),
        ("unreachable", True, "upstream", None, SERVER),
    ),
    (istio("503", "UF", f"{BEFORE}{{connection_timeout}}", "-", "-"), ("timeout_connecting", True, "upstream", None, SERVER)),
    (istio("503", "UC", f"{BEFORE}{{connection_termination}}", "-", LOCAL), ("ended", True, "upstream", LOCAL, SERVER)),
    (istio("504", "UT", "response_timeout", "-", LOCAL), ("timeout_reading", True, "upstream", LOCAL, SERVER)),
    (istio("0", "DC", "downstream_remote_disconnect", "-", LOCAL), ("canceled", True, "client", "10.96.45.67:8080", "10.0.0.9:33210")),
    (istio("503", "UR", f"{BEFORE}{{remote_reset}}", "-", LOCAL), ("other", False, "upstream", LOCAL, SERVER)),
    (istio("503", "NC", "cluster_not_found", "-", "-"), None),
    (istio("200", "-", "via_upstream", "-", LOCAL), None),
    (istio("503", "UC", "x", '"quoted"', LOCAL), None),
    (
        '[2016-04-15T20:17:00.310Z] "POST /v1 HTTP/2" 503 UF 154 0 226 - "10.0.35.28" "nsq2http" "cc21" "locations" "10.0.2.1:80"',
        ("other", True, "upstream", None, "10.0.2.1:80"),
    ),
    ('[2016-04-15T20:17:00.310Z] "POST /v1 HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" "cc21" "locations" "10.0.2.1:80"', None),
    (
        f"{BODY}. reset reason: connection failure, transport failure reason: delayed connect error: 111",
        ("refused", True, None, None, None),
    ),
    (f"{BODY}. retried and the latest reset reason: connection termination", ("ended", True, None, None, None)),
]


@pytest.mark.parametrize(("line", "expected"), ENVOY)
def test_envoy(line: str, expected: Seen | None) -> None:
    parsed = envoy.parse(line)
    assert seen(parsed) == expected


def test_envoy_tells_the_end_of_the_request_and_json_is_read_alike() -> None:
    parsed = envoy.parse(istio("504", "UT", "response_timeout", "-", LOCAL))
    assert parsed is not None
    assert (parsed.naive_time_ns, parsed.waited_ns, parsed.asked) == (1_795_262_431_460_000_000, 30_004_000_000, "/orders")
    line = {
        "start_time": "2026-11-21T12:00:01.456Z", "method": "POST", "path": "/orders", "response_code": 504, "response_flags": "UT",
        "duration": 30004, "upstream_host": SERVER, "upstream_local_address": LOCAL, "downstream_local_address": "10.96.45.67:8080",
        "downstream_remote_address": "10.0.0.9:33210", "response_code_details": "response_timeout",
    }  # fmt: skip
    text = json.dumps(line)
    told = envoy.parse_object(line, text)
    assert told is not None
    assert seen(told) == seen(parsed)
    assert (told.naive_time_ns, told.waited_ns, told.asked) == (parsed.naive_time_ns, parsed.waited_ns, parsed.asked)
    assert envoy.parse_object({**line, "response_flags": "-"}, text) is None
    assert envoy.parse_object({**line, "duration": True, "path": []}, text) is not None


# After Traefik's access log formats.
T = '10.0.0.9 - - [21/Nov/2026:20:23:51 +0000] "GET /x HTTP/1.1" '
TRAEFIK: list[tuple[str, Seen | None]] = [
    (T + '502 11 "-" "-" 7 "app@docker" "http://10.0.1.2:80" 3ms', ("other", True, "upstream", None, "10.0.1.2:80")),
    (T + '504 15 "-" "-" 7 "app@docker" "http://[2001:db8::2]:80" 30003ms', ("timeout", True, "upstream", None, "[2001:db8::2]:80")),
    (T + '499 21 "-" "-" 7 "app@docker" "https://10.0.1.2" 3ms', ("canceled", True, "client", None, None)),
    (T + '502 312 "-" "-" 7 "app@docker" "http://10.0.1.2:80" 3ms', None),
    (T + '502 11 "-" "-" 7 "-" "" 0ms', None),
    (T + '200 11 "-" "-" 7 "app@docker" "http://10.0.1.2:80" 3ms', None),
    (
        'time="2026-11-21T20:23:51Z" level=debug msg="\'502 Bad Gateway\' caused by: dial tcp 10.0.1.2:80: connect: connection refused"',
        ("refused", True, "upstream", None, "10.0.1.2:80"),
    ),
    ("504 Gateway Timeout: EOF", ("eof", True, "upstream", None, None)),
]


@pytest.mark.parametrize(("line", "expected"), TRAEFIK)
def test_traefik(line: str, expected: Seen | None) -> None:
    assert seen(traefik.parse(line)) == expected


def test_traefik_in_json() -> None:
    line = {
        "ClientAddr": "10.0.0.9:50000", "DownstreamStatus": 504, "DownstreamContentSize": 15, "ServiceAddr": "10.0.1.2:80",
        "Duration": 30_000_000_000, "RequestPath": "/x", "StartUTC": "2026-11-21T20:23:51.5Z",
    }  # fmt: skip
    told = traefik.parse_object(line, "")
    assert seen(told) == ("timeout", True, "upstream", None, "10.0.1.2:80")
    assert told is not None
    assert (told.naive_time_ns, told.waited_ns, told.asked, told.client) == (1_795_292_661_500_000_000, 30_000_000_000, "/x", "10.0.0.9")
    assert traefik.parse_object({**line, "DownstreamContentSize": 900}, "") is None
    assert traefik.parse_object({**line, "DownstreamStatus": True}, "") is None
    assert traefik.parse_object({**line, "ServiceAddr": 4}, "") is None
