r"""A client and layouts go in; display filters for Wireshark and tshark come out (wireshark-filter(4)).

The exact one walks the options by a regular expression over their raw bytes, so it depends on no dissector of an option. Four traps of
`matches` (tshark 4.0.17): it ignores case unless told `(?-i)`, so 65.x would be 97.x too; `.` does not match 0x0a without `(?s)`; in a
plain string `\x2e` becomes a full stop before the expression is compiled, in a raw string (r"...", Wireshark 3.6) it stays the byte; and
it is searched anywhere, so it begins with `^`.
"""

from __future__ import annotations

from tcpwhy.filters.layout import Layout
from tcpwhy.filters.target import Target
from tcpwhy.filters.wanted import Wanted

MOST_OPTION_BYTES = 40
_EXPERIMENTAL = (253, 254)


def wireshark_filter(wanted: Wanted) -> str:
    """The exact filter: IPv4 and IPv6, inside VLAN tags and tunnels, at any offset, never inside another option."""
    shortest = min(layout.length for layout in wanted.layouts)
    lengths = range(2, MOST_OPTION_BYTES - shortest + 1)
    others = "|".join(f"\\x{length:02x}{_any(length - 2)}" for length in lengths)
    walk = rf"(?:\x01|[^\x00\x01](?:{others}))*?"
    found = "|".join(_pattern(layout, wanted.target) for layout in wanted.layouts)
    return _of_versions(rf'tcp.options matches r"(?s-i)^{walk}(?:{found})"', wanted)


def wireshark_fields(wanted: Wanted) -> str:
    """The short filter over fields of Wireshark 4.0's dissectors, for typing and for reading."""
    clauses = (_by_field(layout, wanted.target) for layout in wanted.layouts)
    return _of_versions("(" + " or ".join(dict.fromkeys(clauses)) + ")", wanted)


def _of_versions(text: str, wanted: Wanted) -> str:
    if len(wanted.versions) > 1:
        return text
    return f"{'ip' if wanted.versions == (4,) else 'ipv6'} and {text}"


def _any(count: int) -> str:
    return "" if count == 0 else "." if count == 1 else f".{{{count}}}"


def _pattern(layout: Layout, target: Target) -> str:
    """The layout's bytes, and its whole length: an option that is cut off is none."""
    known = layout.known_bytes(target)
    pieces: list[str] = []
    unknown = 0
    for at in range(layout.length):
        if at in known:
            pieces.append(_any(unknown) + f"\\x{known[at]:02x}")
            unknown = 0
        else:
            unknown += 1
    return "".join(pieces) + _any(unknown)


def _by_field(layout: Layout, target: Target) -> str:
    address = target.address.packed.hex(":")
    port = target.port
    if layout.kind in _EXPERIMENTAL:
        data = f"tcp.options.experimental.data == {address}"
        return data if port is None else f"({data} and tcp.options.experimental.exid == 0x{port:04x})"
    if layout.port_at is None:
        return f"tcp.options contains {layout.kind:02x}:{layout.length:02x}:01:{address}"
    begin, known = (2, f"{port.to_bytes(2, 'big').hex(':')}:{address}") if port is not None else (4, address)
    length = layout.address_at + len(target.address.packed) - begin
    return f"(tcp.option_kind == {layout.kind} and tcp.options.unknown.payload[{begin - 2}:{length}] == {known})"
