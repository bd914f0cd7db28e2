"""Small stories, written packet by packet: joins, clocks, coverage, and what is a failure and what is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy.connections.connection import FRAMES_PER_FLOW
from tcpwhy.diagnosis.finding import Report
from tests.packets import START_NS, Tcp, exchange, shifted, write_pcap

C, S = "10.0.0.9:40000", "10.0.0.1:80"


def report(folder: Path, **narrowed: str) -> Report:
    with tcpwhy.open_case(folder, index=False) as case:
        return case.diagnosis(**narrowed).report  # type: ignore[arg-type]


def test_clocks_apart_are_aligned_from_handshakes(tmp_path: Path) -> None:
    seen = [segment for number in range(5) for segment in exchange(f"10.0.0.9:4000{number}", S, number * 50, isn=number * 10_000_000)]
    write_pcap(tmp_path / "client/a.pcap", seen)
    arrived = [dataclasses.replace(one, at_ms=one.at_ms + (0.3 if one.source != S else -0.3)) for one in seen]
    write_pcap(tmp_path / "server/a.pcap", arrived, clock_s=-3600.25)
    told = report(tmp_path)
    assert told.totals.connections == 5
    clocks = {place.name: place.clock for place in told.vantage_points}
    client, server = clocks["client"], clocks["server"]
    assert client is not None
    assert server is not None
    assert server.offset_s - client.offset_s == pytest.approx(-3600.25, abs=0.0005)
    assert max(server.uncertainty_s, client.uncertainty_s) == pytest.approx(0.0003, abs=0.0001)


def test_plain_nat_is_joined_by_numbers_and_both_addresses_are_told(tmp_path: Path) -> None:
    inside = [*exchange(C, S)[:4], Tcp(5, S, C, "R", 501_001, ip_id=0)]
    outside = [
        dataclasses.replace(one, source=one.source.replace(C, "192.0.2.7:61001"), destination=one.destination.replace(C, "192.0.2.7:61001"))
        for one in inside
    ]
    write_pcap(tmp_path / "client/a.pcap", inside)
    write_pcap(tmp_path / "server/a.pcap", shifted(outside, 0.1, ttl=63))
    told = report(tmp_path)
    assert told.totals.connections == 1
    assert told.totals.failed == 1
    seen = told.findings[0].connections[0]
    assert (seen.client, seen.server) == (C, S)
    assert [(one.vantage_point, one.client) for one in seen.also_seen_as] == [("server", "192.0.2.7:61001")]


def test_two_connections_of_one_millisecond_are_not_joined_by_their_timestamps(tmp_path: Path) -> None:
    write_pcap(tmp_path / "client/a.pcap", exchange(C, S, isn=1000))
    write_pcap(tmp_path / "server/a.pcap", exchange("10.0.0.9:40001", S, isn=77_000_000))
    assert report(tmp_path).totals.connections == 2


def test_offload_cuts_segments_differently_and_nothing_is_lost(tmp_path: Path) -> None:
    big = exchange(C, S)
    payload = b"POST / HTTP/1.1\r\n\r\n" + b"x" * 2881
    sent = [*big[:3], dataclasses.replace(big[3], payload=payload)]
    pieces = [
        dataclasses.replace(big[3], seq=1001 + at, payload=payload[at : at + 1450], at_ms=3.2 + at / 1e5, ip_id=3 + at // 1450)
        for at in (0, 1450)
    ]
    answer = dataclasses.replace(big[4], ack=1001 + len(payload))
    write_pcap(tmp_path / "client/a.pcap", [*sent, answer])
    write_pcap(tmp_path / "server/a.pcap", [*shifted(big[:3], 0.01), *pieces, dataclasses.replace(answer, at_ms=3.9)])
    with tcpwhy.open_case(tmp_path, index=False) as case:
        assert case.diagnosis().report.totals.failed == 0
        (connection,) = case.find(f"{C}-{S}")
    data = [segment for segment in connection.segments if segment.sender == "client" and segment.length]
    assert len(data) == 1
    assert data[0].seen_at("server")
    assert len(data[0].covered["server"]) == 2
    assert data[0].retransmits is None


def test_a_syn_in_the_last_moment_of_a_capture_is_no_failure(tmp_path: Path) -> None:
    write_pcap(tmp_path / "c.pcap", [*exchange(C, S), Tcp(900, "10.0.0.9:40009", S, "S", 5, ip_id=1)])
    assert report(tmp_path).totals.failed == 0


def test_of_two_captures_one_may_end_with_the_last_syn(tmp_path: Path) -> None:
    """The other one ran on, and shows that no answer and no further SYN came."""
    syns = [Tcp(at, C, S, "S", 1_000, ip_id=7 + number, ttl=64) for number, at in enumerate((0, 1_000, 3_000))]
    write_pcap(tmp_path / "client/a.pcap", [*exchange("10.0.0.9:41000", S, -500), *syns])
    ran_on = [*exchange("10.0.0.9:41000", S, -500), *syns, *exchange("10.0.0.8:41001", S, 5_000, isn=7_000)]
    write_pcap(tmp_path / "server/a.pcap", shifted(ran_on, 0.1, ttl=62))
    assert {one.client for one in report(tmp_path).unexplained} == {C}


def test_a_syn_repeated_into_nothing_is_one_and_stays_open_at_one_place(tmp_path: Path) -> None:
    tries = [Tcp(at, "10.0.0.9:40009", S, "S", 5, ip_id=number, stamps=(at, 0)) for number, at in enumerate((0, 1020, 3040))]
    write_pcap(tmp_path / "c.pcap", sorted([*exchange(C, S, 5000), *tries], key=lambda one: one.at_ms))
    told = report(tmp_path)
    assert told.totals.failed == 1
    assert {finding.confidence for finding in told.findings} == {"possible"}
    assert {"syn-lost", "synack-lost", "reverse-path-filter", "accept-queue-overflow", "vip-missing"} <= {
        one.cause for one in told.findings
    }
    assert all(finding.next_evidence for finding in told.findings)
    assert told.unexplained[0].client == "10.0.0.9:40009"


@pytest.mark.parametrize("closer", [C, S])
def test_a_reset_after_everything_was_delivered_is_no_failure(tmp_path: Path, closer: str) -> None:
    done = exchange(C, S)[:5]
    acked = Tcp(5, C, S, "A", 1019, 501_020, ip_id=4)
    other = S if closer == C else C
    reset = Tcp(6, closer, other, "RA", 1019 if closer == C else 501_020, 501_020 if closer == C else 1019, ip_id=9)
    write_pcap(tmp_path / "c.pcap", [*done, acked, reset])
    assert report(tmp_path).totals.failed == 0


def test_a_reset_before_the_answer_is_a_failure_that_one_place_does_not_explain(tmp_path: Path) -> None:
    write_pcap(tmp_path / "c.pcap", [*exchange(C, S)[:4], Tcp(5, S, C, "R", 501_001)])
    told = report(tmp_path)
    assert (told.totals.failed, told.totals.explained) == (1, 0)
    assert "mid-connection-rehash" in {one.cause for one in told.findings}


def test_strays_at_a_host_without_the_connection_have_failed_if_the_client_goes_on(tmp_path: Path) -> None:
    """At another backend: an ACK draws RST, then a request or more of an answer does; and an ACK alone, which may be a late one."""
    request = b"GET / HTTP/1.1\r\n\r\n"
    strays: dict[str, list[tuple[float, int, bytes, int]]] = {
        "10.0.0.9:40001": [(0, 0, b"", 5_000), (300, 0, request, 5_000)],
        "10.0.0.9:40002": [(0, 0, b"", 5_000), (0.02, 0, request[:9], 5_000), (0.04, 9, request[9:], 5_000)],
        "10.0.0.9:40003": [(0, 0, b"", 5_000), (0.1, 0, b"", 6_448)],
        "10.0.0.9:40004": [(0, 0, b"", 5_000)],
    }
    story = []
    for number, (client, sent) in enumerate(strays.items()):
        for later, offset, payload, ack in sent:
            at = 1_000 + number * 1_000 + later
            story.append(Tcp(at, client, S, "PA" if payload else "A", 700 + offset, ack, payload, ip_id=round(at + later * 100)))
            story.append(Tcp(at + 0.01, S, client, "R", ack))
    write_pcap(tmp_path / "backend/a.pcap", [*exchange("10.0.0.9:41000", S), *story])
    told = report(tmp_path)
    assert {one.client for one in told.unexplained} == {"10.0.0.9:40001", "10.0.0.9:40002", "10.0.0.9:40003"}
    assert {finding.confidence for finding in told.findings} == {"possible"}
    assert "mid-connection-rehash" in {finding.cause for finding in told.findings}


def test_only_of_a_long_flow_the_middle_is_left_out(tmp_path: Path) -> None:
    """A short one that is read together with it is whole, and what it lost in its middle counts."""
    long = [Tcp(10 + at / 10, C, S, "PA", 1_001 + at, 501_001, b"x", ip_id=at % 60_000 + 1) for at in range(FRAMES_PER_FLOW + 500)]
    write_pcap(tmp_path / "here/a.pcap", [*exchange(C, S)[:3], *long, *exchange("10.0.0.9:40007", S, 2_000, isn=77_000)])
    with tcpwhy.open_case(tmp_path, index=False) as case:
        found = case.assembly().connections([0, 1])
    left_out = {one.client.port: one.views["here"].left_out for one in found.values()}
    assert left_out[40007] == 0
    assert left_out[40000] > 0


@pytest.mark.parametrize(("rest", "failed"), [(1_400, 1), (30, 0)])
def test_a_client_that_aborts_while_more_comes_has_failed_at_its_own_place_too(tmp_path: Path, rest: int, failed: int) -> None:
    """All that had come is acknowledged; what was under way is refused. A few last words are none of that."""
    done = exchange(C, S)[:6]
    end = max(one.ack for one in done if one.source == C)
    sent = max(one.seq + len(one.payload) for one in done if one.source == C)
    story = [*done, Tcp(100, C, S, "RA", sent, end), Tcp(110, S, C, "PA", end, sent, b"x" * rest), Tcp(110.1, C, S, "R", sent)]
    write_pcap(tmp_path / "client/a.pcap", story)
    assert report(tmp_path).totals.failed == failed


@pytest.mark.parametrize(("payload", "failed"), [(b"GET / HTTP/1.1\r\n\r\n", 1), (b"\x15\x03\x03\x00\x1a" + b"\x00" * 26, 0)])
def test_a_request_that_crossed_the_server_s_reset_has_failed_and_a_farewell_has_not(tmp_path: Path, payload: bytes, failed: int) -> None:
    """The server aborts an idle connection; what the client had on its way draws another RST."""
    done = exchange(C, S)[:6]
    end = max(one.ack for one in done if one.source == C)
    sent = max(one.seq + len(one.payload) for one in done if one.source == C)
    story = [*done, Tcp(2_500, S, C, "RA", end, sent), Tcp(2_550, C, S, "PA", sent, end, payload), Tcp(2_551, S, C, "R", end)]
    write_pcap(tmp_path / "server/a.pcap", story)
    told = report(tmp_path)
    assert told.totals.failed == failed
    assert ("keepalive-race" in {one.cause for one in told.findings}) == bool(failed)


@pytest.mark.parametrize(("again_ms", "failed"), [([1_000], 1), ([], 0)])
def test_a_client_that_had_tried_again_and_given_up_is_no_probe_to_the_server(
    tmp_path: Path, again_ms: tuple[int, ...], failed: int
) -> None:
    """Its SYN-ACKs were lost until it was too late. A client that never repeats its SYN may be probing an open port."""
    story = [Tcp(0, C, S, "S", 1_000, ttl=61), Tcp(0.1, S, C, "SA", 5_000, 1_001)]
    for at in again_ms:
        story += [Tcp(at, C, S, "S", 1_000, ttl=61, ip_id=7), Tcp(at + 0.1, S, C, "SA", 5_000, 1_001)]
    story += [Tcp(3_000, S, C, "SA", 5_000, 1_001), Tcp(3_000.2, C, S, "R", 1_001, ttl=61)]
    write_pcap(tmp_path / "server/a.pcap", [*story, *exchange("10.0.0.8:41000", S, 4_000)])
    told = report(tmp_path)
    assert told.totals.failed == failed
    assert all(finding.cause == "synack-lost" for finding in told.findings if finding.confidence != "possible")


@pytest.mark.parametrize(("rounds", "failed"), [(1, 0), (3, 1)])
def test_at_the_server_an_old_connection_that_the_client_s_reset_ends_is_no_failure_yet(tmp_path: Path, rounds: int, failed: int) -> None:
    """Behind a NAT the next SYN comes from another port. One that is repeated and refused again and again has failed."""
    old = [dataclasses.replace(one, ttl=61 if one.source == C else 64) for one in exchange(C, S)[:5]]
    end, next_seq = old[4].ack, old[4].seq + len(old[4].payload)
    story = [Tcp(6, C, S, "A", end, next_seq, ttl=61, ip_id=8)]
    for number in range(rounds):
        at = 7_000 + number * 1_000
        story += [Tcp(at, C, S, "S", 9_000_000, ttl=61, ip_id=9 + number), Tcp(at + 0.01, S, C, "A", next_seq, end)]
        story.append(Tcp(at + 0.03, C, S, "R", end, ttl=61))
    write_pcap(tmp_path / "server/a.pcap", [*old, *story, *exchange("10.0.0.8:41000", S, 12_000, isn=77_000)])
    assert report(tmp_path).totals.failed == failed


def test_a_log_line_without_port_is_tied_by_time_and_says_so_and_others_are_left_over(tmp_path: Path) -> None:
    write_pcap(tmp_path / "gw/c.pcap", [*exchange(C, S)[:4], Tcp(5, S, C, "R", 501_001)])
    (tmp_path / "tcpwhy.toml").write_text('[vantage.gw]\nlog_timezone = "UTC"\n')
    line = (
        "{} [error] 1#1: *3 recv() failed (104: Connection reset by peer) while reading response header from upstream, "
        'client: 10.9.9.9, server: x, request: "GET / HTTP/1.1", upstream: "http://10.0.0.1:80/", host: "x"\n'
    )
    moment = __import__("datetime").datetime.fromtimestamp(START_NS // 10**9, __import__("datetime").UTC)
    later = moment.replace(hour=(moment.hour + 3) % 24)
    (tmp_path / "gw/error.log").write_text(line.format(f"{moment:%Y/%m/%d %H:%M:%S}") + line.format(f"{later:%Y/%m/%d %H:%M:%S}"))
    told = report(tmp_path)
    lines = {
        (one.line, "tied by time and address" in one.text) for finding in told.findings for one in finding.evidence if one.kind == "log"
    }
    left = [one.symptom for one in told.unexplained if "error.log:2" in one.symptom]
    assert left
    assert all(number != 2 for number, _ in lines)


def test_since_and_until_and_connection_narrow_what_is_examined(tmp_path: Path) -> None:
    first = [*exchange(C, S)[:4], Tcp(5, S, C, "R", 501_001)]
    write_pcap(tmp_path / "c.pcap", [*first, *exchange("10.0.0.9:41000", S, 60_000, isn=9_000_000)])
    assert report(tmp_path).totals.failed == 1
    assert report(tmp_path, connection=f"{S}-{C}").totals.connections == 1
    assert report(tmp_path, connection="10.0.0.9:41000-10.0.0.1:80").totals.failed == 0
    assert report(tmp_path, since="2026-09-21T14:13:50+00:00").totals.failed == 0
    assert report(tmp_path, until="2026-09-21T14:13:50+00:00").totals.failed == 1


def test_the_same_input_gives_the_same_report(tmp_path: Path) -> None:
    write_pcap(tmp_path / "c.pcap", [*exchange(C, S)[:4], Tcp(5, S, C, "R", 501_001)])
    assert report(tmp_path) == report(tmp_path)
