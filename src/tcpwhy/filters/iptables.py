"""A client, layouts and offsets go in; matches for rules of iptables and ip6tables come out, one a rule, quoted as iptables-restore reads.

`--tcp-option KIND` walks the options, but asks for presence alone (net/netfilter/xt_tcpudp.c tcp_find_option). The bytes behind it are
compared at fixed offsets: by the bpf match, whose programs hold at most 64 instructions (include/uapi/linux/netfilter/xt_bpf.h
XT_BPF_MAX_NUM_INSTR), as many offsets a rule as fit; or by u32, one offset a rule. Both begin at the IP header.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tcpwhy.filters.layout import Layout
from tcpwhy.filters.tcpdump import DATA_OFFSET, IPV6_HEADER
from tcpwhy.filters.wanted import IpVersion, Wanted, header_words

MOST_INSTRUCTIONS = 64
"""XT_BPF_MAX_NUM_INSTR."""

_LOAD = {(4, 1): 0x50, (4, 2): 0x48, (4, 4): 0x40, (6, 1): 0x30, (6, 2): 0x28, (6, 4): 0x20}
"""BPF_LD with BPF_IND behind IPv4's header, whose length varies, with BPF_ABS behind IPv6's (linux/bpf_common.h)."""
_HEADER_LENGTH, _EQUAL, _AT_LEAST, _RETURN = 0xB1, 0x15, 0x35, 0x06
"""BPF_LDX|BPF_B|BPF_MSH, BPF_JMP|BPF_JEQ, BPF_JMP|BPF_JGE, BPF_RET."""

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def presence_matches(wanted: Wanted) -> tuple[str, ...]:
    """Any client's option of each kind."""
    return tuple(dict.fromkeys(f"-p tcp --tcp-option {layout.kind}" for layout in wanted.layouts))


def bpf_matches(wanted: Wanted, version: IpVersion) -> tuple[str, ...]:
    """The client's option at the wanted offsets, in as few rules a layout as 64 instructions allow."""
    return tuple(
        f'-p tcp --tcp-option {layout.kind} -m bpf --bytecode "{_text(program)}"'
        for layout in wanted.layouts
        for program in bpf_programs(wanted, layout, version)
    )


def u32_matches(wanted: Wanted, version: IpVersion) -> tuple[str, ...]:
    """The client's option, one offset a rule, for kernels without the bpf match."""
    return tuple(
        f'-p tcp --tcp-option {layout.kind} -m u32 --u32 "{_u32(wanted, layout, place, version)}"'
        for layout in wanted.layouts
        for place in wanted.places(layout)
    )


def bpf_programs(wanted: Wanted, layout: Layout, version: IpVersion) -> Iterator[tuple[Instruction, ...]]:
    """Programs that together look at every wanted offset."""
    places = list(wanted.places(layout))
    while places:
        count = 1
        program = _program(wanted, layout, places[:1], version)
        while count < len(places):
            longer = _program(wanted, layout, places[: count + 1], version)
            if len(longer) > MOST_INSTRUCTIONS:
                break
            count, program = count + 1, longer
        del places[:count]
        yield program


def _program(wanted: Wanted, layout: Layout, places: Sequence[int], version: IpVersion) -> tuple[Instruction, ...]:
    """Loads and comparisons with jumps by label: `next` is the next offset, `match` and `fail` the two ends.

    Of IPv4 the match of iptables itself has seen to protocol and fragments (xt_tcpudp.c tcp_mt), of IPv6 an extension header may stand
    where the offsets count on none.
    """
    base = 0 if version == 4 else IPV6_HEADER
    lines: list[tuple[int, str, str, int]] = []
    if version == 4:
        lines.append((_HEADER_LENGTH, "", "", 0))
    else:
        lines += [(_LOAD[6, 1], "", "", 6), (_EQUAL, "", "fail", 6)]
    words = 0
    labels: dict[str, int] = {}
    for place in places:
        labels[f"at {place}"] = len(lines)
        needed = header_words(place + layout.length)
        if needed > words:
            words = needed
            lines += [(_LOAD[version, 1], "", "", base + DATA_OFFSET), (_AT_LEAST, "", "fail", words << 4)]
        loads = layout.loads(wanted.target)
        ordered = [*loads[1:], loads[0]]  # the address tells most, so it is asked for first
        following = f"at {places[places.index(place) + 1]}" if place != places[-1] else "fail"
        for number, (at, size, value) in enumerate(ordered, 1):
            lines.append((_LOAD[version, size], "", "", base + place + at))
            lines.append((_EQUAL, "match" if number == len(ordered) else "", following, value))
    labels |= {"fail": len(lines), "match": len(lines) + 1}
    lines += [(_RETURN, "", "", 0), (_RETURN, "", "", 0xFFFF)]
    return tuple(
        (code, labels[true] - at if true else 0, labels[false] - at if false else 0, operand)
        for at, (code, true, false, operand) in enumerate(lines, 1)
    )


def _text(program: Sequence[Instruction]) -> str:
    """As `tcpdump -ddd` prints it, with commas for line feeds (iptables-extensions(8), "bpf")."""
    return ",".join([str(len(program)), *(" ".join(map(str, instruction)) for instruction in program)])


def _u32(wanted: Wanted, layout: Layout, place: int, version: IpVersion) -> str:
    """Tests of u32 (iptables-extensions(8)): it reads 32 bits, so byte 6 of IPv6 is the last of the four at 3."""
    start, base = ("0>>22&0x3C@", 0) if version == 4 else ("", IPV6_HEADER)
    tests = [f"{start}{base + DATA_OFFSET}>>28={header_words(place + layout.length)}:15"]
    for at, size, value in layout.loads(wanted.target):
        shift = "" if size == 4 else f">>{32 - 8 * size}"
        tests.append(f"{start}{base + place + at}{shift}=0x{value:X}")
    return " && ".join(tests if version == 4 else ["3&0xFF=6", *tests])
