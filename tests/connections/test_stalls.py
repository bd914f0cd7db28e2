"""Small stories of waiting go in; who waited, how long, and whether that is a failure come out, by packets and by columns alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind, find_failure
from tcpwhy.connections.stalls import StallKind, stalls
from tcpwhy.connections.triage import suspicious
from tests.packets import Tcp, write_pcap
from tests.waiting import (
    ANSWER,
    ASKED,
    BEGIN,
    BLOCK,
    LATE,
    OPENING,
    PROBES,
    REQUEST,
    SERVER,
    C,
    S,
    client,
    closed_at,
    closing,
    exchange,
    server,
)


def told(tmp_path: Path, story: Sequence[Tcp], slow_ns: int = 3_000_000_000) -> tuple[Connection, Kind | None]:
    """The connection and how it failed by its packets; what they show, columns must not hide."""
    path = write_pcap(tmp_path / "here.pcap", sorted(story, key=lambda one: one.at_ms))
    with tcpwhy.open_case(path, index=False) as case:
        (found,) = case.find(f"{C}-{S}")
        failure = find_failure(found, answers_seen=True, slow_ns=slow_ns)
        by_columns = suspicious(case.assembly().db, slow_ns)
    assert failure is None or by_columns, "the columns hide it"
    return found, failure.kind if failure is not None else None


def kinds(connection: Connection) -> list[tuple[StallKind, str, float, bool]]:
    return [(one.kind, one.side, round(one.length_ns / 1e9, 1), one.ended) for one in stalls(connection, 3_000_000_000)]


def repeated(*at_ms: float) -> list[Tcp]:
    return [client(at, "PA", payload=REQUEST) for at in at_ms]


def test_data_that_is_repeated_for_long_and_then_acknowledged_is_a_stall(tmp_path: Path) -> None:
    story = [
        *OPENING,
        *repeated(10, 300, 900, 2_100, 4_500),
        server(4_510, "PA", SERVER, ASKED, ANSWER),
        client(4_520, "A", ASKED, SERVER + 19),
    ]
    connection, kind = told(tmp_path, story)
    assert kind is Kind.STALLED
    assert kinds(connection) == [(StallKind.LOSS, "client", 4.5, True)]
    assert told(tmp_path, story, slow_ns=5_000_000_000)[1] is None


def test_an_ack_that_the_capture_lost_makes_no_stall(tmp_path: Path) -> None:
    later = [client(60_000, "PA", ASKED, SERVER, REQUEST), server(60_001, "PA", SERVER, ASKED + len(REQUEST), ANSWER)]
    connection, kind = told(tmp_path, [*OPENING, *repeated(10, 240), *later])
    assert (kinds(connection), kind) == ([], None)


def test_a_pause_a_keep_alive_and_a_long_poll_are_no_stalls(tmp_path: Path) -> None:
    probes = [client(at, "A", ASKED - 1, SERVER + 19, payload) for at, payload in ((20_000, b""), (40_000, b"\0"))]
    answers = [server(at + 1, "A", SERVER + 19, ASKED) for at in (20_000, 40_000)]
    poll = [
        client(50_000, "PA", ASKED, SERVER + 19, REQUEST),
        server(50_001, "A", SERVER + 19, ASKED + len(REQUEST)),
        server(75_000, "PA", SERVER + 19, ASKED + len(REQUEST), ANSWER),
    ]
    connection, kind = told(tmp_path, [*OPENING, *exchange(), *probes, *answers, *poll])
    assert (kinds(connection), kind) == ([], None)


def test_a_hole_that_stays_open_for_long_at_the_receiver_is_a_stall(tmp_path: Path) -> None:
    after = ASKED + 1000
    dups = [server(at, "A", SERVER, ASKED) for at in (31, 32)]
    story = [
        *OPENING,
        *exchange()[:1],
        server(12, "A", SERVER, ASKED),
        *[client(30 + number, "A", after + 1000 * number, payload=BLOCK) for number in range(2)],
        *dups,
        client(5_000, "A", ASKED, payload=BLOCK),
        server(5_001, "A", SERVER, after + 2000),
    ]
    connection, kind = told(tmp_path, story)
    assert kind is Kind.STALLED
    assert kinds(connection) == [(StallKind.LOSS, "client", 5.0, True)]


@pytest.mark.parametrize(("opens", "ended"), [(6_400, True), (None, False)])
def test_a_window_that_stays_closed_while_the_sender_probes_is_a_stall(tmp_path: Path, opens: float | None, ended: bool) -> None:
    connection, kind = told(tmp_path, closing(probes=PROBES, opens=opens))
    assert kind is Kind.STALLED
    ((stall_kind, side, length, went_on),) = kinds(connection)
    assert (stall_kind, side, went_on) == (StallKind.WINDOW, "client", ended)
    assert length == pytest.approx(6.3, abs=0.15)


def test_a_window_that_shrinks_before_it_closes_is_as_closed(tmp_path: Path) -> None:
    full = ASKED + 1000
    story = [
        *OPENING,
        client(10, "PA", payload=REQUEST),
        server(10.5, "A", SERVER, ASKED, window=1_000),
        client(11, "A", ASKED, payload=BLOCK),
        server(12, "A", SERVER, full, window=100),
        client(12.1, "A", full, payload=BLOCK[:100]),
        server(50, "A", SERVER, full + 100, window=0),
    ]
    for at in PROBES:
        story += [client(at, "A", full + 99), server(at + 1, "A", SERVER, full + 100, window=0)]
    story += [
        server(6_400, "A", SERVER, full + 100, window=500),
        client(6_401, "A", full + 100, payload=BLOCK),
        server(6_402, "A", SERVER, full + 1100),
    ]
    connection, kind = told(tmp_path, story)
    assert kind is Kind.STALLED
    assert [(stall_kind, ended) for stall_kind, _, _, ended in kinds(connection)] == [(StallKind.WINDOW, True)]


@pytest.mark.parametrize(
    "story",
    [
        closing(opens=9_000),  # nobody asked for room
        closing(probes=PROBES[:2], opens=700),
        closing(probes=PROBES[:2], answered=False),  # probes that draw nothing, to the end of the capture
    ],
)
def test_a_window_that_nobody_waits_for_or_not_for_long_is_no_stall(tmp_path: Path, story: list[Tcp]) -> None:
    connection, kind = told(tmp_path, story)
    assert (kinds(connection), kind) == ([], None)


def test_probes_that_nobody_answers_are_silence(tmp_path: Path) -> None:
    assert told(tmp_path, closing(probes=PROBES, answered=False))[1] is Kind.SILENT


def test_a_reset_that_ends_a_long_wait_for_room_is_a_failure(tmp_path: Path) -> None:
    head = [*OPENING, *exchange()]
    full = SERVER + 19 + 1000
    download = [
        server(20, "A", SERVER + 19, ASKED, BLOCK),
        client(21, "A", ASKED, full, window=0),
        *[one for at in PROBES for one in (server(at, "A", full - 1, ASKED), client(at + 1, "A", ASKED, full, window=0))],
        client(6_500, "RA", ASKED, full),
    ]
    assert told(tmp_path, [*head, *download])[1] is Kind.RESET
    short = [one for one in download if one.at_ms < 1_000] + [client(1_000, "RA", ASKED, full)]
    assert told(tmp_path, [*head, *short])[1] is None


def test_a_handshake_that_works_on_a_later_try_is_a_stall_where_that_took_long(tmp_path: Path) -> None:
    def tries(*at_ms: float) -> list[Tcp]:
        last = at_ms[-1]
        begun = [client(at, "S", BEGIN - 1, 0) for at in at_ms]
        return [*begun, server(last + 1, "SA", SERVER - 1, BEGIN), client(last + 2, "A"), *exchange(last + 3)]

    connection, kind = told(tmp_path, tries(0, 1_000, 3_000))
    assert (kinds(connection), kind) == ([(StallKind.HANDSHAKE, "client", 3.0, True)], Kind.STALLED)
    assert told(tmp_path, tries(0, 1_000))[1] is None


def test_a_server_that_waits_for_data_before_it_accepts_stalls_nobody(tmp_path: Path) -> None:
    """TCP_DEFER_ACCEPT: the SYN-ACK is repeated although the last ACK came, until the client has something to say."""
    again = [server(at, "SA", SERVER - 1, BEGIN) for at in (1_001, 3_001)] + [client(at, "A") for at in (1_002, 3_002)]
    assert told(tmp_path, [*OPENING, *again, *exchange(8_000)])[1] is None


@pytest.mark.parametrize(
    ("story", "kind"),
    [
        (closed_at(4_000, LATE, client(9_001, "R", ASKED + 1, 0)), Kind.GAVE_UP),
        (closed_at(4_000), Kind.GAVE_UP),
        (
            closed_at(10.5, LATE, client(9_001, "A", ASKED + 1, SERVER + 19), server(9_002, "FA", SERVER + 19, ASKED + 1)),
            None,
        ),  # a half-close
        (closed_at(10.5), None),  # a half-close whose answer the capture did not wait for
    ],
)
def test_who_closes_before_the_answer_and_refuses_it_gave_up(tmp_path: Path, story: list[Tcp], kind: Kind | None) -> None:
    assert told(tmp_path, story)[1] is kind


@pytest.mark.parametrize(
    ("length", "kind"),
    [(b"5000", Kind.RESET), (b"1000", None)],
)
def test_a_reset_in_the_middle_of_an_answer_is_a_failure_although_all_was_acknowledged(
    tmp_path: Path, length: bytes, kind: Kind | None
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n"
    end = SERVER + len(head) + 1000
    story = [
        *OPENING,
        client(10, "PA", payload=REQUEST),
        server(11, "PA", SERVER, ASKED, head + BLOCK),
        client(12, "A", ASKED, end),
        server(900, "RA", end, ASKED),
    ]
    assert told(tmp_path, story)[1] is kind


def test_a_stall_in_the_middle_of_a_long_flow_is_read(tmp_path: Path) -> None:
    def pieces(at_ms: float, begin: int) -> list[Tcp]:
        sent = [client(at_ms + number / 10, "A", begin + number, payload=b"z") for number in range(3_500)]
        return [one for data in sent for one in (data, server(data.at_ms + 0.05, "A", SERVER, data.seq + 1))]

    first, then = ASKED, ASKED + 3_500
    lost = [client(at, "A", then, payload=BLOCK) for at in (500, 800, 1_400, 2_600, 5_000)]
    story = [*OPENING, client(10, "PA", payload=REQUEST), *pieces(20, first), *lost, server(5_001, "A", SERVER, then + 1000)]
    connection, kind = told(tmp_path, [*story, *pieces(5_100, then + 1000)])
    assert (kinds(connection), kind) == ([(StallKind.LOSS, "client", 4.5, True)], Kind.STALLED)
