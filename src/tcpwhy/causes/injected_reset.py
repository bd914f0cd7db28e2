"""Something between the ends forges a RST in the name of one of them.

Mechanism.  A firewall, an intrusion prevention system or a censor listens on the way, and ends connections it dislikes by RSTs that bear
    an end's address, to one end or to both. It needs the right sequence number only (RFC 5961), so it sends several, stepped, or one
    straight behind a packet. The end that did not send it knows nothing: it goes on, answers, and meets the RST of the other's kernel.

Signature.
    at the client   server > client   R or RA   TTL, IP ID or options unlike the server's; or several, with stepped seq
                    server > client   PA        # the real server goes on, or answers
                    client > server   R         # an effect: the client's socket is gone
    at the server   no RST left; the client's packets came

Source.  RFC 9293 section 3.10.7; RFC 5961 section 3; RFC 3360; Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset(), tcp_output.c
    tcp_send_active_reset(): what the RSTs of real ends look like.

Fix.  Find the device between the two places named, by its TTL, and its rule (signatures, application control, session policies); exempt
    this traffic there. Encryption ends what is triggered by content.

Not to be taken for.  idle-timeout: a device that forgot answers after a long silence, and the packet never reaches the other end.
    mid-connection-rehash, arp-conflict: another host of the address got the packet. reset-with-unread-data: there the RST bears the
    socket's own timestamps and IP ID. rejected-by-firewall: a REJECT rule takes the packet that it answers.
"""

from __future__ import annotations

from tcpwhy.causes._asking import capture_again, capture_at, capture_between
from tcpwhy.causes._claims import most_claims
from tcpwhy.causes._forgery import (
    goes_on,
    is_of_its_socket,
    marks,
    shows_forgery,
)
from tcpwhy.causes._resets import (
    Unsent,
    began_before,
    closed_before,
    is_socket_reset,
    sent_at_home,
    unsent,
)
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.failure import Kind
from tcpwhy.connections.packet import ACK, seq_before

SUSPECT = "client_resets + server_resets > 0"
REFERENCES = ("RFC 9293 section 3.10.7", "RFC 5961 section 3", "RFC 3360", "Linux net/ipv4/tcp_ipv4.c tcp_v4_send_reset()")

EXAMINED = 12
"""RSTs of one connection that are looked at: the first ones decide, a storm of them tells no more."""


def examine(connection: Connection) -> Verdict:
    """Looks for a RST that its end never sent; with one place, for one that the end cannot have sent and that did not end it."""
    failure = connection.failure
    if failure is None or failure.kind is not Kind.RESET or not connection.resets:
        return RuledOut("no RST ended an established connection")
    if connection.is_turned_to_itself:
        return RuledOut("its packets never left the host")
    resets = connection.resets[:EXAMINED]
    own = [reset for reset in resets if not _is_effect(connection, reset)]
    missing = [one for reset in own for one in [unsent(connection, reset)] if one is not None]
    proven = [one for one in missing if _is_proven(connection, one)]
    if proven:
        return _between(connection, proven)
    forged = next((reset for reset in own if shows_forgery(connection, reset)), None)
    if forged is not None and not any(one.reset is forged for one in missing):
        return _from_one_place(connection, forged)
    return _left_open(connection, resets, missing)


def _is_proven(connection: Connection, one: Unsent) -> bool:
    """Never sent where it should have passed, what it answers went past there, and the real end lived on, or no kernel sends such a RST."""
    reset = one.reset
    if one.doubt is not None or closed_before(connection, reset, reset.sender) is not None:
        return False
    lives = _later_at(connection, one) is not None or goes_on(connection, reset) is not None
    both = any(other.sender != reset.sender and other.seen_at(one.missing_at) and unsent(connection, other) for other in connection.resets)
    return lives or both or bool(marks(connection, reset))


