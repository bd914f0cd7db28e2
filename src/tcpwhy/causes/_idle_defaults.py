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
    IdleDefault(
        90,
        "DPVS, LVS in full NAT, JD Jupiter",
        "DPVS and LVS ip_vs_proto_tcp.c tcp_timeouts, Jupiter core/lb_proto_tcp.c; the first two send RST to both ends",
    ),
    IdleDefault(240, "Azure Load Balancer", "Azure: TCP reset and idle timeout for Azure Load Balancer, 4 to 100 minutes"),
    IdleDefault(
        300,
        "conntrack for data sent and not acknowledged",
        "Linux nf_conntrack_proto_tcp.c tcp_timeouts; nf_conntrack_tcp_timeout_unacknowledged and _max_retrans",
    ),
    IdleDefault(
        350,
        "AWS Network Load Balancer and Network Firewall, security groups of Nitro v6 instances",
        "AWS: tcp.idle_timeout.seconds; FlowTimeouts TcpIdleTimeoutSeconds; ConnectionTrackingConfiguration tcpEstablishedTimeout",
    ),
    IdleDefault(600, "Google Cloud's VPC firewall", "Compute Engine, troubleshooting: connections are tracked for 10 minutes"),
    IdleDefault(900, "IPVS", "Linux net/netfilter/ipvs/ip_vs_proto_tcp.c tcp_timeouts; ipvsadm --set"),
    IdleDefault(1200, "Google Cloud NAT", "Compute Engine API: RouterNat tcpEstablishedIdleTimeoutSec"),
    IdleDefault(1800, "Juniper SRX", "Junos: protocol-based default timeouts, TCP 30 minutes"),
    IdleDefault(
        3600,
        "Cisco ASA and Threat Defense, Palo Alto, FortiGate",
        "Cisco: timeout conn 1:00:00; PAN-OS: session timeout of TCP; FortiOS: system session-ttl default",
    ),
    IdleDefault(86_400, "pf", "OpenBSD sys/net/pfvar.h PFTM_TCP_ESTABLISHED_VAL; pf.conf(5) tcp.established"),
    IdleDefault(
        432_000,
        "conntrack, AWS security groups",
        "Linux nf_conntrack_proto_tcp.c tcp_timeouts, five days; AWS ConnectionTrackingConfiguration tcpEstablishedTimeout",
    ),
)
"""By rising time. RFC 5382 section 5 asks for two hours and four minutes at least, which few keep.

Proxies (AWS Application Load Balancer: 60 s) are not among them: they are an end of the connection and close it.
"""

SLACK_S = 2
"""Timers of devices tick in seconds, and entries are removed by a later round."""


def defaults_within(longer_than_s: float, at_most_s: float) -> tuple[IdleDefault, ...]:
    """The defaults that survive the one silence and not the other."""
    return tuple(one for one in DEFAULTS if longer_than_s - SLACK_S < one.seconds <= at_most_s + SLACK_S)
