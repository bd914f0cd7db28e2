"""`ipset save` (or `ipset list`) goes in; the sets come out, and whether an address is in one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State
from tcpwhy.tables.ipset_entries import Asked, Entries, index_entries
from tcpwhy.tables.unread import UnreadPieces

FILE = "ipset.txt"
MOST_ENTRIES = 500_000
"""Entries that are read of one file, of all sets together."""

LONGEST_LINE = 4096

_FLAGS = frozenset({"counters", "comment", "skbinfo", "forceadd", "nomatch"})


@dataclasses.dataclass(slots=True)
class IpSet:
    """One set."""

    source: Source
    name: str
    type: str
    """hash:ip, hash:net, hash:ip,port, bitmap:port, list:set, …"""
    options: dict[str, str]
    """family, hashsize, timeout, …"""
    entries: list[tuple[str, Source]] = dataclasses.field(default_factory=list)
    """As written: `10.0.0.0/24,tcp:80`, with `nomatch` behind where it is an exception."""
    lost: str = ""
    """Why entries may be missing; empty where it is whole."""
    index: Entries | None = dataclasses.field(default=None, repr=False, compare=False)
    """Made at the first question, from `entries`."""


@dataclasses.dataclass(slots=True)
class IpSets:
    """All sets."""

    sets: dict[str, IpSet] = dataclasses.field(default_factory=dict)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_ipsets(state: State) -> IpSets | None:
    """The sets; None where they were not collected."""
    lines = state.read_lines(FILE)
    return None if lines is None else parse_ipsets(lines, state.source(FILE))


def parse_ipsets(lines: Iterable[str], source: Source) -> IpSets:
    """Either form, also mixed (ipset(8), SAVE and LIST; lib/session.c of ipset)."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        reader.take(line[:LONGEST_LINE], dataclasses.replace(source, line=number))
    reader.end_listed()
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.found = IpSets()
        self.count = 0
        self.listed: IpSet | None = None
        self.listed_number: int | None = None
        self.is_in_members = False

    def take(self, line: str, source: Source) -> None:
        text = line.strip()
        if not text or text[0] == "#":
            return
        words = text.split()
        if words[0] == "create" and len(words) >= 3:
            self._create(words[1], words[2], words[3:], source)
        elif words[0] == "add" and len(words) >= 3:
            self._add(self.found.sets.get(words[1]), text.split(None, 2)[2], source)
        elif words[0] == "Name:" and len(words) == 2:
            self.end_listed()
            self.listed = self._create(words[1], "", [], source)
        elif self.listed is not None:
            self._listed(self.listed, text, words, source)
        else:
            self.found.unread.add(source, text, "it is no line of `ipset save` or `ipset list`")

    def _create(self, name: str, kind: str, words: list[str], source: Source) -> IpSet:
        made = IpSet(source, name, kind, _options(words))
        if name in self.found.sets:
            made.lost = "the set stands twice in the file"
            self.found.unread.add(source, name, made.lost)
        self.found.sets[name] = made
        return made

    def _add(self, to: IpSet | None, entry: str, source: Source) -> None:
        if to is None:
            self.found.unread.add(source, entry, "its set was not created before it")
            return
        self.count += 1
        if self.count <= MOST_ENTRIES:
            to.entries.append((entry, source))
        else:
            to.lost = f"the file has more than {MOST_ENTRIES} entries"
            self.found.unread.add(source, entry, to.lost)

    def _listed(self, to: IpSet, text: str, words: list[str], source: Source) -> None:
        if self.is_in_members:
            self._add(to, text, source)
        elif words[0] == "Type:":
            to.type = words[1] if len(words) > 1 else ""
        elif words[0] == "Header:":
            to.options = _options(words[1:])
        elif text == "Members:":
            self.is_in_members = True
        elif text.startswith("Number of entries:"):
            self.listed_number = (
                int(words[3]) if len(words) > 3 and words[3].isascii() and words[3].isdigit() and len(words[3]) < 12 else None
            )
        elif not re.match(r"(Revision|Size in memory|References):", text):
            self.found.unread.add(source, text, "it is no line of `ipset list`")

    def end_listed(self) -> None:
        """At the end of a listed set: says so where fewer entries stood there than it announced, as with `ipset list -t`."""
        if self.listed is not None:
            number = self.listed_number
            if not self.is_in_members or (number is not None and number > len(self.listed.entries)):
                self.listed.lost = self.listed.lost or "not all entries of the set are in the file"
                self.found.unread.add(self.listed.source, self.listed.name, self.listed.lost)
        self.listed, self.listed_number, self.is_in_members = None, None, False


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word in _FLAGS or at >= len(words):
            options[word] = ""
        else:
            options[word] = words[at]
            at += 1
    return options


def contains(sets: IpSets | None, name: str, asked: Asked, is_exception: bool = False) -> bool | None:
    """Whether the packet's parts are in the set, at the moment of the snapshot; None where that cannot be told.

    Entries with a timeout are in it, for they had not run out when they were written. Of networks the most specific entry decides, and one
    with `nomatch` says no (ipset(8), hash:net); `is_exception` asks, as --return-nomatch does, whether such a one decides. A set of another
    family, and fewer `src,dst` words than the set has dimensions, never match (net/netfilter/ipset/ip_set_core.c ip_set_test). Of a
    list:set any member decides. None: sets not collected, the set or its type not known, entries missing or not understood, or a part of
    the packet not known (a port, a MAC address).
    """
    return _contains(sets, name, asked, is_exception, is_member=False)


def _contains(sets: IpSets | None, name: str, asked: Asked, is_exception: bool, is_member: bool) -> bool | None:
    found = sets.sets.get(name) if sets is not None else None
    if found is None:
        return None
    if found.type == "list:set":
        # the kernel lets no list:set hold another (ip_set_list_set.c)
        return None if is_member else _list_contains(sets, found, asked, is_exception)
    if found.index is None:
        found.index = index_entries(found.type, found.options, [entry for entry, _ in found.entries])
    if found.index is None:
        return None
    answer = found.index.has(asked)
    if answer is None:
        return None
    if answer == "absent":
        return None if found.lost else False
    if found.lost and found.index.lengths:
        return None  # a more specific entry may be among those that are missing
    return answer == ("exception" if is_exception else "present")


def _list_contains(sets: IpSets | None, found: IpSet, asked: Asked, is_exception: bool) -> bool | None:
    answer: bool | None = None if found.lost else False
    for entry, _ in found.entries:
        inner = _contains(sets, entry.split()[0], asked, is_exception, is_member=True)
        if inner:
            return True
        if inner is None:
            answer = None
    return answer
