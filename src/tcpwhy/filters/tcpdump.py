"""A client, layouts and offsets go in; one pcap-filter expression that finds the option comes out (pcap-filter(7)).

pcap-filter has no loop, so each offset is a clause of its own. Four rules hold everywhere:

A load beyond the captured bytes ends the whole filter with "no" (libpcap bpf_filter.c), and one beyond the header reads payload; so each
clause stands behind a test that the header is long enough: byte 12 has the header's words in its upper half, so `tcp[12]>=0x70` says "at
least 7 words", whatever the lower half holds. The tests are nested with growing length: a packet without options costs one comparison,
and what a short snap length cut off is asked for last.

`tcp[...]` is IPv4's alone, and of first fragments; IPv6 is read by `ip6[40+...]`, which holds where no extension header stands between.
"""

from __future__ import annotations

from collections import defaultdict

from tcpwhy.filters.wanted import IpVersion, Wanted, header_words

DATA_OFFSET = 12
"""The byte of the TCP header whose upper half is the header's length in words (RFC 9293 section 3.1)."""

Load = tuple[int, int, int]
"""Offset from the start of the TCP header, size in bytes, value."""

IPV6_HEADER = 40
"""Bytes (RFC 8200 section 3)."""


def tcpdump_expression(wanted: Wanted, *, vlan: bool = False) -> str:
    """One expression in brackets, to be joined with others by `and`, `or`, `not`.

    With `vlan` it holds for frames without a tag, with one and with two (802.1Q, QinQ); `vlan` moves all offsets that are written
    behind it (pcap-filter(7)), therefore what is joined with it must stand before it, and a link type without tags refuses it.
    """
    plain = " or ".join(f"({_of_version(wanted, version)})" for version in wanted.versions)
    return f"({plain} or (vlan and ({plain} or (vlan and ({plain})))))" if vlan else f"({plain})"


def _of_version(wanted: Wanted, version: IpVersion) -> str:
    by_words: dict[int, list[str]] = defaultdict(list)
    for (words, loads), heads in sorted(_clauses(wanted).items()):
        rest = " and ".join(_equal(version, load) for load in loads)
        tests = [_head(version, words, needed, head) for needed, head in heads]
        by_words[words].append(f"({rest} and {tests[0] if len(tests) == 1 else '(' + ' or '.join(tests) + ')'})")
    nested = ""
    for words in sorted(by_words, reverse=True):
        clauses = " or ".join([*by_words[words], *([f"({nested})"] if nested else [])])
        nested = f"{_long_enough(version, words)} and ({clauses})"
    return nested if version == 4 else f"ip6[6]=6 and {nested}"


def _clauses(wanted: Wanted) -> dict[tuple[int, tuple[Load, ...]], list[tuple[int, Load]]]:
    """What stands before the address by where the address stands, and the words that a header needs to hold it.

    Layouts that have it at the same place share its comparison: a filter must be small to be taken by the kernel.
    """
    found: dict[tuple[int, tuple[Load, ...]], list[tuple[int, Load]]] = defaultdict(list)
    for layout in wanted.layouts:
        for place in wanted.places(layout):
            head, *rest = ((place + at, size, value) for at, size, value in layout.loads(wanted.target))
            needed = header_words(place + layout.length)
            found[header_words(rest[-1][0] + rest[-1][1]), tuple(rest)].append((needed, head))
    return found


def _head(version: IpVersion, words: int, needed: int, head: Load) -> str:
    """Kind and length, and that the header holds the whole option where it goes on behind the address."""
    return _equal(version, head) if needed <= words else f"({_equal(version, head)} and {_long_enough(version, needed)})"


def _long_enough(version: IpVersion, words: int) -> str:
    return f"{_load(version, DATA_OFFSET, 1)}>=0x{words << 4:02x}"


def _equal(version: IpVersion, load: Load) -> str:
    at, size, value = load
    return f"{_load(version, at, size)}=0x{value:0{2 * size}x}"


def _load(version: IpVersion, at: int, size: int) -> str:
    width = f":{size}" if size > 1 else ""
    return f"tcp[{at}{width}]" if version == 4 else f"ip6[{IPV6_HEADER + at}{width}]"
