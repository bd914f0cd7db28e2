"""Who ended a connection: a forger, a socket that was closed, or a server that had closed it idle; by packets that no kernel need make."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from tcpwhy.diagnosis.finding import Report
from tests.causes.cases import capture, only, others, report, verdicts
from tests.packets import Tcp, shifted, write_pcap

CLIENT, SERVER = "192.0.2.7:40009", "10.0.0.1:80"
GET, OK = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
C, S = 1_001, 501_001
ASKED, TOLD = C + len(GET), S + len(OK)


def client(at: float, flags: str, seq: int, ack: int = 0, payload: bytes = b"", *, ip_id: int = 0, ttl: int = 64) -> Tcp:
    """A packet of the client, as its own host sends it; RSTs without the ACK flag bear no timestamp."""
    stamps = None if flags == "R" else (round(at) + 7, 90)
    return Tcp(at, CLIENT, SERVER, flags, seq, ack, payload, ip_id=ip_id, ttl=ttl, stamps=stamps)


def server(
    at: float, flags: str, seq: int, ack: int = 0, payload: bytes = b"", *, ip_id: int = 0, ttl: int = 61, bare: bool = False
) -> Tcp:
    """A packet of the server, three routers away."""
    stamps = None if bare or flags == "R" else (round(at) + 9_000, 7)
    return Tcp(at, SERVER, CLIENT, flags, seq, ack, payload, ip_id=ip_id, ttl=ttl, stamps=stamps)


def opened(at: float = 500) -> list[Tcp]:
    """The handshake and one request that is answered, at the client."""
    return [
        client(at, "S", C - 1, ip_id=100),
        server(at + 20, "SA", S - 1, C),
        client(at + 20.1, "A", C, S, ip_id=101),
        client(at + 20.2, "PA", C, S, GET, ip_id=102),
        server(at + 41, "A", S, ASKED, ip_id=900),
        server(at + 45, "PA", S, ASKED, OK, ip_id=901),
        client(at + 45.1, "A", ASKED, TOLD, ip_id=103),
    ]


def again(at: float) -> Tcp:
    """The next request on the same connection."""
    return client(at, "PA", ASKED, TOLD, GET, ip_id=104)


def told(folder: Path, segments: list[Tcp]) -> Report:
    capture(folder / "client/eth0.pcap", [*segments, *others()])
    return report(folder)


def at_server(segments: list[Tcp], *, but: tuple[Tcp, ...] = ()) -> list[Tcp]:
    """The same packets at the server's host: 10 ms later what the client sent, 10 ms earlier what the server did."""
    mine = [dataclasses.replace(one, at_ms=one.at_ms + 10, ttl=61) for one in segments if one.source == CLIENT and one not in but]
    its = [dataclasses.replace(one, at_ms=one.at_ms - 10, ttl=64) for one in segments if one.source == SERVER and one not in but]
    return [*mine, *its]


def both(folder: Path, segments: list[Tcp], forged: tuple[Tcp, ...] = ()) -> Report:
    """The case with both ends; the server's capture lacks what was forged towards the client, and ends later."""
    write_pcap(folder / "client/eth0.pcap", sorted([*segments, *others()], key=lambda one: one.at_ms))
    far = [*at_server(segments, but=forged), *shifted(others(), 0.4)]
    write_pcap(folder / "server/eth0.pcap", sorted(far, key=lambda one: one.at_ms))
    return report(folder)


# --- keepalive-race


def crossing() -> list[Tcp]:
    """Closed after 5 s, the next request on its way."""
    return [
        *opened(),
        again(5_540),
        server(5_545, "FA", TOLD, ASKED, ip_id=902),
        server(5_561, "R", TOLD),
        client(5_561.5, "R", ASKED + len(GET), 0),
    ]


def test_a_close_that_crosses_the_next_request_names_both_timeouts(tmp_path: Path) -> None:
    found = only(told(tmp_path, crossing()))
    assert (found.cause, found.confidence) == ("keepalive-race", "likely")
    assert "idle for 5.000 s" in found.explanation
    assert "Node.js" in found.explanation
    assert "idle connections for 5.0 s or longer" in found.explanation


def test_the_same_from_both_ends_is_confirmed(tmp_path: Path) -> None:
    found = only(both(tmp_path, crossing()))
    assert (found.cause, found.confidence) == ("keepalive-race", "confirmed")


