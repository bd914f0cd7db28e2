"""Generated packets go in; the kernel's nft and iptables rules must match what carries the client, and what is known to match."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.filters import IpVersion, Offsets, Wanted, parse_target, pick_layouts
from tcpwhy.filters.iptables import MOST_INSTRUCTIONS, bpf_matches, bpf_programs, presence_matches, u32_matches
from tcpwhy.filters.nft import nft_matches
from tests.filters.frames import NOP, at_offset, ipv6, linked, option, packet, segment
from tests.filters.netfilter import FIRST_PORT, matched
from tests.filters.scenes import CLIENTS, Scene, behind_the_end, carrying, inside_another_option, layouts_for, not_carrying

TABLES: dict[str, IpVersion] = {"iptables": 4, "ip6tables": 6}


def numbered(scenes: list[Scene]) -> list[bytes]:
    """Frames whose source ports tell their places; nothing in the expressions reads the port."""
    frames = []
    for place, scene in enumerate(scenes):
        at = 20 if scene.ip_packet[0] >> 4 == 4 else 40
        port = (FIRST_PORT + place).to_bytes(2, "big")
        frames.append(linked(scene.ip_packet[:at] + port + scene.ip_packet[at + 2 :]))
    return frames


def version_of(scene: Scene) -> int:
    return scene.ip_packet[0] >> 4


@pytest.mark.parametrize("client", CLIENTS)
def test_nft_walks_the_options(client: str) -> None:
    layouts = layouts_for(client)
    scenes = [*carrying(client, layouts), *not_carrying(client, layouts), *inside_another_option(client, layouts)]
    found = matched({"nft": list(nft_matches(Wanted(parse_target(client), layouts)))}, numbered(scenes))["nft"]
    assert [scene.what for at, scene in enumerate(scenes) if (at in found) != scene.is_clients] == []


def test_the_kernels_walk_goes_on_behind_kind_0() -> None:
    """Known: nft_exthdr.c and xt_tcpudp.c step over it as over a NOP."""
    for client in ("1.2.3.4", "2001:db8::1"):
        layouts = layouts_for(client)
        wanted = Wanted(parse_target(client), layouts)
        scenes = list(behind_the_end(client, layouts))
        rules = {"nft": list(nft_matches(wanted)), "iptables": list(bpf_matches(wanted, 4)), "ip6tables": list(bpf_matches(wanted, 6))}
        told = matched(rules, numbered(scenes))
        assert told["nft"] == told["iptables"] | told["ip6tables"] == set(range(len(scenes)))


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1), st.integers(1, 65535)), min_size=4, max_size=8))
def test_rules_of_any_client_load(numbers: list[tuple[int, int, int]]) -> None:
    """Into this kernel, all at once; a packet without options matches none of them."""
    rules: dict[str, list[str]] = {"nft": [], "iptables": [], "ip6tables": []}
    for v4, v6, port in numbers:
        for client in (str(IPv4Address(v4)), f"{IPv4Address(v4)}:{port}", str(IPv6Address(v6)), f"[{IPv6Address(v6)}]:{port}"):
            wanted = Wanted(parse_target(client), layouts_for(client))
            rules["nft"] += nft_matches(wanted)
            for tool, version in TABLES.items():
                rules[tool] += [*bpf_matches(wanted, version), *u32_matches(Wanted(wanted.target, wanted.layouts, "first"), version)]
    scenes = [Scene("no options", packet(version, segment()), False) for version in (4, 6)]
    assert matched(rules, numbered(scenes)) == {tool: set() for tool in rules}


def test_nft_takes_the_first_option_of_a_kind_only() -> None:
    target, other = parse_target("1.2.3.4"), parse_target("9.9.9.9")
    layouts = pick_layouts(["254/8"], target)
    mine, theirs = option(layouts[0], target), option(layouts[0], other)
    scenes = [Scene("first", packet(4, segment(mine + theirs)), True), Scene("second", packet(4, segment(theirs + mine)), False)]
    assert matched({"nft": list(nft_matches(Wanted(target, layouts)))}, numbered(scenes))["nft"] == {0}


def test_nft_finds_behind_extension_headers_and_one_ip_version_alone() -> None:
    target = parse_target("1.2.3.4")
    layouts = pick_layouts(["254/8"], target)
    content = segment(option(layouts[0], target))
    frames = numbered([Scene("v4", packet(4, content), True), Scene("v6", packet(6, content), True)])
    behind = segment(option(layouts[0], target), source_port=FIRST_PORT + 2)
    frames.append(linked(ipv6(behind, extension=b"\x06\x00\x01\x04\0\0\0\0")))
    both, four, six = (list(nft_matches(Wanted(target, layouts, versions=versions))) for versions in ((4, 6), (4,), (6,)))
    assert matched({"nft": both}, frames)["nft"] == {0, 1, 2}
    assert matched({"nft": four}, frames)["nft"] == {0}
    assert matched({"nft": six}, frames)["nft"] == {1, 2}


@pytest.mark.parametrize("client", CLIENTS)
def test_bpf_finds_every_offset_and_nothing_near_it(client: str) -> None:
    layouts = layouts_for(client)
    wanted = Wanted(parse_target(client), layouts)
    scenes = [*carrying(client, layouts), *not_carrying(client, layouts), *inside_another_option(client, layouts)]
    rules = {"iptables": list(bpf_matches(wanted, 4)), "ip6tables": list(bpf_matches(wanted, 6))}
    told = matched(rules, numbered(scenes))
    found = told["iptables"] | told["ip6tables"]
    assert [scene.what for at, scene in enumerate(scenes) if (at in found) != scene.is_clients] == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("offsets", ["aligned", "first"])
def test_u32_and_the_short_bpf_forms_find_their_offsets_and_no_others(client: str, offsets: Offsets) -> None:
    wanted = Wanted(parse_target(client), layouts_for(client), offsets)
    scenes = []
    for version in (4, 6):
        for layout in wanted.layouts:
            for offset in range(20, 61 - layout.length):
                aligned = offset % 4 == 0 or (offset + layout.length) % 4 == 0
                content = at_offset(offset, option(layout, wanted.target))
                is_found = offset == 20 or (offsets == "aligned" and aligned)
                scenes.append(Scene(f"{layout.name} at {offset} on IPv{version}", packet(version, segment(content)), is_found))
    scenes += not_carrying(client, wanted.layouts)
    for make in (u32_matches, bpf_matches):
        told = matched({"iptables": list(make(wanted, 4)), "ip6tables": list(make(wanted, 6))}, numbered(scenes))
        found = told["iptables"] | told["ip6tables"]
        assert [scene.what for at, scene in enumerate(scenes) if (at in found) != scene.is_clients] == []


def test_the_known_false_matches_of_iptables_do_match() -> None:
    """The client's bytes in a timestamp, on a packet that has another client's option besides."""
    target, other = parse_target("1.2.3.4"), parse_target("9.9.9.9")
    layouts = pick_layouts(["254/8"], target)
    mine, theirs = option(layouts[0], target), option(layouts[0], other)
    scenes = [Scene("both", packet(version, segment(theirs + NOP * 2 + b"\x08\x0a" + mine)), False) for version in (4, 6)]
    wanted = Wanted(target, layouts)
    for make in (bpf_matches, u32_matches):
        told = matched({"iptables": list(make(wanted, 4)), "ip6tables": list(make(wanted, 6))}, numbered(scenes))
        assert told == {"iptables": {0}, "ip6tables": {1}}


def test_presence_is_any_clients() -> None:
    target = parse_target("1.2.3.4")
    layouts = pick_layouts(["254/8", "28/7"], target)
    rules = list(presence_matches(Wanted(target, layouts)))
    assert rules == ["-p tcp --tcp-option 254", "-p tcp --tcp-option 28"]
    scenes = list(not_carrying("1.2.3.4", layouts))
    expected = [scene for scene in scenes if " of " in scene.what or "four bytes more" in scene.what]
    told = matched({"iptables": rules, "ip6tables": rules}, numbered(scenes))
    found = [scenes[at] for at in sorted(told["iptables"] | told["ip6tables"])]
    assert {scene.what for scene in expected} <= {scene.what for scene in found}
    assert not {"no options", "timestamps alone"} & {scene.what for scene in found}


def test_presence_does_not_see_into_other_options() -> None:
    layouts = pick_layouts(["254/8"], parse_target("1.2.3.4"))
    scenes = list(inside_another_option("1.2.3.4", layouts))
    rules = ["-p tcp --tcp-option 254"]
    assert matched({"iptables": rules, "ip6tables": rules}, numbered(scenes)) == {"iptables": set(), "ip6tables": set()}


@pytest.mark.parametrize("client", CLIENTS)
def test_programs_keep_within_the_kernels_limit(client: str) -> None:
    layouts = layouts_for(client)
    wanted = Wanted(parse_target(client), layouts)
    for layout in layouts:
        for version in (4, 6):
            programs = list(bpf_programs(wanted, layout, 4 if version == 4 else 6))
            assert all(len(program) <= MOST_INSTRUCTIONS for program in programs)
            assert sum(map(len, programs)) / len(programs) > MOST_INSTRUCTIONS / 2 or len(programs) == 1
