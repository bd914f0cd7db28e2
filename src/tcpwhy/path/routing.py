"""A destination goes in; which route of which table the kernel takes for it comes out, or the several that the evidence leaves open."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from collections.abc import Sequence

from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.trace import Doubt
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.routes import NextHop, Route
from tcpwhy.tables.rules import PolicyRule

LOOPBACK = "lo"
DEFAULT_TABLES = ("local", "main", "default")
"""What the three rules look up that every host has (net/ipv4/fib_rules.c fib_default_rules_init)."""

ERRORS = frozenset({"blackhole", "unreachable", "prohibit"})
MOST_ANSWERS = 8
DEEPEST = 64
"""Rules that cannot be told, one after the other, that are followed both ways."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a lookup looks at (struct flowi4)."""

    destination: Address
    source: Address | None = None
    in_interface: str = ""
    """`lo` for what the host sends itself."""
    out_interface: str = ""
    """Only routes by this interface; empty: any."""
    mark: int = 0
    dscp: int = 0
    protocol: str = ""
    source_port: int | None = None
    destination_port: int | None = None
    uid: int | None = None
    is_uid_known: bool = True
    """False for a packet of an own socket whose owner is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One result of a lookup."""

    type: str
    """unicast, local, broadcast, multicast, anycast, blackhole, unreachable, prohibit; `none` without any route; `unknown`."""
    route: Route | None
    rule: PolicyRule | None
    doubts: tuple[Doubt, ...] = ()

    @property
    def next_hops(self) -> tuple[NextHop, ...]:
        """The ways of the route that are not dead."""
        if self.route is None:
            return ()
        return tuple(hop for hop in self.route.next_hops if "dead" not in hop.flags)

    def uses(self, interface: str) -> bool:
        """Whether any way of the route goes by an interface (net/ipv4/fib_frontend.c fib_info_nh_uses_dev)."""
        return self.route is not None and any(hop.interface == interface for hop in self.route.next_hops)


