"""What was observed of one probe goes in; the fates that the kernel can have given it come out."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tcpwhy.path import Fate
from tests.differential.configuration import Configuration, Probe
from tests.differential.observation import Observation

OF_CODE = {
    0: {Fate.NO_ROUTE},
    1: {Fate.NO_ROUTE},
    3: {Fate.NO_REAL_SERVER, Fate.NO_TUNNEL},
    13: {Fate.PROHIBITED},
}
"""Of ICMP destination unreachable (RFC 1812 5.2.7.1), where no rule gave it.

route.c ip_error(), ip_vs_core.c ip_vs_leave(), tunnel4.c tunnel4_rcv().
"""
OF_ERROR = {
    "EPERM": {Fate.DROPPED_BY_RULE},
    "EHOSTUNREACH": {Fate.NO_ROUTE},
    "ENETUNREACH": {Fate.NO_ROUTE},
    "EACCES": {Fate.PROHIBITED},
    "EINVAL": {Fate.BLACKHOLE, Fate.MARTIAN_SOURCE, Fate.MARTIAN_DESTINATION},
}
"""Of the host's own packets: fib_props[] in fib_semantics.c, fib4_rule_action(), nf_hook_slow()."""
WITHOUT_TRACE = {Fate.BLACKHOLE, Fate.MARTIAN_SOURCE, Fate.MARTIAN_DESTINATION}
"""Fates that the kernel counts nowhere (without CONFIG_IP_ROUTE_CLASSID and log_martians)."""


@dataclasses.dataclass(frozen=True, slots=True)
class RisenRules:
    """What the rules that counted the probe can have done to it; None: rules were not counted."""

    has_drop: bool
    has_reject: bool
    has_nat: bool


def risen_rules(configuration: Configuration, state: Path, observation: Observation) -> RisenRules | None:
    """The rules whose counters rose while the probe was on its way."""
    texts: list[str] = []
    if configuration.iptables:
        if observation.risen is None:
            return None
        lines = (state / "iptables-save.txt").read_text().splitlines()
        texts += [lines[number - 1] for number in observation.risen]
    if configuration.nft:
        if observation.risen_nft is None:
            return None
        by_comment = {found[1]: line for line in configuration.nft.splitlines() if (found := re.search(r'comment "(r\d+)"$', line))}
        texts += [by_comment[comment] for comment in observation.risen_nft if comment in by_comment]
    has_policy = "policy drop" in configuration.nft  # a policy has no counter
    return RisenRules(
        has_policy or any(re.search(r"^:\S+ DROP|-j DROP|-j TPROXY|\bdrop\b", text) for text in texts),
        any(re.search(r"-j REJECT|\breject\b", text) for text in texts),
        any(re.search(r"-j (DNAT|SNAT|REDIRECT|MASQUERADE|NETMAP)|\b(dnat|snat|redirect|masquerade)\b", text) for text in texts),
    )


def kernel_fates(probe: Probe, observation: Observation, rules: RisenRules | None) -> frozenset[Fate]:
    """All fates that the observation leaves possible; most often one."""
    # Only TCP itself counts this, not a rule that rejects (tcp_ipv4.c tcp_v4_send_reset(), nf_reject_ipv4.c nf_send_reset()): where the tap
    # behind INPUT missed the packet, it was delivered all the same.
    if observation.delivered or (probe.protocol == "tcp" and {"IpInDelivers", "TcpOutRsts"} <= observation.counters.keys()):
        return _delivered(probe, observation)
    if any(one.interface != "lo" for one in observation.left):
        # IPVS sends what it balances by LOCAL_OUT (ip_vs_xmit.c), which ip_forward() does not count
        return frozenset({Fate.FORWARDED if "IpForwDatagrams" in observation.counters else Fate.SENT})
    fates = _not_arrived(probe, observation, rules)
    if rules is not None and not rules.has_reject:
        fates = fates - {Fate.REJECTED_BY_RULE}
    return frozenset(fates)


def _delivered(probe: Probe, observation: Observation) -> frozenset[Fate]:
    answers = [one.packet for one in observation.answers]
    if probe.protocol == "udp":
        return frozenset({Fate.REFUSED} if "UdpNoPorts" in observation.counters else {Fate.ACCEPTED, Fate.REFUSED})
    if probe.flags != "S":
        return frozenset({Fate.ACCEPTED, Fate.REFUSED})  # a listener answers RST as a closed port does (tcp_ipv4.c tcp_v4_do_rcv)
    if any(answer.flags == "SA" for answer in answers):
        return frozenset({Fate.ACCEPTED})
    if "TcpOutRsts" in observation.counters:
        return frozenset({Fate.REFUSED})
    is_broadcast = observation.delivered[-1].destination.endswith(".255")  # no RST for it (tcp_ipv4.c tcp_v4_send_reset)
    return frozenset({Fate.ACCEPTED, Fate.REFUSED} if is_broadcast else {Fate.ACCEPTED})


def _not_arrived(probe: Probe, observation: Observation, rules: RisenRules | None) -> set[Fate]:
    for one in observation.answers:
        answer = one.packet
        if answer.protocol == "tcp":
            return {Fate.REJECTED_BY_RULE}
        if answer.icmp_type == 11:
            return {Fate.TTL_EXPIRED}
        if answer.icmp_type == 3:
            # an answer to the host's own address passes its rules too, and may be rejected in turn
            if rules is not None and rules.has_reject and not (one.interface == "lo" and probe.way == "wire"):
                return {Fate.REJECTED_BY_RULE}
            return OF_CODE.get(answer.icmp_code, set()) | {Fate.REJECTED_BY_RULE}
    found = next((fates for name, fates in _OF_COUNTER.items() if name in observation.counters), None)
    if found:
        return found | ({Fate.DROPPED_BY_RULE} if observation.error == "EPERM" else set())
    if observation.error and probe.way == "raw":
        own = OF_ERROR.get(observation.error, set())
        return own | {Fate.REJECTED_BY_RULE} if observation.error == "EPERM" else own
    if observation.error:
        return OF_ERROR.get(observation.error, set())
    # a packet that a rule of OUTPUT sent elsewhere finds no route there: connect(2) is not told (ip_route_me_harder(), tcp_connect())
    is_quiet = probe.way == "connect" or not observation.must_answer
    return _silent(rules) | ({Fate.PROHIBITED, Fate.NO_ROUTE} if is_quiet else set())


def _silent(rules: RisenRules | None) -> set[Fate]:
    fates = set(WITHOUT_TRACE)
    if rules is None:
        return fates | {Fate.DROPPED_BY_RULE, Fate.REJECTED_BY_RULE}
    if rules.has_nat or rules.has_drop:
        fates.add(Fate.DROPPED_BY_RULE)
    return fates | {Fate.REJECTED_BY_RULE}


_OF_COUNTER = {
    "TcpExtIPReversePathFilter": {Fate.REVERSE_PATH},
    "IcmpOutTimeExcds": {Fate.TTL_EXPIRED},
    "IpInHdrErrors": {Fate.TTL_EXPIRED},
    "IcmpOutDestUnreachs": {Fate.NO_ROUTE, Fate.PROHIBITED, Fate.REJECTED_BY_RULE, Fate.NO_REAL_SERVER},
    "IpInAddrErrors": {Fate.NOT_FORWARDING},
    "IpExtInNoRoutes": {Fate.NO_ROUTE, Fate.NOT_FORWARDING},
}
"""In this order: an ICMP error that an OUTPUT rule dropped is counted all the same (ip_output.c __ip_make_skb)."""
