"""The receiver's program stopped reading, so that its window closed and the sender had to wait.

Mechanism.  A kernel takes in what its program has not read yet, up to the size of its buffer, and announces with each ACK how much
    room is left. When the program hangs, is stopped, or reads too slowly, the room goes to nothing: window 0. The sender stops, and
    probes again and again whether there is room; the receiver's kernel answers each probe, window 0. It ends when the program reads
    again, when somebody loses patience, or when the program goes: its kernel answers what was not read with RST.

Signature.
    at either place      0.000  sender > receiver  PA  …                 # fills the last of the room
                         0.040  receiver > sender  A   window 0
                         0.260  sender > receiver  A   one number back   # a probe; then after 0.4, 0.8, 1.6 … s
                         0.260  receiver > sender  A   window 0          # the receiver's kernel is well and says no

    The window is the receiver's own word: one place suffices to see it. In ss at the receiver the Recv-Q is full, at the sender the
    timer is `persist`.

Source.  RFC 9293 sections 3.8.6.1 (probing a zero window) and 3.8.6.2.1 (silly windows); RFC 2525 section 2.17 and Linux
    net/ipv4/tcp.c tcp_close() (RST where data is unread); net/ipv4/tcp_timer.c tcp_probe_timer(), net/ipv4/tcp_output.c
    __tcp_select_window().

Fix.  Look at the receiver's program, not at the network: a stack or thread dump while it happens shows what it waits for (a lock, a
    disk, a slow consumer of its own, a full queue). Bound how much is accepted before it is read; let the sender's side time out and
    say so.

Not to be taken for.  peer-vanished: there the probes are not answered. packet-loss: there data is repeated, here it is not even sent.
    reset-with-unread-data: the RST at the end comes from data unread, but the program had stopped reading long before. A window that
    closes and opens again within a second or two is how TCP slows a sender down: healthy.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_at, log_of, state_of
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, SILENT_REPEATS, Kind
from tcpwhy.connections.packet import Side, other_side
from tcpwhy.connections.stalls import Stall, StallKind, stalls

SUSPECT = "client_zero_windows + server_zero_windows > 0 OR client_closed_window_ns + server_closed_window_ns > 0"
REFERENCES = (
    "RFC 9293 section 3.8.6.1",
    "RFC 9293 section 3.8.6.2.1",
    "RFC 2525 section 2.17",
    "Linux net/ipv4/tcp_timer.c tcp_probe_timer()",
)

LONG_NS = SECOND_NS
"""A reset that ends a shorter wait for room is no stall's end: programs that close leave data unread at any time."""

BEFORE_END_NS = SECOND_NS
"""A window that was last said to be closed so shortly before the end was closed at the end."""


def examine(connection: Connection) -> Verdict:
    """Looks for the time in which a closed window held up the connection, and whether that is what failed."""
    failure = connection.failure
    if failure is None or failure.kind.in_handshake:
        return RuledOut("the connection was never established")
    closed = [stall for stall in stalls(connection) if stall.kind is StallKind.WINDOW]
    if not closed:
        return RuledOut("no end waited for the other's window to open")
    if failure.kind is Kind.STALLED:
        held_up = [stall for stall in closed if stall.end_ns == failure.at_ns and set(stall.segments) & set(failure.segments)]
        longest = max(closed, key=lambda stall: stall.length_ns)
        return _judge(connection, held_up[0]) if held_up else _too_short(longest, "what held it up was something else")
    last = closed[-1]
    if failure.kind is Kind.SILENT:
        return _silent(connection, last)
    if last.ended:
        return _too_short(last, f"the {_receiver(last)} had room again before the connection ended")
    if failure.kind in (Kind.RESET, Kind.GAVE_UP):
        if last.length_ns < LONG_NS:
            return _too_short(last, "that is no long stall")
        return _judge(connection, last)
    return _too_short(last, "that is not what failed")


def _silent(connection: Connection, stall: Stall) -> Verdict:
    """A receiver that does not read answers probes: one that answers no more has another trouble."""
    unanswered = _probes(stall)[-1 - _trailing_probes(stall) :] if _trailing_probes(stall) else []
    if len(unanswered) >= SILENT_REPEATS:
        return RuledOut(
            f"the {_receiver(stall)}'s window was closed, but a kernel whose program does not read answers each probe, "
            f"and the last {len(unanswered)} drew nothing"
        )
    return _too_short(stall, "it is not what fell silent")


