"""A client and layouts go in; matches for rules of nft come out, one a rule, for nft has no `or` (nft(8), "TCP option").

The kernel walks the options (net/netfilter/nft_exthdr.c nft_exthdr_tcp_eval), takes the first one of a kind, and steps over kind 0 as
over a NOP. Offsets are in bits from the kind byte. `tcp option 254 length 8` is written as `@254,8,8 8`: the worded form crashes nft 1.0.6.
"""

from __future__ import annotations

from tcpwhy.filters.layout import Layout
from tcpwhy.filters.target import Target
from tcpwhy.filters.wanted import Wanted

_FAMILY = {4: "ipv4", 6: "ipv6"}


def nft_matches(wanted: Wanted) -> tuple[str, ...]:
    """One match a layout; in a table of the family inet, or of ip and ip6 for their packets."""
    prefix = "" if len(wanted.versions) > 1 else f"meta nfproto {_FAMILY[wanted.versions[0]]} "
    return tuple(prefix + _match(layout, wanted.target) for layout in wanted.layouts)


def _match(layout: Layout, target: Target) -> str:
    address = target.address.packed
    pieces = [(1, bytes([layout.length]))]
    if target.port is not None and layout.port_at is not None:
        pieces.append((layout.port_at, target.port.to_bytes(2, "big")))
    pieces.append((layout.address_at, address))
    return " ".join(f"tcp option @{layout.kind},{8 * at},{8 * len(value)} {_number(value)}" for at, value in pieces)


def _number(value: bytes) -> str:
    return str(value[0]) if len(value) == 1 else f"0x{value.hex()}"
