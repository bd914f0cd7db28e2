"""A host drops a packet because the route back to its source does not use the interface by which it came.

Mechanism.  With rp_filter the kernel asks, for each packet that comes in, by which interface it would answer the packet's source. In
    strict mode (1) that must be the interface by which the packet came; in loose mode (2) any route back is enough, but an interface
    without an IPv4 address passes nothing whose route back lies elsewhere. What counts is the larger of net.ipv4.conf.all.rp_filter and
    that of the interface. The packet is dropped without a word; only the counter IPReversePathFilter rises. In LVS-TUN the real server
    unwraps on tunl0 what came by eth0, and the route back to the client is by eth0: with rp_filter on tunl0 each SYN dies there.
    Firewalls do the same by rule (`-m rpfilter`, nft's `fib saddr . iif oif`): without sysctl, and counted by the rule alone.

Signature.
    on the real server, eth0     director > real server  IPIP ( client > VIP  S )
                        tunl0    client > VIP  S           # again and again, and no answer
    on the director     SYN_RECV in `ipvsadm -Lnc`         # says only that the client never acknowledged
    at a client or router with two uplinks: the SYN-ACK comes by the other one, and the client repeats its SYN

Source.  Linux net/ipv4/fib_frontend.c __fib_validate_source(), include/linux/inetdevice.h IN_DEV_RPFILTER, net/ipv4/ip_input.c
    (IPReversePathFilter); Documentation/networking/ip-sysctl.rst rp_filter; RFC 3704 sections 2.2 and 2.4.

Fix.  Lower both settings where both are set: `sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0`; or 2 where the
    interface has an address. Write it into /etc/sysctl.d/ and apply it after the interface exists. Or give the packet's source a route
    back by that interface.

Not to be taken for.  vip-missing: there IpInAddrErrors rises, or the packet is forwarded. accept-queue-overflow: the packet gets to the
    socket. A drop rule: its counter rises. Loose mode with mere asymmetry drops nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpwhy.causes._asking import capture_at, counters_of
from tcpwhy.causes._by_state import examine_by_state, found_at, packet_exhibits
from tcpwhy.causes._counted import counted
from tcpwhy.causes._prediction import Prediction
from tcpwhy.causes._remedies import without_rule
from tcpwhy.causes._rp_filter import check_exhibits, check_of, explained, fixes, trials
from tcpwhy.causes._services import delivered
from tcpwhy.causes._stops import Stop, answered_unseen, stops, surely_ends
from tcpwhy.causes._verdict import Open, RuledOut, Verdict
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.path.trace import Fate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcpwhy.tables.host import HostTables

ID = "reverse-path-filter"
SUSPECT = (
    "client_syns > 0 AND server_syn_acks = 0 OR server_syn_acks > 0 AND client_packets <= client_syns + client_resets"
    " OR client_retransmissions + server_retransmissions >= 2"
)
REFERENCES = (
    "Linux net/ipv4/fib_frontend.c __fib_validate_source()",
    "Linux include/linux/inetdevice.h IN_DEV_RPFILTER",
    "Linux Documentation/networking/ip-sysctl.rst rp_filter",
    "RFC 3704 sections 2.2 and 2.4",
)


def examine(connection: Connection) -> Verdict:
    """Walks the packet of which nothing came through the host that it came to."""
    ask = (
        counters_of(_where(connection), "IPReversePathFilter, routes, and both rp_filter settings of the interface"),
        capture_at(connection, "server", "whether the packet comes there at all"),
    )
    verdict = examine_by_state(ID, connection, lambda stop: _found(connection, stop), _fits, ask)
    last = stops(connection)[-1:]
    if isinstance(verdict, Open) and last and last[0].is_seen and _is_taken(connection, last[0]):
        sighting = last[0].arrival.sighting
        counter = counted(last[0].host, "TcpExtIPReversePathFilter", sighting.time_ns if sighting is not None else None)
        if counter is not None and counter.contradiction:
            return RuledOut(f"{last[0].place} dropped nothing so: {counter.contradiction}", (counter.exhibit,))
    return verdict


def _is_taken(connection: Connection, stop: Stop) -> bool:
    """True where the packet surely ends at a socket there, and what the host answers would have been captured."""
    if stop.fate not in (Fate.ACCEPTED, Fate.REFUSED) or not surely_ends(connection, stop):
        return False
    return answered_unseen(connection, stop.place) is None


def _where(connection: Connection) -> str:
    if connection.failure is not None and connection.failure.kind is Kind.HALF_OPEN:
        return f"the client's host {connection.client.ip}"
    return f"the host that the SYN comes to last ({connection.server.ip} or what stands behind it)"


def _fits(connection: Connection) -> str | None:
    kind = connection.failure.kind if connection.failure is not None else None
    if kind is Kind.UNANSWERED and not connection.icmp:
        return "a host that drops the SYN because of its source does so without a word"
    resets = any(segment.sender == "client" and segment.is_reset for segment in connection.segments)
    if kind is Kind.HALF_OPEN and connection.syn_acks and not resets:
        return "the client's host, or one on the way, may drop the SYN-ACK because of its source"
    return None


def _found(connection: Connection, stop: Stop) -> Verdict:
    packet = stop.arrival.segment
    name = "SYN" if packet.opens else "SYN-ACK" if packet.is_syn_ack else "packet"
    check = check_of(stop.host, stop.trace)
    if check is None:
        return _by_rule(connection, stop, name)
    tried = trials(stop.host, [one.forward.packet for one in stop.walks], check)
    source = check.step.before.source
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} drops the {name} from {source} on {check.interface}: the reverse-path check",
        explanation=explained(stop.place, check, stop.counter, name),
        exhibits=(
            *packet_exhibits(connection, stop, f"the {name} on {check.interface}, of which nothing comes"),
            *check_exhibits(stop.place, check, stop.counter),
        ),
        fix=fixes(stop.place, check, tried),
    )


def _by_rule(connection: Connection, stop: Stop, name: str) -> Verdict:
    rule = stop.rule
    described = rule.described() if rule is not None else "a rule"
    source = stop.arrival.packets[0].source
    return found_at(
        ID,
        connection,
        stop,
        statement=f"a firewall rule of {stop.place} drops the {name} from {source}: its own reverse-path check",
        explanation=(
            f"The {name} comes to {stop.place} by {' or '.join(stop.arrival.interfaces)}, and the rule {described} drops what would not be "
            "answered by the same interface. This is the firewall's check, not the kernel's: rp_filter and IPReversePathFilter have "
            "no part in it."
        ),
        exhibits=(*packet_exhibits(connection, stop), *((rule.exhibit("drops it"),) if rule is not None else ())),
        fix=(
            *(without_rule(stop, rule) if rule is not None else (f"on {stop.place}: except this traffic before the rule",)),
            "what does not help: lowering rp_filter, which has no part in it",
        ),
    )


def predict(hosts: Mapping[str, HostTables]) -> list[Prediction]:
    """Real servers of a tunnelled service that would drop each SYN out of the tunnel."""
    found = []
    for one in delivered(hosts):
        check = check_of(one.host, one.trace)
        if check is None:
            continue
        place, counter = one.host.name, one.counter("TcpExtIPReversePathFilter")
        happens = counter is not None and counter.happened
        found.append(
            Prediction(
                cause=ID,
                confidence="likely" if happens else "possible",
                statement=f"{place} drops each SYN for {one.service} on {check.interface}: the reverse-path check",
                explanation=f"{one.because} {explained(place, check, counter, 'SYN')}"
                + ("" if happens or counter is None else " So none came yet."),
                where=place,
                exhibits=(*one.exhibits, *check_exhibits(place, check, counter)),
                next_evidence=(f"a capture on {place} while a client connects to {one.service}",),
                fix=fixes(place, check, trials(one.host, one.packets, check)),
            )
        )
    return found
