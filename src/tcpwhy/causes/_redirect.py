"""A packet that a host's own NAT turns to itself goes in; the rule, who listens where it ends, and how it is undone, walked, comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy.causes._ends import redirecting
from tcpwhy.causes._rules import OWN_PORTS, NamedRule, rule_of
from tcpwhy.causes._verdict import Exhibit
from tcpwhy.evidence import EvidenceError
from tcpwhy.path import walk, with_changes
from tcpwhy.path.packet import Packet
from tcpwhy.path.trace import Fate, Trace

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.iptables import Rule
    from tcpwhy.tables.sockets import Socket

ANY_USER = 65_533
"""A user that no rule names: what becomes of a program's packets that are not the proxy's own."""

MOST_RULES = 8

PROXIES = ("envoy", "linkerd", "pilot-agent", "istio", "consul", "kuma-dp", "ztunnel", "haproxy", "traefik", "cilium")
"""Programs that take redirected connections and carry them on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Redirect:
    """The host's own rule that turns the packet, and what it meets."""

    host: HostTables
    packet: Packet
    """As it sets out, or arrives."""
    trace: Trace
    rule: NamedRule
    target: str
    """`127.0.0.1:15001`."""
    port: int
    listeners: tuple[Socket, ...] | None
    """Of the target; None where the sockets were not collected."""

    @property
    def form(self) -> str:
        """OUTPUT or PREROUTING."""
        return "OUTPUT" if self.packet.is_from_here else "PREROUTING"

    @property
    def is_dead(self) -> bool:
        """Nobody listens there."""
        return self.trace.fate is Fate.REFUSED

    @property
    def is_martian(self) -> bool:
        """It is turned to 127.0.0.0/8, which the kernel lets in by no other interface than lo, unless route_localnet is set."""
        return self.trace.fate is Fate.MARTIAN_DESTINATION

    @property
    def is_a_mesh_s(self) -> bool:
        """Its chains and its port are those of a service mesh: who listens there is its proxy, until something shows otherwise."""
        return self.port in OWN_PORTS and bool(self.rule.owner) and self.rule.owner != "a home-made sidecar"

    def whose(self) -> str:
        """Whose rules these are, by chains, users and ports."""
        known = OWN_PORTS.get(self.port)
        if self.rule.owner:
            return f"by its chains this is {self.rule.owner}'s" + (f", and port {self.port} is that of {known}" if known else "")
        return f"port {self.port} is that of {known}" if known else "nothing in it names its maker"

    def who_listens(self) -> str:
        """The listener, or its absence, in a sentence without its full stop."""
        if self.is_martian:
            return (
                f"{self.target} is a loopback address, and the kernel drops what comes to one by {self.packet.in_interface} without a word "
                "(route_localnet is off there)"
            )
        if self.listeners is None:
            return f"who listens on {self.target} was not collected"
        if not self.listeners:
            return f"nobody listens on {self.target}: its kernel answers RST at once"
        return f"{describe_listener(self.listeners[0])} ({self.listeners[0].source})"

    def exhibits(self) -> tuple[Exhibit, ...]:
        """The rule, the listener or its absence."""
        shown = [self.rule.exhibit(f"turns it to {self.target}")]
        if self.is_martian:
            last = self.trace.last
            shown += [Exhibit("state", self.host.name, source.file, last.text, line=source.line) for source in last.sources] if last else []
        elif self.listeners:
            first = self.listeners[0]
            shown.append(Exhibit("state", self.host.name, first.source.file, describe_listener(first), line=first.source.line))
        elif self.listeners is not None and self.host.sockets is not None:
            shown.append(no_listener(self.host, self.target, len(self.host.sockets.sockets)))
        return tuple(shown)


def no_listener(host: HostTables, target: str, count: int) -> Exhibit:
    """The absence of a listener, in the file that would show it."""
    name = "ss-tcp.txt" if host.state.is_collected("ss-tcp.txt") else "proc-net-tcp.txt"
    text = f"no socket listens on {target}; {count} sockets are listed"
    return Exhibit("state", host.name, host.state.source(name).file, text)


def describe_listener(socket: Socket) -> str:
    """`nginx (pid 812) listens on *:80`."""
    who = f"{socket.processes[0].name} (pid {socket.processes[0].pid})" if socket.processes else "a program that was not named"
    return f"{who} listens on {socket.local}"


