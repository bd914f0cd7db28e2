"""Generated packets go in; tcpdump must pick with the printed expressions what carries the client, and what is known to match."""

from __future__ import annotations

import ipaddress
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.filters import IpVersion, Offsets, Wanted, parse_target
from tcpwhy.filters.tcpdump import tcpdump_expression
from tests.filters.frames import (
    ETHERNET,
    LINK_HEADERS,
    NOP,
    RAW,
    SLL,
    SLL2,
    at_offset,
    ipv4,
    ipv6,
    linked,
    option,
    packet,
    picked_by_tcpdump,
    segment,
    tagged,
    write_capture,
)
from tests.filters.scenes import CLIENTS, behind_the_end, carrying, fast_open_cookie, inside_another_option, layouts_for, not_carrying

QINQ, TAG = 0x88A8, 0x8100
VERSIONS: tuple[tuple[IpVersion, ...], ...] = ((4,), (6,), (4, 6))


def expression(client: str, offsets: Offsets = "every", *, vlan: bool = False) -> str:
    return tcpdump_expression(Wanted(parse_target(client), layouts_for(client), offsets), vlan=vlan)


@pytest.mark.parametrize("link", [ETHERNET, RAW, SLL, SLL2])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_offset_is_found_and_nothing_near_it(tmp_path: Path, client: str, link: int) -> None:
    layouts = layouts_for(client)
    scenes = [*carrying(client, layouts), *not_carrying(client, layouts)]
    capture = write_capture(tmp_path / "x.pcap", [linked(scene.ip_packet, link) for scene in scenes], link)
    picked = picked_by_tcpdump(capture, expression(client))
    assert [scene.what for at, scene in enumerate(scenes) if (at in picked) != scene.is_clients] == []
    assert len(picked) > 100


@pytest.mark.parametrize("client", CLIENTS)
def test_the_known_false_matches_do_match(tmp_path: Path, client: str) -> None:
    layouts = layouts_for(client)
    scenes = [*inside_another_option(client, layouts), *behind_the_end(client, layouts)]
    capture = write_capture(tmp_path / "x.pcap", [linked(scene.ip_packet) for scene in scenes])
    assert picked_by_tcpdump(capture, expression(client)) == set(range(len(scenes)))


def test_a_fast_open_cookie_that_is_the_address_matches(tmp_path: Path) -> None:
    scene, client = fast_open_cookie()
    assert picked_by_tcpdump(write_capture(tmp_path / "x.pcap", [linked(scene.ip_packet)]), expression(client)) == {0}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("offsets", ["aligned", "first"])
def test_the_short_forms_find_their_offsets_and_no_others(tmp_path: Path, client: str, offsets: Offsets) -> None:
    wanted = Wanted(parse_target(client), layouts_for(client), offsets)
    frames: list[bytes] = []
    expected = set()
    for version in (4, 6):
        for layout in wanted.layouts:
            for offset in range(20, 61 - layout.length):
                aligned = offset % 4 == 0 or (offset + layout.length) % 4 == 0
                if offset == 20 or (offsets == "aligned" and aligned):
                    expected.add(len(frames))
                frames.append(linked(packet(version, segment(at_offset(offset, option(layout, wanted.target))))))
    assert picked_by_tcpdump(write_capture(tmp_path / "x.pcap", frames), tcpdump_expression(wanted)) == expected


@pytest.mark.parametrize("client", ["1.2.3.4", "2001:db8::1"])
def test_tags_are_looked_into_when_asked(tmp_path: Path, client: str) -> None:
    layouts = layouts_for(client)
    scenes = [*carrying(client, layouts), *not_carrying(client, layouts)]
    plain = [linked(scene.ip_packet) for scene in scenes]
    frames = [*plain, *(tagged(frame, TAG) for frame in plain), *(tagged(frame, TAG, TAG) for frame in plain)]
    frames += [tagged(frame, QINQ, TAG) for frame in plain]
    capture = write_capture(tmp_path / "x.pcap", frames)
    wanted = {at for at in range(len(frames)) if scenes[at % len(scenes)].is_clients}
    assert picked_by_tcpdump(capture, expression(client, vlan=True)) == wanted
    assert picked_by_tcpdump(capture, expression(client)) == {at for at in wanted if at < len(scenes)}


