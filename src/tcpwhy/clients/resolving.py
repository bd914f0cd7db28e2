"""One connection and those that may lie before it go in; who its real client is, or who it may be, comes out.

Witnesses are asked by layers: what balancers and NAT hosts did to the packets (options, tables, captures of both sides), then a PROXY
header, then HTTP headers. Each layer speaks of the peer of the one below, so that a name of an outer layer replaces one of an inner
layer only where the inner one is shown to be a proxy; otherwise the two contradict each other and neither is the answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tcpwhy.clients.headers import can_be_client
from tcpwhy.clients.hosts import Hosts
from tcpwhy.clients.lookup import DOUBTFUL, GOOD, UNDATED, TranslationTable, server_before
from tcpwhy.clients.name import DOUBTED, LIKELY, LOWERED, PROVEN, TABLES, Name, merged
from tcpwhy.clients.row import Basis, Candidate, Confidence, Translation
from tcpwhy.clients.sent_headers import header_names
from tcpwhy.clients.story import Before, Claim, End, Node, shown_end

STEPS = 8
"""Hosts behind each other that are followed outwards."""

MOST_VISITS = 200
"""Connections and entries of tables looked at for one answer: options can be written so that they name each other in circles."""

EXIDS = frozenset((0x00AC, 0x0348, 0x0A0D, 0x0CA0, 0x0ED0, 0x454E, 0x5323, 0x75EC, 0xACC0, 0xACC1, 0xACCE, 0xE2D4, 0xF989, 0xF990))
"""Ports of clients that are registered experiment identifiers too (IANA, TCP ExIDs; RFC 6994), as rust/src/decode/exid.rs has them."""

TOO_MANY = "what its options, headers and tables name leads through too many connections to be followed"

ENCRYPTED = "nothing but headers could name the client, and the connection is TLS"

LOCAL = "the proxy's own connection by its PROXY header, as health checks are"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Whose a connection is."""

    real_client: str | None
    basis: tuple[Basis, ...] = ()
    confidence: Confidence | None = None
    because: tuple[str, ...] = ()
    """What it rests on, outwards from the server; why there is no answer where there is none."""
    candidates: tuple[Candidate, ...] = ()


