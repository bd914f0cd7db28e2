"""A rule of a host turns the connection to a port of the host itself, and nobody, or a stranger, listens there.

Mechanism.  A nat rule (REDIRECT, or DNAT to an own address) in OUTPUT turns what the host's programs send, in PREROUTING what comes in,
    to a local port: so service meshes bring connections to their proxy. Where the rule is left and the proxy is gone, the host's own
    kernel answers RST at once; where another program listens on the port, it answers like a stranger. connect(), ss, lsof and strace
    all show the address that was asked, for NAT turns the answers back; the address itself never hears of it.

Signature.
    on the host, lo (OUTPUT)     client:p > 127.0.0.1:15001  S
                                 server:80 > client:p        RA       # from the address asked, within 0.2 ms
                     eth0        nothing of it
    on a node (PREROUTING)       client:p > server:80  S              # comes in by one interface
                                 server:80 > client:p  RA             # goes back by the same, with the node's TTL; nothing on lo

Source.  Linux net/netfilter/nf_nat_redirect.c nf_nat_redirect_ipv4(), net/ipv4/netfilter.c ip_route_me_harder(); iptables-extensions(8)
    REDIRECT; nft(8) redirect statement; RFC 9293 section 3.10.7.1.

Fix.  Remove exactly the rule that turns it (`iptables -t nat -D …`, `nft delete rule … handle N`), and keep it from coming back: it was
    made by a script or saved by iptables-persistent. Or start the program again that should listen there.

Not to be taken for.  port-closed: there the SYN reaches the server. rejected-by-firewall: REJECT with tcp-reset answers alike, and its
    rule counts it. A mesh whose proxy listens is healthy. TPROXY and eBPF connect hooks redirect without a nat rule; an address that is
    the host's own (kube-ipvs0, a virtual address on lo) is answered by the host without any redirect.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING

from tcpwhy.causes._arrivals import arrival, tcp_packet
from tcpwhy.causes._asking import counters_of, state_of
from tcpwhy.causes._by_state import all_but, packet_exhibits, told
from tcpwhy.causes._counted import rule_counted
from tcpwhy.causes._prediction import Prediction
from tcpwhy.causes._probes import probes
from tcpwhy.causes._redirect import Redirect, is_a_proxy, redirect_of, removal_of
from tcpwhy.causes._redirect_told import BECOMES, explained, fixes
from tcpwhy.causes._rules import all_rules
from tcpwhy.causes._stops import Stop, end_of, own_attempt, stops
from tcpwhy.causes._stranger import is_a_stranger
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.path.trace import Fate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcpwhy.tables.host import HostTables

ID = "local-redirect"
SUSPECT = "client_syns > 0 OR server_resets > 0 OR server_syn_acks > 0"
REFERENCES = (
    "Linux net/netfilter/nf_nat_redirect.c nf_nat_redirect_ipv4()",
    "iptables-extensions(8) REDIRECT",
    "RFC 9293 section 3.10.7.1",
)


def examine(connection: Connection) -> Verdict:
    """Looks for packets that came back from another address than they went to, and for the host's own rule that turned them."""
    failure = connection.failure
    if failure is None:
        return RuledOut("it did not fail")
    turned = _turned_on_lo(connection)
    if turned is not None:
        return _in_output(connection, *turned)
    end = end_of(connection)
    if end is not None and end.cause == ID:
        return _in_prerouting(connection, end)
    if end is not None and end.is_seen:
        return RuledOut(told(end))
    if failure.kind in (Kind.RESET, Kind.GAVE_UP, Kind.SILENT, Kind.REPORTED):
        return _stranger_on_the_way(connection)
    last = stops(connection)[-1:]
    if last and last[0].cause == ID and last[0].contradiction:
        return Open(f"{told(last[0])}; but {last[0].contradiction}", (counters_of(last[0].place, "whether that rule does it"),),
                    packet_exhibits(connection, last[0]), last[0].place)  # fmt: skip
    if failure.kind is not Kind.REFUSED:
        return RuledOut("the SYN was not answered with RST")
    own = own_attempt(connection)
    if own is not None and own[1].fate is Fate.REJECTED_BY_RULE:
        return RuledOut(f"a rule of {own[0]} rejects it")
    if last and last[0].is_seen and last[0].fate is Fate.REFUSED:
        return RuledOut(told(last[0]))
    ask = (state_of(f"{connection.client.ip}, the client's host", "a nat rule that turns the connection to a port of its own"),)
    return Open("a redirect to a dead local port answers with RST at once", ask)


