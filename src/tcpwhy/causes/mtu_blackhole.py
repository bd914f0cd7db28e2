"""Full-sized packets do not fit a link on the way, and nobody tells their sender.

Mechanism.  A link or a tunnel carries smaller packets than the ends' own links. The router before it drops what is too large, for TCP sets
    DF, and says so with ICMP (fragmentation needed; packet too big in IPv6). Where that error is dropped, or never sent, the sender goes on
    repeating full-sized segments. Handshake, small requests and ACKs pass, so that the connection looks well until data flows.

Signature.
    at the sender        0.000  client > server  PA  seq 1 len 128      # small: acknowledged
                         0.000  client > server  A   seq 129 len 1448   # and others as large
                         0.2    client > server  A   seq 129 len 1448   # again, after 0.4, 0.8, 1.6 s …, never acknowledged
    behind the link      the small ones, none of the large ones
    at the receiver      a hole before later, smaller segments, ACKs that stand at it; or nothing of the answer at all

Source.  RFC 1191; RFC 8201; RFC 2923 section 2.1 (black hole); RFC 4821; Linux net/ipv4/ip_forward.c ip_forward(),
    net/ipv4/tcp_timer.c tcp_mtu_probing().

Fix.  Let the ICMP errors pass, or make segments fit: clamp the MSS on the router before the narrow link, lower the MTU of the route, or
    let senders find out by themselves (net.ipv4.tcp_mtu_probing).

Not to be taken for.  packet-loss: it spares no size. Offload makes records larger than any packet: these are cut before the wire.
    idle-timeout and peer-vanished: there small packets die as well.
"""

from __future__ import annotations

from tcpwhy.causes._asking import PARTED, capture_at, capture_between
from tcpwhy.causes._by_state import told
from tcpwhy.causes._holes import Unfit, sender_alone, silent_hole, unfit_between
from tcpwhy.causes._lost import waited_in_vain, waits
from tcpwhy.causes._sizes import Bracket, bracket_of, sent_back, version_of
from tcpwhy.causes._stops import end_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind

ID = "mtu-blackhole"
SUSPECT = "client_payload_first_ns IS NOT NULL OR server_payload_first_ns IS NOT NULL"
REFERENCES = ("RFC 1191", "RFC 8201", "RFC 2923 section 2.1", "RFC 4821 section 7", "Linux net/ipv4/tcp_timer.c tcp_mtu_probing()")

SHOWN = 4
"""Repetitions shown of each connection."""


def examine(connection: Connection) -> Verdict:
    """Compares the sizes of what was repeated in vain with those of what passed, between places or by what was acknowledged."""
    failure = connection.failure
    if failure is None or failure.kind.in_handshake:
        return RuledOut("no data was ever sent")
    if failure.kind in (Kind.LOSSY, Kind.REPORTED):
        return RuledOut("what was sent was delivered")
    end = end_of(connection)
    if end is not None and (end.is_seen or end.counter is not None):
        return RuledOut(told(end))
    found = waits(connection)
    unfit = unfit_between(connection, found)
    if isinstance(unfit, Unfit) and waited_in_vain(connection, [unfit.wait]):
        return _between(connection, unfit)
    if isinstance(unfit, Open):
        return unfit
    alone = sender_alone(connection, found)
    if isinstance(alone, Unfit):
        return _from_sender(connection, alone)
    if alone is not None:
        return alone
    hole = silent_hole(connection, found)
    if hole is not None:
        return hole
    return RuledOut("no packets of it are lost of which only the larger ones could be")


def _between(connection: Connection, unfit: Unfit) -> Verdict:
    assert unfit.crossing is not None
    near, far = unfit.crossing.between
    bracket = bracket_of(connection, unfit.side, unfit.passed, unfit.stuck)
    text = (
        f"{len(unfit.crossing.missing)} large segments of the {unfit.side} were seen at {near} and none at {far}, the first of them "
        f"{len(unfit.wait.attempts)} times within {unfit.wait.stall.length_ns / 1e9:.1f} s; {len(unfit.crossing.passed)} smaller ones "
        f"passed. {bracket.told()} {sent_back(connection, _home(connection, unfit))}"
    )
    proven = unfit.small_after or bracket.exact is not None
    exhibits = _exhibits(connection, unfit, bracket, f"seen at {near}, not at {far}", near)
    if not proven and not unfit.small_before:
        decides = "whether any packet, large or small, passes from then on"
        return Open(f"{text[0].lower()}{text[1:]}", (capture_between(connection, near, far, decides),), exhibits, (near, far))
    excludes = _excludes(unfit, f"the large ones are seen at {near} and not at {far}, the small ones at both")
    return Found(
        statement=f"packets of {bracket.stuck} bytes do not pass from {near} to {far}, and their sender does not learn it",
        exhibits=exhibits,
        basis="two places",
        where=(near, far),
        explanation=text + _rescue(connection),
        at_ns=unfit.segments[0].aligned_ns,
        excludes=excludes,
        next_evidence=(_probe(connection, bracket),),
        fix=_fixes(connection, unfit, bracket),
    )


