"""One statement of an nft rule and a packet go in; what the statement can do to the packet comes out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tcpwhy.path import nft_types as types
from tcpwhy.path.nft_look import Look
from tcpwhy.path.nft_matches import match
from tcpwhy.path.nft_nat import addresses_of, choices, hand_to_proxy, translate
from tcpwhy.path.nft_outcomes import ActionKind, Outcome, anything, either
from tcpwhy.path.nft_sets import MOST_CANDIDATES, elements_of, look_up
from tcpwhy.path.nft_types import Span, span_of
from tcpwhy.path.nft_values import Absent, Number, Unknown, Value
from tcpwhy.path.packet import Packet
from tcpwhy.tables.nft import Nft

_HARMLESS_TARGETS = frozenset(
    ("LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "CHECKSUM", "TCPMSS", "TCPOPTSTRIP", "CLASSIFY", "IDLETIMER", "LED", "RATEEST", "SET", "TEE")
)
"""Targets of iptables that let a packet go on as it is, as far as a walk looks at it (iptables-extensions(8))."""
_WITHOUT_EFFECT = frozenset(
    ("counter", "log", "dup", "flow", "ct helper", "ct timeout", "ct expectation", "secmark", "reset", "last", "continue")
)
_MOST_MARKS = 16

_IPV4_CODES = {
    0: "icmp-net-unreachable", 1: "icmp-host-unreachable", 2: "icmp-proto-unreachable", 3: "icmp-port-unreachable",
    9: "icmp-net-prohibited", 10: "icmp-host-prohibited", 13: "icmp-admin-prohibited",
}  # fmt: skip
_IPV6_CODES = {
    0: "icmp6-no-route", 1: "icmp6-adm-prohibited", 3: "icmp6-addr-unreachable", 4: "icmp6-port-unreachable", 5: "icmp6-policy-fail",
    6: "icmp6-reject-route",
}  # fmt: skip
"""iptables-extensions(8) REJECT."""
_ICMPX_TO_IPV4 = {0: 0, 1: 3, 2: 1, 3: 13}
_ICMPX_TO_IPV6 = {0: 0, 1: 4, 2: 3, 3: 1}
"""net/netfilter/nft_reject.c icmp_code_v4[], icmp_code_v6[]."""


class Setting(NamedTuple):
    """Where a rule is evaluated."""

    nft: Nft
    look: Look


def outcomes_of(setting: Setting, statement: dict[str, Any], packet: Packet, unread: str) -> list[Outcome]:
    """What a statement can do; `unread`: why the rule is not understood as a whole."""
    kind, body = next(iter(statement.items()), ("", None))
    do = _STATEMENTS.get(kind)
    if do is not None:
        return do(setting, kind, body, packet)
    if kind in _WITHOUT_EFFECT:
        return [Outcome(packet)]
    if kind == "xt":
        return _extension(body, packet, unread)
    return anything(packet, unread or f"`{kind}` is no known statement")


def _extension(body: Any, packet: Packet, unread: str) -> list[Outcome]:
    """What iptables-nft wrote, of which nft's JSON shows the name alone."""
    body = body if isinstance(body, dict) else {}
    because = unread or "an extension of iptables stands in it"
    if body.get("type") == "match":
        return either(packet, because)
    if body.get("type") == "watcher" or body.get("name") in _HARMLESS_TARGETS:
        return [Outcome(packet)]
    if body.get("name") == "REJECT":
        return [Outcome(packet, "reject", "rejects the packet")]
    return anything(packet, because)


def _match(setting: Setting, _: str, body: Any, packet: Packet) -> list[Outcome]:
    answer = match(setting.nft, setting.look, body, packet)
    if answer.matches is None:
        return either(packet, answer.because)
    return [Outcome(packet, "go" if answer.matches else "leave")]


def _verdict(_: Setting, kind: str, body: Any, packet: Packet) -> list[Outcome]:
    found = verdict_outcome(kind, body, packet)
    return [found] if found is not None else anything(packet, "its verdict is not understood")


