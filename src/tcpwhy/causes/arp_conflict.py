"""Two hosts answer ARP for one address, and the connection's packets go to the wrong one.

Mechanism.  Two machines on one network claim an address: a real server of direct return without arp_ignore and arp_announce, a failover
    that left both ends active, an address given twice. The router or the client asks by ARP, believes whoever answered last, and sends
    packets of running or new connections to the host that does not know them: it answers RST, or nothing.

Signature.
    anywhere on the network    who-has ADDRESS      is-at MAC 1
                                                    is-at MAC 2
    at the client or router    the same connection's packets go to MAC 1, then to MAC 2; what goes to MAC 2 is reset or never answered

Source.  RFC 826, RFC 5227; Linux net/ipv4/arp.c arp_ignore(), arp_solicit(); Documentation/networking/ip-sysctl.rst arp_ignore,
    arp_announce; arping(8) -D.

Fix.  Find both hosts by their hardware addresses (`ip neigh`, the switch's table) and take the address from one, or, on real servers,
    `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`.

Not to be taken for.  A failover of VRRP, balance-alb bonds and several interfaces of one host show two hardware addresses in health.
    mid-connection-rehash: there a router spreads over several next hops on purpose.
"""

from __future__ import annotations

from tcpwhy.causes._by_state import COLLECT, all_but
from tcpwhy.causes._stops import end_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import Packet

ID = "arp-conflict"
SUSPECT = "client_packets > 0"
REFERENCES = ("RFC 826", "RFC 5227", "Linux net/ipv4/arp.c arp_ignore(), arp_solicit()")


def examine(connection: Connection) -> Verdict:
    """Looks whether the client's packets went to another hardware address than those that were answered, and who claims the address."""
    failure = connection.failure
    if failure is None:
        return RuledOut("it did not fail")
    claims = connection.topology.arp_claims.get(connection.server.ip, frozenset())
    moved = _moved(connection)
    if moved is not None:
        place, before, after = moved
        if len(claims) > 1 and {before.packet.destination_mac, after.packet.destination_mac} <= claims:
            return _found(connection, place, before, after)
    end = end_of(connection)
    if end is not None and end.is_seen:
        return RuledOut(f"the packet's end is known: it is on {end.place}")
    if failure.kind in (Kind.PROHIBITED, Kind.REPORTED) or connection.icmp:
        return RuledOut("an answer that was meant for it came")
    ask = (f"a capture of ARP on the network of {connection.server.ip} (`arping -D`), and {COLLECT} on the hosts that claim it",)
    if len(claims) > 1:
        shown = tuple(exhibit(one, connection, "sent to one of them") for one in connection.segments[:1])
        macs = ", ".join(sorted(claims))
        because = f"{len(claims)} hardware addresses claim {connection.server.ip} by ARP ({macs}); two interfaces of one host do so too"
        return Open(because, ask, shown)
    resets = [segment for segment in connection.resets if segment.sender == "server"]
    if failure.kind is Kind.SILENT or (failure.kind is Kind.RESET and resets and failure.segments[-1] in resets[:1]):
        return Open("another host that claims the address by ARP would get the packets", ask)
    return RuledOut("nothing shows that two hosts claim the address")


def _moved(connection: Connection) -> tuple[str, Segment, Segment] | None:
    """The place from which the client's packets went to one hardware address and then to another, and the packets around the move."""
    for place in connection.places:
        last: tuple[Segment, str] | None = None
        for segment in connection.segments:
            sighting = segment.sighting_at(place)
            if segment.sender != "client" or sighting is None:
                continue
            mac = _leaving(sighting.copies)
            if not mac:
                continue
            if last is not None and last[1] != mac:
                return place, last[0], segment
            last = (segment, mac)
    return None


def _leaving(copies: list[Packet]) -> str:
    """The hardware address that the packet was sent to."""
    return next((copy.destination_mac for copy in reversed(copies) if copy.destination_mac), "")


def _found(connection: Connection, place: str, before: Segment, after: Segment) -> Found:
    first, second = before.packet.destination_mac, after.packet.destination_mac
    exhibits: list[Exhibit] = [
        exhibit(before, connection, f"sent to {first}", place),
        exhibit(after, connection, f"sent to {second}", place),
    ]
    ended = next((one for one in connection.resets if one.sender == "server" and one.aligned_ns >= after.aligned_ns), None)
    if ended is not None:
        exhibits.append(exhibit(ended, connection, "what the second host answers"))
    reaction = "answers RST" if ended is not None else "does not answer"
    return Found(
        statement=f"packets for {connection.server.ip} go to {first} and then to {second}, which {reaction}",
        exhibits=tuple(exhibits),
        basis="two places" if len(connection.places) > 1 else "one place",
        where=place,
        explanation=(
            f"Both {first} and {second} answer ARP for {connection.server.ip}. At {place} this connection's packets went to the one, then "
            f"to the other, which does not know the connection and {reaction}."
        ),
        at_ns=after.aligned_ns,
        excludes=all_but(ID, f"its packets went to {first} and then to {second}, and both claim {connection.server.ip} by ARP"),
        next_evidence=(f"{COLLECT} on the hosts with {first} and {second}: which of them has {connection.server.ip}, and arp_ignore",),
        fix=(
            f"find {first} and {second} (`ip neigh`, the switch's table), and take {connection.server.ip} from the wrong one",
            "on a real server that must keep the address: `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`",
        ),
    )
