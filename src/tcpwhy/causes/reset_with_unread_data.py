"""An end closes its socket while data is unread or still coming, so that its kernel answers with RST.

Mechanism.  close(2) on a socket whose receive queue holds unread bytes sends RST instead of FIN, and so does SO_LINGER with 0 s, a killed
    program whose sockets hold unread bytes, and a listener that is closed with connections waiting. The peer's kernel throws away what
    it had received and not handed over: an answer that was sent before may be lost although it arrived. Or the server answers early
    (413, 401) and closes with FIN; the rest of the body meets a socket that nobody reads, and draws bare RSTs.

Signature.
    client > server   PA    a request, its body under way
    server > client   RA    seq = where the server stood, timestamps and IP ID of its socket
    or, with an early answer,
    server > client   PA    413, before the body is whole
    server > client   FA
    client > server   PA    the body goes on
    server > client   R     seq = the body's ACK, no options

Source.  RFC 2525 section 2.17; RFC 9112 section 9.6 (close in stages, so that the answer is not lost); Linux net/ipv4/tcp.c tcp_close(),
    tcp_disconnect() (counters TCPAbortOnClose, TCPAbortOnData); socket(7) SO_LINGER.

Fix.  Let the server read to the end of the request, or shut down its sending side and read on for a while before close (nginx:
    `lingering_close`), and never set SO_LINGER to 0; let the client send `Expect: 100-continue` before large bodies.

Not to be taken for.  keepalive-race: there the connection was idle and the request new. injected-reset: there the RST bears nothing of
    the socket's. zero-window: there the receiver had stopped reading for long before. A RST after everything was delivered is none.
"""

from __future__ import annotations

from tcpwhy.causes._answered import answer_had_begun, has_taken_some, waited_ns
from tcpwhy.causes._asking import capture_at, counters_of, log_of
from tcpwhy.causes._claims import most_claims
from tcpwhy.causes._contradiction import contradiction
from tcpwhy.causes._counted import Counted, counted
from tcpwhy.causes._forgery import is_of_its_socket, marks
from tcpwhy.causes._loss_pattern import unseen_close
from tcpwhy.causes._resets import (
    before_at,
    began_before,
    closed_before,
    home_of,
    is_socket_reset,
    sent_at_home,
    stuck_before,
    unsent,
)
from tcpwhy.causes._reuse import begins_a_request, is_unfinished, reuse
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.answers import FAREWELL_BYTES, WAITED_NS
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.kinds import SECOND_NS
from tcpwhy.connections.packet import other_side

SUSPECT = "client_resets + server_resets > 0"
REFERENCES = ("RFC 2525 section 2.17", "RFC 9112 section 9.6", "Linux net/ipv4/tcp.c tcp_close(), tcp_disconnect()")

OTHERS = (
    "injected-reset", "idle-timeout", "peer-vanished", "mid-connection-rehash", "accept-queue-overflow", "mtu-blackhole",
    "asymmetric-drop", "stale-connection", "timestamp-rejected", "packet-loss", "slow-server", "zero-window",
)  # fmt: skip
"""What an end that closes on purpose, with TCP in order before, leaves no room for."""


def examine(connection: Connection) -> Verdict:
    """Looks for the abort of a live socket, or for bytes that went on coming after their receiver had closed."""
    failure = connection.failure
    if failure is None or failure.kind is not Kind.RESET or not connection.resets:
        return RuledOut("no RST ended an established connection")
    if connection.is_turned_to_itself:
        return RuledOut("its packets never left the host")
    reset = connection.resets[0]
    met = reuse(connection)
    if not isinstance(met, str) and met.doubt is None:
        return RuledOut("the connection was idle, and what met the server's end is a new request")
    fin = closed_before(connection, reset, reset.sender)
    stuck = stuck_before(connection, reset) or (stuck_before(connection, fin) if fin is not None else None)
    if stuck is not None:
        return Open(f"a RST ended it; but {stuck}", (log_of(_host(connection, reset), "why it gave the connection up"),))
    lie = contradiction(connection, other_side(reset.sender))
    if lie is not None:
        ask = (capture_at(connection, other_side(reset.sender), "which of these bytes its host sent"),)
        return Open(f"a RST ended it; but {lie}: another host may have spoken in its name, and driven the {reset.sender} to close", ask)
    return _aborted(connection, reset) if is_socket_reset(reset) else _went_on(connection, reset)


