"""A probe, what the kernel did with it and what the walk says of it go in; where they differ comes out, in words."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from tcpwhy.evidence.state import STATE_FILES, State
from tcpwhy.path import Fate, Packet, Stage, Trace, Walk, walk
from tcpwhy.tables.host import HostTables
from tests.differential.configuration import Configuration, Probe
from tests.differential.fates import RisenRules, kernel_fates, risen_rules
from tests.differential.frames import Seen
from tests.differential.observation import Observation, peer_answer
from tests.differential.worlds import Outcome

COMPARED = frozenset({Fate.FORWARDED, Fate.SENT, Fate.ACCEPTED, Fate.REFUSED})
"""Fates with a packet at the end that both saw."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One probe."""

    configuration: Configuration
    number: int
    """Of the probe, from 0."""
    observation: Observation
    fates: frozenset[Fate]
    """What the kernel can have done."""
    walked: Walk
    differences: tuple[str, ...]

    @property
    def probe(self) -> Probe:
        """What was sent."""
        return self.configuration.probes[self.number]

    @property
    def is_unknown(self) -> bool:
        """The walk could not tell, though the state told it all. Sockets of UDP are in no state file."""
        return self.walked.forward.fate is Fate.UNKNOWN and self.probe.protocol == "tcp"

    def __str__(self) -> str:
        trace = self.walked.forward
        lines = [
            *self.differences,
            f"probe {self.number}: {self.probe}",
            "kernel: " + " or ".join(sorted(fate.value for fate in self.fates)),
            *(f"  {line}" for line in str(self.observation).splitlines()),
            f"walk: {trace.fate.value}, ending as {trace.end}, out {trace.end.out_interface or 'nowhere'}",
            *(f"  {step.stage.value} {step.hook}: {step.text}  [{step.rule}]" for step in trace.steps),
            *(f"  doubt: {doubt.text} ({doubt.because}), assumed: {doubt.assumed}" for doubt in trace.doubts),
        ]
        if self.walked.reverse is not None:
            reverse = self.walked.reverse
            lines.append(f"answer {reverse.packet}: {reverse.fate.value}, ending as {reverse.end} out {reverse.end.out_interface}")
            lines += [f"  {step.stage.value} {step.hook}: {step.text}  [{step.rule}]" for step in reverse.steps]
        return "\n".join(lines)


def read_state(folder: Path) -> HostTables:
    """The tables of a state folder."""
    files = {name: folder / name for name in STATE_FILES if (folder / name).exists()}
    return HostTables(State("host", files, {name: name for name in files}, []))


def compare(outcome: Outcome) -> list[Comparison]:
    """Walks every probe of a configuration."""
    host = read_state(outcome.state)
    found = []
    for number, (probe, observation) in enumerate(zip(outcome.configuration.probes, outcome.observations, strict=True)):
        rules = risen_rules(outcome.configuration, outcome.state, observation)
        fates = kernel_fates(probe, observation, rules)
        walked = walk(host, packet_of(probe))
        differences = tuple(_differences(probe, observation, fates, walked, rules))
        answer = peer_answer(probe, observation)
        # of several next hops the walk follows the answer from one
        if (
            answer
            and observation.answered
            and walked.reverse
            and walked.reverse.packet.in_interface == answer.interface
            and not differences
        ):
            # the walk does not know what TTL the neighbour gave its answer, and takes rules that ask for it either way
            is_certain = not re.search(
                r"\bttl (eq|lt|gt|[>{\d])|--ttl-(eq|lt|gt)", outcome.configuration.iptables + outcome.configuration.nft
            )
            answer_rules = risen_rules(outcome.configuration, outcome.state, observation.answered) if is_certain else None
            differences = tuple(_answer_differences(answer, observation.answered, walked.reverse, answer_rules))
        found.append(Comparison(outcome.configuration, number, observation, fates, walked, differences))
    return found


def packet_of(probe: Probe) -> Packet:
    """The probe in the walk's words."""
    packet = Packet(
        protocol=probe.protocol,
        source=ipaddress.ip_address(probe.source),
        destination=ipaddress.ip_address(probe.destination),
        source_port=probe.source_port,
        destination_port=probe.destination_port,
        flags=probe.flags or None,
        ttl=probe.ttl,
        dscp=probe.dscp,
        mark=probe.mark,
        in_interface=probe.interface,
        uid=probe.uid if probe.way != "wire" else None,
    )
    if probe.tunnel is None:
        return packet
    source, destination = (ipaddress.ip_address(one) for one in probe.tunnel)
    inner = dataclasses.replace(packet, in_interface="")
    return Packet(protocol="ipip", source=source, destination=destination, in_interface=probe.interface, ttl=64, encapsulated=inner)


