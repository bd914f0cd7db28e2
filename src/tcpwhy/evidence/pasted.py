"""A text with pasted packet listings goes in; where each listing lies in it, who took it and by which command come out."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from tcpwhy.evidence.compression import open_plain

LONGEST_LINE = 1 << 16
"""Bytes of a line that are looked at: tcpdump -v prints the head of a message on lines of its own, not on one."""

LOOKED_AT = 4 << 20
"""Bytes of a ticket in which its first packet is looked for."""

LISTED = re.compile(
    # tcpdump's print-tcp.c and print-icmp.c; the older form had no `Flags [`.
    rb"\S > \S+: (?:Flags \[|ICMP|tcp \d|[SFPRUEW.]+ (?:\d+:\d+\(\d+\)|ack \d))"
    # tshark's packet-tcp.c
    rb"|(?:\xe2\x86\x92|->) \d{1,5} (?:\[[A-Z]|\\\[)"
)
"""A line about TCP or ICMP as tcpdump or tshark print it, wherever it stands in a line: in a quote, after a log's prefix."""

_MARK = re.compile(
    rb"tcpdump|tshark|[Ll]istening on |Capturing on |packets? (?:captured|received|dropped)|reading from file"
    rb"|[$#%>]\s|^\s*(?:\.\.\.|\[)|\xe2\x80\xa6"
)
_WORDS = r"host|src|dst|net|port|portrange|tcp|udp|ip|ip6|icmp|not|and|any|greater|less|vlan"
_COMMAND = re.compile(
    rf"(?:^|[\s$#%>;&|('\"/])(?P<program>tcpdump|tshark)(?=(?P<arguments>(?:\.exe)?(?:\s+(?:-|['\"(]|(?:{_WORDS})\b).*|\s*$)))"
)
_PROMPT = re.compile(
    r"^[\s>|`*]*(?:\([\w.-]+\)\s*)?(?:\[?[\w.+-]+@(?P<at>[\w.-]+)(?:[: ][^$#%>\]]{0,80})?\]?"
    r"|(?P<plain>[A-Za-z][\w.-]{0,62})(?::[^$#%>\s]{0,80}|\s[\w.-]{1,32})?)?\s?[$#%>]\s"
)
_REMOTE = re.compile(
    r"\bssh\s+(?:-\S+\s+(?:\d+\s+)?)*(?:[\w.-]+@)?(?P<host>[A-Za-z][\w.-]*)|\bkubectl\b.*?\bexec\s+(?:-\S+\s+)*(?P<pod>[a-z][\w.-]*)"
)
_LISTENING = re.compile(r"^\W*(?:(?:tcpdump|tshark): )?(?:[Ll]istening on |Capturing on |reading from file )'?(?P<what>[^,'\s]+)")
_COUNTED = re.compile(r"(?P<count>\d+) packets? (?P<what>captured|dropped by (?:kernel|interface))")
_LEFT_OUT = re.compile(
    r"^\W*(?:\.{3,}|\u2026|\[?\s*(?:snip|cut|truncated|omitted|skipped|\d+ more (?:lines|packets|rows)"
    r"|\d+ (?:lines|packets|rows) (?:more|omitted|skipped|cut|left out))\b)[\s\w.\u2026\])-]*$",
    re.I,
)

_NOT_A_HOST = frozenset(("sh", "bash", "ash", "zsh", "ksh", "dash", "root", "sudo", "PS", "mysql", "a", "the"))
_BUSYBOX = re.compile(r"^(?:sh|bash)-\d")


@dataclasses.dataclass(slots=True)
class Section:
    """One listing within a text."""

    start: int
    """Byte at which it begins in the plain text …"""
    end: int
    """… and one past its last."""
    first_line: int
    """Number of its first line, from 1."""
    command: str = ""
    """The arguments of tcpdump or tshark, where its command line was pasted too."""
    program: str = ""
    host: str | None = None
    """The host that its prompt names."""
    interface: str = ""
    """What it listened on, where that is told."""
    is_whole_head: bool = False
    """The command line or tcpdump's own first words stand before its first packet: nothing is cut off in front."""
    captured: int | None = None
    """How many packets tcpdump says it captured."""
    dropped: int = 0
    """How many packets the kernel or the interface dropped."""
    left_out: bool = False
    """Whoever pasted it marked that lines were left out."""
    packets: int = 0
    """Lines about TCP or ICMP in it."""


