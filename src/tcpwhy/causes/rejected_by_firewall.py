"""A firewall rejects the connection: it answers the SYN with an ICMP error or with a RST that the server never sent.

Mechanism.  A REJECT rule (or a route of type prohibit) answers instead of the host that was asked: with ICMP destination unreachable,
    or with a RST that looks as though the port were closed. The client gets EHOSTUNREACH, EACCES or ECONNREFUSED at once.

Signature.
    at the client    client > server  S
                     router > client  ICMP unreachable, administratively prohibited (codes 9, 10, 13), quoting the SYN
                or   server > client  RA  seq 0, in the server's name: with the TTL of a nearer host, or while the server never had the SYN
    on the host      the REJECT rule's counter rises with each attempt
    In mid-connection the rule takes a packet and answers R, seq = its ACK: the packet goes no farther than the host of the rule.

Source.  RFC 1812 section 5.2.7.1, RFC 4443 section 3.1; iptables-extensions(8) REJECT; nft(8) reject statement; Linux
    net/ipv4/netfilter/nf_reject_ipv4.c nf_send_reset(), nf_send_unreach().

Fix.  Let the connection pass before the rule that rejects it, or remove the rule. If the rejection is meant, the caller asks the wrong
    place.

Not to be taken for.  port-closed: the server's own kernel answers a closed port with the same RST; its sockets and rules tell.
    local-redirect: a redirect to a dead port answers so too. A router without a route answers ICMP host or network unreachable, which is
    no prohibition.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, capture_between, counters_of, state_of
from tcpwhy.causes._by_state import all_but, examine_by_state, found_at, packet_exhibits, state_exhibits, told
from tcpwhy.causes._counted import rule_counted
from tcpwhy.causes._remedies import without_rule
from tcpwhy.causes._resets import closed_before, home_of, occasion_of, sent_at_home
from tcpwhy.causes._rules import NamedRule
from tcpwhy.causes._stops import Stop, own_attempt, stop_at
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, describe, exhibit
from tcpwhy.connections.connection import Connection, IcmpError
from tcpwhy.connections.failure import Kind
from tcpwhy.path.trace import Fate

ID = "rejected-by-firewall"
SUSPECT = "client_syns > 0 AND server_syn_acks = 0 OR icmp_errors > 0 OR server_resets > 0 OR client_resets > 0"
REFERENCES = ("RFC 1812 section 5.2.7.1", "RFC 4443 section 3.1", "Linux net/ipv4/netfilter/nf_reject_ipv4.c nf_send_reset()")


def examine(connection: Connection) -> Verdict:
    """Walks the SYN through the hosts that it came to; an ICMP prohibition says by itself that somebody rejects."""
    kind = connection.failure.kind if connection.failure is not None else None
    own = own_attempt(connection) if kind in (Kind.REFUSED, Kind.PROHIBITED) else None
    if own is not None and own[1].fate is Fate.REJECTED_BY_RULE:
        return _in_output(connection, own[0], own[2])
    ask = (
        state_of(connection.server.ip, "whether a rule there rejects it"),
        capture_at(connection, "server", "whether the SYN comes there, and who sends the answer"),
    )
    if kind is Kind.RESET:
        return _in_mid_connection(connection)
    verdict = examine_by_state(ID, connection, lambda stop: _found(connection, stop), _fits, ask)
    if kind is Kind.PROHIBITED and not isinstance(verdict, Found):
        return _prohibited(connection)
    return verdict


def _in_mid_connection(connection: Connection) -> Verdict:
    """A RST without a socket behind it: whether the packet that it answers ends at a host whose rule rejects it."""
    reset = connection.resets[0]
    occasion = occasion_of(connection, reset)
    if occasion is None or closed_before(connection, reset, reset.sender) is not None:
        return RuledOut("the RST is not of the form with which a rule answers a packet, or its end had closed before")
    home = sent_at_home(connection, reset)
    if home is not None:
        return RuledOut(f"{home}, the {reset.sender}'s own host, sent the RST")
    way = connection.places if occasion.sender == "client" else tuple(reversed(connection.places))
    last = [place for place in way if occasion.seen_at(place)][-1]
    if last == home_of(connection, reset.sender):
        return RuledOut(f"what the RST answers came to {last}: no rule on the way took it")
    stop = stop_at(connection, last, occasion) if reset.seen_at(last) else None
    if stop is not None and stop.cause == ID and not stop.contradiction:
        return _found(connection, stop)
    ask = (
        capture_between(connection, last, str(connection.server if reset.sender == "server" else connection.client.ip), "where it ends"),
        state_of("each firewall on that way", "whether a REJECT rule there answers with RST, and its counter"),
    )
    shown = (exhibit(reset, connection, "the RST for it"),)
    return Open(f"a packet was seen as far as {last} and answered with RST: so answers a rule that rejects it", ask, shown)


def _in_output(connection: Connection, place: str, rule: NamedRule | None) -> Verdict:
    """The client's own host rejects what its programs send: the SYN is in no capture, for captures lie behind the firewall."""
    host = connection.hosts[place]
    shown = (
        *(exhibit(one, connection, "answers a SYN that was never captured", place) for one in connection.resets[:1] if one.seen_at(place)),
        *_answers(connection),
        *((rule.exhibit("rejects it"),) if rule is not None else ()),
    )
    at_ns = connection.failure.at_ns if connection.failure is not None else None
    denied = rule_counted(host, rule, None) if rule is not None else ""
    described = f"the rule {rule.described()}" if rule is not None else "a rule"
    if denied:
        return Open(
            f"by its state {described} of {place} rejects it, but {denied}",
            (counters_of(place, "whether that rule is the one that rejects"),),
            shown,
            place,
        )
    because = f"{place} rejects its own SYN for {connection.server} by {described}"
    return Found(
        statement=f"{place} rejects its own SYN for {connection.server} by rule",
        exhibits=shown,
        basis="state",
        where=place,
        explanation=(
            f"A program of {place} asks for {connection.server}, and {described} in OUTPUT rejects it. The SYN is in no capture, because "
            "outgoing packets are captured behind the firewall; only the rejection is, on lo."
        ),
        at_ns=at_ns or 0,
        excludes=all_but(ID, because),
        fix=((f"on {place}: let it pass before that rule, or remove the rule: `{rule.removal}`",) if rule is not None else ()),
    )


