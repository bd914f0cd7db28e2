"""The gateway's example with a backend's capture that ends early goes in: what is still known of the move comes out."""

from __future__ import annotations

import json
import shutil
import struct
from datetime import datetime, timedelta
from pathlib import Path

import tcpwhy

EXAMPLES = Path(__file__).parents[2] / "examples"
HEADER = 24
"""Bytes before a pcap file's first record."""


def ended_at(capture: Path, time_ns: int) -> None:
    """Takes what a little-endian pcap file of microseconds holds from that moment on away."""
    data = capture.read_bytes()
    at = HEADER
    while at < len(data):
        seconds, micros, stored, _ = struct.unpack_from("<IIII", data, at)
        if seconds * 1_000_000_000 + micros * 1_000 >= time_ns:
            break
        at += 16 + stored
    assert HEADER < at < len(data)
    capture.write_bytes(data[:at])


def confidences(folder: Path, before_s: float) -> set[str]:
    """How sure the move is where the first backend's capture ends so long before the first stray comes to another one."""
    shutil.copytree(EXAMPLES / "gateway-502", folder, ignore=shutil.ignore_patterns(".tcpwhy"))
    truth = json.loads((EXAMPLES / "gateway-502.expected.json").read_text())
    clocks = truth["clock_offsets_s"]
    with tcpwhy.open_case(folder, index=False) as case:
        shown = [one for finding in case.diagnose() for one in finding.evidence if one.vantage_point in {"backend-01", "backend-03"}]
    strays = [datetime.fromisoformat(one.time) - timedelta(seconds=clocks[one.vantage_point]) for one in shown if one.time]
    end = min(strays) + timedelta(seconds=clocks["backend-02"] - before_s)
    ended_at(folder / "backend-02/any.pcap", round(end.timestamp() * 1e9))
    with tcpwhy.open_case(folder, index=False) as case:
        return {finding.confidence for finding in case.diagnose() if finding.cause == "mid-connection-rehash"}


def test_a_backend_that_is_sent_nothing_any_more_need_not_be_captured_beyond_the_move(tmp_path: Path) -> None:
    assert confidences(tmp_path / "case", 0) == {"confirmed"}


def test_a_backend_unheard_for_long_before_the_move_may_have_died(tmp_path: Path) -> None:
    assert "possible" in confidences(tmp_path / "case", 1.3)
