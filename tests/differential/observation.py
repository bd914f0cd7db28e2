"""What a kernel was seen to do with one probe, as plain data that comes out of a world."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tests.differential.configuration import WIRES, Probe
from tests.differential.frames import Seen


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """A packet that left the host under test, or went over its loopback."""

    interface: str
    packet: Seen


@dataclasses.dataclass(slots=True)
class Observation:
    """All traces of one probe."""

    sequence: int
    """Of the probe; of connect(2) the kernel chooses it, and it is found out."""
    delivered: list[Seen] = dataclasses.field(default_factory=list)
    """As local delivery had it, after all hooks of INPUT: a raw socket sees it there (ip_input.c ip_protocol_deliver_rcu)."""
    left: list[Left] = dataclasses.field(default_factory=list)
    """The probe itself, on its way out (AF_PACKET, after POSTROUTING)."""
    answers: list[Left] = dataclasses.field(default_factory=list)
    """SYN-ACK, RST, ICMP errors about it."""
    counters: dict[str, int] = dataclasses.field(default_factory=dict)
    """What rose, by nstat's names."""
    error: str = ""
    """The name of the errno that the sender got, of the host's own packets."""
    must_answer: bool = True
    """False where an ICMP error may not have been sent: the host has no route to the probe's source, or has told it to go another way,
    after which it tells it nothing for a second (route.c ip_rt_send_redirect() takes the quota of ip_error())."""
    risen: list[int] | None = None
    """Lines of iptables-save.txt whose packet counters rose; None where rules were not counted."""
    risen_nft: list[str] | None = None
    """Comments of nft rules whose counters rose."""
    answered: Observation | None = None
    """What became of the answer of the neighbour that a SYN has reached."""

    def __str__(self) -> str:
        parts = [f"delivered: {packet}" for packet in self.delivered]
        parts += [f"left by {one.interface}: {one.packet} ttl {one.packet.ttl}" for one in self.left]
        parts += [f"answer by {one.interface}: {one.packet}" for one in self.answers]
        parts += [f"sender got {self.error}"] if self.error else []
        parts += [] if self.must_answer else ["the host may have had no way to send it an ICMP error"]
        parts += ["counters: " + ", ".join(f"{name} +{count}" for name, count in self.counters.items())] if self.counters else []
        parts += [f"lines of iptables-save.txt that counted: {self.risen}"] if self.risen else []
        parts += [f"nft rules that counted: {self.risen_nft}"] if self.risen_nft else []
        parts += [f"the neighbour's answer: {line}" for line in str(self.answered).splitlines()] if self.answered else []
        return "\n".join(parts or ["nothing was seen of it"])


def peer_answer(probe: Probe, observation: Observation) -> Probe | None:
    """The SYN-ACK of the neighbour that a SYN has reached, if one has."""
    reached = next((one for one in observation.left if one.interface in WIRES and one.packet.protocol == "tcp"), None)
    if reached is None or probe.flags != "S":
        return None
    syn = reached.packet
    return Probe(
        "wire",
        syn.destination,
        syn.source,
        syn.destination_port,
        syn.source_port,
        syn.sequence,
        flags="SA",
        interface=reached.interface,
        acknowledged=(syn.sequence + 1) % (1 << 32),
    )


def follow_up(probe: Probe, observation: Observation) -> Probe | None:
    """The last ACK of a handshake that went through the host both ways."""
    answer = observation.answered
    if probe.way != "wire" or answer is None or not any(one.interface in WIRES for one in answer.left):
        return None
    following = (probe.sequence + 1) % (1 << 32)
    return dataclasses.replace(probe, flags="A", sequence=following, acknowledged=following)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What one configuration led to in its world."""

    observations: list[Observation]
    """One a probe, and then one for each of `follow_ups`."""
    follow_ups: list[Probe] = dataclasses.field(default_factory=list)
    """Probes of connections that conntrack knew when the state was taken."""
    error: str = ""
    """A traceback, where it could not be loaded or tried."""


def recognise(probe: Probe, outgoing: Sequence[Left], delivered: Sequence[Seen]) -> Observation:
    """Which of the packets that were seen are the probe, and which are about it."""
    sequence = probe.sequence if probe.way != "connect" else _chosen_sequence(probe, [one.packet for one in outgoing])
    observation = Observation(sequence)
    for packet in delivered:
        if _is_probe(packet, probe, sequence):
            observation.delivered.append(packet)
    for one in outgoing:
        packet = one.packet
        inner = packet.inside if packet.protocol == "ipip" and packet.inside else packet
        if _is_probe(packet, probe, sequence) or _is_probe(inner, probe, sequence):
            observation.left.append(one)
        elif _is_answer(packet, probe, sequence):
            observation.answers.append(one)
    return observation


def _chosen_sequence(probe: Probe, packets: Sequence[Seen]) -> int:
    """The sequence number that connect(2) took, 0 where its SYN was seen nowhere."""
    syns = [packet for packet in _with_quoted(packets) if packet.protocol == "tcp" and packet.flags in ("S", "")]
    ours = [packet for packet in syns if packet.source_port == probe.source_port]
    return (ours or syns)[0].sequence if syns else 0


def _with_quoted(packets: Sequence[Seen]) -> Iterator[Seen]:
    for packet in packets:
        yield packet
        if packet.inside:
            yield packet.inside


def _is_probe(packet: Seen, probe: Probe, sequence: int) -> bool:
    return packet.protocol == probe.protocol and packet.sequence == sequence and (packet.protocol == "udp" or packet.flags == probe.flags)


def _is_answer(packet: Seen, probe: Probe, sequence: int) -> bool:
    if packet.protocol == "icmp":
        quoted = packet.inside
        while quoted is not None and quoted.protocol == "ipip":
            quoted = quoted.inside
        # a redirect (5) is no error: the packet goes on
        if packet.icmp_type == 5 or quoted is None or quoted.flags not in (probe.flags, ""):
            return False
        return quoted.protocol == probe.protocol and quoted.sequence == sequence
    if packet.protocol != "tcp" or probe.protocol != "tcp":
        return False
    if "A" in packet.flags:
        return packet.acknowledged == (sequence + (probe.flags == "S")) % (1 << 32)
    return "R" in packet.flags and packet.sequence == sequence and probe.flags != "S"  # RFC 9293 3.10.7.1: SEQ=SEG.ACK
