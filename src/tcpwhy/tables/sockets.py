"""`ss -tanpioem` or /proc/net/tcp of a host goes in, its TCP sockets as typed rows come out.

LISTEN 0      511          0.0.0.0:80        0.0.0.0:*    users:(("nginx",pid=812,fd=6)) ino:2137 sk:1
cgroup:/ <-> ESTAB  0      0      [::ffff:10.0.0.5]:80  [::ffff:10.0.0.9]:40112 timer:(keepalive,119min,0)
ino:81047 sk:2 <->
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import State

STATES = {
    "ESTAB": "ESTABLISHED",
    "ESTABLISHED": "ESTABLISHED",
    "SYN-SENT": "SYN-SENT",
    "SYN-RECV": "SYN-RECV",
    "FIN-WAIT-1": "FIN-WAIT-1",
    "FIN-WAIT-2": "FIN-WAIT-2",
    "TIME-WAIT": "TIME-WAIT",
    "CLOSE-WAIT": "CLOSE-WAIT",
    "LAST-ACK": "LAST-ACK",
    "CLOSING": "CLOSING",
    "LISTEN": "LISTEN",
    "UNCONN": "CLOSED",
    "CLOSE": "CLOSED",
    "CLOSED": "CLOSED",
}
"""As ss writes them (iproute2 misc/ss.c sstate_name) → as RFC 9293 does."""

_PROC_STATES = (
    "",
    "ESTABLISHED",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "CLOSED",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "SYN-RECV",
)
"""By number, include/net/tcp_states.h; 12 is TCP_NEW_SYN_RECV."""

_PROC_TIMERS = {1: "on", 2: "keepalive", 3: "timewait", 4: "persist"}
"""The `tr` column of /proc/net/tcp (net/ipv4/tcp_ipv4.c get_tcp4_sock)."""

MOST_UNKNOWN = 100
"""Lines not understood that are kept; all are counted."""

LONGEST_LINE = 16_384


class Process(NamedTuple):
    """Who holds a socket."""

    name: str
    pid: int
    fd: int


class Timer(NamedTuple):
    """The timer that runs on a socket."""

    name: str
    """on (retransmission), keepalive, timewait, persist (zero-window probes)."""
    remaining: str
    """As printed: `119min`, `200ms`, `1.2sec`."""
    retries: int


@dataclasses.dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket."""

    source: Source
    state: str
    """As RFC 9293 writes it; see STATES."""
    local_ip: str | None
    """None for any address of `family`; IPv4-mapped addresses are IPv4, scopes are in `interface`."""
    local_port: int
    remote_ip: str | None
    remote_port: int | None
    recv_q: int
    """Of a listener: connections that wait for accept(); else bytes received and not read."""
    send_q: int
    """Of a listener: the backlog (n admits n+1); else bytes not acknowledged."""
    family: int
    """4; 6; or 0, where `*:80` shows a socket for IPv6 and IPv4 both."""
    interface: str
    """The device that the socket is bound to, empty for none."""
    processes: tuple[Process, ...] = ()
    timer: Timer | None = None
    v6_only: bool | None = None
    """None where it is not shown."""
    details: dict[str, str] = dataclasses.field(default_factory=dict)
    """`name:value` words of the information line, the first of a name: rto, rtt, retrans, lastsnd, lastrcv,
    …"""

    @property
    def is_listener(self) -> bool:
        """True for state LISTEN."""
        return self.state == "LISTEN"

    @property
    def is_overflowing(self) -> bool:
        """True for a listener whose accept queue is full.

        Recv-Q above Send-Q (net/ipv4: sk_acceptq_is_full).
        """
        return self.is_listener and self.recv_q > self.send_q

    @property
    def local(self) -> str:
        """`ip:port`, `*:port` for any address."""
        return _shown(self.local_ip, self.local_port)

    @property
    def remote(self) -> str:
        """`ip:port`, `*:*` for none."""
        return _shown(self.remote_ip, self.remote_port)


@dataclasses.dataclass(slots=True)
class Sockets:
    """The socket table of one host."""

    sockets: list[Socket] = dataclasses.field(default_factory=list)
    not_understood: list[Source] = dataclasses.field(default_factory=list)
    """The first lines that are no sockets and no headings."""
    not_understood_count: int = 0

    def listeners_for(self, ip: str, port: int) -> list[Socket]:
        """The listeners that a SYN to this address can reach, the most specific first.

        A socket on any IPv6 address takes IPv4 too unless it is bound as IPv6 only (ipv6(7) IPV6_V6ONLY);
        `[::]:80` in ss is IPv6 only, `*:80` both. Where it is not shown, it is taken to be both. Raises
        ValueError for what is no IP address.
        """
        wanted = ipaddress.ip_address(ip.partition("%")[0])
        if isinstance(wanted, ipaddress.IPv6Address) and wanted.ipv4_mapped:
            wanted = wanted.ipv4_mapped
        found = [
            socket
            for socket in self.sockets
            if socket.is_listener
            and socket.local_port == port
            and (socket.local_ip == str(wanted) or (socket.local_ip is None and _takes(socket, wanted.version)))
        ]
        return sorted(found, key=lambda socket: (socket.local_ip is None, socket.family == 0, socket.source))

    def between(self, one: str, other: str) -> list[Socket]:
        """The sockets whose ends are these two `ip:port`, either way round."""
        return [socket for socket in self.sockets if {socket.local, socket.remote} == {one, other}]


