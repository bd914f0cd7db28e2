"""What is wanted goes in; each ready filter comes out with how it is used, what else it matches and what it misses."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from typing import Literal

import msgspec

from tcpwhy.filters.iptables import bpf_matches, presence_matches, u32_matches
from tcpwhy.filters.layout import left_out
from tcpwhy.filters.nft import nft_matches
from tcpwhy.filters.tcpdump import tcpdump_expression
from tcpwhy.filters.wanted import IpVersion, Offsets, Tool, Wanted
from tcpwhy.filters.wireshark import wireshark_fields, wireshark_filter

SNAP_LENGTH = 144
"""Bytes of a frame in which the option lies: Ethernet with two tags 22 (cooked 20), IPv4 with options at most 60, TCP at most 60."""

REMINDER = (
    "The option is on early packets only: on the SYN (Alibaba LVS), and on the third ACK and what else the client sends until the server's "
    "first byte is acknowledged (LVS, DPVS). A connection that is already open will not show it again; `tcpwhy follow --real-client` stays "
    "with a connection after its early packets, `tcpwhy clients` tells from captures and tables whose a connection is."
)

TRUST = "Whoever sends a packet can write this option: believe it where the packet comes from your balancer's own addresses."

_INSIDE = "the same bytes inside another option (a timestamp's TSval and TSecr, a SACK block)"
_BEHIND_END = "the option behind kind 0, which ends the options (RFC 9293 section 3.1)"
_EXPERIMENT = (
    "an experiment on kind {kinds} whose bytes are the same, such as a TCP Fast Open cookie (port 63881 is its number f989, RFC 6994): "
    "nothing in the option tells them apart"
)


class ReadyFilter(msgspec.Struct, frozen=True):
    """One filter for one tool."""

    tool: Tool
    name: str
    """The tool, and what sets this filter apart from its others."""
    explanation: str
    expressions: tuple[str, ...]
    """One expression; several where the tool has no `or` between them: each for a rule of its own."""
    use: tuple[str, ...]
    """Command lines that take it."""
    false_matches: tuple[str, ...]
    """What it matches although that client is not behind the packet."""
    misses: tuple[str, ...]
    """What it does not find although the option is there."""
    limits: tuple[str, ...]
    """What it asks of the tool, or what the tool does not have."""
    snap_length: int | None
    """Bytes of each frame that a capture must have; null where whole packets are seen."""


class UsedLayout(msgspec.Struct, frozen=True):
    """A layout that the filters look for."""

    name: str
    """Kind and length of the option, as `254/8`."""
    source: str
    """Who writes it."""


class UnusedLayout(msgspec.Struct, frozen=True):
    """A layout of the same address family that the filters do not look for."""

    name: str
    because: str


class FilterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All filters for one client."""

    schema: Literal["tcpwhy-filter/1"] = "tcpwhy-filter/1"
    real_client: str
    """`1.2.3.4`, `1.2.3.4:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    layouts: tuple[UsedLayout, ...]
    left_out: tuple[UnusedLayout, ...]
    filters: tuple[ReadyFilter, ...]
    reminder: str
    """On which packets the option is at all."""
    trust: str
    """Whose word it is."""
    all_match: tuple[str, ...]
    """Those of the false matches that no filter can avoid."""


def ready_filters(
    wanted: Wanted,
    *,
    tools: tuple[Tool, ...],
    every_form: bool = True,
    vlan: bool = False,
    u32: bool = False,
    named_layouts: tuple[str, ...] = (),
) -> FilterAnswer:
    """The filters of these tools; with `every_form` a tool's shorter and other forms too, else one a tool, as the options choose it."""
    makers = {"tcpdump": _tcpdump, "wireshark": _wireshark, "nft": _nft, "iptables": _iptables}
    asking = _Asking(wanted, every_form, vlan, u32, named_layouts)
    return FilterAnswer(
        real_client=str(wanted.target),
        layouts=tuple(UsedLayout(layout.name, layout.source) for layout in wanted.layouts),
        left_out=tuple(UnusedLayout(*one) for one in left_out(wanted.layouts, wanted.target)),
        filters=tuple(one for tool in tools for one in makers[tool](asking)),
        reminder=REMINDER,
        trust=TRUST,
        all_match=asking.shared(),
    )