def verdict_outcome(kind: str, body: Any, packet: Packet) -> Outcome | None:
    """A verdict, of a rule or of an element of a map."""
    if kind in ("jump", "goto"):
        target = body.get("target") if isinstance(body, dict) else None
        way = "jumps to" if kind == "jump" else "goes to"
        return Outcome(packet, "jump" if kind == "jump" else "goto", f"{way} {target}", target) if isinstance(target, str) else None
    kinds: dict[str, tuple[ActionKind, str]] = {
        "accept": ("accept", "accepts the packet"),
        "drop": ("drop", "drops the packet"),
        "queue": ("queue", "queues the packet for a program"),
        "return": ("return", "returns"),
        "continue": ("leave", ""),
        "break": ("leave", ""),
    }
    found = kinds.get(kind)
    return Outcome(packet, *found) if found is not None else None


def _verdict_map(setting: Setting, _: str, body: Any, packet: Packet) -> list[Outcome]:
    """Without an element for the packet the rule is left."""
    if not isinstance(body, dict):
        return anything(packet, "the map has no known form")
    key = setting.look.at(body.get("key"), packet)
    if isinstance(key, Absent):
        return [Outcome(packet, "leave")]
    found = look_up(elements_of(setting.nft, setting.look.chain, body.get("data")), key)
    if found.certain is not None:
        return (
            [_of_element(found.certain.data, packet)] if _is_verdict(found.certain.data) else anything(packet, "the map is not understood")
        )
    distinct = {json.dumps(one.data, sort_keys=True, default=str): one for one in found.possible[: MOST_CANDIDATES * 16]}
    if len(distinct) > MOST_CANDIDATES or not all(_is_verdict(one.data) for one in distinct.values()):
        return anything(packet, "the map has too many elements that may be meant")
    if not distinct:
        return anything(packet, found.because) if found.may_miss else [Outcome(packet, "leave")]
    given = []
    for one in distinct.values():
        outcome = _of_element(one.data, packet)
        given.append(outcome._replace(assumed=outcome.text or "goes on to the next rule", because=found.because))
    if found.may_miss:
        given.append(Outcome(packet, "leave", assumed="is not in the map", because=found.because))
    return given if len(given) > 1 else [given[0]._replace(assumed="", because="")]


def _is_verdict(data: Any) -> bool:
    return isinstance(data, dict) and len(data) == 1


def _of_element(data: dict[str, Any], packet: Packet) -> Outcome:
    kind, body = next(iter(data.items()))
    return verdict_outcome(kind, body, packet) or Outcome(packet, "leave")


def _limit(_: Setting, kind: str, __: Any, packet: Packet) -> list[Outcome]:
    return either(packet, f"a {kind} depends on the packets before")


def _dynamic(_: Setting, __: str, body: Any, packet: Packet) -> list[Outcome]:
    """`add @set { … }` goes on, unless a limit that is bound to the element says otherwise (net/netfilter/nft_dynset.c)."""
    statements = body.get("stmt") if isinstance(body, dict) else None
    for statement in statements if isinstance(statements, list) else [statements]:
        if isinstance(statement, dict) and next(iter(statement), "") in ("limit", "quota", "ct count"):
            return either(packet, "a limit depends on the packets before")
    return [Outcome(packet)]


def _meter(_: Setting, __: str, body: Any, packet: Packet) -> list[Outcome]:
    statement = body.get("stmt") if isinstance(body, dict) else None
    return _dynamic(_, __, {"stmt": [statement]}, packet)


def _mangle(setting: Setting, _: str, body: Any, packet: Packet) -> list[Outcome]:
    key = body.get("key") if isinstance(body, dict) else None
    if not isinstance(key, dict) or len(key) != 1:
        return anything(packet, "what it changes is not understood")
    kind, inner = next(iter(key.items()))
    inner = inner if isinstance(inner, dict) else {}
    if kind == "meta" and inner.get("key") == "mark":
        return _new_mark(setting, body.get("value"), packet, "mark")
    if kind == "ct" and inner.get("key") == "mark":
        return _new_mark(setting, body.get("value"), packet, "ct_mark")
    if kind == "payload":
        return _rewrite(setting, inner, body.get("value"), packet)
    return [Outcome(packet)]


