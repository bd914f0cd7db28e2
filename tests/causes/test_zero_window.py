"""Small stories of closed windows go in; that a program stopped reading is told, or withheld where something else may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.causes.cases import only, others, report, verdicts
from tests.packets import Tcp, shifted, write_pcap
from tests.waiting import ASKED, BLOCK, OPENING, PROBES, REQUEST, SERVER, C, S, client, closing, server

LIKELY, CONFIRMED = ("zero-window", "likely"), ("zero-window", "confirmed")
FULL = ASKED + 1000
STORY = closing(probes=PROBES)


def place(folder: Path, name: str, story: Sequence[Tcp], *, clock_s: float = 0.0) -> None:
    write_pcap(folder / name / "here.pcap", sorted(story, key=lambda one: one.at_ms), clock_s=clock_s)


@pytest.mark.parametrize("opens", [None, 6_400])
def test_one_place_suffices_for_likely(tmp_path: Path, opens: float | None) -> None:
    place(tmp_path, "client", closing(probes=PROBES, opens=opens))
    told = report(tmp_path)
    assert verdicts(told) == {LIKELY}
    assert "window 0" in only(told).explanation
    assert "the network carried every question" in only(told).explanation.lower()


def test_two_places_confirm_it_whatever_their_clocks_say(tmp_path: Path) -> None:
    place(tmp_path, "client", STORY)
    place(tmp_path, "server", shifted(STORY, 0.2, ttl=63), clock_s=7.5)
    assert verdicts(report(tmp_path)) == {CONFIRMED}


def test_a_capture_that_begins_when_the_window_is_closed_shows_it(tmp_path: Path) -> None:
    place(tmp_path, "client", [one for one in STORY if one.at_ms > 100])
    assert verdicts(report(tmp_path)) == {LIKELY}


def test_the_program_that_goes_with_data_unread_is_the_same_story(tmp_path: Path) -> None:
    place(tmp_path, "client", [*STORY, dataclasses.replace(server(6_500, "RA", SERVER, FULL), stamps=(5, 5))])
    found = only(report(tmp_path))
    assert (found.cause, found.confidence) == LIKELY
    assert {"reset-with-unread-data", "slow-server"} <= {one.cause for one in found.ruled_out}


def test_the_client_that_reads_no_answer_is_told_as_such(tmp_path: Path) -> None:
    end = SERVER + 1000
    story = [
        *OPENING,
        client(10, "PA", payload=REQUEST),
        server(11, "A", SERVER, ASKED, BLOCK),
        client(12, "A", ASKED, end, window=0),
        *[one for at in PROBES for one in (server(at, "A", end - 1, ASKED), client(at + 1, "A", ASKED, end, window=0))],
    ]
    place(tmp_path, "server", story)
    found = only(report(tmp_path))
    assert (found.cause, found.confidence) == LIKELY
    assert f"the client's program at {C.split(':')[0]}" in found.title


def test_a_window_too_small_to_be_used_is_closed(tmp_path: Path) -> None:
    """100 bytes of room where 20,000 had been: each piece fills it, and the next waits for a probe's time."""
    pieces = []
    for number, at in enumerate((220, 640, 1_500, 3_200, 6_500)):
        begin = FULL + 100 * number
        pieces += [client(at, "A", begin, payload=b"y" * 100), server(at + 1, "A", SERVER, begin + 100, window=100)]
    story = [
        *OPENING,
        client(10, "PA", payload=REQUEST),
        server(10.5, "A", SERVER, ASKED, window=20_000),
        client(11, "A", ASKED, payload=BLOCK),
        server(12, "A", SERVER, FULL, window=100),
        *pieces,
    ]
    place(tmp_path, "client", story)
    found = only(report(tmp_path))
    assert (found.cause, found.confidence) == LIKELY
    assert "windows of 100" in found.explanation


def test_probes_that_nobody_answers_are_another_cause_s(tmp_path: Path) -> None:
    place(tmp_path, "client", [*closing(probes=PROBES, answered=False), *others(service=S, begin_ms=0)])
    assert "zero-window" not in {cause for cause, _ in verdicts(report(tmp_path))}


def test_probes_whose_answers_are_in_no_capture_may_be_keep_alives(tmp_path: Path) -> None:
    own = [one for one in closing(probes=(220, 640, 1_500, 3_200, 6_500, 13_000)) if one.source == C]
    place(tmp_path, "client", own)
    assert verdicts(report(tmp_path)) == set()


def test_one_answer_and_room_long_afterwards_may_be_an_announcement_that_was_lost(tmp_path: Path) -> None:
    story = closing(probes=(220,), answered=False, opens=4_500)
    place(tmp_path, "client", story)
    assert ("zero-window", "likely") not in verdicts(report(tmp_path))