class Resolver:
    """Decides connection by connection; holds what is known of the whole case."""

    def __init__(self, hosts: Hosts, translations: TranslationTable, trusted_hops: int | None = None) -> None:
        """trusted_hops: so many proxies before the server, by the user's word, each appended its peer to X-Forwarded-For or Forwarded."""
        self._hosts = hosts
        self._table = translations
        self._trusted_hops = trusted_hops
        self._visits = 0

    def resolve(self, root: Node, nodes: Mapping[int, Node]) -> Answer:
        """The answer for `root`; `nodes`: the connections that `before` of it, and of those again, name."""
        self._visits = 0
        names = self._names(root, nodes, frozenset({root.connection}), with_headers=True)
        if self._visits > MOST_VISITS:
            return Answer(None, because=(TOO_MANY,))
        if not names and any(claim.what == "local" for claim in root.claims):
            return Answer(None, because=(LOCAL,))
        if not names and root.is_tls:
            return Answer(None, because=(ENCRYPTED,))
        return decide(names)

    def _names(self, node: Node, nodes: Mapping[int, Node], seen: frozenset[int], *, with_headers: bool) -> list[Name]:
        self._visits += 1
        if len(seen) > STEPS or self._visits > MOST_VISITS:
            return []
        inner = merged(self._layer_below(node, nodes, seen))
        preambles = [self._of_claim(node, claim) for claim in node.claims if claim.basis == "proxy" and claim.what == "client"]
        if preambles:
            preambles = [end for name in preambles for end in self._outwards(name, None, node, nodes, seen)]
            inner = merged([*inner, *self._above(preambles, inner)])
        if with_headers and node.headers and not any(claim.what == "local" for claim in node.claims):
            inner = merged([*inner, *header_names(node, inner, self._hosts, self._trusted_hops)])
        return [self._not_a_given_address(name) for name in inner]

    def _layer_below(self, node: Node, nodes: Mapping[int, Node], seen: frozenset[int]) -> list[Name]:
        """Names by what was done to the packets."""
        start: list[tuple[Name, End | None]] = [
            (self._of_claim(node, claim), None) for claim in node.claims if claim.basis == "toa" and claim.what == "client"
        ]
        found: list[Name] = []
        for client, server in node.tuples if self._table else ():
            for translation, fits in self._table.find(client, server, node.life):
                own = translation.before
                grade = _grade(translation, fits, node)
                name = Name((own.client_ip, own.client_port), (translation.basis,), (_told(translation),), grade).passing(client)
                start.append((name, server_before(translation)))
            for translation, fits in self._table.find_unchanged(client, server, node.life):
                because = f"the balancer's table ({translation.source}) has the client with this address"
                start.append((Name(client, (translation.basis,), (because,), _grade(translation, fits, node)), server_before(translation)))
        if node.outer != node.client:
            because = f"{node.outer_place} saw it with this address: the same connection by its numbers ({node.join_basis})"
            start.append((Name(node.outer, ("lb-capture",), (because,), PROVEN).passing(*node.client_ends - {node.outer}), None))
        for before in node.before:
            child = nodes.get(before.connection)
            if before.kind == "bytes" and child is not None and child.connection not in seen:
                found += self._through(before, child, nodes, seen)
        sent_itself = self._hosts.sent_itself(node)
        if sent_itself is not False:
            because = f"{node.outer_place} has this address, and its capture shows the packets leaving it"
            if sent_itself is None:
                because += "; but the host serves others or sends headers of proxies, and may pass on what they ask"
            grade = LIKELY if sent_itself else DOUBTED
            found.append(Name(node.outer, ("capture",), (because,), grade, is_end=True).passing(*node.client_ends - {node.outer}))
        for name, towards in start:
            found += self._outwards(name, towards, node, nodes, seen)
        return found

    def _through(self, before: Before, child: Node, nodes: Mapping[int, Node], seen: frozenset[int]) -> list[Name]:
        """Names by the balancer's other side, which carries the same bytes."""
        grade = PROVEN if before.sure else DOUBTED
        step = Name(child.outer, ("lb-capture",), (before.because,), grade).passing(*child.client_ends - {child.outer})
        beyond = self._names(child, nodes, seen | {child.connection}, with_headers=False)
        names = [step.with_witness(name) if name.end == step.end else step.then(name) for name in beyond]
        if not any(name.grade > DOUBTED for name in names) and not any(claim.what == "local" for claim in child.claims):
            names += self._outwards(step, child.server, child, nodes, seen | {child.connection})
        return names

    def _outwards(self, name: Name, server: End | None, node: Node, nodes: Mapping[int, Node], seen: frozenset[int]) -> list[Name]:
        """The name followed through captures and tables of the hosts before it; itself where nothing leads further."""
        found: list[Name] = []
        for before in node.before:
            child = nodes.get(before.connection)
            if before.kind != "address" or child is None or child.connection in seen or name.end not in child.client_ends:
                continue
            if node.life.meets(child.life, one_handshake="toa" in name.bases):
                beyond = self._names(child, nodes, seen | {child.connection}, with_headers=False)
                found += [name.then(dataclasses.replace(one, grade=min(one.grade, LIKELY))) for one in beyond]
        found += self._through_tables(name, server, node, frozenset({name.end}))
        return found if any(one.grade > DOUBTED for one in found) else [name, *found]

    def _through_tables(self, name: Name, server: End | None, node: Node, visited: frozenset[End]) -> list[Name]:
        found: list[Name] = []
        life = dataclasses.replace(node.life, followed_ns=name.followed_ns)  # the connection's own ports are not those of this step
        self._visits += 1
        if len(visited) > STEPS or self._visits > MOST_VISITS:
            return found
        for translation, fits in self._table.find(name.end, server, life):
            before = translation.before
            end: End = (before.client_ip, before.client_port)
            if end in visited:
                continue
            step = name.then(Name(end, (translation.basis,), (_told(translation),), _grade(translation, fits, node)))
            beyond = self._through_tables(step, server_before(translation), node, visited | {end})
            found += beyond if any(one.grade > DOUBTED for one in beyond) else [step, *beyond]
        return found

    def _of_claim(self, node: Node, claim: Claim) -> Name:
        because, grade = claim.because, LIKELY
        if claim.ambiguous:
            because += "; its bytes may mean something else"
            beside_others = (node.client[0], claim.layout) in self._hosts.trusted_layouts
            may_be_port = claim.basis == "toa" and claim.end[1] in EXIDS and can_be_client(claim.end[0])
            grade = LOWERED if beside_others and may_be_port else DOUBTED
        if claim.basis == "toa" and claim.end in self._hosts.repeated:
            because += "; it stands in other connections to the same server at the same time too, and a client's port has one only"
            grade = DOUBTED
        if claim.basis == "toa" and node.client[0] in self._table.natting:
            because += f"; {node.client[0]} is an address of a NAT host, which writes no options: the client may have written it"
            grade = DOUBTED
        if self._hosts.is_stranger_beside_fronts(node):
            because += f"; {node.client[0]} is none of the known balancers before this server, and may have written it itself"
            grade = DOUBTED
        return Name(claim.end, (claim.basis,), (because,), grade, followed_ns=claim.followed_ns).passing(node.client)

    def _above(self, outer: Iterable[Name], inner: Sequence[Name]) -> list[Name]:
        """Names of a layer above: where the layer below ends at a known proxy, they continue it."""
        told = [name for name in inner if name.grade > DOUBTED]
        if len(told) == 1 and self._hosts.is_front(told[0].end[0]):
            return [told[0].then(name) for name in outer]
        return list(outer)

    def _not_a_given_address(self, name: Name) -> Name:
        """Doubts a name that is an address of a proxy, a balancer or a NAT host: others are behind it."""
        if name.is_end or name.grade == DOUBTED:
            return name
        ip = name.end[0]
        if self._hosts.is_front(ip):
            because = f"{ip} is an address of a known balancer or proxy, which passes on what others ask"
            return dataclasses.replace(name, grade=DOUBTED, because=(*name.because, because))
        if ip in self._hosts.relays:
            because = f"{ip} passes on what others ask: its other connections name their clients, or are a balancer's other side"
            return dataclasses.replace(name, grade=DOUBTED, because=(*name.because, because))
        giver = self._table.given.get(ip)
        if giver is None:
            return name
        because = f"{ip} is an address of the NAT host {giver}, which gives it to others; its table does not hold the connection"
        return dataclasses.replace(name, grade=DOUBTED, because=(*name.because, because))


