"""Rules that use every match and target that iptables can load go in; what the real programs write of them comes out."""

import functools
import os
import re
import shutil
import subprocess
from typing import Literal

Variant = Literal["nft", "legacy"]

_BOTH = r"""
filter -A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT
filter -A INPUT ! -i eth+ -p tcp -m tcp ! --sport 1024:65535 --dport 80 -j DROP
filter -A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP
filter -A INPUT -p tcp -m tcp --tcp-flags ALL NONE -j DROP
filter -A INPUT -p tcp -m tcp --tcp-option 8 -j ACCEPT
filter -A INPUT -p udp -m udp --sport 53 -m string --algo bm --string "a\" -j DROP \\ b" -j DROP
filter -A INPUT -p udp -m string --algo kmp --from 20 --to 200 --hex-string "|0d0a|GET |20|" --icase
filter -A INPUT -p tcp -m multiport --dports 80,443,8000:8100 -j USER
filter -A INPUT -p tcp -m multiport ! --sports 1,2 -g USER
filter -A INPUT -p udp -m multiport --ports 53,123
filter -A INPUT -p sctp -m sctp --dport 5060 --chunk-types any INIT,INIT_ACK
filter -A INPUT -p dccp -m dccp --sport 5 ! --dccp-types REQUEST,RESET
filter -A INPUT -p udplite -m udplite --dport 9
filter -A INPUT -p esp -m esp --espspi 500:600 -j ACCEPT
filter -A INPUT -p gre -j ACCEPT
filter -A INPUT ! -p tcp -j USER
filter -A INPUT -m comment --comment "he said \"no\" -j ACCEPT \\ 'x' $(id) ; ` -A OUTPUT" -j ACCEPT
filter -A INPUT -m comment --comment "" -m comment --comment plain-word
filter -A INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED --ctdir ORIGINAL -j USER
filter -A INPUT -m conntrack --ctstate DNAT,SNAT --ctproto 6 --ctorigsrcport 1000:2000 ! --ctrepldstport 80
filter -A INPUT -m conntrack --ctstatus SEEN_REPLY,ASSURED --ctexpire 10:20
filter -A INPUT -m state --state INVALID,UNTRACKED -j DROP
filter -A INPUT -m mark ! --mark 0x10/0xff0
filter -A INPUT -m connmark --mark 0x1
filter -A OUTPUT -m owner --uid-owner 1337 --gid-owner 5-10 -j ACCEPT
filter -A OUTPUT -m owner ! --uid-owner 0 ! --socket-exists
filter -A INPUT -m addrtype ! --src-type LOCAL --dst-type LOCAL --limit-iface-in -j ACCEPT
filter -A OUTPUT -m addrtype --dst-type BROADCAST,MULTICAST --limit-iface-out
filter -A INPUT -m limit --limit 5/min --limit-burst 10 -j LOG --log-prefix "in: \"x\" -j " --log-level 7 --log-tcp-options --log-uid
filter -A INPUT -m hashlimit --hashlimit-above 10/sec --hashlimit-burst 20 --hashlimit-mode srcip,dstport --hashlimit-name h1 -j DROP
filter -A INPUT -m hashlimit --hashlimit-upto 512kb/s --hashlimit-mode srcip --hashlimit-srcmask 24 --hashlimit-name h2
filter -A INPUT -m connlimit --connlimit-above 3 --connlimit-mask 24 --connlimit-daddr -j REJECT
filter -A INPUT -m recent --set --name bad --rsource
filter -A INPUT -m recent ! --update --seconds 60 --hitcount 4 --rttl --name bad --rdest
filter -A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT
filter -A INPUT -m statistic --mode nth --every 3 --packet 1 -j ACCEPT
filter -A INPUT -m mac ! --mac-source 00:11:22:33:44:55
filter -A FORWARD -m physdev --physdev-in veth0 ! --physdev-is-bridged
filter -A INPUT -m pkttype ! --pkt-type broadcast
filter -A INPUT -m length --length 100:200
filter -A INPUT -m length ! --length 1500
filter -A INPUT -m dscp --dscp-class EF
filter -A INPUT -m tos ! --tos 0x10/0x3f
filter -A INPUT -p tcp -m tcpmss --mss 1:536 -j DROP
filter -A INPUT -m time --timestart 08:00 --timestop 18:00 --weekdays Mon,Tue --kerneltz
filter -A INPUT -m u32 --u32 "0>>22&0x3C@4>>16&0xFF=1:5&&8=2"
filter -A INPUT -m quota --quota 1000000
filter -A INPUT -m cpu ! --cpu 1
filter -A INPUT -m devgroup --src-group 0x5
filter -A INPUT -m helper --helper ftp
filter -A INPUT -m connbytes --connbytes 1000:2000 --connbytes-dir both --connbytes-mode bytes
filter -A INPUT -m policy --dir in --pol ipsec --strict --reqid 1 --proto esp --mode tunnel --next --reqid 2
filter -A INPUT -m policy --dir in --pol none
filter -A INPUT -m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0" -j ACCEPT
filter -A INPUT -m cgroup ! --cgroup 5
filter -A INPUT -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 0xdeadbeef
filter -A INPUT -m socket --transparent --nowildcard
filter -A INPUT -p tcp -m ecn --ecn-tcp-cwr ! --ecn-tcp-ece
filter -A INPUT -p tcp -m osf --genre Linux --ttl 0 --log 1
filter -A INPUT -p tcp -j REJECT --reject-with tcp-reset
filter -A INPUT -j NFLOG --nflog-group 5 --nflog-prefix "-j x" --nflog-threshold 3
filter -A INPUT -j NFQUEUE --queue-balance 0:3 --queue-bypass --queue-cpu-fanout
filter -A INPUT -j AUDIT --type drop
filter -A INPUT -j RETURN
filter -A USER -j MARK --set-xmark 0x1/0xff
filter -A USER -m nfacct --nfacct-name http
mangle -A PREROUTING -m rpfilter --loose --validmark --accept-local --invert -j DROP
mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff00
mangle -A PREROUTING -j CONNMARK --set-xmark 0x5/0xf
mangle -A PREROUTING -j CONNMARK --save-mark
mangle -A PREROUTING -j MARK --or-mark 0x10
mangle -A PREROUTING -j DSCP --set-dscp 0x2e
mangle -A PREROUTING -j TOS --set-tos 0x10/0x3f
mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400
mangle -A FORWARD -p tcp -j TCPOPTSTRIP --strip-options 8,19
mangle -A POSTROUTING -j CHECKSUM --checksum-fill
mangle -A POSTROUTING -j CLASSIFY --set-class 1:10
mangle -A PREROUTING -j IDLETIMER --timeout 5 --label t1
mangle -A PREROUTING -j HMARK --hmark-tuple src,dst,sport --hmark-mod 10 --hmark-offset 5 --hmark-rnd 0x1
raw -A PREROUTING -j CT --notrack
raw -A OUTPUT -j CT --zone 5 --ctevents new,destroy
raw -A OUTPUT -j TRACE
nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-2048 --random
nat -A POSTROUTING -j MASQUERADE --random-fully
nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15001
"""