def read_lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines of a text with the byte at which each begins, from `start` on; a longer one than LONGEST_LINE is cut. Raises OSError."""
    with open_plain(path) as stream:
        left = start
        while left > 0:  # a compressed text cannot be sought in
            skipped = len(stream.read(min(left, 1 << 20)))
            if not skipped:
                return
            left -= skipped
        at = start
        while end is None or at < end:
            line = stream.readline(LONGEST_LINE)
            if not line:
                return
            length = len(line)
            while not line.endswith(b"\n") and length % LONGEST_LINE == 0:
                more = stream.readline(LONGEST_LINE)
                if not more:
                    break
                length += len(more)
                if more.endswith(b"\n"):
                    break
            yield at, line
            at += length


def shows_packet(line: bytes) -> bool:
    """True for a line about TCP or ICMP, also where a browser or a ticket system changed its blanks and brackets."""
    if LISTED.search(line):
        return True
    return (b"\xc2\xa0" in line or b"&gt;" in line) and LISTED.search(as_printed(line)) is not None


def as_printed(line: bytes) -> bytes:
    """A line with plain blanks and brackets again."""
    return line.replace(b"\xc2\xa0", b" ").replace(b"&gt;", b">").replace(b"&lt;", b"<")


def has_listing(path: Path) -> bool:
    """True where the first bytes of a text show a packet, whatever else stands there. Raises OSError."""
    return any(shows_packet(line) for _, line in itertools.takewhile(lambda entry: entry[0] < LOOKED_AT, read_lines(path)))


def find_sections(path: Path) -> list[Section]:
    """The listings of a text in their order. Raises OSError where it cannot be read.

    A command line of tcpdump or tshark begins one, and so do the first words of either; a prompt ends one. A text with none of these is
    one listing.
    """
    found = [Section(0, 0, 1)]
    prompt_host: str | None = None
    at = number = 0
    for number, (at, line) in enumerate(read_lines(path), 1):
        now = found[-1]
        is_packet = shows_packet(line)
        now.packets += is_packet
        if not _MARK.search(line):
            continue
        text = line.decode("utf-8", "replace").replace("\xa0", " ").rstrip()
        if is_packet and _COMMAND.search(text) is None:
            continue
        prompt = _PROMPT.match(text)
        command = _COMMAND.search(text) if len(text) < 2_000 else None
        if command is not None and prompt is None and command.start("program") > len(text) - len(text.lstrip(" \t>|`*")):
            # Without a prompt only what may stand before a command may stand before it.
            before = text[: command.start("program")].strip(" \t>|`*")
            if not re.fullmatch(
                r"(?:(?:sudo|time|exec|nsenter|ip|netns|timeout|ssh|kubectl|docker|podman|crictl|oc)\b.*|[-\w./]*/)?", before
            ):
                command = None
        listening = _LISTENING.match(text)
        if prompt is not None or command is not None:
            host = _host(prompt) if prompt is not None else None
            prompt_host = host or (prompt_host if prompt is None else None)
            remote = _REMOTE.search(text) if command is not None else None
            if now.packets or command is not None:
                now.end = at
                now = Section(at, at, number)
                found.append(now)
            if command is not None:
                now.program, now.command, now.is_whole_head = command["program"], command["arguments"].strip(), True
                now.host = (remote["host"] or remote["pod"]) if remote is not None else prompt_host
        elif listening is not None:
            if now.packets:
                now.end = at
                now = Section(at, at, number, host=prompt_host)
                found.append(now)
            now.is_whole_head = True
            now.interface = listening["what"]
        for counted in _COUNTED.finditer(text):
            if counted["what"] == "captured":
                now.captured = int(counted["count"][:18])
            else:
                now.dropped += int(counted["count"][:18])
        now.left_out = now.left_out or _LEFT_OUT.match(text) is not None
    found[-1].end = 1 << 62
    return [section for section in found if section.packets]


def _host(prompt: re.Match[str]) -> str | None:
    """The host that a prompt names; a shell's own prompt, such as `sh-5.1$`, names none."""
    host = prompt["at"] or prompt["plain"]
    if host is None or host in _NOT_A_HOST or _BUSYBOX.match(host):
        return None
    return host
