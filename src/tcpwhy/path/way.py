"""A packet and what has happened to it so far: each stage of the walk takes a way and gives the ways that go on from there."""

from __future__ import annotations

import dataclasses

from tcpwhy.evidence.source import Source
from tcpwhy.path.packet import Address, CtTuple, Packet
from tcpwhy.path.trace import Doubt, Fate, Stage, Step


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """What conntrack remembers of the connection: both tuples. NAT is the difference of the two."""

    original: CtTuple
    reply: CtTuple
    has_reply: bool = False
    """Packets of both directions were seen."""
    source: Source | None = None
    """The line of a collected entry; None for one that the walk itself made."""
    mark: int | None = 0
    """The connection's mark; None where it is not known."""

    @property
    def is_dnat(self) -> bool:
        """Answers come from elsewhere than the client asked."""
        return (self.reply.source, self.reply.source_port) != (self.original.destination, self.original.destination_port)

    @property
    def is_snat(self) -> bool:
        """Answers go elsewhere than the client is."""
        return (self.reply.destination, self.reply.destination_port) != (self.original.source, self.original.source_port)


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way that the packet may have gone so far."""

    packet: Packet
    steps: tuple[Step, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    binding: Binding | None = None
    destination_bound: bool = False
    """Its destination translation is settled: nat chains are not asked again (nf_nat_initialized)."""
    source_bound: bool = False
    confirmed: Binding | None = None
    """A connection that was there before this packet, whose translation holds."""
    forced_socket: tuple[Address, int] | None = None
    """What TPROXY chose."""
    gateway: Address | None = None
    """The next hop, where the destination is not on the link itself."""
    is_broadcast: bool = False
    """Routed as a broadcast: nothing is answered to it."""
    new_out_interface: str | None = None
    """In OUTPUT, where a rule's change found another route: rules of this hook still see the first (nf_hook_state.out)."""
    is_local: bool = False
    """An own packet of the host for the host itself: it goes by lo."""
    is_balanced: bool = False
    """IPVS has sent it on, and lets it pass from then on (skb->ipvs_property)."""

    def step(
        self,
        stage: Stage,
        text: str,
        *,
        hook: str = "",
        sources: tuple[Source, ...] = (),
        rule: str = "",
        packet: Packet | None = None,
        doubts: tuple[Doubt, ...] = (),
    ) -> Way:
        """The way after one more step; `packet` where the step changes it."""
        after = self.packet if packet is None else packet
        made = Step(stage, hook, text, sources, rule, self.packet, after)
        return dataclasses.replace(self, packet=after, steps=(*self.steps, made), doubts=(*self.doubts, *doubts))


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """A way at its end."""

    way: Way
    fate: Fate
    answer: Packet | None = None


Onward = Way | Ending
"""What a stage gives for each way: it goes on, or it has ended."""


def tuple_of(packet: Packet) -> CtTuple:
    """The packet's own tuple."""
    return CtTuple(packet.source, packet.source_port, packet.destination, packet.destination_port)


def inverted(tuple_: CtTuple) -> CtTuple:
    """The tuple of the answers."""
    return CtTuple(tuple_.destination, tuple_.destination_port, tuple_.source, tuple_.source_port)