_FOUR = r"""
filter -A INPUT -s 10.0.0.0/8 ! -d 192.168.1.1 -j ACCEPT
filter -A INPUT -s 10.0.12.0/255.0.255.0 -j ACCEPT
filter -A INPUT ! -f -j ACCEPT
filter -A INPUT -p icmp -m icmp --icmp-type 3/4 -j ACCEPT
filter -A INPUT -p icmp -m icmp ! --icmp-type echo-request
filter -A INPUT -m ttl --ttl-lt 5
filter -A INPUT -m ttl ! --ttl-eq 64
filter -A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 ! --dst-range 10.1.0.0-10.1.0.5 -j ACCEPT
filter -A INPUT -m conntrack --ctorigdst 10.96.0.1/32 --ctorigdstport 443
filter -A INPUT -m realm --realm 0x10
filter -A INPUT -p ah -m ah --ahspi 5:6
filter -A INPUT -j REJECT --reject-with icmp-admin-prohibited
filter -A INPUT -p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
mangle -A PREROUTING -p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1
mangle -A PREROUTING -j TTL --ttl-dec 1
mangle -A PREROUTING -j TEE --gateway 10.0.0.2
mangle -A PREROUTING -p tcp -j ECN --ecn-tcp-remove
nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.5:8080-8090 --random --persistent
nat -A PREROUTING -p tcp -j DNAT --to-destination :8080
nat -A POSTROUTING -j SNAT --to-source 192.0.2.1 --random-fully --persistent
nat -A PREROUTING -j NETMAP --to 10.5.0.0/16
"""

