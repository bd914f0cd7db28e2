"""Conditions of nft and packets go in; which of them this machine's kernel finds to match each packet comes out.

Runs as a program inside a network namespace: `python nft_on_kernel.py` reads frames from standard input and tells the counters.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

if __name__ != "__main__":
    import pytest

    from tcpwhy.evidence.source import Source
    from tcpwhy.path.packet import Packet
    from tcpwhy.tables.nft import Nft, parse_nft

    def _packet(protocol: str, ends: str, state: str = "NEW", **more: object) -> Packet:
        source, source_port, destination, destination_port = ends.split()
        values: dict[str, object] = {
            "protocol": protocol,
            "source": ipaddress.ip_address(source),
            "destination": ipaddress.ip_address(destination),
            "source_port": int(source_port) or None,
            "destination_port": int(destination_port) or None,
            "ttl": 64,
            "in_interface": "eth0",
            "ct_state": state,
        } | more
        header = 40 if ":" in destination else 20
        values["length"] = header + {"tcp": 20, "udp": 12}.get(protocol, 8)
        return Packet(**values)  # type: ignore[arg-type]

    PACKETS = (
        _packet("tcp", "10.0.0.2 1234 10.0.0.1 80", flags="S"),
        _packet("tcp", "10.0.0.2 1235 10.0.0.1 22", flags="S", ttl=33),
        _packet("tcp", "192.168.3.5 33 10.0.0.1 8080", flags="SEW", dscp=8),
        _packet("tcp", "10.0.0.10 1000 10.0.0.1 2000", "INVALID", flags="FPU"),
        _packet("udp", "10.0.0.3 53 10.0.0.1 53"),
        _packet("udp", "10.0.0.3 55 10.0.0.1 67", dscp=46),
        _packet("icmp", "10.0.0.4 0 10.0.0.1 0", icmp_type=8, icmp_code=0),
        _packet("icmp", "10.0.0.7 0 10.0.0.1 0", icmp_type=13, icmp_code=3),
        _packet("tcp", "fd00::2 1234 fd00::1 443", flags="S"),
        _packet("udp", "fd00::3 53 fd00::1 33", ttl=33),
        _packet("icmpv6", "fd00::4 0 fd00::1 0", icmp_type=128, icmp_code=0),
    )

CONDITIONS = (
    """\
