"""HAProxy's `show sess` or `show sess all` goes in; its sessions come out: the client's side, the server's side, and how the two stand.

0x55d6c1f4a9c0: proto=tcpv4 src=10.0.0.9:49750 fe=web be=app srv=n1 ts=00 age=1h2m calls=2 … scf=[8,0h,fd=14] scb=[8,1h,fd=15] exp=1s
0x55d6c1f4a9c0: [21/Nov/2026:16:30:56.482256] id=0 proto=tcpv4 source=10.0.0.9:49750
  frontend=web (id=2 mode=tcp), listener=? (id=1) addr=10.0.0.1:80
  backend=app (id=5 mode=tcp) addr=10.0.10.1:47372
  server=n1 (id=1) addr=10.0.10.5:8080
"""

from __future__ import annotations

import calendar
import dataclasses
import functools
import ipaddress
import re
import sys
from collections.abc import Iterable

from tcpwhy.evidence.source import Source
from tcpwhy.evidence.state import HAPROXY_FILES, State
from tcpwhy.tables.unread import UnreadPieces

MOST_SESSIONS = 1_000_000
"""Sessions kept of one host; the rest are counted as unread."""

LONGEST_LINE = 4000
"""Characters of a line that are read; HAProxy's own with addresses are below 500, and `show-uri` adds a URI behind them."""

CLOSED_STATES = frozenset({"CER", "DIS", "CLO"})
"""Of the server's side: connection error, disconnected, closed (include/haproxy/sc_strm.h sc_state_str, formerly si_state_str)."""

End = tuple[str, int]
"""Address in its shortest form, IPv4-mapped as IPv4, and port."""


@dataclasses.dataclass(slots=True)
class Session:
    """One session, which newer versions call a stream: in mode tcp a connection of a client, in mode http a request under way."""

    source: Source
    identifier: str
    """The pointer that HAProxy names it by."""
    protocol: str
    """tcpv4, tcpv6, quic4, quic6, …; of the client's side."""
    client: End | None
    """As HAProxy takes it: from the socket, or from a PROXY header where `accept-proxy` is set. None for a client on a Unix socket."""
    frontend: str = ""
    backend: str = ""
    server: str = ""
    """Names of the configuration; `<NONE>` and `<none>` as they are shown."""
    mode: str = ""
    """The backend's: tcp, http, …; empty in the short form, which does not show it."""
    frontend_end: End | None = None
    """What the client connected to. None in the short form."""
    local_end: End | None = None
    """HAProxy's own end towards the server. None in the short form, and where no connection to a server is there."""
    server_end: End | None = None
    accepted_naive_ns: int | None = None
    """The wall clock of its host when the client was accepted, as nanoseconds since 1970 as if it were UTC. None in the short form."""
    age_s: int | None = None
    """Seconds since the client was accepted, since 2.9 since its request began; of long ages HAProxy shows two units only, cut."""
    client_state: str = ""
    """EST, CLO, …; empty in the short form, whose numbers mean other states in other versions."""
    server_state: str = ""
    client_fd: int | None = None
    """The file descriptor of HAProxy's socket towards the client."""
    server_fd: int | None = None

    @property
    def is_open(self) -> bool:
        """False where the server's side is closed or closing."""
        return self.server_state not in CLOSED_STATES

    @property
    def may_share_server(self) -> bool:
        """True unless the mode is tcp: the server's connection may have served other clients, or may serve them later (`http-reuse`)."""
        return self.mode != "tcp"


@dataclasses.dataclass(slots=True)
class HaproxySessions:
    """The sessions of a host's HAProxy."""

    sessions: list[Session] = dataclasses.field(default_factory=list)
    unread: UnreadPieces = dataclasses.field(default_factory=UnreadPieces)


def read_haproxy_sessions(state: State) -> HaproxySessions | None:
    """The sessions of all of the host's HAProxy processes; None where none were collected."""
    table: HaproxySessions | None = None
    for name in HAPROXY_FILES:
        lines = state.read_lines(name)
        if lines is not None:
            table = table or HaproxySessions()
            parse_sessions(lines, state.source(name), table)
    return table


