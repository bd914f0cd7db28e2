"""A device between the ends forgot the connection, for it had been silent for too long.

Mechanism.  Firewalls, NAT and balancers keep an entry for each connection and drop it after some time without a packet; neither end is
    told. The next packet finds no entry: it is dropped, or answered with RST by the device (towards one end or both), or a NAT gives it
    another port, under which the other end does not know it and answers RST. The other end still has the connection.

Signature.
    before the device     0.000    client > server  PA, answered
                          380.000  client > server  PA            # the next request on the idle connection
                          380.2    client > server  PA            # again and again, into nothing
       or                 380.000  server > client  R             # which the server never sent
    behind the device     nothing of it; other connections pass, and those that were silent for less go on

    From one place alone, an answer by RST looks like a server that was restarted or another backend, and silence like a lost link.

Source.  RFC 5382 section 5 (REQ-5: two hours and four minutes at least, which few keep); RFC 1122 section 4.2.3.6 (keep-alive); Linux
    net/netfilter/nf_conntrack_proto_tcp.c tcp_timeouts and tcp_new(), nf_conntrack_tcp_loose; net/netfilter/ipvs/ip_vs_proto_tcp.c.

Fix.  Keep-alive at one end below the device's timeout, an idle timeout of the caller's pool below it, or a longer one on the device.

Not to be taken for.  keepalive-race: there the server itself closed (its FIN is seen). packet-loss: it does not choose the silent ones.
    peer-vanished: there all connections of the end fall silent at once. mid-connection-rehash: another backend gets the packet.
    slow-server: there the request was acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpwhy.causes._asking import capture_at, capture_between, state_of
from tcpwhy.causes._forgery import is_of_its_socket
from tcpwhy.causes._forgotten import (
    Bracket,
    Device,
    Sign,
    bracket_of,
    device_of,
    excluded,
    setting_exhibit,
    settings_within,
)
from tcpwhy.causes._resets import home_of, sent_at_home
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.kinds import SECOND_NS, Kind
from tcpwhy.connections.packet import other_side
from tcpwhy.connections.silences import Silence, fatal_silence

ID = "idle-timeout"
SUSPECT = "client_resets + server_resets > 0 OR client_retransmissions + server_retransmissions > 0 OR client_fins + server_fins > 0"
REFERENCES = (
    "RFC 5382 section 5",
    "RFC 1122 section 4.2.3.6",
    "Linux net/netfilter/nf_conntrack_proto_tcp.c tcp_timeouts",
    "Linux net/netfilter/ipvs/ip_vs_proto_tcp.c tcp_timeouts",
)

SHORTEST_NS = 60 * SECOND_NS
"""No device on the way forgets sooner by default (_idle_defaults.py): who waits for less waits for the program that answers."""


def examine(connection: Connection) -> Verdict:
    """Looks for a silence behind which nothing got through, and for the place where what ended it got stuck."""
    silence = fatal_silence(connection)
    if silence is None:
        return RuledOut("no silence came before it failed")
    denied = _denied(connection, silence)
    if denied is not None:
        return denied
    bracket = bracket_of(connection, silence)
    if bracket.survived_ns >= silence.length_ns:
        longer, own = bracket.survived_ns / SECOND_NS, silence.length_ns / SECOND_NS
        return RuledOut(f"it had been silent for {own:.1f} s, and others to the same service survived {longer:.1f} s on the same way")
    device = device_of(connection, silence)
    if isinstance(device, Device) and bracket.others < bracket.deaths:
        return _found(connection, silence, device, bracket)
    lacking = device if isinstance(device, str) else f"{bracket.others} others failed likewise and had not been silent"
    return _open(connection, silence, bracket, lacking)


def _denied(connection: Connection, silence: Silence) -> RuledOut | None:
    """What the packets show instead."""
    failure, first = connection.failure, silence.first
    other = other_side(silence.speaker)
    if failure is not None and failure.kind is Kind.GAVE_UP and not first.length and silence.length_ns < SHORTEST_NS:
        return RuledOut(f"the pause of {silence.length_ns / SECOND_NS:.1f} s was spent waiting for the answer")
    fin = next((one for one in connection.segments if one.is_fin and one.sender == other and one.aligned_ns <= first.aligned_ns), None)
    if fin is not None:
        return RuledOut(f"the {other} had closed its side before", (exhibit(fin, connection, "closed"),))
    reset = next((one for one in connection.resets if one.sender == other), None)
    if reset is not None and is_of_its_socket(connection, reset):
        return RuledOut(
            f"the RST bears the {other}'s own timestamps or IP IDs: its live socket sent it", (exhibit(reset, connection, "R"),)
        )
    device = device_of(connection, silence)
    if isinstance(device, Device):
        return None
    home = sent_at_home(connection, reset) if reset is not None else None
    known = home is not None and any(one.seen_at(home) and one.aligned_ns < first.aligned_ns for one in connection.segments)
    if home is not None and known:
        return RuledOut(f"{home}, the {other}'s own host, sent the RST, and had seen the whole connection")
    return None


def _found(connection: Connection, silence: Silence, device: Device, bracket: Bracket) -> Found:
    lasted = silence.length_ns / SECOND_NS
    other = other_side(silence.speaker)
    settings = settings_within(connection, bracket)
    where = device.where if isinstance(device.where, str) else f"a device between {device.where[0]} and {device.where[1]}"
    named = "".join(f" {place} has {setting.key} = {setting.value}, which lies in it." for place, setting in settings)
    moved = f" It was {device.moved[0]} to the {other} before, and is {device.moved[1]} now." if device.moved is not None else ""
    both = len(device.places) > 1
    count = f" {bracket.deaths} connections failed behind such silences." if bracket.deaths > 1 else ""
    return Found(
        statement=f"after {lasted:.1f} s of silence {where} has forgotten the connection",
        exhibits=(*_exhibits(connection, silence), *(setting_exhibit(place, setting) for place, setting in settings)),
        basis="state" if settings else "two places" if both else "one place",
        where=device.where,
        explanation=(
            f"The connection was silent for {lasted:.1f} s. Then the {silence.speaker} spoke, and {where}, which had forgotten it, "
            f"{device.sign.value}.{moved} {_other_end(connection, silence, device)} {bracket.text}{named}{count}"
        ),
        at_ns=silence.first.aligned_ns,
        excludes=excluded(connection, silence, device),
        next_evidence=()
        if settings
        else (state_of(where, "its timeout for silent connections, and the rule that meets what it does not know"),),
        fix=_fixes(connection, bracket, [place for place, _ in settings]),
    )


def _other_end(connection: Connection, silence: Silence, device: Device) -> str:
    """What the other end knows of it."""
    other = other_side(silence.speaker)
    home = home_of(connection, other)
    if device.sign is Sign.MOVED:
        return f"The {other} still has the connection under the old address."
    if home is not None and not any(one.sender == other and one.is_fin and one.seen_at(home) for one in connection.segments):
        return f"The {other} never saw what was sent, and still has the connection."
    return f"Nothing shows that the {other} ended it."


def _fixes(connection: Connection, bracket: Bracket, hosts: Sequence[str]) -> tuple[str, ...]:
    limit = bracket.survived_ns if bracket.survived_ns >= SECOND_NS else bracket.died_ns // 2
    seconds = max(1, limit // SECOND_NS)
    host = hosts[0] if hosts else "the device"
    return (
        (
            f"keep the connection alive from one end, at most every {seconds} s: SO_KEEPALIVE with TCP_KEEPIDLE={seconds} in the program, "
            "and TCP_KEEPINTVL below it; where it sets SO_KEEPALIVE already, "
            f"`sysctl -w net.ipv4.tcp_keepalive_time={seconds} net.ipv4.tcp_keepalive_intvl={max(1, seconds // 4)}`"
        ),
        f"or let the caller's pool close connections that are idle for {seconds} s, before the device forgets them",
        (
            f"or raise the timeout on {host} above the longest silence that the program needs (Linux: "
            "`sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=…`; IPVS: `ipvsadm --set …`)"
        ),
    )


def _exhibits(connection: Connection, silence: Silence) -> tuple[Exhibit, ...]:
    shown = [exhibit(silence.before, connection, "the last packet before the silence")]
    if not silence.first.is_reset:
        note = f"the first after {silence.length_ns / SECOND_NS:.1f} s of silence"
        shown += [exhibit(one, connection, note if one is silence.first else "again") for one in silence.unanswered[:3]]
    shown += [exhibit(one, connection, "RST instead of an answer") for one in connection.resets[:1]]
    return tuple(shown)


def _open(connection: Connection, silence: Silence, bracket: Bracket, lacking: str) -> Open:
    lasted = silence.length_ns / SECOND_NS
    longest = bracket.survived_ns / SECOND_NS
    survived = f", longer than any silence that was survived here ({longest:.1f} s)" if longest >= 1 else ""
    behind = other_side(silence.speaker)
    seen = connection.places
    ask = (
        capture_at(connection, behind, "whether what is sent after a silence comes there, and who sends the RST"),
        capture_between(connection, seen[0], str(connection.server), "which of them lets it in and not out"),
    )
    return Open(
        f"the connection had been silent for {lasted:.1f} s before{survived}, so that a device may have forgotten it; {lacking}",
        ask if len(seen) == 1 else ask[::-1],
        _exhibits(connection, silence),
    )
