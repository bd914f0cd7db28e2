"""The server took the request at once and its program took too long to answer: whoever asked gave up.

Mechanism.  The server's kernel acknowledges the request within a round trip; its program has the request, or could read it, and has
    nothing to say for longer than the other end is patient. The caller closes (a client's timeout, nginx proxy_read_timeout: 504, Go
    ResponseHeaderTimeout: `timeout awaiting response headers`), and when the answer comes at last, it meets a RST. TCP is in order all
    the while: nothing is lost, no window closed.

Signature.
    at either place      0.000  client > server  PA  GET /report
                         0.001  server > client  A   ack of the whole request
                         30.0   client > server  FA                       # it gives up
                         30.0   server > client  A   seq = the FIN's ack  # until now the server had not sent a byte
                         41.7   server > client  PA  HTTP/1.1 200 OK      # too late
                         41.7   client > server  R

    The server's ACK of the FIN carries the next number that it will send (RFC 9293: SEG.SEQ=SND.NXT): where that is what the client
    expects, no answer can have been lost on the way. So the client's capture alone tells a slow server from a lost answer.

Source.  RFC 9293 section 3.10.7.4 (<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>); nginx ngx_http_proxy_module proxy_read_timeout;
    Go net/http Transport.ResponseHeaderTimeout; RFC 2525 section 2.17.

Fix.  This is no fault of the network. Find out what the server's program does in that time (its log, a profile, its own upstreams, a
    full pool of workers). If such requests may take so long, raise the caller's timeout above that; if not, let the server give up first
    and say so.

Not to be taken for.  packet-loss and mtu-blackhole: there the request is repeated, or the answer was sent and did not arrive.
    zero-window: there the server's kernel has no room for the request. peer-vanished: there nothing is acknowledged. A long poll that is
    answered, a stream, an idle connection: no failure at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpwhy.causes._asking import capture_at, log_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.causes._waits import Wait, acknowledged, lost_answer, request_of, silent_until, unseen_answer, wait_of
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, Kind
from tcpwhy.connections.stalls import StallKind, stalls
from tcpwhy.connections.told import told_of

SUSPECT = "client_data_packets > 0"
REFERENCES = ("RFC 9293 section 3.10.7.4", "nginx ngx_http_proxy_module proxy_read_timeout", "Go net/http Transport.ResponseHeaderTimeout")

AT_ONCE_NS = SECOND_NS
"""A request is acknowledged within a round trip and a delayed ACK (at most 0.5 s, RFC 1122 section 4.2.3.2)."""

PATIENT_NS = SECOND_NS
"""Who closes sooner after a request has changed its mind: programs' timeouts are a second and more."""


def examine(connection: Connection) -> Verdict:
    """Whether the client gave up a request that the server had acknowledged, and had sent nothing for."""
    failure = connection.failure
    if failure is None or failure.kind.in_handshake:
        return RuledOut("the connection was never established")
    if failure.kind not in (Kind.GAVE_UP, Kind.RESET):
        return RuledOut("nobody closed or reset the connection while an answer was due")
    wait = wait_of(connection, failure)
    if wait is None:
        return RuledOut("the client did not end it while it waited for an answer")
    repeats = [one for one in connection.segments if one.retransmits is not None and one.retransmits in request_of(connection, wait)]
    ack, acked_ns = acknowledged(connection, wait)
    if ack is None:
        return RuledOut("the request was not acknowledged before the client gave up", (exhibit(wait.request, connection, "the request"),))
    if acked_ns > AT_ONCE_NS or (repeats and 4 * acked_ns > wait.waited_ns):
        return RuledOut(f"the request itself was acknowledged only after {_s(acked_ns)}, of {_s(wait.waited_ns)} that the client waited")
    if any(stall.kind is StallKind.WINDOW and stall.end_ns > wait.last.aligned_ns for stall in stalls(connection, PATIENT_NS)):
        return RuledOut("an end's window was closed for long")
    lost = lost_answer(connection, wait)
    if lost is not None:
        return RuledOut(
            f"the server did answer, {_s(lost.aligned_ns - wait.last.aligned_ns)} after the request, and the client did not get it",
            (exhibit(lost, connection, "the answer"),),
        )
    tried_ns = ack.aligned_ns - wait.request.aligned_ns
    if repeats and tried_ns > AT_ONCE_NS:
        return Open(
            f"no answer came for {_s(wait.waited_ns)}; but the request was repeated, and acknowledged only {_s(tried_ns)} after its begin: "
            "an answer may have been lost as well",
            (capture_at(connection, "server", "when it sent the answer, and how often"),),
            _exhibits(connection, wait, ack, None),
        )
    ahead = unseen_answer(connection, wait)
    if ahead is not None:
        one, sent = ahead
        shown = (exhibit(one, connection, f"{sent} bytes had been sent before it"),)
        because = f"the server's numbers had gone on by {sent} bytes, which did not come"
        if one.aligned_ns < wait.end_ns:
            return RuledOut(f"it had answered: {because}", shown)
        decides = "when it sent the answer, and how often"
        return Open(f"no answer came for {_s(wait.waited_ns)}; but {because}", (capture_at(connection, "server", decides),), shown)
    if wait.waited_ns < PATIENT_NS:
        return Open(
            f"the client closed {_s(wait.waited_ns)} after its request, sooner than timeouts are: it may have been cancelled",
            (log_of(connection.client.ip, "whether it gave up waiting or was cancelled"),),
            _exhibits(connection, wait, ack, None),
        )
    return _found(connection, wait, ack, acked_ns)


