"""A connection whose packets a kernel may have ignored goes in; what the host's state says of the accept queue comes out."""

from __future__ import annotations

import dataclasses

from tcpwhy.causes._by_state import doubts_of
from tcpwhy.causes._counted import Counted, counted
from tcpwhy.causes._ignored import Ignored
from tcpwhy.causes._stops import Stop, stop_at, stops, surely_ends
from tcpwhy.causes._verdict import Cap, Exhibit
from tcpwhy.connections.connection import Connection
from tcpwhy.path.trace import Fate
from tcpwhy.tables.sockets import Socket
from tcpwhy.tables.sysctls import Setting

LISTEN_OVERFLOWS = "TcpExtListenOverflows"
"""Rises by one for each SYN, last ACK or data that a full accept queue ends (net/ipv4/tcp_input.c, tcp_ipv4.c tcp_v4_syn_recv_sock())."""

RIVALS = {
    "TcpInCsumErrors": "packets with wrong checksums",
    "TcpExtTCPReqQFullDrop": "SYNs that a full queue of half-open connections dropped",
    "TcpExtTCPMD5NotFound": "packets without the MD5 signature that a socket wants",
    "TcpExtTCPMD5Unexpected": "packets with an MD5 signature that no socket wants",
    "TcpExtTCPMD5Failure": "packets with a wrong MD5 signature",
    "TcpExtTCPDeferAcceptDrop": "last ACKs that TCP_DEFER_ACCEPT ignored",
}
"""Counters of what else the kernel drops without a word between the taps and the socket."""

ABORT, SOMAXCONN = "net.ipv4.tcp_abort_on_overflow", "net.core.somaxconn"

TO_A_SOCKET = (Fate.ACCEPTED, Fate.QUEUE_FULL, Fate.REFUSED)
"""A segment in mid-connection is refused by the walk where the snapshot lacks its socket: it came to TCP all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A listener's accept queue, as far as the state of its host tells."""

    place: str
    seen_at: str | None
    """The place where its own capture shows what it ignored."""
    stop: Stop
    """Where the first of those packets ends, by the state."""
    listener: Socket | None
    counter: Counted | None
    """ListenOverflows."""
    rivals: tuple[Counted, ...]
    """Other counters of silent drops that rose, or, with one snapshot, are not 0."""
    abort: Setting | None
    somaxconn: Setting | None
    count: int
    """How many packets of this connection it ignored, as its capture shows."""

    @property
    def is_full(self) -> bool:
        """When the state was taken."""
        return self.listener is not None and self.listener.is_overflowing

    @property
    def rose_enough(self) -> bool:
        """ListenOverflows rose by as many as were ignored, at least."""
        return self.counter is not None and self.counter.rise is not None and self.counter.rise >= max(1, self.count)

    @property
    def is_proven(self) -> bool:
        """It was full while this connection was tried, and nothing else can have dropped its packets as far as the state tells."""
        if self.stop.fate not in TO_A_SOCKET or self.stop.contradiction:
            return False
        if self.seen_at is None:
            return self.is_full
        if self.rose_enough or self.is_full:
            return True
        return self.counter is not None and self.counter.rise is None and self.counter.happened and not self.rivals

    @property
    def at_most(self) -> Cap:
        """One snapshot shows that the queue was full at some time; two around it that it was then."""
        if self.seen_at is None or not (self.rose_enough or self.is_full) or (self.rivals and not self.is_full):
            return "likely"
        return "confirmed"

    @property
    def program(self) -> str:
        """Who should accept: `python (pid 7)`."""
        if self.listener is None or not self.listener.processes:
            return ""
        return f"{self.listener.processes[0].name} (pid {self.listener.processes[0].pid})"

    @property
    def proof(self) -> str:
        """In one clause."""
        parts = []
        if self.is_full and self.listener is not None:
            parts.append(f"ss shows {self.listener.recv_q} waiting, where the backlog is {self.listener.send_q}")
        if self.counter is not None and self.counter.rise is not None:
            parts.append(f"ListenOverflows rose by {self.counter.rise} in the meantime")
        elif self.counter is not None:
            parts.append(f"ListenOverflows is {self.counter.value} since the host's start")
        return ", and ".join(parts)

    @property
    def doubt(self) -> str:
        """Why it is not proven, in one clause."""
        if self.stop.fate is Fate.UNKNOWN:
            return f"the state of {self.place} does not tell: {doubts_of(self.stop)}"
        if self.stop.contradiction:
            return f"the state of {self.place} contradicts itself: {self.stop.contradiction}"
        if self.counter is None:
            return f"ListenOverflows of {self.place} was not collected"
        if self.rivals:
            return f"of {self.place}, {self.counter.exhibit.text}, but so is {' and '.join(one.exhibit.text for one in self.rivals)}"
        if self.counter.rise is not None:
            return f"of {self.place}, {self.counter.exhibit.text}, and {self.count} packets of this connection were ignored"
        return f"of {self.place}, {self.counter.exhibit.text}, which may be of another time"

    @property
    def exhibits(self) -> tuple[Exhibit, ...]:
        """The listener, the counter and the setting."""
        shown = []
        if self.listener is not None:
            who = self.program or "a socket"
            text = f"{who} listens on {self.listener.local}: Recv-Q {self.listener.recv_q}, Send-Q {self.listener.send_q}"
            shown.append(Exhibit("state", self.place, self.listener.source.file, text, line=self.listener.source.line))
        if self.counter is not None:
            shown.append(self.counter.exhibit)
        if self.abort is not None and self.abort.number:
            shown.append(Exhibit("state", self.place, self.abort.source.file, f"{ABORT} = {self.abort.value}", line=self.abort.source.line))
        return tuple(shown)


