"""What a listener's kernel ignored, and what its state says of the queue: found by the counter's rise or by ss, never by ListenDrops."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tcpwhy.diagnosis.finding import Report
from tests.causes.cases import CLIENT, SERVICE, capture, only, others, report, state, unanswered, verdicts
from tests.packets import Tcp, exchange, shifted
from tests.path.states import ROUTER

ID = "accept-queue-overflow"
assert isinstance(ROUTER["ip-route.json"], list)
BACK = [*ROUTER["ip-route.json"], {"dst": "default", "gateway": "10.0.0.254", "dev": "eth0"}]
FULL = 'LISTEN 129 128 0.0.0.0:80 0.0.0.0:* users:(("java",pid=31,fd=6))\n'
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def counters(**values: int) -> str:
    """Of nstat."""
    return "#kernel\n" + "".join(f"{name} {value} 0.0\n" for name, value in values.items())


def case(
    folder: Path, segments: list[Tcp], *, after: str = "", before: str = "", ss: str = "", settings: dict[str, int] | None = None
) -> Report:
    """The server's capture and state, with one snapshot or two."""
    files: dict[str, object] = {"ip-route.json": BACK, **({"nstat.txt": after} if after else {}), **({"ss-tcp.txt": ss} if ss else {})}
    state(folder / "rs1/state", files, settings=settings)
    if before:
        (folder / "rs1/state-before").mkdir()
        (folder / "rs1/state-before/nstat.txt").write_text(before)
    capture(folder / "rs1/eth0.pcap", [*segments, *others()])
    return report(folder)


def ignored_ack(at_ms: float = 500) -> list[Tcp]:
    """The last ACK and the request come, the SYN-ACK is repeated, the request too, and the client gives up."""
    c, s = 6, 9001
    segments = [
        Tcp(at_ms, CLIENT, SERVICE, "S", 5, ip_id=1, ttl=61, stamps=(1, 0)),
        Tcp(at_ms + 0.1, SERVICE, CLIENT, "SA", 9000, c, stamps=(90, 1)),
        Tcp(at_ms + 20, CLIENT, SERVICE, "A", c, s, ip_id=2, ttl=61, stamps=(21, 90)),
        Tcp(at_ms + 21, CLIENT, SERVICE, "PA", c, s, REQUEST, ip_id=3, ttl=61, stamps=(22, 90)),
    ]
    for number, at in enumerate((250, 700, 1600, 3400)):
        segments.append(Tcp(at_ms + at, CLIENT, SERVICE, "PA", c, s, REQUEST, ip_id=4 + number, ttl=61, stamps=(at, 90)))
    segments += [Tcp(at_ms + at, SERVICE, CLIENT, "SA", 9000, c, stamps=(at, 1)) for at in (1020, 3040)]
    segments.append(Tcp(at_ms + 5000, CLIENT, SERVICE, "FA", c + len(REQUEST), s, ip_id=20, ttl=61, stamps=(5000, 90)))
    return segments


def test_the_counter_s_rise_around_ignored_syns_confirms(tmp_path: Path) -> None:
    found = only(case(tmp_path, unanswered(), after=counters(TcpExtListenOverflows=14), before=counters(TcpExtListenOverflows=10)))
    assert (found.cause, found.confidence, found.connection_count) == (ID, "confirmed", 1)
    assert "ListenOverflows rose by 4" in found.explanation
    assert "nginx (pid 812)" in found.explanation
    assert any("net.core.somaxconn" in line for line in found.fix)


def test_a_rise_smaller_than_what_was_ignored_proves_nothing(tmp_path: Path) -> None:
    told = case(tmp_path, unanswered(), after=counters(TcpExtListenOverflows=12), before=counters(TcpExtListenOverflows=10))
    assert (ID, "possible") in verdicts(told)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


@pytest.mark.parametrize("rival", ["TcpInCsumErrors", "TcpExtTCPReqQFullDrop", "TcpExtTCPMD5NotFound"])
def test_one_snapshot_makes_it_likely_unless_something_else_drops_too(tmp_path: Path, rival: str) -> None:
    found = only(case(tmp_path / "alone", unanswered(), after=counters(TcpExtListenOverflows=10, **{rival: 0})))
    assert (found.cause, found.confidence) == (ID, "likely")
    told = case(tmp_path / "both", unanswered(), after=counters(TcpExtListenOverflows=10, **{rival: 3}))
    assert (ID, "possible") in verdicts(told)
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_listen_drops_alone_prove_nothing_and_no_overflow_rules_it_out(tmp_path: Path) -> None:
    told = case(tmp_path, unanswered(), after=counters(TcpExtListenDrops=9, TcpExtListenOverflows=0))
    assert ID not in {cause for cause, _ in verdicts(told)}
    why = [one.because for finding in told.findings for one in finding.ruled_out if one.cause == ID]
    assert why == [] or "TcpExtListenOverflows is 0" in why[0]


def test_a_full_listener_confirms(tmp_path: Path) -> None:
    found = only(case(tmp_path, unanswered(), ss=FULL))
    assert (found.cause, found.confidence) == (ID, "confirmed")
    assert "ss shows 129 waiting, where the backlog is 128" in found.explanation
    assert any(one.text.startswith("java (pid 31) listens on") and one.line == 1 for one in found.evidence)


