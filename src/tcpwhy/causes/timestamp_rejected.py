"""The server refuses a SYN because its timestamp is older than what it remembers of another client behind the same address.

Mechanism.  Several clients share one NAT address and use one port of it in turn. Each host counts its TCP timestamps from a number of
    its own, so that the next client's SYN may carry a TSval behind the last of the connection before, compared as signed 32 bits. While
    the server keeps that in TIME-WAIT, PAWS takes the SYN for an old duplicate: it answers with the old connection's ACK. The client
    refuses that with RST, which ends the TIME-WAIT, and its next SYN is taken, unless tcp_rfc1337=1 or a lost RST keeps it for good.
    With tcp_tw_recycle (Linux before 4.12) the SYN is dropped without a word, as by devices that check timestamps by address.

Signature.
    at the server        0.000  NAT > server  S   TSval 619389603       # the port's last connection had TSval 1174949272
                         0.000  server > NAT  A   ack x  TSecr 1174949272      # the old connection's numbers
                         0.000  NAT > server  R   seq x
                         1.0    NAT > server  S   TSval 619390603       # and the same again
    counters             PAWSEstab; PAWSTimewait in new kernels; PAWSPassive with tcp_tw_recycle

Source.  RFC 7323 sections 5.2 and 5.5, RFC 1337; Linux net/ipv4/tcp_minisocks.c tcp_timewait_state_process(), and before 4.12
    tcp_ipv4.c tcp_peer_is_proven(); commit 4396e46187ca removed tcp_tw_recycle.

Fix.  Give the NAT more ports or addresses, and let it keep a closed connection as long as the server does
    (net.netfilter.nf_conntrack_tcp_timeout_time_wait=120). On the server: net.ipv4.tcp_rfc1337=0, net.ipv4.tcp_tw_recycle=0. Let the
    client's RST pass.

Not to be taken for.  stale-connection: the same client, or an older connection that is still established. A SYN with a newer timestamp
    is taken in TIME-WAIT: a port that is used again and works is no failure.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, counters_of, state_of
from tcpwhy.causes._by_state import all_but
from tcpwhy.causes._counted import Counted, counted
from tcpwhy.causes._lasting import hindrance
from tcpwhy.causes._leftover import Leftover, is_behind, is_lasting, is_same_client, leftover, old_client
from tcpwhy.causes._refused import attempted, proof, since_text
from tcpwhy.causes._stops import stops, surely_ends
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import Endpoint, seq_distance
from tcpwhy.connections.path import fate
from tcpwhy.path.trace import Fate
from tcpwhy.tables.sysctls import Setting

ID = "timestamp-rejected"
SUSPECT = "client_syns > 0"
REFERENCES = ("RFC 7323 sections 5.2 and 5.5", "RFC 1337", "Linux net/ipv4/tcp_minisocks.c tcp_timewait_state_process()")

COUNTERS = ("TcpExtPAWSEstab", "TcpExtPAWSTimewait")
RECYCLE = "net.ipv4.tcp_tw_recycle"
PASSIVE = "TcpExtPAWSPassive"
"""SYNs that a listener dropped for their timestamp (LINUX_MIB_PAWSPASSIVEREJECTED, before 4.12)."""


def examine(connection: Connection) -> Verdict:
    """Compares the SYN's timestamp with that of what answered it; else asks whether the server can drop it for that."""
    if not attempted(connection):
        return RuledOut("the handshake was completed at once")
    if connection.syns[0].ts_value is None:
        return RuledOut("the SYN carries no timestamp")
    left = leftover(connection)
    if left is None:
        return _without_answer(connection)
    if left.is_half_open:
        return RuledOut("the old numbers are those of an attempt that was never established")
    behind = is_behind(connection, left)
    if behind is False:
        own, old = connection.syns[0].ts_value, left.remembered_ts
        return RuledOut(f"the SYN's timestamp {own} does not lie behind the {old} of the connection before")
    if left.state is not None and left.state != "TIME-WAIT":
        return RuledOut(f"the older connection is in {left.state}, where any SYN is answered so, whatever its timestamp")
    if is_same_client(connection, left):
        return RuledOut("both connections come from one host")
    if behind is None or left.state is None:
        return Open(
            "a bare ACK of other numbers answered the SYN: it may be a TIME-WAIT that remembers a newer timestamp",
            (
                state_of(connection.server.ip, "whether a socket of the same addresses and ports is left, and in which state"),
                capture_at(connection, "server", "from before the attempt: the timestamps of the connection before"),
            ),
            tuple(exhibit(one.segment, one.owner, f"echoes the timestamp {one.segment.ts_echo}") for one in left.answers[:1]),
        )
    if not is_lasting(connection, left):
        return RuledOut("the TIME-WAIT was cleared up: a later SYN was not answered so")
    return _found(connection, left)