def queue_of(connection: Connection, lost: Ignored) -> Queue | None:
    """The queue of the host that the ignored packets came to; None where no state of it was collected."""
    for place in reversed(connection.places):
        seen = [one for one in lost.packets if one.seen_at(place)]
        if place not in connection.hosts or not seen or not connection.is_server_host(place):
            continue
        stop = stop_at(connection, place, seen[0])
        return _queue(stop, place, len(seen)) if stop is not None else None
    passed = stops(connection)[-1:] if lost.form == "SYN" else ()
    if passed and passed[0].fate in TO_A_SOCKET:
        seen_there = sum(one.seen_at(passed[0].place) for one in lost.packets)
        return _queue(passed[0], passed[0].place if passed[0].is_seen else None, seen_there)
    return None


def _queue(stop: Stop, seen_at: str | None, count: int) -> Queue:
    host = stop.host
    sighting = stop.arrival.sighting
    at_ns = sighting.time_ns if sighting is not None else None
    end = stop.trace.end
    listeners = []
    if host.sockets is not None and end.destination_port is not None:
        listeners = host.sockets.listeners_for(str(end.destination), end.destination_port)
    others = [one for one in (counted(host, name, at_ns) for name in RIVALS) if one is not None]
    rivals = tuple(one for one in others if (one.rise if one.rise is not None else one.value))
    settings = host.sysctls
    return Queue(
        place=stop.place,
        seen_at=seen_at,
        stop=stop,
        listener=next((one for one in listeners if one.is_overflowing), next(iter(listeners), None)),
        counter=counted(host, LISTEN_OVERFLOWS, at_ns),
        rivals=rivals,
        abort=settings.get(ABORT) if settings is not None else None,
        somaxconn=settings.get(SOMAXCONN) if settings is not None else None,
        count=count,
    )


def refuted(connection: Connection, queue: Queue, lost: Ignored) -> str | None:
    """Why the queue cannot have been full, or cannot have done this; None where it can, or where it may be another host's."""
    if not surely_ends(connection, queue.stop):
        return None
    if queue.counter is not None and queue.counter.contradiction:
        return f"no accept queue of {queue.place} was full: {queue.counter.contradiction}"
    if lost.form == "RST" and queue.abort is not None and queue.abort.number == 0:
        return f"{ABORT} is 0 ({queue.abort.source}): a full accept queue ignores the last ACK and sends no RST"
    return None


def fixes(connection: Connection, queue: Queue, lost: Ignored) -> tuple[str, ...]:
    """What makes room in the queue."""
    pid = queue.listener.processes[0].pid if queue.listener is not None and queue.listener.processes else "PID"
    who = queue.program or "the program"
    found = [f"on {queue.place}: find out what {who} does instead of accept(): `strace -f -p {pid}`, its threads, its limits"]
    backlog = f"now {queue.listener.send_q}" if queue.listener is not None else f"of the listener on port {connection.server.port}"
    limit = f" (now {queue.somaxconn.value})" if queue.somaxconn is not None else ""
    found.append(
        f"for bursts: raise the program's backlog, {backlog} (nginx `listen … backlog=4096`; listen(2)'s second argument), and "
        f"`sysctl -w {SOMAXCONN}=4096`{limit}: the smaller one counts"
    )
    if lost.form == "RST" or (queue.abort is not None and queue.abort.number):
        found.append(f"on {queue.place}: `sysctl -w {ABORT}=0`: clients then try again instead of being reset")
    return tuple(found)
