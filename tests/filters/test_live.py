"""Expressions go to a tcpdump that listens, and a rule to a kernel that tracks connections: what the printed text says must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcpwhy.filters import Offsets, Wanted, parse_target, pick_layouts
from tcpwhy.filters.nft import nft_matches
from tcpwhy.filters.tcpdump import tcpdump_expression
from tests.filters.frames import at_offset, linked, option, packet, segment, tagged
from tests.filters.netfilter import run
from tests.filters.test_tcpdump import VERSIONS

LIVE = str(Path(__file__).parent / "live.py")
OLD_LIMIT, LIMIT = 20480, 131072
"""net.core.optmem_max as older and newer kernels have it."""


def usual(client: str, offsets: Offsets = "every", versions: int = 2, *, vlan: bool = False) -> str:
    """As the command prints it without --layout; `versions` is the place in VERSIONS."""
    target = parse_target(client)
    return tcpdump_expression(Wanted(target, pick_layouts((), target), offsets, VERSIONS[versions]), vlan=vlan)


def heard(frames: list[bytes], runs: list[tuple[str, int]]) -> list[dict[str, object]]:
    """What tcpdump says to each expression under each limit."""
    answers: list[dict[str, object]] | None = run(LIVE, {"frames": [frame.hex() for frame in frames], "runs": runs}, ("tcpdump",))
    if answers is None:
        pytest.skip("this kernel has one net.core.optmem_max for all namespaces")
    return answers


def test_live_tcpdump_takes_them_and_sees_one_tag() -> None:
    target = parse_target("1.2.3.4")
    content = option(pick_layouts(["254/8"], target)[0], target)
    ours = [linked(packet(version, segment(at_offset(offset, content)))) for version in (4, 6) for offset in (20, 33, 52)]
    frames = [*ours, *(tagged(frame, 0x8100) for frame in ours), linked(packet(4, segment()))]
    runs = [
        (usual("1.2.3.4"), LIMIT),
        (usual("2001:db8::1"), LIMIT),
        (usual("1.2.3.4"), OLD_LIMIT),
        (usual("1.2.3.4", vlan=True), LIMIT),
        (usual("1.2.3.4", "first", vlan=True), OLD_LIMIT),
    ]
    both, v6, old, vlan, first_vlan = heard(frames, runs)
    assert both == {"warned": False, "frames": 12}
    assert v6 == {"warned": False, "frames": 0}
    assert old == {"warned": True, "frames": 12}  # tcpdump filters by itself: the same frames
    assert vlan == {"warned": True, "frames": 12}
    assert first_vlan == {"warned": False, "frames": 4}


def test_what_is_said_to_fit_into_older_kernels_does() -> None:
    forms: list[tuple[Offsets, int]] = [("every", 0), ("every", 1), ("aligned", 2), ("first", 2)]
    clients = ("1.2.3.4", "1.2.3.4:4660", "2001:db8::1", "[2001:db8::1]:4660")
    texts = [usual(client, offsets, versions) for client in clients for offsets, versions in forms]
    answers = heard([], [(text, OLD_LIMIT) for text in texts])
    assert [answer["warned"] for answer in answers] == [False] * len(texts)


def test_a_mark_on_the_connection_stays_for_its_later_packets() -> None:
    target = parse_target("1.2.3.4:4660")
    layouts = pick_layouts(["254/8"], target)
    task = {"matches": list(nft_matches(Wanted(target, layouts))), "option": option(layouts[0], target).hex()}
    assert run(LIVE, task, ("nft",)) == [1, 1, 1]
    other = {**task, "option": option(layouts[0], parse_target("1.2.3.5:4660")).hex()}
    assert run(LIVE, other, ("nft",)) == [0, 0, 0]