def _fits(connection: Connection) -> str | None:
    kind = connection.failure.kind if connection.failure is not None else None
    if kind is Kind.UNANSWERED and connection.icmp:
        return "an ICMP error answered the SYN"
    if kind is Kind.REFUSED:
        return "`REJECT --reject-with tcp-reset` answers with the same RST"
    first = next((reset.aligned_ns for reset in connection.resets if reset.sender == "client"), None)
    if kind is Kind.HALF_OPEN and first is not None and any(syn.aligned_ns > first for syn in connection.syns):
        return "a firewall that rejects the SYN-ACK sends this RST in the client's name, which goes on asking"
    return None


def _found(connection: Connection, stop: Stop) -> Verdict:
    rule = stop.rule
    name = "SYN" if stop.arrival.segment.opens else "packet"
    described = f"the rule {rule.described()}" if rule is not None else told(stop)
    return found_at(
        ID,
        connection,
        stop,
        statement=f"{stop.place} rejects the {name} of {connection.client} for {connection.server} by rule",
        explanation=(
            f"The {name} comes to {stop.place}, and {described} rejects it: {stop.place} answers in the server's name, and asks no program."
        ),
        exhibits=(*packet_exhibits(connection, stop), *_answers(connection), *state_exhibits(stop)),
        fix=(without_rule(stop, rule) if rule is not None else (f"on {stop.place}: mend the route or rule that prohibits it",)),
    )


def _answers(connection: Connection) -> tuple[Exhibit, ...]:
    return tuple(_icmp_exhibit(connection, error) for error in connection.icmp[:2])


def _icmp_exhibit(connection: Connection, error: IcmpError) -> Exhibit:
    packet = error.packet
    quoted = describe(connection.syns[0], connection) if connection.syns else str(connection.server)
    text = f"ICMP type {packet.icmp_type} code {packet.icmp_code} ({packet.quoted_by or packet.source.ip}), quoting {quoted}"
    return Exhibit("packet", packet.vantage_point, packet.file, text, frame=packet.frame, time_ns=packet.time_ns)


def _prohibited(connection: Connection) -> Found:
    """The ICMP error alone: somebody rejects, and says who it is."""
    error = next((one for one in connection.icmp if one.is_prohibition), connection.icmp[0])
    sender = error.packet.quoted_by.split(" > ")[0].strip() if error.packet.quoted_by else error.packet.source.ip
    return Found(
        statement=f"{sender} rejects the SYN of {connection.client} for {connection.server} with an ICMP error",
        exhibits=(*_answers(connection),),
        basis="two places" if len(connection.places) > 1 else "one place",
        where=(connection.places[0], sender),
        explanation=(
            f"{sender} answers the SYN with ICMP type {error.packet.icmp_type} code {error.packet.icmp_code}, which says that a filter of "
            "its own forbids the connection."
        ),
        at_ns=error.aligned_ns,
        at_most="likely",
        excludes={
            "port-closed": "a closed port answers with RST",
            "local-redirect": "a dead local port answers with RST",
            "syn-lost": "the SYN was answered with an ICMP error",
            "peer-vanished": "a host that is gone prohibits nothing",
            "vip-missing": "a host without the address does not say that it is prohibited",
            "arp-conflict": "the SYN was answered with an ICMP error",
        },
        next_evidence=(state_of(str(sender), "the rule that rejects, and its counter"),),
        fix=(f"find the REJECT rule or the prohibiting route on {sender}, and let the connection pass before it",),
    )