def _from_sender(connection: Connection, unfit: Unfit) -> Verdict:
    bracket = bracket_of(connection, unfit.side, unfit.passed, unfit.stuck)
    return Found(
        statement=f"packets of {bracket.stuck} bytes do not come through, smaller ones do, and their sender does not learn it",
        exhibits=_exhibits(connection, unfit, bracket, "repeated, never acknowledged", None),
        basis="one place",
        where=(_home(connection, unfit), connection.server.ip if unfit.side == "client" else connection.client.ip),
        explanation=(
            f"A segment of the {unfit.side} with {unfit.stuck} bytes was sent {len(unfit.wait.attempts)} times within "
            f"{unfit.wait.stall.length_ns / 1e9:.1f} s and never acknowledged, while the other end acknowledged smaller ones from "
            f"behind it. {bracket.told()} {sent_back(connection, _home(connection, unfit))}{_rescue(connection)}"
        ),
        at_ns=unfit.segments[0].aligned_ns,
        excludes=_excludes(unfit, "what is small comes through at once, what is large never"),
        next_evidence=(
            capture_at(connection, "server" if unfit.side == "client" else "client", "that only small segments arrive there"),
            _probe(connection, bracket),
        ),
        fix=_fixes(connection, unfit, bracket),
    )


def _excludes(unfit: Unfit, seen: str) -> dict[str, str]:
    return {
        "packet-loss": f"loss spares no size: {seen}",
        "peer-vanished": f"{seen}: the other end is there",
        "idle-timeout": f"{seen}: the connection is not forgotten",
        "slow-server": f"{seen}: the program did not have, or could not deliver, what it was to send",
        "asymmetric-drop": f"{seen}: a firewall that drops by state spares no size",
        "mid-connection-rehash": f"{seen}: they go to the same host",
        "zero-window": "what was repeated had room in the receiver's window",
        "keepalive-race": seen,
        "reset-with-unread-data": f"{seen}; a RST came only after that",
        "injected-reset": f"{seen}; a RST came only after that",
        "accept-queue-overflow": seen,
        "arp-conflict": seen,
        "stale-connection": seen,
        "timestamp-rejected": seen,
    }


def _exhibits(connection: Connection, unfit: Unfit, bracket: Bracket, note: str, place: str | None) -> tuple[Exhibit, ...]:
    shown = [exhibit(one, connection, note, place if place and one.seen_at(place) else None) for one in unfit.segments[:SHOWN]]
    return (*shown, *((bracket.named_by,) if bracket.named_by is not None else ()))


def _home(connection: Connection, unfit: Unfit) -> str:
    return connection.places[0] if unfit.side == "client" else connection.places[-1]


def _rescue(connection: Connection) -> str:
    stalled = connection.failure is not None and connection.failure.kind is Kind.STALLED
    return " Then smaller segments were tried, and came through." if stalled else ""


def _probe(connection: Connection, bracket: Bracket) -> str:
    size = bracket.stuck - (28 if version_of(connection) == 4 else 48)
    six = "-6 " if version_of(connection) == 6 else ""
    commands = f"`ping {six}-M do -s {size} {connection.server.ip}`, and `tracepath -n {connection.server.ip}`"
    return f"{commands}{PARTED}which hop does not carry {bracket.stuck} bytes"


def _fixes(connection: Connection, unfit: Unfit, bracket: Bracket) -> tuple[str, ...]:
    four = version_of(connection) == 4
    program, headers = ("iptables", 40) if four else ("ip6tables", 60)
    icmp = "icmp --icmp-type fragmentation-needed" if four else "ipv6-icmp --icmpv6-type packet-too-big"
    fits = bracket.exact or bracket.passed
    proof = f"with an MSS of {fits - headers} no packet has more than {fits} bytes" + (", which pass" if fits <= bracket.passed else "")
    home = connection.hosts.get(_home(connection, unfit))
    sysctl = home.sysctls.get("net.ipv4.tcp_mtu_probing") if home is not None and home.sysctls is not None else None
    is_now = f" (it is {sysctl.value} there)" if sysctl is not None else ""
    clamp = f"`{program} -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss {fits - headers}`"
    sender = _home(connection, unfit)
    return (
        f"let the errors pass on every firewall on the way: `{program} -I FORWARD -p {icmp} -j ACCEPT`, INPUT and OUTPUT too",
        f"or clamp the MSS on the router before the narrow link: {clamp} ({proof}), or --clamp-mss-to-pmtu",
        f"or let {sender} find out by itself: `sysctl -w net.ipv4.tcp_mtu_probing=1`{is_now}; transfers then wait seconds once",
    )
