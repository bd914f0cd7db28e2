"""A connection that failed behind a silence goes in; which device on its way forgot it, and what shows that, comes out."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter

from tcpwhy.causes._claims import most_claims
from tcpwhy.causes._idle_defaults import SLACK_S, defaults_within
from tcpwhy.causes._verdict import Exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS
from tcpwhy.connections.packet import Endpoint
from tcpwhy.connections.path import fate
from tcpwhy.connections.silences import Silence
from tcpwhy.tables.sysctls import Setting

TRACKED_S = "net.netfilter.nf_conntrack_tcp_timeout_established"
"""How long conntrack keeps a silent established connection, s."""


class Sign(enum.Enum):
    """What a device does with a packet of a connection that it has forgotten."""

    DROPPED = "drops it"
    ANSWERED = "answers it with RST"
    MOVED = "gives the connection another address or port, which the other end does not know"


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """Where the connection was forgotten."""

    sign: Sign
    where: tuple[str, str] | str
    places: tuple[str, ...]
    """Whose captures show it."""
    moved: tuple[Endpoint, Endpoint] | None = None
    """The speaker's address behind a NAT before the silence, and after it."""


def device_of(connection: Connection, silence: Silence) -> Device | str:
    """Where the first packet after the silence was swallowed or changed; or why the captures do not show it."""
    first = silence.first
    if first.is_reset:
        return "nothing was on its way when the RST came"
    moved = _moved(connection, silence)
    if moved is not None:
        return moved
    order = connection.places if silence.speaker == "client" else tuple(reversed(connection.places))
    last = [place for place in order if first.seen_at(place)][-1]
    before = [
        one for one in connection.segments if one.sender == silence.speaker and one.aligned_ns < first.aligned_ns and not one.is_reset
    ]
    sign = Sign.ANSWERED if any(one.aligned_ns >= first.aligned_ns for one in connection.resets) else Sign.DROPPED
    unsent = next((reset for reset in connection.resets if reset.sender != silence.speaker), None)
    if _is_swallowed(connection, silence, last, before):
        behind = order[order.index(last) + 1 :]
        return Device(sign, last, (last, *behind))
    got = fate(connection, first)
    if got.missing_at is None:
        return f"nobody captured behind {last}"
    if got.doubt is not None:
        return got.doubt
    if not any(one.seen_at(got.missing_at) for one in before):
        return f"{got.missing_at} saw nothing of it before the silence either"
    later = next((one for one in silence.unanswered if one.seen_at(got.missing_at)), None)
    if later is not None:
        return f"what was sent later did come to {got.missing_at}"
    if unsent is not None and unsent.seen_at(got.missing_at):
        return f"the RST came from beyond {got.missing_at}"
    end_ns = max([silence.unanswered[-1].aligned_ns, *(one.aligned_ns for one in connection.resets)]) + SECOND_NS
    traffic = connection.traffic
    if traffic is not None and not traffic.others(connection, got.missing_at, silence.speaker, first.aligned_ns - SECOND_NS, end_ns):
        return f"nothing of any other connection is seen to pass to {got.missing_at} at that time"
    return Device(sign, got.between, (last, got.missing_at))


def _is_swallowed(connection: Connection, silence: Silence, place: str, before: list[Segment]) -> bool:
    """True where a place that forwards the speaker's packets, and captures them coming in and going out, saw these come in only."""
    usual = [_ways(one, place) for one in before if one.seen_at(place)]
    now = [_ways(one, place) for one in silence.unanswered if one.seen_at(place)]
    if len(usual) < 2 or not now or place in connection.topology.lossy:
        return False
    forwards = usual[0].total() > 1 and all(ways == usual[0] for ways in usual)
    files = {file for file, _, _ in usual[0]}
    if not connection.topology.all_ran(place, files, silence.first.aligned_ns, silence.unanswered[-1].aligned_ns):
        return False  # The other interface's capture may have ended.
    return forwards and all(ways.total() == 1 and ways < usual[0] for ways in now)


def _ways(segment: Segment, place: str) -> Counter[tuple[str, str, str]]:
    """By which files, interfaces and directions a place saw a segment, and how often."""
    sighting = segment.sighting_at(place)
    copies = sighting.copies if sighting is not None else []
    return Counter((copy.file, copy.interface, copy.direction) for copy in copies)


