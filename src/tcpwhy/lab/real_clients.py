"""Who was behind each connection at a cluster's servers: the programs' own notes come in, the truth of the case goes out.

nginx wrote which request came over which of its connections, the load wrote from which socket it sent which request.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from .balancer_tables import in_hex
from .cluster import BALANCER, HEADER, NAT
from .load import endpoint
from .scenario import RealClient, StoryDidNotHappen, Truth
from .view import CaseView, Packet

GRACE_NS = 400_000_000  # how long before its first request a connection may begin, and end after its last one
TUPLE = r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)"
CONNTRACK = re.compile(rf"tcp .*?{TUPLE} .*?{TUPLE}")

TABLES = ("ipvsadm-connections.txt", "proc-net-ip_vs_conn.txt")  # a line an entry; HAProxy writes several


@dataclass(frozen=True)
class Conversation:
    """One connection of a client program."""

    client: str
    host: str
    started_ns: int
    ended_ns: int
    requests: tuple[tuple[str, Mapping[str, str], int], ...]


@dataclass
class Served:
    """One connection at a server: `first_ns` is when its first request began, `last_ns` when its last one was answered."""

    host: str
    client: str
    server: str
    first_ns: int
    last_ns: int
    talks: list[Conversation] = field(default_factory=list)
    requests: set[str] = field(default_factory=set)


def truth_of(view: CaseView, *, mark: str, header_only: bool = False) -> Truth:
    """The truth of a healthy case of a cluster.

    `mark` is how the balancer names the client in the first packets of each connection: `toa`, `proxy`, or empty where
    it does not. `header_only`: nothing but an HTTP header names it, and that without a port.
    """
    view.require_healthy_outcomes()
    recorded = _number(view.notes["recorded_ns"])
    seen = [(served, _packets_at_server(view, served)) for served in _served(view)]
    rows = [_Known(view, served, packets, recorded).row(mark, header_only=header_only) for served, packets in seen if packets]
    view.require(any(row.open_before_capture for row in rows), "no old connection was in use while the captures ran")
    fresh = any(not row.open_before_capture for row in rows)
    view.require(fresh or header_only, "no connection was opened while the captures ran")
    count = len(view.connections())
    view.require(count >= 20, f"only {count} connections, expected at least 20")
    return Truth(healthy_connections=count, clients=rows)


class _Known:
    """All that is known of one connection at a server."""

    def __init__(self, view: CaseView, served: Served, packets: list[Packet], recorded_ns: int) -> None:
        talks = served.talks
        self.view = view
        self.host = served.host
        self.client = client = served.client
        self.server = served.server
        self.packets = packets
        self.is_old = served.first_ns < recorded_ns
        asked = [asked for talk in talks for asked in talk.requests if asked[0] in served.requests]
        self.captured = [one for one in asked if one[2] >= recorded_ns]
        speaking = [talk for talk in talks if any(asked in talk.requests for asked in self.captured)] or talks
        self.own = {talk.client for talk in speaking}
        inside = set(_names(view, "inside"))
        self.is_behind_nat = {talk.host for talk in talks} <= inside
        self.seen = {_translated(view, talk.client) if talk.host in inside else talk.client for talk in speaking}
        starts = any(packet.kind == "S" for packet in packets)
        view.require(starts != self.is_old, f"{client} was opened {'before' if self.is_old else 'in'} the captures; its SYN says otherwise")

    def row(self, mark: str, *, header_only: bool) -> RealClient:
        """The connection as the truth tells it."""
        # behind another proxy each request has a connection of its own, and the address in its headers is the balancer's
        evidence = [] if self.host in _names(self.view, "apps") else self._evidence(mark, header_only=header_only)
        of_nat = _evidence_of_nat(self.view) if self.is_behind_nat and evidence and not header_only else []
        resolved = self.own if of_nat else {_address(one) for one in self.seen} if header_only else self.seen
        # a header names the NAT node without a port: where the case shows that it is one, nobody can be told behind it
        hidden = header_only and self.is_behind_nat and kept(self.view, NAT)
        real = next(iter(resolved)) if len(resolved) == 1 and evidence and not hidden else None
        told = evidence or kept(self.view, BALANCER) or kept(self.view, NAT)  # requests of both sides could be compared
        # several clients behind one NAT node have one address for the balancer, and its headers name no other
        common = {_address(one) for one in self.seen}
        several = common if len(common) == 1 and header_only else set()
        right = self.own | self.seen | {_address(one) for one in self.own | self.seen} if len(self.own) == 1 else several
        teams = sorted({headers[HEADER] for _, headers, _ in self.captured if HEADER in headers})
        return RealClient(
            client=self.client,
            server=self.server,
            real_client=real,
            also_right=sorted(right - {real}) if told else [],
            headers={HEADER: ", ".join(teams)} if teams else {},
            open_before_capture=self.is_old,
            requests=len(self.captured),
            first_ns=self.packets[0].time_ns,
            evidence=evidence + of_nat,
        )

    def _evidence(self, mark: str, *, header_only: bool) -> list[str]:
        """What in the case names the client as the balancer sees it."""
        view = self.view
        found = []
        at_server = kept(view, self.host)
        if header_only:
            return ["header"] if at_server and self.captured else []
        if mark and at_server and not self.is_old:
            found.append(mark)
        if kept(view, BALANCER) and self._is_in_table():
            found.append("lb-table")
        if view.note("forwards") == "fullnat" and at_server:
            places = [BALANCER, *([NAT] if self.is_behind_nat else [])]
            if any(kept(view, place) and self._is_seen_before(place) for place in places):
                found.append("lb-capture")
        return found

    def _is_in_table(self) -> bool:
        """Whether the balancer's table holds the connection at the end, this incarnation of it."""
        view = self.view
        lines = [line for name in TABLES for line in (view.state(BALANCER, name) or "").splitlines()]
        if any(_is_in(self.client, line) and any(_is_in(one, line) for one in self.seen) for line in lines):
            return True
        # One local port may carry connections to several servers.
        sessions = re.split(r"^(?=0x)", view.state(BALANCER, "haproxy-sessions.txt") or "", flags=re.MULTILINE)
        return any(_is_in(self.client, one) and _is_in(self.server, one) for one in sessions)

    def _is_seen_before(self, place: str) -> bool:
        """Whether data of the connection, as it is before the balancer, were captured at a place."""
        return any(packet.length and packet.source in self.seen for packet in self.view.packets.get(place, []))