def _host(connection: Connection, reset: Segment) -> str:
    return connection.server.ip if reset.sender == "server" else connection.client.ip


def _aborted(connection: Connection, reset: Segment) -> Verdict:
    """RST with ACK: by the socket itself, if it bears what only that puts on a packet, or its host's capture has it."""
    forged = marks(connection, reset)
    shown = (exhibit(reset, connection, "the RST"),)
    if forged:
        return RuledOut(f"the RST is not of the {reset.sender}'s socket: {forged[0]}", shown)
    missing = unsent(connection, reset)
    if missing is not None and missing.doubt is None:
        return RuledOut(f"{missing.missing_at} never saw the RST leave the {reset.sender}", shown)
    if reset.sender == "client" and not has_taken_some(connection, reset):
        return RuledOut("the client gave up before anything came that it could have left unread", shown)
    met = reuse(connection)
    ask = (
        capture_at(connection, reset.sender, "whether its host sent the RST"),
        counters_of(_host(connection, reset), "TCPAbortOnClose and TCPAbortOnData count such RSTs"),
        log_of(_host(connection, reset), "why it closed"),
    )
    if not isinstance(met, str):
        return Open(f"the {reset.sender} aborted the connection as the client's bytes came; {met.doubt}", ask, shown)
    if not is_of_its_socket(connection, reset) and sent_at_home(connection, reset) is None:
        return Open(f"the RST has the form of a {reset.sender}'s socket, and nothing shows that this one sent it", ask, shown)
    counter = _counter(connection, reset)
    end = "the request had not come whole" if is_unfinished(connection) else "the request was not answered"
    if answer_had_begun(connection, reset):
        end = (
            "the answer was not delivered whole, as far as acknowledgments tell"
            if not is_unfinished(connection)
            else "the request had not come whole"
        )
    who = reset.sender
    return _found(
        connection,
        reset,
        statement=f"the {who}'s program closed {_host(connection, reset)}'s socket with data unread, or with SO_LINGER 0: RST",
        story=(
            f"The {who}'s own socket sent the RST (with ACK, at the sequence number where it stood): its program closed it while bytes "
            f"lay unread in it, set SO_LINGER to 0, or was killed. {end.capitalize()}. What the {other_side(who)} had received and not "
            "yet read is thrown away with it."
        ),
        exhibits=(*_context(connection, reset), exhibit(reset, connection, f"sent by the {who}'s live socket")),
        counter=counter,
    )


