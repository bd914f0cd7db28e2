"""The entries of one set go in; an index comes out that answers whether a packet's parts are among them, as the kernel's set types do."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Literal

from tcpwhy.tables.protocols import protocol_number

Answer = Literal["present", "exception", "absent"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORT_PROTOCOLS = frozenset({6, 17, 132, 136})
"""tcp, udp, sctp, udplite (net/netfilter/ipset/ip_set_getport.c get_port)."""

_ICMP = {
    "echo-reply": (0, 0), "pong": (0, 0), "network-unreachable": (3, 0), "host-unreachable": (3, 1), "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3), "fragmentation-needed": (3, 4), "source-route-failed": (3, 5), "network-unknown": (3, 6),
    "host-unknown": (3, 7), "network-prohibited": (3, 9), "host-prohibited": (3, 10), "TOS-network-unreachable": (3, 11),
    "TOS-host-unreachable": (3, 12), "communication-prohibited": (3, 13), "host-precedence-violation": (3, 14),
    "precedence-cutoff": (3, 15), "source-quench": (4, 0), "network-redirect": (5, 0), "host-redirect": (5, 1),
    "TOS-network-redirect": (5, 2), "TOS-host-redirect": (5, 3), "echo-request": (8, 0), "ping": (8, 0), "router-advertisement": (9, 0),
    "router-solicitation": (10, 0), "ttl-zero-during-transit": (11, 0), "ttl-zero-during-reassembly": (11, 1), "ip-header-bad": (12, 0),
    "required-option-missing": (12, 1), "timestamp-request": (13, 0), "timestamp-reply": (14, 0), "address-mask-request": (17, 0),
    "address-mask-reply": (18, 0),
}  # fmt: skip
"""ipset's lib/icmp.c."""

_ICMP6 = {
    "no-route": (1, 0), "communication-prohibited": (1, 1), "address-unreachable": (1, 3), "port-unreachable": (1, 4),
    "packet-too-big": (2, 0), "ttl-zero-during-transit": (3, 0), "ttl-zero-during-reassembly": (3, 1), "bad-header": (4, 0),
    "unknown-header-type": (4, 1), "unknown-option": (4, 2), "echo-request": (128, 0), "ping": (128, 0), "echo-reply": (129, 0),
    "pong": (129, 0), "router-solicitation": (133, 0), "router-advertisement": (134, 0), "neighbour-solicitation": (135, 0),
    "neighbor-solicitation": (135, 0), "neighbour-advertisement": (136, 0), "neighbor-advertisement": (136, 0), "redirect": (137, 0),
}  # fmt: skip
"""ipset's lib/icmpv6.c."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """The parts of a packet that `--match-set NAME src,dst` looks at."""

    directions: tuple[str, ...]
    """`src` or `dst` for each dimension, in order."""
    source: Address
    destination: Address
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    icmp: tuple[int, int] | None = None
    in_interface: str = ""
    out_interface: str = ""
    mark: int = 0

    def address(self, dimension: int) -> Address:
        """By the dimension's direction."""
        return self.source if self.directions[dimension] == "src" else self.destination

    def port(self, dimension: int) -> tuple[int, int] | None:
        """Protocol and port (of ICMP type and code); None where it is not known."""
        if self.protocol in PORT_PROTOCOLS:
            port = self.source_port if self.directions[dimension] == "src" else self.destination_port
            return None if port is None else (self.protocol, port)
        if self.protocol in (1, 58):
            return None if self.icmp is None else (self.protocol, self.icmp[0] << 8 | self.icmp[1])
        return self.protocol, 0


@dataclasses.dataclass(slots=True)
class Entries:
    """The entries of one set, by their dimensions."""

    kinds: tuple[str, ...]
    """`ip`, `net`, `port`, `iface`, `mark`, `mac` of each dimension."""
    version: int | None
    """4 or 6; None of bitmap:port and hash:mac, which any family matches."""
    mask: int
    """That addresses are taken with (`netmask`, `bitmask`)."""
    markmask: int
    has_protocol: bool
    """False of bitmap:port."""
    table: dict[tuple[Hashable, ...], bool] = dataclasses.field(default_factory=dict)
    """By the parts of each dimension; True for an exception."""
    lengths: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
    """The prefix lengths of the `net` dimensions that occur, the most specific first."""
    wildcards: list[tuple[int, int, str, bool]] = dataclasses.field(default_factory=list)
    """Of hash:net,iface: prefix length, network, beginning of the interface's name, exception."""
    unclear: int = 0
    """Entries that could not be read."""

    def has(self, asked: Asked) -> Answer | None:
        """What the set says; None where it cannot be told."""
        if len(asked.directions) < len(self.kinds) or (self.version is not None and asked.source.version != self.version):
            return "absent"
        parts = self._parts(asked)
        if isinstance(parts, str):
            return "absent"
        if parts is None:
            return "absent" if not self.table and not self.wildcards and not self.unclear else None
        for lengths in self.lengths or [()]:
            key = self._masked(parts, lengths)
            if key in self.table:
                return self._sure("exception" if self.table[key] else "present")
        for length, network, name, is_exception in self.wildcards:
            address, interface = parts
            if (
                isinstance(address, int)
                and address >> (self._bits - length) << (self._bits - length) == network
                and str(interface).startswith(name)
            ):
                return self._sure("exception" if is_exception else "present")
        return None if self.unclear else "absent"

    @property
    def _bits(self) -> int:
        return 128 if self.version == 6 else 32

    def _sure(self, answer: Answer) -> Answer | None:
        """With networks a more specific entry may be among the unclear ones."""
        return None if self.unclear and self.lengths else answer

    def _parts(self, asked: Asked) -> list[Hashable] | Literal["never"] | None:
        parts: list[Hashable] = []
        for place, kind in enumerate(self.kinds):
            if kind == "ip":
                parts.append(int(asked.address(place)) & self.mask)
            elif kind == "net":
                parts.append(int(asked.address(place)))
            elif kind == "port":
                port = asked.port(place)
                if port is None:
                    return None
                if not self.has_protocol and port[0] not in (6, 17):
                    return "never"
                parts.append(port if self.has_protocol else port[1])
            elif kind == "iface":
                interface = asked.in_interface if asked.directions[place] == "src" else asked.out_interface
                if not interface:
                    return "never"
                parts.append(interface)
            elif kind == "mark":
                parts.append(asked.mark & self.markmask)
            else:
                return None  # a MAC address: the packet does not say
        return parts

    def _masked(self, parts: list[Hashable], lengths: tuple[int, ...]) -> tuple[Hashable, ...]:
        if not lengths:
            return tuple(parts)
        key = list(parts)
        rest = iter(lengths)
        for place, kind in enumerate(self.kinds):
            if kind == "net":
                length = next(rest)
                shift = self._bits - length
                value = key[place]
                key[place] = (length, value >> shift << shift if isinstance(value, int) else 0)
        return tuple(key)


