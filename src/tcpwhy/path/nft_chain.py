"""One base chain of nft and a packet go in; the ways that the packet can go come out, each with its verdict, steps and doubts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

from tcpwhy.path.nft_look import Look
from tcpwhy.path.nft_outcomes import Outcome, anything
from tcpwhy.path.nft_statements import Setting, outcomes_of
from tcpwhy.path.packet import Address, Packet
from tcpwhy.path.passage import MOST_WAYS, Hook, Passage, Surroundings, Verdict
from tcpwhy.path.trace import Doubt, Stage, Step
from tcpwhy.tables.nft import Nft, NftChain, NftRule

DEEPEST = 16
"""Chains in chains: include/net/netfilter/nf_tables.h NFT_JUMP_STACK_SIZE; the kernel refuses more, and refuses loops."""
MOST_RULES = 100_000
"""Rules that are looked at for one packet in one base chain."""
MOST_STEPS = 2_000
"""Rules that do something to one packet in one base chain."""
_FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}


def base_chains(nft: Nft, hook: Hook, version: int) -> list[NftChain]:
    """The base chains of a hook for packets of IP version 4 or 6, by priority.

    Those of equal priority stand in the file's order, which is the order in which the kernel got them; it runs the last of them first
    (net/netfilter/core.c nf_hook_entries_grow()). Chains of dormant tables, of bridge, arp and netdev are not among them.
    """
    families = _FAMILIES.get(version, ())
    found = [
        chain
        for chain in nft.chains.values()
        if chain.hook == hook.lower() and chain.family in families and (chain.family, chain.table) not in nft.dormant
    ]
    return sorted(found, key=lambda chain: chain.priority or 0)


def device_chains(nft: Nft, device: str, hook: str) -> list[NftChain]:
    """The chains at `ingress` or `egress` of an interface, by priority; also those of which the file does not tell the interface."""
    found = [
        chain
        for chain in nft.chains.values()
        if chain.hook == hook
        and chain.family in ("netdev", "inet")
        and (not chain.device or device in chain.device)
        and (chain.family, chain.table) not in nft.dormant
    ]
    return sorted(found, key=lambda chain: chain.priority or 0)


def run_nft(nft: Nft, chain: NftChain, packet: Packet, around: Surroundings) -> list[Passage]:
    """What a base chain makes of a packet: one passage, or several with the doubts that part them, MOST_WAYS at most.

    Accepting ends this base chain alone; others of the same hook still see the packet.
    """
    return _Run(nft, chain, around).passages(packet)


class _Choice(NamedTuple):
    """One way taken where several were possible."""

    fork: int
    number: int
    """Of the possible ones, from 0."""
    of: int
    doubt: Doubt


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """A packet on its way through the chain."""

    packet: Packet
    steps: tuple[Step, ...] = ()
    choices: tuple[_Choice, ...] = ()
    tproxy: tuple[Address | None, int | None] | None = None
    verdict: Verdict | None = None
    """Where it has ended."""

    @property
    def state(self) -> tuple[Any, ...]:
        """What two ways must share to be one. Which rule accepts makes no difference; which one drops does."""
        verdict = self.verdict
        if verdict is not None and verdict.kind == "accept":
            verdict = Verdict("accept")
        return self.packet, self.tproxy, verdict


class _TooMuch(Exception):
    """More ways or rules than are followed."""


class _Run:
    def __init__(self, nft: Nft, chain: NftChain, around: Surroundings) -> None:
        self._nft = nft
        self._base = chain
        self._around = around
        self._setting = Setting(nft, Look(chain, around))
        self._forks = 0
        self._left = MOST_RULES

    def passages(self, packet: Packet) -> list[Passage]:
        try:
            ended = self._whole(_Way(packet))
        except _TooMuch as why:
            return self._unknown(packet, str(why))
        ways = _merged(ended)
        if len(ways) == 1:
            ways = [dataclasses.replace(ways[0], choices=())]
        return (
            [self._passage(way) for way in ways]
            if len(ways) <= MOST_WAYS
            else self._unknown(packet, f"more than {MOST_WAYS} ways lead through it")
        )

    def _whole(self, way: _Way) -> list[_Way]:
        starts, skipped = [way], []
        why = self._why_perhaps_absent()
        if why:
            doubt = Doubt(self._base.source, f"chain {self._name(self._base)}", why, "")
            self._forks += 1
            starts = [self._choose(way, 0, 2, dataclasses.replace(doubt, assumed="the chain sees the packet"))]
            unseen = self._choose(way, 1, 2, dataclasses.replace(doubt, assumed="the chain does not see the packet"))
            skipped = [dataclasses.replace(unseen, verdict=Verdict("accept", chain=self._name(self._base)))]
        ended, falling = self._chain(self._base, starts, (self._name(self._base),))
        return [*ended, *skipped, *(self._by_policy(one) for one in falling)]

    def _why_perhaps_absent(self) -> str:
        chain = self._base
        if (chain.family, chain.table) in self._nft.perhaps_dormant:
            return "nft did not write legibly whether the table is dormant"
        return "the file does not tell for which interfaces it is" if chain.hook in ("ingress", "egress") and not chain.device else ""

    def _name(self, chain: NftChain) -> str:
        return f"{chain.family} {chain.table} {chain.name}"

    def _choose(self, way: _Way, index: int, of: int, doubt: Doubt) -> _Way:
        return dataclasses.replace(way, choices=(*way.choices, _Choice(self._forks, index, of, doubt)))

    def _chain(self, chain: NftChain, ways: list[_Way], path: tuple[str, ...]) -> tuple[list[_Way], list[_Way]]:
        """The ways that end in this chain, and those that fall out of its end or return."""
        ended: list[_Way] = []
        falling: list[_Way] = []
        for rule in chain.rules:
            if not ways:
                break
            following: list[_Way] = []
            for way in ways:
                self._left -= 1
                if self._left < 0:
                    raise _TooMuch(f"more than {MOST_RULES} rules would have to be looked at")
                for outcome, after in self._rule(rule, way, path):
                    self._onward(rule, outcome, after, path, ended, falling, following)
            ways = following if len(following) < 2 else _merged(following)
            if len(ended) > MOST_WAYS:
                ended = _merged(ended)
            if len(ways) + len(falling) + len(ended) > MOST_WAYS:
                raise _TooMuch(f"more than {MOST_WAYS} ways lead through it")
        return _merged(ended), _merged([*falling, *ways])

    def _onward(
        self,
        rule: NftRule,
        outcome: Outcome,
        way: _Way,
        path: tuple[str, ...],
        ended: list[_Way],
        falling: list[_Way],
        following: list[_Way],
    ) -> None:
        """Sorts a way by what the rule made of it."""
        if outcome.kind in ("go", "leave"):
            following.append(way)
        elif outcome.kind == "return":
            falling.append(way)
        elif outcome.kind in ("jump", "goto"):
            inner_ended, out = self._go_into(rule, outcome.target, way, path)
            ended += inner_ended
            (following if outcome.kind == "jump" else falling).extend(out)
        else:
            ended.append(self._end(rule, outcome, way, path))

    def _go_into(self, rule: NftRule, target: str, way: _Way, path: tuple[str, ...]) -> tuple[list[_Way], list[_Way]]:
        chain = self._nft.chains.get((self._base.family, self._base.table, target))
        if chain is None or len(path) > DEEPEST:
            why = "the chain that it goes to is not in the file" if chain is None else f"more than {DEEPEST} chains call each other"
            ended, out = [], []
            for outcome, after in self._forked(rule, way, anything(way.packet, why), path):
                if outcome.kind == "leave":
                    out.append(after)
                else:
                    ended.append(self._end(rule, outcome, after, path))
            return ended, out
        return self._chain(chain, [way], (*path, target))

    def _rule(self, rule: NftRule, way: _Way, path: tuple[str, ...]) -> list[tuple[Outcome, _Way]]:
        """All that a rule can make of a packet."""
        if rule.unread and not rule.expressions:
            return self._forked(rule, way, anything(way.packet, rule.unread), path)
        open_ways: list[tuple[int, _Way]] = [(0, way)]
        found: list[tuple[Outcome, _Way]] = []
        while open_ways:
            at, one = open_ways.pop()
            if at == len(rule.expressions):
                found.append((Outcome(one.packet), one))
                continue
            outcomes = outcomes_of(self._setting, rule.expressions[at], one.packet, rule.unread)
            for outcome, after in reversed(self._forked(rule, one, outcomes, path)):
                if outcome.kind == "go":
                    open_ways.append((at + 1, after))
                else:
                    found.append((outcome, after))
            if len(open_ways) + len(found) > MOST_WAYS * 4:
                raise _TooMuch(f"more than {MOST_WAYS} ways lead through it")
        return found

    def _forked(self, rule: NftRule, way: _Way, outcomes: list[Outcome], path: tuple[str, ...]) -> list[tuple[Outcome, _Way]]:
        """Each outcome with the way that takes it; several part by a doubt."""
        if len(outcomes) == 1:
            return [(outcomes[0], self._moved(rule, outcomes[0], way, path))]
        self._forks += 1
        found = []
        for index, outcome in enumerate(outcomes):
            doubt = Doubt(rule.source, rule.text, outcome.because, outcome.assumed)
            found.append((outcome, self._moved(rule, outcome, self._choose(way, index, len(outcomes), doubt), path)))
        return found

    def _moved(self, rule: NftRule, outcome: Outcome, way: _Way, path: tuple[str, ...]) -> _Way:
        if not outcome.text and outcome.packet is way.packet:
            return way
        step = Step(
            Stage.NAT if outcome.kind == "nat" else Stage.RULE,
            self._around.hook,
            f"a rule of nft in {path[0]}{''.join(f' > {name}' for name in path[1:])} {outcome.text or 'changes the packet'}",
            (rule.source,),
            rule.text,
            way.packet,
            outcome.packet,
        )
        if len(way.steps) > MOST_STEPS:
            raise _TooMuch(f"more than {MOST_STEPS} rules do something to the packet")
        steps = (*way.steps, step) if outcome.text else way.steps
        return dataclasses.replace(way, packet=outcome.packet, steps=steps, tproxy=outcome.tproxy or way.tproxy)

    def _end(self, rule: NftRule, outcome: Outcome, way: _Way, path: tuple[str, ...]) -> _Way:
        kind = outcome.kind
        if kind == "accept" and way.tproxy is not None:
            address, port = way.tproxy
            verdict = Verdict("tproxy", rule.text, rule.source, " > ".join(path), port=port, address=address)
        elif kind in ("accept", "drop", "reject", "nat", "queue", "stolen"):
            verdict = Verdict(kind, rule.text, rule.source, " > ".join(path), outcome.nat, outcome.reject_with)
        else:
            raise AssertionError(kind)
        return dataclasses.replace(way, verdict=verdict)

    def _by_policy(self, way: _Way) -> _Way:
        """A packet that no rule decides on meets the base chain's policy."""
        base = self._base
        kind = "drops" if base.policy == "drop" else "accepts"
        text = f"policy {base.policy}"
        if way.tproxy is not None and base.policy != "drop":
            address, port = way.tproxy
            verdict = Verdict("tproxy", text, base.source, self._name(base), port=port, address=address)
        else:
            verdict = Verdict("drop" if base.policy == "drop" else "accept", text, base.source, self._name(base))
        sentence = f"no rule of nft decides in {self._name(base)}, and its policy {kind} the packet"
        step = Step(Stage.POLICY, self._around.hook, sentence, (base.source,), text, way.packet, way.packet)
        return dataclasses.replace(way, steps=(*way.steps, step), verdict=verdict)

    def _passage(self, way: _Way) -> Passage:
        verdict = way.verdict
        if verdict is None:
            raise AssertionError("a way without an end")
        return Passage(verdict, way.packet, way.steps, tuple(choice.doubt for choice in way.choices))

    def _unknown(self, packet: Packet, why: str) -> list[Passage]:
        """The two extremes, where there is too much to follow."""
        base = self._base
        name = self._name(base)
        found = []
        for kind, assumed in (("accept", "accepts the packet"), ("drop", "drops the packet")):
            doubt = Doubt(base.source, f"chain {name}", why, assumed)
            step = Step(
                Stage.RULE, self._around.hook, f"{name} of nft is not followed to its end: {why}", (base.source,), "", packet, packet
            )
            verdict = Verdict("accept" if kind == "accept" else "drop", "", base.source, name)
            found.append(Passage(verdict, packet, (step,), (doubt,)))
        return found


def _merged(ways: Iterable[_Way]) -> list[_Way]:
    """One way for each end or packet: a doubt of which all answers lead to the same is none."""
    by_state: dict[Any, list[_Way]] = {}
    for way in ways:
        by_state.setdefault(way.state, []).append(way)
    return [group[0] if len(group) == 1 else _one_of(group) for group in by_state.values()]


def _one_of(group: list[_Way]) -> _Way:
    pending = sorted(group, key=lambda way: len(way.choices), reverse=True)
    at = 0
    while at < len(pending):
        last = pending[at].choices[-1] if pending[at].choices else None
        if last is not None:
            before = pending[at].choices[:-1]
            siblings = [
                way
                for way in pending[at:]
                if len(way.choices) == len(before) + 1 and way.choices[-1].fork == last.fork and way.choices[:-1] == before
            ]
            if {way.choices[-1].number for way in siblings} == set(range(last.of)):
                calmest = max(siblings, key=lambda way: way.choices[-1].number)
                joined = dataclasses.replace(calmest, choices=before)
                pending = sorted([*(way for way in pending if way not in siblings), joined], key=lambda way: len(way.choices), reverse=True)
                at = 0
                continue
        at += 1
    return min(pending, key=lambda way: len(way.choices))
