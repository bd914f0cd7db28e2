"""Reports and ladders by hand: the story of a rehash, and the same with hostile text in every field."""

from __future__ import annotations

from typing import Any

from tcpwhy.connections.packet import Side
from tcpwhy.diagnosis.finding import (
    At,
    Between,
    Clock,
    ConnectionReference,
    Evidence,
    Finding,
    Report,
    RuledOutCause,
    SeenAs,
    Totals,
    Unexplained,
    VantagePointReport,
)
from tcpwhy.diagnosis.ladder import Ladder, LadderCell, LadderRow

CLIENT, SERVER = "10.20.0.7:49092", "10.20.32.11:80"
FIRST, LAST = "2026-11-21T09:30:00.000000123Z", "2026-11-21T09:30:00.250123456Z"


def cell(place: str, frame: int, *, file: str = "", copies: int = 1, partial: bool = False) -> LadderCell:
    return LadderCell(place, file or f"{place}/any.pcap", frame, 0, copies, partial)


def row(offset_ns: int, sender: Side, flags: str, label: str, *cells: LadderCell, **more: Any) -> LadderRow:
    return LadderRow(offset_ns, sender, flags, label, cells, **more)


def rehash_ladder() -> Ladder:
    return Ladder(
        client=CLIENT,
        server=SERVER,
        places=("gateway", "backend-01", "backend-03"),
        clocks=("clock of backend-03: +5.019 s ±40 µs",),
        start=FIRST,
        rows=(
            row(0, "client", "A", "POST /b 1448 B", cell("gateway", 12, copies=2), cell("backend-01", 13)),
            row(0, "client", "PA", "104 B", cell("gateway", 14), cell("backend-03", 1), marked=True,
                lost_before="backend-01", note="the next 104 bytes of the same request"),
            row(25_000, "server", "R", "seq 1", cell("backend-03", 3), cell("gateway", 15), marked=True),
            row(1_000_123_000, "client", "R", "seq 1553", cell("backend-01", 17, partial=True), lost_before="10.20.32.11:80",
                note="an effect: the gateway's socket is gone"),
        ),
        left_out=3,
    )  # fmt: skip


def rehash_finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "cause": "mid-connection-rehash",
        "confidence": "confirmed",
        "title": f"packets of {CLIENT} → {SERVER} went to backend-03, which does not know the connection and answered RST",
        "explanation": "The connection lives at backend-01. One of its packets reached backend-03.",
        "where": Between(("gateway", "backend-01")),
        "connections": (
            ConnectionReference(CLIENT, SERVER, FIRST, LAST, (SeenAs("backend-01", "192.0.2.1:40000", "192.0.2.9:80"),)),
            ConnectionReference("[2001:db8::7]:49093", "[2001:db8::b]:80", FIRST, LAST),
        ),
        "connection_count": 2,
        "evidence": (
            Evidence("packet", "backend-03", "backend-03/any.pcap", "drawn in the ladder", frame=1, time=FIRST),
            Evidence("packet", "backend-03", "backend-03/any.pcap", "RST of the other one", frame=9, time=FIRST),
            Evidence("log", "gateway", "gateway/gateway.log", "read: connection reset by peer", line=1),
            Evidence("counter", "backend-03", "backend-03/state/nstat.txt", "TcpOutRsts rose by 2", line=40),
            Evidence("state", "backend-03", "backend-03/state/ss-tcp.txt", "no socket has these ports"),
        ),
        "ruled_out": (
            RuledOutCause("injected-reset", "backend-03 itself sent the RST"),
            RuledOutCause("idle-timeout", "the connection was idle for 2 ms"),
            RuledOutCause("reset-with-unread-data", "backend-03 itself sent the RST"),
        ),
        "next_evidence": ("the routes of the router while it happens",),
        "fix": ("make the choice of backend stable: resilient hashing on the router",),
        "references": ("RFC 2992", "RFC 9293 section 3.10.7.1"),
    }
    return Finding(**(fields | changes))


def report(*findings: Finding, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "version": "0.1.0",
        "vantage_points": (
            VantagePointReport("backend-01", ("backend-01/any.pcap",), 20, FIRST, LAST, None),
            VantagePointReport(
                "backend-03", ("backend-03/any.pcap",), 1, FIRST, FIRST, Clock(5.019, 0.00004, "gateway"),
                ("the capture dropped 3 packets",),
            ),
            VantagePointReport(
                "gateway", ("gateway/any.pcap", "gateway/gateway.log"), 40, FIRST, LAST, Clock(0.0, 0.0, "gateway")
            ),
        ),
        "totals": Totals(connections=12, failed=2, explained=2, unexplained=0),
        "findings": findings,
        "unexplained": (),
    }  # fmt: skip
    return Report(**(fields | changes))


def rehash_report() -> Report:
    return report(
        rehash_finding(),
        rehash_finding(cause="syn-lost", confidence="possible", where=At("gateway"), evidence=(), ruled_out=(), connection_count=1,
                       connections=rehash_finding().connections[:1], explanation="", title="the SYN is lost"),
        unexplained=(
            Unexplained(CLIENT, SERVER, FIRST, LAST, "the SYN was repeated 5 times and never answered"),
            Unexplained(None, None, None, None, "gateway/gateway.log:9: read tcp: i/o timeout"),
        ),
        totals=Totals(connections=12, failed=3, explained=2, unexplained=1),
        notes=("case/readme.txt: of no known kind, passed over",),
    )  # fmt: skip


def healthy_report(**changes: Any) -> Report:
    return report(**({"totals": Totals(142, 0, 0, 0)} | changes))


HOSTILE = "a\x1b[31mb\x9bc\u202ed\u2066e\x00f\ng\rh\u2028i\udcffj\U000e0001k\x07"


def hostile_report() -> Report:
    """Text that would steer a terminal, in every field that packets, logs and file names can reach."""
    connection = ConnectionReference(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (SeenAs(HOSTILE, HOSTILE, HOSTILE),))
    finding = rehash_finding(
        title=HOSTILE,
        explanation=HOSTILE + "x",
        where=Between((HOSTILE, HOSTILE)),
        connections=(connection,),
        evidence=(Evidence("log", HOSTILE, HOSTILE, HOSTILE, line=3, time=HOSTILE),),
        ruled_out=(RuledOutCause(HOSTILE, HOSTILE),),
        next_evidence=(HOSTILE,),
        fix=(HOSTILE,),
        references=(HOSTILE,),
    )
    return report(
        finding,
        vantage_points=(VantagePointReport(HOSTILE, (HOSTILE,), 1, HOSTILE, HOSTILE, Clock(1.0, 0.1, HOSTILE), (HOSTILE,)),),
        unexplained=(Unexplained(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE), Unexplained(None, None, None, None, HOSTILE)),
        notes=(HOSTILE,),
    )


def hostile_ladder() -> Ladder:
    return Ladder(
        HOSTILE, HOSTILE, (HOSTILE, "b"), (HOSTILE,), HOSTILE,
        (row(0, "client", HOSTILE, HOSTILE, cell(HOSTILE, 1, file=HOSTILE), note=HOSTILE, lost_before=HOSTILE + "2"),),
    )  # fmt: skip
