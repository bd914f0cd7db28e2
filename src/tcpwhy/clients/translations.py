"""The tables and logs of a case's hosts go in; each connection that one of them rewrote or handed on comes out, before and behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tcpwhy.clients.forwarding import HANDING_ON, REWRITING, Forwarding
from tcpwhy.clients.logged import logged_translations
from tcpwhy.clients.row import Basis, Ends, Translation
from tcpwhy.evidence.source import Source
from tcpwhy.tables.conntrack import Conntrack
from tcpwhy.tables.director import BalancedConnection, Ipvs
from tcpwhy.tables.haproxy_sessions import End, HaproxySessions, Session
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.sockets import Socket, Sockets

if TYPE_CHECKING:
    from tcpwhy.case import Case

CLOSING_TRACKED = frozenset({"FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE"})
"""States of conntrack in which a FIN or a RST has been seen (net/netfilter/nf_conntrack_proto_tcp.c)."""

CLOSING_BALANCED = frozenset({"FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE"})
"""The same of IPVS and DPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c tcp_state_name_table, iqiyi/dpvs src/ipvs/ip_vs_proto_tcp.c)."""

SURELY_BOTH_S = 90
"""Seconds that `show sess` must show a session to be older than before its file descriptors are looked up in the socket table: the two
were read up to so long after one another (record/collect.sh ALL_S), and a descriptor is given to the next connection at once."""


def translations(case: Case) -> Iterator[Translation]:
    """Everything that the case's tables and logs say of TCP connections before and behind a host, one by one.

    From IPVS and DPVS, HAProxy, connection tracking where it translates, and logs; of both snapshots of a host. Where a director
    keeps the client's address, `behind` and `before` have the same client, and with direct routing and tunnels they are equal: such an
    entry is a witness that the client is what it seems. Duplicates and contradictions are all given. Templates of persistence, UDP
    and other protocols are left out. Lines that no reader understands are in the tables' `unread`.
    """
    for name, tables in case.hosts().items():
        for snapshot in (tables, tables.before):
            if snapshot is not None:
                yield from host_translations(name, snapshot)
    yield from logged_translations(case.evidence)


def host_translations(vantage_point: str, tables: HostTables) -> Iterator[Translation]:
    """The same of one snapshot of one host."""
    seen = _Snapshot(vantage_point, tables.about.time_ns)
    if tables.ipvs is not None:
        yield from seen.balanced(tables.ipvs)
    if tables.haproxy_sessions is not None:
        yield from seen.proxied(tables.haproxy_sessions, tables)
    if tables.conntrack is not None:
        yield from seen.tracked(tables.conntrack)


class _Snapshot:
    """Whose tables are read, and when they were taken."""

    def __init__(self, vantage_point: str, taken_ns: int | None) -> None:
        self._vantage_point = vantage_point
        self._taken_ns = taken_ns

    def _one(
        self, before: tuple[End, End], behind: tuple[End, End], basis: Basis, source: Source, *, is_open: bool, may_be_shared: bool = False
    ) -> Iterator[Translation]:
        """The translation, where all four ports are those of a connection."""
        if all(port for _, port in (*before, *behind)):
            yield Translation(
                behind=Ends(*behind[0], *behind[1]),
                before=Ends(*before[0], *before[1]),
                basis=basis,
                source=source,
                vantage_point=self._vantage_point,
                taken_ns=self._taken_ns,
                is_open=is_open,
                may_be_shared=may_be_shared,
            )

    def balanced(self, ipvs: Ipvs) -> Iterator[Translation]:
        """Entries of the director's table: full NAT has an address of its own, the other methods keep the client's."""
        forwarding = Forwarding(ipvs.services)
        for entry in ipvs.connections or ():
            if entry.protocol != "tcp" or entry.is_template:
                continue
            client, virtual = (entry.client_ip, entry.client_port), (entry.virtual_ip, entry.virtual_port)
            for behind in self._behind(entry, forwarding, client, virtual):
                is_open = entry.state not in CLOSING_BALANCED
                yield from self._one((client, virtual), behind, "lb-table", entry.source, is_open=is_open)

    @staticmethod
    def _behind(entry: BalancedConnection, forwarding: Forwarding, client: End, virtual: End) -> Iterator[tuple[End, End]]:
        if entry.local_ip:
            port = forwarding.real_port(entry)
            if port is not None:
                yield (entry.local_ip, entry.local_port or 0), (entry.real_ip, port)
            return
        methods = forwarding.methods(entry)
        if methods & REWRITING:
            yield client, (entry.real_ip, entry.real_port)
        if methods & HANDING_ON:
            yield client, virtual

    def proxied(self, table: HaproxySessions, tables: HostTables) -> Iterator[Translation]:
        """Sessions of HAProxy; those of the short form with the help of the socket table, which knows the descriptors' addresses."""
        descriptors: _Descriptors | None = None
        for session in table.sessions:
            if session.client is None:
                continue
            ends: tuple[End, End, End] | None = None
            if session.local_end is not None and session.server_end is not None and session.frontend_end is not None:
                ends = session.frontend_end, session.local_end, session.server_end
            elif not session.frontend_end and session.server_fd is not None and tables.sockets is not None:
                descriptors = descriptors or _Descriptors(tables.sockets)
                ends = descriptors.ends_of(session)
            if ends is not None:
                before, shared = (session.client, ends[0]), session.may_share_server
                yield from self._one(before, ends[1:], "lb-table", session.source, is_open=session.is_open, may_be_shared=shared)

    def tracked(self, table: Conntrack) -> Iterator[Translation]:
        """Entries of connection tracking whose two directions differ: behind is the reply turned round."""
        for entry in table.entries:
            if entry.protocol != "tcp" or not (entry.is_source_translated or entry.is_destination_translated):
                continue
            original, reply = entry.original, entry.reply
            before = (original.source_ip, original.source_port or 0), (original.destination_ip, original.destination_port or 0)
            behind = (reply.destination_ip, reply.destination_port or 0), (reply.source_ip, reply.source_port or 0)
            yield from self._one(before, behind, "conntrack", entry.source, is_open=entry.state not in CLOSING_TRACKED)


