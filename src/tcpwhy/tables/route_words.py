"""One route as `ip route` prints it in text goes in; the same route in the form of `ip -j route` comes out, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tcpwhy.tables.ip_names import text_of

TYPES = frozenset(
    ("unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat", "xresolve", "none")
)
"""iproute2, lib/rt_names.c rtnl_rtntype_n2a()."""

FLAGS = frozenset(
    (
        *("dead", "onlink", "pervasive", "offload", "trap", "notify", "linkdown", "unresolved"),
        *("rt_offload", "rt_trap", "rt_offload_failed"),
    )
)
"""iproute2, ip/iproute.c print_rt_flags()."""

_METRICS = frozenset(
    (
        *("mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "features"),
        *("rto_min", "initrwnd", "quickack", "congctl", "congestion", "fastopen_no_cookie"),
    )
)
"""iproute2, ip/iproute.c mx_names."""

_FAMILIES = frozenset(("inet", "inet6", "mpls", "link", "bridge", "ipx", "dnet"))

_KEYS = {"proto": "protocol", "src": "prefsrc"} | {
    word: word
    for word in (
        *("from", "nhid", "tos", "dev", "table", "scope", "metric", "mark", "uid", "iif", "pref"),
        *("expires", "error", "users", "used", "age", "ipid", "ts", "tsage", "ttl-propogate"),
    )
}
"""Words of one value each → the key that JSON has for them, by iproute2, ip/iproute.c print_route()."""

_AFTER_ENCAPSULATION = frozenset(("via", "dev", "table", "proto", "scope", "metric", "weight"))

WORDS = frozenset((*_KEYS, *FLAGS, *_METRICS, "via", "as", "encap", "realm", "realms", "cache", "nexthop", "nh_info", "weight"))


def row_of_words(head: Sequence[str], more: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The words of a route's first line and of the lines that belong to it, as JSON would hold them.

    Words that are not understood stand under `unknown`, as a list.
    """
    words = list(head)
    row: dict[str, Any] = {}
    if words and words[0] == "Deleted":
        words.pop(0)
        row["deleted"] = True
    if words and words[0] in TYPES:
        row["type"] = words.pop(0)
    if words:
        row["dst"] = words.pop(0)
    _read(words, row)
    hops = []
    for line in more:
        if line[0] == "nexthop":
            hop: dict[str, Any] = {}
            _read(line[1:], hop)
            if "pref" in hop:  # iproute2 before 4.19 ends the last line with it
                row["pref"] = hop.pop("pref")
            hops.append(hop)
        elif line[0] == "nh_info":
            info: dict[str, Any] = {}
            _read(line[1:], info)
            row["nh_info"] = info
        else:
            _read(line, row)
    if hops:
        row["nexthops"] = hops
    return row


def _read(words: Sequence[str], row: dict[str, Any]) -> None:
    at = 0

    def take() -> str:
        nonlocal at
        at += 1
        return words[at - 1] if at <= len(words) else ""

    flags: list[str] = row.setdefault("flags", [])
    unknown: list[str] = []
    while at < len(words):
        word = take()
        if word in FLAGS:
            flags.append(word)
        elif word in _METRICS:
            _read_metric(word, take, words[at : at + 3], row)
        elif word in _KEYS:
            row[_KEYS[word]] = take()
        elif word == "via":
            host = take()
            if host in _FAMILIES:
                row["via"] = {"family": host, "host": take()}
            else:
                row["gateway"] = host
        elif word in ("weight", "id", "ttl", "group"):
            row[word] = take()
        elif word in ("realm", "realms"):
            row["flow"] = {"to": take()}
        elif word == "as":
            row["to"] = (take(), take())[1]
        elif word == "encap":
            row["encap"] = take()
            while at < len(words) and words[at] not in _AFTER_ENCAPSULATION:
                at += 1
        elif word == "cache":
            row["cache"] = words[at:]
            at = len(words)
        elif word == "blackhole":
            row["blackhole"] = None
        else:
            unknown.append(word)
    if unknown:
        row["unknown"] = [*row.get("unknown", ()), *unknown]


def _read_metric(word: str, take: Any, ahead: Sequence[str], row: dict[str, Any]) -> None:
    metrics = row.setdefault("metrics", [{}])[0]
    if ahead and ahead[0] == "lock":
        take()
        ahead = ahead[1:]
    if word == "features":
        while ahead and (ahead[0] in ("ecn", "tcp_usec_ts") or ahead[0].startswith("0x")):
            metrics[take()] = None
            ahead = ahead[1:]
        return
    metrics[word] = take()


def line_of_row(row: dict[str, Any]) -> str:
    """A route of `ip -j route` as `ip route show table all` writes it, its next hops in the same line.

    What JSON does not tell is not there: that a metric is locked, the parts of an encapsulation.
    """
    words = []
    if text_of(row.get("type")) not in ("", "unicast"):
        words.append(text_of(row.get("type")))
    words += [text_of(row.get("dst")), *_way(row)]
    if text_of(row.get("table")) not in ("", "main", "254"):
        words += ["table", text_of(row.get("table"))]
    if text_of(row.get("protocol")) not in ("", "boot"):
        words += ["proto", text_of(row.get("protocol"))]
    if text_of(row.get("scope")) not in ("", "global"):
        words += ["scope", text_of(row.get("scope"))]
    for key, word in (("prefsrc", "src"), ("metric", "metric")):
        if text_of(row.get(key)):
            words += [word, text_of(row.get(key))]
    words += flags_of(row)
    flow = row.get("flow")
    if isinstance(flow, dict):
        words += ["realm", text_of(flow.get("to"))]
    metrics = row.get("metrics")
    for metric in metrics if isinstance(metrics, list) else ():
        words += _metric_words(metric)
    if text_of(row.get("pref")):
        words += ["pref", text_of(row.get("pref"))]
    hops = row.get("nexthops")
    for hop in hops if isinstance(hops, list) else ():
        if isinstance(hop, dict):
            words += ["nexthop", *_way(hop), *(("weight", text_of(hop["weight"])) if text_of(hop.get("weight")) else ()), *flags_of(hop)]
    return " ".join(word for word in words if word)


def flags_of(row: dict[str, Any]) -> list[str]:
    """The flags of a route or next hop."""
    flags = row.get("flags")
    return [flag for flag in flags if isinstance(flag, str) and flag] if isinstance(flags, list) else []


def _way(row: dict[str, Any]) -> Iterator[str]:
    for key, word in (("from", "from"), ("nhid", "nhid"), ("to", "as to"), ("encap", "encap"), ("tos", "tos"), ("gateway", "via")):
        if text_of(row.get(key)) and not (key == "tos" and "encap" in row):
            yield from (word, text_of(row[key]))
    via = row.get("via")
    if isinstance(via, dict):
        yield from ("via", text_of(via.get("family")), text_of(via.get("host")))
    if text_of(row.get("dev")):
        yield from ("dev", text_of(row["dev"]))


def _metric_words(metric: Any) -> Iterator[str]:
    if not isinstance(metric, dict):
        return
    for key, value in metric.items():
        if key in ("ecn", "tcp_usec_ts"):
            yield from ("features", key)
        elif key in ("rtt", "rttvar", "rto_min") and isinstance(value, int) and abs(value) < 1 << 64:
            yield from (key, f"{value / 1000:g}s" if value >= 1000 else f"{value}ms")
        else:
            yield from ("congctl" if key == "congestion" else key, text_of(value))
