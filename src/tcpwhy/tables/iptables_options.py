"""The name of an iptables match or target goes in; its options come out, each with its one spelling and the number of its values."""

from __future__ import annotations

from typing import NamedTuple

GREEDY = -1
"""The number of values of an option that takes what stands before the next option."""


class Form(NamedTuple):
    """How an option is written."""

    name: str
    """The spelling that the model uses; aliases lead to it."""
    values: int
    """How many values follow, or GREEDY."""


OWN = {
    **dict.fromkeys(("-s", "--source", "--src"), Form("source", 1)),
    **dict.fromkeys(("-d", "--destination", "--dst"), Form("destination", 1)),
    **dict.fromkeys(("-i", "--in-interface"), Form("in-interface", 1)),
    **dict.fromkeys(("-o", "--out-interface"), Form("out-interface", 1)),
    **dict.fromkeys(("-p", "--protocol", "--proto"), Form("protocol", 1)),
    **dict.fromkeys(("-f", "--fragment"), Form("fragment", 0)),
    **dict.fromkeys(("-4", "--ipv4"), Form("ipv4", 0)),
    **dict.fromkeys(("-6", "--ipv6"), Form("ipv6", 0)),
}
"""A rule's own options (iptables/xshared.c xt_cmd_parse_opts)."""

_MARK = "set-xmark:1 set-mark:1 and-mark:1 or-mark:1 xor-mark:1"
_SPORT = "sport:1 dport:1 source-port>sport:1 destination-port>dport:1"
_SRH = " ".join(f"srh-{field}-{test}:1" for field in ("hdr-len", "segs-left", "last-entry") for test in ("eq", "gt", "lt"))

