"""Generated packets go in; tshark must show with the printed display filters what carries the client, and what is known to match."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tcpwhy.filters import Wanted, parse_target, pick_layouts
from tcpwhy.filters.wireshark import wireshark_fields, wireshark_filter
from tests.filters.frames import (
    ETHERNET,
    LINK_HEADERS,
    SLL2,
    at_offset,
    ipv4,
    linked,
    option,
    packet,
    picked_by_tshark,
    segment,
    tagged,
    write_capture,
)
from tests.filters.scenes import CLIENTS, behind_the_end, carrying, fast_open_cookie, inside_another_option, layouts_for, not_carrying


def exact(client: str) -> str:
    return wireshark_filter(Wanted(parse_target(client), layouts_for(client)))


@pytest.mark.parametrize("link", [ETHERNET, SLL2])
@pytest.mark.parametrize("client", CLIENTS)
def test_the_options_are_walked(tmp_path: Path, client: str, link: int) -> None:
    layouts = layouts_for(client)
    scenes = [*carrying(client, layouts), *not_carrying(client, layouts)]
    scenes += [*inside_another_option(client, layouts), *behind_the_end(client, layouts)]
    capture = write_capture(tmp_path / "x.pcap", [linked(scene.ip_packet, link) for scene in scenes], link)
    picked = picked_by_tshark(capture, exact(client))
    assert [scene.what for at, scene in enumerate(scenes) if (at in picked) != scene.is_clients] == []


def test_every_byte_of_an_address_means_itself(tmp_path: Path) -> None:
    """Of each value: as the last byte of the address, with one neighbour whose byte is another one by case or by being special."""
    frames = []
    for value in range(256):
        target = parse_target(f"1.2.{value}.{value}")
        frames.append(linked(ipv4(segment(option(pick_layouts(["254/8"], target)[0], target)))))
    capture = write_capture(tmp_path / "x.pcap", frames)
    asked = (0, 10, 13, *b'"$()*+-.?AZ[\\]^az{|}\x7f', 128, 169, 195, 200, 232, 255)
    for value in asked:
        assert picked_by_tshark(capture, exact(f"1.2.{value}.{value}")) == {value}


def test_tags_tunnels_and_quoting_errors(tmp_path: Path) -> None:
    target = parse_target("1.2.3.4")
    whole = ipv4(segment(at_offset(33, option(layouts_for("1.2.3.4")[0], target))))
    error = ipv4(struct.pack("!BBHI", 3, 1, 0, 0) + whole, protocol=1)
    frames = [
        tagged(linked(whole), 0x8100),
        tagged(linked(whole), 0x88A8, 0x8100),
        linked(ipv4(whole, protocol=4)),
        linked(error),  # known: what an ICMP error quotes is dissected too
    ]
    assert picked_by_tshark(write_capture(tmp_path / "x.pcap", frames), exact("1.2.3.4")) == {0, 1, 2, 3}


def test_options_that_were_cut_off_are_missed(tmp_path: Path) -> None:
    target = parse_target("1.2.3.4")
    frame = linked(ipv4(segment(at_offset(20, option(layouts_for("1.2.3.4")[0], target)))))
    ends = len(LINK_HEADERS[ETHERNET][4]) + 20 + 28
    assert picked_by_tshark(write_capture(tmp_path / "x.pcap", [frame], snap_length=ends), exact("1.2.3.4")) == {0}
    assert picked_by_tshark(write_capture(tmp_path / "x.pcap", [frame], snap_length=ends - 1), exact("1.2.3.4")) == set()


def test_a_fast_open_cookie_that_is_the_address_matches(tmp_path: Path) -> None:
    scene, client = fast_open_cookie()
    assert picked_by_tshark(write_capture(tmp_path / "x.pcap", [linked(scene.ip_packet)]), exact(client)) == {0}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_short_filter_finds_every_offset(tmp_path: Path, client: str) -> None:
    layouts = layouts_for(client)
    scenes = list(carrying(client, layouts))
    capture = write_capture(tmp_path / "x.pcap", [linked(scene.ip_packet) for scene in scenes])
    picked = picked_by_tshark(capture, wireshark_fields(Wanted(parse_target(client), layouts)))
    assert [scene.what for at, scene in enumerate(scenes) if at not in picked] == []


def test_what_the_short_filter_takes_and_leaves_beside(tmp_path: Path) -> None:
    target = parse_target("1.2.3.4")
    toa, tencent, cdn = (pick_layouts([name], target)[0] for name in ("254/8", "200/8", "28/7"))
    other = parse_target("9.9.9.9")
    frames = [
        linked(ipv4(segment(option(toa, target, port=0xF989)))),  # missed: dissected as Fast Open
        linked(ipv4(segment(b"\x1c\x07\x02" + target.address.packed + b"\x00"))),  # missed: version 2
        linked(ipv4(segment(option(tencent, other) + b"\xca\x08\x0a\x0a" + target.address.packed))),  # matched: a virtual IP's
        linked(ipv4(segment(b"\x63\x0a" + option(cdn, target) + b"\x00\x00\x00"))),  # matched: inside kind 99
        linked(packet(6, segment(option(toa, other)))),
    ]
    capture = write_capture(tmp_path / "x.pcap", frames)
    wanted = Wanted(target, (toa, tencent, cdn))
    assert picked_by_tshark(capture, wireshark_fields(wanted)) == {2, 3}
    assert picked_by_tshark(capture, wireshark_filter(wanted)) == {0, 1}


@pytest.mark.parametrize(("version", "picked"), [(4, {0}), (6, {1})])
def test_one_ip_version_alone(tmp_path: Path, version: int, picked: set[int]) -> None:
    target = parse_target("1.2.3.4")
    content = option(layouts_for("1.2.3.4")[0], target)
    capture = write_capture(tmp_path / "x.pcap", [linked(packet(one, segment(content))) for one in (4, 6)])
    wanted = Wanted(target, layouts_for("1.2.3.4"), versions=(4,) if version == 4 else (6,))
    for text in (wireshark_filter(wanted), wireshark_fields(wanted)):
        assert picked_by_tshark(capture, text) == picked


def test_filters_of_many_clients_compile() -> None:
    """One tshark compiles them all: each with both forms, joined by `or`."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing")
    clients = [f"{ipaddress.IPv4Address(number * 2654435761 % (1 << 32))}:{1 + number * 40503 % 65535}" for number in range(12)]
    clients += [
        f"[{ipaddress.IPv6Address((number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128))}]:{number + 1}" for number in range(6)
    ]
    texts = [make(Wanted(parse_target(one), layouts_for(one))) for one in clients for make in (wireshark_filter, wireshark_fields)]
    done = subprocess.run(["tshark", "-r", "/dev/null", "-Y", " or ".join(texts)], capture_output=True, text=True, check=False)
    assert "isn't a valid display filter" not in done.stderr
    assert "Regex" not in done.stderr
    assert "syntax" not in done.stderr
