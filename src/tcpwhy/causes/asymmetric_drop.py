"""A stateful firewall sees one direction of the connection only, and drops it as invalid.

Mechanism.  Packets of the two directions go different ways (two uplinks, two routers, direct return). A firewall on one of them follows
    connections (conntrack), sees half of this one, and drops what it cannot make sense of: a SYN-ACK without a SYN, or ACKs after a SYN
    that nobody answered. The handshake may even complete at one end.

Signature.
    at the firewall    client > server  S             # one direction only
                       client > server  A, PA         # come in, again and again, and do not go out
    at the server      SYN, SYN-ACK again and again: the client's ACK never comes
    or, with the other direction through the firewall, SYN-ACKs come in there and do not go out

Source.  Linux net/netfilter/nf_conntrack_proto_tcp.c tcp_conntracks, nf_conntrack_tcp_packet() (INVALID); iptables-extensions(8)
    conntrack; nft(8) ct state; RFC 9293 section 3.5.

Fix.  Send both directions through the same firewall (routes, policy rules, or NAT there), or except this traffic from tracking or from the
    rule that drops INVALID.

Not to be taken for.  syn-lost and synack-lost: there a rule that does not look at conntrack, or a link, drops the packet.
    reverse-path-filter: the kernel's own check of the source, which asymmetry meets as well.
"""

from __future__ import annotations

import dataclasses

from tcpwhy.causes._asking import capture_at, counters_of, state_of
from tcpwhy.causes._by_state import examine_by_state, found_at, packet_exhibits, state_exhibits, told
from tcpwhy.causes._ends import PASSED_ON, deciding, without_tracking
from tcpwhy.causes._rules import rule_of
from tcpwhy.causes._stops import Stop, stops
from tcpwhy.causes._verdict import Open, Verdict
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.path import walk
from tcpwhy.path.trace import Fate

ID = "asymmetric-drop"
SUSPECT = (
    "client_syns > 0 AND server_syn_acks = 0 OR server_syn_acks > 0 AND client_packets <= client_syns + client_resets"
    " OR client_retransmissions + server_retransmissions >= 2 OR server_packets = 0 OR client_packets = 0"
)
REFERENCES = ("Linux net/netfilter/nf_conntrack_proto_tcp.c tcp_conntracks", "iptables-extensions(8) conntrack", "RFC 9293 section 3.5")


def examine(connection: Connection) -> Verdict:
    """Walks the packet of which nothing came through the host that saw one direction only."""
    ask = (
        counters_of(
            f"each firewall between {connection.client.ip} and {connection.server.ip}", "rules that look at conntrack, and their counters"
        ),
        capture_at(connection, "server", "which direction passes, and which does not"),
    )
    verdict = examine_by_state(ID, connection, lambda stop: _found(connection, stop), _fits, ask)
    return _forgotten(connection) or verdict if isinstance(verdict, Open) else verdict


def _forgotten(connection: Connection) -> Open | None:
    """A host whose table lacks the connection, and whose rules drop what it does not know: it may have forgotten it, or never known it."""
    last = stops(connection)[-1:]
    if not last or not last[0].is_seen or last[0].fate not in PASSED_ON or last[0].arrival.segment.opens:
        return None
    stop = last[0]
    walks = [walk(without_tracking(stop.host), dataclasses.replace(packet, ct_state="INVALID")) for packet in stop.arrival.packets]
    step = deciding(walks[0].forward)
    if step is None or stop.host.conntrack is None or any(one.forward.fate is not Fate.DROPPED_BY_RULE for one in walks):
        return None
    rule = rule_of(stop.host, step, walks[0].forward.steps)
    described = rule.described() if rule is not None else step.text
    return Open(
        f"the packets come to {stop.place} and do not go on; it drops what its conntrack does not know by {described}, and whether it knew "
        "this connection then, its table of another time does not tell",
        (state_of(stop.place, "conntrack's entry, net.netfilter.nf_conntrack_tcp_loose, and that rule's counter"),),
        (*packet_exhibits(connection, stop), *((rule.exhibit("drops what conntrack does not know"),) if rule is not None else ())),
        stop.place,
    )


def _fits(connection: Connection) -> str | None:
    kind = connection.failure.kind if connection.failure is not None else None
    if kind in (Kind.UNANSWERED, Kind.HALF_OPEN, Kind.SILENT) and not connection.icmp:
        return "a firewall that sees one direction only may drop the other as invalid"
    return None


def _found(connection: Connection, stop: Stop) -> Verdict:
    segment, rule = stop.arrival.segment, stop.rule
    side, other = (segment.sender, "server" if segment.sender == "client" else "client")
    described = f"the rule {rule.described()}" if rule is not None else told(stop)
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} sees only what the {side} sends, and drops it as invalid",
        explanation=(
            f"{stop.place} saw the {side}'s packets and none of the {other}'s: the two directions go different ways. Its conntrack takes "
            f"them for INVALID, or for new ones in mid-connection, and {described} drops them; it would let them pass if it knew the "
            "connection."
        ),
        exhibits=(*packet_exhibits(connection, stop, "comes in and does not go out"), *state_exhibits(stop)),
        fix=(
            f"send both directions through {stop.place}, or neither: mend the routes (`ip route`, `ip rule`) of the end that goes round it",
            f"or let this traffic pass on {stop.place} before the rules that look at conntrack",
        ),
    )