def _values(setting: Setting, expression: Any, packet: Packet, like: types.Type) -> list[tuple[Value | None, Outcome]]:
    """Each value that an expression can have, with what is assumed; None where a map has none, so that the rule is left."""
    if isinstance(expression, dict) and "map" in expression:
        given = choices(setting.nft, setting.look, expression, packet, like)
        found: list[tuple[Value | None, Outcome]] = []
        for choice in given:
            outcome = Outcome(packet, assumed=choice.assumed, because=choice.because)
            found.append((setting.look.at(choice.value, packet, like) if choice.found else None, outcome))
        return found
    value = setting.look.at(expression, packet, like)
    if isinstance(value, Absent):
        return [(None, Outcome(packet))]
    if isinstance(value, Unknown) and value.among is not None and value.among.last - value.among.first < _MOST_MARKS:
        numbers = range(value.among.first, value.among.last + 1)
        return [(Number(one, like), Outcome(packet, assumed=f"gives {one}", because=value.because)) for one in numbers]
    return [(value, Outcome(packet))]


def _new_mark(setting: Setting, expression: Any, packet: Packet, field: str) -> list[Outcome]:
    """Of the packet, or of its connection, which must be there (net/netfilter/nft_ct.c nft_ct_set_eval())."""
    given = _values(setting, expression, packet, types.MARK)
    if not given:
        return anything(packet, "the mark that it sets is not known")
    found = []
    for value, outcome in given:
        if value is None:
            found.append(outcome._replace(kind="leave"))
        elif isinstance(value, Number) and not value.unsure:
            found.append(_marked(outcome, packet, field, value.value))
        elif field == "ct_mark":
            found.append(outcome._replace(packet=dataclasses.replace(packet, ct_mark=None)))
        else:
            because = value.because if isinstance(value, Unknown) else "part of the mark that it sets is not known"
            found += _either_mark(packet, value, because)
    return found


def _marked(outcome: Outcome, packet: Packet, field: str, mark: int) -> Outcome:
    mark &= 0xFFFFFFFF
    if field == "mark":
        return outcome._replace(packet=dataclasses.replace(packet, mark=mark), text=f"sets the packet's mark to {mark:#x}")
    if packet.ct_state in ("INVALID", "UNTRACKED"):
        return outcome
    return outcome._replace(packet=dataclasses.replace(packet, ct_mark=mark), text=f"sets the connection's mark to {mark:#x}")


def _either_mark(packet: Packet, value: Value, because: str) -> list[Outcome]:
    """A mark that is not known is followed as the packet's own and with all unknown bits zero and one."""
    marks = {packet.mark: f"leaves the mark {packet.mark:#x}"}
    for mark in (value.smallest, value.largest) if isinstance(value, Number) else (0, 0xFFFFFFFF):
        marks.setdefault(mark & 0xFFFFFFFF, f"sets the mark to {mark & 0xFFFFFFFF:#x}")
    return [
        Outcome(dataclasses.replace(packet, mark=mark), text=f"sets the packet's mark to {mark:#x}", assumed=assumed, because=because)
        for mark, assumed in marks.items()
    ]


_FIELDS = {
    "saddr": "source",
    "daddr": "destination",
    "ttl": "ttl",
    "hoplimit": "ttl",
    "dscp": "dscp",
    "sport": "source_port",
    "dport": "destination_port",
}


def _rewrite(setting: Setting, header: dict[str, Any], expression: Any, packet: Packet) -> list[Outcome]:
    """`ip daddr set …` and its like change a packet behind conntrack's back (net/netfilter/nft_payload.c nft_payload_set_eval())."""
    place = setting.look.at({"payload": header}, packet)
    if isinstance(place, Absent):
        return [Outcome(packet, "leave")]
    field = _FIELDS.get(str(header.get("field")))
    if field is None:
        return [Outcome(packet)]
    like = place.type if isinstance(place, Number) else types.NUMBER
    given = _values(setting, expression, packet, like)
    found = []
    for value, outcome in given:
        if value is None:
            found.append(outcome._replace(kind="leave"))
            continue
        changed = _replaced(packet, field, value)
        if changed is None:
            return anything(packet, f"the {field.replace('_', ' ')} that it sets is not known")
        found.append(outcome._replace(packet=changed, text=f"sets {header.get('protocol')} {header.get('field')}"))
    return found or anything(packet, f"the {field.replace('_', ' ')} that it sets is not known")


