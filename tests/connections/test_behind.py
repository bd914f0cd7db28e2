"""Flows before and behind a balancer in full NAT are joined by their numbers and bytes, and never by chance."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import tcpwhy
from tcpwhy.connections.behind import BehindCounts, find_behind
from tcpwhy.tables.flows import query
from tests.connections.full_nat import VIP, Said, back, cut, front, get, ok, requests, window
from tests.packets import Tcp, write_pcap

CLIENT, LOCAL = "203.0.113.7:50112", "10.9.0.2:41003"
DELTA = 3_111_222_333


def found(folder: Path, places: Mapping[str, Sequence[Tcp]], clocks: Mapping[str, float] | None = None) -> list[tuple[str, str, int, str]]:
    """(client behind, client before, delta, doubt) of each row."""
    return found_and_counts(folder, places, clocks)[0]


def found_and_counts(
    folder: Path, places: Mapping[str, Sequence[Tcp]], clocks: Mapping[str, float] | None = None
) -> tuple[list[tuple[str, str, int, str]], BehindCounts]:
    for name, packets in places.items():
        in_order = sorted(packets, key=lambda packet: packet.at_ms)
        write_pcap(folder / name / "a.pcap", in_order, clock_s=(clocks or {}).get(name, 0.0))
    with tcpwhy.open_case(folder, index=False) as case:
        assembly = case.assembly()
        counts = find_behind(assembly)
        rows = query(
            assembly.db,
            """SELECT x.client_ip || ':' || x.client_port, y.client_ip || ':' || y.client_port, delta, doubt
               FROM behind b JOIN flow x ON x.id = b.x JOIN flow y ON y.id = b.y ORDER BY ALL""",
        )
    return [(x, y, delta, doubt) for x, y, delta, doubt in rows], counts


def test_a_whole_connection_at_the_balancer(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(3), fin=True)
    places = {"balancer": [*seen, *back(seen, LOCAL, delta=DELTA)]}
    assert found(tmp_path, places) == [(LOCAL, CLIENT, DELTA, "")]


def test_two_places_without_any_handshake(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(3), handshake=False)
    places = {"balancer": seen, "backend": back(seen, LOCAL, delta=DELTA, latency_ms=0.3)}
    assert found(tmp_path, places, {"backend": 5.25}) == [(LOCAL, CLIENT, DELTA, "")]


def test_one_request_of_an_idle_connection(tmp_path: Path) -> None:
    seen = window(front(CLIENT, requests(1, from_ms=500), isn=77, server_isn=4_000_000_000), 400, 900)
    places = {"balancer": seen, "backend": back(seen, LOCAL, delta=DELTA, latency_ms=0.3)}
    assert found(tmp_path, places) == [(LOCAL, CLIENT, DELTA, "")]


@pytest.mark.parametrize("same", [True, False])
def test_windows_that_overlap_only_partly(tmp_path: Path, same: bool) -> None:
    seen = front(CLIENT, requests(100, every_ms=1_000, same=same))
    behind = back(seen, LOCAL, delta=DELTA, latency_ms=0.3)
    places = {"balancer": window(seen, 20_000, 52_000), "backend": window(behind, 49_500, 90_000)}
    assert found(tmp_path, places, {"backend": -61.5}) == [(LOCAL, CLIENT, DELTA, "")]


@pytest.mark.parametrize("handshake", [True, False])
@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 203.0.113.7 198.51.100.10 50112 80\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)]
)
def test_a_proxy_header_is_inserted(tmp_path: Path, header: bytes, handshake: bool) -> None:
    seen = front(CLIENT, requests(3))
    behind = back(seen, LOCAL, delta=DELTA, header=header)
    if not handshake:
        seen, behind = window(seen, 900, 9_000), window(behind, 900, 9_000)
    places = {"balancer": seen, "backend": behind}
    assert found(tmp_path, places) == [(LOCAL, CLIENT, (DELTA + len(header)) % (1 << 32), "")]


def test_segments_are_cut_differently(tmp_path: Path) -> None:
    said = [Said(10, True, get() + bytes(range(256)) * 20), Said(30, False, ok(bytes(reversed(range(256))) * 100))]
    seen = front(CLIENT, said, segment=64_000, handshake=False)
    behind = cut(back(seen, LOCAL, delta=DELTA), 1_448)
    assert found(tmp_path, {"balancer": seen, "backend": behind}) == [(LOCAL, CLIENT, DELTA, "")]


def test_numbers_wrap(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(40), isn=(1 << 32) - 900, server_isn=(1 << 32) - 700, handshake=True)
    seen = window(seen, 5_000, 90_000)
    assert found(tmp_path, {"balancer": seen, "backend": back(seen, LOCAL, delta=(1 << 32) - 5_000)}) == [
        (LOCAL, CLIENT, (1 << 32) - 5_000, "")
    ]


def test_front_at_the_clients_host_and_at_the_balancer(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(3), handshake=False)
    behind = back(seen, LOCAL, delta=DELTA)
    places = {"client": seen, "balancer": [*seen, *behind], "backend": behind}
    assert found(tmp_path, places) == [(LOCAL, CLIENT, DELTA, ""), (LOCAL, CLIENT, DELTA, "")]


def test_two_balancers_form_a_chain(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(3))
    middle = back(seen, LOCAL, delta=DELTA, real="10.9.0.50:80", latency_ms=0.2)
    last = back(middle, "10.9.8.1:5000", delta=99, latency_ms=0.2)
    places = {"first": [*seen, *middle], "second": [*middle, *last]}
    rows = found(tmp_path, places)
    assert set(rows) == {(LOCAL, CLIENT, DELTA, ""), ("10.9.8.1:5000", LOCAL, 99, "")}


def test_plain_nat_whose_sides_no_other_join_can_tie(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(100, every_ms=1_000))
    behind = back(seen, LOCAL, delta=0, stamps=True, real=VIP)
    places = {"inside": window(seen, 20_000, 52_000), "outside": window(behind, 49_500, 90_000)}
    with_nat = found(tmp_path, places)
    assert with_nat in ([], [(LOCAL, CLIENT, 0, "")])
    with tcpwhy.open_case(tmp_path, index=False) as case:
        joined = len(query(case.database(), "SELECT DISTINCT connection FROM member")) == 1
    assert joined or with_nat


def test_two_that_fit_one_are_both_candidates(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(2), handshake=False)
    twin = front("203.0.113.8:50113", requests(2), isn=5_000_000, handshake=False)
    rows = found(tmp_path, {"balancer": [*seen, *twin], "backend": back(seen, LOCAL, delta=DELTA)})
    assert [(x, y, bool(doubt)) for x, y, _, doubt in rows] == [(LOCAL, CLIENT, True), (LOCAL, "203.0.113.8:50113", True)]


def test_full_nat_makes_two_connections_also_where_payload_is_equal_and_no_syn_was_seen(tmp_path: Path) -> None:
    seen = front(CLIENT, requests(4), handshake=False)
    behind = back(seen, LOCAL, delta=DELTA)
    near = back(seen, "10.9.0.2:41004", delta=4_000)
    write_pcap(tmp_path / "balancer/a.pcap", seen)
    write_pcap(tmp_path / "backend/a.pcap", sorted([*behind, *near], key=lambda packet: packet.at_ms))
    with tcpwhy.open_case(tmp_path, index=False) as case:
        assert len(query(case.database(), "SELECT DISTINCT connection FROM member")) == 3


@pytest.mark.parametrize("one_place", [True, False])
def test_a_slow_balancer_with_retransmissions_over_it(tmp_path: Path, one_place: bool) -> None:
    chance = random.Random(4)
    seen = window(front(CLIENT, requests(6, every_ms=700), handshake=True), 5, 90_000)
    again = [dataclasses.replace(one, at_ms=one.at_ms + 210) for one in seen if one.payload and one.source == CLIENT]
    behind = [
        dataclasses.replace(one, at_ms=one.at_ms + chance.uniform(200, 440)) if one.source == LOCAL else one
        for one in back([*seen, *again], LOCAL, delta=DELTA)
    ]
    # The client's answers wait until what it asked has arrived behind the balancer.
    seen = [dataclasses.replace(one, at_ms=one.at_ms + 450) if one.source == VIP else one for one in [*seen, *again]]
    behind = [dataclasses.replace(one, at_ms=one.at_ms + 449) if one.source != LOCAL else one for one in behind]
    places = {"balancer": [*seen, *behind]} if one_place else {"balancer": seen, "backend": behind}
    assert found(tmp_path, places) == [(LOCAL, CLIENT, DELTA, "")]