def _later_at(connection: Connection, one: Unsent) -> Segment | None:
    """What the real end sent after the packet that the RST answers had reached the place before it."""
    if one.occasion is None:
        return None
    came = one.occasion.sighting_at(one.missing_at)
    for segment in connection.segments:
        own = segment.sighting_at(one.missing_at)
        if segment.sender != one.reset.sender or segment.is_reset or own is None or came is None:
            continue
        new = one.occasion.seq_end if one.occasion.length else None
        if own.time_ns >= came.time_ns and segment.flags & ACK and new is not None and not seq_before(segment.ack, new):
            return segment
    return None


def _left_open(connection: Connection, resets: list[Segment], missing: list[Unsent]) -> Verdict:
    """Without proof: ruled out where each RST is its own end's, or an effect of one that is; else open."""
    reasons: list[tuple[Segment, str]] = []
    for reset in resets:
        home = sent_at_home(connection, reset)
        closed = closed_before(connection, reset, reset.sender)
        if home is not None and not is_socket_reset(reset) and closed is None and began_before(connection) and reset is resets[0]:
            continue  # Its socket was gone before the capture began, and a RST may have ended it.
        if home is not None:
            reasons.append((reset, f"{home}, the {reset.sender}'s own host, sent the RST"))
        elif closed is not None and not is_socket_reset(reset):
            reasons.append((reset, f"the {reset.sender} had closed before, and its kernel answers what still comes with RST"))
        elif is_of_its_socket(connection, reset):
            reasons.append((reset, f"the RST goes on with the timestamps and IP IDs of the {reset.sender}'s own socket"))
        elif _is_effect(connection, reset):
            reasons.append((reset, f"the {reset.sender} answers with RST what comes for the socket that a RST had ended"))
    first = resets[0]
    if len(reasons) == len(resets):
        return RuledOut(reasons[0][1], (exhibit(first, connection, "the RST"),))
    known = {id(reset) for reset, _ in reasons}
    open_one = next(reset for reset in resets if id(reset) not in known)
    sender = open_one.sender
    if sent_at_home(connection, open_one) is not None:
        again = (capture_again(connection, open_one.first.vantage_point, "what ended the socket before"),)
        because = f"the {sender}'s socket was gone when the capture began: a forged RST may have ended it before"
        return Open(because, again, (exhibit(open_one, connection, "for a packet to a socket that was gone"),))
    ask = (capture_at(connection, sender, f"whether the {sender}'s host sent the RST, and what came to it before"),)
    doubt = next((one for one in missing if one.reset is open_one), None)
    if doubt is not None:
        because = f"the RST was seen at {doubt.seen_at} and not at {doubt.missing_at}" + (f"; but {doubt.doubt}" if doubt.doubt else "")
        between = (capture_between(connection, doubt.missing_at, doubt.seen_at, "where the RST is first seen"),)
        return Open(because, (*ask, *between), (exhibit(open_one, connection, "the RST"),), (doubt.missing_at, doubt.seen_at))
    strange = marks(connection, open_one)
    because = "the RST was not seen at the host that is said to have sent it" + (f", and {strange[0]}" if strange else "")
    return Open(because, ask, (exhibit(open_one, connection, "the RST"),))


def _is_effect(connection: Connection, reset: Segment) -> bool:
    """A stateless RST of an end to which a RST of the other had come before."""
    place = reset.first.vantage_point
    at_ns = reset.sightings[place].time_ns
    return not is_socket_reset(reset) and any(
        other.sender != reset.sender and other.seen_at(place) and other.sightings[place].time_ns <= at_ns for other in connection.resets
    )


