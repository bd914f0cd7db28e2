"""The server closes an idle connection just as the next request is sent on it.

Mechanism.  A client, proxy or pool keeps a connection open for the next request; the server closes it after an idle timeout of its own.
    Where both happen at once, FIN and request cross, and the server's kernel answers the request with RST: nobody reads that socket any
    more. The same where a pool writes on a connection long after its kernel received and acknowledged the FIN, because nobody looked.
    A proxy says 502 (`upstream prematurely closed connection`, `EOF`, `connection reset by peer`), and only now and then.

Signature.
    client > server   request, answer
    (silence as long as the server's idle timeout)
    server > client   FA                    # the server closes; with SO_LINGER 0: RA
    client > server   PA    next request    # its ACK does not cover the FIN yet: they crossed (or it does: the pool did not look)
    server > client   R     seq = the request's ACK

Source.  RFC 9112 section 9.5 (a client must expect a close at any time); RFC 9110 section 9.2.2 (retry of idempotent requests);
    Linux net/ipv4/tcp_input.c tcp_rcv_state_process(): data in FIN_WAIT after close() is answered with RST.

Fix.  Make the caller's idle timeout shorter than the server's (or the server's longer), and let the caller retry idempotent requests on
    another connection.

Not to be taken for.  reset-with-unread-data: there the request was unfinished or the server at work on it. idle-timeout: there a device
    between forgot the connection and neither end closed it. mid-connection-rehash: there another backend answers, and no FIN came before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tcpwhy.causes._asking import capture_at, log_of
from tcpwhy.causes._forgery import marks
from tcpwhy.causes._resets import (
    SECOND_NS,
    before_at,
    closed_before,
    seen_packet,
    sent_at_home,
)
from tcpwhy.causes._reuse import Reuse, reuse
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import ACK, seq_before

SUSPECT = "server_fins > 0 OR server_resets > 0"
REFERENCES = ("RFC 9112 section 9.5", "RFC 9110 section 9.2.2", "Linux net/ipv4/tcp_input.c tcp_rcv_state_process()")

DEFAULTS = {
    2: "gunicorn", 5: "Node.js, uvicorn, Apache httpd", 6: "Node.js that adds its buffer of 1 s", 20: "Tomcat's server.xml", 30: "Jetty",
    60: "nginx towards upstreams, Tomcat", 75: "nginx towards clients", 90: "Go's client", 120: "IIS", 130: "Kestrel",
}  # fmt: skip
"""Idle timeouts of servers by their documentation, s (nginx ngx_http_core_module keepalive_timeout, Node.js server.keepAliveTimeout, which
20.20 was measured to close 6.0 s after the answer, gunicorn --keep-alive, uvicorn --timeout-keep-alive, httpd KeepAliveTimeout, Tomcat
keepAliveTimeout, Kestrel KeepAliveTimeout)."""

_KEEP_ALIVE = re.compile(rb"\r\nkeep-alive:[ \t]*timeout=(\d{1,6})", re.IGNORECASE)

NEAR = 0.1
"""How far, as a share of it, a measured idle time may lie above a default: timers of servers tick once a second or so."""


def examine(connection: Connection) -> Verdict:
    """Looks for a new request on an idle connection that the server had closed, or was closing."""
    failure = connection.failure
    if failure is None or failure.kind not in (Kind.RESET, Kind.GAVE_UP):
        return RuledOut("the server did not end an established connection")
    if connection.is_turned_to_itself:
        return RuledOut("its packets never left the host")
    met = reuse(connection)
    if isinstance(met, str):
        return _unseen_close(connection, met)
    answer = _answer(connection, met)
    if met.doubt is not None:
        ask = (
            log_of(connection.server.ip, "whether its idle timeout closed the connection"),
            capture_at(connection, "server", "what it had received when it closed"),
        )
        return Open(f"the server ended the connection as the client wrote on it; but {met.doubt}", ask, _exhibits(connection, met, answer))
    return _found(connection, met, answer)


def _answer(connection: Connection, met: Reuse) -> Segment | None:
    """The RST for the request: seq = its ACK, or beyond, where the client acknowledged the FIN in between."""
    return next((one for one in connection.resets if one.sender == "server" and one is not met.end), None)


def _unseen_close(connection: Connection, because: str) -> Verdict:
    """Without the server's end in what was captured: open where the RST came on an idle connection."""
    first = connection.resets[0] if connection.resets else None
    if first is None or first.sender != "server" or first.flags & ACK or closed_before(connection, first, "server") is not None:
        return RuledOut(because)
    foreign = marks(connection, first)
    if foreign:
        return RuledOut(f"the server did not send the RST: {foreign[0]}", (exhibit(first, connection, "not the server's"),))
    place = first.first.vantage_point
    times = [seen_packet(one, place).time_ns for one in before_at(connection, place, first)]
    idle = max((later - earlier for earlier, later in itertools.pairwise(times)), default=0)
    if idle < SECOND_NS and connection.syns:
        return RuledOut(f"{because}, and the connection was not idle")
    if sent_at_home(connection, first) is not None and connection.syns:
        return RuledOut("the server's own capture has the whole connection, and no FIN before the RST")
    ask = (capture_at(connection, "server", "whether the server closed the connection before the request came"),)
    shown = (exhibit(first, connection, "the RST for what was sent on the idle connection"),)
    if idle < SECOND_NS:
        return Open("nothing was captured of it before what was reset: the server may have closed it while it was idle", ask, shown)
    return Open(f"the connection had been idle for {idle / SECOND_NS:.1f} s before the request that was reset", ask, shown)


