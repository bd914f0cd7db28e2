"""What one statement of an nft rule can do to a packet: go on, leave the rule, end the chain, or go to another."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import Nat

ActionKind = Literal["go", "leave", "return", "jump", "goto", "accept", "drop", "reject", "nat", "queue", "stolen"]


class Outcome(NamedTuple):
    """One thing that can happen; where several can, each says what it takes for true."""

    packet: Packet
    kind: ActionKind = "go"
    """`go` to the next statement, `leave` the rule for the next one, or what ends the rule."""
    text: str = ""
    """What happens, for a step: `jumps to web`; empty where nothing that is worth one does."""
    target: str = ""
    """Of jump and goto."""
    nat: Nat | None = None
    reject_with: str = ""
    tproxy: tuple[Address | None, int | None] | None = None
    """Of tproxy: the socket that is to take the packet if the chain accepts it."""
    assumed: str = ""
    because: str = ""
    """Why another outcome is possible too; empty where this is the only one."""


def either(packet: Packet, because: str) -> list[Outcome]:
    """A condition that may hold or not."""
    return [Outcome(packet, assumed="matches", because=because), Outcome(packet, "leave", assumed="does not match", because=because)]


def anything(packet: Packet, because: str) -> list[Outcome]:
    """A statement of which nothing is known: the packet may go on, be accepted or dropped."""
    return [
        Outcome(packet, "leave", assumed="goes on to the next rule", because=because),
        Outcome(packet, "accept", "accepts the packet", assumed="accepts the packet", because=because),
        Outcome(packet, "drop", "drops the packet", assumed="drops the packet", because=because),
    ]