_FULL = re.compile(
    r"(0x[0-9a-f]{1,16}): \[(?:(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)\.(\d{6})|\d{1,20}\.\d{6})\]"
    r"(?: id=\d{1,20})? proto=(\S{1,32})(?: source=(\S{1,80}))?\s*",
    re.ASCII,
)
_SHORT = re.compile(
    r"(0x[0-9a-f]{1,16}): proto=(\S{1,32})(?: src=(\S{1,80}) fe=(\S{1,255}) be=(\S{1,255}) srv=(\S{1,255}))?(?: |$)", re.ASCII
)
_SIDE = re.compile(
    r"(frontend|backend|server)=(\S{1,255}) \(id=-?\d{1,20}(?: mode=(\S{1,16}))?\)(?:, listener=\S{1,255} \(id=\d{1,20}\))?"
    r"(?: addr=(\S{1,80}))?",
    re.ASCII,
)
_AGE = re.compile(r"\bage=((?:\d{1,10}[dhms]){1,2})", re.ASCII)
_AGE_PART = re.compile(r"(\d{1,10})([dhms])", re.ASCII)
_STATE = re.compile(r"\bstate=([A-Z]{2,4})\b", re.ASCII)
_FD = re.compile(r"\bfd=(?:\d{1,5}/)?(\d{1,9})(?![/\d])", re.ASCII)
_SHORT_FDS = re.compile(r" (?:s0|scf|csf)=\[[^\]]{0,60}?\bfd=(?:\d{1,5}/)?(-?\d{1,9})\b[^\]]{0,60}\]"
                        r" (?:s1|scb|csb)=\[[^\]]{0,60}?\bfd=(?:\d{1,5}/)?(-?\d{1,9})\b", re.ASCII)  # fmt: skip
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLIENT_SIDE = ("si[0]=", "scf=", "csf=")
_SERVER_SIDE = ("si[1]=", "scb=", "csb=")


def parse_sessions(lines: Iterable[str], source: Source, table: HaproxySessions) -> None:
    """Sessions of `show sess`, `show sess all` or `show sess ID`, of HAProxy 1.4 to 3.x, are added to `table`.

    HAProxy says that the long form is not documented and may change (management.txt, "show sess"), so its words are taken one by one
    and what stands between them is passed over. Sources: src/stream.c strm_dump_to_buffer and cli_io_handler_dump_sess;
    before 1.6 src/dumpstats.c.
    """
    reader = _Reader(source, table)
    for number, line in enumerate(lines, 1):
        reader.take(number, line[:LONGEST_LINE].rstrip())
    reader.finish()


