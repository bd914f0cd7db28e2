"""A SYN meets what the server still holds of an older connection of the same addresses and ports.

Mechanism.  The server has a socket for these four numbers already: in TIME-WAIT, or still ESTABLISHED because the client crashed or a
    NAT gave its port to another connection too early. It answers the SYN with a bare ACK that carries the old connection's numbers. The
    client did not ask for those and answers RST, which ends what is left; its next SYN, 10 ms or a second later, is taken. So it hardly
    shows, unless a firewall eats the ACK or the RST, or tcp_rfc1337 keeps the TIME-WAIT in spite of it: then no retry gets through.

Signature.
    at the server        0.000  client > server  S   seq z           # the port had a connection that was established
                         0.000  server > client  A   ack x           # a bare ACK: the old connection's next number
                         0.000  client > server  R   seq x           # if the ACK reached the client
                         1.0    client > server  S   seq z           # and the same again
    counters             TCPSYNChallenge and TCPChallengeACK (ESTABLISHED); `ss` shows the old socket

Source.  RFC 9293 sections 3.10.7.3 and 3.10.7.4, RFC 5961 section 4, RFC 1337; Linux net/ipv4/tcp_minisocks.c
    tcp_timewait_state_process(), tcp_input.c tcp_validate_incoming() and tcp_rcv_synsent_state_process().

Fix.  Let the ACK and the RST pass the firewall between the two; set net.ipv4.tcp_rfc1337=0. Let the server notice dead clients
    (SO_KEEPALIVE and a short net.ipv4.tcp_keepalive_time), let no NAT forget a connection before its server does, and bind no fixed
    source port in the client.

Not to be taken for.  synack-lost: there the old numbers are those of an attempt that was never established. timestamp-rejected: there a
    TIME-WAIT refuses another client's SYN because its timestamp is older. A port that is used again and works is no failure.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, state_of
from tcpwhy.causes._lasting import hindrance
from tcpwhy.causes._leftover import Leftover, is_behind, is_lasting, is_same_client, leftover, old_client
from tcpwhy.causes._refused import attempted, proof, since_text
from tcpwhy.causes._stops import answered_unseen
from tcpwhy.causes._verdict import Found, Open, RuledOut, Verdict, exhibit, times
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import ACK
from tcpwhy.connections.path import fate

ID = "stale-connection"
SUSPECT = "client_syns > 0"
REFERENCES = ("RFC 9293 sections 3.10.7.3 and 3.10.7.4", "RFC 5961 section 4", "RFC 1337", "Linux net/ipv4/tcp_minisocks.c")

COUNTERS = ("TcpExtTCPSYNChallenge", "TcpExtTCPChallengeACK", "TcpExtPAWSEstab")


def examine(connection: Connection) -> Verdict:
    """Looks for bare ACKs of an older connection's numbers in answer to the SYNs."""
    if not attempted(connection):
        return RuledOut("the handshake was completed at once")
    left = leftover(connection)
    if left is None:
        return _nothing_seen(connection)
    if left.is_half_open:
        return RuledOut("the old numbers are those of an attempt that was never established")
    if left.state == "TIME-WAIT" and is_behind(connection, left) and not is_same_client(connection, left):
        return RuledOut("the server refuses the SYN because its timestamp lies behind the old connection's")
    if not is_lasting(connection, left):
        return RuledOut("what was left of the older connection was cleared up: a later SYN was not answered so")
    if left.state is None and len(left.answers) < 2:
        return Open(
            "a bare ACK of a connection that had been reset answered the SYN: it may have been on its way before",
            (capture_at(connection, "server", "whether each SYN is answered so"),),
            tuple(exhibit(one.segment, one.owner, "a bare ACK of other numbers") for one in left.answers),
        )
    if left.old is None and left.socket is None:
        return Open(
            "a bare ACK of other numbers answered the SYN: an older connection of the same addresses may be left over",
            (
                state_of(connection.server.ip, "whether a socket of the same addresses and ports is left, and in which state"),
                capture_at(connection, "server", "from before the attempt: whether the ACK's numbers are an established connection's"),
            ),
            tuple(exhibit(one.segment, one.owner, "a bare ACK of other numbers") for one in left.answers[:1]),
        )
    return _found(connection, left)