def test_a_pool_that_writes_long_after_the_close(tmp_path: Path) -> None:
    late = [
        *opened(),
        server(2_545, "FA", TOLD, ASKED, ip_id=902),
        client(2_545.1, "A", ASKED, TOLD + 1, ip_id=104),
        dataclasses.replace(again(9_000), ack=TOLD + 1),
        server(9_020, "R", TOLD + 1),
    ]
    found = only(told(tmp_path, late))
    assert (found.cause, found.confidence) == ("keepalive-race", "likely")
    assert "sent the next request 6.5 s later all the same" in found.explanation


def test_a_key_pressed_as_the_server_closes_is_hardly_a_request(tmp_path: Path) -> None:
    # A terminal server that says `Password required, but none set`, and closes two seconds later.
    asked, said = C + 3, S + 31
    segments = [
        *opened()[:3],
        client(521, "PA", C, S, b"\xff\xfd\x03", ip_id=102),
        server(545, "PA", S, asked, b"Password required, but none set", ip_id=900),
        client(545.1, "A", asked, said, ip_id=103),
        client(2_540, "PA", asked, said, b"\r\n", ip_id=104),
        server(2_545, "FA", said, asked, ip_id=902),
        server(2_561, "R", said),
    ]
    assert {confidence for _, confidence in verdicts(told(tmp_path, segments))} == {"possible"}


def test_a_request_that_was_repeated_before_the_close_came_may_have_been_lost(tmp_path: Path) -> None:
    first = [*opened(), again(5_100), dataclasses.replace(again(5_340), ip_id=105)]
    said = verdicts(told(tmp_path, [*first, server(5_545, "FA", TOLD, ASKED, ip_id=902), server(5_561, "R", TOLD)]))
    assert ("keepalive-race", "possible") in said
    assert all(confidence == "possible" for _, confidence in said)


def test_a_capture_that_begins_with_the_request_does_not_tell_whether_the_connection_was_idle(tmp_path: Path) -> None:
    cut = [again(40), server(60, "RA", TOLD, ASKED, ip_id=902)]
    said = verdicts(told(tmp_path, cut))
    assert {("keepalive-race", "possible"), ("reset-with-unread-data", "possible")} <= said
    assert all(confidence == "possible" for _, confidence in said)


def test_an_abort_of_the_idle_connection_that_crosses_the_request(tmp_path: Path) -> None:
    aborted = [*opened(), again(5_540), server(5_545, "RA", TOLD, ASKED, ip_id=902)]
    found = only(told(tmp_path, aborted))
    assert (found.cause, found.confidence) == ("keepalive-race", "likely")


def test_a_server_that_aborts_while_at_work_on_the_request_is_no_race(tmp_path: Path) -> None:
    at_work = [
        *opened(), again(5_540), server(5_561, "A", TOLD, ASKED + len(GET), ip_id=902),
        server(6_561, "RA", TOLD, ASKED + len(GET), ip_id=903),
    ]  # fmt: skip
    found = only(told(tmp_path, at_work))
    assert (found.cause, found.confidence) == ("reset-with-unread-data", "likely")
    assert any("at work on it" in one.because for one in found.ruled_out if one.cause == "keepalive-race")


def test_a_server_that_announced_its_close_leaves_it_open(tmp_path: Path) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    head = [dataclasses.replace(one, payload=closing) if one.payload == OK else one for one in opened()[:-1]]
    end = S + len(closing)
    story = [
        *head, client(545.1, "A", ASKED, end, ip_id=103), client(1_540, "PA", ASKED, end, GET, ip_id=104),
        server(1_545, "FA", end, ASKED, ip_id=902), server(1_561, "R", end),
    ]  # fmt: skip
    said = verdicts(told(tmp_path, story))
    assert ("keepalive-race", "possible") in said
    assert all(confidence == "possible" for _, confidence in said)


# --- reset-with-unread-data

POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
REFUSED = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def upload(ended: list[Tcp]) -> list[Tcp]:
    """A body of which 2,000 of 5,000 bytes were sent."""
    return [
        client(500, "S", C - 1, ip_id=100),
        server(520, "SA", S - 1, C),
        client(520.1, "A", C, S, ip_id=101),
        client(520.2, "PA", C, S, POST, ip_id=102),
        server(541, "A", S, C + len(POST), ip_id=900),
        client(600, "PA", C + len(POST), S, b"x" * 1_000, ip_id=103),
        server(621, "A", S, C + len(POST) + 1_000, ip_id=901),
        client(700, "PA", C + len(POST) + 1_000, S, b"x" * 1_000, ip_id=104),
        *ended,
    ]


