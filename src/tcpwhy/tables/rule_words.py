"""One rule as `ip rule` prints it in text goes in; the same rule in the form of `ip -j rule` comes out, and the other way round."""

from __future__ import annotations

from typing import Any

from tcpwhy.tables.ip_names import text_of

_VALUES = {
    "tos": "tos", "ipproto": "ipproto", "suppress_prefixlength": "suppress_prefixlen", "suppress_ifgroup": "suppress_ifgroup",
    "proto": "protocol", "protocol": "protocol", "goto": "goto", "dscp": "dscp", "flowlabel": "flowlabel", "tun_id": "tun_id",
    "map-to": "nat_gateway", "realms": "flow_to",
}  # fmt: skip
"""Words of one value each → the key that JSON has for them, by iproute2, ip/iprule.c print_rule()."""

_AFTER_PORTS = (
    ("tun_id", "tun_id"),
    ("table", "lookup"),
    ("suppress_prefixlen", "suppress_prefixlength"),
    ("suppress_ifgroup", "suppress_ifgroup"),
    ("flow_to", "realms"),
    ("nat_gateway", "map-to"),
    ("goto", "goto"),
)

ACTIONS = frozenset(("blackhole", "unreachable", "prohibit"))


def row_of_line(line: str) -> dict[str, Any] | None:
    """A line such as `100: not from 10.0.0.0/8 fwmark 0x1/0xff lookup 200`; None where it is no rule.

    Words that are not understood stand under `unknown`, as a list.
    """
    words = line.split()
    if words and words[0] == "Deleted":
        words.pop(0)
    if not words or not words[0].endswith(":") or not words[0][:-1].isdecimal():
        return None
    row: dict[str, Any] = {"priority": words[0][:-1]}
    unknown: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word in ("from", "to"):
            address, slash, length = next(rest, "").partition("/")
            row["src" if word == "from" else "dst"] = address
            if slash:
                row["srclen" if word == "from" else "dstlen"] = length
        elif word in ("fwmark", "iif", "oif", "lookup", "table", "uidrange", "sport", "dport"):
            _read_pair(word, next(rest, ""), row)
        elif word in _VALUES:
            row[_VALUES[word]] = next(rest, "").removesuffix("unresolved")  # `goto 999unresolved` of iproute2 4.17 to 5.0
        elif word in ACTIONS:
            row["action"] = word
        elif word in ("not", "nop", "masquerade"):
            row[word] = None
        elif word.startswith("/") and text_of(row.get("dst")) and "dstlen" not in row:
            row["dstlen"] = word[1:]  # `to 10.2.0.0 /16` of iproute2 4.17 to 5.0
        elif word not in ("[detached]", "[unresolved]"):
            unknown.append(word)
    if unknown:
        row["unknown"] = unknown
    return row


def _read_pair(word: str, value: str, row: dict[str, Any]) -> None:
    if word in ("lookup", "table"):
        if value == "[l3mdev-table]":
            row["l3mdev"] = None
        else:
            row["table"] = value
    elif word == "fwmark":
        row["fwmark"], slash, mask = value.partition("/")
        if slash:
            row["fwmask"] = mask
    elif word == "uidrange":
        row["uid_start"], _, row["uid_end"] = value.partition("-")
    elif word in ("sport", "dport"):
        first, slash, mask = value.partition("/")
        start, dash, end = first.partition("-")
        if dash:
            row[f"{word}_start"], row[f"{word}_end"] = start, end
        else:
            row[word] = start
        if slash:
            row[f"{word}_mask"] = mask
    else:
        row[word] = value


def line_of_rule(row: dict[str, Any]) -> str:
    """A rule of `ip -j rule` as `ip rule` writes it."""
    words = [f"{text_of(row.get('priority'))}:"]
    if "not" in row:
        words.append("not")
    for key, word in (("src", "from"), ("dst", "to")):
        if text_of(row.get(key)):
            words += [word, _joined(row, key, f"{key}len", "/")]
    if text_of(row.get("tos")):
        words += ["tos", text_of(row.get("tos"))]
    if text_of(row.get("fwmark")):
        words += ["fwmark", _joined(row, "fwmark", "fwmask", "/")]
    for key in ("iif", "oif"):
        if text_of(row.get(key)):
            words += [key, text_of(row[key]), *(["[detached]"] if f"{key}_detached" in row else [])]
    if "l3mdev" in row:
        words += ["lookup", "[l3mdev-table]"]
    if "uid_start" in row:
        words += ["uidrange", _joined(row, "uid_start", "uid_end", "-")]
    if text_of(row.get("ipproto")):
        words += ["ipproto", text_of(row["ipproto"])]
    for key in ("sport", "dport"):
        if f"{key}_start" in row:
            words += [key, _joined(row, f"{key}_start", f"{key}_end", "-")]
        elif text_of(row.get(key)):
            words += [key, _joined(row, key, f"{key}_mask", "/")]
    for key, word in _AFTER_PORTS:
        if text_of(row.get(key)):
            words += [word, text_of(row[key])]
    words += [word for key, word in (("unresolved", "[unresolved]"), ("nop", "nop"), ("masquerade", "masquerade")) if key in row]
    words.append(text_of(row.get("action") or row.get("to_tbl")))
    if text_of(row.get("protocol")) not in ("", "kernel", "unspec"):
        words += ["proto", text_of(row["protocol"])]
    for key in ("dscp", "flowlabel"):
        if text_of(row.get(key)):
            words += [key, _joined(row, key, f"{key}_mask", "/")]
    return " ".join(word for word in words if word)


def _joined(row: dict[str, Any], first: str, second: str, sign: str) -> str:
    start, end = text_of(row.get(first)), text_of(row.get(second))
    return f"{start}{sign}{end}" if end else start