_OPTIONS = {
    "addrtype": "src-type:1 dst-type:1 limit-iface-in limit-iface-out",
    "ah": "ahspi:1 ahlen:1 ahres",
    "bpf": "bytecode:1 object-pinned:1",
    "cgroup": "cgroup:1 path:1",
    "cluster": "cluster-total-nodes:1 cluster-local-node:1 cluster-local-nodemask:1 cluster-hash-seed:1",
    "comment": "comment:1",
    "condition": "condition:1",
    "connbytes": "connbytes:1 connbytes-dir:1 connbytes-mode:1",
    "connlabel": "label:1 set",
    "connlimit": "connlimit-upto:1 connlimit-above:1 connlimit-mask:1 connlimit-saddr connlimit-daddr",
    "connmark": "mark:1",
    "conntrack": (
        "ctstate:1 ctproto:1 ctorigsrc:1 ctorigdst:1 ctreplsrc:1 ctrepldst:1 ctstatus:1 ctexpire:1 ctorigsrcport:1 ctorigdstport:1 "
        "ctreplsrcport:1 ctrepldstport:1 ctdir:1"
    ),
    "cpu": "cpu:1",
    "dccp": f"{_SPORT} dccp-types:1 dccp-option:1",
    "devgroup": "src-group:1 dst-group:1",
    "dscp": "dscp:1 dscp-class:1",
    "dst": "dst-len:1 dst-opts:1",
    "ecn": "ecn-tcp-cwr ecn-tcp-ece ecn-ip-ect:1",
    "esp": "espspi:1",
    "eui64": "",
    "frag": "fragid:1 fraglen:1 fragres fragfirst fragmore fraglast",
    "geoip": "src-cc:1 dst-cc:1 source-country>src-cc:1 destination-country>dst-cc:1",
    "hashlimit": (
        "hashlimit-upto:1 hashlimit-above:1 hashlimit>hashlimit-upto:1 hashlimit-burst:1 hashlimit-mode:1 hashlimit-srcmask:1 "
        "hashlimit-dstmask:1 hashlimit-name:1 hashlimit-htable-size:1 hashlimit-htable-max:1 hashlimit-htable-gcinterval:1 "
        "hashlimit-htable-expire:1 hashlimit-rate-match hashlimit-rate-interval:1"
    ),
    "hbh": "hbh-len:1 hbh-opts:1",
    "helper": "helper:1",
    "hl": "hl-eq:1 hl-lt:1 hl-gt:1 hl>hl-eq:1",
    "icmp": "icmp-type:1",
    "icmp6": "icmpv6-type:1",
    "ipcomp": "ipcompspi:1 compres",
    "iprange": "src-range:1 dst-range:1",
    "ipv6header": "header:1 soft",
    "ipvs": "ipvs vproto:1 vaddr:1 vport:1 vdir:1 vmethod:1 vportctl:1",
    "length": "length:1",
    "limit": "limit:1 limit-burst:1",
    "mac": "mac-source:1",
    "mark": "mark:1",
    "mh": "mh-type:1",
    "multiport": "sports:1 dports:1 ports:1 source-ports>sports:1 destination-ports>dports:1",
    "nfacct": "nfacct-name:1",
    "osf": "genre:1 ttl:1 log:1",
    "owner": "uid-owner:1 gid-owner:1 socket-exists suppl-groups pid-owner:1 sid-owner:1 cmd-owner:1",
    "physdev": "physdev-in:1 physdev-out:1 physdev-is-in physdev-is-out physdev-is-bridged",
    "pkttype": "pkt-type:1",
    "policy": "dir:1 pol:1 strict reqid:1 spi:1 tunnel-src:1 tunnel-dst:1 proto:1 mode:1 next",
    "quota": "quota:1",
    "rateest": (
        "rateest:1 rateest1:1 rateest2:1 rateest-bps:* rateest-pps:* rateest-bps1:* rateest-pps1:* rateest-bps2:* rateest-pps2:* "
        "rateest-delta rateest-lt rateest-gt rateest-eq"
    ),
    "realm": "realm:1",
    "recent": "set rcheck update remove seconds:1 reap hitcount:1 rttl name:1 rsource rdest mask:1",
    "rpfilter": "loose validmark accept-local invert",
    "rt": "rt-type:1 rt-segsleft:1 rt-len:1 rt-0-res rt-0-addrs:1 rt-0-not-strict",
    "sctp": f"{_SPORT} chunk-types:2",
    "set": (
        "match-set:2 set>match-set:2 return-nomatch update-counters update-subcounters packets-eq:1 packets-lt:1 packets-gt:1 "
        "bytes-eq:1 bytes-lt:1 bytes-gt:1"
    ),
    "socket": "transparent nowildcard restore-skmark",
    "srh": f"srh-next-hdr:1 {_SRH} srh-tag:1 srh-psid:1 srh-nsid:1 srh-lsid:1",
    "state": "state:1",
    "statistic": "mode:1 probability:1 every:1 packet:1",
    "string": "from:1 to:1 algo:1 string:1 hex-string:1 icase",
    "tcp": f"{_SPORT} syn tcp-flags:2 tcp-option:1",
    "tcpmss": "mss:1",
    "time": "datestart:1 datestop:1 timestart:1 timestop:1 contiguous weekdays:1 monthdays:1 localtz utc kerneltz",
    "tos": "tos:1",
    "ttl": "ttl-eq:1 ttl-lt:1 ttl-gt:1 ttl>ttl-eq:1",
    "u32": "u32:1",
    "udp": _SPORT,
    "udplite": _SPORT,
    "ACCEPT": "",
    "AUDIT": "type:1",
    "CHECKSUM": "checksum-fill",
    "CLASSIFY": "set-class:1",
    "CLUSTERIP": "new hashmode:1 clustermac:1 total-nodes:1 local-node:1 hash-init:1",
    "CONNMARK": f"{_MARK} save-mark restore-mark left-shift-mark:1 right-shift-mark:1 ctmask:1 nfmask:1 mask:1",
    "CONNSECMARK": "save restore",
    "CT": "notrack helper:1 timeout:1 ctevents:1 expevents:1 zone:1 zone-orig:1 zone-reply:1",
    "DNAT": "to-destination:1 to-ports:1 random persistent random-fully",
    "DNPT": "src-pfx:1 dst-pfx:1",
    "DROP": "",
    "DSCP": "set-dscp:1 set-dscp-class:1",
    "ECN": "ecn-tcp-remove ecn-tcp-cwr:1 ecn-tcp-ece:1 ecn-ip-ect:1",
    "HL": "hl-set:1 hl-dec:1 hl-inc:1",
    "HMARK": (
        "hmark-tuple:1 hmark-src-prefix:1 hmark-dst-prefix:1 hmark-sport-mask:1 hmark-dport-mask:1 hmark-spi-mask:1 hmark-sport:1 "
        "hmark-dport:1 hmark-spi:1 hmark-proto-mask:1 hmark-rnd:1 hmark-mod:1 hmark-offset:1"
    ),
    "IDLETIMER": "timeout:1 label:1 alarm send_nl_msg",
    "LED": "led-trigger-id:1 led-delay:1 led-always-blink",
    "LOG": "log-level:1 log-prefix:1 log-tcp-sequence log-tcp-options log-ip-options log-uid log-macdecode",
    "MARK": _MARK,
    "MASQUERADE": "to-ports:1 random random-fully",
    "NETMAP": "to:1",
    "NFLOG": "nflog-group:1 nflog-prefix:1 nflog-range:1 nflog-size:1 nflog-threshold:1",
    "NFQUEUE": "queue-num:1 queue-balance:1 queue-bypass queue-cpu-fanout",
    "NOTRACK": "",
    "QUEUE": "",
    "RATEEST": "rateest-name:1 rateest-interval:1 rateest-ewmalog:1",
    "REDIRECT": "to-ports:1 random random-fully",
    "REJECT": "reject-with:1",
    "RETURN": "",
    "SECMARK": "selctx:1",
    "SET": "add-set:2 del-set:2 map-set:2 exist timeout:1 map-mark map-prio map-queue",
    "SNAT": "to-source:1 to-ports:1 random random-fully persistent",
    "SNPT": "src-pfx:1 dst-pfx:1",
    "SYNPROXY": "sack-perm timestamp wscale:1 mss:1 ecn",
    "TCPMSS": "set-mss:1 clamp-mss-to-pmtu",
    "TCPOPTSTRIP": "strip-options:1",
    "TEE": "gateway:1 oif:1",
    "TOS": "set-tos:1 and-tos:1 or-tos:1 xor-tos:1",
    "TPROXY": "on-port:1 on-ip:1 tproxy-mark:1",
    "TRACE": "",
    "TTL": "ttl-set:1 ttl-dec:1 ttl-inc:1",
    "ULOG": "ulog-nlgroup:1 ulog-prefix:1 ulog-cprange:1 ulog-qthreshold:1",
}
"""From the option tables of iptables 1.8's extensions/lib{xt,ipt,ip6t}_*.c; `geoip` and `condition` from xtables-addons."""