AT_END = C + len(POST) + 2_000


def test_a_socket_that_is_closed_with_data_unread(tmp_path: Path) -> None:
    found = only(told(tmp_path, upload([server(721, "RA", S, AT_END, ip_id=902)])))
    assert (found.cause, found.confidence) == ("reset-with-unread-data", "likely")
    assert found.where is not None
    assert any("TLS" not in line and "lingering_close" in line for line in found.fix)


def test_an_early_answer_whose_close_the_body_meets(tmp_path: Path) -> None:
    early = [
        server(721, "PA", S, AT_END - 1_000, REFUSED, ip_id=902),
        server(721.1, "FA", S + len(REFUSED), AT_END - 1_000, ip_id=903),
        server(721.4, "R", S + len(REFUSED) + 1),
        server(721.5, "R", S),
    ]
    found = only(told(tmp_path, upload(early)))
    assert (found.cause, found.confidence) == ("reset-with-unread-data", "likely")
    assert "413 Payload Too Large" in found.title


def abandoned(answer: Tcp) -> list[Tcp]:
    """The client closes upon the first bytes of an answer; more of it comes."""
    more = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
    return [
        *opened()[:4],
        answer,
        client(542, "FA", ASKED, S + 17, ip_id=103),
        server(548, "PA", S, ASKED, more, ip_id=900),
        client(548.1, "R", ASKED),
    ]


def test_a_client_that_closes_while_the_answer_comes(tmp_path: Path) -> None:
    segments = abandoned(server(541, "PA", S, ASKED, b"HTTP/1.1 200 OK\r\n", ip_id=899))
    assert verdicts(told(tmp_path, segments)) == {("reset-with-unread-data", "likely")}


@pytest.mark.parametrize("forged", [b"HTTP/1.1 302 OK\r\n", b"HTTP/1.1 200 OK\r\n"], ids=["other bytes", "no timestamps"])
def test_an_answer_that_somebody_forged_is_no_reason_to_accuse_the_client(tmp_path: Path, forged: bytes) -> None:
    segments = abandoned(server(541, "PA", S, ASKED, forged, ip_id=899, bare=b"200" in forged))
    assert not any(confidence != "possible" for _, confidence in verdicts(told(tmp_path, segments)))


def test_a_client_that_takes_leave_of_a_server_that_has_closed_shows_no_request(tmp_path: Path) -> None:
    end = ASKED + 6
    segments = [
        *opened()[:4],
        server(545, "FA", S, ASKED, ip_id=900),
        client(545.1, "A", ASKED, S + 1, ip_id=103),
        client(546, "PA", ASKED, S + 1, b"QUIT\r\n", ip_id=104),
        client(546.1, "FA", end, S + 1, ip_id=105),
        server(566, "R", S + 1),
    ]
    assert {confidence for _, confidence in verdicts(told(tmp_path, segments))} == {"possible"}


def tls(answered: bool) -> list[Tcp]:
    """A client of HTTP/2 over TLS ends it with close_notify and FIN; the server's GOAWAY and close_notify come too late."""
    hello, alert, away = b"\x17\3\3\0\x80" + b"q" * 128, b"\x15\3\3\0\x1a" + b"x" * 26, b"\x17\3\3\0\x29" + b"x" * 41
    asked, end = C + len(hello), S + 6 + 900
    return [
        *opened()[:3],
        client(521, "PA", C, S, hello, ip_id=102),
        server(545, "PA", S, asked if answered else C, b"\x17\3\3\3\x85" + b"a" * 901, ip_id=900),
        client(545.1, "A", asked, end, ip_id=103),
        client(550, "PA", asked, end, alert, ip_id=104),
        client(550.2, "FA", asked + len(alert), end, ip_id=105),
        server(580, "PA", end, asked + len(alert), away, ip_id=901),
        server(580.1, "FA", end + len(away), asked + len(alert), ip_id=902),
        client(580.2, "R", asked + len(alert)),
    ]


@pytest.mark.parametrize("answered", [True, False])
def test_a_client_that_ends_tls_took_leave_if_all_had_been_answered(tmp_path: Path, answered: bool) -> None:
    assert told(tmp_path, tls(answered)).totals.failed == (not answered)