def _too_short(stall: Stall, because: str) -> RuledOut:
    return RuledOut(f"the {_receiver(stall)}'s window was closed for {_s(stall.length_ns)} only, and {because}")


def _judge(connection: Connection, stall: Stall) -> Verdict:
    """Whether the receiver really said for long that it had no room."""
    receiver, ip = _receiver(stall), _ip(connection, _receiver(stall))
    said = _said_closed(stall)
    proven_ns = _at(said[-1], stall.place) - _at(said[0], stall.place) if said else 0
    if stall.ended and len(said) < 2:
        return Open(
            f"the {receiver} said once that it had no room, and {_s(stall.length_ns)} later that it had; when the room came is not seen",
            (capture_at(connection, receiver, "when it announced room again: an announcement that was lost is no stopped program"),),
            tuple(exhibit(one, connection, "window 0") for one in said[:1]),
        )
    if _trailing_probes(stall) >= SILENT_REPEATS:
        return Open(
            f"the {receiver}'s window was closed, and then it answered {_trailing_probes(stall)} probes no more",
            (capture_at(connection, receiver, "whether the last probes came there"), state_of(ip, "its socket's Recv-Q")),
            tuple(exhibit(one, connection, "window 0") for one in said[:1]),
        )
    earlier = _room_at_home(connection, stall)
    if earlier is not None:
        return Open(
            f"the {receiver} announced room after {_s(earlier.aligned_ns - stall.start_ns)}, and {stall.place} did not see that",
            (capture_at(connection, stall.side, "whether the announcement of room came there"),),
            (exhibit(earlier, connection, "room again"),),
        )
    return _found(connection, stall, said, proven_ns)


def _found(connection: Connection, stall: Stall, said: list[Segment], proven_ns: int) -> Found:
    receiver = _receiver(stall)
    ip = _ip(connection, receiver)
    sockets = _sockets(connection, stall)
    both = {place for one in said for place in one.places} >= set(connection.places) and len(connection.places) > 1
    room = max(one.packet.window for one in said)
    small = "window 0" if not room else f"windows of {room} at most, too small to be used,"
    probes = _probes(stall)
    name = f"{connection.client} → {connection.server}"
    what = "the upload" if receiver == "server" else "the answer"
    home = next((place for place in connection.places if _is_home(connection, place, receiver)), None)
    end = _end(connection, stall)
    shown = [
        exhibit(said[0], connection, "the window closes", _seen(said[0], stall.place)),
        *(exhibit(one, connection, "a probe: is there room?", _seen(one, stall.place)) for one in probes[:1]),
        *(exhibit(one, connection, "answered: still none", _seen(one, stall.place)) for one in said[1:][-1:]),
        *(exhibit(one, connection, end[1], _seen(one, stall.place)) for one in end[2]),
        *sockets,
    ]
    return Found(
        statement=f"the {receiver}'s program at {ip} stopped reading {what} of {name}: its window was closed for {_s(stall.length_ns)}",
        exhibits=tuple(shown),
        basis="state" if sockets else "two places" if both else "one place",
        where=home or ip,
        explanation=(
            f"The {receiver} acknowledged what it had got and announced {small} for {_s(max(proven_ns, 1))} ({len(said)} times); the "
            f"{stall.side} had more to send and asked {len(probes)} times. The network carried every question and every answer: the "
            f"{receiver}'s kernel is well, and its program did not read. {end[0]}"
        ),
        at_ns=stall.start_ns,
        excludes=_excluded(stall, receiver),
        fix=(
            f"find out what the program on {ip} was waiting for then: a stack or thread dump, its log, its disk, its own upstream",
            f"let the program on {_ip(connection, stall.side)} time out when it cannot write, and say so in its log",
        ),
        next_evidence=(state_of(ip, "Recv-Q of its socket and which program holds it"), log_of(ip, "what its program was doing")),
    )


