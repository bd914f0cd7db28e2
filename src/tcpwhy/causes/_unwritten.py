"""A failed connection goes in; which causes of the contract fit it although no file examines them yet comes out.

A cause that has no file counts as open wherever its signature could fit (docs/json.md). Each entry here goes when its file comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tcpwhy.causes._verdict import Open
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import HTTP_METHODS, Kind
from tcpwhy.connections.packet import ACK, FIN, RST, SYN

Fits = Callable[[Connection], str | None]

IDLE_NS = 10_000_000_000
"""Shortest silence after which a device is known to forget a connection on purpose lies far above this (facts: 60 s and more)."""

RACE_IDLE_NS = 1_000_000_000
"""Shortest idle timeout of a server that is in use: 2 s and more."""

FULL_SEGMENT = 1_000
"""A repeated segment so large may be one that does not fit the path."""


def _kind(connection: Connection) -> Kind | None:
    return connection.failure.kind if connection.failure else None


def _unanswered_syn(connection: Connection) -> bool:
    return _kind(connection) is Kind.UNANSWERED


def _first_reset(connection: Connection) -> Segment | None:
    return connection.resets[0] if connection.resets else None


def _reset_by(connection: Connection, side: str) -> Segment | None:
    reset = _first_reset(connection)
    return reset if reset is not None and _kind(connection) is Kind.RESET and reset.sender == side else None


def _idle_before_end_ns(connection: Connection) -> int:
    """The longest pause within the connection's last exchange: before the packet that met RST or silence."""
    end = _first_reset(connection)
    times = [segment.aligned_ns for segment in connection.segments if end is None or segment.aligned_ns <= end.aligned_ns]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0)


def _accept_queue(connection: Connection) -> str | None:
    if _unanswered_syn(connection) and not connection.icmp:
        return "a listener whose accept queue is full drops SYNs without a word"
    acked = [s for s in connection.segments if s.sender == "client" and s.flags & ACK and not s.flags & (SYN | RST)]
    if acked and len(connection.syn_acks) > 1 and connection.syn_acks[-1].aligned_ns > acked[0].aligned_ns:
        return "the server repeats its SYN-ACK although the last ACK was sent"
    reset = _reset_by(connection, "server")
    if (
        reset is not None
        and connection.syns
        and not any(s.sender == "server" and not s.is_reset and not s.flags & SYN for s in connection.segments)
    ):
        return "with tcp_abort_on_overflow=1 a full accept queue answers the last ACK with RST"
    return None


def _stale(connection: Connection) -> str | None:
    bare = [s for s in connection.segments if s.sender == "server" and s.flags & ACK and not s.flags & (SYN | RST)]
    if _kind(connection) is Kind.HALF_OPEN and bare:
        return "an ACK of other numbers answered the SYN: an older connection of the same addresses may be left over"
    if _unanswered_syn(connection) and (connection.earlier or bare):
        return "the addresses were in use before"
    return None


def _timestamps(connection: Connection) -> str | None:
    if _unanswered_syn(connection) and not connection.icmp and any(syn.ts_value is not None for syn in connection.syns):
        return "a SYN whose timestamp lies behind that of an older connection may be dropped without a word"
    return _stale(connection) if _kind(connection) is Kind.HALF_OPEN else None


def _injected(connection: Connection) -> str | None:
    reset = _first_reset(connection)
    if reset is None or _kind(connection) is not Kind.RESET:
        return None
    if any(server.ip.startswith("127.") or server.ip == "::1" for view in connection.views.values() for _, server in view.translated):
        return None  # It never left the host.
    origin = connection.places[-1] if reset.sender == "server" else connection.places[0]
    if len(connection.places) > 1 and reset.seen_at(origin) and not (connection.views[origin].hops[reset.sender == "server"] or 0):
        return None
    return "the RST was not seen at the host that is said to have sent it"


def _idle_timeout(connection: Connection) -> str | None:
    if _kind(connection) in (Kind.RESET, Kind.SILENT) and _idle_before_end_ns(connection) >= IDLE_NS:
        return f"the connection was idle for {_idle_before_end_ns(connection) / 1e9:.0f} s before"
    return None