def decide(names: Sequence[Name]) -> Answer:
    """One name that is told makes the answer; several, or doubted ones alone, are candidates."""
    told = [name for name in names if name.grade > DOUBTED]
    doubted = [name for name in names if name.grade == DOUBTED]
    joined = [name for name in told if name.bases[0] == "lb-capture"]
    if joined and len(joined) < len(told) and all(name.bases[0] in TABLES for name in told if name not in joined):
        # Packets seen on both sides prove it; a table speaks for the moment at which it was read, and clocks may be wrong.
        doubted += [dataclasses.replace(name, grade=DOUBTED) for name in told if name not in joined]
        told = joined
    if not told and len(doubted) == 1 and doubted[0].witnesses & TABLES and doubted[0].witnesses - TABLES - {"capture"}:
        # A doubtful entry of a table and what the connection itself carries would hardly agree by chance.
        told, doubted = [dataclasses.replace(doubted[0], grade=LIKELY, witnesses=frozenset())], []
    candidates = tuple(sorted((_candidate(name, len(told)) for name in (*told, *doubted)), key=_rank)) if len(told) != 1 else ()
    if len(told) == 1:
        name = told[0]
        others = tuple(sorted((_candidate(other, 2) for other in doubted), key=_rank))
        return Answer(shown_end(name.end), name.bases, _confidence(name), name.because, others)
    if told:
        return Answer(None, because=(f"{len(told)} witnesses name different clients",), candidates=candidates)
    return Answer(None, because=("nothing that can be relied on names the client",) if candidates else (), candidates=candidates)


def _confidence(name: Name) -> Confidence:
    if name.grade >= PROVEN or (name.grade >= LIKELY and len(name.witnesses) > 1):
        return "confirmed"
    return "likely" if name.grade >= LIKELY else "possible"


def _candidate(name: Name, rivals: int) -> Candidate:
    confidence: Confidence = "possible" if rivals > 1 or name.grade < LIKELY else _confidence(name)
    return Candidate(shown_end(name.end), name.bases, confidence, "; then ".join(name.because))


def _rank(candidate: Candidate) -> tuple[int, str, tuple[str, ...]]:
    return ("confirmed", "likely", "possible").index(candidate.confidence), candidate.real_client, candidate.basis


def _grade(translation: Translation, fits: int, node: Node) -> int:
    """A connection that a proxy may use for several clients is this one's only where one request alone was seen from its begin on."""
    if translation.may_be_shared and (node.life.opened_ns is None or node.requests != 1 or node.heads_lost):
        return DOUBTED
    return _GRADES[fits]


_GRADES = {GOOD: LIKELY, UNDATED: LOWERED, DOUBTFUL: DOUBTED}


_TABLE_NAMES: Mapping[Basis, str] = {"lb-table": "the balancer's table", "conntrack": "connection tracking", "log": "a log line"}


def _told(translation: Translation) -> str:
    what = _TABLE_NAMES.get(translation.basis, translation.basis)
    behind, before = translation.behind, translation.before
    given, own = (behind.client_ip, behind.client_port), (before.client_ip, before.client_port)
    undated = ", read at a time that is not known" if translation.taken_ns is None else ""
    return f"{what} ({translation.source}{undated}): {shown_end(own)} became {shown_end(given)}"
