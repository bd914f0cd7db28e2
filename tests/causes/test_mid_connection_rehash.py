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


def kept(capture: Path, begin_ns: int = 0, end_ns: int = 2**63) -> None:
    """Takes from a little-endian pcap file of microseconds what it holds before a moment, or from another one on."""
    data = capture.read_bytes()
    at, out = HEADER, bytearray(data[:HEADER])
    while at < len(data):
        seconds, micros, stored, _ = struct.unpack_from("<IIII", data, at)
        if begin_ns <= seconds * 1_000_000_000 + micros * 1_000 < end_ns:
            out += data[at : at + 16 + stored]
        at += 16 + stored
    assert HEADER < len(out) < len(data)
    capture.write_bytes(out)


def strays(folder: Path) -> tuple[Path, dict[str, float], dict[str, datetime]]:
    """A copy of the example; how far each clock is off, and when the first stray came to each other backend, by the true time."""
    shutil.copytree(EXAMPLES / "gateway-502", folder, ignore=shutil.ignore_patterns(".tcpwhy"))
    clocks = json.loads((EXAMPLES / "gateway-502.expected.json").read_text())["clock_offsets_s"]
    with tcpwhy.open_case(folder, index=False) as case:
        shown = [one for finding in case.diagnose() for one in finding.evidence if one.vantage_point in {"backend-01", "backend-03"}]
    first: dict[str, datetime] = {}
    for one in shown:
        if one.time:
            at = datetime.fromisoformat(one.time) - timedelta(seconds=clocks[one.vantage_point])
            first[one.vantage_point] = min(at, first.get(one.vantage_point, at))
    return folder, clocks, first


def moved(folder: Path) -> set[str]:
    with tcpwhy.open_case(folder, index=False) as case:
        return {finding.confidence for finding in case.diagnose() if finding.cause == "mid-connection-rehash"}


def confidences(folder: Path, before_s: float) -> set[str]:
    """How sure the move is where the first backend's capture ends so long before the first stray comes to another one."""
    case, clocks, first = strays(folder)
    end = min(first.values()) + timedelta(seconds=clocks["backend-02"] - before_s)
    kept(case / "backend-02/any.pcap", end_ns=round(end.timestamp() * 1e9))
    return moved(case)


def test_a_backend_that_is_sent_nothing_any_more_need_not_be_captured_beyond_the_move(tmp_path: Path) -> None:
    assert confidences(tmp_path / "case", 0) == {"confirmed"}


def test_a_backend_unheard_for_long_before_the_move_may_have_died(tmp_path: Path) -> None:
    assert "possible" in confidences(tmp_path / "case", 1.3)


def test_a_backend_to_which_nothing_came_before_need_not_be_captured_before_the_move(tmp_path: Path) -> None:
    """The first backend's own capture runs on, and what the other one resets does not come there."""
    case, clocks, first = strays(tmp_path / "case")
    for place, at in first.items():
        kept(case / place / "any.pcap", begin_ns=round((at + timedelta(seconds=clocks[place])).timestamp() * 1e9))
    assert "confirmed" in moved(case)