def _between(connection: Connection, proven: list[Unsent]) -> Found:
    first = proven[0]
    victims = sorted({one.reset.sender for one in proven})
    names = " and of ".join(victims)
    strange = marks(connection, first.reset)
    count = len(proven)
    device = _device(first)
    where: tuple[str, str] | str = device if device is not None else (first.missing_at, first.seen_at)
    place = f"at {device}" if device is not None else f"between {first.missing_at} and {first.seen_at}"
    lived = "each end got a RST that the other never sent" if len(victims) > 1 else f"the real {victims[0]} went on"
    return Found(
        statement=f"a RST in the name of the {names} was forged {place}",
        exhibits=_exhibits(connection, first),
        basis="two places",
        where=where,
        explanation=(
            f"{count} RST{'s' if count > 1 else ''} in the name of the {names} came to {first.seen_at}; {first.missing_at}, nearer to the "
            f"{first.reset.sender}, saw what came before arrive and never a RST, and {lived}."
            + (f" The RST betrays itself: {'; '.join(strange)}." if strange else "")
            + " Later RSTs of an end whose socket it killed are effects."
        ),
        at_ns=first.reset.aligned_ns,
        excludes=_excluded(connection, f"{first.missing_at} saw the packets arrive, and never a RST of the {first.reset.sender}"),
        fix=_fixes(place),
    )


def _device(one: Unsent) -> str | None:
    """The place itself, where it is first seen going out of a host that passes on what comes in."""
    ways = {copy.direction for copy in one.reset.sightings[one.seen_at].copies}
    before = one.occasion.sighting_at(one.seen_at) if one.occasion is not None else None
    passed_on = {copy.direction for copy in before.copies} if before is not None else set()
    return one.seen_at if ways == {"out"} and passed_on == {"in", "out"} else None


def _from_one_place(connection: Connection, reset: Segment) -> Found:
    alive = goes_on(connection, reset)
    strange = marks(connection, reset)
    place, sender = reset.first.vantage_point, reset.sender
    return Found(
        statement=f"a RST in the name of the {sender} was forged on the way: the {sender} never sent it, and goes on",
        exhibits=(
            exhibit(reset, connection, f"not the {sender}'s: {strange[0]}", place),
            *((exhibit(alive, connection, f"the real {sender} goes on"),) if alive is not None else ()),
        ),
        basis="one place",
        where=(place, str(connection.server) if sender == "server" else connection.client.ip),
        explanation=(
            f"The RST came in the name of the {sender}; but {'; '.join(strange)}. And the {sender} went on sending afterwards, as an end "
            "that resets never does. Something on the way sent it."
        ),
        at_ns=reset.aligned_ns,
        excludes=_excluded(connection, f"the {sender} goes on, and the RST is not of its making"),
        next_evidence=(capture_at(connection, sender, f"that no RST leaves the {sender}'s host, and what comes there instead"),),
        fix=_fixes(f"between {place} and the {sender}"),
    )


def _exhibits(connection: Connection, one: Unsent) -> tuple[Exhibit, ...]:
    shown = []
    if one.occasion is not None:
        shown.append(exhibit(one.occasion, connection, f"comes to {one.missing_at}", one.missing_at))
    shown.append(exhibit(one.reset, connection, f"never seen at {one.missing_at}", one.seen_at))
    alive = _later_at(connection, one) or goes_on(connection, one.reset)
    if alive is not None:
        shown.append(exhibit(alive, connection, f"the real {one.reset.sender} goes on"))
    return tuple(shown)


def _excluded(connection: Connection, because: str) -> dict[str, str]:
    excluded = dict.fromkeys(
        ("idle-timeout", "keepalive-race", "reset-with-unread-data", "mid-connection-rehash", "peer-vanished", "packet-loss",
         "mtu-blackhole", "zero-window", "asymmetric-drop", "slow-server", "accept-queue-overflow", "stale-connection",
         "timestamp-rejected", "rejected-by-firewall", "synack-lost"),
        because,
    )  # fmt: skip
    if len(most_claims(connection)) < 2:
        excluded["arp-conflict"] = "no two hosts are seen to claim the address by ARP"
    return excluded


def _fixes(place: str) -> tuple[str, ...]:
    return (
        f"find the device {place} (firewall, intrusion prevention, application control; its log of sessions), and exempt this traffic",
        "where content triggers it, encryption (TLS) hides the content",
    )