_KINDS = frozenset({"ip", "net", "port", "iface", "mark", "mac"})


def index_entries(type_name: str, options: Mapping[str, str], entries: Iterable[str]) -> Entries | None:
    """The index of a set's entries; None for a type that is not known."""
    method, _, dimensions = type_name.partition(":")
    kinds = tuple(dimensions.split(","))
    if method not in ("hash", "bitmap") or not set(kinds) <= _KINDS or len(kinds) > 3:
        return None
    without_family = kinds in (("port",), ("mac",))
    version = None if without_family else 6 if options.get("family") == "inet6" else 4
    mask = _mask(options, 128 if version == 6 else 32)
    markmask = _number(options.get("markmask", "0xffffffff"))
    if mask is None or markmask is None:
        return None
    made = Entries(kinds, version, mask, markmask, has_protocol=method == "hash")
    lengths: set[tuple[int, ...]] = set()
    for entry in entries:
        _add(made, entry, lengths)
    made.lengths = sorted(lengths, reverse=True)
    return made


def _mask(options: Mapping[str, str], bits: int) -> int | None:
    if "bitmask" in options:
        try:
            return int(ipaddress.ip_address(options["bitmask"]))
        except ValueError:
            return None
    text = options.get("netmask", str(bits))
    if not (text.isascii() and text.isdigit() and len(text) <= 3) or int(text) > bits:
        return None
    return (1 << bits) - (1 << (bits - int(text)))


def _number(text: str) -> int | None:
    found = re.fullmatch(r"0[xX]([0-9A-Fa-f]{1,8})|(\d{1,10})", text, re.ASCII)
    if not found:
        return None
    return int(found[1], 16) if found[1] else int(found[2])


def _add(made: Entries, entry: str, lengths: set[tuple[int, ...]]) -> None:
    words = entry.split()
    parts = words[0].split(",")
    extra = words[1 : words.index("comment")] if "comment" in words else words[1:]
    if len(parts) != len(made.kinds) or "mac" in made.kinds:
        made.unclear += 1
        return
    is_exception = "nomatch" in extra
    key: list[Hashable] = []
    here: list[int] = []
    for kind, text in zip(made.kinds, parts, strict=True):
        part = _part(made, kind, text)
        if part is None:
            made.unclear += 1
            return
        if kind == "net" and isinstance(part, tuple):
            here.append(int(part[0]))
        key.append(part)
    if "iface" in made.kinds and parts[-1].startswith("physdev:"):
        return  # of a bridge's port: a packet that is routed or delivered has none (ip_set_hash_netiface.c)
    if here:
        lengths.add(tuple(here))
    if "wildcard" in extra and isinstance(key[0], tuple):
        made.wildcards.append((int(key[0][0]), int(key[0][1]), str(key[1]), is_exception))
    else:
        made.table[tuple(key)] = is_exception


def _part(made: Entries, kind: str, text: str) -> Hashable | None:
    """One dimension of an entry; None where it is not understood, as a range that the kernel never writes."""
    if kind in ("ip", "net"):
        return _address(made, kind, text)
    if kind == "port":
        return _port(made, text)
    if kind == "mark":
        return _number(text)
    return text.removeprefix("physdev:") or None


def _address(made: Entries, kind: str, text: str) -> Hashable | None:
    host, slash, length = text.partition("/")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    bits = address.max_prefixlen
    if address.version != made.version or (
        slash and not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits)
    ):
        return None
    if kind == "net":
        size = int(length) if slash else bits
        return size, int(address) >> (bits - size) << (bits - size)
    return None if slash and int(length) != bits else int(address) & made.mask


def _port(made: Entries, text: str) -> Hashable | None:
    name, colon, value = text.rpartition(":")
    if not made.has_protocol:
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None
    protocol = protocol_number(name) if colon else 6  # tcp where none is named (ipset(8), hash:ip,port)
    if protocol is None:
        return None
    if protocol in (1, 58):
        pair = (_ICMP if protocol == 1 else _ICMP6).get(value)
        found = re.fullmatch(r"(\d{1,3})/(\d{1,3})", value, re.ASCII)
        pair = (int(found[1]), int(found[2])) if found else pair
        return None if pair is None else (protocol, pair[0] << 8 | pair[1])
    return (protocol, int(value)) if value.isascii() and value.isdigit() and len(value) <= 5 else None