def _found(connection: Connection, left: Leftover) -> Verdict:
    stuck = hindrance(connection, left)
    exhibits, basis = proof(connection, left, stuck, COUNTERS)
    own, old, other = connection.syns[0].ts_value or 0, left.remembered_ts or 0, old_client(connection, left)
    shown = _as_the_server_sees(connection)
    who = "two clients behind one address: two clocks are seen under it"
    if other is not None:
        who = f"two clients behind one address, {other} and {connection.client}"
    because = f"the server answered the SYN from the TIME-WAIT of the connection before{since_text(connection, left)}"
    return Found(
        statement=f"{connection.server} refuses the SYN of {connection.client}: its timestamp is older than the port's last connection's",
        exhibits=exhibits,
        basis=basis,
        where=stuck.where,
        explanation=(
            f"{shown} was used in turn by {who}. {connection.server} keeps the connection before in "
            f"TIME-WAIT{since_text(connection, left)}, and remembers its last timestamp, {old}. The SYN of {connection.client} carries "
            f"{own}, {-seq_distance(old, own)} behind, so that the server takes it for an old duplicate and answers with the old "
            f"connection's ACK. {stuck.text}"
        ),
        at_ns=connection.syns[0].aligned_ns,
        excludes=all_but(ID, because)
        | {
            "stale-connection": "a TIME-WAIT takes a SYN whose timestamp is newer: it is refused for its timestamp",
            "synack-lost": "the old numbers are those of a connection that was established",
            "injected-reset": "the RST comes from the client's own stack and follows from the old ACK",
        },
        next_evidence=stuck.next_evidence,
        fix=(
            *stuck.fix,
            "on the NAT: more ports or addresses (`--random-fully`, a range behind `--to-source`)",
            "on the NAT: `sysctl -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=120`, as long as the server remembers at least",
        ),
    )


def _as_the_server_sees(connection: Connection) -> Endpoint:
    return connection.views[connection.places[-1]].client


def _without_answer(connection: Connection) -> Verdict:
    """No ACK of an older connection: only a kernel with tcp_tw_recycle, or a device, drops a SYN for its timestamp without a word."""
    failure = connection.failure
    if failure is None or failure.kind is not Kind.UNANSWERED or connection.icmp:
        return RuledOut("no ACK of an older connection's numbers answered the SYN")
    fates = [fate(connection, syn) for syn in connection.syns]
    if all(one.missing_at is not None and one.doubt is None for one in fates):
        return RuledOut(f"no SYN reached {fates[0].missing_at}")
    last = stops(connection)[-1:]
    if not last or last[0].fate not in (Fate.ACCEPTED, Fate.QUEUE_FULL, Fate.UNKNOWN) or not surely_ends(connection, last[0]):
        return _fits(connection)
    stop = last[0]
    sysctls = stop.host.sysctls
    recycle = sysctls.get(RECYCLE) if sysctls is not None else None
    if sysctls is not None and sysctls.settings and (recycle is None or recycle.number == 0):
        how = "has no tcp_tw_recycle (Linux 4.12 removed it)" if recycle is None else f"has {RECYCLE} = 0 ({recycle.source})"
        return RuledOut(f"the kernel of {stop.place} {how}: it drops no SYN for its timestamp without a word")
    sighting = stop.arrival.sighting
    counter = counted(stop.host, PASSIVE, sighting.time_ns if sighting is not None else None)
    if counter is not None and counter.contradiction:
        return RuledOut(f"{stop.place} dropped no SYN for its timestamp: {counter.contradiction}", (counter.exhibit,))
    if recycle is None or counter is None or not stop.is_seen or not counter.happened or stop.fate is not Fate.ACCEPTED:
        return _fits(connection)
    return _recycled(connection, stop.place, recycle, counter)


def _fits(connection: Connection) -> Open:
    return Open(
        "a SYN whose timestamp lies behind that of an older connection may be dropped without a word (tcp_tw_recycle, or a device)",
        (
            counters_of(connection.server.ip, "PAWSEstab, PAWSTimewait and PAWSPassive, and net.ipv4.tcp_tw_recycle"),
            capture_at(connection, "server", "whether a bare ACK answers the SYN, and whether SYNs with newer timestamps pass"),
        ),
    )


def _recycled(connection: Connection, place: str, recycle: Setting, counter: Counted) -> Verdict:
    """tcp_tw_recycle is on, and the counter of what it drops rose."""
    syns = [syn for syn in connection.syns if syn.seen_at(place)]
    proven = counter.rise is not None and counter.rise >= len(syns)
    shown = Exhibit("state", place, recycle.source.file, f"{RECYCLE} = {recycle.value}", line=recycle.source.line)
    because = f"{place} drops SYNs for their timestamps: {RECYCLE} is {recycle.value}, and {counter.exhibit.text}"
    return Found(
        statement=f"{place} drops the SYN of {connection.client} because of its timestamp: tcp_tw_recycle",
        exhibits=(
            *(exhibit(syn, connection, f"TSval {syn.ts_value}; nothing comes of it", place) for syn in syns[:3]),
            shown,
            counter.exhibit,
        ),
        basis="state",
        where=place,
        explanation=(
            f"{len(syns)} SYNs came to {place}, rules and routes let them pass to a socket, and none was answered. {RECYCLE} is on: the "
            "kernel then drops each SYN whose timestamp lies behind the last that it saw of the same address, and clients behind one NAT "
            f"address have different clocks. {PASSIVE[6:]}, which counts such SYNs, "
            + (f"rose by {counter.rise}." if counter.rise is not None else f"is {counter.value}.")
        ),
        at_ns=connection.syns[0].aligned_ns,
        excludes=all_but(ID, because),
        at_most="confirmed" if proven else "likely",
        fix=(
            f"on {place}: `sysctl -w {RECYCLE}=0`, and remove it from /etc/sysctl.conf and /etc/sysctl.d/: Linux 4.12 removed it for this",
        ),
    )