def _differences(probe: Probe, observation: Observation, fates: frozenset[Fate], walked: Walk, rules: RisenRules | None) -> list[str]:
    trace = walked.forward
    told = " or ".join(sorted(fate.value for fate in fates))
    if trace.fate is Fate.UNKNOWN:
        return [] if fates & set(trace.possible) else [f"the kernel's fate {told} is none of those that the walk holds possible"]
    if trace.fate not in fates:
        return [f"the kernel's fate is {told}, the walk's {trace.fate.value}"]
    found = _ends(observation, trace)
    if rules is not None and len(trace.ends) < 2:  # of several ends the steps show the way to one
        found += _rules(observation, trace)
    # REJECT answers no IPIP packet whose checksum no card has verified (nf_reject_verify_csum() in nf_reject.h)
    return found + (_answers(observation, walked) if probe.tunnel is None else [])


def _answer_differences(answer: Probe, observation: Observation, trace: Trace, rules: RisenRules | None) -> list[str]:
    """Whether the neighbour's answer went as the walk says; what the host's own socket makes of it is its own affair."""
    fates = kernel_fates(answer, observation, rules)
    told = " or ".join(sorted(fate.value for fate in fates))
    possible = set(trace.possible) | ({Fate.ACCEPTED, Fate.REFUSED} if {Fate.ACCEPTED, Fate.REFUSED} & set(trace.possible) else set())
    if not fates & possible:
        return [f"the kernel's fate of the neighbour's answer is {told}, the walk's {trace.fate.value}"]
    if trace.fate is Fate.UNKNOWN:
        return []
    found = _ends(observation, trace) + (_rules(observation, trace) if rules is not None else [])
    return [f"of the neighbour's answer: {text}" for text in found]


def _ends(observation: Observation, trace: Trace) -> list[str]:
    """Whether the packet ended as the walk says, and where."""
    if trace.fate not in COMPARED:
        return []
    if trace.fate in (Fate.ACCEPTED, Fate.REFUSED):
        seen: list[tuple[str, Seen]] = [("", packet) for packet in observation.delivered]
    else:
        seen = [(one.interface, one.packet) for one in observation.left if one.interface != "lo"]
    ends = trace.ends or (trace.end,)
    for interface, packet in seen[-1:]:
        if not any((not interface or end.out_interface == interface) and is_like(end, packet) for end in ends):
            words = " or ".join(f"{end} out {end.out_interface}" for end in ends)
            return [f"the kernel's packet ended as {packet} by {interface or 'a socket'}, the walk's as {words}"]
    return []


def is_like(end: Packet, seen: Seen) -> bool:
    """Whether the walk's packet is the one that was seen; what the walk leaves open (a port of a range) is."""
    return (
        str(end.source) == seen.source
        and str(end.destination) == seen.destination
        and end.source_port in (None, seen.source_port)
        and end.destination_port in (None, seen.destination_port)
        and end.dscp == seen.dscp
    )


def _rules(observation: Observation, trace: Trace) -> list[str]:
    """Every rule that the walk passed through must have counted the packet."""
    if any(step.stage is Stage.END and step.hook for step in trace.steps):
        return []  # which of several rules it was, the walk says that it cannot tell
    found = []
    for step in trace.steps:
        if step.stage not in (Stage.RULE, Stage.POLICY, Stage.NAT):
            continue
        comment = re.search(r'comment "(r\d+)"', step.rule)
        if comment and observation.risen_nft is not None and comment[1] not in observation.risen_nft:
            found.append(f"the walk has the packet at a rule whose counter did not rise: {step.rule}")
        lines = [source.line for source in step.sources if source.file == "iptables-save.txt"]
        if observation.risen is not None and not set(lines) <= set(observation.risen):
            found.append(f"the walk has the packet at iptables-save.txt:{lines}, whose counter did not rise: {step.rule}")
    return found


def _answers(observation: Observation, walked: Walk) -> list[str]:
    """Whether the answer left as the walk says."""
    reverse = walked.reverse
    if reverse is None or reverse.fate is Fate.UNKNOWN or walked.forward.fate not in (Fate.ACCEPTED, Fate.REFUSED, Fate.REJECTED_BY_RULE):
        return []
    seen: Sequence[tuple[str, Seen]] = [(one.interface, one.packet) for one in observation.answers if one.interface != "lo"]
    if not seen:
        return [f"the walk has the answer leave as {reverse.end}, and none was seen"] if reverse.fate is Fate.SENT else []
    if reverse.fate is not Fate.SENT:
        return [f"an answer left by {seen[0][0]}: {seen[0][1]}, and the walk has it end as {reverse.fate.value}"]
    ends = reverse.ends or (reverse.end,)
    if any(end.out_interface == seen[0][0] and str(end.source) == seen[0][1].source for end in ends):
        return []
    return [f"the answer left by {seen[0][0]} as {seen[0][1]}, the walk's as {reverse.end} by {reverse.end.out_interface}"]
