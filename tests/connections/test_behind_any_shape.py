"""Whatever shape a connection through full NAT has, it is joined with its own other side or with none."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tcpwhy
from tcpwhy.connections.behind import find_behind
from tcpwhy.connections.shift import Piece, Shift, Spoken, compare
from tcpwhy.tables.flows import query
from tests.connections.full_nat import MODULUS, REAL, VIP, Said, back, cut, front, get, ok, requests, window
from tests.packets import FLAGS, Tcp, write_pcap

CLIENT, LOCAL = "203.0.113.7:50112", "10.9.0.2:41003"
PROXY = b"PROXY TCP4 203.0.113.7 198.51.100.10 50112 80\r\n"

number = st.integers(0, MODULUS - 1) | st.integers(MODULUS - 9_000, MODULUS - 1)
content = st.sampled_from([get(), ok(), b"xy", b"\0" * 3_000, get("/long" * 200), ok(b"y" * 9_000)]) | st.binary(min_size=2, max_size=300)


@st.composite
def conversations(draw: st.DrawFn, distinct: bool = False) -> list[Said]:
    """What two ends say, in the order of time, each a tenth of a second to two seconds after the other.

    `distinct`: no bytes like others, which fit under several shifts where packets between them were lost.
    """
    said, at_ms = [], 10.0
    for index in range(draw(st.integers(1, 8))):
        text = draw(content)
        said.append(Said(at_ms, draw(st.booleans()), random.Random(index).randbytes(len(text)) if distinct else text))
        at_ms += draw(st.floats(100, 2_000))
    return said


def spoken(packets: Sequence[Tcp], server: str) -> Spoken:
    """What the ends say, as the reader of packets gives it: 512 bytes of each payload."""
    found = Spoken()
    for one in packets:
        flags = sum(FLAGS[letter] for letter in one.flags)
        piece = Piece(round(one.at_ms * 1e6), flags, one.seq, one.ack, len(one.payload), one.payload[:512])
        (found.server if one.source == server else found.client).append(piece)
    return found


def thinned(packets: Sequence[Tcp], lost: int, chance: random.Random) -> list[Tcp]:
    """What a capture that loses so many of a hundred packets holds."""
    return [one for one in packets if chance.randrange(100) >= lost]


@given(
    said=conversations(distinct=True),
    isn=number,
    server_isn=number,
    delta=number,
    header=st.sampled_from([b"", PROXY]),
    sizes=st.tuples(st.sampled_from([536, 1_448, 64_000]), st.sampled_from([536, 1_448, 64_000])),
    lost=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    skipped_ms=st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=120, deadline=None)
def test_one_shift_is_found_or_none_and_never_another(
    said: list[Said],
    isn: int,
    server_isn: int,
    delta: int,
    header: bytes,
    sizes: tuple[int, int],
    lost: tuple[int, int],
    skipped_ms: tuple[int, int],
    seed: int,
) -> None:
    seen = front(CLIENT, said, isn=isn, server_isn=server_isn, segment=64_000)
    behind = back(seen, LOCAL, delta=delta, header=header)
    chance = random.Random(seed)
    ours = window(thinned(cut(behind, sizes[0]), lost[0], chance), skipped_ms[0], 1e9)
    theirs = window(thinned(cut(seen, sizes[1]), lost[1], chance), skipped_ms[1], 1e9)
    found = compare(spoken(ours, REAL), spoken(theirs, VIP))
    if isinstance(found, Shift) and found.anchors >= 2:
        # Where the header's packet was lost, nothing but what came before the first data may be left to tell.
        assert (found.delta - delta) % MODULUS in {0, len(header)}
        assert abs(found.offset_ns or 0) < 1_000_000
        if found.lag_ns is not None:
            assert found.lag_ns > 0


@given(said=conversations(), isn=number, server_isn=number, delta=number, header=st.sampled_from([b"", PROXY]))
@settings(max_examples=100, deadline=None)
def test_what_both_saw_whole_is_found(said: list[Said], isn: int, server_isn: int, delta: int, header: bytes) -> None:
    seen = front(CLIENT, said, isn=isn, server_isn=server_isn)
    found = compare(spoken(back(seen, LOCAL, delta=delta, header=header), REAL), spoken(seen, VIP))
    assert isinstance(found, Shift)
    assert found.anchors >= 2
    if any(one.by_client for one in said):
        assert (found.delta, found.inserted) == ((delta + len(header)) % MODULUS, len(header))


def joined(folder: Path, places: dict[str, list[Tcp]], clocks: dict[str, float] | None = None) -> dict[str, set[tuple[str, str]]]:
    """Of each client behind: (client before, doubt)."""
    for name, packets in places.items():
        write_pcap(folder / name / "a.pcap", sorted(packets, key=lambda packet: packet.at_ms), clock_s=(clocks or {}).get(name, 0.0))
    with tcpwhy.open_case(folder, index=False) as case:
        assembly = case.assembly()
        find_behind(assembly)
        rows = query(
            assembly.db,
            """SELECT x.client_ip || ':' || x.client_port, y.client_ip || ':' || y.client_port, doubt
               FROM behind b JOIN flow x ON x.id = b.x JOIN flow y ON y.id = b.y""",
        )
    found: dict[str, set[tuple[str, str]]] = {}
    for x, y, doubt in rows:
        found.setdefault(x, set()).add((y, doubt))
    return found


@given(
    said=conversations(),
    isn=number,
    server_isn=number,
    delta=number,
    windows=st.tuples(st.integers(0, 4_000), st.integers(3_000, 12_000), st.integers(0, 4_000), st.integers(3_000, 12_000)),
    one_place=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_captures_of_any_shape_name_the_client_or_nobody(
    said: list[Said], isn: int, server_isn: int, delta: int, windows: tuple[int, int, int, int], one_place: bool
) -> None:
    seen = front(CLIENT, said, isn=isn, server_isn=server_isn)
    behind = window(cut(back(seen, LOCAL, delta=delta), 536), windows[0], windows[1])
    seen = window(seen, windows[2], windows[3])
    if not seen or not behind:
        return
    with tempfile.TemporaryDirectory() as folder:
        found = joined(
            Path(folder), {"balancer": [*seen, *behind]} if one_place else {"balancer": seen, "backend": behind}, {"backend": 7.5}
        )
    assert found.keys() <= {LOCAL}
    assert {client for client, _ in found.get(LOCAL, set())} <= {CLIENT}


def crowd(
    count: int, chance: random.Random, *, isns: Sequence[int] | None = None, handshake: bool
) -> list[tuple[str, str, list[Tcp], list[Tcp]]]:
    """(client before, client behind, packets before, packets behind) of connections that all say the same."""
    made = []
    for index in range(count):
        client, local = f"203.0.{index >> 8}.{index & 255}:{chance.randrange(32_768, 60_000)}", f"10.9.0.2:{32_768 + index}"
        server_isn = chance.randrange(MODULUS) if isns is None else isns[index]
        at_ms = chance.random() * 60_000
        seen = front(
            client, requests(3, every_ms=900), at_ms=at_ms, isn=chance.randrange(MODULUS), server_isn=server_isn, handshake=handshake
        )
        made.append((client, local, seen, back(seen, local, delta=chance.randrange(MODULUS))))
    return made


@pytest.mark.parametrize("handshake", [True, False])
@pytest.mark.parametrize("isns", ["far", "near", "next", "equal"])
@pytest.mark.parametrize("one_place", [True, False])
def test_look_alikes_are_never_named(tmp_path: Path, isns: str, handshake: bool, one_place: bool) -> None:
    """Three in ten connections are seen on one side only: their look-alikes must not take their place."""
    chance = random.Random(isns + str(handshake))
    numbers = {
        "far": None,
        "near": [9_000_000 + index * 7 for index in range(120)],
        "next": [9_000_000 + index * len(ok()) for index in range(120)],
        "equal": [9_000_000 + index // 3 for index in range(120)],
    }[isns]
    made = crowd(120, chance, isns=numbers, handshake=handshake)
    before = [packet for index, (_, _, seen, _) in enumerate(made) for packet in seen if index % 10 not in (3, 7)]
    behind = [packet for index, (_, _, _, seen) in enumerate(made) for packet in seen if index % 10 != 5]
    places = {"balancer": [*before, *behind]} if one_place else {"balancer": before, "backend": behind}
    found = joined(tmp_path, places, {"backend": -3.25})
    truth = {local: client for client, local, _, _ in made}
    named = {local: {client for client, doubt in names if not doubt} for local, names in found.items()}
    wrong = {local: names for local, names in named.items() if names - {truth.get(local, "")}}
    assert not wrong
    right = sum(bool(names) for names in named.values())
    assert right >= 80
