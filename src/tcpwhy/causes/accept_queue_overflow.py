"""A listener's accept queue is full, and its kernel ignores or resets new connections.

Mechanism.  The kernel finishes handshakes by itself and queues the connections until the program calls accept(). Where the program is
    busy, or the backlog is short for the rush, the queue fills up: then the kernel drops each new SYN without a word. Where it fills up
    between SYN and last ACK, it ignores that ACK: the client believes that it is connected, and repeats its data into nothing, while the
    server repeats its SYN-ACK; when that is given up, what still comes is answered with RST. With tcp_abort_on_overflow=1 the last ACK
    is answered with RST at once.

Signature.
    at the server        client > server  S               # again and again, no answer, although a program listens
    or                   client > server  S;  server > client  SA;  client > server  A, then data
                         server > client  SA              # once more after 1, 3, 7 s
                         client > server  PA  the same data again    # never acknowledged
    `ss -ltn`            Recv-Q above Send-Q on the listener
    counters             ListenOverflows rises; ListenDrops alone proves nothing, for other drops count there too

Source.  Linux net/ipv4/tcp_input.c tcp_conn_request(), tcp_ipv4.c tcp_v4_syn_recv_sock(), tcp_minisocks.c tcp_check_req(),
    include/net/sock.h sk_acceptq_is_full(); Documentation/networking/ip-sysctl.rst tcp_abort_on_overflow; listen(2).

Fix.  Find out why the program does not accept: what its threads wait for, limits of file descriptors or connections. Raise its backlog
    and net.core.somaxconn both, for the smaller one counts; add workers. Set net.ipv4.tcp_abort_on_overflow=0.

Not to be taken for.  A lost last ACK: then the server never saw it. TCP_DEFER_ACCEPT with a client that says nothing: SYN-ACKs are
    repeated too, and data is taken. TCP-MD5, a full SYN queue (TCPReqQFullDrop), XDP, wrong checksums on arrival (TcpInCsumErrors), the
    host's own OUTPUT that drops the SYN-ACK: ListenOverflows does not rise.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from tcpwhy.causes._asking import counters_of
from tcpwhy.causes._by_state import all_but, told
from tcpwhy.causes._ignored import Ignored, ignored
from tcpwhy.causes._overflow import Queue, fixes, queue_of, refuted
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.path import fate

ID = "accept-queue-overflow"
SUSPECT = (
    "client_syns > 1 OR server_syn_acks > 1 OR (client_syns > 0 AND server_syn_acks = 0) OR server_resets > 0"
    " OR client_retransmissions >= 1"
)
REFERENCES = ("Linux net/ipv4/tcp_input.c tcp_conn_request()", "Linux net/ipv4/tcp_ipv4.c tcp_v4_syn_recv_sock()", "listen(2)")


def examine(connection: Connection) -> Verdict:
    """Looks for packets of the client that the listener's kernel ignored, then for its queue and counter."""
    lost = ignored(connection)
    if lost is None:
        return RuledOut("the listener's kernel took what the client sent, or it was answered otherwise")
    fates = [fate(connection, one) for one in lost.packets]
    sure = [one for one in fates if one.missing_at is not None and one.doubt is None]
    if sure and all(one.missing_at is not None for one in fates):
        return RuledOut(f"what was not answered never arrived at {sure[0].missing_at}")
    queue = queue_of(connection, lost)
    if queue is None:
        return _unknown(connection, lost)
    because = refuted(connection, queue, lost)
    if because is not None:
        return RuledOut(because, () if queue.counter is None else (queue.counter.exhibit,))
    if queue.stop is not None and queue.stop.cause is not None and queue.stop.cause != ID:
        return RuledOut(told(queue.stop))
    return _found(connection, lost, queue) if queue.is_proven else _unproven(connection, lost, queue)


SHAPES = {
    "SYN": "a listener whose accept queue is full drops SYNs without a word",
    "ACK": "a listener whose accept queue is full ignores the last ACK, and the data behind it",
    "RST": "with tcp_abort_on_overflow=1 a full accept queue answers the last ACK with RST",
}