def _moved(connection: Connection, silence: Silence) -> Device | None:
    """The first packet after the silence under another address than those before it, at a place behind a NAT."""
    for place in connection.places:
        sighting = silence.first.sightings.get(place)
        before = [one for one in connection.segments if one.sender == silence.speaker and place in one.sightings
                  and one.aligned_ns < silence.first.aligned_ns and not one.is_reset]  # fmt: skip
        if sighting is None or not before:
            continue
        old = {copy.source for one in before for copy in one.sightings[place].copies}
        new = [copy.source for copy in sighting.copies if copy.source not in old]
        if new:
            was = before[-1].sightings[place].copies[-1].source
            nearer = [name for name in connection.places if name != place and silence.first.seen_at(name)]
            where: tuple[str, str] | str = place
            if len(sighting.copies) == 1:  # The place lies behind the NAT: it knows the NAT's address.
                where = (nearer[0], place) if nearer else new[-1].ip
            return Device(Sign.MOVED, where, tuple(dict.fromkeys((place, *nearer))), (was, new[-1]))
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Bracket:
    """Between which silences the device's timeout lies, by all connections of the same way."""

    survived_ns: int
    died_ns: int
    deaths: int
    """Connections that failed behind a silence."""
    others: int
    """That failed so, and had not been silent before."""

    @property
    def text(self) -> str:
        """In words, with the defaults that lie in it."""
        low, high = self.survived_ns / SECOND_NS, self.died_ns / SECOND_NS
        than = f"longer than {low:.1f} s, the longest silence that was survived on this way, and " if self.survived_ns else ""
        known = defaults_within(low if self.survived_ns else high / 2, high)
        which = "; ".join(f"{one.seconds} s is the default of {one.name} ({one.source})" for one in known)
        within = "In this bracket: " if self.survived_ns else "Near it: "
        return f"The timeout is {than}at most {high:.1f} s, the shortest after which one failed.{f' {within}{which}.' if which else ''}"


def bracket_of(connection: Connection, silence: Silence) -> Bracket:
    """The bracket of the service's connections that failed behind a silence and of those that survived one."""
    traffic = connection.traffic
    if traffic is None:
        return Bracket(0, silence.length_ns, 1, 0)
    survived = traffic.survived.on_way_of(connection)
    longer, likewise = traffic.deaths.behind_longer(connection, survived), traffic.deaths.likewise(connection, survived)
    if silence.length_ns > survived:
        return Bracket(survived, longer[0], len(longer), likewise)
    # This one counts as behind a silence, however short it was.
    return Bracket(survived, silence.length_ns, len(longer) + 1, likewise - 1)


def settings_within(connection: Connection, bracket: Bracket) -> list[tuple[str, Setting]]:
    """Hosts on the connection's way, other than its ends, whose conntrack forgets within the bracket."""
    found = []
    for place in connection.places:
        host = connection.hosts.get(place)
        setting = host.sysctls.get(TRACKED_S) if host is not None and host.sysctls is not None else None
        seconds = setting.number if setting is not None else None
        if setting is None or seconds is None or connection.is_server_host(place) or connection.is_client_host(place):
            continue
        if bracket.survived_ns < (seconds + SLACK_S) * SECOND_NS and seconds * SECOND_NS <= bracket.died_ns:
            found.append((place, setting))
    return found


def setting_exhibit(place: str, setting: Setting) -> Exhibit:
    """The setting as evidence."""
    text = f"{setting.key} = {setting.value}"
    return Exhibit("state", place, setting.source.file, text, line=setting.source.line)


def excluded(connection: Connection, silence: Silence, device: Device) -> dict[str, str]:
    """What a device that forgot leaves no room for, and why."""
    lasted = f"{silence.length_ns / SECOND_NS:.1f} s of silence"
    took = {
        Sign.DROPPED: "the first packet after the silence never reached the other end, nor did any later one",
        Sign.ANSWERED: "the RST answers a packet that never reached the other end: who took it away answered it",
        Sign.MOVED: "the other end got the packet under another address or port, and had to answer RST",
    }[device.sign]
    found = {
        "packet-loss": f"{took}, while other connections' packets pass: the link loses none",
        "mid-connection-rehash": f"{took}; only connections that had been silent fail so, and others go on to the same place",
        "injected-reset": took,
        "keepalive-race": f"{took}, and neither end had closed",
        "reset-with-unread-data": f"{took}: its program closed nothing",
        "peer-vanished": "other connections to it go on",
        "asymmetric-drop": f"both directions passed until the silence, and {took}",
        "mtu-blackhole": f"{took}, whatever its size",
        "zero-window": f"{took}, and no window was closed",
        "slow-server": took,
        "accept-queue-overflow": "the connection was established and used before",
        "stale-connection": "the connection was established and used before",
        "timestamp-rejected": "the connection was established and used before",
        "reverse-path-filter": f"its packets passed until {lasted}",
        "local-redirect": f"its packets passed until {lasted}",
        "rejected-by-firewall": f"its packets passed until {lasted}",
        "vip-missing": f"its packets passed until {lasted}",
        "port-closed": f"its packets passed until {lasted}",
        "syn-lost": "the connection was established",
        "synack-lost": "the connection was established",
    }
    if len(most_claims(connection)) < 2:
        found["arp-conflict"] = "at that time other connections reach the host that has the address, and no two claim it by ARP"
    return found
