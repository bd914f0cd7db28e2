"""One snapshot of a host's state goes in; each of its tables comes out when it is asked for, read once, None where it was not collected."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator

from tcpwhy.evidence.state import Host, State
from tcpwhy.tables.addresses import Addresses, read_address_table
from tcpwhy.tables.conntrack import Conntrack, read_conntrack
from tcpwhy.tables.counters import Counters, read_counters
from tcpwhy.tables.haproxy_sessions import HaproxySessions, read_haproxy_sessions
from tcpwhy.tables.ipset import IpSets, read_ipsets
from tcpwhy.tables.iptables import Iptables, read_iptables
from tcpwhy.tables.ipvs import Ipvs, read_ipvs
from tcpwhy.tables.links import Links, read_links
from tcpwhy.tables.neighbours import Neighbours, read_neighbours
from tcpwhy.tables.nft import Nft, read_nft
from tcpwhy.tables.programs import Programs, read_programs
from tcpwhy.tables.routes import Routes, read_routes
from tcpwhy.tables.rules import PolicyRules, read_policy_rules
from tcpwhy.tables.sockets import Sockets, read_sockets
from tcpwhy.tables.sysctls import Sysctls, read_sysctls
from tcpwhy.tables.unread import Unread, UnreadFile, UnreadPieces


class HostTables:
    """All that was collected of one host; asking for a table that was not collected gives None, which is not the same as an empty one."""

    def __init__(self, state: State, before: HostTables | None = None) -> None:
        """`before`: an earlier snapshot of the same host, which makes counters into differences."""
        self.state = state
        self.before = before

    @property
    def name(self) -> str:
        """The vantage point."""
        return self.state.vantage_point

    @property
    def about(self) -> Host:
        """host.json."""
        return self.state.host

    @functools.cached_property
    def iptables(self) -> tuple[Iptables, ...] | None:
        """All IPv4 rulesets, the legacy one too where both variants exist."""
        return read_iptables(self.state, 4)

    @functools.cached_property
    def ip6tables(self) -> tuple[Iptables, ...] | None:
        """All IPv6 rulesets."""
        return read_iptables(self.state, 6)

    @functools.cached_property
    def nft(self) -> Nft | None:
        """The nftables ruleset, without the tables that iptables-nft made where iptables-save was collected: those stand there."""
        return read_nft(self.state)

    @functools.cached_property
    def links(self) -> Links | None:
        """Interfaces."""
        return read_links(self.state)

    @functools.cached_property
    def addresses(self) -> Addresses | None:
        """Addresses of interfaces."""
        return read_address_table(self.state)

    @functools.cached_property
    def neighbours(self) -> Neighbours | None:
        """The neighbour table."""
        return read_neighbours(self.state)

    @functools.cached_property
    def routes(self) -> Routes | None:
        """IPv4 routes of all tables."""
        return read_routes(self.state, 4)

    @functools.cached_property
    def routes6(self) -> Routes | None:
        """IPv6 routes of all tables."""
        return read_routes(self.state, 6)

    @functools.cached_property
    def policy_rules(self) -> PolicyRules | None:
        """IPv4 rules."""
        return read_policy_rules(self.state, 4)

    @functools.cached_property
    def policy_rules6(self) -> PolicyRules | None:
        """IPv6 rules."""
        return read_policy_rules(self.state, 6)

    @functools.cached_property
    def sysctls(self) -> Sysctls | None:
        """Kernel settings."""
        return read_sysctls(self.state)

    @functools.cached_property
    def sockets(self) -> Sockets | None:
        """TCP sockets."""
        return read_sockets(self.state)

    @functools.cached_property
    def counters(self) -> Counters | None:
        """The counters of nstat."""
        return read_counters(self.state)

    @functools.cached_property
    def conntrack(self) -> Conntrack | None:
        """Tracked connections."""
        return read_conntrack(self.state)

    @functools.cached_property
    def ipvs(self) -> Ipvs | None:
        """Virtual services and their connections."""
        return read_ipvs(self.state)

    @functools.cached_property
    def haproxy_sessions(self) -> HaproxySessions | None:
        """Sessions of HAProxy, of all its processes."""
        return read_haproxy_sessions(self.state)

    @functools.cached_property
    def ipsets(self) -> IpSets | None:
        """Address sets of iptables."""
        return read_ipsets(self.state)

    @functools.cached_property
    def programs(self) -> Programs | None:
        """Attached eBPF programs."""
        return read_programs(self.state)

    def unread(self) -> list[Unread]:
        """What could not be understood, of all tables; reads them all."""
        return [piece for pieces in self._unread_pieces() for piece in pieces.pieces]

    def unread_files(self) -> list[UnreadFile]:
        """The same by file, in order of their names; a piece that two tables found in one file counts once."""
        by_file: dict[str, dict[Unread, None]] = {}
        beyond: dict[str, int] = {}
        for pieces in self._unread_pieces():
            for piece in pieces.pieces:
                by_file.setdefault(piece.source.file, {})[piece] = None
            kept = collections.Counter(piece.source.file for piece in pieces.pieces)
            for file, count in pieces.by_file.items():
                beyond[file] = max(beyond.get(file, 0), count - kept[file])
        return [
            UnreadFile(file, len(found) + beyond[file], min(found, key=lambda piece: piece.source.line or 0))
            for file, found in sorted(by_file.items())
        ]

    def _unread_pieces(self) -> Iterator[UnreadPieces]:
        rulesets = [*(self.iptables or ()), *(self.ip6tables or ())]
        tables = [self.nft, self.links, self.addresses, self.neighbours, self.routes, self.routes6, self.policy_rules, self.policy_rules6,
                  self.sysctls, self.counters, self.conntrack, self.ipvs, self.haproxy_sessions, self.ipsets, self.programs]  # fmt: skip
        for table in (*rulesets, *tables):
            if table is not None:
                yield table.unread
        yield self._unread_sockets()

    def _unread_sockets(self) -> UnreadPieces:
        pieces = UnreadPieces()
        if self.sockets is not None:
            for source in self.sockets.not_understood:
                pieces.add(source, "", "this is no socket")
            more = self.sockets.not_understood_count - pieces.count  # of the file that was read last: the first fill the list
            if more > 0:
                pieces.count += more
                pieces.by_file[self.sockets.not_understood[-1].file] += more
        return pieces