def _ask(host: str) -> tuple[str, ...]:
    return (counters_of(host, "ListenOverflows, and the listener's Recv-Q above its Send-Q"),)


def _shown(connection: Connection, lost: Ignored, place: str | None) -> tuple[Exhibit, ...]:
    note = {"SYN": "the SYN, of which nothing comes", "ACK": "the server took no notice of it", "RST": "answered with RST"}[lost.form]
    packets = [one for one in lost.packets if place is None or one.seen_at(place)]
    answer = "the RST in answer to the last ACK" if lost.form == "RST" else "the SYN-ACK again: for the server the last ACK never came"
    return (
        *(exhibit(one, connection, note, place) for one in packets[:3]),
        *(exhibit(one, connection, answer) for one in lost.answers[:2]),
    )


def _unknown(connection: Connection, lost: Ignored) -> Open:
    """No state of the server's host."""
    place = connection.places[-1]
    arrived = connection.is_server_host(place) and any(one.seen_at(place) for one in lost.packets)
    where = place if arrived else None
    seen = f"; it arrived at {place}, and what its kernel made of it no packet tells" if arrived else ""
    return Open(f"{SHAPES[lost.form]}{seen}", _ask(place if arrived else connection.server.ip), _shown(connection, lost, where), where)


def _unproven(connection: Connection, lost: Ignored, queue: Queue) -> Open:
    """The state neither proves nor refutes it."""
    because = f"{SHAPES[lost.form]}; {queue.doubt}"
    exhibits = (*_shown(connection, lost, queue.seen_at), *queue.exhibits)
    return Open(because, _ask(queue.place), exhibits, queue.place)


def _found(connection: Connection, lost: Ignored, queue: Queue) -> Found:
    program = f"{queue.program} on {queue.place}" if queue.program else f"the program at {connection.server} on {queue.place}"
    more = len(lost.packets) - bool(lost.answers)
    what = {
        "SYN": f"{len(lost.packets)} SYNs of {connection.client} came, and the kernel dropped them without a word",
        "ACK": f"the handshake's last ACK came, and the kernel ignored it and {more} more packets of {connection.client}, "
        "so that the client believes that it is connected"
        + (
            f"; the server sent its SYN-ACK {len(lost.answers)} times more" if lost.answers else "; no SYN-ACK is repeated with SYN cookies"
        ),
        "RST": f"the last ACK of {connection.client} came, and the kernel answered it with RST (net.ipv4.tcp_abort_on_overflow)",
    }[lost.form]
    delayed = connection.failure is not None and connection.failure.kind is Kind.STALLED
    later = " A later try was taken." if delayed else ""
    proof = queue.proof
    return Found(
        statement=f"the accept queue of {connection.server} on {queue.place} is full: "
        + {"SYN": "SYNs are dropped", "ACK": "the handshake's last ACK is ignored", "RST": "the last ACK is answered with RST"}[lost.form],
        exhibits=(*_shown(connection, lost, queue.seen_at), *queue.exhibits),
        basis="state",
        where=queue.place,
        explanation=f"The connections that {program} has not accepted yet fill its queue: {proof}. In that time {what}.{later}",
        at_ns=lost.packets[0].aligned_ns,
        excludes=all_but(ID, f"{queue.place}'s accept queue was full: {proof}")
        | {
            "packet-loss": f"what was repeated had arrived at {queue.place}, whose kernel ignored it: the accept queue was full",
            "peer-vanished": f"{queue.place} was there: its accept queue was full",
            "slow-server": "the request was not even taken: the connection never came out of the accept queue",
        },
        at_most=queue.at_most,
        next_evidence=() if queue.at_most == "confirmed" else _ask(queue.place),
        fix=fixes(connection, queue, lost),
    )


def together(founds: Sequence[Found]) -> str:
    """How many connections met the full queue, and in which time."""
    times = sorted(one.at_ns for one in founds)
    if len(times) < 2:
        return ""
    begin = datetime.datetime.fromtimestamp(times[0] // 1_000_000_000, datetime.UTC)
    span = (times[-1] - times[0]) / 1e9
    return f"{len(times)} connections met the full queue, the first at {begin:%H:%M:%S} UTC, the last {span:.1f} s later."