class _Reader:
    """One file while it is read."""

    def __init__(self, source: Source, table: HaproxySessions) -> None:
        self._source = source
        self._table = table
        self._session: Session | None = None
        self._side = ""
        self._is_full = False

    def take(self, number: int, line: str) -> None:
        """One line; indented lines belong to the session before them."""
        if line.startswith(" ") and line.strip():
            if self._is_full and self._session is not None:
                self._add(self._session, line.strip(), dataclasses.replace(self._source, line=number), line)
            elif not self._is_full:
                self._unread(number, line, "expected a session before it")
            return
        line = line.removeprefix("> ")  # the prompt, where `show sess` was typed
        if not line or line == ">":
            return
        self.finish()
        full = _FULL.fullmatch(line)
        short = None if full else _SHORT.match(line)
        if full is None and short is None:
            self._unread(number, line, "this is no session")
            return
        self._is_full = full is not None
        if len(self._table.sessions) >= MOST_SESSIONS:
            self._unread(number, line, f"only the first {MOST_SESSIONS} sessions are kept")
            return
        here = dataclasses.replace(self._source, line=number)
        session = _long_head(full, here) if full is not None else None if short is None else _short(short, here, line)
        if session is None:
            self._unread(number, line, "its client has no address that can be read; `set anon on` hides them")
            return
        self._session = session
        self._table.sessions.append(session)

    def finish(self) -> None:
        """The session that was being read is over."""
        if self._is_full and self._session is not None and not self._session.server:
            self._table.unread.add(self._session.source, "", "the session is cut off: what it says of its server is missing")
        self._session, self._side, self._is_full = None, "", False

    def _unread(self, number: int, line: str, because: str) -> None:
        self._table.unread.add(dataclasses.replace(self._source, line=number), line, because)

    def _add(self, session: Session, text: str, here: Source, line: str) -> None:
        """What one more line of the long form says of a session."""
        if text.startswith(("frontend=", "backend=", "server=")):
            found = _SIDE.fullmatch(text)
            end = end_of(found[4]) if found is not None and found[4] else None
            if found is None or (found[4] and end is None and not found[4].startswith("unix")):
                self._table.unread.add(here, line, "expected a name, an id and perhaps an address with its port")
                return
            name = sys.intern(found[2])
            if found[1] == "frontend":
                session.frontend, session.frontend_end = name, end
            elif found[1] == "backend":
                session.backend, session.mode, session.local_end = name, sys.intern(found[3] or ""), end
            else:
                session.server, session.server_end = name, end
        elif text.startswith("task="):
            session.age_s = _age(text)
        elif text.startswith((*_CLIENT_SIDE, *_SERVER_SIDE)):
            self._side = "client" if text.startswith(_CLIENT_SIDE) else "server"
            state = _STATE.search(text)
            if state is not None and self._side == "client":
                session.client_state = sys.intern(state[1])
            elif state is not None:
                session.server_state = sys.intern(state[1])
        elif text.startswith("flags=") and self._side:
            number = _FD.search(text)
            if number is not None and self._side == "client":
                session.client_fd = int(number[1])
            elif number is not None:
                session.server_fd = int(number[1])
        elif text.startswith(("req=", "res=")):
            self._side = ""


def _long_head(found: re.Match[str], here: Source) -> Session | None:
    client = end_of(found[10]) if found[10] else None
    if client is None and found[10] and not found[10].startswith("unix"):
        return None
    accepted = _accepted(found.groups()[1:8]) if found[2] else None
    return Session(here, found[1], sys.intern(found[9]), client, accepted_naive_ns=accepted)


def _short(found: re.Match[str], here: Source, line: str) -> Session | None:
    client = end_of(found[3]) if found[3] else None
    if client is None and found[3] and not found[3].startswith("unix"):
        return None
    frontend, backend, server = (sys.intern(name or "") for name in found.groups()[3:6])
    session = Session(here, found[1], sys.intern(found[2]), client, frontend, backend, server, age_s=_age(line))
    numbers = _SHORT_FDS.search(line)
    if numbers is not None:
        session.client_fd, session.server_fd = (int(number) if not number.startswith("-") else None for number in numbers.groups())
    return session


def _accepted(parts: tuple[str, ...]) -> int | None:
    day, month, year, hour, minute, second, fraction = parts
    if month not in _MONTHS or not 1 <= int(day) <= 31:
        return None
    clock = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    return None if clock[0] < 1970 else calendar.timegm(clock) * 1_000_000_000 + int(fraction) * 1000


def _age(text: str) -> int | None:
    """`age=1d2h`, `age=59s` in seconds (src/tools.c human_time)."""
    found = _AGE.search(text)
    return None if found is None else sum(int(count) * _UNITS[unit] for count, unit in _AGE_PART.findall(found[1]))


@functools.lru_cache(maxsize=1 << 14)
def _ip(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return None if "%" in text else str(address)


def end_of(word: str) -> End | None:
    """`10.0.0.9:49750`, `2001:db8::9:49750` or `::ffff:10.0.0.9:49750`: HAProxy puts no brackets round IPv6."""
    host, colon, port = word.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        return None
    ip = _ip(host)
    return None if ip is None else (ip, int(port))