def _went_on(connection: Connection, reset: Segment) -> Verdict:
    """RST without ACK: for bytes that came after the socket had been closed with FIN."""
    who = reset.sender
    fin = closed_before(connection, reset, who)
    shown = (exhibit(reset, connection, "the RST"),)
    if fin is None and began_before(connection):
        ask = (capture_at(connection, who, "what its host sent before that RST"), log_of(_host(connection, reset), "whether it had closed"))
        return Open(f"the {who} may have closed the connection before the capture began", ask, shown)
    if fin is None and unseen_close(connection):
        ask = (capture_at(connection, who, "whether it had closed before"), log_of(_host(connection, reset), "whether it had closed"))
        return Open("the client's host had no such connection any more: it may have closed, and its FIN be lost on the way", ask, shown)
    if fin is None:
        return RuledOut(f"the RST came from a host without such a socket, and the {who} had not closed before", shown)
    if who == "client" and not has_taken_some(connection, fin):
        return RuledOut("the client had closed before the answer began", shown)
    waited = waited_ns(connection, fin)
    if who == "client" and waited >= WAITED_NS:  # it gave up, and what it waited for decides
        ask = (capture_at(connection, "server", "whether the rest was sent, and when"), log_of(_host(connection, reset), "why it closed"))
        return Open(f"the client closed after it had waited {waited / SECOND_NS:.1f} s for the rest of the answer", ask, shown)
    late = [
        one for one in connection.segments
        if one.sender != who and one.length and not one.is_reset and one.ack == reset.seq
    ]  # fmt: skip
    if who == "server":
        beginning = begins_a_request(connection, late[0]) if late else None
        met = reuse(connection)
        knew = bool(late) and late[0].ack == fin.seq_end and sum(one.length for one in late) <= FAREWELL_BYTES
        if beginning or ((knew or not isinstance(met, str)) and not is_unfinished(connection)):
            ask = (log_of(connection.server.ip, "why it closed"), capture_at(connection, "server", "what it had received when it closed"))
            return Open("the server had closed, and what came then was answered with RST", ask, shown)
    early = [one for one in before_at(connection, reset.first.vantage_point, reset, who) if one.length]
    answer = _first_line(early[-1]) if early and who == "server" else ""
    said = f" after an early answer ({answer})" if answer else ""
    # What goes on after an answer, a greeting or a `221 closing connection` is not read here.
    what = "the rest of the request" if is_unfinished(connection) and who == "server" else f"data of the {other_side(who)}"
    fits = (exhibit(fin, connection, f"the {who} closes"), *(exhibit(one, connection, f"{what} still comes") for one in late[:1]))
    return _found(
        connection,
        reset,
        statement=f"the {who} closed{said} while {what} was still coming, and its kernel answered that with RST",
        story=(
            f"The {who}'s program closed the connection{said}; {what} went on coming to a socket that nobody reads any more, and the "
            f"kernel answered with RST. The RST makes the {other_side(who)}'s kernel throw away what its program had not yet read"
            + (": the early answer is lost although it arrived." if said else ".")
        ),
        exhibits=(*(exhibit(one, connection, "the early answer") for one in early[-1:] if answer), *fits,
                  exhibit(reset, connection, "for bytes that nobody reads")),
        counter=None,
    )  # fmt: skip


def _first_line(segment: Segment) -> str:
    line = segment.packet.payload[:64].split(b"\r\n")[0]
    return line.decode("ascii", "replace") if line.startswith(b"HTTP/1.") else ""


def _context(connection: Connection, reset: Segment) -> tuple[Exhibit, ...]:
    """The last bytes from the other end before it."""
    other = [one for one in before_at(connection, reset.first.vantage_point, reset, other_side(reset.sender)) if one.length]
    return tuple(exhibit(one, connection, "the last bytes before it") for one in other[-1:])


def _counter(connection: Connection, reset: Segment) -> Counted | None:
    """The counter of the aborting host that rose while it happened."""
    home = home_of(connection, reset.sender)
    host = connection.hosts.get(home) if home is not None else None
    sighting = reset.sighting_at(home) if home is not None else None
    if host is None or sighting is None:
        return None
    found = (counted(host, name, sighting.time_ns) for name in ("TcpExtTCPAbortOnClose", "TcpExtTCPAbortOnData"))
    return next((one for one in found if one is not None and one.proves), None)


def _found(
    connection: Connection, reset: Segment, *, statement: str, story: str, exhibits: tuple[Exhibit, ...], counter: Counted | None
) -> Found:
    host, name = _host(connection, reset), reset.sender
    own = "the RST bears the numbers, timestamps and IP ID of the socket itself" if is_socket_reset(reset) else f"the {name} had closed"
    excludes = dict.fromkeys(OTHERS, own)
    excludes["keepalive-race"] = "the connection was not idle when it was closed, or the request was not new"
    if len(most_claims(connection)) < 2:
        excludes["arp-conflict"] = "no two hosts are seen to claim the address by ARP"
    return Found(
        statement=statement,
        exhibits=(*exhibits, *((counter.exhibit,) if counter is not None else ())),
        basis="two places" if len(connection.places) > 1 else "state" if counter is not None else "one place",
        where=host,
        explanation=story,
        at_ns=reset.aligned_ns,
        excludes=excludes,
        fix=_fixes(host, name),
    )


def _fixes(host: str, name: str) -> tuple[str, ...]:
    if name == "client":
        return (
            "nothing on the network is to be mended: the client's program gave up the answer (a cancel, a limit, a crash): see its log",
        )
    find = f"on {host}: find why the program closes then (its log, limits of body size and time, a crash or a kill)"
    return (
        find,
        "let it read to the end, or shutdown(SHUT_WR) and read on before close (nginx: `lingering_close on`)",
        "let the client send `Expect: 100-continue` before large bodies",
    )
