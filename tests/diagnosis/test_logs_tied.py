"""Which connection a log's line speaks of, which failures a log alone tells, and what given logs narrow."""

from __future__ import annotations

import dataclasses
import datetime
import time
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy.connections.failure import find_failure
from tcpwhy.diagnosis.finding import Report
from tcpwhy.diagnosis.logs import tie
from tcpwhy.diagnosis.scope import can_have_failed
from tests.packets import START_NS, Tcp, exchange, write_pcap

C, S = "10.0.0.9:40000", "10.0.0.1:80"
BEGIN = datetime.datetime.fromtimestamp(START_NS // 10**9, datetime.UTC)
BROKEN = "net/http: HTTP/1.x transport connection broken: read: connection reset by peer"
RESET_LINE = f"read tcp {C}->{S}: read: connection reset by peer"


def at(seconds: float, hours: int = 0) -> str:
    """A moment after the captures' begin as Go prints it."""
    return (BEGIN + datetime.timedelta(seconds=seconds, hours=hours)).strftime("%Y/%m/%d %H:%M:%S.%f")


def iso(seconds: float) -> str:
    return (BEGIN + datetime.timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def was_reset(client: str = C, at_ms: float = 0, isn: int = 1000, server: str = S) -> list[Tcp]:
    """A request that was answered with RST after 4 ms."""
    return [*exchange(client, server, at_ms, isn=isn)[:4], Tcp(at_ms + 4, server, client, "R", isn + 500_001)]


def case(folder: Path, segments: list[Tcp], log: str, *, zone: str | None = "UTC", name: str = "gw/app.log") -> Path:
    write_pcap(folder / "gw/a.pcap", sorted(segments, key=lambda one: one.at_ms))
    if zone:
        (folder / "tcpwhy.toml").write_text(f'[vantage.gw]\nlog_timezone = "{zone}"\n')
    (folder / name).write_text(log)
    return folder


def report(folder: Path, *logs: Path, **narrowed: str) -> Report:
    with tcpwhy.open_case(folder, index=False, logs=logs) as opened:
        return opened.diagnosis(**narrowed).report  # type: ignore[arg-type]


def log_texts(told: Report) -> set[str]:
    return {one.text for finding in told.findings for one in finding.evidence if one.kind == "log"}


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (RESET_LINE, ""),
        ("read tcp ip-proxy:40000->ip-backend:80: read: connection reset by peer", "hosts printed by name: tied by ports"),
        (f"http: proxy error: readfrom tcp {C}->{S}: splice: connection reset by peer", ""),
        ('Post "http://10.0.0.1/x": EOF', None),
        (f'Get "http://10.0.0.1/x": {BROKEN}', "no port printed: tied by time and address"),
        ("http: proxy error: EOF", None),
        ("http: proxy error: read: connection reset by peer", "no address printed: tied by time and what it says"),
    ],
)
def test_a_line_is_tied_by_the_most_that_it_names_and_never_against_what_packets_show(tmp_path: Path, line: str, note: str | None) -> None:
    told = report(case(tmp_path, was_reset(), f"{at(0.005)} {line}\n"))
    assert told.totals.failed == 1
    if note is None:  # no FIN of the server is there
        assert log_texts(told) == set()
        assert any("no failed connection in the captures fits this line" in one.symptom for one in told.unexplained)
        return
    assert log_texts(told) == {line + (f" ({note})" if note else "")}
    assert not any("app.log" in one.symptom for one in told.unexplained)


def test_of_several_connections_that_fit_the_path_asked_for_decides_and_else_all_are_named(tmp_path: Path) -> None:
    other = [*exchange("10.0.0.9:40001", S, 1, isn=9_000_000)[:3]]
    asks = exchange("10.0.0.9:40001", S, 1, isn=9_000_000)[3]
    other += [Tcp(asks.at_ms, asks.source, asks.destination, "PA", asks.seq, asks.ack, payload=b"GET /other HTTP/1.1\r\n\r\n", ip_id=3)]
    other += [Tcp(6, S, "10.0.0.9:40001", "R", 9_500_001)]
    with_path = f'{at(0.007)} Get "http://10.0.0.1/other": {BROKEN}\n'
    with tcpwhy.open_case(case(tmp_path, [*was_reset(), *other], with_path), index=False) as opened:
        told_to = {str(one.connection.client): [line.alone for line in one.connection.told] for one in opened.diagnosis().judged}
    assert told_to == {C: [], "10.0.0.9:40001": [True]}
    (tmp_path / "gw/app.log").write_text(f'{at(0.007)} Get "http://10.0.0.1": {BROKEN}\n')
    both = report(tmp_path)
    assert any("it is one of 2 connections" in text for text in log_texts(both))