def _excluded(stall: Stall, receiver: Side) -> dict[str, str]:
    answered = f"the {receiver} answered the {stall.side}'s probes all the while"
    return {
        "packet-loss": f"nothing was lost while it waited: {answered}",
        "mtu-blackhole": f"the {stall.side} sent nothing large meanwhile: there was no room for it",
        "peer-vanished": answered,
        "idle-timeout": f"{answered}: no device between had forgotten the connection",
        "asymmetric-drop": answered,
        "mid-connection-rehash": answered,
        "slow-server": f"what is slow is not the answer: the {receiver}'s program does not read",
        "reset-with-unread-data": f"the data was unread because the {receiver}'s program had stopped reading {_s(stall.length_ns)} before",
        "keepalive-race": "the connection was not idle: one end had more to send",
        "injected-reset": f"before any RST the {stall.side} had waited {_s(stall.length_ns)} for room",
        "rejected-by-firewall": answered,
        "arp-conflict": f"one host acknowledged all that was sent, and {answered}",
        "accept-queue-overflow": f"the {receiver}'s kernel took data in and acknowledged it",
        "stale-connection": "the connection was established and carried data",
        "timestamp-rejected": "the connection was established and carried data",
    }


def _end(connection: Connection, stall: Stall) -> tuple[str, str, list[Segment]]:
    """How the wait ended: in a sentence, in a note, and by which segment."""
    last = stall.segments[-1]
    if stall.ended:
        return f"After {_s(stall.length_ns)} it read on and the connection went on.", "room again", [last]
    if last.is_reset:
        who = "The program was ended or closed its socket with data unread" if last.sender == _receiver(stall) else "The sender gave up"
        return f"{who}: RST {_s(stall.length_ns)} after the window had closed.", "the end", [last]
    closed = [one for one in connection.segments if one.is_fin and one.aligned_ns >= stall.start_ns]
    if closed:
        return f"The {closed[0].sender} closed while the window was.", "the end", closed[:1]
    return "It was so to the end of what was captured.", "", []


def _sockets(connection: Connection, stall: Stall) -> list[Exhibit]:
    """The receiver's socket with bytes unread, and the sender's with its persist timer."""
    found = []
    for place, view in connection.views.items():
        host = connection.hosts.get(place)
        if host is None or host.sockets is None:
            continue
        for one in host.sockets.between(str(view.client), str(view.server)):
            side: Side = "client" if one.local == str(view.client) else "server"
            if side == stall.side and one.timer is not None and one.timer.name == "persist":
                text = f"{one.local} to {one.remote}: the timer is persist, {one.timer.retries} probes; {one.send_q} bytes wait"
            elif side != stall.side and one.recv_q:
                by = "".join(f", held by {process.name} ({process.pid})" for process in one.processes[:1])
                text = f"{one.local} to {one.remote}: Recv-Q {one.recv_q}, bytes received and not read{by}"
            else:
                continue
            found.append(Exhibit("state", place, one.source.file, text, line=one.source.line))
    return found


def _room_at_home(connection: Connection, stall: Stall) -> Segment | None:
    """An announcement of room that left the receiver's own place and did not reach the place that waited, long before the stall ended."""
    for segment in connection.segments:
        if segment.sender != _receiver(stall) or segment.is_reset or segment.is_syn_ack or segment.seen_at(stall.place):
            continue
        within = stall.start_ns < segment.aligned_ns < stall.end_ns - BEFORE_END_NS
        if within and segment.packet.window and _is_home(connection, segment.first.vantage_point, _receiver(stall)):
            return segment
    return None


def _said_closed(stall: Stall) -> list[Segment]:
    said = [one for one in stall.segments if one.sender != stall.side and not one.is_reset]
    return said[:-1] if stall.ended and len(said) > 1 and stall.segments[-1] is said[-1] else said


def _probes(stall: Stall) -> list[Segment]:
    return [one for one in stall.segments if one.sender == stall.side and not one.is_reset]


def _trailing_probes(stall: Stall) -> int:
    """Probes after the last answer."""
    said = _said_closed(stall)
    last_ns = max((_at(one, stall.place) for one in said), default=0)
    return 0 if stall.ended else sum(_at(one, stall.place) > last_ns for one in _probes(stall))


def _receiver(stall: Stall) -> Side:
    return other_side(stall.side)


def _ip(connection: Connection, side: Side) -> str:
    return connection.client.ip if side == "client" else connection.server.ip


def _is_home(connection: Connection, place: str, side: Side) -> bool:
    return connection.is_server_host(place) if side == "server" else connection.is_client_host(place) is True


def _seen(segment: Segment, place: str) -> str | None:
    return place if segment.seen_at(place) else None


def _at(segment: Segment, place: str) -> int:
    sighting = segment.sighting_at(place)
    return segment.aligned_ns if sighting is None else sighting.aligned_ns


def _s(length_ns: int) -> str:
    return f"{length_ns / SECOND_NS:.1f} s"