def _replaced(packet: Packet, field: str, value: Value) -> Packet | None:
    if not isinstance(value, Number) or value.unsure:
        return None
    if field not in ("source", "destination"):
        limit = {"ttl": 255, "dscp": 63}.get(field, 65535)
        return dataclasses.replace(packet, **{field: value.value}) if 0 <= value.value <= limit else None  # type: ignore[arg-type]
    pair = addresses_of(Span(value.value, value.value), packet.version)
    if pair is None:
        return None
    return dataclasses.replace(packet, source=pair[0]) if field == "source" else dataclasses.replace(packet, destination=pair[0])


def _notrack(_: Setting, __: str, ___: Any, packet: Packet) -> list[Outcome]:
    """A packet that is tracked already stays so (net/netfilter/nft_ct.c nft_notrack_eval())."""
    if packet.ct_state not in (None, "INVALID"):
        return [Outcome(packet)]
    untracked = dataclasses.replace(packet, ct_state="UNTRACKED", ct_is_tracked=False)
    return [Outcome(untracked, text="keeps conntrack from looking at the packet")]


def _reject(setting: Setting, _: str, body: Any, packet: Packet) -> list[Outcome]:
    """A reset answers TCP alone, each kind of ICMP its own family: nft adds these conditions (src/evaluate.c stmt_evaluate_reject())."""
    body = body if isinstance(body, dict) else {}
    family = setting.look.chain.family
    kind = body.get("type") or {"ip": "icmp", "ip6": "icmpv6"}.get(family, "icmpx")
    if kind == "tcp reset":
        if packet.protocol != "tcp":
            return [Outcome(packet, "leave")]
        return [Outcome(packet, "reject", "rejects the packet with a TCP reset", reject_with="tcp-reset")]
    if (kind == "icmp" and packet.version != 4) or (kind == "icmpv6" and packet.version != 6):
        return [Outcome(packet, "leave")]
    names = {"icmp": types.ICMP_CODE, "icmpv6": types.ICMPV6_CODE}.get(kind, types.Type("icmpx_code", 8, types.ICMPX_CODES))
    span = span_of(body.get("expr", "port-unreachable"), names)
    code = span.first if span is not None else None
    if kind == "icmpx" and code is not None:
        code = (_ICMPX_TO_IPV4 if packet.version == 4 else _ICMPX_TO_IPV6).get(code)
    word = (_IPV4_CODES if packet.version == 4 else _IPV6_CODES).get(code, "") if code is not None else ""
    return [Outcome(packet, "reject", f"rejects the packet with {word}" if word else "rejects the packet", reject_with=word)]


def _nat(setting: Setting, kind: str, body: Any, packet: Packet) -> list[Outcome]:
    return translate(setting.nft, setting.look, kind, body, packet)


def _tproxy(setting: Setting, _: str, body: Any, packet: Packet) -> list[Outcome]:
    return hand_to_proxy(setting.nft, setting.look, body, packet)


def _forward(_: Setting, __: str, ___: Any, packet: Packet) -> list[Outcome]:
    return [Outcome(packet, "stolen", "sends the packet out by another interface")]


def _synproxy(_: Setting, __: str, ___: Any, packet: Packet) -> list[Outcome]:
    """The kernel answers a SYN itself, and takes the ACK that follows (net/netfilter/nft_synproxy.c nft_synproxy_do_eval())."""
    if packet.protocol != "tcp":
        return [Outcome(packet, "leave")]
    taken = Outcome(packet, "stolen", "answers in the server's place (SYN proxy)")
    if packet.flags is None:
        because = "the flags of the packet are not known"
        return [
            taken._replace(assumed="is a SYN or the ACK that follows", because=because),
            Outcome(packet, assumed="is neither", because=because),
        ]
    flags = set(packet.flags) - {"E", "W", "P", "U"}
    return [taken] if flags in ({"S"}, {"A"}) else [Outcome(packet)]


_STATEMENTS: dict[str, Callable[[Setting, str, Any, Packet], list[Outcome]]] = {
    "match": _match,
    "vmap": _verdict_map,
    **dict.fromkeys(("accept", "drop", "queue", "return", "jump", "goto", "break"), _verdict),
    **dict.fromkeys(("limit", "quota", "ct count"), _limit),
    "set": _dynamic,
    "map": _dynamic,
    "meter": _meter,
    "mangle": _mangle,
    "notrack": _notrack,
    "reject": _reject,
    **dict.fromkeys(("snat", "dnat", "masquerade", "redirect"), _nat),
    "tproxy": _tproxy,
    "fwd": _forward,
    "synproxy": _synproxy,
}