def _turned_on_lo(connection: Connection) -> tuple[str, str] | None:
    """The place whose own packets went to another address than the one that answers, and that address with its port."""
    for place in connection.places:
        view = connection.views[place]
        own = connection.topology.addresses.get(place, frozenset())
        for client, server in view.translated:
            local = ipaddress.ip_address(server.ip).is_loopback or (server.ip in own and client.ip in own)
            if client == view.client and server != view.server and local and any(
                one.sender == "client" and one.packet.destination == server for one in view.sightings
            ):  # fmt: skip
                return place, str(server)
    return None


def _in_output(connection: Connection, place: str, target: str) -> Verdict:
    """The host's own packets, turned before they left it."""
    view, host = connection.views[place], connection.hosts.get(place)
    first = connection.segments[0]
    answer = next((one for one in connection.segments if one.sender == "server"), None)
    shown = [exhibit(first, connection, f"went to {target} of the host itself, on lo", place if first.seen_at(place) else None)]
    if answer is not None:
        shown.append(exhibit(answer, connection, f"answered from {view.server}, the address that was asked: turned back"))
    stop = None
    redirect = None
    if host is not None and (host.iptables is not None or host.ip6tables is not None or host.nft is not None):
        redirect = redirect_of(host, tcp_packet(view.client, view.server, first, None))
        stop = host
    if redirect is not None and redirect.target == target:
        return _told_by_the_rule(connection, redirect, place, tuple(shown))
    if stop is not None:
        walked = f"the rules of {place} turn nothing of it: they were changed since, or something else redirects (an eBPF hook, IPVS)"
        if redirect is not None:
            walked = f"by the state of {place} it is turned to {redirect.target}"
        ask = (state_of(place, "which rule turns it, and where to"),)
        return Open(f"the packets went to {target}, but {walked}", ask, tuple(shown), place)
    if connection.failure is None or connection.failure.kind is not Kind.REFUSED:
        return Open(
            f"{place} turns the connection to its own {target}; whether a proxy listens there or a stranger is unknown",
            (state_of(place, f"who listens on {target}"),), tuple(shown), place,
        )  # fmt: skip
    return Found(
        statement=f"{place} turns the connection for {view.server} to its own {target}, where nobody listens",
        exhibits=tuple(shown),
        basis="one place",
        where=place,
        explanation=(
            f"The SYN for {view.server} never left {place}: on lo it goes to {target}, and the RST comes back in the name of "
            f"{view.server}. A rule of {place} turns it, and no program takes it."
        ),
        at_ns=connection.syns[0].aligned_ns if connection.syns else first.aligned_ns,
        excludes=all_but(ID, f"the SYN never left {place}: it went to {target} there"),
        next_evidence=(state_of(place, "it names the rule, its line, and who listens"),),
        fix=(f"find the rule on {place}: `iptables-save -t nat` and `nft list ruleset` show what redirects to {target}",),
    )


def _told_by_the_rule(connection: Connection, redirect: Redirect, place: str, shown: tuple[Exhibit, ...]) -> Verdict:
    """The walk agrees with the packets: the rule, and who listens."""
    first = connection.segments[0].sighting_at(place)
    denied = rule_counted(redirect.host, redirect.rule, first.time_ns if first is not None else None)
    if denied:
        return Open(f"{place} turns the packets to {redirect.target} by {redirect.rule.described()}, but {denied}",
                    (counters_of(place, "whether that rule turns the connection"),), shown, place)  # fmt: skip
    if redirect.is_martian:
        return _found(connection, redirect, place, (*shown, *redirect.exhibits()))
    refused = connection.failure is not None and connection.failure.kind is Kind.REFUSED
    if refused and redirect.listeners:
        return Open(
            f"{place} turns the packets to {redirect.target}, and {redirect.who_listens()} now; whether it did then is unknown",
            (f"the start time of the program that listens on {redirect.target}",), (*shown, *redirect.exhibits()), place,
        )  # fmt: skip
    if not refused:
        proxy = is_a_proxy(redirect)
        if proxy:
            return RuledOut(f"{redirect.who_listens()}, and carries connections on: a proxy that works")
        if proxy is None or redirect.is_a_mesh_s or not _ended_by_the_stranger(connection):
            ask = (state_of(place, "which program listens there"),)
            because = f"{place} turns the connection to {redirect.target}; {redirect.who_listens()}"
            return Open(because, ask, (*shown, *redirect.exhibits()), place)
    return _found(connection, redirect, place, (*shown, *redirect.exhibits()))


