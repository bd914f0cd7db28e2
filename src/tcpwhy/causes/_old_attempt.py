"""An attempt whose SYN-ACK may have been lost goes in; what is seen of it afterwards, the old ACK and the RST for it, comes out."""

from __future__ import annotations

from tcpwhy.causes._verdict import Exhibit, exhibit
from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.packet import ACK, RST, SYN


def epilogue(connection: Connection) -> list[Exhibit]:
    """The bare ACK of the old attempt and the RST that it draws."""
    isn = connection.client_isn
    if isn is None:
        return []
    old = (isn + 1) & 0xFFFF_FFFF
    shown = []
    ack = old_ack(connection, old)
    if ack is not None:
        shown.append(exhibit(ack, connection, "a bare ACK of the old attempt, drawn by a SYN with another ISN"))
    reset = old_reset(connection, old)
    if reset is not None:
        shown.append(
            exhibit(
                reset,
                connection,
                "an effect: the client answers the ACK that it did not ask for with RST, seq = that ACK's number",
            )
        )
    return shown


def old_ack(connection: Connection, old: int) -> Segment | None:
    """The server's bare ACK of the attempt, whose next number is `old`."""
    return next(
        (
            segment
            for segment in connection.segments
            if segment.sender == "server" and segment.flags & ACK and not segment.flags & (SYN | RST) and segment.ack == old
        ),
        None,
    )


def old_reset(connection: Connection, old: int) -> Segment | None:
    """The client's RST for that ACK."""
    return next(
        (segment for segment in connection.resets if segment.sender == "client" and not segment.flags & ACK and segment.seq == old),
        None,
    )


def about_the_reset(connection: Connection) -> str:
    """Why the client sent RST, as further sentences; empty where it did not."""
    shown = epilogue(connection)
    if len(shown) < 2:
        return ""
    return (
        " The RST from the client is an effect: a later SYN with another ISN met the half-open connection, the server answered it with the "
        "ACK of the old attempt (RFC 5961 section 4), and the client's kernel rejects an ACK it did not ask for (RFC 9293, 3.10.7.3)."
    )