class _Asking(msgspec.Struct, frozen=True):
    wanted: Wanted
    every_form: bool
    vlan: bool
    u32: bool
    named: tuple[str, ...]

    def command(self, tool: Tool, *more: str, versions: tuple[IpVersion, ...] | None = None) -> str:
        """The command line that prints one filter bare."""
        versions = versions or self.wanted.versions
        words = ["tcpwhy", "filter", "real-client", str(self.wanted.target), "--for", tool]
        words += [f"--layout={name}" for name in self.named]
        words += [] if len(versions) > 1 else [f"-{versions[0]}"]
        return shlex.join([*words, *more])

    def with_offsets(self, offsets: Offsets) -> Wanted:
        return dataclasses.replace(self.wanted, offsets=offsets)

    def shared(self) -> tuple[str, ...]:
        """What no filter can tell apart."""
        kinds = sorted({layout.kind for layout in self.wanted.layouts if layout.kind in (253, 254)})
        return (_EXPERIMENT.format(kinds=" or ".join(map(str, kinds))),) if kinds else ()


_WHERE: dict[Offsets, str] = {
    "every": "at every offset",
    "aligned": "at offsets that are multiples of four, with NOPs before or behind it",
    "first": "directly behind the base header only (offset 20), where LVS and DPVS put it",
}


def _tcpdump(asking: _Asking) -> Iterator[ReadyFilter]:
    forms: list[tuple[Offsets, bool]] = [(asking.wanted.offsets, asking.vlan)]
    if asking.every_form:
        forms = [("every", False), ("aligned", False), ("first", False), ("first", True)]
    for offsets, vlan in forms:
        more = (*(("--offsets", offsets) if offsets != "every" else ()), *(("--vlan",) if vlan else ()))
        tagged = ", also inside one or two VLAN tags" if vlan else ""
        command = asking.command("tcpdump", *more)
        live = f'tcpdump -n -i eth0 -s {SNAP_LENGTH} "$({command})"'
        yield ReadyFilter(
            tool="tcpdump",
            name=" ".join(("tcpdump", *more)),
            explanation=f"Looks for the option {_WHERE[offsets]}{tagged}, on {_packets(asking.wanted.versions)}.",
            expressions=(tcpdump_expression(asking.with_offsets(offsets), vlan=vlan),),
            use=(f'tcpdump -n -r FILE "$({command})"',) if vlan else (live,),
            false_matches=(_INSIDE, _BEHIND_END, *asking.shared()),
            misses=(*_missed_offsets(offsets), *_missed_by_tcpdump(asking.wanted.versions, vlan=vlan)),
            limits=_VLAN_LIMITS if vlan else _MEMORY_LIMITS if offsets == "every" and len(asking.wanted.versions) > 1 else (),
            snap_length=SNAP_LENGTH,
        )


def _packets(versions: tuple[IpVersion, ...]) -> str:
    return " and ".join(f"IPv{version}" for version in versions) + " packets"


def _missed_offsets(offsets: Offsets) -> tuple[str, ...]:
    return () if offsets == "every" else ("the option at any other offset",)


_VLAN_LIMITS = (
    "`vlan` moves the offsets of all that is written behind it: conditions of your own go before it",
    "for files: of live frames Linux takes the first tag off, and the plain form finds them",
    "live, only `--offsets first` is short enough for the kernel; with more tcpdump warns and filters by itself",
)
_MEMORY_LIMITS = (
    "where `sysctl net.core.optmem_max` is 20480, as in older kernels, the kernel has no room for it: tcpdump warns and filters by itself",
    "`-4`, `-6` or `--offsets aligned` fits there",
)


def _missed_by_tcpdump(versions: tuple[IpVersion, ...], *, vlan: bool) -> Iterator[str]:
    yield "options that a snap length cut off"
    if 6 in versions:
        yield "IPv6 packets with extension headers"
    yield "packets inside tunnels, PPPoE or MPLS"
    if vlan:
        yield "link types without tags (`-i any`, tun): tcpdump refuses the expression"
    else:
        yield "frames that have their VLAN tag in a file (`--vlan`)"