def kept(view: CaseView, place: str) -> bool:
    """Whether a place's evidence stays in the case."""
    return not view.options.places or place in view.options.places


def _evidence_of_nat(view: CaseView) -> list[str]:
    """What in the case tells what the NAT node translated."""
    if not kept(view, NAT):
        return []
    found = ["conntrack"] if view.state(NAT, "conntrack.txt") else []
    return [*found, "nat-capture"] if NAT in view.places else found


def _packets_at_server(view: CaseView, served: Served) -> list[Packet]:
    """The packets of one incarnation at its server, in time order."""
    first, last = served.first_ns - GRACE_NS, max(served.last_ns, *(talk.ended_ns for talk in served.talks)) + GRACE_NS
    places = view.connections(server=served.server).get((served.client, served.server), {})
    return sorted((packet for packet in places.get(served.host, []) if first <= packet.time_ns <= last), key=lambda packet: packet.time_ns)


def _served(view: CaseView) -> list[Served]:
    """The connections of each server, by what its nginx wrote down of the requests that came over them."""
    conversations: dict[str, Conversation] = {}
    for outcome in view.outcomes:
        asked = outcome["requests"]
        assert isinstance(asked, list)
        requests = tuple((str(one["id"]), one["headers"], int(one["time_ns"])) for one in asked)
        times = _number(outcome["started_ns"]), _number(outcome["ended_ns"])
        talk = Conversation(str(outcome["client"]), str(outcome["host"]), *times, requests)
        conversations |= {request[0]: talk for request in requests}
    found: dict[tuple[str, str, str], Served] = {}
    for name in (*_names(view, "servers"), *_names(view, "apps")):
        for line in (view.scratch / f"served-{name}.log").read_text().splitlines():
            if "unix:" in line:
                continue  # nginx asking itself
            ended, took, number, client_ip, client_port, server_ip, server_port, request = line.split()
            ended_ns = int(Decimal(ended) * 10**9)
            began_ns = ended_ns - int(Decimal(took) * 10**9)
            key = (endpoint(client_ip, int(client_port)), endpoint(server_ip, int(server_port)), number)
            served = found.setdefault(key, Served(name, key[0], key[1], began_ns, ended_ns))
            served.first_ns, served.last_ns = min(served.first_ns, began_ns), max(served.last_ns, ended_ns)
            served.requests.add(request)
            if conversations[request] not in served.talks:
                served.talks.append(conversations[request])
    return [found[key] for key in sorted(found)]


def _translated(view: CaseView, client: str) -> str:
    """A client's address and port as the NAT node made them, by its own conntrack."""
    for line in view.note("conntrack").splitlines():
        if tuples := CONNTRACK.match(line):
            source, _, source_port, _, _, new, _, new_port = tuples.groups()
            if endpoint(source, int(source_port)) == client:
                return endpoint(new, int(new_port))
    raise StoryDidNotHappen(f"the NAT node does not know {client}")


def _is_in(end: str, table: str) -> bool:
    """Whether a table holds `ip:port`, written out, without the brackets of IPv6 (HAProxy), or in the kernel's hexadecimal form."""
    address, _, port = end.rpartition(":")
    packed = ipaddress.ip_address(address.strip("[]")).packed
    forms = (end, end.replace("[", "").replace("]", ""), in_hex((packed, int(port))))
    return any(re.search(rf"(?<![\w.:]){re.escape(form)}(?!\w)", table) for form in forms)


def _address(end: str) -> str:
    return end.rpartition(":")[0].strip("[]")


def _names(view: CaseView, key: str) -> list[str]:
    names = view.notes[key]
    assert isinstance(names, list)
    return names


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
