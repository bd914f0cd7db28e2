"""Small stories of patience go in; that a server was slow is told, or withheld where its answer may have been lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.causes.cases import only, report, verdicts
from tests.packets import Tcp, shifted, write_pcap
from tests.waiting import ANSWER, ASKED, BEGIN, LATE, OPENING, REQUEST, SERVER, client, closed_at, server

LIKELY, CONFIRMED, POSSIBLE = ("slow-server", "likely"), ("slow-server", "confirmed"), ("slow-server", "possible")
REFUSED = client(9_001, "R", ASKED + 1, 0)
STORY = closed_at(4_000, LATE, REFUSED)


def place(folder: Path, name: str, story: Sequence[Tcp], *, clock_s: float = 0.0) -> None:
    write_pcap(folder / name / "here.pcap", sorted(story, key=lambda one: one.at_ms), clock_s=clock_s)


def test_the_ack_of_the_close_tells_from_one_place_that_nothing_had_been_sent(tmp_path: Path) -> None:
    place(tmp_path, "client", STORY)
    found = only(report(tmp_path))
    assert (found.cause, found.confidence) == LIKELY
    for said in ("after 1.0 ms", "4.0 s later", "9.0 s after the request", "no fault of the network"):
        assert said in found.explanation


def test_two_places_confirm_it_whatever_their_clocks_say(tmp_path: Path) -> None:
    place(tmp_path, "client", STORY)
    place(tmp_path, "server", shifted(STORY, 0.2, ttl=63), clock_s=-3.3)
    assert verdicts(report(tmp_path)) == {CONFIRMED}


def test_an_answer_that_had_been_sent_was_lost_and_not_late(tmp_path: Path) -> None:
    """The server's ACK of the close has a number behind the answer's: it was sent, and the client never got it."""
    after = SERVER + len(ANSWER)
    story = [*OPENING, client(10, "PA", payload=REQUEST), server(11, "A", SERVER, ASKED), client(4_000, "FA", ASKED)]
    place(tmp_path, "client", [*story, server(4_001, "A", after, ASKED + 1)])
    assert not {LIKELY, CONFIRMED} & verdicts(report(tmp_path))


@pytest.mark.parametrize("ahead_ms", [900, 4_001])
def test_a_late_repetition_of_a_lost_answer_is_no_late_answer(tmp_path: Path, ahead_ms: int) -> None:
    """A bare ACK has a number behind it: it had been sent before, and what comes at last is a repetition."""
    before = [server(ahead_ms, "A", SERVER + len(ANSWER), ASKED)] if ahead_ms < 4_000 else []
    acked = server(4_001, "A", SERVER + len(ANSWER), ASKED + 1)
    story = [*OPENING, client(10, "PA", payload=REQUEST), server(11, "A", SERVER, ASKED), *before, client(4_000, "FA", ASKED), acked]
    place(tmp_path, "client", [*story, LATE, REFUSED])
    assert not {LIKELY, CONFIRMED} & verdicts(report(tmp_path))
    assert ("packet-loss", "possible") in verdicts(report(tmp_path))


def test_where_the_fin_is_repeated_in_vain_a_late_answer_proves_nothing(tmp_path: Path) -> None:
    """No ACK of it came: the answer that comes at last may have been sent again and again, and be lost like these ACKs."""
    again = [dataclasses.replace(client(at, "FA", ASKED), ip_id=at) for at in (4_200, 4_600, 5_400, 7_000)]
    story = [*OPENING, client(10, "PA", payload=REQUEST), server(11, "A", SERVER, ASKED), client(4_000, "FA", ASKED), *again]
    place(tmp_path, "client", [*story, LATE, REFUSED])
    said = verdicts(report(tmp_path))
    assert not {LIKELY, CONFIRMED} & said
    assert {POSSIBLE, ("packet-loss", "possible")} <= said


def test_a_request_whose_begin_was_repeated_for_long_leaves_it_open(tmp_path: Path) -> None:
    """Its end was acknowledged at once, when the ACKs of its begin had come through at last."""
    begin, rest = REQUEST[:10], REQUEST[10:]
    story = [*OPENING, *(dataclasses.replace(client(at, "PA", payload=begin), ip_id=at + 1) for at in (10, 300, 900, 1_800))]
    story += [server(1_801, "A", SERVER, BEGIN + 10), client(1_802, "PA", BEGIN + 10, payload=rest), server(1_803, "A", SERVER, ASKED)]
    story += [client(5_000, "FA", ASKED), server(5_001, "A", SERVER, ASKED + 1), LATE, REFUSED]
    place(tmp_path, "client", story)
    assert not {LIKELY, CONFIRMED} & verdicts(report(tmp_path))


def test_an_answer_that_left_the_server_in_time_is_ruled_out(tmp_path: Path) -> None:
    place(tmp_path, "client", STORY)
    sent = server(900, "PA", SERVER, ASKED, ANSWER)
    place(tmp_path, "server", shifted([*STORY[:-2], sent], 0.2, ttl=63))
    assert not {LIKELY, CONFIRMED, POSSIBLE} & verdicts(report(tmp_path))


def test_a_reset_leaves_open_whether_an_answer_was_lost(tmp_path: Path) -> None:
    story = [*OPENING, client(10, "PA", payload=REQUEST), server(11, "A", SERVER, ASKED), client(4_000, "RA", ASKED)]
    place(tmp_path, "client", story)
    assert POSSIBLE in verdicts(report(tmp_path))


def test_a_request_that_had_to_be_repeated_is_no_slow_server_s(tmp_path: Path) -> None:
    again = [dataclasses.replace(client(at, "PA", payload=REQUEST), ip_id=at) for at in (300, 900, 2_100)]
    story = [*OPENING, client(10, "PA", payload=REQUEST), *again, server(2_101, "A", SERVER, ASKED), client(4_000, "FA", ASKED)]
    place(tmp_path, "client", [*story, server(4_001, "A", SERVER, ASKED + 1)])
    assert not {cause for cause, _ in verdicts(report(tmp_path))} & {"slow-server"}


def test_who_closes_at_once_has_changed_its_mind(tmp_path: Path) -> None:
    place(tmp_path, "client", closed_at(60, dataclasses.replace(LATE, at_ms=200), dataclasses.replace(REFUSED, at_ms=201)))
    assert not {LIKELY, CONFIRMED} & verdicts(report(tmp_path))


@pytest.mark.parametrize(("alert", "expected"), [(False, {LIKELY}), (True, set())])
def test_tls_tells_by_the_answer_that_comes_too_late_and_not_by_an_alert(
    tmp_path: Path, alert: bool, expected: set[tuple[str, str]]
) -> None:
    hello, reply = b"\x16\x03\x01" + b"h" * 200, b"\x16\x03\x03" + b"r" * 300
    asked = BEGIN + len(hello)
    request, ready = b"\x17\x03\x03\x01\x00" + b"q" * 256, SERVER + len(reply)
    end = asked + len(request)
    late = b"\x15\x03\x03\x00\x1a" + b"a" * 26 if alert else b"\x17\x03\x03\x02\x00" + b"d" * 512
    story = [
        *OPENING,
        client(10, "PA", payload=hello),
        server(11, "PA", SERVER, asked, reply),
        client(12, "PA", asked, ready, request),
        server(13, "A", ready, end),
        client(5_000, "FA", end, ready),
        server(5_001, "A", ready, end + 1),
        server(8_000, "PA", ready, end + 1, late),
        client(8_001, "R", end + 1, 0),
    ]
    place(tmp_path, "client", story)
    assert verdicts(report(tmp_path)) == expected