def _nothing_seen(connection: Connection) -> Verdict:
    """No bare ACK anywhere: none was sent, or it was lost before any capture."""
    kind = connection.failure.kind if connection.failure is not None else None
    refused = [one for one in connection.resets if one.sender == "server" and one.flags & ACK]
    closing = [other for other in connection.earlier if any(one.is_fin and one.sender == "server" for one in other.segments)]
    if kind is Kind.REFUSED and refused and closing and not any(one.is_fin for one in closing[0].sent(by="client")):
        return Open(
            "the server had closed the connection before this one, and the client had not: a server that waits for the client's FIN "
            "refuses a SYN",
            (state_of(connection.server.ip, "whether the old connection is in FIN-WAIT-2, and somebody listens"),),
        )
    if kind is not Kind.UNANSWERED or connection.icmp:
        return RuledOut("no ACK of an older connection's numbers answered the SYN")
    for place in connection.places:
        complete = place not in connection.topology.lossy and answered_unseen(connection, place) is None
        if connection.is_server_host(place) and complete:
            return RuledOut(f"the SYN arrived at {place}, which sent no ACK of an older connection")
    fates = [fate(connection, syn) for syn in connection.syns]
    if all(one.missing_at is not None and one.doubt is None for one in fates):
        return RuledOut(f"no SYN reached {fates[0].missing_at}")
    before = next((other for other in connection.earlier if other.established), None)
    known = "the server may hold an older connection of the same addresses"
    if before is not None:
        known = "the same port had a connection before, and its server may hold it still"
    ask = capture_at(connection, "server", "whether the SYN is answered with a bare ACK of an older connection's numbers")
    return Open(f"{known}; the ACK that answers the SYN then may be lost", (ask,))


def _found(connection: Connection, left: Leftover) -> Verdict:
    stuck = hindrance(connection, left)
    exhibits, basis = proof(connection, left, stuck, COUNTERS)
    state, other = left.state, old_client(connection, left)
    count = len({one.segment.aligned_ns for one in left.answers})
    held = f"in {state}" if state is not None else "left over"
    whose = f"of {connection.client}" if other is None else f"of another client, {other}, whose address and port became the same on the way"
    because = f"the ACK's numbers are those of a connection that was established{since_text(connection, left)}"
    return Found(
        statement=f"{connection.server} still holds an older connection of {connection.client} and answers the SYN with its numbers",
        exhibits=exhibits,
        basis=basis,
        where=stuck.where,
        explanation=(
            f"{connection.server} holds {held} an older connection {whose}{since_text(connection, left)}. It answered the SYN of "
            f"{connection.client} {times(count)} with a bare ACK of that connection's numbers and never with SYN-ACK. {stuck.text}"
        ),
        at_ns=connection.syns[0].aligned_ns,
        excludes={
            "syn-lost": "the SYN arrived: it was answered with the old connection's numbers",
            "synack-lost": because,
            "port-closed": "nothing refused the SYN",
            "rejected-by-firewall": "nothing rejected the SYN: the server's own socket answered",
            "reverse-path-filter": "the SYN came to a socket, which answered",
            "accept-queue-overflow": "the SYN came to the old connection's socket and not to the listener",
            "vip-missing": "the SYN came to a socket, which answered",
            "arp-conflict": because,
            "timestamp-rejected": _not_for_its_timestamp(connection, left),
            "asymmetric-drop": "the server's numbers are an older connection's: it is not a direction of this one that is missing",
            "mid-connection-rehash": because,
            "injected-reset": "the RST comes from the client's own stack and follows from the old ACK",
            "packet-loss": "no packet of the attempt was lost but by what keeps the old connection alive",
            "peer-vanished": "the server answered",
            "idle-timeout": "the server kept the old connection: nothing forgot it",
        },
        next_evidence=stuck.next_evidence,
        fix=(*stuck.fix, *_remedies(connection, state)),
    )


def _not_for_its_timestamp(connection: Connection, left: Leftover) -> str:
    if is_behind(connection, left) and left.state == "TIME-WAIT":
        return "both connections come from one host: its clock began anew"
    if is_behind(connection, left):
        return f"a socket in {left.state} answers any SYN so, whatever its timestamp"
    own, old = connection.syns[0].ts_value, left.remembered_ts
    if own is None or old is None:
        return "there are no timestamps to compare"
    return f"the SYN's timestamp {own} does not lie behind the old connection's {old}"


def _remedies(connection: Connection, state: str | None) -> tuple[str, ...]:
    if state == "TIME-WAIT":
        return ("let the client close first, or bind no fixed source port: then its ports are not used again so soon",)
    return (
        (
            f"end it now: `ss -K src {connection.server.ip} dport = {connection.client.port}` on {connection.server.ip}; let the program "
            "there set SO_KEEPALIVE, and lower net.ipv4.tcp_keepalive_time, so that dead clients are noticed"
        ),
    )
