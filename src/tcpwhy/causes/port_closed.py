"""Nobody listens on the port: the server's kernel refuses the SYN with RST.

Mechanism.  A SYN for a port without listener is answered at once with RST+ACK; connect() fails with ECONNREFUSED. The program is not
    running, has not started yet, or listens on another address or port.

Signature.
    0.000  client > server  S   seq x
    0.000  server > client  RA  seq 0, ack x+1, window 0, no options, IP ID 0; TTL as the server's other packets

Source.  RFC 9293 section 3.10.7.1; Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset().

Fix.  Start the program, or make it listen where the clients ask (`ss -tlnp` on the server shows who listens where). If the clients ask
    the wrong place, mend their configuration or the balancer's.

Not to be taken for.  rejected-by-firewall: `REJECT --reject-with tcp-reset` answers with the very same packet; only the server's state
    tells. synack-lost: a half-open connection answers a SYN with another ISN inside its window with the same RST. local-redirect: a
    redirect to a dead port on the way answers so too.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, state_of
from tcpwhy.causes._by_state import told
from tcpwhy.causes._claims import most_claims
from tcpwhy.causes._stops import end_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.path import fate

SUSPECT = "client_syns > 0 AND server_resets > 0 AND server_syn_acks = 0"
REFERENCES = ("RFC 9293 section 3.10.7.1", "Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset()")

HALF_OPEN_NS = 63_000_000_000
"""A half-open connection lives so long on the server (Linux: tcp_synack_retries 5 gives 1+2+4+8+16+32 s)."""


def examine(connection: Connection) -> Verdict:
    """Looks at who sent the RST, and at who listens on the server."""
    failure = connection.failure
    if failure is None or failure.kind is not Kind.REFUSED:
        return RuledOut("the SYN was not answered with RST")
    if not connection.syns:
        return RuledOut("the SYN that was refused is in no capture of the server's")
    end = end_of(connection)
    if end is not None and end.is_seen and end.cause != "port-closed":
        return RuledOut(told(end))
    reset = failure.segments[-1]
    if reset.seq != 0 or reset.packet.options or reset.packet.window:
        return RuledOut(
            "the RST is not one that a closed port sends (RFC 9293 section 3.10.7.1)",
            (exhibit(reset, connection, "the RST"),),
        )
    half_open = [
        other
        for other in connection.earlier
        if not other.established
        and other.failure is not None
        and connection.syns[0].aligned_ns - other.segments[-1].aligned_ns < HALF_OPEN_NS
    ]
    answered = [other for other in half_open if other.syn_acks]
    if answered:
        return RuledOut("the server had answered an attempt from the same port just before with SYN-ACK: somebody listens",
                        (exhibit(answered[0].syn_acks[0], answered[0], "the SYN-ACK of the attempt before"),))  # fmt: skip
    seen = (
        exhibit(connection.syns[0], connection, "the SYN"),
        exhibit(reset, connection, "refused: RST+ACK of the SYN, without options, window 0"),
    )
    if half_open:
        return Open("an attempt from the same port was never answered just before: its half-open connection may have refused this SYN",
                    (capture_at(connection, "server", "what it answered to the attempt before"),), seen)  # fmt: skip
    turned = [str(other[1]) for view in connection.views.values() for other in view.translated if other[1] != view.server]
    if turned and len(connection.places) == 1:
        return RuledOut(f"the SYN went to {turned[0]} of the client's own host", seen)
    elsewhere = _from_elsewhere(connection, reset)
    if elsewhere is not None:
        return RuledOut(elsewhere, seen)
    host = _sending_host(connection, reset)
    listening = _listening(connection, host)
    if listening is not None and listening[0]:
        # A socket table speaks for its own time: the program may have been started after the SYN.
        return Open(
            "somebody listened when the server's state was taken; whether somebody did when the SYN came is unknown",
            ("the start time of the listening program, and `iptables-save -c` on the server",),
            (*seen, *listening[1]),
        )
    if listening is not None:
        return _found(connection, (*seen, *listening[1]), host or listening[2])
    server = connection.server
    ask = (
        state_of(server.ip, f"a listener on port {server.port}, or a rule that rejects"),
        capture_at(connection, "server", "whether the SYN comes there, and who sends the RST"),
    )
    if host is None or len(connection.places) < 2:
        return Open("a RST from the address asked; a firewall or a redirect on the way answers just so", ask, seen, host)
    because = f"the RST left {host} itself, where the SYN had arrived; a REJECT rule or a redirect to a dead port there answers just so"
    return Open(because, ask, seen, host)


def _from_elsewhere(connection: Connection, reset: Segment) -> str | None:
    """Why the RST cannot have come from the server's own host; None where nothing speaks against it."""
    reached = fate(connection, connection.syns[0])
    if reached.missing_at is not None and reached.doubt is None:
        return f"the RST came although the SYN never reached {reached.missing_at}"
    for place, sighting in reset.sightings.items():
        known = connection.topology.server_ttls.get((place, sighting.packet.source.ip), frozenset())
        if known and sighting.packet.ttl and sighting.packet.ttl not in known:
            return (
                f"at {place} the RST has TTL {sighting.packet.ttl}, other packets of the server have {', '.join(map(str, sorted(known)))}"
            )
    place = connection.places[-1]
    own = connection.topology.addresses.get(place, frozenset())
    if own and connection.views[place].server.ip not in own and reset.packet.vantage_point == place and _leaves(reset, place):
        return f"the RST left {place}, which does not have the address asked"
    return None


