"""`conntrack -L -o extended` or /proc/net/nf_conntrack goes in; the tracked connections come out, both tuples of each.

ipv4     2 tcp      6 431995 ESTABLISHED src=10.1.0.2 dst=10.9.9.9 sport=37782 dport=80
  src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=37782 [ASSURED] mark=42 zone=0 use=2
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
import sys
from collections.abc import Sequence

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.unread import UnreadPieces

FILE = "conntrack.txt"

MOST_ENTRIES = 1_000_000
"""Entries kept of one file; the rest are counted as unread. nf_conntrack_max of most hosts is below it."""

LONGEST_LINE = 2000
"""Characters of a line that are read; the kernel's own are below 600."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a tracked connection. Addresses in their shortest form."""

    source_ip: str
    destination_ip: str
    source_port: int | None
    """None where the protocol has no ports, as ICMP has not."""
    destination_port: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Tracked:
    """One entry."""

    source: Source
    protocol: str
    """tcp, udp, icmp, …; where the program writes `unknown`, the number: `4`."""
    state: str
    """TCP's state in the kernel's words: ESTABLISHED, SYN_SENT, …; empty for other protocols, and where a flow is offloaded."""
    timeout_s: int | None
    """Seconds left; None where a flow is offloaded."""
    original: Tuple
    """As the first packet came."""
    reply: Tuple
    """As answers are awaited: NAT is the difference of the two."""
    flags: frozenset[str]
    """ASSURED, UNREPLIED, OFFLOAD, HW_OFFLOAD, DYING."""
    mark: int
    zone: int
    zone_side: str = "both"
    """`original` or `reply` where the zone holds in one direction only; the other direction is then in zone 0."""
    labels: tuple[str, ...] = ()
    security_context: str = ""
    helper: str = ""
    packets: tuple[int, int] | None = None
    """In the original and in the reply direction; None where nf_conntrack_acct is 0."""
    octets: tuple[int, int] | None = None

    @property
    def is_destination_translated(self) -> bool:
        """DNAT or REDIRECT: answers come from elsewhere than the client asked."""
        return (self.reply.source_ip, self.reply.source_port) != (self.original.destination_ip, self.original.destination_port)

    @property
    def is_source_translated(self) -> bool:
        """SNAT or MASQUERADE."""
        return (self.reply.destination_ip, self.reply.destination_port) != (self.original.source_ip, self.original.source_port)

    def zone_of(self, *, is_reply: bool) -> int:
        """The zone that packets of one direction are looked up in (nf_conntrack_zones.h nf_ct_zone_id)."""
        return self.zone if self.zone_side in ("both", "reply" if is_reply else "original") else 0


@dataclasses.dataclass(slots=True)
class Conntrack:
    """All entries."""

    entries: list[Tracked] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)
    is_complete: bool = True
    """False where entries are known to be missing: then no entry found proves nothing."""
    _by_tuple: dict[tuple[str, Tuple, int], tuple[Tracked, bool]] | None = dataclasses.field(default=None, repr=False, compare=False)

    def find(self, protocol: str, packet: Tuple, zone: int = 0) -> tuple[Tracked, bool] | None:
        """The entry that a packet with these addresses belongs to, and whether the packet goes in the reply direction.

        The kernel looks both tuples of all entries up in one hash (nf_conntrack_core.c nf_conntrack_find_get).
        """
        if self._by_tuple is None:
            self._by_tuple = {}
            for entry in self.entries:
                for direction, is_reply in ((entry.original, False), (entry.reply, True)):
                    self._by_tuple.setdefault((entry.protocol, direction, entry.zone_of(is_reply=is_reply)), (entry, is_reply))
        return self._by_tuple.get((protocol, packet, zone))


def read_conntrack(state: State) -> Conntrack | None:
    """The entries; None where they were not collected."""
    lines = state.read_lines(FILE)
    return None if lines is None else parse_conntrack(lines, state.source(FILE))


_SUMMARY = re.compile(r"conntrack v[\w.]{1,20} \(conntrack-tools\): (\d{1,10}) flow entries have been shown\.", re.ASCII)
_PROGRAM_SAYS = re.compile(r"(conntrack v[\w.]{1,20} \(conntrack-tools\): |nfct_labelmap_new: |WARNING: )", re.ASCII)
_STAMP = re.compile(r"\[(?:start|stop)=[^\]]{1,64}\]")


def parse_conntrack(lines: Sequence[str], source: Source) -> Conntrack:
    """Rows of `conntrack -L` with any of -o extended, id, timestamp, ktimestamp, labels; of nf_conntrack and of the old ip_conntrack.

    The program's own words on standard error may stand between or within the rows, as `2>&1` puts them there.
    Sources: libnetfilter_conntrack src/conntrack/snprintf_default.c; kernel net/netfilter/nf_conntrack_standalone.c ct_seq_show.
    """
    table = Conntrack()
    announced: int | None = None
    rows = 0
    begun = ""
    for number, line in enumerate(lines, 1):
        line = line[:LONGEST_LINE]
        summary = _SUMMARY.search(line)
        if begun and summary:
            _cut_off(table, source, number - 1, begun)
        elif begun:
            line = begun + line
        begun = ""
        if summary:
            announced = (announced or 0) + int(summary.group(1))
            begun = line[: summary.start()] + line[summary.end() :]
            begun = begun if begun.strip() else ""
            continue
        if not line.strip() or _PROGRAM_SAYS.match(line):
            continue
        here = dataclasses.replace(source, line=number)
        rows += 1
        if rows > MOST_ENTRIES:
            table.is_complete = False
            table.unread.add(here, line, f"only the first {MOST_ENTRIES} entries are kept")
            continue
        entry = _entry(line, here, table.unread)
        if entry is None:
            table.is_complete = False
        else:
            table.entries.append(entry)
    if begun:
        _cut_off(table, source, len(lines), begun)
    if announced is not None and announced > rows:
        table.is_complete = False
        told = f"conntrack says that it has shown {announced} entries, and {rows} are here"
        table.unread.add(dataclasses.replace(source, line=len(lines)), "", told)
    return table