class Routing:
    """The routing of one host and family."""

    def __init__(self, host: HostTables, version: int) -> None:
        """Reads what was collected; a table that was not leaves answers open."""
        self.host = host
        self.version = version
        self.routes = host.routes if version == 4 else host.routes6
        self.rules = host.policy_rules if version == 4 else host.policy_rules6

    @functools.cached_property
    def own(self) -> frozenset[Address]:
        """Addresses of the host's interfaces; empty where they were not collected."""
        if self.host.addresses is None:
            return frozenset()
        return frozenset(
            address
            for entry in self.host.addresses.entries
            for address in [ipaddress.ip_address(entry.ip.partition("%")[0])]
            if address.version == self.version
        )

    @functools.cached_property
    def _by_table(self) -> dict[str, list[Route]]:
        """Routes of each table, the longest prefix first, then by TOS and metric (net/ipv4/fib_trie.c fib_find_alias)."""
        tables: dict[str, list[Route]] = {}
        for route in self.routes.routes if self.routes is not None else ():
            tables.setdefault(route.table, []).append(route)
        for routes in tables.values():
            # sort() is stable: equal routes keep the kernel's own order.
            routes.sort(key=lambda route: (-route.destination.prefixlen, -route.tos, route.metric))
        return tables

    @property
    def has_custom_rules(self) -> bool:
        """Rules beside the three that every host has (fib4_has_custom_rules)."""
        if self.rules is None:
            return False
        return [(rule.table, _selects(rule)) for rule in self.rules.rules] != [(table, False) for table in DEFAULT_TABLES]

    @property
    def has_custom_local_routes(self) -> bool:
        """Local routes that no address of an interface made (net->ipv4.fib_has_custom_local_routes)."""
        return any(
            route.type == "local"
            and " proto kernel" not in f" {route.text}"
            and not route.destination.network_address.is_loopback
            and (route.table != "local" or (bool(self.own) and route.destination.network_address not in self.own))
            for route in (self.routes.routes if self.routes is not None else ())
        )

    def lookup(self, query: Query) -> list[Answer]:
        """The kernel's answer (fib_lookup, net/core/fib_rules.c fib_rules_lookup), or all that the evidence leaves open."""
        if self.routes is None:
            return [self._without_routes(query)]
        found: list[Answer] = []
        self._follow(self._rule_list(), 0, query, (), found, 0)
        if len(found) > MOST_ANSWERS:
            # What lies beyond may be anything: nothing of it may be lost in silence.
            doubt = Doubt(None, "ip rule", f"more than {MOST_ANSWERS} answers are possible", "the rest is not followed")
            return [*found[: MOST_ANSWERS - 1], Answer("unknown", None, None, (doubt,))]
        return found or [self._nothing(())]

    def type_of(self, address: Address, interface: str = "") -> str | None:
        """LOCAL, UNICAST, BROADCAST, MULTICAST, … of an address (net/ipv4/devinet.c inet_dev_addr_type); None where it is not known."""
        if address.is_multicast:
            return "MULTICAST"
        if self.version == 4 and int(address) in (0, 0xFFFFFFFF):  # of 0/8 only the first since Linux 5.3 (ipv4_is_zeronet)
            return "BROADCAST"
        if self.routes is None or "local" not in self._by_table:
            if self.host.addresses is None:
                return "LOCAL" if address.is_loopback else None
            return "LOCAL" if address in self.own or address.is_loopback else "UNICAST"
        for route in self._by_table.get("local", ()):
            if address in route.destination:
                hops = {hop.interface for hop in route.next_hops}
                return route.type.upper() if not interface or interface in hops else "UNICAST"
        return "UNICAST"

    def is_local(self, address: Address) -> bool | None:
        """Whether the host takes packets for this address as its own; None where it is not known."""
        kind = self.type_of(address)
        return None if kind is None else kind == "LOCAL"

    def _without_routes(self, query: Query) -> Answer:
        if self.is_local(query.destination):
            return Answer("local", None, None)
        name = "ip-route.json" if self.version == 4 else "ip6-route.json"
        doubt = Doubt(None, name, "the routes were not collected", f"a route to {query.destination} exists")
        return Answer("unknown", None, None, (doubt,))

    def _without_local_table(self, query: Query, rule: PolicyRule | None) -> Answer | None:
        if query.destination in self.own or query.destination.is_loopback:
            return Answer("local", None, rule)
        if self.host.addresses is not None:
            return None
        doubt = Doubt(None, "ip-addr.json", "neither the table local nor the addresses were collected", "it is an own address or not")
        return Answer("unknown", None, rule, (doubt,))

    def _rule_list(self) -> Sequence[PolicyRule | str]:
        return DEFAULT_TABLES if self.rules is None else self.rules.rules

    def _follow(
        self, rules: Sequence[PolicyRule | str], at: int, query: Query, doubts: tuple[Doubt, ...], found: list[Answer], depth: int
    ) -> None:
        """Goes through the rules from number `at`; both ways where a rule cannot be told."""
        while at < len(rules):
            if len(found) > MOST_ANSWERS:
                return
            if depth > DEEPEST:
                doubt = Doubt(None, "ip rule", f"more than {DEEPEST} rules one after the other cannot be told", "the rest is not followed")
                found.append(Answer("unknown", None, None, (*doubts, doubt)))
                return
            rule = rules[at]
            at += 1
            if isinstance(rule, str):
                answer = self._in_table(rule, query, None)
                if answer is not None:
                    found.append(dataclasses.replace(answer, doubts=(*doubts, *answer.doubts)))
                    return
                continue
            matches = rule_matches(rule, query)
            if matches is False:
                continue
            if matches is None:
                because = rule.unread or "what it looks at is not known of this packet"
                other = Doubt(rule.source, rule.text, because, "does not match")
                self._follow(rules, at, query, (*doubts, other), found, depth + 1)
                doubts = (*doubts, dataclasses.replace(other, assumed="matches"))
            if rule.action == "goto":
                target = next((number for number, one in enumerate(rules)
                               if not isinstance(one, str) and one.priority == rule.goto), None)  # fmt: skip
                # The kernel allows a jump forward only (fib_rules.c fib_nl2rule); one without target is passed over.
                at = target if target is not None and target >= at else at
                continue
            if rule.action == "nop":
                continue
            if rule.action in ERRORS:
                found.append(Answer(rule.action, None, rule, doubts))
                return
            answer = self._in_table(self._table_of(rule, query), query, rule)
            if answer is not None:
                found.append(dataclasses.replace(answer, doubts=(*doubts, *answer.doubts)))
                return
        found.append(self._nothing(doubts))

    def _nothing(self, doubts: tuple[Doubt, ...]) -> Answer:
        """No route; where lines were not understood, one of them may be it."""
        for table, name in ((self.routes, "routes"), (self.rules, "rules")):
            if table is not None and table.unread.count:
                piece = table.unread.pieces[0]
                doubt = Doubt(piece.source, piece.text, f"{table.unread.count} of the {name} could not be understood", "none of them is it")
                return Answer("unknown", None, None, (*doubts, doubt))
        return Answer("none", None, None, doubts)

    def _table_of(self, rule: PolicyRule, query: Query) -> str:
        if not rule.is_l3mdev:
            return rule.table
        for interface in (query.out_interface, query.in_interface):
            table = vrf_table(self.host, interface)
            if table:
                return table
        return ""

    def _in_table(self, table: str, query: Query, rule: PolicyRule | None) -> Answer | None:
        """The longest prefix of a table that holds the destination; None where the next rule counts."""
        if table == "local" and table not in self._by_table:
            # `ip route` without `table all` leaves it out; what the interfaces have stands in for it.
            return self._without_local_table(query, rule)
        for route in self._by_table.get(table, ()):
            if query.destination not in route.destination or (route.tos and route.tos >> 2 != query.dscp):
                continue
            if route.next_hops and all("dead" in hop.flags for hop in route.next_hops):
                continue
            if query.out_interface and route.type not in ERRORS and all(hop.interface != query.out_interface for hop in route.next_hops):
                continue
            if route.type == "throw":
                return None
            if rule is not None and rule.suppress_prefix_length is not None and route.destination.prefixlen <= rule.suppress_prefix_length:
                return None
            doubts: tuple[Doubt, ...] = ()
            if route.unread:
                doubts = (Doubt(route.source, route.text, route.unread, "the route is taken as far as it is understood"),)
                return Answer("unknown", route, rule, doubts)
            return Answer(route.type, route, rule, doubts)
        return None


