"""What a walk says: steps, each with rule text, file, line and the packet before and after, and one of a closed list of fates."""

from __future__ import annotations

import dataclasses
import enum

from tcpwhy.evidence.source import Source
from tcpwhy.path.packet import Packet


class Fate(enum.Enum):
    """What becomes of a packet in one host: a closed list, each with the exact condition under which it is said."""

    condition: str

    def __new__(cls, value: str, condition: str) -> Fate:
        """A member: its name in JSON, and its condition."""
        member = object.__new__(cls)
        member._value_ = value
        member.condition = condition
        return member

    ACCEPTED = (
        "accepted",
        "Local delivery, and a socket takes it: an established one, or a listener whose queue is not full; or the kernel answers a ping.",
    )
    REFUSED = ("refused", "Local delivery, and no socket for it: TCP answers RST (not to a broadcast), UDP answers ICMP port unreachable.")
    QUEUE_FULL = ("queue-full", "A SYN for a listener whose accept queue was full when the snapshot was taken (Recv-Q > Send-Q).")
    FORWARDED = ("forwarded", "Not for this host: routed, let pass, and sent on by an interface.")
    SENT = ("sent", "Of the host itself, or sent on by IPVS: it leaves by an interface.")
    DROPPED_BY_RULE = (
        "dropped-by-rule",
        "A DROP of a rule or a policy, a translation that finds no address, TPROXY without its socket, or a ping that a setting ignores.",
    )
    REJECTED_BY_RULE = ("rejected-by-rule", "A REJECT: the sender gets RST or an ICMP error, as the rule says.")
    REVERSE_PATH = (
        "reverse-path-filter",
        "rp_filter drops it without a word, for the route back to its source is another or none; IPReversePathFilter rises.",
    )
    MARTIAN_SOURCE = (
        "martian-source",
        "Its source is an own address (without accept_local), a broadcast, a multicast, 0.0.0.0, or loopback on another interface.",
    )
    MARTIAN_DESTINATION = (
        "martian-destination",
        "Its destination is loopback from outside without route_localnet, or 0.0.0.0.",
    )
    NOT_FORWARDING = ("not-forwarding", "Not for this host, and forwarding is off: dropped, IpInAddrErrors rises.")
    NO_ROUTE = (
        "no-route",
        "No route, or one of type unreachable: ICMP unreachable to the sender, an error to the caller of an own packet.",
    )
    BLACKHOLE = ("blackhole", "A route or rule of type blackhole: dropped without a word.")
    PROHIBITED = ("prohibited", "A route or rule of type prohibit: ICMP administratively prohibited.")
    NO_REAL_SERVER = ("no-real-server", "IPVS has no usable real server: ICMP port unreachable.")
    NO_TUNNEL = ("no-tunnel", "A tunnelled packet, and no tunnel device takes it: ICMP unreachable.")
    TTL_EXPIRED = ("ttl-expired", "It would be forwarded with a TTL of 1: ICMP time exceeded.")
    INTERFACE_DOWN = ("interface-down", "The interface by which it comes, or would leave, is down.")
    HANDED_OVER = (
        "handed-over",
        "Out of what a snapshot tells: to a program by NFQUEUE, to a real server gone from the table, or multicast; the step says.",
    )
    UNKNOWN = ("unknown", "The evidence does not decide; the doubts say at which lines.")


class Stage(enum.Enum):
    """Where on the way a step lies."""

    ARRIVAL = "arrival"
    CONNTRACK = "conntrack"
    RULE = "rule"
    POLICY = "policy"
    NAT = "nat"
    ROUTE = "route"
    SOURCE_CHECK = "source-check"
    IPVS = "ipvs"
    TUNNEL = "tunnel"
    SOCKET = "socket"
    END = "end"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens to the packet."""

    stage: Stage
    hook: str
    """`PREROUTING`, `INPUT`, …; empty outside netfilter."""
    text: str
    """A sentence: what happens and why."""
    sources: tuple[Source, ...]
    """The lines that it rests on; empty where a kernel default is taken."""
    rule: str
    """The rule, route or setting as it stands in its file; empty without one."""
    before: Packet
    after: Packet


@dataclasses.dataclass(frozen=True, slots=True)
class Doubt:
    """A place where the walk cannot tell, and walks both ways."""

    source: Source | None
    """None where a whole file was not collected."""
    text: str
    """The rule or the name of the file."""
    because: str
    assumed: str
    """What this way of the walk takes for true: `matches`, `does not match`, …"""


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """One direction through the host, to its end."""

    packet: Packet
    """As it set out."""
    end: Packet
    """As it ended."""
    fate: Fate
    steps: tuple[Step, ...]
    doubts: tuple[Doubt, ...]
    """Of a fate that is UNKNOWN: what it hangs on. Doubts that change nothing are left out."""
    possible: tuple[Fate, ...]
    """Of a fate that is UNKNOWN: the fates that the ways end in; else the fate alone."""
    answer: Packet | None = None
    """What the host sends back at once, if it does: SYN-ACK, RST, ICMP error."""
    ends: tuple[Packet, ...] = ()
    """All packets in which it may end with this fate: several where a balancer, a multipath route or a range chooses."""
    alternatives: tuple[Trace, ...] = ()
    """Of a fate that is UNKNOWN: one way for each fate that is possible, with the doubts that it rests on."""

    @property
    def last(self) -> Step | None:
        """The step that decided."""
        return self.steps[-1] if self.steps else None


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """Forward and reverse in one answer."""

    forward: Trace
    reverse: Trace | None
    """The answer's way: out of the host that accepted, refused or rejected; or, of a forwarded packet, the peer's answer's way back
    through this host as far as NAT and rules decide it. None where there is no answer."""
