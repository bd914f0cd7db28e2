"""A rule that matches and a packet go in; what its target makes of the packet comes out."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Literal

from tcpwhy.path.iptables_matches_wire import DSCP_CLASSES
from tcpwhy.path.iptables_nat import KINDS, nat_of
from tcpwhy.path.iptables_values import masked, number
from tcpwhy.path.packet import Packet
from tcpwhy.path.passage import Verdict
from tcpwhy.tables.iptables_ruleset import Rule

WITHOUT_EFFECT = frozenset({
    "AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "ECN", "IDLETIMER", "LED", "LOG", "NFLOG", "RATEEST", "SECMARK", "TCPMSS",
    "TCPOPTSTRIP", "TEE", "TRACE", "ULOG",
})  # fmt: skip
"""Targets that change nothing by which a packet's way is decided, and go on with the next rule (each returns XT_CONTINUE)."""

ALL_BITS = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """What a target does."""

    packet: Packet
    """After it."""
    text: str
    """What it does, to stand behind `the rule`; empty where it does nothing to this packet."""
    verdict: Verdict | None = None
    """None where the next rule follows."""
    changed_set: str = ""
    """The ipset that it changes."""
    unknown: str = ""
    """Why what it does cannot be told."""
    is_mark_unknown: bool = False
    """It sets the packet's mark to a value that is not in the evidence."""


def apply_target(rule: Rule, packet: Packet) -> Effect:
    """The effect of any target but jumps and RETURN; the verdict has neither rule nor chain yet."""
    target = rule.target or ""
    if target in ("ACCEPT", "DROP"):
        kind: Literal["accept", "drop"] = "accept" if target == "ACCEPT" else "drop"
        return Effect(packet, f"{kind}s it", Verdict(kind))
    if target in KINDS:
        nat = nat_of(rule, packet)
        return _unknown(packet, nat) if isinstance(nat, str) else Effect(packet, "translates its address", Verdict("nat", nat=nat))
    apply = _TARGETS.get(target)
    return apply(rule, packet) if apply is not None else _unknown(packet, f"what the target {target[:40]} does is not known")


def _unknown(packet: Packet, because: str) -> Effect:
    return Effect(packet, "", unknown=because)


def _value(rule: Rule, *names: str) -> str | None:
    return next((one.values[0] for one in rule.target_options if one.name in names and one.values), None)


def _has(rule: Rule, name: str) -> bool:
    return any(one.name == name for one in rule.target_options)


def _reject(rule: Rule, packet: Packet) -> Effect:
    default = "icmp-port-unreachable" if packet.version == 4 else "icmp6-port-unreachable"  # libipt_REJECT.c, libip6t_REJECT.c
    answer = _value(rule, "reject-with") or default
    return Effect(packet, f"rejects it with {answer}", Verdict("reject", reject_with=answer))


def _queue(rule: Rule, packet: Packet) -> Effect:
    queue = _value(rule, "queue-num", "queue-balance") or "0"
    return Effect(packet, f"hands it to the program at queue {queue}", Verdict("queue"))


def changed_mark(rule: Rule, mark: int | None) -> int | Literal["unknown"] | None:
    """A mark after --set-xmark, --set-mark, --and-mark, --or-mark or --xor-mark (xt_mark.c, xt_connmark.c).

    A mark that is not known stays so unless all its bits are set anew; "unknown" where the option is not understood.
    """
    for option in rule.target_options:
        if option.name not in ("set-xmark", "set-mark", "and-mark", "or-mark", "xor-mark"):
            continue
        read = masked(option.values[0]) if option.values else None
        if read is None:
            return "unknown"
        value, mask = read
        if option.name == "and-mark":
            clear, flip = ~value, 0
        elif option.name == "or-mark":
            clear, flip = value, value
        elif option.name == "xor-mark":
            clear, flip = 0, value
        elif option.name == "set-mark":
            clear, flip = mask | value, value
        else:
            clear, flip = mask, value
        clear &= ALL_BITS
        if mark is None:
            return flip & ALL_BITS if clear == ALL_BITS else None
        return ((mark & ~clear) ^ flip) & ALL_BITS
    return "unknown"


def _mark(rule: Rule, packet: Packet) -> Effect:
    mark = changed_mark(rule, packet.mark)
    if not isinstance(mark, int):
        return _unknown(packet, "the mark that it sets is not understood")
    return Effect(dataclasses.replace(packet, mark=mark), f"sets its mark to {mark:#x}")


def _connmark(rule: Rule, packet: Packet) -> Effect:
    """xt_connmark.c connmark_tg_shift: nothing without a conntrack entry."""
    if not packet.ct_is_tracked or packet.ct_state in ("INVALID", "UNTRACKED"):
        return Effect(packet, "")
    if _has(rule, "left-shift-mark") or _has(rule, "right-shift-mark"):
        if _has(rule, "restore-mark"):
            return Effect(packet, "", is_mark_unknown=True)
        return Effect(dataclasses.replace(packet, ct_mark=None), "shifts the connection's mark")
    both = _value(rule, "mask")
    nf_mask, ct_mask = (number(_value(rule, name) or both or "0xffffffff") for name in ("nfmask", "ctmask"))
    if nf_mask is None or ct_mask is None:
        return _unknown(packet, "its masks are not understood")
    if _has(rule, "save-mark"):
        old = 0 if ct_mask == ALL_BITS else packet.ct_mark
        saved = None if old is None else ((old & ~ct_mask) ^ (packet.mark & nf_mask)) & ALL_BITS
        return Effect(dataclasses.replace(packet, ct_mark=saved), "saves its mark as the connection's")
    if _has(rule, "restore-mark"):
        if packet.ct_mark is None:
            return Effect(packet, "", is_mark_unknown=True)
        mark = ((packet.mark & ~nf_mask) ^ (packet.ct_mark & ct_mask)) & ALL_BITS
        return Effect(dataclasses.replace(packet, mark=mark), f"restores the connection's mark {mark:#x}")
    mark_after = changed_mark(rule, packet.ct_mark)
    if mark_after == "unknown":
        return _unknown(packet, "the mark that it sets is not understood")
    return Effect(dataclasses.replace(packet, ct_mark=mark_after), "sets the connection's mark")