def is_a_proxy(redirect: Redirect) -> bool | None:
    """Whether who listens carries connections on: by its name, or because it holds some to what was asked; None where unknown."""
    listeners, table = redirect.listeners, redirect.host.sockets
    if not listeners or table is None:
        return None
    processes = {(one.name, one.pid) for socket in listeners for one in socket.processes}
    if not processes:
        return None
    if any(name.startswith(known) for name, _ in processes for known in PROXIES):
        return True
    names = {name for name, _ in processes}
    local = {one.ip for one in redirect.host.addresses.entries} if redirect.host.addresses is not None else set()
    return any(
        socket.remote_ip is not None
        and not socket.is_listener
        and socket.local_port != redirect.port
        and socket.remote_ip not in local
        and (socket.remote_ip == str(redirect.packet.destination) or socket.remote_port == redirect.packet.destination_port)
        and any(process.name in names for process in socket.processes)
        for socket in table.sockets
    )


def redirect_of(host: HostTables, packet: Packet) -> Redirect | None:
    """The redirect that a packet of any program, or an arriving one, meets; None where none turns it to the host itself."""
    for one in _as_of_a_program(packet):
        trace = walk(host, one).forward
        options = (trace, *trace.alternatives) if trace.fate is Fate.UNKNOWN else (trace,)
        for option in options:
            found = _redirect(host, one, option)
            if found is not None:
                return found
    return None


def _as_of_a_program(packet: Packet) -> Sequence[Packet]:
    if not packet.is_from_here or packet.uid is not None:
        return (packet,)
    return (dataclasses.replace(packet, uid=ANY_USER, gid=ANY_USER),)


def _redirect(host: HostTables, packet: Packet, trace: Trace) -> Redirect | None:
    step = redirecting(trace)
    if step is None or trace.fate not in (Fate.REFUSED, Fate.ACCEPTED, Fate.QUEUE_FULL, Fate.MARTIAN_DESTINATION, Fate.UNKNOWN):
        return None
    rule = rule_of(host, step, trace.steps)
    after = step.after
    if rule is None or after.destination_port is None:
        return None
    local = {one.ip for one in host.addresses.entries} if host.addresses is not None else set()
    if not after.destination.is_loopback and str(after.destination) not in local:
        return None
    listeners = None
    if host.sockets is not None:
        listeners = tuple(host.sockets.listeners_for(str(after.destination), after.destination_port))
    target = f"[{after.destination}]" if after.version == 6 else str(after.destination)
    return Redirect(host, packet, trace, rule, f"{target}:{after.destination_port}", after.destination_port, listeners)


@dataclasses.dataclass(frozen=True, slots=True)
class Removal:
    """Rules that must go so that the packet is no longer turned, and what becomes of it then."""

    rules: tuple[NamedRule, ...]
    after: Trace | None
    """None where not even without them all it goes its way."""

    @property
    def commands(self) -> tuple[str, ...]:
        """One for each rule."""
        return tuple(rule.removal for rule in self.rules)


def removal_of(redirect: Redirect) -> Removal:
    """Removes one rule after the other, walking each time, until nothing turns the packet to the host itself any more."""
    host, rules = redirect.host, [redirect.rule]
    while len(rules) <= MOST_RULES:
        try:
            host = with_changes(host, [rules[-1].change])
        except EvidenceError:
            return Removal(tuple(rules), None)
        trace = walk(host, redirect.packet).forward
        again = _redirect(host, redirect.packet, trace)
        if again is None:
            return Removal(tuple(rules), None if trace.fate is Fate.UNKNOWN else trace)
        rules.append(again.rule)
    return Removal(tuple(rules), None)


def leftovers(redirect: Redirect) -> tuple[str, ...]:
    """The commands that take away the rest of a chain that only leads to the redirect: the jumps to it, and the chains themselves."""
    rule = redirect.rule
    own = list(rule.chains[1:])
    if not own:
        return ()
    if rule.iptables is None:
        where = " ".join(rule.table.split())
        return (f"the whole of it, if nothing else in it is wanted: `nft delete table {where}`",) if rule.owner else ()
    program = rule.removal.split(" -t ")[0]
    chains = next((one.tables.get(rule.table, {}) for one in (*(redirect.host.iptables or ()), *(redirect.host.ip6tables or ()))
                   if one.source.file == rule.source.file), {})  # fmt: skip
    callers: dict[str, list[Rule]] = {}
    for chain in chains.values():
        for one in chain.rules:
            if one.target in own:
                callers.setdefault(one.target, []).append(one)
    jumps = [one for one in callers.get(own[0], []) if chains[one.chain].policy is not None]
    gone = [chain for chain in own if all(one in jumps or one.chain in own for one in callers.get(chain, []))]
    if not jumps or not gone:
        return ()
    commands = [f"{program} -t {rule.table} -D {one.text[3:]}" for one in jumps]
    commands += [f"{program} -t {rule.table} -F {chain}" for chain in gone] + [f"{program} -t {rule.table} -X {chain}" for chain in gone]
    return (f"the whole of it, if it is a leftover: {', '.join(f'`{command}`' for command in commands)}",)