def test_the_end_of_tls_is_missed_by_nobody_however_it_is_padded(tmp_path: Path) -> None:
    alert = bytes([21, 3, 3, 0, 80]) + b"x" * 80
    segments = [
        *opened(),
        client(600, "FA", ASKED, TOLD, ip_id=104),
        server(620, "PA", TOLD, ASKED + 1, alert, ip_id=902),
        client(620.1, "R", ASKED + 1),
    ]
    assert told(tmp_path, segments).totals.failed == 0


def test_the_last_of_all_sequence_numbers_begins_a_connection_too(tmp_path: Path) -> None:
    first = Tcp(500, CLIENT, SERVER, "S", 2**32 - 1)
    answers = [Tcp(501 + at, SERVER, CLIENT, "SA", 2**32 - 1, 0) for at in (0, 1_000)]
    assert told(tmp_path, [first, *answers]).totals.connections == 7


def test_an_answer_that_the_server_never_sent_was_not_lost(tmp_path: Path) -> None:
    segments = [*opened()[:4], server(541, "A", S, ASKED, ip_id=900), server(542, "FA", S, ASKED, ip_id=901)]
    closed = [client(542.1, "FA", ASKED, S + 1, ip_id=103), server(562, "A", S + 1, ASKED + 1, ip_id=902)]
    report_ = told(tmp_path, [*segments, *closed])
    assert (report_.totals.failed, [finding.cause for finding in report_.findings]) == (1, [])


def farewell(closes: float = 600.1, words: bytes = b"221 bye\r\n") -> list[Tcp]:
    """A client of a mail server says QUIT and closes; what the server says then meets a socket that is gone."""
    hello, quits = b"220 mail\r\n", b"QUIT\r\n"
    end = S + len(hello)
    return [
        *opened()[:3],
        server(550, "PA", S, C, hello, ip_id=900),
        client(550.1, "A", C, end, ip_id=102),
        client(600, "PA", C, end, quits, ip_id=103),
        client(closes, "FA", C + len(quits), end, ip_id=104),
        server(closes + 20, "PA", end, C + len(quits) + 1, words, ip_id=901),
        client(closes + 20.1, "R", C + len(quits) + 1),
    ]


def test_last_words_to_a_client_that_took_leave_are_missed_by_nobody(tmp_path: Path) -> None:
    assert told(tmp_path, farewell()).totals.failed == 0


@pytest.mark.parametrize("segments", [farewell(closes=700), farewell(words=b"x" * 1_000)], ids=["waited", "much"])
def test_a_client_that_had_waited_or_was_told_much_did_not_take_leave(tmp_path: Path, segments: list[Tcp]) -> None:
    assert told(tmp_path, segments).totals.failed == 1


def test_a_reset_after_all_was_answered_is_none(tmp_path: Path) -> None:
    assert told(tmp_path, [*opened(), server(900, "RA", TOLD, ASKED, ip_id=902)]).findings == ()


def test_a_reset_that_ends_long_repeats_is_not_taken_for_the_cause(tmp_path: Path) -> None:
    repeats = [
        client(700 + pause, "PA", C + len(POST) + 1_000, S, b"x" * 1_000, ip_id=105 + number)
        for number, pause in enumerate((200, 600, 1_400, 3_000))
    ]
    said = verdicts(told(tmp_path, upload([*repeats, server(4_000, "RA", S, AT_END - 1_000, ip_id=902)])))
    assert ("reset-with-unread-data", "likely") not in said
    assert ("reset-with-unread-data", "possible") in said


# --- injected-reset


def asked_again(*ended: Tcp) -> list[Tcp]:
    """A second request at once, and what comes of it."""
    return [*opened(), again(600), *ended]


NEXT = ASKED + len(GET)


def answer(at: float) -> Tcp:
    """The real server's answer to the second request."""
    return server(at, "PA", TOLD, NEXT, OK, ip_id=903)


def test_marks_of_forgery_and_a_server_that_goes_on(tmp_path: Path) -> None:
    forged = server(603, "RA", TOLD, NEXT, ip_id=41_000, ttl=57, bare=True)
    effect = client(660.1, "R", NEXT)
    found = only(told(tmp_path, asked_again(forged, answer(660), effect)))
    assert (found.cause, found.confidence) == ("injected-reset", "likely")
    assert "its TTL is 57, where the server's other packets arrive with 61" in found.explanation


def test_the_same_ttl_and_a_stateless_form_leave_it_open(tmp_path: Path) -> None:
    forged = server(603, "R", TOLD)
    said = verdicts(told(tmp_path, asked_again(forged, answer(660), client(660.1, "R", NEXT))))
    assert ("injected-reset", "possible") in said
    assert all(confidence == "possible" for _, confidence in said)


