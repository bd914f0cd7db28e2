"""A step of a walk goes in; the firewall rule that it rests on comes out: its chains, counters, whose it is, how exactly it is removed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcpwhy.causes._verdict import Exhibit
from tcpwhy.evidence.source import Source
from tcpwhy.path.trace import Stage, Step

if TYPE_CHECKING:
    from tcpwhy.tables.host import HostTables
    from tcpwhy.tables.iptables import Iptables, Rule
    from tcpwhy.tables.nft import NftRule

OWNERS = (
    (re.compile(r"ISTIO_|istio"), "Istio's sidecar"),
    (re.compile(r"PROXY_INIT_|linkerd"), "Linkerd's proxy"),
    (re.compile(r"KUMA_|kuma"), "Kuma's data plane proxy"),
    (re.compile(r"CONSUL_|consul"), "Consul's proxy"),
    (re.compile(r"APPMESH_|appmesh"), "AWS App Mesh's proxy"),
    (re.compile(r"OSM_PROXY_"), "Open Service Mesh's proxy"),
    (re.compile(r"KUBE-|kube-proxy"), "kube-proxy"),
    (re.compile(r"^DOCKER"), "Docker"),
    (re.compile(r"^cali-"), "Calico"),
    (re.compile(r"CILIUM_"), "Cilium"),
    (re.compile(r"^(ufw6?)-"), "ufw"),
    (re.compile(r"^firewalld$|^(IN|FWDI|FWDO|FWD|PRE|POST)_|_ZONES(_SOURCE)?$"), "firewalld"),
)
"""Chains and tables by whose program makes them: istio tools/istio-iptables/pkg/constants, linkerd2-proxy-init iptables.go, kuma
app/kumactl transparent-proxy, consul sdk/iptables, aws-appmesh-proxy-route-manager, kube-proxy pkg/proxy/iptables, moby libnetwork."""

OWN_UIDS = {1337: "Istio's or App Mesh's proxy", 2102: "Linkerd's proxy", 5678: "Kuma's data plane proxy", 5995: "Consul's proxy"}
"""Users whose packets a mesh excepts: the proxy's own (linkerd2-proxy-init 2102, kuma 5678, consul-k8s 5995, istio 1337)."""

OWN_PORTS = {
    15001: "Envoy of Istio, Kuma or Consul (outbound)",
    15006: "Envoy of Istio or Kuma (inbound)",
    4140: "Linkerd's proxy (outbound)",
    4143: "Linkerd's proxy (inbound)",
    15000: "App Mesh's Envoy (inbound)",
    20000: "Consul's proxy (inbound)",
}
"""Ports on which the proxies of meshes listen by default (the same sources)."""