def test_of_connections_that_failed_in_a_row_a_line_speaks_of_the_one_that_failed_then(tmp_path: Path) -> None:
    resets = [*was_reset(), *was_reset("10.0.0.9:40001", 2000, isn=9_000_000)]
    lines = f"{at(0.005)} http: proxy error: {BROKEN}\n{at(2.006)} http: proxy error: {BROKEN}\n"
    with tcpwhy.open_case(case(tmp_path, resets, lines), index=False) as opened:
        told = {str(one.connection.client): [line.line for line in one.connection.told] for one in opened.diagnosis().judged}
    assert told == {C: [1], "10.0.0.9:40001": [2]}


def test_a_clock_without_a_zone_is_right_up_to_quarters_of_an_hour(tmp_path: Path) -> None:
    told = report(case(tmp_path, was_reset(), f"{at(0.005, hours=5)} {RESET_LINE}\n", zone=None))
    assert log_texts(told) == {RESET_LINE}
    (tmp_path / "gw/app.log").write_text(f"{at(200)} {RESET_LINE}\n")
    assert log_texts(report(tmp_path)) == set()
    (tmp_path / "gw/app.log").write_text(f'{at(0.005)} Get "http://10.0.0.1": {BROKEN}\n')
    assert log_texts(report(tmp_path)) == set()


def waiting(client: str = C, isn: int = 1000) -> list[Tcp]:
    """A request that is acknowledged; then the capture ends, long before anybody gave up."""
    sent = exchange(client, S, isn=isn)[:4]
    size = len(sent[3].payload)
    return [*sent, Tcp(4, S, client, "A", isn + 500_001, isn + 1 + size, ip_id=9)]


TIMED_OUT = (
    "{} [error] 1#1: *3 upstream timed out (110: Connection timed out) while reading response header from upstream, client: 10.9.9.9,"
    ' server: x, request: "GET / HTTP/1.1", upstream: "http://10.0.0.1:80/", host: "x"\n'
)


def test_a_log_tells_a_timeout_that_the_capture_did_not_live_to_see(tmp_path: Path) -> None:
    line = TIMED_OUT.format(at(20)[:19])
    folder = case(tmp_path, [*waiting(), *exchange("10.0.0.9:41000", S, 100, isn=77_000_000)], "")
    assert report(folder).totals.failed == 0
    (tmp_path / "gw/app.log").write_text(line)
    told = report(folder)
    assert told.totals.failed == 1
    connections = {one.client for finding in told.findings for one in finding.connections} | {one.client for one in told.unexplained}
    assert connections == {C}
    with tcpwhy.open_case(folder, index=False) as opened:
        assert len(opened.diagnosis().judged) == 1
        (judged,) = opened.diagnosis().judged
        (line_told,) = judged.connection.told
        assert (line_told.kind, line_told.speaker, line_told.alone, line_told.by_ports) == ("timeout_reading", "client", True, False)
        assert len(opened.connections(failed=True).rows()) == 1


def test_a_timeout_that_several_waiting_connections_fit_makes_none_of_them_a_failure(tmp_path: Path) -> None:
    folder = case(tmp_path, [*waiting(), *waiting("10.0.0.9:40001", isn=9_000_000)], TIMED_OUT.format(at(20)[:19]))
    told = report(folder)
    assert told.totals.failed == 0
    assert [one.symptom.startswith("gw/app.log:1") for one in told.unexplained] == [True]


def test_a_log_tells_that_a_last_syn_was_given_up(tmp_path: Path) -> None:
    syn = Tcp(100, "10.0.0.9:40009", S, "S", 5, ip_id=1)
    folder = case(tmp_path, [*exchange(C, S), syn], f"{at(30.1)} dial tcp {S}: i/o timeout\n")
    told = report(folder)
    assert told.totals.failed == 1
    assert {one.client for finding in told.findings for one in finding.connections} == {"10.0.0.9:40009"}


def test_what_a_log_says_of_a_connection_that_did_well_is_no_failure_of_it(tmp_path: Path) -> None:
    folder = case(tmp_path, exchange(C, S), f"{at(0.02)} http: proxy error: write tcp {C}->{S}: use of closed network connection\n")
    told = report(folder)
    assert (told.totals.failed, told.findings, told.unexplained) == (0, (), ())
    (tmp_path / "gw/app.log").write_text(f"{at(0.02)} {RESET_LINE}\n")
    told = report(folder)
    assert (told.totals.failed, told.findings) == (0, ())
    assert ["in the captures this connection shows no failure" in one.symptom for one in told.unexplained] == [True]


