"""Names of TOA layouts go in; which bytes of a TCP option hold a client's address and port comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

from tcpwhy.filters.target import Target


class LayoutError(ValueError):
    """A layout was named that is none, or cannot carry what is looked for; the text is one sentence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """One form of the option, all numbers in network byte order; offsets count from the kind byte."""

    kind: int
    length: int
    version: Literal[4, 6]
    """Of the address that it carries, whatever the packet's is."""
    address_at: int
    port_at: int | None
    source: str
    """Who writes it, and where that is written."""
    usual: bool = True
    """False for what is looked for only when it is named."""

    @property
    def name(self) -> str:
        """Kind and length, as `254/8`."""
        return f"{self.kind}/{self.length}"

    def known_bytes(self, target: Target) -> dict[int, int]:
        """Each byte of the option that the target determines, by its offset: kind, length, address, and the port where one is asked for."""
        known = {0: self.kind, 1: self.length}
        if target.port is not None and self.port_at is not None:
            known |= {self.port_at + at: byte for at, byte in enumerate(target.port.to_bytes(2, "big"))}
        return known | {self.address_at + at: byte for at, byte in enumerate(target.address.packed)}

    def loads(self, target: Target) -> tuple[tuple[int, int, int], ...]:
        """The known bytes as (offset, size, value), each as wide a load as the machines of BPF and u32 have: 4, 2 or 1 bytes."""
        known = self.known_bytes(target)
        found: list[tuple[int, int, int]] = []
        at = 0
        while at < self.length:
            size = next((size for size in (4, 2, 1) if all(at + step in known for step in range(size))), 0)
            if size:
                found.append((at, size, int.from_bytes(bytes(known[at + step] for step in range(size)), "big")))
            at += size or 1
        return tuple(found)


LAYOUTS = (
    Layout(254, 8, 4, 4, 2, "the original TOA: Alibaba LVS ip_vs.h, iqiyi/dpvs proto_tcp.h, Huawei TCP_option_address toa.h"),
    Layout(200, 8, 4, 4, 2, "TencentOS net/toa/toa.h, ucloud/ucloud-toa toa.h, tiglabs/jupiter core/lb_toa.c"),
    Layout(253, 8, 4, 4, 2, "TOA on the other experimental kind; with 0x0348 for a port HOST_ID of RFC 7974 section 3"),
    Layout(252, 20, 4, 4, 2, "Alibaba Cloud kernel net/vtoa/vtoa.h: client, VPC and VIP in one option"),
    Layout(28, 7, 4, 3, None, "aliyun/alibabacloud-cdn-tool-toa toa-kmod/toa.h: a version, then the address, no port"),
    Layout(28, 13, 4, 3, None, "Akamai's option 28 as F5 iRules decode it: version, address, six further bytes", usual=False),
    Layout(254, 20, 6, 4, 2, "iqiyi/dpvs proto_tcp.h, also on IPv4 packets (NAT64); Alibaba Cloud kernel net/vtoa/vtoa.h"),
    Layout(253, 20, 6, 4, 2, "Alibaba LVS ip_vs.h TCPOPT_ADDR_V6, Alibaba Cloud kernel net/vtoa/vtoa.h, Huawei's eBPF TOA"),
    Layout(249, 40, 6, 4, 2, "Alibaba Cloud kernel net/vtoa/vtoa.h: client, VPC and VIP in one option"),
    Layout(28, 19, 6, 3, None, "aliyun/alibabacloud-cdn-tool-toa toa-ebpf/toa.h: a version, then the address, no port"),
)
"""Every layout in which a client's address has a place of its own."""

_WITHOUT_CLIENT = {250: "a virtual IP's address and port", 201: "a VPC's number", 202: "a virtual IP's address and port"}
"""Kinds of the same families that name no client (TencentOS toa.h, Alibaba Cloud kernel net/vtoa/vtoa.h)."""


def pick_layouts(names: Iterable[str], target: Target) -> tuple[Layout, ...]:
    """The layouts of these names that can carry the target; without names the usual ones that can.

    A name is a kind (`254`) or kind and length (`254/8`). A layout without a port cannot answer for an address with one. Raises
    LayoutError where a name is none, or none of its layouts can carry the target.
    """
    asked = list(names)
    if not asked:
        return tuple(layout for layout in LAYOUTS if layout.usual and _refusal(layout, target) is None)
    found: list[Layout] = []
    for name in asked:
        named = [layout for layout in LAYOUTS if name in (layout.name, str(layout.kind))]
        if not named:
            raise LayoutError(_unknown(name))
        able = [layout for layout in named if _refusal(layout, target) is None]
        if not able:
            raise LayoutError(f"layout {named[0].name}: {_refusal(named[0], target)}")
        found += (layout for layout in able if layout not in found)
    return tuple(found)


def left_out(picked: Iterable[Layout], target: Target) -> tuple[tuple[str, str], ...]:
    """Layouts of the target's address family that are not looked for, each with the reason."""
    chosen = tuple(picked)
    others = (layout for layout in LAYOUTS if layout not in chosen and layout.version == target.address.version)
    return tuple((layout.name, _refusal(layout, target) or "not asked for") for layout in others)


def _refusal(layout: Layout, target: Target) -> str | None:
    if layout.version != target.address.version:
        return f"it carries an IPv{layout.version} address"
    if target.port is not None and layout.port_at is None:
        return "it carries no port: ask for the address alone"
    return None


def _unknown(name: str) -> str:
    kind = name.partition("/")[0]
    if kind.isascii() and kind.isdigit() and len(kind) < 4 and int(kind) in _WITHOUT_CLIENT:
        return f"layout {name} names no client: it carries {_WITHOUT_CLIENT[int(kind)]}"
    return f"there is no layout `{name}`; there are {', '.join(layout.name for layout in LAYOUTS)}, and their kinds alone"
