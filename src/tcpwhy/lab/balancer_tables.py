"""The connection table of a full-NAT balancer: its entries go in, the text of the programs that show such tables comes out."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from .fullnat import TIMEOUTS, Entry
from .segment import End

#: Alibaba's kernel names the states as stock IPVS does (net/netfilter/ipvs/ip_vs_proto_tcp.c tcp_state_name_table).
HEADING = "Pro FromIP   FPrt ToIP     TPrt LocalIP  LPrt DestIP   DPrt State       Expires\n"


def dpvs_table(entries: Iterable[Entry], now: float) -> str:
    """`ipvsadm -lnc` of DPVS: one line an entry, no heading, with the logical core before the protocol."""
    lines = []
    for number, entry in enumerate(entries):
        ends = [_written(end) for end in (entry.client, entry.virtual, entry.local, entry.real)]
        row = f"[{number % 4 + 1}]{'tcp':<3} {f'{_left(entry, now)}s':<6} {entry.state:<11} "
        lines.append(row + " ".join([*(f"{end:<18}" for end in ends[:3]), ends[3]]) + "\n")
    return "".join(lines)


def lvs_table(entries: Iterable[Entry], now: float) -> str:
    """/proc/net/ip_vs_conn of Alibaba's LVS: stock IPVS's columns and the local address and port before the real server's."""
    lines = [HEADING]
    for entry in entries:
        ends = " ".join(in_hex(end) for end in (entry.client, entry.virtual, entry.local, entry.real))
        lines.append(f"TCP {ends} {entry.state:<11} {_left(entry, now):>7}\n")
    return "".join(lines)


def _left(entry: Entry, now: float) -> int:
    return max(0, round(TIMEOUTS[entry.state] - (now - entry.touched)))


def _written(end: End) -> str:
    address, port = end
    return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}" if len(address) == 16 else f"{socket.inet_ntoa(address)}:{port}"


def in_hex(end: End) -> str:
    """Eight upper-case digits for IPv4, `%pI6` (eight groups of four, lower case) for IPv6, and four of the port."""
    address, port = end
    text = address.hex()
    if len(address) == 16:
        return f"{':'.join(text[place : place + 4] for place in range(0, 32, 4))} {port:04X}"
    return f"{text.upper()} {port:04X}"
