"""Segments that passed and segments that did not go in; the bracket of the path's MTU, and what may have narrowed it, come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tcpwhy.causes._verdict import Exhibit
from tcpwhy.connections.connection import Connection, IcmpError, Segment
from tcpwhy.connections.losses import full_payload
from tcpwhy.connections.packet import Side

LEAST_MTU = {4: 576, 6: 1280}
"""What every path carries: RFC 791 section 3.1 asks every host for 576 bytes, RFC 8200 section 5 every link for 1280."""

TUNNELS = (
    ("PPPoE", 8), ("IPIP", 20), ("GRE", 24), ("GRE with a key", 28), ("IPv6 around it", 40), ("VXLAN or Geneve", 50), ("WireGuard", 60),
    ("VXLAN over IPv6", 70), ("ESP", 73), ("WireGuard over IPv6", 80),
)  # fmt: skip
"""Bytes that wrap each packet: RFC 2516 (6 and 2), RFC 2003, RFC 2784 (20 and 4), RFC 2890, RFC 2473, RFC 7348 (14, 8, 8 and 20),
WireGuard's data message (20, 8 and 32), ESP in tunnel mode with AES-CBC and SHA-1 at most (RFC 4303)."""

MOST_NAMED = 4
"""Tunnels named where nothing but a wide bracket is known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bracket:
    """IP packets of `passed` bytes pass, of `stuck` bytes do not."""

    passed: int
    stuck: int
    link: int
    """Bytes of a full packet at the sender, as both ends' MSS allow."""
    exact: int | None = None
    """The MTU, where an ICMP error or a host's state names it."""
    named_by: Exhibit | None = None

    def told(self) -> str:
        """Both sizes in one sentence, with what explains the difference."""
        text = f"Packets of {self.passed} bytes pass, packets of {self.stuck} bytes do not"
        if self.exact is not None:
            missing = self.link - self.exact
            names = [name for name, size in TUNNELS if size == missing]
            return f"{text}; the link carries {self.exact}" + (f", {missing} fewer than {self.link}, as with {names[0]}." if names else ".")
        names = [f"{name} ({size})" for name, size in TUNNELS if self.passed <= self.link - size < self.stuck]
        if not names:
            return f"{text}."
        shown = ", ".join(names[:MOST_NAMED]) + (" and larger ones" if len(names) > MOST_NAMED else "")
        return f"{text}: the header of a tunnel on the way explains that, such as {shown}."


def version_of(connection: Connection) -> int:
    """4 or 6."""
    return 6 if ":" in connection.server.ip else 4


def header_of(connection: Connection, side: Side) -> int:
    """Bytes of IP and TCP headers of this end's data segments."""
    seen = [one.packet.ip_length - one.length for one in connection.segments if one.sender == side and one.length and one.packet.ip_length]
    usual = 40 if version_of(connection) == 4 else 60
    return min((size for size in seen if usual <= size <= usual + 60), default=usual + 12)


def bracket_of(connection: Connection, side: Side, passed: int, stuck: int) -> Bracket:
    """`passed`, `stuck`: payloads of the largest segment that passed and the smallest that did not."""
    header = header_of(connection, side)
    found = Bracket(max(passed, 0) + header, stuck + header, full_payload(connection) + header)
    for error in too_big(connection):
        if found.passed <= error.packet.icmp_mtu < found.stuck:
            return dataclasses.replace(found, exact=error.packet.icmp_mtu, named_by=_said(error))
    narrow = next(_narrow_links(connection, found), None)
    return found if narrow is None else dataclasses.replace(found, exact=narrow[0], named_by=narrow[1])


def too_big(connection: Connection) -> list[IcmpError]:
    """ICMP errors that say that a packet of the connection is too big."""
    return [error for error in connection.icmp if error.is_too_big]


def _said(error: IcmpError) -> Exhibit:
    packet = error.packet
    name = "packet too big" if ":" in packet.source.ip else "fragmentation needed"
    router = packet.quoted_by.partition(" > ")[0]
    return Exhibit(
        kind="packet",
        vantage_point=packet.vantage_point,
        file=packet.file,
        frame=packet.frame,
        time_ns=packet.time_ns,
        text=f"ICMP {name} from {router}: the next link carries {packet.icmp_mtu} bytes",
    )


def _narrow_links(connection: Connection, bracket: Bracket) -> Iterator[tuple[int, Exhibit]]:
    """Interfaces of the hosts on the way whose MTU lies in the bracket."""
    for place in connection.places:
        host = connection.hosts.get(place)
        for link in host.links.by_name.values() if host is not None and host.links is not None else ():
            if link.mtu is not None and link.is_up and not link.is_loopback and bracket.passed <= link.mtu < bracket.stuck:
                text = f"{link.name} of {place} carries {link.mtu} bytes at most"
                yield link.mtu, Exhibit("state", place, link.source.file, text, line=link.source.line)


def sent_back(connection: Connection, sender: str) -> str:
    """What became of the ICMP error that should tell `sender`, as a sentence."""
    errors = too_big(connection)
    name = "packet too big" if version_of(connection) == 6 else "fragmentation needed"
    if not errors:
        return f"No ICMP error ({name}) that would say so was seen at any place."
    places = sorted({error.packet.vantage_point for error in errors})
    if sender in places:
        return f"The ICMP error ({name}) comes to {sender}, and {sender} does not heed it: its own firewall or a setting ignores ICMP."
    router = errors[0].packet.quoted_by.partition(" > ")[0]
    return f"The ICMP error ({name}) of {router} was seen at {', '.join(places)} and never at {sender}: it is dropped between."


def is_large(connection: Connection, segment: Segment) -> bool:
    """True for a segment that a path may refuse: larger than what every path carries."""
    size = min(segment.length, full_payload(connection)) + header_of(connection, segment.sender)
    return size > LEAST_MTU[version_of(connection)]