tcp dport 80 ; tcp dport != 80 ; tcp dport { 22, 80-90 } ; tcp dport != { 22, 80 } ; tcp dport 22-80 ; tcp dport > 1024
tcp sport < 1000 ; udp dport 53 ; udp dport != 53 ; udp sport . udp dport { 53 . 53, 55 . 67 }
meta l4proto { tcp, udp } th dport { 53, 80, 443 } ; meta l4proto tcp @th,16,16 80 ; ip saddr 10.0.0.0/24 ; ip saddr != 10.0.0.0/24
ip saddr 10.0.0.3-10.0.0.9 ; ip saddr { 10.0.0.2, 10.0.0.4-10.0.0.7, 192.168.0.0/16 } ; ip saddr & 0.0.0.1 == 0.0.0.1
ip daddr . tcp dport { 10.0.0.0/24 . 22-80 } ; iifname . ip saddr { "eth0" . 10.0.0.0/24, "x" . 1.1.1.1 } ; ip6 saddr fd00::/64
ip6 saddr != fd00::2 ; ip6 daddr fd00::1 ; ip protocol tcp ; ip protocol != tcp ; ip6 nexthdr { udp, ipv6-icmp } ; ip ttl 33
ip ttl < 64 ; ip6 hoplimit != 64 ; ip length 40 ; ip length 30-39 ; ip6 length < 20 ; ip dscp cs1 ; ip dscp != ef ; ip dscp { cs1, ef }
ip frag-off & 0x1fff != 0 ; ip version 4 ; meta nfproto ipv4 ; meta nfproto != ipv6 ; meta protocol ip ; meta protocol { ip, ip6 }
meta l4proto tcp ; meta l4proto != { tcp, udp } ; meta l4proto 17-58 ; meta length 40 ; meta length != 30-40 ; iifname "eth0"
iifname "et*" ; iifname != "et*" ; iif "eth0" ; iif != "eth0" ; iifname { "lo", "e*" } ; oifname "eth0" ; oifname != "eth0" ; oif "eth0"
oiftype ether ; oiftype != ether ; meta mark 0 ; meta mark & 0xf == 0 ; meta mark != 0 ; meta skuid 0 ; meta skuid != 0
meta skgid < 100 ; meta pkttype host ; meta pkttype != { broadcast, multicast } ; tcp flags syn ; tcp flags != syn ; tcp flags ! syn
tcp flags syn / fin,syn,rst,ack ; tcp flags != syn / fin,syn,rst,ack ; tcp flags & (fin | syn) == fin | syn
tcp flags { syn, fin | psh | urg } ; tcp flags fin,rst ; tcp flags == fin | psh | urg ; tcp flags & (ecn | cwr) != 0 ; ct state new
ct state invalid ; ct state != new ; ct state ! new ; ct state established,related,new ; ct state != established | new
ct state { new, untracked } ; ct state ! established,related ; ct status dnat ; ct status ! dnat ; ct status seen-reply
ct direction original ; ct direction != reply ; ct mark 0 ; ct mark != 0 ; ct mark & 0xff == 0 ; ct mark 1-5
ct original ip saddr 10.0.0.2 ; ct original ip daddr != 10.0.0.9 ; ct reply ip saddr 10.0.0.1 ; ct l3proto ipv4 ; ct protocol tcp
meta l4proto tcp ct original proto-dst 80 ; icmp type echo-request ; icmp type != echo-request
icmp type { echo-request, timestamp-request } ; icmp code 3 ; icmp code host-unreachable-2 ; icmpv6 type echo-request
icmpv6 type != { nd-neighbor-solicit, nd-router-advert } ; icmpv6 code 0 ; ether type ip ; ether type != ip ; exthdr frag exists
exthdr frag missing ; frag frag-off 33 ; hbh hdrlength != 5 ; fib daddr type local ; fib daddr . iif type local
fib daddr type != { broadcast, unicast }
""".replace("\n", " ; ")
    .strip(" ;")
    .split(" ; ")
)
"""Those that this nft does not take are left out."""

_TABLE = (
    "add table inet t\nadd chain inet t c { type filter hook input priority 10; }\nadd chain inet t d\nadd rule inet t d ct state new\n"
)
_SETUP = (
    "ip link set lo up",
    "ip link add eth0 type veth peer name p0",
    "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0",
    "sysctl -qw net.ipv6.conf.p0.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1",
    "ip link set eth0 up",
    "ip address add 10.0.0.1/24 dev eth0",
    "ip -6 address add fd00::1/64 dev eth0 nodad",
    "ip link set p0 up",
)
_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "W": 128}


def in_kernel(python: str) -> tuple[list[list[bool]], Nft]:
    """For each packet which rules counted it, and the ruleset; skips the test where no namespace or packet socket can be had."""
    if shutil.which("nft") is None or shutil.which("unshare") is None:
        pytest.skip("nft or unshare is missing")
    frames = json.dumps([_frame(packet).hex() for packet in PACKETS])
    for how in ("-n", "-rn"):
        done = subprocess.run(["unshare", how, python, str(Path(__file__))], input=frames, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            told = json.loads(done.stdout)
            nft, _ = parse_nft(told["ruleset"], Source("h", "f"))
            return told["risen"], nft
    pytest.skip(f"no network namespace with nft can be made here: {done.stderr[-200:]}")


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _frame(packet: Packet) -> bytes:
    """The packet without an Ethernet header's addresses."""
    number = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}[packet.protocol]
    ports = packet.source_port or 0, packet.destination_port or 0
    if packet.protocol == "tcp":
        flags = sum(_FLAGS[letter] for letter in packet.flags or "")
        segment = struct.pack("!HHIIBBHHH", *ports, 1, 0, 5 << 4, flags, 1000, 0, 0)
    elif packet.protocol == "udp":
        segment = struct.pack("!HHHH", *ports, 12, 0) + b"abcd"
    else:
        segment = struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, 1, 1)
    ends = packet.source.packed + packet.destination.packed
    pseudo = struct.pack("!BBH", 0, number, len(segment)) if packet.version == 4 else struct.pack("!II", len(segment), number)
    checksum = struct.pack("!H", _sum((b"" if packet.protocol == "icmp" else ends + pseudo) + segment))
    at = {"tcp": 16, "udp": 6}.get(packet.protocol, 2)
    segment = segment[:at] + checksum + segment[at + 2 :]
    if packet.version == 6:
        head = struct.pack("!IHBB", (6 << 28) | (packet.dscp << 22), len(segment), number, packet.ttl) + ends
        return b"\x86\xdd" + head + segment
    head = struct.pack("!BBHHHBBH", 0x45, packet.dscp << 2, 20 + len(segment), 7, 0, packet.ttl, number, 0) + ends
    return b"\x08\x00" + head[:10] + struct.pack("!H", _sum(head)) + head[12:] + segment


def _nft(script: str) -> bool:
    return subprocess.run(["nft", "-f", "-"], input=script, text=True, capture_output=True, check=False).returncode == 0


def _ruleset() -> str:
    return subprocess.run(["nft", "-j", "list", "ruleset"], text=True, capture_output=True, check=True).stdout


def _counts() -> list[int]:
    rules = [one["rule"] for one in json.loads(_ruleset())["nftables"] if "rule" in one and one["rule"]["chain"] == "c"]
    return [next(statement["counter"]["packets"] for statement in rule["expr"] if "counter" in statement) for rule in rules]


def main() -> None:
    """The program inside the namespace."""
    frames = [bytes.fromhex(text) for text in json.load(sys.stdin)]
    for line in _SETUP:
        subprocess.run(line.split(), check=False, capture_output=True)
    shown = subprocess.run(["ip", "-j", "link", "show", "eth0"], capture_output=True, text=True, check=True).stdout
    address = bytes.fromhex(json.loads(shown)[0]["address"].replace(":", ""))
    if not _nft(_TABLE):
        sys.exit(3)
    for condition in CONDITIONS:
        _nft(f"add rule inet t c {condition} counter")
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("p0", 0))
    time.sleep(1.5)  # IPv6 settles: what it sends by itself would be counted too
    risen = []
    before = _counts()
    for frame in frames:
        wire.send(address + b"\x02\0\0\0\0\x09" + frame)
        for _ in range(50):
            after = _counts()
            if after != before:
                break
            time.sleep(0.02)
        risen.append([new > old for new, old in zip(after, before, strict=True)])
        before = after
    print(json.dumps({"risen": risen, "ruleset": _ruleset()}))


if __name__ == "__main__":
    main()
