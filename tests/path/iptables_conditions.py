"""Conditions of rules go in; whether the kernel finds that a SYN on lo meets them comes out, from the counters of rules that it passes."""

import functools
import os
import re
import shutil
import subprocess
from typing import Literal

CONDITIONS = r"""
-s 127.0.0.0/8
! -s 127.0.0.1/32
-s 127.0.0.2/32
! -d 10.0.0.0/8
-d 127.0.0.2/255.0.0.255
-p tcp
! -p tcp
-p udp
! -p udp
-p tcp -m tcp --sport 5555
-p tcp -m tcp ! --sport 5555
-p tcp -m tcp --dport 7000:8000
-p tcp -m tcp --dport 7778:
-p tcp -m tcp --syn
-p tcp -m tcp ! --syn
-p tcp -m tcp --tcp-flags ALL SYN
-p tcp -m tcp --tcp-flags SYN,ACK ACK
-p tcp -m tcp ! --tcp-flags RST,FIN RST
-p tcp -m tcp --tcp-flags RST,FIN NONE
-p tcp -m multiport --dports 1,7777
-p tcp -m multiport ! --dports 1,2
-p tcp -m multiport --sports 5000:6000
-p tcp -m multiport --ports 5555
-p tcp -m multiport ! --ports 7777,9
-m conntrack --ctstate NEW
-m conntrack ! --ctstate NEW,RELATED
-m conntrack --ctstate ESTABLISHED,INVALID,UNTRACKED
-m conntrack --ctstate DNAT
-m conntrack ! --ctstate SNAT,DNAT
-m conntrack --ctdir ORIGINAL
-m conntrack --ctdir REPLY
-m conntrack --ctproto 6
-m conntrack ! --ctproto 17
-m conntrack --ctorigsrc 127.0.0.1
-m conntrack --ctorigdst 127.0.0.1
-m conntrack ! --ctorigdst 127.0.0.2
-m conntrack --ctorigdstport 7777
-m conntrack --ctorigsrcport 7777
-m conntrack --ctreplsrc 127.0.0.1
-m conntrack --ctrepldst 127.0.0.2
-m conntrack ! --ctreplsrcport 7777
-m conntrack --ctrepldstport 7777
-m conntrack --ctstatus SEEN_REPLY
-m conntrack ! --ctstatus ASSURED,SEEN_REPLY
-m conntrack --ctstate NEW --ctorigdst 127.0.0.2 --ctorigdstport 7777
-m state --state NEW
-m state ! --state INVALID
-m mark --mark 0x0
-m mark --mark 0x1
-m mark ! --mark 0x0/0x1
-m mark --mark 0x1/0x0
-m connmark --mark 0x0/0xff
-m connmark ! --mark 0x0
-m addrtype --src-type LOCAL
-m addrtype --dst-type LOCAL --src-type LOCAL
-m addrtype ! --dst-type LOCAL
-m addrtype --dst-type UNICAST
-m addrtype --dst-type UNICAST,LOCAL,BROADCAST
-m iprange --src-range 127.0.0.1-127.0.0.1
-m iprange ! --dst-range 127.0.0.1-127.0.0.9
-m iprange --dst-range 127.0.0.2-127.255.255.255
-m length --length 60
-m length ! --length 0:59
-m length --length 61:
-m ttl --ttl-eq 64
-m ttl --ttl-lt 64
-m ttl ! --ttl-eq 64
-m ttl --ttl-gt 63
-m dscp --dscp 0
-m dscp ! --dscp 0
-m dscp --dscp-class EF
-m tos --tos 0x10/0x3c
-m tos ! --tos 0x10/0x1c
-m tos --tos 0x01/0x00
-m pkttype --pkt-type unicast
-m pkttype ! --pkt-type unicast
-m pkttype --pkt-type multicast
-m comment --comment "x y"
-m statistic --mode random --probability 1
-m statistic --mode random ! --probability 1
-m statistic --mode nth --every 1 --packet 0
-m recent --set --name one
-m recent ! --set --name two
! -f
-f
-p tcp -m ecn --ecn-tcp-ece
-p tcp -m ecn ! --ecn-tcp-cwr
-m physdev --physdev-in eth0
-m physdev ! --physdev-in eth0
-m physdev ! --physdev-is-bridged
-m physdev --physdev-is-in
-m helper --helper ftp
""".strip().splitlines()

OUTGOING = """
-o lo
! -o lo
-o l+
! -o eth+
-o +
-i lo
! -i lo
-i +
-m owner --uid-owner 0
-m owner ! --uid-owner 0
-m owner --uid-owner 0-10 ! --gid-owner 7
-m owner --gid-owner 5-10
-m owner --socket-exists
-m owner ! --socket-exists
""".strip().splitlines()

INCOMING = """
-i lo
! -i lo
-i l+
! -i eth+
-o lo
! -o lo
-m owner --uid-owner 0
-m mac ! --mac-source 00:11:22:33:44:55
-m mac --mac-source 00:00:00:00:00:00
-m socket
-m socket --nowildcard
""".strip().splitlines()

_CONNECT = """
import socket
listener = socket.socket()
listener.bind(("127.0.0.1", 7777))
listener.listen()
client = socket.socket()
client.bind(("127.0.0.1", 5555))
client.connect(("127.0.0.1", 7777))
"""


@functools.cache
def met_by_a_syn(variant: Literal["nft", "legacy"], chain: Literal["INPUT", "OUTPUT"]) -> dict[str, bool] | None:
    """Which conditions, as iptables-save writes them, the SYN 127.0.0.1:5555 > 127.0.0.1:7777 of root met; None where nothing can run.

    A condition that this kernel does not take is left out.
    """
    program = f"iptables-{variant}"
    if os.geteuid() != 0 or not all(shutil.which(one) for one in (program, "unshare", "ip", "python3")):
        return None
    conditions = CONDITIONS + (OUTGOING if chain == "OUTPUT" else INCOMING)
    script = ["ip link set lo up", f"{program} -N TRIED || exit 3", f"{program} -A {chain} -p tcp --syn --dport 7777 -j TRIED"]
    script += [f"{program} -A TRIED {condition}" for condition in conditions]
    script += [f"python3 -c '{_CONNECT}'", f"{program}-save -c"]
    done = subprocess.run(["unshare", "--net", "sh", "-c", "\n".join(script)], capture_output=True, text=True, check=False, timeout=120)
    found = re.findall(r"^\[(\d+):\d+\] -A TRIED (.*)$", done.stdout, re.MULTILINE)
    return {rule: count != "0" for count, rule in found} or None
