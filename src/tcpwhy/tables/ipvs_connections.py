"""Rows of `ipvsadm -L -n -c` or /proc/net/ip_vs_conn go in; the director's connections come out.

TCP 14:47  ESTABLISHED 10.0.0.2:48818     10.0.0.1:8080      10.0.10.5:8080
TCP 0A000002 BEB2 0A000001 1F90 0A000A05 1F90 ESTABLISHED     886
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Sequence

from tcpwhy.evidence.source import Source
from tcpwhy.tables.director import BalancedConnection, end_of, hex_ip
from tcpwhy.tables.unread import UnreadPieces

MOST_ENTRIES = 1_000_000
"""Connections kept of one file; the rest are counted as unread."""

LONGEST_LINE = 2000

_EXPIRES = re.compile(r"(\d{1,8}):([0-5]\d)", re.ASCII)
_STATE = re.compile(r"[A-Z][A-Z0-9_]{1,15}", re.ASCII)
_HEX_STATE = re.compile(r"[0-9A-F]{8}|[0-9a-f]{4}(?::[0-9a-f]{4}){7}", re.ASCII)
_SECONDS = re.compile(r"(\d{1,9})s", re.ASCII)
_DPVS = re.compile(r"\[(\d{1,4})\]([a-z0-9-]{1,8})", re.ASCII)
_PORT = re.compile(r"[0-9A-Fa-f]{4}", re.ASCII)
_HEADINGS = ("IPVS connection entries", "pro expire", "Pro FromIP", "IP Virtual Server")

MISPRINT = (
    "this ipvsadm reads a kernel with full NAT and misprints: the real server stands in place of the state, the director's own address"
    " in place of the real server's, and the real server's port and the time left are hidden; /proc/net/ip_vs_conn shows them"
)
"""alibaba/LVS tools/ipvsadm/ipvsadm.c print_conn parses three addresses of the four that ip_vs_conn.c ip_vs_conn_seq_show prints."""


def is_misprinted(lines: Sequence[str]) -> bool:
    """True where a row has a hexadecimal address in place of its state."""
    rows = (line[:LONGEST_LINE].split(None, 3) for line in lines)
    return any(len(words) == 4 and _EXPIRES.fullmatch(words[1]) and _HEX_STATE.fullmatch(words[2]) for words in rows)


def parse_connections(lines: Sequence[str], source: Source, unread: UnreadPieces) -> list[BalancedConnection]:
    """Rows of `ipvsadm -L -n -c`: stock, with --persistent-conn, Alibaba's misprint, and DPVS with its core and local address."""
    return _parse(lines, source, unread, _row)


def parse_proc_connections(lines: Sequence[str], source: Source, unread: UnreadPieces) -> list[BalancedConnection]:
    """Rows of /proc/net/ip_vs_conn, of ip_vs_conn_sync (with its column Origin), and of a kernel with full NAT.

    Sources: net/netfilter/ipvs/ip_vs_conn.c ip_vs_conn_seq_show, ip_vs_conn_sync_seq_show.
    """
    return _parse(lines, source, unread, _proc_row)


def _parse(
    lines: Sequence[str],
    source: Source,
    unread: UnreadPieces,
    read_row: Callable[[list[str], Source, str, UnreadPieces], BalancedConnection | None],
) -> list[BalancedConnection]:
    connections: list[BalancedConnection] = []
    for number, line in enumerate(lines, 1):
        line = line[:LONGEST_LINE]
        if not line.strip() or line.startswith(_HEADINGS):
            continue
        here = dataclasses.replace(source, line=number)
        if len(connections) >= MOST_ENTRIES:
            unread.add(here, line, f"only the first {MOST_ENTRIES} connections are kept")
            continue
        connection = read_row(line.split(), here, line, unread)
        if connection is not None:
            connections.append(connection)
    return connections


