"""The names of nft's expressions: which word begins one, which fields a header has, which of them hold flags."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BARE_META = _names(
    "mark iif iifname iiftype oif oifname oiftype skuid skgid nftrace rtclassid ibriport obriport ibrname obrname ibridgename obridgename "
    "pkttype cpu iifgroup oifgroup cgroup iifkind oifkind"
)
"""Meta keys that may stand without `meta` (src/parser_bison.y meta_key_unqualified)."""

PROTOCOLS = _names("ether vlan arp ip icmp igmp ip6 icmpv6 ah esp comp udp udplite tcp dccp sctp th gre gretap vxlan geneve")
"""Headers that have fields (src/proto.c)."""

TUNNELS = frozenset(("gre", "gretap", "vxlan", "geneve"))
"""Headers that may be followed by a header inside (nft 1.0.7 and later, nft(8) TUNNEL EXPRESSIONS)."""

EXTENSION_HEADERS = _names("hbh rt rt0 rt2 rt4 frag dst mh srh")
"""IPv6 extension headers (src/exthdr.c exthdr_protocols)."""

ROUTE_KEYS = frozenset(("classid", "nexthop", "mtu", "ipsec"))
"""Of `rt`, which is also the name of the routing header (src/rt.c)."""

FIB_RESULTS = frozenset(("oif", "oifname", "type", "check"))

CT_KEYS_WITHOUT_VALUE = frozenset(("helper", "timeout", "expectation"))
"""`ct helper set "name"` refers to an object; JSON has `{"ct helper": "name"}` (src/statement.c objref_stmt_print())."""

BITMASKS = frozenset({("payload", "tcp", "flags"), ("ct", "state"), ("ct", "status"), ("ct", "event"), ("ct", "label")})
"""What holds flags: a value without an operator means `one of these is set` (src/evaluate.c expr_evaluate_relational(), OP_IMPLICIT)."""

OPERATORS = ("==", "!=", "<", ">", "<=", ">=", "!", "eq", "ne", "lt", "gt", "le", "ge")
SPELLED = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "gt": ">",
    "le": "<=",
    "ge": ">=",
    "and": "&",
    "or": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
}
"""Older spellings → those of JSON (src/scanner.l)."""

PRECEDENCE = {"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4}
"""src/expression.c expr_binop_precedence."""

VERDICTS = frozenset(("accept", "drop", "continue", "return", "break", "jump", "goto", "queue"))

PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100, "out": 100}
"""nft(8), table of standard priority names; src/rule.c std_prios. `out` is of the bridge family."""

BRIDGE_PRIORITIES = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
"""src/rule.c bridge_std_prios."""

TABLE_FLAGS = frozenset(("dormant", "owner", "persist"))
"""src/mnl.c and src/rule.c table_flags_name."""

STATEMENTS = VERDICTS | frozenset(
    (
        "match",
        "vmap",
        "mangle",
        "counter",
        "quota",
        "limit",
        "last",
        "fwd",
        "notrack",
        "dup",
        "snat",
        "dnat",
        "masquerade",
        "redirect",
        "reject",
        "set",
        "map",
        "log",
        "ct helper",
        "ct timeout",
        "ct expectation",
        "ct count",
        "secmark",
        "meter",
        "tproxy",
        "synproxy",
        "flow",
        "reset",
    )
)
"""Statements that are known, by their names in JSON (libnftables-json(5), src/json.c); `xt` is not among them, its inside is not shown."""

SETS = ("set", "map")
OBJECTS = frozenset(
    ("counter", "quota", "limit", "ct helper", "ct timeout", "ct expectation", "synproxy", "secmark", "flowtable", "tunnel", "element")
)
"""What a ruleset holds beside tables, chains, rules, sets and maps."""
