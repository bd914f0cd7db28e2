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

import ipaddress
from typing import TYPE_CHECKING

from tcpwhy.causes._asking import arp_at, state_of
from tcpwhy.causes._by_state import all_but
from tcpwhy.causes._claims import came_from, claims_at, most_claims, moved_between_claims, sent_to
from tcpwhy.causes._stops import end_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import INITIAL_TTLS, Connection, Segment
from tcpwhy.connections.failure import Kind

if TYPE_CHECKING:
    from tcpwhy.tables.sockets import Socket

ID = "arp-conflict"
SUSPECT = "client_packets > 0"
REFERENCES = ("RFC 826", "RFC 5227", "Linux net/ipv4/arp.c arp_ignore(), arp_solicit()")


def examine(connection: Connection) -> Verdict:
    """Looks whether the client's packets went to another hardware address than those that were answered, and who claims the address."""
    failure = connection.failure
    if failure is None:
        return RuledOut("it did not fail")
    moved = moved_between_claims(connection)
    if moved is not None:
        return _found(connection, *moved)
    claims = most_claims(connection)
    if failure.kind in (Kind.PROHIBITED, Kind.REPORTED):
        return RuledOut("an answer that was meant for it came")
    ask = (arp_at(connection.server.ip, "whether two hosts claim the address, and to which of them the packets go"),)
    if len(claims) > 1:
        elsewhere = _to_the_wrong_one(connection)
        if elsewhere is not None:
            return elsewhere
        shown = tuple(exhibit(one, connection, "sent to one of them") for one in connection.segments[:1])
        macs = ", ".join(sorted(claims))
        because = f"{len(claims)} hardware addresses claim {connection.server.ip} by ARP ({macs}); two interfaces of one host do so too"
        return Open(because, ask, shown)
    if any(ipaddress.ip_address(server.ip).is_loopback for view in connection.views.values() for _, server in view.translated):
        return RuledOut("its packets never left the host")
    end = end_of(connection)
    if end is not None and end.is_seen:
        return RuledOut(f"the packet's end is known: it is on {end.place}")
    if connection.icmp:
        return RuledOut("an ICMP error came back: another way than ARP's was tried")
    resets = [segment for segment in connection.resets if segment.sender == "server"]
    if failure.kind is Kind.REFUSED and _from_nearer_or_farther(connection, resets):
        return RuledOut("the RST crossed another number of routers than the server's packets: it comes from another network")
    known = _went_where_it_belongs(connection)
    if known is not None:
        return known
    waited = failure.kind in (Kind.STALLED, Kind.GAVE_UP) and connection.failed_repeating
    if waited or failure.kind in (Kind.SILENT, Kind.REFUSED) or (failure.kind is Kind.RESET and failure.segments[-1] in resets[:1]):
        return Open("another host that claims the address by ARP would get the packets", ask)
    return RuledOut("nothing shows that two hosts claim the address")


def _went_where_it_belongs(connection: Connection) -> RuledOut | None:
    """The proof that what failed came to the host that had answered before, or never left another one; None where nothing tells.

    Of a reset connection that is the RST of a live socket, or one that the server's own host sends; of a silent one, the client's last
    packets at the server's host, or sent to the hardware address from which the server's answers come.
    """
    if connection.failure is None or connection.failure.kind.in_handshake:
        return None
    reset = next((one for one in connection.resets if one.sender == "server"), None)
    answers = [one for one in connection.segments if one.sender == "server" and not one.is_reset]
    if reset is not None and answers:
        if not reset.packet.is_stateless_reset:
            return RuledOut("the RST came from a live socket that has the connection", (exhibit(reset, connection, "the RST"),))
        home = next((place for place in reset.sightings if connection.is_server_host(place)), None)
        if home is not None and any(one.seen_at(home) for one in answers):
            return RuledOut(f"{home} had answered before, and sends the RST itself", (exhibit(reset, connection, "the RST", home),))
        return None
    last = next((one for one in reversed(connection.segments) if one.sender == "client" and not one.is_reset), None)
    if last is None or not answers:
        return None
    for place in last.sightings:
        if connection.is_server_host(place) and any(one.seen_at(place) for one in answers):
            return RuledOut(f"its packets come to {place}, which had answered before", (exhibit(last, connection, "comes there", place),))
        mac = sent_to(last, place)
        if mac and connection.views[place].hops[1] == 0 and {came_from(one, place) for one in answers} - {""} == {mac}:
            return RuledOut(
                f"{place} sends its packets to {mac}, from where the answers had come", (exhibit(last, connection, mac, place),)
            )
    return None