def _forms(text: str) -> dict[str, Form]:
    found: dict[str, Form] = {}
    for word in text.split():
        spelling, _, count = word.partition(":")
        alias, _, name = spelling.partition(">")
        found[alias] = Form(name or alias, GREEDY if count == "*" else int(count or 0))
    return found


EXTENSIONS = {name: _forms(text) for name, text in _OPTIONS.items()}
"""By the name of a match (lower case) or target (upper case), by the option's spelling without dashes."""

_BY_PROTOCOL = {
    "icmp": "icmp", "1": "icmp", "ipv6-icmp": "icmp6", "icmpv6": "icmp6", "58": "icmp6", "tcp": "tcp", "6": "tcp", "udp": "udp",
    "17": "udp", "udplite": "udplite", "136": "udplite", "sctp": "sctp", "132": "sctp", "dccp": "dccp", "33": "dccp", "esp": "esp",
    "50": "esp",
    "ah": "ah", "51": "ah", "ipcomp": "ipcomp", "108": "ipcomp", "mh": "mh", "ipv6-mh": "mh", "mobility-header": "mh", "135": "mh",
}  # fmt: skip
"""What -p loads by itself (libxtables/xtables.c xtables_find_match by protocol, iptables/xshared.c load_proto)."""


def match_of_protocol(protocol: str) -> str | None:
    """The match that `-p PROTOCOL` loads when one of its options is used without -m; None where there is none."""
    return _BY_PROTOCOL.get(protocol.lower())


def is_target(name: str) -> bool:
    """True for a target that iptables knows; anything else after -j is a user's chain, or unknown."""
    return name in EXTENSIONS and name.isupper()
