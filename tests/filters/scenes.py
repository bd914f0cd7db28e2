"""A client and layouts go in; packets that carry it, and packets that only look so come out: the same ones for each tool."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator

from tcpwhy.filters import LAYOUTS, Layout, Target, parse_target, pick_layouts
from tests.filters.frames import END, NOP, TIMESTAMPS, at_offset, option, others, packet, segment

CLIENTS = ("1.2.3.4", "65.66.97.98", "42.46.91.92:2570", "2001:db8::1", "[2001:db8:a:5c2e:2a2b:2829:7b5d:240a]:10")
"""Plain ones; bytes that are letters; bytes that are special in a regular expression; ports with 0x0a in them."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """One packet, and whether the client is behind it."""

    what: str
    ip_packet: bytes
    is_clients: bool


def layouts_for(client: str) -> tuple[Layout, ...]:
    """All layouts that can carry the client."""
    target = parse_target(client)
    return pick_layouts([layout.name for layout in LAYOUTS if _can(layout, target)], target)


def _can(layout: Layout, target: Target) -> bool:
    return layout.version == target.address.version and (target.port is None or layout.port_at is not None)


def carrying(client: str, layouts: tuple[Layout, ...]) -> Iterator[Scene]:
    """The option of each layout at each offset on both IP versions, alone, with payload, and with timestamps around it."""
    target = parse_target(client)
    for version in (4, 6):
        for layout in layouts:
            content = option(layout, target)
            for offset in range(20, 61 - layout.length):
                what = f"{layout.name} at {offset} on IPv{version}"
                yield Scene(what, packet(version, segment(at_offset(offset, content))), True)
                full = at_offset(offset, content + NOP * (60 - offset - layout.length))
                yield Scene(f"{what}, then NOPs and payload", packet(version, segment(full, b"GET / HTTP/1.1\r\n\r\n")), True)
            if layout.length <= 28:
                for options in (TIMESTAMPS + content, content + TIMESTAMPS):
                    yield Scene(f"{layout.name} and timestamps", packet(version, segment(at_offset(20, options))), True)


def not_carrying(client: str, layouts: tuple[Layout, ...]) -> Iterator[Scene]:
    """What is near: other clients, other kinds and lengths, the bytes in the payload, in a header that is too short, without options."""
    target = parse_target(client)
    for version in (4, 6):
        yield Scene("no options", packet(version, segment()), False)
        yield Scene("timestamps alone", packet(version, segment(TIMESTAMPS)), False)
        for layout in layouts:
            content = option(layout, target)
            yield Scene(f"{layout.name} as payload", packet(version, segment(b"", content + content)), False)
            yield Scene(f"{layout.name} as payload behind timestamps", packet(version, segment(TIMESTAMPS, content)), False)
            for behind in range(4, layout.length, 4):
                cut, rest = content[:behind], content[behind:]
                yield Scene(f"{layout.name} that runs from the header into the payload", packet(version, segment(cut, rest)), False)
                full = NOP * (40 - behind) + cut
                yield Scene(f"{layout.name} that runs over the longest header", packet(version, segment(full, rest)), False)
            for other in others(target):
                for offset in (20, 61 - layout.length - 1):
                    what = f"{layout.name} of {other} at {offset}"
                    yield Scene(what, packet(version, segment(at_offset(offset, option(layout, other)))), False)
            for kind in (202, 250, 30, content[0] ^ 0x20):
                changed = bytes([kind]) + content[1:]
                yield Scene(f"{layout.name} with the kind {kind}", packet(version, segment(at_offset(20, changed))), False)
            longer = bytes([content[0], content[1] + 4]) + content[2:] + b"abcd"
            if layout.length <= 36:
                yield Scene(f"{layout.name} with four bytes more", packet(version, segment(at_offset(20, longer))), False)


def inside_another_option(client: str, layouts: tuple[Layout, ...]) -> Iterator[Scene]:
    """The bytes where only one who walks the options knows better: in a timestamp, in an unknown option."""
    target = parse_target(client)
    for version in (4, 6):
        for layout in layouts:
            content = option(layout, target)
            if layout.length == 8:
                yield Scene(f"{layout.name} as TSval and TSecr", packet(version, segment(NOP * 2 + b"\x08\x0a" + content)), False)
            if layout.length <= 36:
                around = bytes([99, layout.length + 2]) + content
                yield Scene(f"{layout.name} in an option of kind 99", packet(version, segment(at_offset(20, around))), False)


def behind_the_end(client: str, layouts: tuple[Layout, ...]) -> Iterator[Scene]:
    """The whole option behind kind 0, which ends the options."""
    target = parse_target(client)
    for version in (4, 6):
        for layout in layouts:
            if layout.length <= 36:
                options = END * 4 + option(layout, target)
                yield Scene(f"{layout.name} behind kind 0", packet(version, segment(options + END * (-len(options) % 4))), False)


def fast_open_cookie() -> tuple[Scene, str]:
    """An experimental Fast Open option (RFC 7413 appendix A: ExID f989) whose cookie is the address of a client."""
    cookie = b"\xfe\x08\xf9\x89" + ipaddress.IPv4Address("1.2.3.4").packed
    return Scene("a Fast Open cookie", packet(4, segment(cookie)), False), "1.2.3.4"
