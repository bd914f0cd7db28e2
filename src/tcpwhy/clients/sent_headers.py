"""A connection's HTTP headers and what is told of its peer go in; the clients that they name, each with how sure it is, come out.

Anyone can write these headers. They count where the user says how many proxies before the server can be trusted, or where the evidence
shows that the one who asked the server is a proxy, which appends or sets the address of who asked it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tcpwhy.clients.headers import CLIENT_HEADERS, beyond_proxies, can_be_client, chosen_hop, hops_of
from tcpwhy.clients.hosts import Hosts
from tcpwhy.clients.name import DOUBTED, LIKELY, Name
from tcpwhy.clients.story import End, HeaderLine, Node

APPENDED = ("x-forwarded-for", "forwarded")
"""Headers to which each proxy adds a hop."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Trust:
    """Whose word a header is."""

    why: str
    hops: int | None = None
    """Proxies that the user trusts; None where the evidence shows one."""
    asked: str = ""
    """The proxy whose own capture must show the named client asking it; empty where it need not."""


def header_names(node: Node, inner: Sequence[Name], hosts: Hosts, trusted_hops: int | None) -> list[Name]:
    """Names by headers; `inner`: what the layers below told of the peer."""
    told = [name for name in inner if name.grade > DOUBTED]
    base = told[0] if len(told) == 1 else None
    trust = None if len(told) > 1 else _trust(node, base, hosts, trusted_hops)
    lines = {name: [line for line in node.headers if line.name == name] for name in CLIENT_HEADERS}
    appended = [name for name in APPENDED if lines[name]]
    found: list[Name] = []
    for name in CLIENT_HEADERS:
        if not lines[name]:
            continue
        counts = trust is not None and _can_decide(name, appended, trust)
        found += _of_header(node, lines[name], base, hosts, trust if counts else None)
    return found


def _trust(node: Node, base: Name | None, hosts: Hosts, trusted_hops: int | None) -> _Trust | None:
    if trusted_hops is not None:
        return _Trust(f"{trusted_hops} trusted hops by --trusted-hops", trusted_hops) if trusted_hops > 0 else None
    peer = node.client[0] if base is None or not _is_proxy(base, hosts) else base.end[0]
    why = hosts.writes_headers(peer)
    if why is None:
        return None
    return _Trust(why, asked=peer)


def _is_proxy(base: Name, hosts: Hosts) -> bool:
    return hosts.is_http_proxy(base.end[0])


def _can_decide(name: str, appended: Sequence[str], trust: _Trust) -> bool:
    """With hops counted by the user only what has hops counts; a header of one value counts for one hop where there is no such."""
    if trust.hops is None:
        return True
    return name in APPENDED or (not appended and trust.hops == 1)


def _of_header(node: Node, lines: Sequence[HeaderLine], base: Name | None, hosts: Hosts, trust: _Trust | None) -> list[Name]:
    picked: dict[End | None, HeaderLine] = {}
    through_base = True
    for line in lines:
        hops = [] if line.is_cut else hops_of(line.name, line.value)
        for end in _picked(hops, hosts, trust):
            picked.setdefault(end, line)
        between = hops[-trust.hops + 1 :] if trust is not None and trust.hops is not None and trust.hops > 1 else []
        through_base = through_base and base is not None and any(hop is not None and hop[0] == base.end[0] for hop in between)
    doubts = _doubts(node, lines, picked, trust)
    names = []
    for end, line in picked.items():
        if end is None or not can_be_client(end[0]):
            continue
        own = [*doubts, *_doubts_of(end, hosts, trust)]
        because = f"{line.because}: {line.name}" + (f", {trust.why}" if trust is not None else "")
        name = Name(end, ("header",), ("; ".join([because, *own]),), DOUBTED if own else LIKELY)
        names += _beside(name, base, hosts, trust, through_base=through_base)
    return names


def _picked(hops: Sequence[End | None], hosts: Hosts, trust: _Trust | None) -> list[End | None]:
    """The hops of one value that name the client; the first and the last where nobody's word counts."""
    if trust is None:
        named = [hop for hop in hops if hop is not None]
        return list(dict.fromkeys([*named[:1], *named[-1:]]))
    if trust.hops is not None:
        return [chosen_hop(hops, trust.hops)]
    proxies = frozenset(ip for hop in hops if hop is not None for ip in [hop[0]] if hosts.is_http_proxy(ip))
    return [beyond_proxies(hops, proxies)]


def _doubts(node: Node, lines: Sequence[HeaderLine], picked: dict[End | None, HeaderLine], trust: _Trust | None) -> list[str]:
    """What speaks against all names of one header."""
    if trust is None:
        return ["whoever sent the request may have written it"]
    doubts = []
    if len(picked) > 1:
        named = len([end for end in picked if end is not None])
        doubts.append(
            f"requests of {named} clients came over this connection" if None not in picked else "another request of it names nobody"
        )
    if node.heads_lost:
        doubts.append("heads of other requests were lost, which may name others")
    carried = sum(line.count for line in lines)
    if carried < node.requests:
        doubts.append(f"only {carried} of {node.requests} requests carry it")
    return doubts


def _doubts_of(end: End, hosts: Hosts, trust: _Trust | None) -> list[str]:
    if trust is None:
        return []
    doubts = []
    if hosts.is_front(end[0]):
        doubts.append(f"{end[0]} is an address of a known balancer or proxy")
    if trust.asked and not hosts.was_called_by(trust.asked, end[0]):
        doubts.append(f"the proxy's own capture shows no connection from {end[0]}")
    return doubts


def _beside(name: Name, base: Name | None, hosts: Hosts, trust: _Trust | None, *, through_base: bool) -> list[Name]:
    """The header's name beside what the layers below tell of the peer: behind it, the same as it, or against it."""
    if base is None:
        return [name]
    if name.end[0] == base.end[0]:
        return [name] if name.grade > DOUBTED else []
    if name.grade > DOUBTED and trust is not None and (through_base or _is_proxy(base, hosts)):
        return [base.then(name)]
    if trust is not None and trust.hops is not None:
        return [name]
    because = (*name.because, f"the connection came from {base.end[0]}, which nothing shows to be a proxy")
    return [dataclasses.replace(name, grade=DOUBTED, because=because)]