def _wireshark(asking: _Asking) -> Iterator[ReadyFilter]:
    quoted = "an ICMP error that quotes such a packet"
    yield ReadyFilter(
        tool="wireshark",
        name="wireshark",
        explanation=f"Walks the options over their raw bytes, on {_packets(asking.wanted.versions)}, inside VLAN tags and tunnels.",
        expressions=(wireshark_filter(asking.wanted),),
        use=(f'tshark -r FILE -Y "$({asking.command("wireshark")})"',),
        false_matches=(quoted, *asking.shared()),
        misses=("options that a snap length cut off",),
        limits=("Wireshark 3.6 or newer, for its raw strings",),
        snap_length=SNAP_LENGTH,
    )
    if not asking.every_form:
        return
    yield ReadyFilter(
        tool="wireshark",
        name="wireshark, by fields",
        explanation="Short enough to type; rests on how Wireshark dissects these options.",
        expressions=(wireshark_fields(asking.wanted),),
        use=(),
        false_matches=(
            "an option of another layout with the same bytes at that place, such as a virtual IP's",
            "of kind 28: the same bytes inside another option",
            quoted,
            *asking.shared(),
        ),
        misses=(
            "a client whose port is the number of an experiment (63881 is TCP Fast Open): the option is dissected as that",
            "kind 28 with another version than 1",
            "options that a snap length cut off",
        ),
        limits=("field names of Wireshark 4.0",),
        snap_length=SNAP_LENGTH,
    )


def _nft(asking: _Asking) -> Iterator[ReadyFilter]:
    command = asking.command("nft")
    yield ReadyFilter(
        tool="nft",
        name="nft",
        explanation="Walks the options, on " + _packets(asking.wanted.versions) + ". A mark on the connection stays for its later packets: "
        "with the second line, `ct mark 1` is true of all of them.",
        expressions=nft_matches(asking.wanted),
        use=tuple(
            f"{command} | sed 's/.*/add rule inet TABLE CHAIN & {statement}/' | nft -f -" for statement in ("counter", "ct mark set 1")
        ),
        false_matches=(_BEHIND_END, *asking.shared()),
        misses=("a second option of one kind on one packet: the kernel takes the first",),
        limits=("nft has no `or`: each line is for a rule of its own",) if len(asking.wanted.layouts) > 1 else (),
        snap_length=None,
    )


def _iptables(asking: _Asking) -> Iterator[ReadyFilter]:
    if asking.every_form:
        yield ReadyFilter(
            tool="iptables",
            name="iptables, any client",
            explanation="Walks the options and asks whether one of the kind is there, whoever the client is; ip6tables takes it too.",
            expressions=presence_matches(asking.wanted),
            use=(),
            false_matches=("every other client's option, and every other use of the kind",),
            misses=(),
            limits=("iptables cannot walk the options and compare an address: those below look at fixed offsets",),
            snap_length=None,
        )
    for version in asking.wanted.versions:
        for u32 in (False, True) if asking.every_form else (asking.u32,):
            yield _iptables_bytes(asking, version, u32=u32)


def _iptables_bytes(asking: _Asking, version: IpVersion, *, u32: bool) -> ReadyFilter:
    program = "iptables" if version == 4 else "ip6tables"
    offsets: Offsets = asking.wanted.offsets if not asking.every_form else "first" if u32 else "aligned"
    more = (*(("--offsets", offsets) if offsets != "every" else ()), *(("--u32",) if u32 else ()))
    wanted = asking.with_offsets(offsets)
    line = asking.command("iptables", *more, versions=(version,))
    match = "the u32 match, for kernels without xt_bpf" if u32 else "the bpf match"
    most = "u32 looks at one offset a rule" if u32 else "a program of the bpf match holds 64 instructions, so it takes several rules"
    return ReadyFilter(
        tool="iptables",
        name=" ".join((program, *more)),
        explanation=f"Looks for the option {_WHERE[offsets]}, by {match}, on packets that have an option of the kind.",
        expressions=u32_matches(wanted, version) if u32 else bpf_matches(wanted, version),
        use=(f"(echo '*filter'; {line} | sed 's/.*/-A INPUT & -j LOG/'; echo COMMIT) | {program}-restore -n",),
        false_matches=(f"{_INSIDE}, on a packet that has an option of the kind besides", _BEHIND_END, *asking.shared()),
        misses=(*_missed_offsets(offsets), *(("IPv6 packets with extension headers",) if version == 6 else ())),
        limits=(f"{most}; each line is for a rule of its own",),
        snap_length=None,
    )