def _cut_off(table: Conntrack, source: Source, number: int, begun: str) -> None:
    table.is_complete = False
    table.unread.add(dataclasses.replace(source, line=number), begun, "the row is cut off")


_HEAD = re.compile(
    r"(?:(?P<family>ipv4|ipv6) +(?:2|10) +)?(?P<protocol>[\w-]{1,24}) +(?P<number>\d{1,3}) +(?:(?P<timeout>\d{1,10}) +)?"
    r"(?:(?P<state>[A-Z][A-Z0-9_]{1,23}) +)?(?=src=|timeout=)",
    re.ASCII,
)


@dataclasses.dataclass(slots=True)
class _Words:
    """What the words behind the head of a row say, as they are met."""

    tuples: list[dict[str, str]] = dataclasses.field(default_factory=list)
    counts: list[dict[str, str]] = dataclasses.field(default_factory=list)
    flags: set[str] = dataclasses.field(default_factory=set)
    extras: dict[str, str] = dataclasses.field(default_factory=dict)
    unknown: list[str] = dataclasses.field(default_factory=list)


_OF_TUPLE = frozenset({"dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey"})
_OF_ENTRY = frozenset({"mark", "zone", "zone-orig", "zone-reply", "secctx", "secmark", "use", "id", "labels", "helper", "delta-time",
                       "rate", "timeout", "stream_timeout"})  # fmt: skip
_FLAGS = frozenset({"ASSURED", "UNREPLIED", "OFFLOAD", "HW_OFFLOAD", "DYING", "UNCONFIRMED"})


def _entry(line: str, source: Source, unread: UnreadPieces) -> Tracked | None:
    head = _HEAD.match(line)
    if head is None:
        unread.add(source, line, "this is no row of conntrack: expected protocol, number, timeout and src=")
        return None
    words = _words(_STAMP.sub("", line[head.end() :]))
    directions = [_tuple(found) for found in words.tuples]
    if len(directions) != 2 or directions[0] is None or directions[1] is None:
        unread.add(source, line, "expected two tuples of addresses and ports")
        return None
    extras = words.extras
    zone, side = _zone(extras)
    mark = _count(extras.get("mark", "0"))
    if zone is None or mark is None:
        unread.add(source, line, "the mark or the zone is no number")
        return None
    if words.unknown:
        unread.add(source, line, f"`{' '.join(words.unknown)[:100]}` has no known meaning; the rest of the row was read")
    name = sys.intern(head["protocol"])
    timeout = head["timeout"]
    return Tracked(
        source=source,
        protocol=sys.intern(head["number"]) if name == "unknown" else name,
        state=sys.intern(head["state"] or ""),
        timeout_s=None if timeout is None else int(timeout),
        original=directions[0],
        reply=directions[1],
        flags=_shared(frozenset(words.flags)),
        mark=mark,
        zone=zone,
        zone_side=side,
        labels=tuple(extras["labels"].split(",")) if extras.get("labels") else (),
        security_context=sys.intern(extras.get("secctx", "")),
        helper=extras.get("helper", ""),
        packets=_pair(words.counts, "packets"),
        octets=_pair(words.counts, "bytes"),
    )


def _words(text: str) -> _Words:
    found = _Words()
    is_in_tuple = False
    for word in text.split():
        key, equals, value = word.partition("=")
        if key == "src" and equals:
            found.tuples.append({"src": value})
            found.counts.append({})
            is_in_tuple = True
        elif equals and is_in_tuple and key in _OF_TUPLE:
            found.tuples[-1].setdefault(key, value)
        elif equals and found.counts and key in ("packets", "bytes"):
            found.counts[-1][key] = value
            is_in_tuple = False  # an `id=` behind them is the entry's
        elif word.startswith("[") and word.endswith("]") and word[1:-1] in _FLAGS:
            found.flags.add(word[1:-1])
            is_in_tuple = False
        elif equals and key in _OF_ENTRY:
            found.extras[key] = value.rstrip(",")
            is_in_tuple = False
        else:
            found.unknown.append(word)
    return found


def _zone(extras: dict[str, str]) -> tuple[int | None, str]:
    for key, side in (("zone-orig", "original"), ("zone-reply", "reply")):
        if key in extras:
            return _count(extras[key]), side
    return _count(extras.get("zone", "0")), "both"


def _pair(counts: list[dict[str, str]], key: str) -> tuple[int, int] | None:
    original, reply = _count(counts[0].get(key, "")), _count(counts[1].get(key, ""))
    return None if original is None or reply is None else (original, reply)


def _count(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else None


@functools.lru_cache(maxsize=256)
def _shared(flags: frozenset[str]) -> frozenset[str]:
    return flags


@functools.lru_cache(maxsize=1 << 16)
def _ip(text: str) -> str | None:
    """The shortest form; /proc writes IPv6 with all its zeros."""
    try:
        return None if len(text) > 64 or "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _tuple(found: dict[str, str]) -> Tuple | None:
    source_ip, destination_ip = _ip(found["src"]), _ip(found.get("dst", ""))
    if source_ip is None or destination_ip is None:
        return None
    ports = [_count(found[key]) if key in found else None for key in ("sport", "dport")]
    if ("sport" in found) != ("dport" in found) or any(port is not None and port > 65535 for port in ports):
        return None
    if "sport" in found and None in ports:
        return None
    return Tuple(source_ip, destination_ip, ports[0], ports[1])
