"""A packet and its host go in; what the matches of iptables ask of them comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.path.answers import Answer, Unknown
from tcpwhy.path.iptables_values import network
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Surroundings
from tcpwhy.tables.protocols import protocol_number


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """A packet at one chain of a table."""

    packet: Packet
    around: Surroundings
    table: str
    changed_sets: frozenset[str] = frozenset()
    """Sets that a SET target changed on this way: what the snapshot says of them no longer holds."""

    @property
    def hook(self) -> str:
        """The base chain that is walked."""
        return self.around.hook

    @property
    def protocol(self) -> int:
        """The IP protocol's number; -1 for a name that is not known."""
        number = protocol_number(self.packet.protocol)
        return -1 if number is None else number

    @property
    def has_no_entry(self) -> bool:
        """True where the packet surely has no conntrack entry: it is invalid to conntrack, or not tracked."""
        return not self.packet.ct_is_tracked or self.packet.ct_state in ("INVALID", "UNTRACKED")


def is_in_network(address: Address, text: str) -> Answer:
    """Whether an address is in `10.0.0.0/8`; unknown for a host name."""
    found = network(text)
    if found is None:
        return Unknown(f"`{text[:60]}` is no address")
    version, value, mask = found
    return address.version == version and int(address) & mask == value
