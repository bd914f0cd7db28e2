"""Ends that fall silent: for all their connections, for one, with a router's word, and with a sign of life after all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tcpwhy.diagnosis.finding import Report
from tests.causes.cases import report, verdicts
from tests.packets import Icmp, Tcp, exchange, shifted, write_pcap

SERVER, SECOND = "10.0.0.1:80", "10.0.0.2:80"
REQUEST, ANSWER = b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
TRIES_MS = (0, 200, 600, 1_400, 3_000, 6_200)
GONE_MS = 10_000


def cut(client: str, at_ms: float, isn: int) -> list[Tcp]:
    """An exchange, and then a request from GONE_MS on that nobody answers any more."""
    whole = exchange(client, SERVER, at_ms, isn=isn)[:5]
    last = whole[-1]
    c, s = isn + 1 + len(b"GET / HTTP/1.1\r\n\r\n"), last.seq + len(last.payload)
    ack = Tcp(last.at_ms + 1, client, SERVER, "A", c, s, ip_id=20, stamps=(20, 90))
    tries = [
        Tcp(GONE_MS + at_ms + later, client, SERVER, "PA", c, s, REQUEST, ip_id=30 + number, stamps=(100 + number, 90))
        for number, later in enumerate(TRIES_MS)
    ]
    return [*whole, ack, *tries]


def begun(client: str, at_ms: float) -> list[Tcp]:
    """A SYN that nobody answers."""
    return [
        Tcp(at_ms + later, client, SERVER, "S", 5, ip_id=90 + number, stamps=(int(later), 0))
        for number, later in enumerate((0, 1_000, 3_000, 7_000))
    ]


def life(service: str, count: int = 12, begin_ms: float = 0) -> list[Tcp]:
    """Exchanges with another server, every two seconds."""
    return [
        one
        for number in range(count)
        for one in exchange(f"10.0.0.77:{42_000 + number}", service, begin_ms + number * 2_000, isn=7_000_000 * (number + 1))
    ]


def told(folder: Path, packets: Sequence[Tcp | Icmp]) -> Report:
    write_pcap(folder / "here/eth0.pcap", sorted(packets, key=lambda one: one.at_ms))
    return report(folder)


def test_all_connections_and_new_ones_at_once_are_likely_from_one_place(tmp_path: Path) -> None:
    hit = [*cut("10.0.0.7:40001", 100, 1_000), *cut("10.0.0.8:40002", 150, 2_000_000), *begun("10.0.0.7:40003", GONE_MS + 500)]
    seen = told(tmp_path, [*hit, *life(SECOND)])
    assert verdicts(seen) == {("peer-vanished", "likely")}
    (found,) = seen.findings
    assert found.connection_count == 3
    assert "2 established ones and a new one" in found.explanation
    assert "All 3 connections met the same silence." in found.explanation
    assert any(one.cause == "packet-loss" for one in found.ruled_out)
    assert "TCP_USER_TIMEOUT" in found.fix[1]


def test_a_request_that_still_came_to_the_host_as_it_went_does_not_make_it_the_last_that_was_heard(tmp_path: Path) -> None:
    """Its own capture holds one more request, and ends; where the others were last heard is the place before it, for this one too."""
    hit = [*cut("10.0.0.7:40001", 100, 1_000), *cut("10.0.0.8:40002", 150, 2_000_000), *cut("10.0.0.9:40004", 190, 5_000_000)]
    own = [one for one in hit if one.at_ms < GONE_MS + 120]
    assert sum(one.payload == REQUEST for one in own) == 1
    (tmp_path / "server").mkdir()
    write_pcap(tmp_path / "server/eth0.pcap", shifted(sorted(own, key=lambda one: one.at_ms), 0.1, ttl=63))
    seen = told(tmp_path, [*hit, *life(SECOND)])
    assert [(one.cause, one.connection_count) for one in seen.findings if one.confidence != "possible"] == [("peer-vanished", 3)]


@pytest.mark.parametrize("alone", ["one connection", "nobody else"])
def test_what_cannot_be_compared_stays_possible(tmp_path: Path, alone: str) -> None:
    first, second = cut("10.0.0.7:40001", 100, 1_000), cut("10.0.0.8:40002", 150, 2_000_000)
    seen = told(tmp_path, [*first, *life(SECOND)] if alone == "one connection" else [*first, *second])
    assert ("peer-vanished", "possible") in verdicts(seen)
    assert all(confidence == "possible" for _, confidence in verdicts(seen))
    finding = next(one for one in seen.findings if one.cause == "peer-vanished")
    words = "no other connection spoke to it" if alone == "one connection" else "no other connection went on"
    assert words in finding.explanation
    assert any(text.startswith("`tcpdump -ni any -s 160 -w server.pcap tcp port 80` on 10.0.0.1") for text in finding.next_evidence)


def test_a_later_sign_of_life_rules_it_out(tmp_path: Path) -> None:
    hit = [*cut("10.0.0.7:40001", 100, 1_000), *cut("10.0.0.8:40002", 150, 2_000_000)]
    alive = exchange("10.0.0.9:40005", SERVER, GONE_MS + 5_000, isn=99_000_000)
    seen = told(tmp_path, [*hit, *alive, *life(SECOND)])
    assert seen.totals.failed == 2
    assert "peer-vanished" not in {cause for cause, _ in verdicts(seen)}


@pytest.mark.parametrize(("late_ms", "confidence"), [(3_000, "likely"), (20, "possible")])
def test_a_router_says_so_in_time_or_too_soon_to_have_asked(tmp_path: Path, late_ms: int, confidence: str) -> None:
    far = [*cut("10.0.0.7:40001", 100, 1_000), *cut("10.0.0.8:40002", 100, 2_000_000)]
    hit = [dataclasses.replace(one, ttl=61) if one.source == SERVER else one for one in far]
    spoken = [one for one in hit if one.at_ms >= GONE_MS]
    heard_ms = max(one.at_ms for one in hit if one.source == SERVER)
    errors = [Icmp(heard_ms + late_ms, "10.0.0.254", 3, 1, one) for one in (spoken[0], spoken[len(TRIES_MS)])]
    seen = told(tmp_path, [*hit, *errors, *life(SECOND)])
    assert ("peer-vanished", confidence) in verdicts(seen)


def test_behind_routers_one_place_cannot_tell_it_from_a_broken_way(tmp_path: Path) -> None:
    hit = [*cut("10.0.0.7:40001", 100, 1_000), *cut("10.0.0.8:40002", 150, 2_000_000)]
    seen = told(tmp_path, [*(dataclasses.replace(one, ttl=61) if one.source == SERVER else one for one in hit), *life(SECOND)])
    finding = next(one for one in seen.findings if one.cause == "peer-vanished")
    assert finding.confidence == "possible"
    assert "3 routers between here and it may have cut it off" in finding.explanation


def test_two_places_confirm_it(tmp_path: Path) -> None:
    sent = [*cut("10.0.0.7:40001", 100, 1_000), *cut("10.0.0.8:40002", 150, 2_000_000), *life(SECOND)]
    for place, later_ms in (("client", 0.0), ("router", 0.2)):
        seen = []
        for one in sorted(sent, key=lambda one: one.at_ms):
            to_server = one.destination in (SERVER, SECOND)
            crossed = to_server if place == "router" else not to_server
            shift = later_ms if to_server else -later_ms
            seen.append(dataclasses.replace(one, at_ms=one.at_ms + shift, ttl=63 if crossed else 64))
        write_pcap(tmp_path / place / "eth0.pcap", sorted(seen, key=lambda one: one.at_ms))
    found = report(tmp_path)
    assert verdicts(found) == {("peer-vanished", "confirmed")}
    assert "router, the last place before the server" in found.findings[0].explanation


def test_a_reset_asks_for_nothing(tmp_path: Path) -> None:
    whole = exchange("10.0.0.7:40001", SERVER, 100, isn=1_000)[:4]
    request = whole[-1]
    c, s = request.seq + len(request.payload), request.ack
    late = [
        Tcp(110, SERVER, "10.0.0.7:40001", "A", s, c, ip_id=60, stamps=(20, 20)),
        Tcp(150, "10.0.0.7:40001", SERVER, "FA", c, s, ip_id=61, stamps=(150, 20)),
        Tcp(151, SERVER, "10.0.0.7:40001", "A", s, c + 1, ip_id=62, stamps=(151, 150)),
        Tcp(160, SERVER, "10.0.0.7:40001", "PA", s, c + 1, ANSWER, ip_id=63, stamps=(160, 150)),
        Tcp(161, "10.0.0.7:40001", SERVER, "R", c + 1, 0),
    ]
    seen = told(tmp_path, [*whole, *late, *life(SECOND)])
    assert seen.totals.failed == 1
    assert "peer-vanished" not in {cause for cause, _ in verdicts(seen)}