def test_given_logs_narrow_what_is_examined_and_logs_of_the_case_do_not(tmp_path: Path) -> None:
    other = was_reset("10.0.0.9:41000", 60_000, isn=9_000_000, server="10.0.0.2:8080")
    line = f"{at(0.005)} {RESET_LINE}\n"
    folder = case(tmp_path / "case", [*was_reset(), *other], line)
    whole = report(folder)
    assert (whole.totals.connections, whole.totals.failed) == (2, 2)
    given = tmp_path / "given.log"
    given.write_text(f"all is well\n{line}")
    (folder / "gw/app.log").write_text(f"{at(60.005)} read tcp 10.0.0.9:41000->10.0.0.2:8080: read: connection reset by peer\n")
    told = report(folder, Path(f"gw={given}"))
    assert (told.totals.connections, told.totals.failed) == (1, 1)
    assert {one.client for finding in told.findings for one in finding.connections} == {C}
    assert any("given.log: 1 line of failures; examined were the 1 of 2 connections that it can speak of" in note for note in told.notes)
    assert not any("app.log" in one.symptom for one in told.unexplained)


@pytest.mark.parametrize(
    ("line", "examined"),
    [
        (f"dial tcp {S}: i/o timeout", 1),
        ("dial tcp 10.0.0.2:8080: connect: connection refused", 0),
        ("read tcp x:40000->y:80: read: connection reset by peer", 1),
        ("http: proxy error: EOF", 1),
        ('Get "http://10.0.0.2:8080/x": EOF', 0),
    ],
)
def test_given_logs_narrow_by_server_ports_place_and_time(tmp_path: Path, line: str, examined: int) -> None:
    other = was_reset("10.0.0.9:41000", 600_000, isn=9_000_000, server="10.0.0.2:8080")
    folder = case(tmp_path / "case", [*was_reset(), *other], "")
    given = tmp_path / "gw.log"
    given.write_text(f"{at(0.005)} {line}\n")
    told = report(folder, Path(f"gw={given}"))
    assert told.totals.connections == examined
    assert told.totals.failed == examined
    assert len(told.notes) == 1


def test_a_given_log_without_a_failure_narrows_nothing_and_other_narrowing_wins(tmp_path: Path) -> None:
    folder = case(tmp_path / "case", [*was_reset(), *was_reset("10.0.0.9:41000", 60_000, isn=9_000_000)], "")
    given = tmp_path / "gw.log"
    given.write_text("all is well\n")
    told = report(folder, Path(f"gw={given}"))
    assert told.totals.connections == 2
    assert any("no line of a failure was found, so that all connections were examined" in note for note in told.notes)
    given.write_text(f"{at(0.005)} {RESET_LINE}\n")
    told = report(folder, Path(f"gw={given}"), connection=f"10.0.0.9:41000-{S}")
    assert {one.client for finding in told.findings for one in finding.connections} == {"10.0.0.9:41000"}
    assert told.totals.connections == 1


def test_members_of_an_exported_hit_name_both_ends(tmp_path: Path) -> None:
    hit = (
        f'{{"_index":"gw","_source":{{"@timestamp":"{iso(0.005)}","message":"http: proxy error: read: connection reset by peer",'
        '"source":{"ip":"10.0.0.9","port":40000},"destination":{"ip":"10.0.0.1","port":80}}}\n'
    )
    told = report(case(tmp_path, was_reset(), hit, zone=None, name="gw/hits.ndjson"))
    assert log_texts(told) == {"http: proxy error: read: connection reset by peer"}


def test_a_log_without_a_zone_is_read_in_the_only_one_that_its_lines_fit(tmp_path: Path) -> None:
    resets = [was_reset(f"10.0.0.9:4000{number}", number * 20_000, isn=1000 + number * 10_000_000) for number in range(4)]
    lines = [f"{at(number * 20 + 0.005, hours=8)} http: proxy error: {BROKEN}\n" for number in range(4)]
    folder = case(tmp_path, [one for own in resets for one in own], "".join(lines), zone=None)
    with tcpwhy.open_case(folder, index=False) as opened:
        told = [(str(one.connection.client), [line.line for line in one.connection.told]) for one in opened.diagnosis().judged]
    assert sorted(told) == [(f"10.0.0.9:4000{number}", [number + 1]) for number in range(4)]
    (folder / "gw/app.log").write_text("".join(lines[:2]))
    assert log_texts(report(folder)) == set()


