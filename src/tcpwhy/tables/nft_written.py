"""An nft rule in libnftables-json(5)'s form goes in; the rule as `nft list ruleset` would write it comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tcpwhy.tables.nft_words import PRECEDENCE, VERDICTS

LONGEST = 2000
"""Characters of a rule that are written; sets without a name can be long."""
DEEPEST = 60
_BARE = frozenset(("iif", "iifname", "iifgroup", "oif", "oifname", "oifgroup"))
"""Meta keys that nft writes without `meta` (src/meta.c meta_key_is_unqualified())."""


def write_rule(expressions: Sequence[Any], comment: str = "") -> str:
    """All statements of a rule; a statement of no known form stands as its JSON."""
    parts = []
    length = 0
    for statement in expressions:
        parts.append(write_statement(statement))
        length += len(parts[-1]) + 1
        if length > LONGEST:
            break
    if comment:
        parts.append(f'comment "{comment}"')
    text = " ".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def write_statement(statement: Any) -> str:
    """One statement."""
    if isinstance(statement, dict) and len(statement) == 1:
        kind, body = next(iter(statement.items()))
        writer = _STATEMENTS.get(kind)
        try:
            if writer is not None:
                return writer(kind, body)
            if kind in VERDICTS:
                return _verdict(kind, body)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, RecursionError):
            return _as_json(statement)
    if isinstance(statement, str):
        return " ".join(statement.split())[:LONGEST]
    return _as_json(statement)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, default=str)[:LONGEST]
    except (ValueError, RecursionError):
        return "…"


def write_expression(value: Any, depth: int = 0) -> str:
    """One expression. Raises KeyError, TypeError or ValueError where it has no known form."""
    if depth > DEEPEST:
        raise ValueError("too deep")
    if isinstance(value, bool):
        return "exists" if value else "missing"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list):
        return ",".join(write_expression(one, depth + 1) for one in value[:200])
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("no expression")
    kind, body = next(iter(value.items()))
    if kind in PRECEDENCE:
        return f" {kind} ".join(_operand(kind, body[0], one, number, depth) for number, one in enumerate(body))
    if kind in VERDICTS:
        return _verdict(kind, body)
    writer: Callable[[Any, int], str] = _EXPRESSIONS[kind]
    return writer(body, depth + 1)


def _operand(operator: str, first: Any, value: Any, number: int, depth: int) -> str:
    """One operand, in brackets where it would be read in another way without (src/expression.c binop_arg_print())."""
    if isinstance(value, list):
        return f"({' | '.join(write_expression(one, depth + 1) for one in value[:200])})"
    if number and operator in ("<<", ">>"):
        return write_expression(value, depth + 1)
    text = write_expression(styled(first, value), depth + 1)
    inner = PRECEDENCE.get(next(iter(value), "")) if isinstance(value, dict) else None
    is_loose = inner is not None and (inner < PRECEDENCE[operator] or (number > 0 and inner == PRECEDENCE[operator]))
    return f"({text})" if is_loose else text


def styled(left: Any, value: Any, depth: int = 0) -> Any:
    """The constants that something is compared with, as nft writes them for it: marks hexadecimal, names of interfaces in quotes."""
    if depth > DEEPEST:
        return value
    if isinstance(value, list):
        return [styled(left, one, depth + 1) for one in value[:201]]
    if isinstance(value, dict) and isinstance(left, dict):
        parts, constants = left.get("concat"), value.get("concat")
        if isinstance(parts, list) and isinstance(constants, list) and len(parts) == len(constants):
            return {"concat": [styled(part, one, depth + 1) for part, one in zip(parts, constants, strict=True)]}
        inner = ("set", "range", "prefix", "elem", "addr", "val", *PRECEDENCE)
        return {kind: styled(left, body, depth + 1) if kind in inner else body for kind, body in value.items()}
    kind = _kind_of(left)
    if kind == "mark" and isinstance(value, int) and not isinstance(value, bool):
        return f"{value:#010x}"
    if kind == "name" and isinstance(value, str) and not value.startswith("@"):
        return f'"{value}"'
    return value


def _kind_of(left: Any) -> str:
    """Whether something is a mark, or the name of an interface."""
    for _ in range(DEEPEST):
        operand = next((left[mark] for mark in PRECEDENCE if mark in left), None) if isinstance(left, dict) else None
        if not isinstance(operand, list) or not operand:
            break
        left = operand[0]
    if not isinstance(left, dict):
        return ""
    for kind in ("meta", "ct"):
        body = left.get(kind)
        key = body.get("key") if isinstance(body, dict) else None
        if key == "mark":
            return "mark"
        if kind == "meta" and key in ("iif", "oif", "iifname", "oifname", "ibrname", "obrname", "iifkind", "oifkind"):
            return "name"
    return "name" if isinstance(left.get("fib"), dict) and left["fib"].get("result") in ("oif", "oifname") else ""


def _verdict(kind: str, body: Any) -> str:
    if kind == "queue" and isinstance(body, dict):
        flags = f" flags {_flags(body['flags'])}" if "flags" in body else ""
        return f"queue{flags}" + (f" to {write_expression(body['num'])}" if "num" in body else "")
    return f"{kind} {body['target']}" if isinstance(body, dict) else kind


def _flags(value: Any) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, list) else str(value)


def _set(body: Any, depth: int) -> str:
    elements = body if isinstance(body, list) else [body]
    shown = [_element(one, depth) for one in elements[:200]]
    return "{ " + ", ".join(shown) + (", …" if len(elements) > 200 else "") + " }"


def _mapped(body: Any) -> str:
    """The elements of a map; of each pair the first is a key."""
    elements = body["data"].get("set") if isinstance(body["data"], dict) else None
    if not isinstance(elements, list):
        return write_expression(body["data"])
    pairs = [[styled(body["key"], one[0]), one[1]] if isinstance(one, list) and len(one) == 2 else one for one in elements[:201]]
    return write_expression({"set": pairs})


def _element(element: Any, depth: int) -> str:
    if isinstance(element, list) and len(element) == 2:
        return f"{write_expression(element[0], depth)} : {write_expression(element[1], depth)}"
    return write_expression(element, depth)


def _elem(body: Any, depth: int) -> str:
    text = write_expression(body["val"], depth)
    for key in ("timeout", "expires"):
        if key in body:
            text += f" {key} {body[key]}s"
    return text


def _payload(body: Any, _: int) -> str:
    if "base" in body:
        return f"@{body['base']},{body['offset']},{body['len']}"
    tunnel = f"{body['tunnel']} " if "tunnel" in body else ""
    return f"{tunnel}{body['protocol']} {body['field']}"


def _meta(body: Any, _: int) -> str:
    key = str(body["key"])
    return key if key in _BARE else f"meta {key}"


def _ct(body: Any, _: int) -> str:
    return f"ct {body['dir']} {body['key']}" if "dir" in body else f"ct {body['key']}"


def _named(kind: str) -> Callable[[Any, int], str]:
    def write(body: Any, _: int) -> str:
        if "base" in body:
            return f"{kind} @{body['base']},{body['offset']},{body['len']}"
        return f"{kind} {body['name']}" + (f" {body['field']}" if "field" in body else "")

    return write


def _exthdr(body: Any, _: int) -> str:
    return f"{body['name']} {body['field']}" if "field" in body else f"exthdr {body['name']}"


def _hash(kind: str) -> Callable[[Any, int], str]:
    def write(body: Any, depth: int) -> str:
        inside = f" {write_expression(body['expr'], depth)}" if "expr" in body else ""
        seed = f" seed {body['seed']:#x}" if "seed" in body else ""
        return f"{kind}{inside} mod {body['mod']}{seed}" + (f" offset {body['offset']}" if body.get("offset") else "")

    return write


def _numgen(body: Any, _: int) -> str:
    return f"numgen {body['mode']} mod {body['mod']}" + (f" offset {body['offset']}" if body.get("offset") else "")


def _ipsec(body: Any, _: int) -> str:
    family = f"{body['family']} " if "family" in body else ""
    return f"ipsec {body['dir']} spnum {body['spnum']} {family}{body['key']}"


_EXPRESSIONS: dict[str, Callable[[Any, int], str]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "set": _set,
    "elem": _elem,
    "concat": lambda body, depth: " . ".join(write_expression(one, depth) for one in body),
    "prefix": lambda body, depth: f"{write_expression(body['addr'], depth)}/{body['len']}",
    "range": lambda body, depth: f"{write_expression(body[0], depth)}-{write_expression(body[1], depth)}",
    "map": lambda body, depth: f"{write_expression(body['key'], depth)} map {_mapped(body)}",
    "fib": lambda body, _: f"fib {' . '.join(_flags(body['flags']).split(','))} {body['result']}",
    "socket": lambda body, _: f"socket {body['key']}" + (f" level {body['level']}" if "level" in body else ""),
    "rt": lambda body, _: f"rt {body['family']} {body['key']}" if "family" in body else f"rt {body['key']}",
    "osf": lambda body, _: f"osf ttl {body['ttl']} {body['key']}" if "ttl" in body else f"osf {body['key']}",
    "ipsec": _ipsec,
    "numgen": _numgen,
    "jhash": _hash("jhash"),
    "symhash": _hash("symhash"),
    "exthdr": _exthdr,
    "tcp option": _named("tcp option"),
    "ip option": _named("ip option"),
    "sctp chunk": _named("sctp chunk"),
}


def _match(_: str, body: Any) -> str:
    left, right, operator = write_expression(body["left"]), write_expression(styled(body["left"], body["right"])), body["op"]
    masked = body["left"].get("&") if isinstance(body["left"], dict) else None
    if isinstance(masked, list) and len(masked) == 2 and isinstance(masked[1], list) and operator in ("==", "!="):
        return f"{write_expression(masked[0])} {'!= ' if operator == '!=' else ''}{right} / {write_expression(masked[1])}"
    is_plain = masked is None
    return f"{left} {right}" if operator == "in" or (operator == "==" and is_plain) else f"{left} {operator} {right}"


def _counter(_: str, body: Any) -> str:
    if isinstance(body, dict) and "packets" in body:
        return f"counter packets {body['packets']} bytes {body['bytes']}"
    return "counter" if not body else f"counter name {_reference(body)}"


def _reference(body: Any) -> str:
    """The name of an object, or the map that gives it."""
    return f'"{body}"' if isinstance(body, str) else write_expression(body)


def _is_reference(body: Any) -> bool:
    return isinstance(body, str) or (isinstance(body, dict) and "map" in body)


def _nat(kind: str, body: Any) -> str:
    if body is None:
        return kind
    text = kind + (f" {body['family']}" if "family" in body else "") + (" prefix" if body.get("type_flags") == "prefix" else "")
    flags = _flags(body["flags"]) if "flags" in body and body["flags"] != "netmap" else ""
    return text + _destination(body) + (f" {flags}" if flags else "")


def _destination(body: Any) -> str:
    if "addr" not in body and "port" not in body:
        return ""
    address = write_expression(body["addr"]) if "addr" in body else ""
    if "port" in body:
        address = f"[{address}]" if address.count(":") > 1 and " " not in address else address
        return f" to {address}:{write_expression(body['port'])}"
    return f" to {address}"


def _tproxy(kind: str, body: Any) -> str:
    return kind + (f" {body['family']}" if "family" in body else "") + _destination(body)


def _reject(kind: str, body: Any) -> str:
    if not body or body.get("expr") == "port-unreachable":
        return kind
    return f"{kind} with {body['type']}" + (f" {write_expression(body['expr'])}" if "expr" in body else "")


def _log(kind: str, body: Any) -> str:
    text = kind
    for key, value in (body or {}).items():
        shown = f'"{value}"' if key == "prefix" else _flags(value)
        text += f" {key} {shown}"
    return text


def _limit(kind: str, body: Any) -> str:
    if _is_reference(body):
        return f"{kind} name {_reference(body)}"
    over = "over " if body.get("inv") else ""
    unit = f" {body['rate_unit']}" if "rate_unit" in body else ""
    burst = body.get("burst", 0)
    bursting = f" burst {burst} {body.get('burst_unit', 'packets')}" if burst and (burst != 5 or unit) else ""
    return f"{kind} rate {over}{body['rate']}{unit}/{body['per']}{bursting}"


def _quota(kind: str, body: Any) -> str:
    if _is_reference(body):
        return f"{kind} name {_reference(body)}"
    return f"{kind} {'over ' if body.get('inv') else ''}{body['val']} {body['val_unit']}"


def _dynamic(_: str, body: Any) -> str:
    statements = "".join(f" {write_statement(one)}" for one in body.get("stmt") or ())
    data = f" : {write_expression(body['data'])}" if "data" in body else ""
    return f"{body['op']} {body['set'] if 'set' in body else body['map']} {{ {write_expression(body['elem'])}{statements}{data} }}"


def _meter(kind: str, body: Any) -> str:
    name = f" {body['name']}" if "name" in body else ""
    size = f" size {body['size']}" if "size" in body else ""
    return f"{kind}{name}{size} {{ {write_expression(body['key'])} {write_statement(body['stmt'])} }}"


def _synproxy(kind: str, body: Any) -> str:
    if _is_reference(body):
        return f"{kind} name {_reference(body)}"
    parts = [f"{key} {body[key]}" for key in ("mss", "wscale") if key in body]
    return " ".join([kind, *parts, *body.get("flags", ())])


def _count(kind: str, body: Any) -> str:
    return f"{kind} {'over ' if body.get('inv') else ''}{body['val']}"


def _object(kind: str, body: Any) -> str:
    return f'{kind} set "{write_expression(body)}"'


def _duplicate(kind: str, body: Any) -> str:
    if not body:
        return kind
    device = f" device {write_expression(body['dev'])}" if "dev" in body else ""
    return f"{kind} to {write_expression(body['addr'])}{device}" if "addr" in body else f"{kind} to {write_expression(body['dev'])}"


_STATEMENTS: dict[str, Callable[[str, Any], str]] = {
    "match": _match,
    "vmap": lambda _, body: f"{write_expression(body['key'])} vmap {_mapped(body)}",
    "mangle": lambda _, body: f"{write_expression(body['key'])} set {write_expression(styled(body['key'], body['value']))}",
    "counter": _counter,
    **dict.fromkeys(("snat", "dnat", "masquerade", "redirect"), _nat),
    "tproxy": _tproxy,
    "synproxy": _synproxy,
    "reject": _reject,
    "log": _log,
    "limit": _limit,
    "quota": _quota,
    "set": _dynamic,
    "map": _dynamic,
    "meter": _meter,
    "ct count": _count,
    **dict.fromkeys(("ct helper", "ct timeout", "ct expectation", "secmark"), _object),
    "dup": _duplicate,
    "fwd": _duplicate,
    "flow": lambda kind, body: f"{kind} {body['op']} {body['flowtable']}",
    "notrack": lambda kind, _: kind,
    "reset": lambda kind, body: f"{kind} {write_expression(body)}",
    "xt": lambda kind, body: f"{kind} {body['type']} {body['name']}" if isinstance(body, dict) else kind,
}
