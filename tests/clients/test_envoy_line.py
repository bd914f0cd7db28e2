"""Istio's access log, text and JSON: requests of HTTP over pooled connections, connections of TCP, and lines that tell no addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.clients.envoy_line import EnvoyLine, parse_envoy
from tcpwhy.clients.logged import logged_translations
from tcpwhy.clients.row import Ends
from tcpwhy.evidence import open_evidence

# The lines are made after EnvoyTextLogFormat of Istio's pilot/pkg/model/telemetry_logging.go.
HTTP = (
    '[2026-11-21T12:00:01.456Z] "POST /orders HTTP/1.1" 503 UC upstream_reset_before_response_started{connection_termination} - "-"'
    ' 156 91 30004 - "-" "python-requests/2.31.0" "f47ac10b-58cc" "orders.shop.svc" "10.0.10.5:8080" outbound|8080||orders.shop.svc'
    " 10.0.10.1:54321 10.96.45.67:8080 10.0.0.9:33210 - default"
)
TCP = (
    '[2026-11-21T12:00:01.456Z] "- - -" 0 - - - "-" 1033 3435 5000 - "-" "-" "-" "-" "[2001:db8::5]:443" outbound|443||db.shop.svc'
    " [2001:db8::1]:60652 [2001:db8:9::9]:443 [2001:db8::9]:45614 db.shop.svc -"
)
BEGIN_NS = 1795262401_456000000
JSON = json.dumps({
    "start_time": "2026-11-21T12:00:01.456Z", "method": "GET", "protocol": "HTTP/2", "duration": 12, "upstream_host": "10.0.10.5:8080",
    "upstream_cluster": "outbound|8080||orders", "upstream_local_address": "10.0.10.1:54321",
    "downstream_local_address": "10.96.45.67:8080", "downstream_remote_address": "10.0.0.9:33210",
})  # fmt: skip


def test_a_request_of_http() -> None:
    expected = EnvoyLine(
        "10.0.0.9:33210", "10.96.45.67:8080", "10.0.10.1:54321", "10.0.10.5:8080", is_http=True, begin_ns=BEGIN_NS, duration_ns=30004_000000
    )
    assert parse_envoy(HTTP) == expected
    told = parse_envoy(JSON)
    assert told is not None
    assert (told.client, told.asked, told.local, told.server) == (expected.client, expected.asked, expected.local, expected.server)
    assert (told.is_http, told.begin_ns, told.duration_ns) == (True, BEGIN_NS, 12_000000)


def test_a_connection_of_tcp() -> None:
    assert parse_envoy(TCP) == EnvoyLine(
        "[2001:db8::9]:45614", "[2001:db8:9::9]:443", "[2001:db8::1]:60652", "[2001:db8::5]:443",
        is_http=False, begin_ns=BEGIN_NS, duration_ns=5_000_000000,
    )  # fmt: skip
    of_json = json.dumps({**json.loads(JSON), "method": None, "protocol": None})
    told = parse_envoy(of_json)
    assert told is not None
    assert not told.is_http


@pytest.mark.parametrize(
    "line",
    [
        HTTP.replace("10.0.10.1:54321", "-"),
        HTTP.replace("10.0.0.9:33210", "10.0.0.9:0"),
        HTTP.replace("10.0.0.9:33210", "envoy://internal/"),
        HTTP.replace('"10.0.10.5:8080"', '"-"'),
        HTTP.replace(" - default", ""),
        HTTP.replace("2026-11-21T", "2026-13-41T"),
        HTTP.partition(" 10.0.10.1:")[0],
        HTTP.replace(" - default", ' x "10.0.10.5:8080" outbound|8080|| 10.0.10.1:54321 10.96.45.67:8080 6.6.6.6:666 - default'),
        JSON.replace('"10.0.10.1:54321"', "null"),
        JSON.replace("Z", ""),
        JSON[:-2],
        "[" * 5000,
        '{"a":' * 5000,
    ],
)
def test_what_lacks_an_address_or_is_cut_names_nobody(line: str) -> None:
    assert parse_envoy(line) is None


@pytest.mark.parametrize("prefix", ["", "2026-11-21T12:00:02.000000000Z stdout F ", "[pod/gateway-0/istio-proxy] "])
def test_in_a_log_under_what_wraps_it(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "access.log").write_text(f"{prefix}{HTTP}\n{prefix}{TCP}\n{prefix}{JSON}\n")
    with open_evidence([str(tmp_path)]) as evidence:
        found = list(logged_translations(evidence))
    before, behind = Ends("10.0.0.9", 33210, "10.96.45.67", 8080), Ends("10.0.10.1", 54321, "10.0.10.5", 8080)
    assert [(one.before, one.behind, one.may_be_shared, one.is_open) for one in found if one.source.line != 2] == [
        (before, behind, True, True),
        (before, behind, True, True),
    ]
    tcp = [one for one in found if one.source.line == 2]
    assert [(one.taken_ns, one.is_open, one.may_be_shared) for one in tcp] == [
        (BEGIN_NS, True, False),
        (BEGIN_NS + 5_000_000000, False, False),
    ]
    assert tcp[0].before == Ends("2001:db8::9", 45614, "2001:db8:9::9", 443)


@given(st.sampled_from([HTTP, TCP, JSON]), st.integers(0, 400), st.integers(0, 20), st.text(max_size=20))
def test_damage_before_the_addresses_changes_none_of_them(line: str, at: int, left_out: int, put: str) -> None:
    told = parse_envoy(line[:at] + put + line[at + left_out :])
    if told is not None and line != JSON and at + left_out < line.rfind('"', 0, line.rfind('"')):  # text that stays as it was
        whole = parse_envoy(line)
        assert whole is not None
        assert (told.client, told.asked, told.local, told.server) == (whole.client, whole.asked, whole.local, whole.server)