def _leaves(segment: Segment, place: str) -> bool:
    """True where the place is seen to send the segment, and not to receive it."""
    sighting = segment.sighting_at(place)
    if sighting is None:
        return False
    directions = {copy.direction for copy in sighting.copies}
    if directions == {""} and len({(copy.file_number, copy.interface) for copy in sighting.copies}) > 1:
        return False  # It came in by one interface and left by another.
    return "in" not in directions and ("out" in directions or sighting.packet.ttl in (64, 128, 255))


def _sending_host(connection: Connection, reset: Segment) -> str | None:
    """The place at which the RST was sent: the server's host, by its addresses, or by TTL and direction."""
    place = connection.places[-1]
    view = connection.views[place]
    if not connection.syns[0].seen_at(place) or not _leaves(reset, place):
        return None
    own = connection.topology.addresses.get(place, frozenset())
    if own:
        return place if view.server.ip in own else None
    known = connection.topology.server_ttls.get((place, view.server.ip), frozenset())
    sighting = reset.sighting_at(place)
    same_ttl = sighting is not None and sighting.packet.ttl in known
    return place if same_ttl and view.host_of() in ("server", None) and len(connection.places) > 1 else None


def _listening(connection: Connection, host: str | None) -> tuple[bool, tuple[Exhibit, ...], str] | None:
    """Whether somebody listens on the asked port by the socket table of the address's owner; None without such a table.

    A table speaks only for the host that has the address: by its addresses, by a socket bound to the address, or because the RST is
    seen to be sent there.
    """
    for place, tables in connection.hosts.items():
        table = tables.sockets
        if table is None:
            continue
        server = connection.views[place].server if place in connection.views else connection.server
        own = connection.topology.addresses.get(place, frozenset())
        owner = server.ip in own if own else place == host or any(one.local_ip == server.ip for one in table.sockets)
        if not owner:
            continue
        listeners = table.listeners_for(server.ip, server.port)
        if listeners:
            first = listeners[0]
            text = f"{first.local} listens: the port is open"
            return True, (Exhibit("state", place, first.source.file, text, line=first.source.line),), place
        text = f"no socket listens on {server}; {len(table.sockets)} sockets are listed"
        file = table.sockets[0].source.file if table.sockets else f"{place}/state/ss-tcp.txt"
        return False, (Exhibit("state", place, file, text, line=1),), place
    return None


def _found(connection: Connection, exhibits: tuple[Exhibit, ...], host: str) -> Found:
    # Where something on the way changed the address, the server's own view of it counts.
    server = connection.views[host].server if host in connection.views else connection.server
    return Found(
        statement=f"{host} itself answers the SYN for {server} with RST",
        exhibits=exhibits,
        basis="state",
        where=host,
        explanation=(
            f"The SYN of {connection.client} reached {host}, whose kernel answered it with RST+ACK, sequence number 0, without options: "
            f"no socket listens on {server}."
        ),
        at_ns=connection.syns[0].aligned_ns,
        excludes={
            "rejected-by-firewall": "no socket listens on the port, so that the kernel refuses it whatever the firewall does",
            "local-redirect": f"the SYN arrived at {host}, which answered it",
            "synack-lost": "no attempt from the same port was open",
            "syn-lost": "the SYN arrived",
            "accept-queue-overflow": "a full queue answers an established connection with RST, not a SYN",
            "asymmetric-drop": "the RST arrived",
            **({} if len(most_claims(connection)) > 1 else {"arp-conflict": f"no second host is seen to claim {server.ip} by ARP"}),
        },
        fix=(f"start the program on {host} that should listen on port {server.port}, or ask where it listens (`ss -tlnp`)",),
    )
