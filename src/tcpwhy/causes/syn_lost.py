"""The client's SYN is lost on the way, and no repetition of it gets through.

Mechanism.  The client sends SYN and repeats it (same sequence number, new IP ID, newer TSval) after one second, then with growing
    gaps; a packet filter, a missing route or a broken link drops it before the server's host. The client gives up with a timeout.

Signature.
    at the client        0.000  client > server  S
                         1.0    client > server  S      # again and again; nothing ever comes back
    at the next place    nothing of it, although its capture runs and sees others

    From the client's capture alone it cannot be told from an answer that is lost, or from a server that drops the SYN without a word.

Source.  RFC 6298 section 2 and RFC 9293 section 3.8.1 (retransmission); Linux net/ipv4/tcp_timer.c tcp_retransmit_timer(),
    net.ipv4.tcp_syn_retries and tcp_syn_linear_timeouts.

Fix.  Look at what lies between the two places: packet filters and security groups first, then routes and links. Capture at each hop
    between them until the SYN is seen to go in and not to come out.

Not to be taken for.  synack-lost: there the SYN arrives and the answer is lost. reverse-path-filter, accept-queue-overflow and
    vip-missing: there the SYN arrives at the host and the host drops it.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_again, capture_at, counters_of, state_of
from tcpwhy.causes._by_state import doubts_of, end_told, found_at, packet_exhibits, state_exhibits, told
from tcpwhy.causes._ends import deciding
from tcpwhy.causes._remedies import past_the_end, without_rule
from tcpwhy.causes._stops import Stop, end_of, stops
from tcpwhy.causes._verdict import Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import SYN
from tcpwhy.connections.path import fate
from tcpwhy.path.trace import Fate

SUSPECT = "client_syns > 0 AND server_syn_acks = 0"
REFERENCES = ("RFC 6298 section 2", "RFC 9293 section 3.8.1", "Linux net/ipv4/tcp_timer.c tcp_retransmit_timer()")


ID = "syn-lost"


def examine(connection: Connection) -> Verdict:
    """Follows each SYN from the client as far as captures reach."""
    failure = connection.failure
    if failure is None or not failure.kind.in_handshake or not connection.syns:
        return RuledOut("the client's SYN was answered and the connection established")
    answers = [segment for segment in connection.segments if segment.sender == "server"]
    if answers:
        return RuledOut("the server's side answered the SYN", (exhibit(answers[0], connection, "an answer to the SYN"),))
    if failure.kind is Kind.PROHIBITED or connection.icmp:
        return RuledOut("the SYN was answered with an ICMP error")
    revived = [other for other in connection.earlier if any(segment.flags & SYN for segment in other.sent(by="server"))]
    if revived:
        return RuledOut("the server answered an attempt just before this one from the same port")
    end = end_of(connection)
    if end is not None and end.cause == ID:
        return _inside(connection, end)
    if end is not None and (end.is_seen or end.counter is not None):
        return RuledOut(told(end))
    denied = next((stop for stop in stops(connection) if stop.cause == ID and stop.contradiction), None)
    if denied is not None:
        ask = (counters_of(denied.place, "whether the rule or route that its state names really drops the SYN"),)
        return Open(f"{told(denied)}; but {denied.contradiction}", ask, packet_exhibits(connection, denied), denied.place)
    untold = next((stop for stop in stops(connection) if stop.fate is Fate.UNKNOWN and stop.is_seen), None)
    if untold is not None:
        ask = (state_of(untold.place, "what could not be told"),)
        because = f"the SYN comes to {untold.place}, and what its state does with it hangs on what is not known: {doubts_of(untold)}"
        return Open(because, ask, packet_exhibits(connection, untold), untold.place)
    fates = [fate(connection, syn) for syn in connection.syns]
    # Of several SYNs that got equally far, one sent while the next capture surely ran tells most.
    farthest = max(fates, key=lambda one: (connection.places.index(one.last_seen), one.doubt is None))
    seen = tuple(exhibit(syn, connection, f"the SYN as {farthest.last_seen} saw it", farthest.last_seen)
                 for syn in connection.syns if syn.seen_at(farthest.last_seen))[:3]  # fmt: skip
    if connection.is_server_host(farthest.last_seen):
        ask = (counters_of(farthest.last_seen, "a rule that drops the SYN behind its capture, by its counter"),)
        return Open(
            f"the SYN arrived at {farthest.last_seen}, the server's own host; a rule there may drop it", ask, seen, farthest.last_seen
        )
    if farthest.missing_at is None:
        return Open(
            f"the SYN was seen at {farthest.last_seen} and never answered; nobody captured behind it",
            (
                capture_at(connection, "server", "if the SYN is not there, it was lost on the way"),
                state_of("each firewall before " + connection.server.ip, "a rule that drops the SYN"),
            ),
            seen,
            farthest.between,
        )
    if farthest.doubt is not None:
        return Open(
            f"the SYN is not in the capture of {farthest.missing_at}, but {farthest.doubt}",
            (capture_again(connection, farthest.missing_at, f"whether the SYN that {farthest.last_seen} saw comes there"),),
            seen,
            farthest.between,
        )
    behind = " and ".join(farthest.behind)
    statement = f"the SYN was seen at {farthest.last_seen} and not at {behind}, whose capture ran and saw others"
    # A hop between them may drop it because of its source, unless others with that source come through.
    traffic = connection.traffic
    others = traffic.came_through(connection, farthest.last_seen, farthest.missing_at) if traffic is not None else 0
    by_source = {"reverse-path-filter": f"{others} others from the same address to the same address came through"} if others else {}
    return Found(
        statement=statement,
        exhibits=seen,
        basis="two places",
        where=farthest.between,
        explanation=(
            f"{connection.client} sent its SYN {len(connection.syns)} times. Each was seen as far as {farthest.last_seen}, none at "
            f"{behind}. The server never heard of the connection, so that nothing on the server's host can be the cause."
        ),
        at_ns=connection.syns[0].aligned_ns,
        excludes={
            "synack-lost": "no SYN reached the server, so that it had nothing to answer",
            **by_source,
            "accept-queue-overflow": f"the SYN did not arrive at {farthest.missing_at}",
            "vip-missing": f"the SYN did not arrive at {farthest.missing_at}",
            "arp-conflict": f"the SYN did not arrive at {farthest.missing_at}, and no other host answered it",
            "asymmetric-drop": "the first packet of the connection was lost, which no firewall can have seen from one side only",
            "stale-connection": f"the SYN did not arrive at {farthest.missing_at}",
            "timestamp-rejected": f"the SYN did not arrive at {farthest.missing_at}",
            "peer-vanished": f"{farthest.missing_at} saw other packets meanwhile",
        },
        fix=(
            (
                f"find what drops TCP to {connection.server} between {farthest.between[0]} and {farthest.between[1]}: "
                "packet filters and security groups first, then routes"
            ),
        ),
    )


def _inside(connection: Connection, stop: Stop) -> Verdict:
    """The SYN comes to a host whose rule, or route, drops it: the walk names it."""
    rule = stop.rule
    what = f"its rule {rule.described()} drops it" if rule is not None else told(stop)
    step = deciding(stop.trace)
    carrier = step.before if step is not None and step.before.encapsulated is not None else None
    name = f"the SYN for {connection.server}" + (
        f" with the tunnel's packet {carrier.source} > {carrier.destination} around it" if carrier else ""
    )
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} drops {name}: " + (f"`{rule.text}`" if rule is not None else end_told(stop)),
        explanation=f"{connection.client} sent its SYN {len(connection.syns)} times. It comes to {stop.place}"
        + (f" inside {carrier.protocol}, {carrier.source} > {carrier.destination}" if carrier else "")
        + f", and {what}.",
        exhibits=(*packet_exhibits(connection, stop, "comes in; nothing of it goes on"), *state_exhibits(stop)),
        fix=(without_rule(stop, rule) if rule is not None else past_the_end(stop)),
    )