@pytest.mark.parametrize("client", ["1.2.3.4", "9.8.7.6:2570"])
@pytest.mark.parametrize("version", [4, 6])
def test_what_a_short_snap_length_left_is_found(tmp_path: Path, client: str, version: int) -> None:
    wanted = Wanted(parse_target(client), layouts_for(client))
    header = {4: 20, 6: 40}[version]
    for layout in wanted.layouts:
        content = option(layout, wanted.target)
        for offset in range(20, 61 - layout.length, 5):
            read = len(LINK_HEADERS[ETHERNET][4]) + header + offset + layout.address_at + 4
            options = at_offset(offset, content + NOP * (60 - offset - layout.length))
            frame = linked(packet(version, segment(options)))
            for snap_length, picked in ((read, {0}), (read - 1, set())):
                capture = write_capture(tmp_path / "x.pcap", [frame], snap_length=snap_length)
                assert picked_by_tcpdump(capture, tcpdump_expression(wanted)) == picked, (layout.name, offset, snap_length)


def test_ip_options_fragments_and_extension_headers(tmp_path: Path) -> None:
    content = option(layouts_for("1.2.3.4")[0], parse_target("1.2.3.4"))
    toa = segment(at_offset(31, content))
    with_ip_options = [ipv4(toa, options=NOP * length) for length in range(0, 41, 4)]
    first, later = ipv4(toa, fragment=0x2000), ipv4(toa, fragment=0x0001)
    not_tcp = ipv4(toa, protocol=17)
    extended = ipv6(toa, extension=b"\x06\x00\x01\x04\0\0\0\0")
    frames = [linked(one) for one in [*with_ip_options, first, later, not_tcp, extended]]
    picked = picked_by_tcpdump(write_capture(tmp_path / "x.pcap", frames), expression("1.2.3.4"))
    assert picked == set(range(len(with_ip_options) + 1))


def test_the_expression_joins_with_others(tmp_path: Path) -> None:
    frames = [
        linked(packet(version, segment(at_offset(20, option(layouts_for("1.2.3.4")[0], parse_target("1.2.3.4")))))) for version in (4, 6)
    ]
    frames.append(linked(ipv4(segment())))
    capture = write_capture(tmp_path / "x.pcap", frames)
    mine = expression("1.2.3.4")
    assert picked_by_tcpdump(capture, f"src host 10.0.0.9 and {mine}") == {0}
    assert picked_by_tcpdump(capture, f"{mine} and src host 10.0.0.9") == {0}
    assert picked_by_tcpdump(capture, f"not {mine}") == {2}
    assert picked_by_tcpdump(capture, f"src host 10.0.0.9 and {expression('1.2.3.4', vlan=True)}") == {0}


def test_one_ip_version_alone(tmp_path: Path) -> None:
    content = option(layouts_for("1.2.3.4")[0], parse_target("1.2.3.4"))
    capture = write_capture(tmp_path / "x.pcap", [linked(packet(version, segment(content))) for version in (4, 6)])
    alone: dict[IpVersion, set[int]] = {4: {0}, 6: {1}}
    for version, picked in alone.items():
        wanted = Wanted(parse_target("1.2.3.4"), layouts_for("1.2.3.4"), versions=(version,))
        assert picked_by_tcpdump(capture, tcpdump_expression(wanted)) == picked


addresses = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(2**48, 2**128 - 1).map(ipaddress.IPv6Address)
"""Below 2**48 lie IPv4 addresses in IPv6's clothes."""
versions = st.sampled_from(VERSIONS)


@settings(max_examples=60, deadline=None)
@given(addresses, st.one_of(st.none(), st.integers(1, 65535)), st.sampled_from(["every", "aligned", "first"]), st.booleans(), st.data())
def test_expressions_of_any_client_compile(address: object, port: int | None, offsets: Offsets, vlan: bool, data: st.DataObject) -> None:
    client = f"[{address}]:{port}" if ":" in str(address) and port else f"{address}:{port}" if port else str(address)
    possible = layouts_for(client)
    layouts = data.draw(st.lists(st.sampled_from(possible), min_size=1, unique=True))
    text = tcpdump_expression(Wanted(parse_target(client), tuple(layouts), offsets, data.draw(versions)), vlan=vlan)
    done = subprocess.run(["tcpdump", "-ddd", "-y", "EN10MB", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program = [struct.pack("HBBI", *map(int, line.split())) for line in done.stdout.splitlines()[1:]]
    assert len(program) == int(done.stdout.split()[0]) > 10
    assert len(text) < 100_000  # an argument of a command holds 128 KiB (Linux, binfmts.h MAX_ARG_STRLEN)
