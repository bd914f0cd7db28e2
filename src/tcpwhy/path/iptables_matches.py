"""A rule and a packet go in; whether the rule matches comes out: yes, no, or that it cannot be told and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from tcpwhy.path import iptables_matches_state, iptables_matches_wire
from tcpwhy.path.answers import Answer, Unknown, any_of, negate
from tcpwhy.path.iptables_look import Look, is_in_network
from tcpwhy.tables.iptables_ruleset import Option, Rule
from tcpwhy.tables.protocols import protocol_number

Match = Callable[[tuple[Option, ...], Look], Answer]


def _found_matches() -> Mapping[str, Match]:
    """Every function `match_NAME` of the modules that hold matches."""
    return {
        name.removeprefix("match_"): cast(Match, function)
        for module in (iptables_matches_state, iptables_matches_wire)
        for name, function in vars(module).items()
        if name.startswith("match_")
    }


MATCHES = _found_matches()
"""By the name after -m."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What the parts of a rule say together."""

    answer: Answer
    unknown: tuple[tuple[str, bool], ...] = ()
    """Of an answer that is unknown: each part that is, as text without `!`, and whether it stood under one. Parts that hang on chance are
    left out, since they may answer differently at the next rule."""


def test_rule(rule: Rule, look: Look, assumed: Mapping[str, bool]) -> Result:
    """Whether the rule matches.

    `assumed` holds what this way of the walk already takes for true of parts that cannot be told, by the text of `Result.unknown`: the same
    question is answered the same way again. A rule that is `unread` still does not match where a part that is understood says no.
    """
    first: Unknown | None = None
    unknown: list[tuple[str, bool]] = []
    for text, negated, answer in _parts(rule, look):
        if isinstance(answer, Unknown) and text in assumed:
            answer = assumed[text] != negated
        if answer is False:
            return Result(False)
        if isinstance(answer, Unknown):
            first = first or answer
            unknown.append(("" if answer.is_chance else text, negated))
    if rule.unread:
        first = first or Unknown(rule.unread)
        unknown.append(("", False))
    return Result(True) if first is None else Result(first, tuple(unknown))


def _parts(rule: Rule, look: Look) -> Iterator[tuple[str, bool, Answer]]:
    groups: dict[int, list[Option]] = {}
    for option in rule.options:
        if option.match < 0:
            yield f"{option.name} {' '.join(option.values)}", option.negated, negate(_own(option, look), option.negated)
        else:
            groups.setdefault(option.match, []).append(option)
    for place, name in enumerate(rule.matches):
        options = tuple(groups.get(place, ()))
        test = MATCHES.get(name)
        answer: Answer = test(options, look) if test is not None else Unknown(f"what -m {name[:40]} looks at is not in the evidence")
        single = len(options) == 1 and options[0].negated
        shown = [f"{'! ' if one.negated and not single else ''}{one.name} {' '.join(one.values)}" for one in options]
        yield f"{name} {' '.join(shown)}", single, answer


def _own(option: Option, look: Look) -> Answer:
    """The rule's own test, without its `!` (net/ipv4/netfilter/ip_tables.c ip_packet_match)."""
    packet = look.packet
    value = option.values[0] if option.values else ""
    if option.name in ("source", "destination"):
        address = packet.source if option.name == "source" else packet.destination
        return any_of(is_in_network(address, part) for part in value.split(",", 64))
    if option.name in ("in-interface", "out-interface"):
        name = packet.in_interface if option.name == "in-interface" else packet.out_interface
        if option.name == "out-interface" and not name and look.hook in ("FORWARD", "OUTPUT", "POSTROUTING"):
            return Unknown("the interface by which the packet leaves is not known")
        return name.startswith(value[:-1]) if value.endswith("+") else name == value
    if option.name == "protocol":
        wanted = protocol_number(value)
        if wanted is None:
            return value.lower() == "all" or Unknown(f"the protocol `{value[:40]}` is not known")
        return wanted in (0, look.protocol)
    if option.name == "fragment":
        return False  # the packets that are walked are whole
    if option.name in ("ipv4", "ipv6"):
        return packet.version == int(option.name[-1])
    return Unknown(f"the option `{option.name[:40]}` is not known")
