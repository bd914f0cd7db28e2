"""A packet at a hook goes in; what conntrack, the base chains of iptables and nft, and NAT make of it comes out, in the kernel's order."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

from tcpwhy.path.delivery import reject_answer
from tcpwhy.path.iptables_chain import run_iptables
from tcpwhy.path.nft_chain import base_chains, device_chains, run_nft
from tcpwhy.path.packet import Packet
from tcpwhy.path.passage import MOST_WAYS, Hook, Passage, Surroundings
from tcpwhy.path.rewriting import rewrite
from tcpwhy.path.trace import Doubt, Fate, Stage
from tcpwhy.path.tracking import Tracking, translate
from tcpwhy.path.way import Ending, Onward, Way
from tcpwhy.tables.host import HostTables
from tcpwhy.tables.iptables import Iptables
from tcpwhy.tables.nft import Nft, NftChain

RAW, CONNTRACK, MANGLE, NAT_DST, FILTER, SECURITY, NAT_SRC = -300, -200, -150, -100, 0, 50, 100
"""include/uapi/linux/netfilter_ipv4.h enum nf_ip_hook_priorities; the same for IPv6."""

TABLES: dict[Hook, tuple[tuple[int, str], ...]] = {
    "PREROUTING": ((RAW, "raw"), (MANGLE, "mangle"), (NAT_DST, "nat")),
    "INPUT": ((MANGLE, "mangle"), (FILTER, "filter"), (SECURITY, "security"), (NAT_SRC, "nat")),
    "FORWARD": ((MANGLE, "mangle"), (FILTER, "filter"), (SECURITY, "security")),
    "OUTPUT": ((RAW, "raw"), (MANGLE, "mangle"), (NAT_DST, "nat"), (FILTER, "filter"), (SECURITY, "security")),
    "POSTROUTING": ((MANGLE, "mangle"), (NAT_SRC, "nat")),
}
"""Which table of iptables hooks where, and with which priority (net/ipv4/netfilter/iptable_*.c)."""

Chain = Callable[[Packet], list[Passage]]
Reroute = Callable[[Way], list[Onward]]
Kind = Literal["filter", "nat", "route", "conntrack", "ipvs"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """One function that is hooked in."""

    priority: int
    kind: Kind
    runs: tuple[Chain, ...]


class Netfilter:
    """The hooks of one host and family."""

    def __init__(self, host: HostTables, version: int, tracking: Tracking, around: Callable[[Hook], Surroundings]) -> None:
        self.host = host
        self.version = version
        self.tracking = tracking
        self._around = around
        self._entries: dict[Hook, list[list[_Entry]]] = {}
        self._balance: dict[Hook, list[tuple[int, Callable[[Way], list[Onward]]]]] = {}

    @property
    def is_collected(self) -> bool:
        """Whether anything tells which rules the host has."""
        rulesets = self.host.iptables if self.version == 4 else self.host.ip6tables
        return rulesets is not None or self.host.nft is not None

    @property
    def unseen(self) -> str:
        """Why rules are known to be missing, although some were collected; empty where none are."""
        rulesets = (self.host.iptables if self.version == 4 else self.host.ip6tables) or ()
        if any(ruleset.variant == "legacy" for ruleset in rulesets):
            return ""
        return next((ruleset.unseen_legacy for ruleset in rulesets if ruleset.unseen_legacy), "")

    def hook_in(self, hook: Hook, priority: int, function: Callable[[Way], list[Onward]]) -> None:
        """Hooks a function of the kernel's own in, such as IPVS."""
        self._balance.setdefault(hook, []).append((priority, function))

    def run(self, hook: Hook, way: Way, *, on_loopback: bool = False, reroute: Reroute | None = None) -> list[Onward]:
        """All that happens at a hook, in order of priority.

        `on_loopback`: OUTPUT has seen the packet already. `reroute` finds the way anew where a rule of OUTPUT changed what routes look at
        (net/ipv4/netfilter.c ip_route_me_harder).
        """
        orders = self._at(hook)
        results = [self._run_in(order, hook, way, on_loopback, reroute) for order in orders]
        if len(results) == 1 or _ends_of(results[0]) == _ends_of(results[1]):
            return results[0]
        doubt = Doubt(None, f"{hook} of iptables and of nft", "chains of one priority run in the order in which they were hooked in", "")
        assumptions = ("those that stand later in nft's list run first", "those that stand earlier in nft's list run first")
        return [
            _doubted(onward, dataclasses.replace(doubt, assumed=assumed))
            for result, assumed in zip(results, assumptions, strict=True)
            for onward in result
        ]

    def _run_in(self, order: list[_Entry], hook: Hook, way: Way, on_loopback: bool, reroute: Reroute | None) -> list[Onward]:
        ended: list[Onward] = []
        current = [way]
        for entry in order:
            following: list[Way] = []
            for way in current:
                for onward in self._one(entry, hook, way, on_loopback):
                    if isinstance(onward, Ending):
                        ended.append(onward)
                    elif reroute is not None and _needs_route(entry.kind, way.packet, onward.packet):
                        for moved in reroute(onward):
                            if isinstance(moved, Ending):
                                ended.append(moved)
                            else:
                                following.append(_as_before(moved, way.packet.out_interface))
                    else:
                        following.append(onward)
            current = bounded(following, ended)
        return [*ended, *map(_as_routed, current)]

    def run_device(self, interface: str, direction: Literal["ingress", "egress"], way: Way) -> list[Onward]:
        """The chains of nft's family netdev at an interface (net/core/dev.c: before and after all else that IP does)."""
        if self.host.nft is None:
            return [way]
        hook: Hook = "PREROUTING" if direction == "ingress" else "POSTROUTING"
        onwards: list[Onward] = [way]
        for chain in device_chains(self.host.nft, interface, direction):
            run = functools.partial(_run_chain, self.host.nft, chain, self._around(hook))
            following: list[Onward] = []
            for one in onwards:
                following += [one] if isinstance(one, Ending) else [self._follow(passage, one, hook) for passage in run(one.packet)]
            onwards = following
        return onwards

    def _at(self, hook: Hook) -> list[list[_Entry]]:
        if hook not in self._entries:
            iptables, nft = self._chains_of_iptables(hook), self._chains_of_nft(hook)
            tied = {entry.priority for entry in iptables} & {entry.priority for entry in nft}
            both = [[*iptables, *nft], [*nft, *iptables]]
            # The likelier order is the first: what was made last runs first.
            orders = (both if self._is_iptables_last() else both[::-1]) if tied else both[:1]
            self._entries[hook] = [self._in_order(hook, order) for order in orders]
        return self._entries[hook]

    def _is_iptables_last(self) -> bool:
        """Whether the tables that iptables-nft made stand behind nft's own; their chains may still have come at another time."""
        nft = self.host.nft
        return nft is not None and bool(nft.tables) and nft.tables[-1] in nft.left_out

    def _chains_of_iptables(self, hook: Hook) -> list[_Entry]:
        around = self._around(hook)
        found: list[_Entry] = []
        for priority, table in TABLES[hook]:
            kind: Kind = "nat" if table == "nat" else "route" if table == "mangle" and hook == "OUTPUT" else "filter"
            found += [
                _Entry(priority, kind, (functools.partial(_run_table, ruleset, table, hook, around),))
                for ruleset in (self.host.iptables if self.version == 4 else self.host.ip6tables) or ()
                if hook in ruleset.tables.get(table, {}) and not self._is_misprinted(ruleset, table)
            ]
        return found

    def _chains_of_nft(self, hook: Hook) -> list[_Entry]:
        """Of equal priority, what was hooked in last runs first (net/netfilter/core.c nf_hook_entries_grow); the file has the order."""
        nft, around = self.host.nft, self._around(hook)
        if nft is None:
            return []
        kinds: dict[str | None, Kind] = {"nat": "nat", "route": "route"}
        return [
            _Entry(chain.priority or 0, kinds.get(chain.type, "filter"), (functools.partial(_run_chain, nft, chain, around),))
            for chain in reversed(base_chains(nft, hook, self.version))
        ]

    def _in_order(self, hook: Hook, chains: list[_Entry]) -> list[_Entry]:
        """The chains with what the kernel itself hooks in; those of type nat within one function (nf_nat_proto.c nf_nat_ipv4_ops)."""
        found = [entry for entry in chains if entry.kind != "nat"]
        if hook in ("PREROUTING", "OUTPUT"):
            found.append(_Entry(CONNTRACK, "conntrack", ()))
        if hook != "FORWARD":
            translating = sorted((entry for entry in chains if entry.kind == "nat"), key=lambda entry: entry.priority)
            priority = NAT_DST if hook in ("PREROUTING", "OUTPUT") else NAT_SRC
            found.append(_Entry(priority, "nat", tuple(run for entry in translating for run in entry.runs)))
        found += [_Entry(priority, "ipvs", ()) for priority, _ in self._balance.get(hook, ())]
        return sorted(found, key=lambda entry: entry.priority)

    def _is_misprinted(self, ruleset: Iptables, table: str) -> bool:
        """A table made with nft that iptables-nft-save prints without the conditions that it does not know: nft's own list counts."""
        family = "ip" if self.version == 4 else "ip6"
        return self.host.nft is not None and ruleset.variant != "legacy" and (family, table) in self.host.nft.misprinted

    def _one(self, entry: _Entry, hook: Hook, way: Way, on_loopback: bool) -> list[Onward]:
        if entry.kind == "conntrack":
            # What OUTPUT has tracked keeps its entry on lo (nf_conntrack_in: previously seen).
            return [way] if on_loopback else [*self.tracking.begin(way)]
        if entry.kind == "ipvs":
            if way.is_balanced:
                return [way]
            function = next(function for priority, function in self._balance[hook] if priority == entry.priority)
            return function(way)
        if entry.kind == "nat":
            return self._translate(entry, hook, way)
        return [onward for passage in entry.runs[0](way.packet) for onward in self._after(passage, way, hook)]

    def _after(self, passage: Passage, way: Way, hook: Hook) -> list[Onward]:
        """The ways after a base chain: one, or for a transparent proxy, of whose socket too little is known, two."""
        followed = self._follow(passage, way, hook)
        verdict = passage.verdict
        if isinstance(followed, Ending) or verdict.kind != "tproxy" or followed.forced_socket is None or self.host.sockets is None:
            return [followed]
        address, port = followed.forced_socket
        if not self.host.sockets.listeners_for(str(address), port):
            text = f"no socket listens at {address} port {port}, to which TPROXY hands it: dropped"
            return [Ending(followed.step(Stage.SOCKET, text, hook=hook), Fate.DROPPED_BY_RULE)]
        doubt = Doubt(verdict.source, verdict.rule, "ss does not show IP_TRANSPARENT, without which TPROXY drops", "the socket has it")
        text = "taken to be dropped by TPROXY: the socket is not transparent"
        dropped = followed.step(Stage.SOCKET, text, hook=hook, doubts=(dataclasses.replace(doubt, assumed="the socket lacks it"),))
        return [dataclasses.replace(followed, doubts=(*followed.doubts, doubt)), Ending(dropped, Fate.DROPPED_BY_RULE)]

    def _follow(self, passage: Passage, way: Way, hook: Hook) -> Onward:
        """The way after a base chain that is not of type nat."""
        after = dataclasses.replace(way, packet=passage.packet, steps=(*way.steps, *passage.steps), doubts=(*way.doubts, *passage.doubts))
        verdict = passage.verdict
        if verdict.kind == "drop":
            return Ending(after, Fate.DROPPED_BY_RULE)
        if verdict.kind == "reject":
            return Ending(after, Fate.REJECTED_BY_RULE, reject_answer(way.packet, verdict.reject_with))
        if verdict.kind in ("queue", "stolen"):
            return Ending(after, Fate.HANDED_OVER)
        if verdict.kind == "tproxy" and verdict.port is not None:
            return dataclasses.replace(after, forced_socket=(verdict.address or way.packet.destination, verdict.port))
        return after

    def _translate(self, entry: _Entry, hook: Hook, way: Way) -> list[Onward]:
        """NAT at this hook (net/netfilter/nf_nat_core.c nf_nat_inet_fn): chains are asked for a connection's first packet only."""
        packet = way.packet
        if packet.ct_state in ("INVALID", "UNTRACKED"):
            return [way]
        is_destination = hook in ("PREROUTING", "OUTPUT")
        if way.confirmed is not None:
            return [translate(way, hook)]
        if packet.ct_state not in ("NEW", "RELATED") or packet.is_reply:
            return [way]
        if way.destination_bound if is_destination else way.source_bound:
            return [way]
        ended: list[Onward] = []
        asking = [way]
        for run in entry.runs:
            undecided: list[Way] = []
            for one in asking:
                for passage in run(one.packet):
                    followed = self._follow(passage, one, hook)
                    if isinstance(followed, Ending):
                        ended.append(followed)
                    elif passage.verdict.kind == "nat" and passage.verdict.nat is not None:
                        ended += [_settled(onward, is_destination) for onward in
                                  rewrite(followed, passage.verdict.nat, hook, self.host, self._around(hook))]  # fmt: skip
                    else:
                        undecided.append(followed)
            asking = bounded(undecided, ended)
        return [*ended, *(_settled(one, is_destination) for one in asking)]


