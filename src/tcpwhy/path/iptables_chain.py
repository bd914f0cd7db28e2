"""A ruleset, one of its base chains and a packet go in; every way that the packet can take through that chain comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.path.answers import Unknown
from tcpwhy.path.iptables_look import Look
from tcpwhy.path.iptables_matches import test_rule
from tcpwhy.path.iptables_targets import ALL_BITS, WITHOUT_EFFECT, Effect, apply_target
from tcpwhy.path.iptables_values import masked
from tcpwhy.path.iptables_ways import DOES_NOT_MATCH, MATCHES, End, Outcome, Way, collapse, merge_ends, merge_ways, passages
from tcpwhy.path.packet import Packet
from tcpwhy.path.passage import MOST_WAYS, Passage, Surroundings, Verdict
from tcpwhy.path.trace import Doubt, Stage, Step
from tcpwhy.tables.iptables import Chain, Iptables, Rule
from tcpwhy.tables.iptables_options import is_target

MOST_TESTED = 200_000
"""Rules that are tested of one packet in one base chain."""

DEEPEST = 64
"""Chains inside each other; iptables-nft allows 16 (NFT_JUMP_STACK_SIZE), legacy as many as the ruleset has."""
JUMP_COSTS = 20
"""Rules that a jump counts as: chains that each jump twice to the next are walked more often than there are rules."""

MOST_MARKS = 8
"""Values that are tried for a mark that is not known."""


def run_iptables(ruleset: Iptables, table: str, hook_chain: str, packet: Packet, around: Surroundings) -> list[Passage]:
    """The ways of the packet through the base chain `hook_chain` of `table`, at most MOST_WAYS, at least one.

    Rules are tried in order; a jump comes back where its chain ends or at RETURN, a goto comes back to the chain before; where no rule of
    the base chain decides, its policy does (net/ipv4/netfilter/ip_tables.c ipt_do_table). Where a rule cannot be told, both ways are
    followed, each with a Doubt that names the rule and what is assumed. A table or base chain that the ruleset does not have accepts.
    Where nothing can be told any more (too many ways or rules, lost rules) the packet is accepted in one way and dropped in another.
    """
    walker = _Walker(ruleset, table, hook_chain, around)
    return walker.run(packet)


class _TooMuch(Exception):
    """The chain cannot be walked to its end; the argument says why."""


class _Walker:
    def __init__(self, ruleset: Iptables, table: str, hook_chain: str, around: Surroundings) -> None:
        self.ruleset = ruleset
        self.table = table
        self.base = f"{table} {hook_chain}"
        self.hook_chain = hook_chain
        self.around = around
        self.chains = ruleset.tables.get(table, {})
        self.tested = 0

    def run(self, packet: Packet) -> list[Passage]:
        start = Way(packet)
        chain = self.chains.get(self.hook_chain)
        if chain is None:
            lost = self.ruleset.lost.get(self.table) or self.ruleset.lost.get("")
            if lost:
                return passages(self._open_end(start, Doubt(self.ruleset.source, f"table {self.table}", lost, "")), self.base)
            return [Passage(Verdict("accept", chain=self.base), packet, (), ())]
        try:
            outcome = self._chain(chain, start, (self.hook_chain,))
            ends = [*outcome.ended, *(end for way in merge_ways([*outcome.on, *outcome.back]) for end in self._policy(chain, way))]
            if len(merge_ends(ends)) > MOST_WAYS:
                raise _TooMuch(f"the packet has more than {MOST_WAYS} ways through it")
        except _TooMuch as much:
            ends = self._open_end(start, Doubt(chain.source, f"chain {self.hook_chain} of table {self.table}", str(much), ""))
        return passages(ends, self.base)

    def _open_end(self, way: Way, doubt: Doubt) -> list[End]:
        """Both verdicts of a chain that cannot be told."""
        kinds: list[tuple[str, Verdict]] = [
            ("the packet is accepted", Verdict("accept", chain=self.base)),
            ("the packet is dropped", Verdict("drop", chain=self.base)),
        ]
        return [End(way.doubt(dataclasses.replace(doubt, assumed=assumed)), verdict) for assumed, verdict in kinds]

    def _policy(self, chain: Chain, way: Way) -> list[End]:
        rule = f":{chain.name} {chain.policy or '-'}"
        if chain.policy not in ("ACCEPT", "DROP"):
            return self._open_end(way, Doubt(chain.source, rule, "the policy of the chain is not known", ""))
        text = f"{self.base}: no rule decides, and the policy is {chain.policy}"
        step = Step(Stage.POLICY, self.around.hook, text, (chain.source,), rule, way.packet, way.packet)
        verdict = Verdict("accept" if chain.policy == "ACCEPT" else "drop", rule=rule, source=chain.source, chain=self.base)
        return [End(way.go(step), verdict)]

    def _chain(self, chain: Chain, entry: Way, path: tuple[str, ...]) -> Outcome:
        """All rules of a chain: `on` of the outcome came to its end, `back` left it by RETURN or goto."""
        live, outcome = [entry], Outcome()
        for rule in chain.rules:
            if not live:
                break
            if (rule.target in WITHOUT_EFFECT and rule.target not in self.chains) or (rule.target is None and not rule.unread):
                continue  # whether it matches changes nothing
            following: list[Way] = []
            for way in live:
                after = self._rule(rule, way, path)
                following += after.on
                outcome.back += after.back
                outcome.ended += after.ended
            live = merge_ways(following)
            if len(outcome.back) + len(outcome.ended) + len(live) > MOST_WAYS:
                self._thin(outcome)
                if len(outcome.back) + len(outcome.ended) + len(live) > MOST_WAYS:
                    raise _TooMuch(f"the packet has more than {MOST_WAYS} ways through it")
        if chain.lost and live:
            self._lost_tail(chain, live, outcome)
        else:
            outcome.on = live
        return outcome

    def _thin(self, outcome: Outcome) -> None:
        outcome.back = merge_ways(outcome.back)
        outcome.ended = [best for best, _ in merge_ends(outcome.ended)]

    def _lost_tail(self, chain: Chain, live: list[Way], outcome: Outcome) -> None:
        doubt = Doubt(chain.source, f"the end of chain {chain.name}", chain.lost, "")
        for way in live:
            outcome.on.append(way.doubt(dataclasses.replace(doubt, assumed="no rule that is missing decides")))
            outcome.ended += self._open_end(way, doubt)

    def _rule(self, rule: Rule, way: Way, path: tuple[str, ...]) -> Outcome:
        self.tested += 1 + len(rule.text) // 1000  # a line may be made as long as many rules
        if self.tested > MOST_TESTED:
            raise _TooMuch(f"more than {MOST_TESTED} rules would have to be tried")
        look = Look(way.packet, self.around, self.table, way.changed_sets)
        result = test_rule(rule, look, way.assumed)
        if result.answer is False:
            return Outcome([way])
        if result.answer is True:
            return self._act(rule, way, path)
        because = result.answer.because if isinstance(result.answer, Unknown) else ""
        doubt = Doubt(rule.source, rule.text, because, MATCHES)
        holds = {text: not negated for text, negated in result.unknown if text}
        fails = {text: negated for text, negated in result.unknown if text} if len(result.unknown) == 1 else {}
        outcome = self._act(rule, way.doubt(doubt, holds), path)
        outcome.on.append(way.doubt(dataclasses.replace(doubt, assumed=DOES_NOT_MATCH), fails))
        return collapse(way, outcome)

    def _act(self, rule: Rule, way: Way, path: tuple[str, ...]) -> Outcome:
        """A rule that matches."""
        target = rule.target
        if target is None:
            return self._unknown_effect(rule, way, rule.unread)
        if target == "RETURN":
            return Outcome(back=[way.go(self._step(rule, way.packet, way.packet, path, "returns to the chain before"))])
        if target in self.chains:
            return self._jump(rule, self.chains[target], way, path)
        if not is_target(target):
            return self._unknown_effect(rule, way, f"{target[:40]} is neither a chain nor a target that is known")
        effect = apply_target(rule, way.packet)
        if effect.unknown:
            return self._unknown_effect(rule, way, effect.unknown)
        if effect.is_mark_unknown:
            return self._marks(rule, way)
        return self._effect(rule, way, effect, path)

    def _effect(self, rule: Rule, way: Way, effect: Effect, path: tuple[str, ...]) -> Outcome:
        if effect.verdict is not None:
            verdict = dataclasses.replace(effect.verdict, rule=rule.text, source=rule.source, chain=self._named(path))
            ended = dataclasses.replace(way, packet=effect.packet).go(self._step(rule, way.packet, effect.packet, path, effect.text))
            return Outcome(ended=[End(ended, verdict)])
        if effect.changed_set:
            return Outcome([dataclasses.replace(way, changed_sets=way.changed_sets | {effect.changed_set})])
        if effect.packet == way.packet:
            return Outcome([way])
        after = dataclasses.replace(way, packet=effect.packet)
        return Outcome([after.go(self._step(rule, way.packet, effect.packet, path, effect.text))])

    def _jump(self, rule: Rule, chain: Chain, way: Way, path: tuple[str, ...]) -> Outcome:
        if chain.name in path:
            return self._unknown_effect(rule, way, "the chains jump in a circle, which the kernel refuses")
        if len(path) >= DEEPEST:
            return self._unknown_effect(rule, way, f"more than {DEEPEST} chains lie inside each other")
        self.tested += JUMP_COSTS
        word = "goes" if rule.is_goto else "jumps"
        entry = way.go(self._step(rule, way.packet, way.packet, path, f"{word} to chain {chain.name}"))
        inner = self._chain(chain, entry, (*path, chain.name))
        self._thin(inner)
        done = collapse(entry, Outcome(merge_ways([*inner.on, *inner.back]), [], inner.ended))
        return Outcome([], done.on, done.ended) if rule.is_goto else done

    def _unknown_effect(self, rule: Rule, way: Way, because: str) -> Outcome:
        """A rule that matches, of which it is not known what it does."""
        doubt = Doubt(rule.source, rule.text, because, "")
        return Outcome([way.doubt(dataclasses.replace(doubt, assumed="changes nothing"))], [], self._open_end(way, doubt))

    def _marks(self, rule: Rule, way: Way) -> Outcome:
        """The packet's mark becomes a value that is not in the evidence: each value that a rule asks for is tried, and 0."""
        doubt = Doubt(rule.source, rule.text, "the mark that it gives the packet is not in the evidence", "")
        ways = []
        for mark in self._known_marks():
            marked = dataclasses.replace(way, packet=dataclasses.replace(way.packet, mark=mark))
            ways.append(marked.doubt(dataclasses.replace(doubt, assumed=f"the mark is {mark:#x}")))
        return Outcome(ways)

    def _known_marks(self) -> list[int]:
        marks = {0: None}
        for rule in self.ruleset.rules:
            for option in rule.options:
                read = masked(option.values[0]) if option.name == "mark" and option.values else None
                if read is not None:
                    marks[read[0] & ALL_BITS] = None
            if len(marks) >= MOST_MARKS:
                break
        return list(marks)[:MOST_MARKS]

    def _named(self, path: tuple[str, ...]) -> str:
        return " > ".join((self.base, *path[1:]))

    def _step(self, rule: Rule, before: Packet, after: Packet, path: tuple[str, ...], text: str) -> Step:
        return Step(Stage.RULE, self.around.hook, f"{self._named(path)}: the rule {text}", (rule.source,), rule.text, before, after)