def _ended_by_the_stranger(connection: Connection) -> bool:
    """True where who answered ended the connection, or its answer is the failure: a caller's own patience says nothing of it."""
    failure = connection.failure
    if failure is None or failure.kind is Kind.SILENT:
        return False
    return failure.kind is Kind.REPORTED or failure.segments[-1].sender == "server"


def _found(connection: Connection, redirect: Redirect, place: str, exhibits: tuple[Exhibit, ...]) -> Found:
    server = connection.views[place].server if place in connection.views else connection.server
    kind = connection.failure.kind if connection.failure is not None else None
    nobody = kind is Kind.REFUSED
    met = "nobody listens" if nobody else "a program listens that it was never meant for"
    if redirect.is_martian:
        met = "nothing from outside can come"
    return Found(
        statement=f"{place} turns the connection for {server} to its own {redirect.target}, where {met}",
        exhibits=exhibits,
        basis="state",
        where=place,
        explanation=explained(redirect, f"{server}"),
        at_ns=connection.segments[0].aligned_ns,
        excludes=all_but(ID, f"the rule {redirect.rule.place} of {place} turns it to {redirect.target} of the host itself"),
        fix=fixes(redirect),
    )


def _in_prerouting(connection: Connection, stop: Stop) -> Verdict:
    """A SYN that came in and was turned to a local port, or one of the host's own of which only the state tells."""
    redirect = redirect_of(stop.host, stop.walks[0].forward.packet)
    if redirect is None:
        return Open(told(stop), (state_of(stop.place, "what the rule is"),), packet_exhibits(connection, stop), stop.place)
    verdict = _told_by_the_rule(connection, redirect, stop.place, packet_exhibits(connection, stop, "the SYN, turned to a local port"))
    if isinstance(verdict, Found) and not stop.is_seen:
        return dataclasses.replace(
            verdict, at_most="likely", next_evidence=(f"a capture on {stop.place} while it happens: whether the SYN comes there",)
        )
    return verdict


def _stranger_on_the_way(connection: Connection) -> Verdict:
    """An established connection that failed: whether a host that its SYN came to turned it to a program of its own."""
    for place in connection.places:
        host = connection.hosts.get(place)
        syn = next((one for one in connection.syns if one.seen_at(place)), None)
        if host is None or syn is None:
            continue
        arrived = arrival(connection, place, syn)
        if arrived is None or arrived.is_own:
            continue
        redirects = [redirect_of(host, packet) for packet in arrived.packets]
        if redirects and redirects[0] is not None and all(one is not None and one.target == redirects[0].target for one in redirects):
            return _told_by_the_rule(connection, redirects[0], place, (exhibit(syn, connection, "the SYN, turned to a local port", place),))
    return RuledOut("no host that it came to is known to turn it to itself")


def predict(hosts: Mapping[str, HostTables]) -> list[Prediction]:
    """Redirects to a port of the host itself on which nobody listens, or a program that can never carry the connection on."""
    found = {}
    for host in hosts.values():
        if host.sockets is None:
            continue
        for rule in all_rules(host):
            for server, packet in probes(host, rule):
                redirect = redirect_of(host, packet)
                if redirect is None or redirect.rule.source != rule.source or redirect.rule.text != rule.text:
                    continue
                is_dead = redirect.is_dead and redirect.listeners == ()
                if (host.name, rule.source, rule.text) in found or not (is_dead or is_a_stranger(redirect)):
                    continue
                after = removal_of(redirect).after
                if after is None or after.fate not in BECOMES:
                    continue  # Without the rule it would come to nobody either: no service is hurt.
                found[host.name, rule.source, rule.text] = _foretold(redirect, server, is_dead=is_dead)
    return list(found.values())


def _foretold(redirect: Redirect, server: str, *, is_dead: bool) -> Prediction:
    host, rule = redirect.host, redirect.rule
    met = f" The rule met {rule.packets} packets since its counters began." if rule.packets else ""
    if is_dead:
        who, why = "where nobody listens", ""
    else:
        who = "where a program listens that can never reach that address itself"
        why = (
            " No rule lets the listener's own connections out: what it sent to that address would come back to itself. So it is no proxy, "
            "and whoever asks gets the answers of a program that was never meant; whether that is so by intent, no state tells."
        )
    return Prediction(
        cause=ID,
        confidence="likely" if rule.packets and is_dead else "possible",
        statement=f"{host.name} turns connections for {server} to its own {redirect.target}, {who}",
        explanation=explained(redirect, server) + why + met,
        where=host.name,
        exhibits=redirect.exhibits(),
        next_evidence=(f"a capture on `any` of {host.name} while a program connects to {server}",),
        fix=fixes(redirect),
    )