def _from_nearer_or_farther(connection: Connection, resets: list[Segment]) -> bool:
    """True where a RST crossed another number of routers than other packets from its address."""
    for reset in resets[:1]:
        for place, sighting in reset.sightings.items():
            known = {_routers(ttl) for ttl in connection.topology.server_ttls.get((place, sighting.packet.source.ip), frozenset())}
            if known and sighting.packet.ttl and _routers(sighting.packet.ttl) not in known:
                return True
    return False


def _routers(ttl: int) -> int:
    return next((initial - ttl for initial in sorted(INITIAL_TTLS) if ttl <= initial), 0)


def _to_the_wrong_one(connection: Connection) -> Found | None:
    """A SYN that went to one of the claiming hosts, which refused it or said nothing, while another of them has the service."""
    if connection.failure is None or not connection.failure.kind.in_handshake:
        return None
    for place in connection.places:
        claims, server = claims_at(connection, place), connection.views[place].server
        syn = next((one for one in connection.syns if sent_to(one, place) in claims), None)
        if syn is None or len(claims) < 2:
            continue
        mac = sent_to(syn, place)
        for host in connection.hosts.values():
            links = host.links.by_name.values() if host.links is not None else ()
            own = next((link for link in links if link.mac.lower() in claims), None)
            if own is None or own.mac.lower() == mac or any(link.mac.lower() == mac for link in links) or host.sockets is None:
                continue
            listeners = host.sockets.listeners_for(server.ip, server.port)
            if not listeners or not any(one.ip == server.ip for one in (host.addresses.entries if host.addresses else ())):
                continue
            return _refused_by_the_wrong_one(connection, place, syn, mac, host.name, own.mac.lower(), listeners[0])
    return None


def _refused_by_the_wrong_one(
    connection: Connection, place: str, syn: Segment, mac: str, right: str, right_mac: str, listener: Socket
) -> Found:
    answer = "answered it with RST" if connection.resets else "did not answer"
    shown = [exhibit(syn, connection, f"sent to {mac}", place)]
    shown += [exhibit(one, connection, "what that host answers") for one in connection.resets[:1]]
    text = f"{listener.local} listens on {right}, which has {right_mac}"
    return Found(
        statement=f"the SYN for {connection.server} went to {mac}, and the service is at {right_mac} ({right})",
        exhibits=(*shown, Exhibit("state", right, listener.source.file, text, line=listener.source.line)),
        basis="state",
        where=place,
        explanation=(
            f"Both {mac} and {right_mac} answer ARP for {connection.server.ip}. Its program listens on {right} ({right_mac}); "
            f"this SYN went to {mac}, which {answer}."
        ),
        at_ns=syn.aligned_ns,
        excludes=all_but(ID, f"the SYN went to {mac}, and {right} with the service claims {connection.server.ip} by ARP too"),
        fix=_fixes(connection, mac, right_mac),
    )


def _fixes(connection: Connection, first: str, second: str) -> tuple[str, ...]:
    return (
        f"find {first} and {second} (`ip neigh`, the switch's table), and take {connection.server.ip} from the wrong one",
        "on a real server that must keep the address: `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`",
    )


def _found(connection: Connection, place: str, before: Segment, after: Segment) -> Found:
    first, second = sent_to(before, place), sent_to(after, place)
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
        next_evidence=(state_of(f"the hosts with {first} and {second}", f"which of them has {connection.server.ip}, and arp_ignore"),),
        fix=_fixes(connection, first, second),
    )
