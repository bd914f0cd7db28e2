"""A packet that a host ends and a proposed change go in; whether the connection would come about with it, walked both ways, comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy.causes._ends import deciding
from tcpwhy.causes._stops import Stop
from tcpwhy.evidence import EvidenceError
from tcpwhy.path import walk, with_changes
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Stage, Trace, Walk

if TYPE_CHECKING:
    from tcpwhy.causes._rules import NamedRule
    from tcpwhy.tables.host import HostTables

PASSES = frozenset((Fate.ACCEPTED, Fate.FORWARDED, Fate.SENT))
"""Ends after which the packet is where it should be, or on its way there."""

PROTOCOL_NAMES = {"ipip": "ipencap", "ipv6": "ipv6"}
"""As /etc/protocols, and so iptables, names IP protocols 4 and 41."""

COMES_BACK = frozenset((Fate.SENT, Fate.FORWARDED, Fate.ACCEPTED))
"""Ends of an answer that is on its way to who asked."""


def failing(one: Walk) -> Trace | None:
    """The direction in which a walk does not come to a good end; None where packet and answer both pass."""
    forward = one.forward
    inner = forward.packet.encapsulated or forward.packet
    if forward.fate is Fate.REFUSED and "A" in (inner.flags or ""):
        return None  # It came to TCP; the socket that waited for it is gone from the snapshot.
    if forward.fate not in PASSES:
        return forward
    if one.forward.fate is Fate.ACCEPTED and one.reverse is not None and one.reverse.fate not in COMES_BACK:
        return one.reverse
    return None


def sentence(one: Walk) -> str:
    """What becomes of the packet, and of the answer where that is what fails."""
    trace = failing(one)
    told = trace if trace is not None else one.forward
    if trace is None and told.fate is Fate.REFUSED:
        return "it comes to TCP"
    step = deciding(told)
    text = step.text if step is not None else told.fate.value
    return f"the packet passes, but of the answer: {text}" if trace is not None and trace is one.reverse else text


def walked_with(host: HostTables, packets: Sequence[Packet], changes: Sequence[str]) -> list[Walk] | None:
    """All packets walked through the host as it would be; None where the change cannot be made to its state."""
    try:
        changed = with_changes(host, changes)
    except EvidenceError:
        return None
    return [walk(changed, packet) for packet in packets]


def past_the_end(stop: Stop) -> tuple[str, ...]:
    """What lets a packet pass that a policy, or a route, ends: no rule of its own can be removed."""
    step = deciding(stop.trace)
    if stop.fate is Fate.NOT_FORWARDING:
        setting = "net.ipv4.ip_forward=1"
        walks = walked_with(stop.host, [one.forward.packet for one in stop.walks], [f"sysctl {setting}"])
        passes = bool(walks) and all(failing(one) is None for one in walks or [])
        proof = f" — walked again with it, the packet passes: {sentence(walks[0])}" if passes and walks else ""
        return (f"on {stop.place}, if it is to forward: `sysctl -w {setting}`{proof}",
                f"to make it last: `{setting.replace('=', ' = ')}` in a file of /etc/sysctl.d/")  # fmt: skip
    if step is None or step.stage is not Stage.POLICY:
        return (f"on {stop.place}: mend the route, the setting or the rule that ends it there",)
    packet, port = step.before, stop.server_port
    if packet.protocol == "tcp":
        match = f"-p tcp {'--sport' if stop.is_answer or not stop.arrival.segment.opens else '--dport'} {port}"
    else:
        match = f"-p {PROTOCOL_NAMES.get(packet.protocol, packet.protocol)} -s {packet.source}"
    if any("iptables" in source.file for source in step.sources):
        program = "ip6tables" if packet.version == 6 else "iptables"
        command = f"such as `{program} -I {step.hook} {match} -j ACCEPT`, which no walk has tried"
        return (f"on {stop.place}: accept {packet} before the chain ends, {command}",)
    return (f"on {stop.place}: accept {packet} before the chain ends ({step.text})",)


def without_rule(stop: Stop, rule: NamedRule) -> tuple[str, ...]:
    """The command that removes a rule, and what the walk without it shows: that it mends, or what ends the packet next."""
    text = f"on {stop.place}: let it pass before that rule, or remove the rule: `{rule.removal}`"
    walks = walked_with(stop.host, [one.forward.packet for one in stop.walks], [rule.change])
    if walks is None:
        return (text,)
    failed = next((one for one in walks if failing(one) is not None), None)
    if failed is None:
        return (f"{text} — walked again without it, the packet passes: {sentence(walks[0])}",)
    return (f"{text}; walked again without it alone, it is not enough: {sentence(failed)}",)