def _found(connection: Connection, met: Reuse, answer: Segment | None) -> Found:
    shut, idle = met.server_idle_ns / SECOND_NS, met.idle_ns / SECOND_NS
    least = "at least " if met.is_least else ""
    how, by = ("closed", "FIN") if met.end.is_fin else ("aborted", "RST")
    if met.is_late:
        when = f"the client's kernel acknowledged the FIN; its program sent the next request {idle - shut:.1f} s later all the same, which"
    elif met.is_crossing:
        when = "at that moment the client's next request was on its way. The two crossed, and the request"
    else:
        when = "the client's next request had just arrived, and"
    lost = "was answered with RST" if answer is not None or not met.end.is_fin else "was never answered"
    both = len(connection.places) > 1 and len({*met.request.places, *met.end.places}) > 1
    return Found(
        statement=f"{connection.server} {how} the idle connection as the next request of {connection.client} was sent",
        exhibits=_exhibits(connection, met, answer),
        basis="two places" if both else "one place",
        where=str(connection.server),
        explanation=(
            f"The connection had been idle for {least}{shut:.3f} s{_default(shut)} when the server {how} it with {by}; {when} {lost}. "
            f"The server's idle timeout is {least}about {shut:.1f} s{_announced(connection)}, and the caller keeps idle connections "
            f"for {least}{idle:.1f} s or longer: whichever request falls on the close is lost. The network delivered every packet."
        ),
        at_ns=met.end.aligned_ns,
        # A RST for what had arrived can be the work of a program that aborts on it: nothing in the packets tells the moment's purpose.
        at_most="confirmed" if met.end.is_fin or met.is_crossing else "likely",
        excludes=_excluded(met),
        fix=(
            (
                f"set the idle timeout of the caller's pool below {shut:.1f} s (nginx: `keepalive_timeout` in `upstream`; Go: "
                "`Transport.IdleConnTimeout`; HAProxy: `pool-purge-delay`), or the server's above the caller's"
            ),
            "let the caller retry idempotent requests on a fresh connection (nginx: `proxy_next_upstream error timeout`)",
        ),
    )


def _default(seconds: float) -> str:
    known = [f"{name}: {value} s" for value, name in DEFAULTS.items() if value * 0.99 <= seconds <= value * (1 + NEAR) + 0.1]
    return f" (the default of {'; '.join(known)})" if known else ""


def _announced(connection: Connection) -> str:
    """What the server's answers say of it themselves (RFC 2068 section 19.7.1.1)."""
    said = [found for one in connection.segments if one.sender == "server" for found in [_KEEP_ALIVE.search(one.packet.payload)] if found]
    return f" (its answers announce `Keep-Alive: timeout={int(said[-1][1])}`)" if said else ""


def _exhibits(connection: Connection, met: Reuse, answer: Segment | None) -> tuple[Exhibit, ...]:
    before = [
        one for one in connection.segments if one.sender == "server" and one.length and one is not met.end and not one.is_reset
        and not seq_before(met.request.ack, one.seq_end)
    ]  # fmt: skip
    ended = "the server closes the idle connection" if met.end.is_fin else "the server aborts the idle connection"
    knows = "although the FIN was acknowledged" if met.is_late else "which knows nothing of the close" if met.is_crossing else "unread"
    shown = [exhibit(one, connection, "the last answer; then silence") for one in before[-1:]]
    shown.append(exhibit(met.end, connection, ended))
    shown.append(exhibit(met.request, connection, f"the next request, {knows}"))
    shown += [exhibit(one, connection, "nobody reads that socket any more: RST") for one in (answer,) if one is not None]
    return tuple(shown)


def _excluded(met: Reuse) -> dict[str, str]:
    closed = "the server itself had closed the connection" if met.end.is_fin else "the server's own socket aborted the connection"
    return {
        "injected-reset": f"{closed}: its kernel must answer with RST" if met.end.is_fin else closed,
        "idle-timeout": f"{closed}: no device between forgot it",
        "reset-with-unread-data": f"the connection was idle and the request new: {closed}",
        "packet-loss": "each packet that mattered arrived",
        "peer-vanished": closed,
        "slow-server": f"{closed} before the request could be read",
        "mtu-blackhole": closed,
        "zero-window": closed,
        "asymmetric-drop": closed,
        "accept-queue-overflow": f"{closed}, long after the handshake",
        "stale-connection": closed,
        "timestamp-rejected": closed,
        "arp-conflict": closed,
    }


def together(founds: Sequence[Found]) -> str:
    """How many connections met it."""
    return f"{len(founds)} connections met it: no accident, but two timeouts that meet." if len(founds) > 1 else ""