def _found(connection: Connection, wait: Wait, ack: Segment, acked_ns: int) -> Verdict:
    proof, home = silent_until(connection, wait)
    ip = connection.server.ip
    if proof is None and home is None:
        return Open(
            f"the request was acknowledged after {_ms(acked_ns)} and no answer came for {_s(wait.waited_ns)}; an answer may have been lost",
            (
                capture_at(connection, "server", "whether the answer was sent at all"),
                log_of(ip, "how long the request took there"),
            ),
            _exhibits(connection, wait, ack, None),
        )
    sockets = _unread(connection)
    places = {place for one in (wait.request, ack) for place in one.places}
    told = told_of(connection.told, "timeout_reading", by="client")
    gave_up = "its FIN" if wait.end is not None and wait.end.is_fin else "its RST" if wait.end is not None else "its log"
    says = f"; {told[0].file}:{told[0].line} says so" if told else ""
    late = (
        f"The answer came {_s(wait.late[0].aligned_ns - wait.last.aligned_ns)} after the request, too late. "
        if wait.late
        else "No answer is seen to the end. "
    )
    nothing = (
        "The server's acknowledgment of the close carries the number that the client expected: it had not sent a byte of an answer, "
        "so none was lost."
        if proof is not None
        else f"The capture of {home}, the server's own host, shows that no byte of an answer had been sent by then."
    )
    unread = "Its program had not even read the request: see the Recv-Q. " if sockets else ""
    return Found(
        statement=f"the server {connection.server} took the request at once and did not answer within the {_s(wait.waited_ns)} that "
        f"{connection.client.ip} waited",
        exhibits=(*_exhibits(connection, wait, ack, proof), *sockets),
        basis="two places" if len(places) > 1 else "state" if sockets else "one place",
        where=next((place for place in connection.places if connection.is_server_host(place)), ip),
        explanation=(
            f"The server's kernel acknowledged the whole request after {_ms(acked_ns)}. {_s(wait.waited_ns)} later the client gave up "
            f"({gave_up}{says}). {late}{nothing} {unread}TCP is in order: this is the program's time, no fault of the network."
        ),
        at_ns=wait.end_ns,
        excludes=_excluded(acked_ns),
        fix=(
            f"find out what the server's program at {ip} did in that time: its log, a profile, its own upstreams, a full pool of workers",
            (
                f"if such answers may take {_s(wait.waited_ns)} and more, raise the caller's timeout (nginx proxy_read_timeout, Go "
                "ResponseHeaderTimeout, the client's own); if not, let the server give up first"
            ),
        ),
    )


def _excluded(acked_ns: int) -> dict[str, str]:
    acked = f"the request was acknowledged after {_ms(acked_ns)}"
    unsent = "the server had sent no answer that could have been lost"
    return {
        "packet-loss": f"{acked}, and {unsent}",
        "mtu-blackhole": unsent,
        "peer-vanished": acked,
        "idle-timeout": acked,
        "asymmetric-drop": acked,
        "arp-conflict": acked,
        "mid-connection-rehash": acked,
        "zero-window": "no window was closed while the client waited",
        "keepalive-race": "the server had not closed when the request came",
        "reset-with-unread-data": "the client ended it, not the server",
        "injected-reset": "the client had closed, or reset it, before any other RST",
        "rejected-by-firewall": acked,
        "accept-queue-overflow": f"{acked}: the connection was the server's own by then",
        "stale-connection": "the connection was established and carried data",
        "timestamp-rejected": "the connection was established and carried data",
    }


def _exhibits(connection: Connection, wait: Wait, ack: Segment, proof: Segment | None) -> tuple[Exhibit, ...]:
    end = "the client gives up"
    shown = [exhibit(wait.request, connection, "the request"), exhibit(ack, connection, "all of it is acknowledged")]
    shown += [exhibit(wait.end, connection, end)] if wait.end is not None else []
    shown += [exhibit(proof, connection, "until now the server had sent nothing")] if proof is not None and proof not in wait.late else []
    shown += [exhibit(one, connection, "the answer, too late") for one in wait.late[:1]]
    return tuple(shown)


def _unread(connection: Connection) -> list[Exhibit]:
    """The server's socket, where the request lies unread in it."""
    found = []
    for place, view in connection.views.items():
        host = connection.hosts.get(place)
        for one in host.sockets.between(str(view.client), str(view.server)) if host is not None and host.sockets is not None else ():
            if one.local == str(view.server) and one.recv_q:
                text = f"{one.local} to {one.remote}: Recv-Q {one.recv_q}, bytes received and not read"
                found.append(Exhibit("state", place, one.source.file, text, line=one.source.line))
    return found


def together(founds: Sequence[Found]) -> str:
    """How many waited in vain, and over what time."""
    if len(founds) < 2:
        return ""
    times = sorted(found.at_ns for found in founds)
    return f"{len(founds)} requests were given up within {_s(times[-1] - times[0])}."


def _s(length_ns: int) -> str:
    return f"{length_ns / SECOND_NS:.1f} s"


def _ms(length_ns: int) -> str:
    return f"{length_ns / 1_000_000:.1f} ms" if length_ns >= 100_000 else "less than 0.1 ms"