def _selects(rule: PolicyRule) -> bool:
    """True where the rule looks at anything, or does anything but look a table up."""
    return rule.action != "to_tbl" or any(
        (
            rule.is_inverted,
            rule.from_network is not None,
            rule.to_network is not None,
            rule.in_interface,
            rule.out_interface,
            rule.mark is not None,
            rule.tos,
            rule.protocol,
            rule.source_ports,
            rule.destination_ports,
            rule.uids,
            rule.is_l3mdev,
            rule.suppress_prefix_length is not None,
            rule.suppress_interface_group,
        )
    )


def rule_matches(rule: PolicyRule, query: Query) -> bool | None:
    """Whether a rule holds for a packet (net/core/fib_rules.c fib_rule_match, net/ipv4/fib_rules.c fib4_rule_match)."""
    if rule.unread:
        return None
    tests: list[bool | None] = []
    if rule.from_network is not None:
        # Without a source of its own, a lookup has 0.0.0.0.
        tests.append(query.source in rule.from_network if query.source is not None else rule.from_network.prefixlen == 0)
    if rule.to_network is not None:
        tests.append(query.destination in rule.to_network)
    if rule.in_interface:
        tests.append(rule.in_interface == query.in_interface)
    if rule.out_interface:
        tests.append(rule.out_interface == query.out_interface)
    if rule.mark is not None:
        tests.append((query.mark ^ rule.mark) & rule.mask == 0)
    if rule.tos:
        tests.append(rule.tos >> 2 == query.dscp)
    if rule.protocol:
        tests.append(rule.protocol == query.protocol)
    for ports, port in ((rule.source_ports, query.source_port), (rule.destination_ports, query.destination_port)):
        if ports is not None:
            tests.append(port is not None and ports[0] <= port <= ports[1])
    if rule.uids is not None:
        known = query.is_uid_known
        tests.append((query.uid is not None and rule.uids[0] <= query.uid <= rule.uids[1]) if known else None)
    if rule.suppress_interface_group:
        tests.append(None)
    # fib_rules.c fib_rule_match: `not` inverts the whole; l3mdev only chooses the table.
    if any(test is False for test in tests):
        return rule.is_inverted
    if any(test is None for test in tests):
        return None
    return not rule.is_inverted


def vrf_table(host: HostTables, interface: str) -> str:
    """The table of the VRF that an interface belongs to, or is; empty without one."""
    if host.links is None or not interface:
        return ""
    link = host.links.get(interface)
    if link is not None and link.kind != "vrf" and link.master:
        link = host.links.get(link.master)
    return str(link.details.get("table", "")) if link is not None and link.kind == "vrf" else ""


def query_of(packet: Packet, *, in_interface: str, uid_known: bool = True) -> Query:
    """The lookup for a packet's own destination.

    A packet that came in belongs to the namespace's root for `ip rule … uidrange` (net/ipv4/route.c ip_route_input_slow: sock_net_uid).
    """
    return Query(
        destination=packet.destination,
        source=packet.source,
        in_interface=in_interface,
        mark=packet.mark,
        dscp=packet.dscp,
        protocol=packet.protocol,
        source_port=packet.source_port,
        destination_port=packet.destination_port,
        uid=packet.uid if packet.is_from_here else 0,
        is_uid_known=uid_known or not packet.is_from_here,
    )
