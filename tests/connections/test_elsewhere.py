"""A SYN that is answered from another address has failed, whoever else was captured."""

from __future__ import annotations

from pathlib import Path

import tcpwhy
from tests.packets import Tcp, write_pcap

CLIENT, VIP, REAL = "10.0.0.9:40000", "192.0.2.1:80", "10.0.0.5:80"


def attempt() -> list[Tcp]:
    """Three SYNs to the VIP, each answered by the real server itself, each answer refused."""
    segments: list[Tcp] = []
    for number, at_ms in enumerate((0, 1_020, 3_040, 7_100)):
        segments += [
            Tcp(at_ms, CLIENT, VIP, "S", 77, ip_id=number + 1, stamps=(at_ms + 10, 0)),
            Tcp(at_ms + 1, REAL, CLIENT, "SA", 9_000_000 * (number + 1), 78, stamps=(at_ms + 500, at_ms + 10)),
            Tcp(at_ms + 1.1, CLIENT, REAL, "R", 78),
        ]
    return segments


def behind(segments: list[Tcp]) -> list[Tcp]:
    """As the real server sees it: a director has put its address for the VIP's."""
    return [Tcp(one.at_ms + 0.2, one.source, REAL if one.destination == VIP else one.destination, one.flags, one.seq, one.ack,
                one.payload, one.ip_id, 63 if one.source == CLIENT else 64, one.stamps) for one in segments]  # fmt: skip


def test_it_fails_with_the_client_s_capture_alone_and_with_both(tmp_path: Path) -> None:
    write_pcap(tmp_path / "alone/client/a.pcap", attempt())
    write_pcap(tmp_path / "both/client/a.pcap", attempt())
    write_pcap(tmp_path / "both/rs/a.pcap", behind(attempt()))
    for case in ("alone", "both"):
        with tcpwhy.open_case(tmp_path / case, index=False) as opened:
            told = opened.diagnosis().report
        assert told.totals.failed >= 1, case
        assert all(finding.confidence == "possible" for finding in told.findings), case
