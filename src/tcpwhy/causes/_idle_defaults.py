"""A bracket of seconds goes in; the devices and systems whose idle timeout lies in it by default come out, with their sources."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class IdleDefault:
    """After how long something forgets a silent TCP connection unless told otherwise."""

    seconds: int
    name: str
    source: str


DEFAULTS = (
    IdleDefault(60, "AWS Application Load Balancer", "ELB: idle_timeout.timeout_seconds"),
    IdleDefault(90, "DPVS, LVS in full NAT, JD Jupiter", "DPVS: tcp timeouts, TCP_ESTABLISHED; they send RST to both ends"),
    IdleDefault(240, "Azure Load Balancer, public IP, NAT gateway", "Azure: 4 minutes, configurable from 4 on"),
    IdleDefault(300, "conntrack, data sent and not acknowledged", "nf_conntrack_tcp_timeout_unacknowledged, _max_retrans"),
    IdleDefault(350, "AWS Network Load Balancer, NAT gateway", "ELB: 350 s, RST on later data"),
    IdleDefault(600, "Google Cloud's connection tracking", "VPC firewall: 10 minutes"),
    IdleDefault(900, "IPVS", "Linux net/netfilter/ipvs/ip_vs_proto_tcp.c tcp_timeouts; ipvsadm --set"),
    IdleDefault(1800, "Juniper SRX", "Junos: TCP inactivity-timeout"),
    IdleDefault(3600, "Cisco ASA, Palo Alto, Check Point, FortiGate", "timeout conn 1:00:00; TCP session timeout 3600 s"),
    IdleDefault(86_400, "pf", "pf.conf(5): tcp.established"),
    IdleDefault(432_000, "conntrack", "Linux net/netfilter/nf_conntrack_proto_tcp.c tcp_timeouts: five days"),
)
"""By rising time. RFC 5382 section 5 asks for two hours and four minutes at least, which few keep."""

SLACK_S = 2
"""Timers of devices tick in seconds, and entries are removed by a later round."""


def defaults_within(longer_than_s: float, at_most_s: float) -> tuple[IdleDefault, ...]:
    """The defaults that survive the one silence and not the other."""
    return tuple(one for one in DEFAULTS if longer_than_s - SLACK_S < one.seconds <= at_most_s + SLACK_S)