def _row(words: list[str], source: Source, line: str, unread: UnreadPieces) -> BalancedConnection | None:
    dpvs = _DPVS.fullmatch(words[0])
    if dpvs is not None:
        return _dpvs_row(dpvs.group(2), words, source, line, unread)
    if len(words) == 7 and _SECONDS.fullmatch(words[1]):  # of a DPVS that names no core
        return _dpvs_row(words[0], words, source, line, unread)
    if len(words) not in (6, 7, 8):
        unread.add(source, line, "expected protocol, time left, state, client, virtual and real server")
        return None
    expires = _EXPIRES.fullmatch(words[1])
    ends = [end_of(word) for word in words[3:6]]
    if expires is None or ends[0] is None or ends[1] is None or ends[2] is None:
        unread.add(source, line, "an address, a port or the time left is no number; ipvsadm -n writes numbers")
        return None
    seconds = int(expires.group(1)) * 60 + int(expires.group(2))
    if _HEX_STATE.fullmatch(words[2]):
        real_ip = hex_ip(words[2])
        if real_ip is None:
            unread.add(source, line, "the state is no state")
            return None
        unread.add(source, line, MISPRINT)
        return _connection(source, words[0], "", None, ends[0], ends[1], ends[2], (real_ip, 0))
    if not _STATE.fullmatch(words[2]):
        unread.add(source, line, f"`{words[2][:40]}` is no state")
        return None
    return _connection(source, words[0], words[2], seconds, ends[0], ends[1], None, ends[2])


def _dpvs_row(protocol: str, words: list[str], source: Source, line: str, unread: UnreadPieces) -> BalancedConnection | None:
    """`[core]proto seconds state client virtual local real` (iqiyi/dpvs tools/ipvsadm/ipvsadm.c print_conn_entry)."""
    seconds = _SECONDS.fullmatch(words[1]) if len(words) == 7 else None
    ends = [end_of(word) for word in words[3:7]]
    if seconds is None or not _STATE.fullmatch(words[2]) or ends[0] is None or ends[1] is None or ends[2] is None or ends[3] is None:
        unread.add(source, line, "expected DPVS's core, protocol, seconds, state, client, virtual, local and real server")
        return None
    return _connection(source, protocol, words[2], int(seconds.group(1)), ends[0], ends[1], ends[2], ends[3])


def _proc_row(words: list[str], source: Source, line: str, unread: UnreadPieces) -> BalancedConnection | None:
    ends: list[tuple[str, int]] = []
    at = 1
    while len(ends) < 4 and at + 1 < len(words):
        ip = hex_ip(words[at].strip("[]"))
        if ip is None or not _PORT.fullmatch(words[at + 1]):
            break
        ends.append((ip, int(words[at + 1], 16)))
        at += 2
    rest = words[at:]
    if len(rest) > 2 and rest[1] in ("LOCAL", "SYNC"):
        del rest[1]
    if len(ends) < 3 or len(rest) < 2 or not _STATE.fullmatch(rest[0]) or not re.fullmatch(r"\d{1,20}", rest[1], re.ASCII):
        unread.add(source, line, "expected protocol, three or four hexadecimal addresses with their ports, state and seconds")
        return None
    local = ends[2] if len(ends) == 4 else None
    return _connection(source, words[0], rest[0], int(rest[1]), ends[0], ends[1], local, ends[-1])


def _connection(
    source: Source,
    protocol: str,
    state: str,
    expires_s: int | None,
    client: tuple[str, int],
    virtual: tuple[str, int],
    local: tuple[str, int] | None,
    real: tuple[str, int],
) -> BalancedConnection:
    if local == client or (local is not None and local[0] in ("0.0.0.0", "::")):
        local = None  # without full NAT the client's address is kept
    return BalancedConnection(
        source=source,
        protocol=sys.intern(protocol[:16].lower()),
        state=sys.intern(state),
        expires_s=expires_s,
        client_ip=client[0],
        client_port=client[1],
        virtual_ip=virtual[0],
        virtual_port=virtual[1],
        local_ip="" if local is None else local[0],
        local_port=None if local is None else local[1],
        real_ip=real[0],
        real_port=real[1],
    )