def test_a_full_listener_whose_counter_is_zero_was_not_full_then(tmp_path: Path) -> None:
    told = case(tmp_path, unanswered(), ss=FULL, after=counters(TcpExtListenOverflows=0))
    assert all(confidence == "possible" for _, confidence in verdicts(told))


def test_an_ignored_last_ack_is_confirmed_by_the_counter_and_possible_without_it(tmp_path: Path) -> None:
    after, before = counters(TcpExtListenOverflows=30), counters(TcpExtListenOverflows=1)
    found = only(case(tmp_path / "counted", ignored_ack(), after=after, before=before))
    assert (found.cause, found.confidence) == (ID, "confirmed")
    assert "its SYN-ACK 2 times more" in found.explanation
    told = case(tmp_path / "uncounted", ignored_ack())
    assert (ID, "possible") in verdicts(told)
    refuted = case(tmp_path / "refuted", ignored_ack(), after=counters(TcpExtListenOverflows=0))
    assert ID not in {cause for cause, _ in verdicts(refuted)}


def _at_the_server(segments: list[Tcp]) -> list[Tcp]:
    """Three routers and a tenth of a millisecond behind the client."""
    return [
        one
        for each in segments
        for one in shifted([each], 0.1 if each.destination == SERVICE else -0.1, ttl=61 if each.destination == SERVICE else 64)
    ]


def test_a_last_ack_that_never_came_is_not_ignored(tmp_path: Path) -> None:
    """The client's packets behind the SYN are lost on the way: the server repeats its SYN-ACK all the same."""
    segments = ignored_ack()
    there = [one for one in segments if one.source == SERVICE or one.flags == "S"]
    capture(tmp_path / "client/eth0.pcap", [*shifted(segments, 0, ttl=64), *others(20)])
    capture(tmp_path / "server/eth0.pcap", [*_at_the_server(there), *_at_the_server(others(20))])
    assert ID not in {cause for cause, _ in verdicts(report(tmp_path))}


def test_tcp_defer_accept_is_healthy(tmp_path: Path) -> None:
    """The last ACK is ignored until data comes, and the SYN-ACK repeated; then all is answered."""
    c, s = 6, 9001
    segments = ignored_ack()[:3]
    segments += [
        Tcp(1520, SERVICE, CLIENT, "SA", 9000, c, stamps=(1110, 1)),
        Tcp(1540, CLIENT, SERVICE, "A", c, s, ip_id=3, ttl=61, stamps=(1040, 1110)),
        Tcp(2500, CLIENT, SERVICE, "PA", c, s, REQUEST, ip_id=4, ttl=61, stamps=(2000, 1110)),
        Tcp(2500.1, SERVICE, CLIENT, "A", s, c + len(REQUEST), ip_id=5, stamps=(2100, 2000)),
        Tcp(2501, SERVICE, CLIENT, "PA", s, c + len(REQUEST), b"HTTP/1.1 200 OK\r\n\r\n", ip_id=6, stamps=(2101, 2000)),
        Tcp(2520, CLIENT, SERVICE, "A", c + len(REQUEST), s + 19, ip_id=5, ttl=61, stamps=(2021, 2101)),
    ]
    told = case(tmp_path, segments, after=counters(TcpExtListenOverflows=7, TcpExtTCPDeferAcceptDrop=2))
    assert (told.totals.failed, told.findings) == (0, ())


def test_tcp_abort_on_overflow_resets_and_0_rules_it_out(tmp_path: Path) -> None:
    reset = [*ignored_ack()[:3], Tcp(520.1, SERVICE, CLIENT, "R", 9001)]
    after, before = counters(TcpExtListenOverflows=4), counters(TcpExtListenOverflows=1)
    found = only(case(tmp_path / "on", reset, after=after, before=before, settings={"net.ipv4.tcp_abort_on_overflow": 1}))
    assert (found.cause, found.confidence) == (ID, "confirmed")
    assert any("tcp_abort_on_overflow=0" in line for line in found.fix)
    told = case(tmp_path / "off", reset, after=after, before=before, settings={"net.ipv4.tcp_abort_on_overflow": 0})
    assert ID not in {cause for cause, _ in verdicts(told)}


def test_syns_ignored_for_seconds_before_one_was_taken_are_a_finding(tmp_path: Path) -> None:
    late = exchange(CLIENT, SERVICE, 7_500, isn=5)
    segments = [*unanswered()[:4], *late[1:]]
    after, before = counters(TcpExtListenOverflows=4), counters(TcpExtListenOverflows=0)
    found = only(case(tmp_path, segments, after=after, before=before))
    assert (found.cause, found.confidence) == (ID, "confirmed")
    assert "A later try was taken." in found.explanation


def test_several_connections_tell_how_many_and_when(tmp_path: Path) -> None:
    more = [
        dataclasses.replace(one, seq=1_000_000 * (number + 1), stamps=(one.stamps[0] + 77_000 * number, 0) if one.stamps else None)
        for number in range(3)
        for one in unanswered(f"192.0.2.7:{40_100 + number}", at_ms=500 + 400 * number)
    ]
    found = only(case(tmp_path, more, after=counters(TcpExtListenOverflows=40), before=counters(TcpExtListenOverflows=0)))
    assert found.connection_count == 3
    assert "3 connections met the full queue" in found.explanation
    assert "the last 0.8 s later" in found.explanation
