"""Rulesets go into the nft of this machine, in a network namespace of their own; what it lists of them comes out, as JSON and as text."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess

import pytest

TABLE = """
table inet web {
  comment "of the tests"
  counter seen { packets 3 bytes 180 }
  quota month { over 10 mbytes }
  limit slow { rate 10/second burst 7 packets }
  ct helper ftp { type "ftp" protocol tcp; l3proto ip; }
  ct timeout short { protocol tcp; l3proto ip; policy = { established : 120, close : 20 }; }
  synproxy guard { mss 1460; wscale 7; timestamp sack-perm; }
  set nets { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.5 comment "x y", 198.51.100.9 } }
  set banned { type ipv4_addr; flags timeout; elements = { 203.0.113.1 timeout 1h comment "ssh", 203.0.113.9 } }
  set ports { type inet_service; elements = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 } }
  map verdicts {
    type ipv4_addr . inet_service : verdict; flags interval; counter
    elements = { 10.0.0.1 . 80-90 : jump other, * : accept }
  }
  map backends { type inet_service : ipv4_addr . inet_service; elements = { 80 : 10.0.0.1 . 8080, 81 : 10.0.0.2 . 8081 } }
  chain other { comment "only jumped to"; }
  chain pre { type nat hook prerouting priority dstnat + 5; policy drop; }
  chain post { type nat hook postrouting priority srcnat; }
  chain in { type filter hook input priority -150; }
  chain early { type filter hook prerouting priority raw - 10; }
}
table ip plain {
  chain out { type route hook output priority mangle; }
}
table ip6 six {
  chain in { type filter hook input priority security; policy drop; }
}
table netdev dev {
  chain in { type filter hook ingress device "lo" priority filter; }
}
table inet asleep {
  flags dormant;
  chain in { type filter hook input priority 0; }
}
"""

RULES = {
    "inet web other": ('counter comment "a rule"', "tcp dport 22 counter accept", "return"),
    "inet web pre": (
        "dnat ip to tcp dport map @backends",
        "meta l4proto tcp dnat ip to 10.0.0.1-10.0.0.9:80-90 random,persistent",
        "meta l4proto tcp dnat ip6 to [fe80::1]:80",
        "dnat ip6 to ::99",
        "dnat ip prefix to ip daddr map { 10.0.0.0/24 : 192.168.0.0/24 }",
        "meta l4proto tcp redirect to :15001",
        "tcp dport 81 redirect to :tcp dport map { 81 : 8081 }",
    ),
    "inet web post": ("oifname eth0 masquerade random", "snat ip to 10.0.0.3", "ip saddr 10.1.0.0/16 snat ip to 10.0.0.4-10.0.0.6"),
    "inet web early": ("notrack", "meta l4proto tcp tproxy ip to 127.0.0.1:9000 meta mark set 1 accept"),
    "inet web in": (
        "ct state ! established,related drop",
        "ct state != established,related drop",
        "ct state established,related accept",
        "ct state vmap { established : accept, related : accept, invalid : drop }",
        "tcp flags syn / fin,syn,rst,ack counter",
        "tcp flags & (fin|syn) == fin|syn counter",
        "tcp flags != syn accept",
        "tcp flags syn,ack accept",
        "tcp flags { syn, syn|ack } accept",
        "meter slow_ones { ip saddr limit rate 3/second } counter",
        "ct count over 5 drop",
        "meta mark set ct mark & 0xff",
        "meta mark set mark and 0xffffff00 or 0x12",
        "ct mark set meta mark",
        "meta mark set jhash ip saddr . tcp sport mod 4 seed 0xdeadbeef offset 3",
        "numgen inc mod 2 vmap { 0 : accept, 1 : jump other }",
        "ip saddr . tcp dport vmap @verdicts",
        'ip saddr @nets counter name seen quota name "month" limit name "slow"',
        "tcp dport != @ports drop",
        "ip6 saddr fe80::/10 ip6 nexthdr tcp drop",
        'iifname { "eth*", "lo" } accept',
        "iif lo accept",
        'meta skuid 0-100 log prefix "a b: " level info flags all',
        "fib daddr . iif type { local, broadcast } accept",
        "fib saddr . iif oif missing drop",
        "socket transparent 1 accept",
        "icmp type { echo-request, echo-reply } accept",
        "icmpv6 type nd-neighbor-solicit accept",
        "meta l4proto { tcp, udp } th dport { 53, 100-200 } counter",
        "@nh,64,8 & 0xf0 == 0x40 accept",
        "ip dscp set cs3 ip ttl set 64",
        "ip daddr set 10.0.0.1",
        "ct original ip saddr 10.0.0.0/8 accept",
        "ct direction reply ct status dnat,snat accept",
        "ct expiration 1m7s accept",
        "ip frag-off & 0x1fff != 0 drop",
        "exthdr frag exists drop",
        "tcp option sack-perm exists accept",
        "ip protocol vmap { tcp : jump other, udp : drop }",
        "synproxy mss 1460 wscale 7 timestamp sack-perm",
        'ct helper set "ftp"',
        "update @banned { ip saddr timeout 30s }",
        'iifname . ip saddr { "lo" . 10.1.0.0/24, "e" . 10.2.0.2 } drop',
        "limit rate over 400 kbytes/second burst 5 mbytes drop",
        "quota until 25 mbytes accept",
        "dup to 10.0.0.9 device lo",
        "reject with icmpx admin-prohibited",
        "reject with icmp host-unreachable",
        "reject with tcp reset",
        "reject",
    ),
    "ip plain out": ("tcp dport 80 meta mark set 0x1", "ip daddr 10.0.0.0/8 accept", "reject"),
    "ip6 six in": ("tcp dport { 80, 443 } accept", "ip6 daddr fd00::1-fd00::9 drop", "icmpv6 type != echo-request reject"),
    "netdev dev in": ("ip saddr 10.9.0.0/16 drop", "ether saddr 00:11:22:33:44:55 accept"),
    "inet asleep in": ("drop",),
}
"""By chain. Rules that this nft or this kernel does not take are left out."""

COMMANDS = ("nft -j list ruleset", "nft list ruleset", "nft -a list ruleset")
IPTABLES = """
iptables -A INPUT -p tcp --dport 80 -j ACCEPT
iptables -A INPUT -p tcp -m multiport --dports 80,443 -m conntrack --ctstate NEW -j ACCEPT
iptables -t nat -A OUTPUT -p tcp -m owner ! --uid-owner 1337 -j REDIRECT --to-ports 15001
ip6tables -A INPUT -p tcp --dport 80 -j DROP
"""
BY_HAND = """
table ip filter { chain INPUT { type filter hook input priority 0; policy drop; tcp dport { 22, 80 } counter accept
 }
}
"""
BY_HAND_TOLD = """
table ip nat { chain PREROUTING { type nat hook prerouting priority dstnat; ct state new counter accept
 }
}
"""


def run(script: str) -> str:
    """What a shell script prints that runs as root of a namespace without interfaces; skips the test where that cannot be."""
    if shutil.which("nft") is None or shutil.which("unshare") is None:
        pytest.skip("nft or unshare is missing")
    for how in ("-n", "-rn"):
        done = subprocess.run(["unshare", how, "sh", "-c", script], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
    pytest.skip("no network namespace with nft can be made here")


@functools.cache
def listings() -> dict[str, str]:
    """What each of COMMANDS prints of the ruleset."""
    return _listed(TABLE, RULES)


def _listed(table: str, rules: dict[str, tuple[str, ...]]) -> dict[str, str]:
    adding = "\n".join(f"nft -f - <<'END' 2>/dev/null\nadd rule {chain} {rule}\nEND" for chain, of in rules.items() for rule in of)
    mark = "----- 7f2a "
    listing = "\n".join(f"echo '{mark}{command}'; {command} 2>/dev/null" for command in COMMANDS)
    parts = run(f"ip link set lo up\nnft -f - <<'END' || exit 3\n{table}\nEND\n{adding}\n{listing}\n").split(mark)[1:]
    return {command: part.split("\n", 1)[1] for command, part in zip(COMMANDS, parts, strict=True)}


@functools.cache
def accepted_rules() -> int:
    """How many of RULES this machine took."""
    return sum("rule" in one for one in json.loads(listings()[COMMANDS[0]])["nftables"])