_SIX = r"""
filter -A INPUT -s fd00::/8 ! -d 2001:db8::1 -j ACCEPT
filter -A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT
filter -A INPUT -p ipv6-icmp -m icmp6 ! --icmpv6-type 1/4
filter -A INPUT -m hl --hl-lt 5
filter -A INPUT -m iprange --src-range fd00::1-fd00::9
filter -A INPUT -m rt --rt-type 0 --rt-segsleft 1:5 -j DROP
filter -A INPUT -m frag --fragid 1:5 --fraglast
filter -A INPUT -m hbh --hbh-len 8 --hbh-opts 1:2,23:42
filter -A INPUT -m dst ! --dst-len 8
filter -A INPUT -m ipv6header --header hop-by-hop,auth --soft
filter -A INPUT -m eui64
filter -A INPUT -p mh -m mh --mh-type 1:3
filter -A INPUT -m srh --srh-next-hdr 6 ! --srh-segs-left-gt 3
filter -A INPUT -j REJECT --reject-with icmp6-adm-prohibited
mangle -A PREROUTING -j HL --hl-set 64
mangle -A PREROUTING -p tcp -j TPROXY --on-port 15001 --on-ip ::1 --tproxy-mark 0x1/0x1
nat -A PREROUTING -p tcp -j DNAT --to-destination [fd00::1]:8080
nat -A PREROUTING -j NETMAP --to fd00:1::/64
mangle -A PREROUTING -j DNPT --src-pfx fd00::/64 --dst-pfx fd01::/64
"""


@functools.cache
def written_by(variant: Variant, family: Literal[4, 6]) -> tuple[str, dict[str, str]] | None:
    """`iptables-save -c` and `iptables -nvL` by table, after all rules that this kernel takes; None where the program cannot run."""
    tool = "iptables" if family == 4 else "ip6tables"
    if os.geteuid() != 0 or shutil.which(f"{tool}-{variant}") is None or shutil.which("unshare") is None:
        return None
    rules = [line.split(" ", 1) for line in (_BOTH + (_FOUR if family == 4 else _SIX)).splitlines() if line]
    script = [f"{tool}-{variant} -N USER || exit 3"]
    script += [f"{tool}-{variant} -w -t {table} {_in_shell(rule)}" for table, rule in rules]
    script += [f"{tool}-{variant}-save -c"]
    for table in ("raw", "mangle", "nat", "filter"):
        script += [f"echo '## {table}'", f"{tool}-{variant} -t {table} -nvL"]
    done = subprocess.run(["unshare", "--net", "sh", "-c", "\n".join(script)], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 3 or "COMMIT" not in done.stdout:
        return None
    save, *listings = re.split(r"^## (\w+)\n", done.stdout, flags=re.MULTILINE)
    return save, dict(zip(listings[::2], listings[1::2], strict=True))


def _in_shell(rule: str) -> str:
    """The shell takes double quotes as iptables-restore does, but for `$` and backquotes."""
    return rule.replace("$", "\\$").replace("`", "\\`")