def _keepalive_race(connection: Connection) -> str | None:
    closed = [s for s in connection.segments if s.sender == "server" and s.flags & FIN]
    if _kind(connection) is Kind.GAVE_UP and closed:
        return "the server closed while the request was on its way"
    if _reset_by(connection, "server") is None:
        return None
    if closed:
        return "the server had closed its side when the request came"
    if _idle_before_end_ns(connection) >= RACE_IDLE_NS:
        return "the connection was idle before the request that was reset"
    return None


def _mtu(connection: Connection) -> str | None:
    repeated = [s for s in connection.segments if s.retransmits is not None and s.length]
    if _kind(connection) is Kind.SILENT and repeated and all(s.length >= FULL_SEGMENT for s in repeated):
        return "only full-sized segments are repeated"
    return None


def _zero_window(connection: Connection) -> str | None:
    closed = any(not s.packet.window and not s.is_reset and not s.opens for s in connection.segments)
    return "a receiver announced window 0" if closed and not _in_handshake(connection) else None


def _packet_loss(connection: Connection) -> str | None:
    repeated = [s for s in connection.segments if s.retransmits is not None]
    if repeated and _kind(connection) in (Kind.RESET, Kind.SILENT, Kind.GAVE_UP):
        return "segments were repeated"
    return None


def _unread_data(connection: Connection) -> str | None:
    reset = _reset_by(connection, "server")
    if reset is not None and (reset.flags & ACK or any(s.sender == "server" and s.is_fin for s in connection.segments)):
        return "a socket closed with data unread sends this RST"
    return None


def _vanished(connection: Connection) -> str | None:
    if _unanswered_syn(connection) and connection.icmp:
        return "a router says that the host cannot be reached: it may be gone"
    return "the other end may be gone" if _kind(connection) is Kind.SILENT else None


def _slow(connection: Connection) -> str | None:
    if _kind(connection) is Kind.GAVE_UP or _reset_by(connection, "client") is not None:
        asked = any(s.sender == "client" and s.packet.payload.startswith(HTTP_METHODS) for s in connection.segments)
        return "the client ended it before the answer was there" if asked else None
    return None


def _in_handshake(connection: Connection) -> bool:
    kind = _kind(connection)
    return kind is not None and kind.in_handshake


UNWRITTEN: dict[str, tuple[str, Fits, str]] = {
    "accept-queue-overflow": (
        "the listener's accept queue is full",
        _accept_queue,
        "`nstat -asz | grep ListenOverflows` twice and `ss -ltn` on the server",
    ),
    "stale-connection": (
        "what is left of an older connection answers",
        _stale,
        "captures at both ends from before the attempt; `ss -tan` on the server",
    ),
    "timestamp-rejected": (
        "the server rejects the SYN's timestamp",
        _timestamps,
        "`nstat -asz | grep PAWS` twice on the server",
    ),
    "injected-reset": (
        "something between the ends forges a RST",
        _injected,
        "a capture at the host that is said to have sent the RST",
    ),
    "idle-timeout": (
        "a device between the ends forgot the idle connection",
        _idle_timeout,
        "captures at both ends over the idle time",
    ),
    "keepalive-race": (
        "the server closes an idle connection just as the next request is sent",
        _keepalive_race,
        "a capture at the server",
    ),
    "mtu-blackhole": (
        "full-sized packets do not fit the path and nobody says so",
        _mtu,
        "`ping -M do -s 1472` along the path; captures at both ends",
    ),
    "zero-window": ("the receiver's program stopped reading", _zero_window, "`ss -tnoem` on the receiver"),
    "packet-loss": ("the network loses packets", _packet_loss, "complete captures at both ends of the path"),
    "reset-with-unread-data": (
        "a program closes its socket with data unread",
        _unread_data,
        "the program's log; a capture at the server",
    ),
    "peer-vanished": ("one end is gone", _vanished, "a capture at the silent end"),
    "slow-server": ("the answer came too late", _slow, "the server's own log of how long the request took"),
}
"""By id: what it is in a clause, whether it fits, and what would decide it."""


def open_causes(connection: Connection, written: set[str]) -> dict[str, Open]:
    """The causes without a file that fit a failed connection, by id."""
    found = {}
    for cause, (_, fits, evidence) in UNWRITTEN.items():
        if cause in written:
            continue
        because = fits(connection)
        if because is not None:
            found[cause] = Open(because, (evidence,))
    return found