def _takes(socket: Socket, version: int) -> bool:
    return socket.family in (0, version) or (socket.family == 6 and not socket.v6_only)


def _shown(ip: str | None, port: int | None) -> str:
    number = "*" if port is None else str(port)
    return f"*:{number}" if ip is None else f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"


def read_sockets(state: State) -> Sockets | None:
    """The sockets of a snapshot; None where neither ss nor /proc/net/tcp was collected."""
    lines = state.read_lines("ss-tcp.txt")
    if lines is not None:
        return parse_ss(lines, state.source("ss-tcp.txt"))
    found: Sockets | None = None
    for name in ("proc-net-tcp.txt", "proc-net-tcp6.txt"):
        lines = state.read_lines(name)
        if lines is not None:
            found = found or Sockets()
            parse_proc(lines, state.source(name), found)
    return found


_USERS = re.compile(r'\("((?:[^"\\]|\\.){0,64})",(?:pid=)?(\d{1,10}),(?:fd=)?(\d{1,10})\)', re.ASCII)
_TIMER = re.compile(r"timer:\((\w{1,16}),([\w.]{0,24}),(\d{1,6})\)", re.ASCII)
_END = re.compile(r"(\[[0-9a-fA-F:.%\w-]{0,80}\]|\*|[0-9a-fA-F:.]{1,64})(?:%([^\s:]{1,32}))?:(\*|\d{1,5})", re.ASCII)
_DETAIL = re.compile(r"(?:^|\s)([a-z_]{1,24}):([^\s()]{1,80})(?=\s|$)", re.ASCII)


def parse_ss(lines: Iterable[str], source: Source) -> Sockets:
    """Rows of `ss` with any of -H, -O, -n, -p, -i, -o, -e, -m, with or without the Netid column.

    An information line begins with white space and belongs to the socket before it. Sockets other than TCP
    are left out.
    """
    table = Sockets()
    skipped_before = False
    notation = _Notation()
    for number, line in enumerate(lines, 1):
        line = line[:LONGEST_LINE]
        if not line.strip():
            continue
        if line[0] in " \t":
            if table.sockets and not skipped_before:
                _add_details(table.sockets[-1], line)
            continue
        words = line.split(None, 6)
        if words[0] in ("State", "Netid"):
            continue
        skipped_before = True
        if words[0] not in STATES and len(words) > 1 and words[1] in STATES:
            if words[0] not in ("tcp", "mptcp"):
                continue
            words = words[1:]
        socket = _row(words, line, dataclasses.replace(source, line=number))
        if socket is not None:
            notation.meet(words[3], words[4], socket)
            table.sockets.append(socket)
            skipped_before = False
        else:
            _count_unknown(table, dataclasses.replace(source, line=number))
    table.sockets[:] = [notation.settled(socket) for socket in table.sockets]
    return table


@dataclasses.dataclass(slots=True)
class _Notation:
    """How this version of ss writes the any address, told by the whole table.

    Since iproute2 4.15 `0.0.0.0` is IPv4, `*` a socket of IPv6 that takes IPv4 too, `[::]` one of IPv6 only; before, `*` was
    IPv4, and `::` or `[::]` any of IPv6 (misc/ss.c inet_addr_print).
    """

    is_new: bool = False
    is_old: bool = False
    by_line: dict[int | None, str] = dataclasses.field(default_factory=dict)

    def meet(self, local: str, remote: str, socket: Socket) -> None:
        """Takes note of one row as it is written."""
        if "0.0.0.0:" in (local[:8], remote[:8]):
            self.is_new = True
        elif local.startswith(":::") or (socket.family == 4 and remote == "*:*"):
            self.is_old = True
        if socket.local_ip is None:
            self.by_line[socket.source.line] = local

    def settled(self, socket: Socket) -> Socket:
        """The row with what the notation says of its family; where the table does not tell which it is, both are left open."""
        local = self.by_line.get(socket.source.line, "")
        if self.is_new and not self.is_old and socket.v6_only is None:
            v6_only = False if local.startswith("*") else True if local.startswith("[::]") else None
            return socket if v6_only is None else dataclasses.replace(socket, v6_only=v6_only)
        if self.is_old and not self.is_new and local.startswith("*"):
            return dataclasses.replace(socket, family=4)
        return socket


def _count_unknown(table: Sockets, source: Source) -> None:
    table.not_understood_count += 1
    if len(table.not_understood) < MOST_UNKNOWN:
        table.not_understood.append(source)