def test_stepped_numbers_of_a_burst(tmp_path: Path) -> None:
    burst = [server(603 + step / 1e5, "R", TOLD + step) for step in (0, 1_460, 4_380)]
    found = only(told(tmp_path, asked_again(*burst, answer(660), client(660.1, "R", NEXT))))
    assert (found.cause, found.confidence) == ("injected-reset", "likely")


@pytest.mark.parametrize("ttl", [57, 61], ids=["a TTL of its own", "the server's TTL"])
def test_a_reset_that_the_server_never_sent(tmp_path: Path, ttl: int) -> None:
    forged = server(603, "R", TOLD, ttl=ttl)
    found = only(both(tmp_path, asked_again(forged, answer(660), client(660.1, "R", NEXT)), (forged,)))
    assert (found.cause, found.confidence) == ("injected-reset", "confirmed")
    assert found.where is not None


def test_a_reset_for_a_packet_that_never_came_to_the_server_is_not_its_forger_s_alone(tmp_path: Path) -> None:
    forged, lost = server(603, "R", TOLD), again(600)
    said = verdicts(both(tmp_path, asked_again(forged), (forged, lost)))
    assert {("injected-reset", "possible"), ("rejected-by-firewall", "possible")} <= said
    assert all(confidence == "possible" for _, confidence in said)


def test_a_reset_for_the_first_of_many_packets_that_alone_went_elsewhere_is_left_open(tmp_path: Path) -> None:
    """The others of a burst came to the server, which goes on; the RST, of a TTL of its own, answers any of them."""
    burst = [client(600 + at / 1e3, "A", ASKED + at * 1_000, TOLD, b"x" * 1_000) for at in range(6)]
    stray, forged = burst[0], server(600.2, "R", TOLD, ttl=57)
    lacking = [server(600.3 + at / 1e3, "A", TOLD, ASKED) for at in range(5)]
    said = verdicts(both(tmp_path, [*opened(), *burst, forged, *lacking], (stray, forged)))
    assert ("injected-reset", "possible") in said
    assert all(confidence == "possible" for _, confidence in said)


def test_a_perfect_copy_of_the_socket_s_packets_is_not_told_from_its_own(tmp_path: Path) -> None:
    """Timestamps and IP IDs that go on are the socket's own, by one place: a close with data unread."""
    found = only(told(tmp_path, asked_again(server(1_700, "A", TOLD, NEXT, ip_id=902), server(1_800, "RA", TOLD, NEXT, ip_id=903))))
    assert (found.cause, found.confidence) == ("reset-with-unread-data", "likely")


def test_a_client_that_had_waited_for_the_rest_gave_up_and_did_not_abort(tmp_path: Path) -> None:
    """Half of an answer, four seconds of silence, then the client closes: what it waited for decides, not that it closed."""
    half, rest = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"123456789"
    story = [
        *opened(),
        again(2_000),
        server(2_020, "PA", TOLD, ASKED + len(GET), half),
        client(2_021, "A", ASKED + len(GET), TOLD + len(half)),
    ]
    story += [client(6_100, "FA", ASKED + len(GET), TOLD + len(half), ip_id=105)]
    story += [server(9_000, "PA", TOLD + len(half), ASKED + len(GET) + 1, rest), client(9_001, "R", ASKED + len(GET) + 1)]
    said = verdicts(told(tmp_path, story))
    assert ("reset-with-unread-data", "likely") not in said
    assert ("reset-with-unread-data", "confirmed") not in said


def test_a_hole_before_thousands_of_segments_takes_linear_time(tmp_path: Path) -> None:
    """The client lacks bytes before all that comes, closes after a while, and resets what still comes."""
    behind = [server(600 + at / 4, "A", TOLD + 1_000 + at * 10, ASKED, b"0123456789", ip_id=at % 50_000 + 1_000) for at in range(5_900)]
    end = behind[-1].seq + 10
    story = [
        *opened(),
        *behind,
        client(4_000, "FA", ASKED, TOLD),
        server(4_100, "A", end, ASKED + 1, b"late"),
        client(4_101, "R", ASKED + 1),
    ]
    capture(tmp_path / "client/eth0.pcap", [*story, *others()])
    begun_s = time.process_time()
    said = verdicts(report(tmp_path))
    assert time.process_time() - begun_s < 8
    assert ("reset-with-unread-data", "likely") not in said
