"""A few words about one connection go in; the structs that the resolver takes come out."""

from __future__ import annotations

from collections.abc import Sequence

from tcpwhy.clients.hosts import Hosts
from tcpwhy.clients.lookup import TranslationTable
from tcpwhy.clients.resolving import Answer, Resolver
from tcpwhy.clients.row import Basis, Ends, Translation
from tcpwhy.clients.story import Before, Claim, End, HeaderLine, Life, Node
from tcpwhy.evidence.source import Source

S = 1_000_000_000
T0 = 1_790_000_000 * S
"""When the connections of the stories are opened."""

LB, RS = "10.9.0.1", "10.9.0.11"


def end(text: str) -> End:
    """`1.2.3.4:80`, `[2001:db8::1]:80`, or an address alone."""
    if text.startswith("["):
        ip, _, port = text[1:].partition("]:")
        return ip, int(port)
    ip, _, port = text.partition(":")
    return (text, None) if ":" in port else (ip, int(port) if port else None)


def life(opened_s: float | None = 0, closed_s: float | None = 10, *, first_s: float = 0, last_s: float = 10) -> Life:
    """Seconds since T0; None: the SYN, or the end, was not seen."""
    return Life(
        first_ns=T0 + round((first_s if opened_s is None else opened_s) * S),
        last_ns=T0 + round((last_s if closed_s is None else closed_s) * S),
        opened_ns=None if opened_s is None else T0 + round(opened_s * S),
        closed_ns=None if closed_s is None else T0 + round(closed_s * S),
    )


def node(
    client: str = f"{LB}:1025",
    server: str = f"{RS}:80",
    *,
    number: int = 1,
    outer: str | None = None,
    outer_place: str = "rs1",
    outer_ttl: int = 63,
    alive: Life | None = None,
    claims: Sequence[Claim] = (),
    headers: Sequence[tuple[str, str]] = (),
    requests: int = 1,
    before: Sequence[Before] = (),
) -> Node:
    """One connection, seen at rs1 where `outer` is not given."""
    tuples = [(end(client), end(server))]
    if outer is not None and outer != client:
        tuples.append((end(outer), end(server)))
    return Node(
        connection=number,
        client=end(client),
        server=end(server),
        outer=end(outer or client),
        outer_place=outer_place,
        outer_ttl=outer_ttl,
        life=alive or life(),
        tuples=tuple(tuples),
        join_basis="both ISNs" if outer else "",
        requests=requests,
        claims=list(claims),
        headers=[HeaderLine(name, value, 1, f"rs1.pcap #{number}") for number, (name, value) in enumerate(headers, 4)],
        before=list(before),
    )


def toa(client: str, *, ambiguous: bool = False, layout: str = "254/8") -> Claim:
    """A TCP option."""
    return Claim("toa", "client", end(client), ambiguous, f"TCP option {layout} in rs1.pcap #3", layout)


def proxy(client: str) -> Claim:
    """A PROXY header."""
    return Claim("proxy", "client", end(client), False, "PROXY header (proxy-v1) in rs1.pcap #4", "proxy-v1")


LOCAL = Claim("proxy", "local", ("", None), False, "PROXY header (proxy-v2) in rs1.pcap #4", "proxy-v2")


def entry(
    before: str,
    behind: str = f"{LB}:1025",
    *,
    before_server: str = "203.0.113.80:80",
    behind_server: str = f"{RS}:80",
    basis: Basis = "lb-table",
    taken_s: float | None = 5,
    is_open: bool = True,
    may_be_shared: bool = False,
    place: str = "lb1",
) -> Translation:
    """An entry of a table that was read so many seconds after T0."""
    (bip, bport), (aip, aport) = end(behind), end(before)
    (sip, sport), (vip, vport) = end(behind_server), end(before_server)
    assert bport is not None
    assert aport is not None
    assert sport is not None
    assert vport is not None
    return Translation(
        behind=Ends(bip, bport, sip, sport),
        before=Ends(aip, aport, vip, vport),
        basis=basis,
        source=Source(place, f"{place}/state/table.txt", line=2),
        vantage_point=place,
        taken_ns=None if taken_s is None else T0 + round(taken_s * S),
        is_open=is_open,
        may_be_shared=may_be_shared,
    )


def resolve(
    root: Node,
    *others: Node,
    entries: Sequence[Translation] = (),
    hosts: Hosts | None = None,
    trusted_hops: int | None = None,
) -> Answer:
    """The answer for `root`."""
    table = TranslationTable(entries, lambda _place, time_ns: time_ns)
    nodes = {one.connection: one for one in (root, *others)}
    return Resolver(hosts or Hosts(balancing=frozenset(table.balancing)), table, trusted_hops).resolve(root, nodes)


def names(answer: Answer) -> set[str]:
    """Its candidates."""
    return {candidate.real_client for candidate in answer.candidates}