SIDECAR = re.compile(r"sidecar|proxy|mesh|redir", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class NamedRule:
    """One rule, found again in the host's state."""

    text: str
    source: Source
    table: str
    chain: str
    chains: tuple[str, ...]
    """From the built-in chain to its own, each a jump further."""
    packets: int | None
    """None where no counter was collected."""
    removal: str
    """The command that removes exactly this rule."""
    change: str
    """The same for `with_changes`."""
    owner: str
    """Whose chains these are; empty where nothing tells."""
    iptables: Rule | None = None
    nft: NftRule | None = None

    @property
    def path(self) -> str:
        """`nat OUTPUT > SIDECAR_OUTBOUND`."""
        return f"{self.table} {' > '.join(self.chains)}"

    @property
    def place(self) -> str:
        """`web/state/iptables-save.txt:8`."""
        return str(self.source)

    def described(self) -> str:
        """`-A X … -j DROP` (chain path, file:line, counter)."""
        counted = "" if self.packets is None else f", counter {self.packets}"
        return f"`{self.text}` (chain {self.path}, {self.place}{counted})"

    def exhibit(self, note: str) -> Exhibit:
        """The rule as evidence."""
        counted = "" if self.packets is None else f" [{self.packets} packets]"
        text = f"{self.path}: {self.text}{counted}: {note}"
        return Exhibit("state", self.source.vantage_point, self.source.file, text, line=self.source.line)


def rule_of(host: HostTables, step: Step, steps: Sequence[Step]) -> NamedRule | None:
    """The rule that a step rests on, with the chains by which the packet came to it; None where it rests on none."""
    found = _find(host, step)
    if found is None:
        return None
    before = steps[: next((number for number, one in enumerate(steps) if one is step), len(steps))]
    chains: list[str] = []
    for earlier in before:
        jumped = _find(host, earlier) if earlier.hook == step.hook and earlier.stage is Stage.RULE else None
        if jumped is not None and (jumped.table, jumped.nft is None) == (found.table, found.nft is None) and jumped.chain not in chains:
            chains.append(jumped.chain)
    chains = _from_the_hook(host, found, chains)
    return dataclasses.replace(found, chains=tuple(chains), owner=_owner(host, found, chains))


def all_rules(host: HostTables) -> list[NamedRule]:
    """All rules of a host, without the chains that lead to them."""
    found = [_of_iptables(rule, ruleset) for ruleset in _rulesets(host) for rule in ruleset.rules]
    if host.nft is not None:
        found += [_of_nft(rule) for chain in host.nft.chains.values() for rule in chain.rules]
    return found


def checks_reverse_path(host: HostTables, rule: NamedRule) -> bool:
    """True where a rule drops what fails `-m rpfilter` or nft's `fib saddr . iif oif`, or what such a rule before it did not let go."""
    if rule.iptables is not None:
        if "rpfilter" in rule.iptables.matches:
            return True
        chain = next((own for ruleset in _rulesets(host) for own in [ruleset.tables.get(rule.table, {}).get(rule.chain)]
                      if own is not None and rule.iptables in own.rules), None)  # fmt: skip
        before = chain.rules[: chain.rules.index(rule.iptables)] if chain is not None else []
        return any("rpfilter" in other.matches and other.target in ("RETURN", "ACCEPT") for other in before)
    return rule.nft is not None and "fib" in _nft_words(rule.nft.expressions)


def _rulesets(host: HostTables) -> tuple[Iptables, ...]:
    return (*(host.iptables or ()), *(host.ip6tables or ()))


def _find(host: HostTables, step: Step) -> NamedRule | None:
    for source in step.sources:
        for ruleset in _rulesets(host):
            if ruleset.source.file != source.file:
                continue
            rule = next((one for one in ruleset.rules if one.source == source), None)
            if rule is not None:
                return _of_iptables(rule, ruleset)
        if host.nft is not None and source.file == host.nft.source.file:
            listed = [one for chain in host.nft.chains.values() for one in chain.rules if one.source == source]
            exact = [one for one in listed if one.text == step.rule] or listed
            if exact:
                return _of_nft(exact[0])
    return None


def _of_iptables(rule: Rule, ruleset: Iptables) -> NamedRule:
    program = "ip6tables" if ruleset.family == 6 else "iptables"
    if ruleset.variant == "legacy" and "legacy" in ruleset.source.file:
        program += "-legacy"
    deleted = re.sub(r"^-A ", "-D ", rule.text)
    return NamedRule(
        text=rule.text,
        source=rule.source,
        table=rule.table,
        chain=rule.chain,
        chains=(rule.chain,),
        packets=rule.packets,
        removal=f"{program} -t {rule.table} {deleted}",
        change=f"without {rule.source}",
        owner="",
        iptables=rule,
    )


def _of_nft(rule: NftRule) -> NamedRule:
    where = f"{rule.family} {rule.table} {rule.chain}"
    if rule.handle is None:
        removal = f"nft delete rule {where} handle N   # N as `nft -a list chain {where}` shows it"
    else:
        removal = f"nft delete rule {where} handle {rule.handle}"
    return NamedRule(
        text=rule.text,
        source=rule.source,
        table=f"{rule.family} {rule.table}",
        chain=rule.chain,
        chains=(rule.chain,),
        packets=rule.packets,
        removal=removal,
        change=f"without {rule.text}" if rule.handle is None else f"without {where} handle {rule.handle}",
        owner="",
        nft=rule,
    )


def _from_the_hook(host: HostTables, rule: NamedRule, passed: list[str]) -> list[str]:
    """The chains from the hook's own to the rule's, as far as jumps that the packet took, or else the rules alone, tell."""
    jumps: dict[str, list[str]] = {}
    for chain, target in _jumps(host, rule):
        jumps.setdefault(target, []).append(chain)
    path = [rule.chain]
    while len(path) < 32:
        callers = [chain for chain in jumps.get(path[0], []) if chain not in path]
        taken = [chain for chain in callers if chain in passed] or callers
        if not taken:
            return path
        path.insert(0, taken[0])
    return path


def _jumps(host: HostTables, rule: NamedRule) -> list[tuple[str, str]]:
    """Each jump or goto of the rule's own table: from which chain to which."""
    if rule.iptables is not None:
        ruleset = next((one for one in _rulesets(host) if one.source.file == rule.source.file), None)
        chains = ruleset.tables.get(rule.table, {}) if ruleset is not None else {}
        return [(chain.name, one.target) for chain in chains.values() for one in chain.rules if one.target in chains]
    if rule.nft is None or host.nft is None:
        return []
    found = []
    for chain in host.nft.chains.values():
        if (chain.family, chain.table) == (rule.nft.family, rule.nft.table):
            for one in chain.rules:
                found += [(chain.name, target) for target in _nft_targets(one.expressions)]
    return found


def _nft_targets(value: object) -> list[str]:
    """The chains that a rule jumps or goes to, also by a verdict map."""
    if isinstance(value, dict):
        own = [inner["target"] for key, inner in value.items() if key in ("jump", "goto") and isinstance(inner, dict)
               and isinstance(inner.get("target"), str)]  # fmt: skip
        return own + [target for inner in value.values() for target in _nft_targets(inner)]
    if isinstance(value, list | tuple):
        return [target for inner in value for target in _nft_targets(inner)]
    return []


def _nft_words(value: object) -> list[str]:
    if isinstance(value, dict):
        return [str(key) for key in value] + [word for inner in value.values() for word in _nft_words(inner)]
    if isinstance(value, list | tuple):
        return [word for inner in value for word in _nft_words(inner)]
    return []


def _owner(host: HostTables, rule: NamedRule, chains: Sequence[str]) -> str:
    names = [*chains, rule.table.split()[-1] if rule.nft is not None else ""]
    comment = rule.nft.comment if rule.nft is not None else ""
    if rule.iptables is not None:
        option = rule.iptables.option("comment")
        comment = " ".join(option.values) if option is not None else ""
    for pattern, owner in OWNERS:
        if any(pattern.search(name) for name in names if name) or ("istio" in pattern.pattern and "proxy-init/" in comment):
            return "Linkerd's proxy" if "proxy-init/" in comment else owner
    users = {uid for other in all_rules(host) if other.chain in chains and other.table == rule.table for uid in _uids(other)}
    for uid in sorted(users):
        if uid in OWN_UIDS:
            return OWN_UIDS[uid]
    if any(SIDECAR.search(name) for name in names):
        return "a home-made sidecar"
    return ""


def _uids(rule: NamedRule) -> list[int]:
    option = rule.iptables.option("uid-owner") if rule.iptables is not None else None
    return [int(value) for value in option.values if value.isascii() and value.isdigit() and len(value) < 11] if option is not None else []