def _notrack(_rule: Rule, packet: Packet) -> Effect:
    """xt_CT.c notrack_tg: nothing where the packet has an entry already."""
    if packet.ct_state is not None:
        return Effect(packet, "")
    return Effect(dataclasses.replace(packet, ct_is_tracked=False, ct_state="UNTRACKED"), "keeps conntrack from tracking it")


def _ct(rule: Rule, packet: Packet) -> Effect:
    """Zones, helpers, events and timeouts do not change how the rules that follow see the packet."""
    return _notrack(rule, packet) if _has(rule, "notrack") else Effect(packet, "")


def _hops(rule: Rule, packet: Packet) -> Effect:
    """xt_HL.c: stays between 0 and 255."""
    for option in rule.target_options:
        change = number(option.values[0]) if option.values else None
        if change is None:
            return _unknown(packet, "the TTL that it sets is not understood")
        if option.name.endswith("-set"):
            ttl: int | None = change
        elif packet.ttl is None:
            ttl = None
        else:
            ttl = packet.ttl + change if option.name.endswith("-inc") else packet.ttl - change
        ttl = None if ttl is None else min(max(ttl, 0), 255)
        return Effect(dataclasses.replace(packet, ttl=ttl), "changes its TTL")
    return _unknown(packet, "the TTL that it sets is not understood")


def _dscp(rule: Rule, packet: Packet) -> Effect:
    name = _value(rule, "set-dscp-class")
    dscp = DSCP_CLASSES.get(name.lower()) if name is not None else number(_value(rule, "set-dscp") or "")
    if dscp is None:
        return _unknown(packet, "the DSCP that it sets is not understood")
    return Effect(dataclasses.replace(packet, dscp=dscp & 63), f"sets its DSCP to {dscp & 63:#x}")


def _tos(rule: Rule, packet: Packet) -> Effect:
    """xt_DSCP.c tos_tg: (tos & ~mask) ^ value."""
    for option in rule.target_options:
        read = masked(option.values[0], 8) if option.values else None
        if read is None:
            break
        value, mask = read
        clear, flip = {"and-tos": (~value, 0), "or-tos": (value, value), "xor-tos": (0, value)}.get(option.name, (mask, value))
        tos = ((packet.dscp << 2) & ~clear ^ flip) & 0xFF
        return Effect(dataclasses.replace(packet, dscp=tos >> 2), f"sets its DSCP to {tos >> 2:#x}")
    return _unknown(packet, "the TOS that it sets is not understood")


def _tproxy(rule: Rule, packet: Packet) -> Effect:
    """xt_TPROXY.c tproxy_tg4: without --on-port its own port, without --on-ip the interface's address; the mark is set with the socket."""
    port, mark = number(_value(rule, "on-port") or "0"), masked(_value(rule, "tproxy-mark") or "0/0")
    text = _value(rule, "on-ip")
    try:
        address = ipaddress.ip_address(text) if text is not None else None
    except ValueError:
        port, address = None, None
    if port is None or mark is None:
        return _unknown(packet, "the socket that it names is not understood")
    value, mask = mark
    after = dataclasses.replace(packet, mark=((packet.mark & ~mask) ^ value) & ALL_BITS)
    address = None if address is None or address.is_unspecified else address
    return Effect(after, "hands it to a transparent proxy", Verdict("tproxy", port=port or packet.destination_port, address=address))


def _set(rule: Rule, packet: Packet) -> Effect:
    for option in rule.target_options:
        if option.name in ("add-set", "del-set") and option.values:
            return Effect(packet, "", changed_set=option.values[0])
    return Effect(packet, "", is_mark_unknown=_has(rule, "map-mark"))


def _synproxy(_rule: Rule, packet: Packet) -> Effect:
    """ipt_SYNPROXY.c synproxy_tg4: answers the client's SYN itself and keeps its ACK; other segments go on."""
    flags = packet.flags
    if flags is None:
        return _unknown(packet, "the packet's TCP flags are not known")
    if "R" in flags or "F" in flags or not ({"S", "A"} & set(flags)):
        return Effect(packet, "")
    return Effect(packet, "keeps it and answers in the server's place (SYNPROXY)", Verdict("stolen"))


def _mark_by_hash(_rule: Rule, packet: Packet) -> Effect:
    """xt_HMARK.c: the mark hangs on a hash with a seed."""
    return Effect(packet, "", is_mark_unknown=True)


_TARGETS = {
    "CONNMARK": _connmark,
    "CT": _ct,
    "DSCP": _dscp,
    "HL": _hops,
    "HMARK": _mark_by_hash,
    "MARK": _mark,
    "NFQUEUE": _queue,
    "NOTRACK": _notrack,
    "QUEUE": _queue,
    "REJECT": _reject,
    "SET": _set,
    "SYNPROXY": _synproxy,
    "TOS": _tos,
    "TPROXY": _tproxy,
    "TTL": _hops,
}
