"""One end is gone for good, for all its connections at once.

Mechanism.  A host loses its power, crashes, freezes, is suspended, or loses its only link. Its kernel says nothing: no FIN, no RST. What is
    sent to it is repeated until the other end gives up, which takes minutes; new connections to it get no answer. A router next to it
    may say, after it asked for the hardware address in vain, that the host cannot be reached (ICMP).

Signature.
    at the last place before it
        0.000  client > server  PA   seq 1 len 500     # of each connection that has something to say
        0.2    client > server  PA   seq 1 len 500     # again, and again after 0.4, 0.8, 1.6 s …
        1.0    client > server  S                      # new connections: never answered
               router > client  ICMP host unreachable  # perhaps, seconds later
               nothing of the server any more, while others' packets pass

    A host that the captures do not touch directly may as well be cut off by what lies between. SIGSTOP, a debugger or a deadlock
    stop programs and not the kernel, which goes on acknowledging.

Source.  RFC 9293 section 3.8.3 (the user timeout); RFC 1122 section 4.2.3.5; RFC 1812 section 5.2.7.1 and RFC 4443 section 3.1 (host
    or address unreachable); Linux net/ipv4/tcp_timer.c tcp_write_timeout(), net.ipv4.tcp_retries2, net/core/neighbour.c.

Fix.  Find out what happened to the host at that moment: its console, hypervisor, power and link, kernel log. So that the others notice
    sooner: TCP_USER_TIMEOUT or net.ipv4.tcp_retries2 for what is on its way, keep-alive (SO_KEEPALIVE, TCP_KEEPIDLE) for the idle.

Not to be taken for.  packet-loss: there the end lives on, and is heard again or elsewhere. idle-timeout: there only connections that had
    been silent are lost, and others pass. mtu-blackhole: there small packets still pass. zero-window, slow-server: there the kernel still
    answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpwhy.causes._asking import capture_at, capture_between, log_of
from tcpwhy.causes._by_state import all_but
from tcpwhy.causes._last_heard import (
    SAME_MOMENT_NS,
    FallenSilent,
    address_of,
    fallen_silent,
    hops_to,
    is_own_host,
    teller,
    unreachable,
)
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, IcmpError
from tcpwhy.connections.kinds import SECOND_NS, SILENT_SPAN_NS
from tcpwhy.connections.presence import Asked

ID = "peer-vanished"
SUSPECT = "true"
REFERENCES = (
    "RFC 9293 section 3.8.3",
    "RFC 1122 section 4.2.3.5",
    "RFC 1812 section 5.2.7.1",
    "Linux net/ipv4/tcp_timer.c tcp_write_timeout()",
)

ASKED_IN_VAIN_NS = SECOND_NS // 2
"""A router says that a host cannot be reached so long, or longer, after it began to ask (net.ipv4.neigh.*.retrans_time_ms 1 s, thrice); a
rule or a route that forbids says so at once."""


def examine(connection: Connection) -> Verdict:
    """Looks for everything that the end which does not answer sent anywhere, since it was first asked in vain."""
    silence = fallen_silent(connection)
    if isinstance(silence, str):
        return RuledOut(silence)
    alive = _alive(connection, silence)
    if alive is not None:
        return alive
    if silence.heard_ns is None:
        return _never_heard(connection, silence)
    return _gone(connection, silence, silence.heard_ns)


def _alive(connection: Connection, silence: FallenSilent) -> RuledOut | None:
    """What shows that the end was there, while it was asked in vain."""
    traffic, topology = connection.traffic, connection.topology
    assert traffic is not None
    spoke = {one.aligned_ns: one for one in connection.segments if one.sender == silence.side and one.aligned_ns > silence.since_ns}
    if spoke:
        last = spoke[max(spoke)]
        if last.aligned_ns > silence.since_ns + SAME_MOMENT_NS:
            return RuledOut(f"the {silence.side} went on sending", (exhibit(last, connection, "sent meanwhile"),))
    for name in dict.fromkeys((silence.address, *(address_of(connection, silence.side, place) for place in connection.places))):
        for place, heard_ns in traffic.presence.heard(name).items():
            if heard_ns > silence.since_ns + SAME_MOMENT_NS and topology.aligned[place]:
                later = (heard_ns - silence.since_ns) / SECOND_NS
                return RuledOut(f"{place} heard {name} on other connections until {later:.1f} s after it was first asked in vain here")
    for place in connection.places:
        if is_own_host(connection, silence.side, place) and topology.was_running(place, silence.unanswered[-1].aligned_ns):
            arrived = any(one.seen_at(place) for one in silence.unanswered)
            came = "the packets come to it" if arrived else "the packets do not come to it"
            return RuledOut(f"the capture at {place}, the {silence.side}'s own host, ran on: the host was there, and {came}")
    return None


def _never_heard(connection: Connection, silence: FallenSilent) -> Verdict:
    """An end of which no capture holds a packet."""
    assert connection.traffic is not None
    errors, asks = unreachable(connection, silence), _asks(connection, silence)
    if errors:
        return Open(f"{teller(errors[0])} says that {silence.address} cannot be reached: it may be gone", asks)
    if not connection.traffic.presence.asked(silence.address, silence.place, 0).established:
        return RuledOut(f"nothing of the {silence.side} was ever captured: it did not vanish in the time of the captures")
    return Open(f"{silence.place} sees established connections speak to {silence.address}, and never heard it", asks)


def _gone(connection: Connection, silence: FallenSilent, heard_ns: int) -> Verdict:
    traffic = connection.traffic
    assert traffic is not None
    asked = traffic.presence.asked(silence.address, silence.place, heard_ns + SECOND_NS // 10)
    lively_ns = traffic.presence.lively_ns(silence.place)
    errors = [one for one in unreachable(connection, silence) if one.aligned_ns - heard_ns >= ASKED_IN_VAIN_NS]
    hops = hops_to(connection, silence)
    lasted_ns = silence.unanswered[-1].aligned_ns - heard_ns
    lacking = None
    if not asked.established:
        lacking = "no connection to it that had been established asked in vain"
    elif asked.total < 2:
        lacking = "no other connection spoke to it at that time, which could tell whether it is gone for all"
    elif silence.place in connection.topology.lossy:
        lacking = f"the capture of {silence.place} is incomplete: {connection.topology.lossy[silence.place]}"
    elif lively_ns is None or lively_ns < silence.since_ns + SILENT_SPAN_NS:
        lacking = f"no other connection went on at {silence.place}, which could tell that {silence.place} itself is well"
    elif not errors and hops:
        lacking = f"{hops} {'router' if hops == 1 else 'routers'} between {silence.place} and it may have cut it off"
    elif not errors and hops is None:
        lacking = f"how far it is from {silence.place} is not known"
    elif lasted_ns < SILENT_SPAN_NS:
        lacking = f"the silence lasted {lasted_ns / SECOND_NS:.1f} s only"
    if lacking is not None:
        return Open(
            f"nothing of {silence.address} is heard any more; but {lacking}", _asks(connection, silence), _exhibits(connection, silence)
        )
    return _found(connection, silence, heard_ns, asked, errors)


def _found(connection: Connection, silence: FallenSilent, heard_ns: int, asked: Asked, errors: Sequence[IcmpError]) -> Found:
    side, place, address = silence.side, silence.place, silence.address
    both = len([name for name in connection.places if silence.unanswered[-1].seen_at(name)]) > 1
    kinds = [f"{asked.established} established ones" if asked.established > 1 else "an established one" if asked.established else ""]
    kinds.append(f"{asked.begun} new ones" if asked.begun > 1 else "a new one" if asked.begun else "")
    spoke = " and ".join(word for word in kinds if word)
    said = ""
    if errors:
        late = (errors[0].aligned_ns - heard_ns) / SECOND_NS
        said = f" {teller(errors[0])} says by ICMP, {late:.1f} s after the last sign of life, that the host cannot be reached."
    gone = f"nothing of {address} is seen on any connection from that moment on"
    waited = (silence.since_ns - heard_ns) / SECOND_NS
    lasted = (silence.unanswered[-1].aligned_ns - silence.since_ns) / SECOND_NS
    return Found(
        statement=f"{address} fell silent for good, on all its connections at once",
        exhibits=_exhibits(connection, silence),
        basis="two places" if both else "one place",
        where=str(connection.server) if side == "server" else connection.client.ip,
        explanation=(
            f"{place}, the last place before the {side}, heard {address} {waited:.1f} s before this connection first asked in vain, and "
            f"never again. Since then its connections ({spoke}) sent to it without any answer, this one for {lasted:.1f} s, while others' "
            f"packets went on passing {place}. The host is off, frozen, or has lost its link.{said}"
        ),
        at_ns=heard_ns,
        excludes=all_but(ID, gone),
        next_evidence=(log_of(address, "what happened to the host at that moment, as its kernel and its hypervisor tell"),),
        fix=(
            f"find out what became of {address} at that moment: console, hypervisor, power, link of its port (`ip -s link`), kernel log",
            (
                "so that its peers notice within seconds: TCP_USER_TIMEOUT (or net.ipv4.tcp_retries2) for data on its way, and keep-alive "
                "(SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL) for idle connections"
            ),
        ),
    )


def _exhibits(connection: Connection, silence: FallenSilent) -> tuple[Exhibit, ...]:
    before = [one for one in connection.segments if one.sender == silence.side and one.seen_at(silence.place)]
    shown = [exhibit(one, connection, f"the last sign of life of the {silence.side} here", silence.place) for one in before[-1:]]
    seen = [one for one in silence.unanswered if one.seen_at(silence.place)]
    chosen = seen if len(seen) < 4 else [*seen[:2], seen[-1]]
    shown += [exhibit(one, connection, "never answered", silence.place) for one in chosen]
    return tuple(shown)


def _asks(connection: Connection, silence: FallenSilent) -> tuple[str, ...]:
    there = capture_at(connection, silence.side, "whether the host is there, and what comes to it")
    between = capture_between(connection, silence.place, silence.address, "how far what is sent to it gets")
    return (there, between)


def together(founds: Sequence[Found]) -> str:
    """Whether all of them fell silent at one moment."""
    times = sorted(found.at_ns for found in founds)
    if len(founds) < 2 or times[-1] - times[0] > SAME_MOMENT_NS:
        return ""
    return f"All {len(founds)} connections met the same silence."
