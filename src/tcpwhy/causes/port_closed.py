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

from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind

SUSPECT = "client_syns > 0 AND server_resets > 0 AND server_syn_acks = 0"
REFERENCES = ("RFC 9293 section 3.10.7.1", "Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset()")

HALF_OPEN_NS = 63_000_000_000
"""A half-open connection lives so long on the server (Linux: tcp_synack_retries 5 gives 1+2+4+8+16+32 s)."""


def examine(connection: Connection) -> Verdict:
    """Looks at who sent the RST, and at who listens on the server."""
    failure = connection.failure
    if failure is None or failure.kind is not Kind.REFUSED:
        return RuledOut("the SYN was not answered with RST")
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
                    ("capture at the server while it happens",), seen)  # fmt: skip
    host = _sending_host(connection, reset)
    listening = _listening(connection)
    if listening is not None and not listening[0]:
        return _found(connection, (*seen, *listening[1]), "state", host or listening[2])
    if listening is not None:
        return RuledOut("the server's socket table shows a listener on the port", listening[1])
    ask = (
        f"`ss -tlnp 'sport = :{connection.server.port}'` on {connection.server.ip}, and `iptables-save -c`: a listener or a REJECT rule",
    )
    if host is None or len(connection.places) < 2:
        return Open("a RST from the address asked; a firewall or a redirect on the way answers just so", ask, seen, host)
    return _found(connection, seen, "two places", host)


def _sending_host(connection: Connection, reset: Segment) -> str | None:
    """The place at which the RST was sent: it leaves there, after the SYN came in there."""
    place = connection.places[-1]
    sighting = reset.sighting_at(place)
    syn = connection.syns[0].sighting_at(place)
    if (
        sighting is None
        or syn is None
        or connection.topology.beyond(place, connection.views[place].server.ip, connection.views[place].server.port)
    ):
        return None
    copies = {copy.direction for copy in sighting.copies}
    return place if "in" not in copies and sighting.packet.ttl in (64, 128, 255) else None


def _listening(connection: Connection) -> tuple[bool, tuple[Exhibit, ...], str] | None:
    """Whether somebody listens on the asked port by the socket table of the server's host; None without such a table."""
    for place, table in connection.sockets.items():
        server = connection.views[place].server if place in connection.views else connection.server
        owns = server.ip in connection.topology.addresses.get(place, frozenset()) or place == connection.places[-1]
        if not owns or (place == connection.places[0] and len(connection.places) > 1):
            continue
        listeners = table.listeners_for(server.ip, server.port)
        if listeners:
            first = listeners[0]
            return (
                True,
                (Exhibit("state", place, first.source.file, f"a listener on port {server.port}", line=first.source.line),),
                place,
            )
        text = f"no socket listens on {server}; {len(table.sockets)} sockets are listed"
        file = table.sockets[0].source.file if table.sockets else f"{place}/state/ss-tcp.txt"
        return False, (Exhibit("state", place, file, text, line=1),), place
    return None


def _found(connection: Connection, exhibits: tuple[Exhibit, ...], basis: str, host: str) -> Found:
    return Found(
        statement=f"{host} itself answers the SYN for {connection.server} with RST",
        exhibits=exhibits,
        basis="state" if basis == "state" else "two places",
        where=host,
        explanation=(
            f"The SYN of {connection.client} reached {host}, whose kernel answered it with RST+ACK, sequence number 0, without options: "
            + (f"no socket listens on {connection.server}." if basis == "state" else "the packet that a port without listener sends.")
        ),
        at_ns=connection.syns[0].aligned_ns,
        at_most="confirmed" if basis == "state" else "likely",
        excludes={
            "rejected-by-firewall": "no socket listens on the port, so that the kernel refuses it whatever the firewall does"
            if basis == "state"
            else f"the RST left {host} itself, where the SYN had arrived; a REJECT rule of its own is not excluded by packets",
            "local-redirect": f"the SYN arrived at {host}, which answered it",
            "synack-lost": "no attempt from the same port was open",
            "syn-lost": "the SYN arrived",
            "accept-queue-overflow": "a full queue answers an established connection with RST, not a SYN",
            "asymmetric-drop": "the RST arrived",
        },
        next_evidence=()
        if basis == "state"
        else (f"`ss -tlnp` and `iptables-save -c` on {host}: no listener confirms it, a REJECT rule with tcp-reset contradicts it",),
        fix=(f"start the program on {host} that should listen on port {connection.server.port}, or ask where it listens (`ss -tlnp`)",),
    )
