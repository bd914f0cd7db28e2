"""`bpftool net` and `bpftool cgroup tree` go in; the eBPF programs that may see or change packets come out, by interface and hook."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces

FILE = "bpf-net.txt"

MOST_AT = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """One attached program."""

    source: Source
    text: str
    hook: str
    """xdp, ingress, egress, netfilter, connect (a cgroup's connect4 or connect6), cgroup (its other hooks), flow_dissector."""
    interface: str
    """Empty where it is attached to none."""


@dataclasses.dataclass(slots=True)
class Programs:
    """All of them."""

    programs: list[Program] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)

    def at(self, interface: str, *hooks: str) -> list[Program]:
        """Those of an interface at one of these hooks, the first MOST_AT: one alone leaves open what becomes of a packet."""
        found = (program for program in self.programs if program.interface == interface and program.hook in hooks)
        return list(itertools.islice(found, MOST_AT))

    @property
    def connect_hooks(self) -> list[Program]:
        """Programs that can turn a connect(2) elsewhere before a packet exists."""
        return [program for program in self.programs if program.hook == "connect"]


def read_programs(state: State) -> Programs | None:
    """The programs; None where they were not collected."""
    lines = state.read_lines(FILE)
    return None if lines is None else parse_programs(lines, state.source(FILE))


_ON_DEVICE = re.compile(r"([^\s(]{1,64})\(\d{1,10}\)\s+(.{1,300})", re.ASCII)
_CGROUP = re.compile(r"\s*\d{1,10}\s+([a-z][a-z0-9_]{1,40})(?:\s+.*)?", re.ASCII)
_HEADS = ("xdp", "tc", "tcx", "netkit", "flow_dissector", "netfilter")


def parse_programs(lines: Sequence[str], source: Source) -> Programs:
    """Text of both commands, one after the other (tools/bpf/bpftool/net.c show_dev_xdp, cgroup.c do_show_tree)."""
    table = Programs()
    section = ""
    for number, line in enumerate(lines, 1):
        text = line[:1000].strip()
        here = dataclasses.replace(source, line=number)
        if not text or text.startswith(("CgroupPath", "ID ", "/", "#")):
            section = "cgroup" if text.startswith(("CgroupPath", "/")) else section
            continue
        if text.endswith(":") and text[:-1] in _HEADS:
            section = text[:-1]
            continue
        found = _program(section, text, here)
        if found is None:
            table.unread.add(here, text, "no line that bpftool prints")
        else:
            table.programs.append(found)
    return table


def _program(section: str, text: str, source: Source) -> Program | None:
    if section in ("flow_dissector", "netfilter"):
        return Program(source, text, section, "")
    if section == "cgroup":
        found = _CGROUP.fullmatch(text)
        return Program(source, text, "connect" if "connect" in found.group(1) else "cgroup", "") if found else None
    found = _ON_DEVICE.fullmatch(text)
    if section not in ("xdp", "tc", "tcx", "netkit") or found is None:
        return None
    hook = "xdp" if section == "xdp" else "ingress" if "ingress" in found.group(2) or "primary" in found.group(2) else "egress"
    return Program(source, text, hook, found.group(1))