def _run_table(ruleset: Iptables, table: str, hook: Hook, around: Surroundings, packet: Packet) -> list[Passage]:
    return run_iptables(ruleset, table, hook, packet, around)


def _run_chain(nft: Nft, chain: NftChain, around: Surroundings, packet: Packet) -> list[Passage]:
    return run_nft(nft, chain, packet, around)


def _ends_of(onwards: list[Onward]) -> set[tuple[Fate | None, Packet]]:
    return {(one.fate, one.way.packet) if isinstance(one, Ending) else (None, one.packet) for one in onwards}


def _doubted(onward: Onward, doubt: Doubt) -> Onward:
    if isinstance(onward, Ending):
        return dataclasses.replace(onward, way=dataclasses.replace(onward.way, doubts=(*onward.way.doubts, doubt)))
    return dataclasses.replace(onward, doubts=(*onward.doubts, doubt))


def _as_before(way: Way, out_interface: str) -> Way:
    """A way with a new route, as the hook's further chains see it: with the interface that it had when the hook began."""
    shown = dataclasses.replace(way.packet, out_interface=out_interface)
    return dataclasses.replace(way, packet=shown, new_out_interface=way.packet.out_interface)


def _as_routed(way: Way) -> Way:
    if way.new_out_interface is None:
        return way
    return dataclasses.replace(way, packet=dataclasses.replace(way.packet, out_interface=way.new_out_interface), new_out_interface=None)


def _needs_route(kind: Kind, before: Packet, after: Packet) -> bool:
    """nf_nat_ipv4_local_fn looks at the destination, chains of type route at whatever routes and rules look at."""
    if kind == "nat":
        return before.destination != after.destination
    if kind != "route":
        return False
    return (before.source, before.destination, before.mark, before.dscp) != (after.source, after.destination, after.mark, after.dscp)


def _settled(onward: Onward, is_destination: bool) -> Onward:
    if isinstance(onward, Ending):
        return onward
    return dataclasses.replace(onward, **{"destination_bound" if is_destination else "source_bound": True})  # type: ignore[arg-type]


def bounded(ways: list[Way], ended: list[Onward]) -> list[Way]:
    """At most MOST_WAYS ways; what lies beyond ends as unknown."""
    if len(ways) <= MOST_WAYS:
        return ways
    doubt = Doubt(None, "", f"more than {MOST_WAYS} ways were possible", "the rest is not followed")
    rest = ways[MOST_WAYS - 1].step(Stage.END, "too many ways are possible to follow them all", doubts=(doubt,))
    ended.append(Ending(rest, Fate.UNKNOWN))
    return ways[: MOST_WAYS - 1]
