"""`sysctl -a` goes in; the kernel's settings come out, those of interfaces by interface."""

from __future__ import annotations

import dataclasses
import re

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One key."""

    key: str
    """As printed: `net.ipv4.conf.eth0/5.rp_filter` by procps, `net.ipv4.conf.eth0.5.rp_filter` by busybox."""
    value: str
    source: Source

    @property
    def number(self) -> int | None:
        """The value as a number; None where it is none."""
        text = self.value.strip()
        return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 20 else None


@dataclasses.dataclass(slots=True)
class Sysctls:
    """All keys that were collected."""

    settings: dict[str, Setting] = dataclasses.field(default_factory=dict)
    """By key in one spelling: see `canonical`."""
    unreadable: dict[str, Source] = dataclasses.field(default_factory=dict)
    """Keys that the kernel did not let sysctl read, by key in the same spelling: neither their value nor their absence is known."""
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    def get(self, key: str) -> Setting | None:
        """A key with dots between its parts, such as `net.ipv4.ip_forward`; None where it was not collected."""
        return self.settings.get(key)

    def of_interface(self, name: str, interface: str, family: int = 4) -> Setting | None:
        """`rp_filter` of `eth0.5`: net.ipv4.conf.eth0/5.rp_filter, in whichever spelling it was printed."""
        return self.settings.get(f"net.ipv{family}.conf.{interface.replace('.', '/')}.{name}")


FILE = "sysctl.txt"

_LINE = re.compile(r"\s*([^\s=:]+)\s*(?:=|:\s)\s?(.*)")
_REFUSED = re.compile(r"\s*(?:sysctl|error):(?:.*?\bkey:? ?['\"]([^'\"]+)['\"]|[^/]*/proc/sys/([^\s\"':]+))")
"""procps, src/sysctl.c: `sysctl: permission denied on key 'X'`, `sysctl: reading key "X"`, `error: permission denied on key 'X'`, and of
whole folders `sysctl: unable to open directory "/proc/sys/X/"`."""

_PER_INTERFACE = re.compile(r"(net\.[a-z0-9]+\.(?:conf|neigh)\.)(.+)(\.[^.]+)")


def read_sysctls(state: State) -> Sysctls | None:
    """The settings; None where they were not collected. Of a key that is printed twice the later counts."""
    lines = state.read_lines(FILE)
    if lines is None:
        return None
    source = state.source(FILE)
    table = Sysctls()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = dataclasses.replace(source, line=number)
        refused = _REFUSED.match(line[:1000])
        if refused is not None:
            table.unreadable[canonical(refused[1] or "/" + refused[2].strip("/")).strip(".")] = place
            continue
        found = _LINE.fullmatch(line)
        if found is None or not ("." in found.group(1) or "/" in found.group(1)):
            table.unread.add(place, line.strip(), "neither a key with its value nor a refusal")
            continue
        key, value = found.groups()
        table.settings[canonical(key)] = Setting(key, value.rstrip(), place)
    return table


def canonical(key: str) -> str:
    """A key in one spelling: dots between the parts, and a slash for each dot within an interface's name, as procps prints it.

    Understands `net.ipv4.conf.eth0/5.rp_filter`, `net.ipv4.conf.eth0.5.rp_filter` and `net/ipv4/conf/eth0.5/rp_filter`: of
    what stands between `conf.` or `neigh.` and the last dot all is the name.
    """
    first = re.search(r"[./]", key)
    if first is not None and first.group() == "/":
        key = key.translate({ord("."): "/", ord("/"): "."})
    found = _PER_INTERFACE.fullmatch(key)
    if found is None:
        return key
    before, name, after = found.groups()
    return before + name.replace(".", "/") + after