def _row(words: Sequence[str], line: str, source: Source) -> Socket | None:
    if len(words) < 5 or words[0] not in STATES:
        return None
    if not (_is_count(words[1]) and _is_count(words[2])):
        return None
    local, remote = _end(words[3]), _end(words[4])
    if local is None or remote is None or local[3] is None:
        return None
    rest = line[line.find(words[4], line.find(words[3]) + len(words[3])) + len(words[4]) :]
    found = _TIMER.search(rest)
    socket = Socket(
        source=source,
        state=STATES[words[0]],
        local_ip=local[0],
        local_port=local[3],
        remote_ip=remote[0],
        remote_port=remote[3],
        recv_q=int(words[1]),
        send_q=int(words[2]),
        family=local[1],
        interface=local[2],
        processes=tuple(Process(name, int(pid), int(fd)) for name, pid, fd in _USERS.findall(rest)[:64]),
        timer=Timer(found.group(1), found.group(2), int(found.group(3))) if found else None,
        v6_only=_v6_only(rest),
    )
    _add_details(socket, rest)
    return socket


def _v6_only(rest: str) -> bool | None:
    """`ss -e` prints v6only:0 or 1 of IPv6 listeners; without it the address tells."""
    found = re.search(r"\bv6only:([01])\b", rest)
    return found.group(1) == "1" if found else None


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 12


def _end(word: str) -> tuple[str | None, int, str, int | None] | None:
    """`1.2.3.4%eth0:80` as address (None for any), family, device and port (None for `*`)."""
    found = _END.fullmatch(word)
    if not found:
        return None
    host, device, port = found.groups()
    number = None if port == "*" else int(port)
    if number is not None and number > 65535:
        return None
    if host == "*":
        return None, 0, device or "", number
    text, _, scope = host.strip("[]").partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    family = address.version
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
        family = 4
    is_any = int(address) == 0
    return None if is_any else str(address), family, device or scope, number


def _add_details(socket: Socket, text: str) -> None:
    for name, value in _DETAIL.findall(text[:4096])[:100]:
        socket.details.setdefault(name, value)


def parse_proc(lines: Iterable[str], source: Source, table: Sockets) -> None:
    """Rows of /proc/net/tcp or tcp6 are added to `table`.

    Addresses are hexadecimal words in the byte order of the host that wrote them: little-endian is assumed,
    as nearly all hosts are (net/ipv4/tcp_ipv4.c get_tcp4_sock prints them with %08X). Queues of a listener:
    `rx_queue` is the accept queue, and the backlog is not printed, so `send_q` of a listener would be 0; it
    is given as its Recv-Q.
    """
    for number, line in enumerate(lines, 1):
        words = line[:LONGEST_LINE].split()
        if not words or words[0] == "sl":
            continue
        socket = _proc_row(words, dataclasses.replace(source, line=number))
        if socket is not None:
            table.sockets.append(socket)
        else:
            _count_unknown(table, dataclasses.replace(source, line=number))


_HEX_END = re.compile(r"([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):([0-9A-Fa-f]{4})", re.ASCII)
_HEX_PAIR = re.compile(r"([0-9A-Fa-f]{1,16}):([0-9A-Fa-f]{1,16})", re.ASCII)


def _proc_row(words: Sequence[str], source: Source) -> Socket | None:
    if len(words) < 10 or not words[0].endswith(":"):
        return None
    local, remote = _hex_end(words[1]), _hex_end(words[2])
    queues = _HEX_PAIR.fullmatch(words[4])
    timer = _HEX_PAIR.fullmatch(words[5])
    if local is None or remote is None or queues is None or not re.fullmatch(r"[0-9A-Fa-f]{1,2}", words[3]):
        return None
    number = int(words[3], 16)
    if not 0 < number < len(_PROC_STATES):
        return None
    listening = _PROC_STATES[number] == "LISTEN"
    recv_q = int(queues.group(2), 16)
    name = _PROC_TIMERS.get(int(timer.group(1), 16)) if timer else None
    retries = int(words[6], 16) if re.fullmatch(r"[0-9A-Fa-f]{1,8}", words[6]) else 0
    ticks = int(timer.group(2), 16) if timer else 0
    return Socket(
        source=source,
        state=_PROC_STATES[number],
        local_ip=local[0],
        local_port=local[2],
        remote_ip=remote[0],
        remote_port=None if listening else remote[2],
        recv_q=recv_q,
        send_q=recv_q if listening else int(queues.group(1), 16),
        family=local[1],
        interface="",
        timer=Timer(name, f"{ticks * 10}ms", retries) if name else None,  # USER_HZ is 100 on all of Linux
        v6_only=None,
        details={"uid": words[7][:10], "ino": words[9][:20]},
    )


def _hex_end(word: str) -> tuple[str | None, int, int] | None:
    found = _HEX_END.fullmatch(word)
    if not found:
        return None
    text, port = found.groups()
    packed = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    if len(packed) == 4:
        address = ipaddress.IPv4Address(packed)
    else:
        address = ipaddress.IPv6Address(packed)
        address = address.ipv4_mapped or address
    return None if int(address) == 0 else str(address), address.version, int(port, 16)