class _Descriptors:
    """A host's sockets by the processes that hold them."""

    def __init__(self, sockets: Sockets) -> None:
        self._by_descriptor: dict[tuple[int, int], Socket] = {}
        self._by_remote: dict[End, list[tuple[int, int]]] = {}
        for socket in _connected(sockets.sockets):
            for process in socket.processes:
                self._by_descriptor[process.pid, process.fd] = socket
                self._by_remote.setdefault((socket.remote_ip or "", socket.remote_port or 0), []).append((process.pid, process.fd))

    def ends_of(self, session: Session) -> tuple[End, End, End] | None:
        """Frontend's end, own end and server's end of a session, by the process whose descriptor leads to the session's client.

        None where no process or several have such descriptors, and where the session is too young for it to be the same descriptor.
        """
        if session.client is None or session.age_s is None or session.age_s <= SURELY_BOTH_S:
            return None
        found = set()
        for pid, fd in self._by_remote.get(session.client, ()):
            server = self._by_descriptor.get((pid, session.server_fd if session.server_fd is not None else -1))
            front = self._by_descriptor[pid, fd]
            if fd == session.client_fd and server is not None and server is not front and front.local_ip and server.local_ip:
                server_end = (server.remote_ip or "", server.remote_port or 0)
                found.add(((front.local_ip, front.local_port), (server.local_ip, server.local_port), server_end))
        return found.pop() if len(found) == 1 else None


def _connected(sockets: Iterable[Socket]) -> Iterator[Socket]:
    return (socket for socket in sockets if socket.state == "ESTABLISHED" and socket.remote_port)