def test_a_storm_of_lines_and_failures_is_tied_in_time(tmp_path: Path) -> None:
    resets = [was_reset(f"10.0.0.9:{20_000 + number}", number * 5, isn=1 + number * 1_000_000) for number in range(300)]
    lines = [f"{at(number / 200)} dial tcp {S}: i/o timeout\n{at(number / 200)} http: proxy error: {BROKEN}\n" for number in range(300)]
    folder = case(tmp_path, [one for own in resets for one in own], "".join(lines * 5))
    with tcpwhy.open_case(folder, index=False) as opened:
        assembly = opened.assembly()
        built = list(assembly.connections(can_have_failed(assembly, [])).values())
        for connection in built:
            connection.failure = find_failure(connection, answers_seen=True)
        began = time.process_time()
        tied = tie(opened.log_events(), built, lambda _place, time_ns: time_ns)
        assert time.process_time() - began < 15
    assert len(tied) == 3000
    assert sum(bool(line.connections) for line in tied) == 1500


def test_a_line_is_no_other_host_s_connection(tmp_path: Path) -> None:
    folder = case(tmp_path, exchange(C, S), f"{at(0.005)} http: proxy error: {BROKEN}\n{at(30)} dial tcp {S}: i/o timeout\n")
    strangers = [*was_reset("10.7.7.7:41000", isn=9_000_000), Tcp(100, "10.7.7.7:40009", S, "S", 5, ip_id=1)]
    arrived = [dataclasses.replace(one, at_ms=one.at_ms + (0.2 if one.source == C else -0.2)) for one in exchange(C, S)]
    write_pcap(folder / "server/a.pcap", sorted([*arrived, *strangers], key=lambda one: one.at_ms))
    told = report(folder)
    assert log_texts(told) == set()
    assert sum("no failed connection in the captures fits" in one.symptom for one in told.unexplained) == 2
    assert told.totals.failed == 1


def test_a_client_that_went_away_and_had_its_answer_is_no_failure(tmp_path: Path) -> None:
    """Of HAProxy with the client's port, and of nginx with its address alone."""
    moment = BEGIN.strftime("%d/%b/%Y:%H:%M:%S")
    lines = (
        f'{C} [{moment}.000] f b/s1 0/0/0/1/7 200 9 - - CD-- 1/1/0/0/0 0/0 "GET / HTTP/1.1"\n'
        f'10.0.0.9 - - [{moment} +0000] "GET / HTTP/1.1" 499 0 "-" "curl"\n'
        f'10.8.8.8 - - [{moment} +0000] "GET / HTTP/1.1" 499 0 "-" "curl"\n'
    )
    told = report(case(tmp_path, exchange(C, S), lines))
    assert (told.totals.failed, told.findings) == (0, ())
    assert [one.symptom.split(":")[1] for one in told.unexplained] == ["3"]


DAY = BEGIN.strftime("%d/%b/%Y:%H:%M:%S")
HAPROXY = f"10.9.9.9:3300 [{DAY}.000] f b/s1 0/0/0/-1/4 502 9 - - SH-- 1/1/0/0/0 0/0"
ISTIO = (
    f'[{BEGIN:%Y-%m-%dT%H:%M:%S}.000Z] "GET / HTTP/1.1" 503 UC upstream_reset_before_response_started{{connection_termination}} - "-" 0 9 4'
    ' - "-" "agent" "id" "app" "10.0.0.1:80" outbound|80||app LOCAL 10.96.0.1:80 10.9.9.9:3300 - default'
)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (f"{HAPROXY} {C} {S}", ""),
        (f'{HAPROXY} "GET / HTTP/1.1"', "no address printed: tied by time and what it says"),
        (HAPROXY.replace("SH--", "SC--"), None),
        (HAPROXY.replace("SH--", "sC--"), None),
        (
            f'10.9.9.9 - - [{DAY} +0000] "GET / HTTP/1.1" 502 9 "-" "c" uaddr="{S}" uct="0.001" uht="-"',
            "no port printed: tied by time and address",
        ),
        (f'10.9.9.9 - - [{DAY} +0000] "GET / HTTP/1.1" 502 9 "-" "c" uaddr="10.0.0.2:80" uct="0.001" uht="-"', None),
        (ISTIO.replace("LOCAL", C), ""),
        (ISTIO.replace("LOCAL", "-"), "no port printed: tied by time and address"),
        (ISTIO.replace("LOCAL", "10.0.0.9:40001"), None),
    ],
)
def test_lines_of_proxies_are_tied_to_the_upstream_connection(tmp_path: Path, line: str, note: str | None) -> None:
    told = report(case(tmp_path, was_reset(), f"{line}\n"))
    assert told.totals.failed == 1
    expected = set() if note is None else {line + (f" ({note})" if note else "")}
    assert log_texts(told) == expected
    assert any("app.log:1" in one.symptom for one in told.unexplained) == (note is None)
