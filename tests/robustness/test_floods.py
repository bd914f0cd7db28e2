"""Very many flows, and times that leap: the scan's memory and time stay bounded, every flow has its row, no spill file stays."""

import random
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tcpwhy import _core

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
SYN = bytes.fromhex(
    "0200000000020200000000010800"
    "4500002800004000400600000a0000010a000002"
    "9c40005000000000000000005002020000000000"
)  # fmt: skip
LIVE_MAX = 200_000
"""Flows held in memory at most (rust/src/flows/live.rs)."""


def syns(times_us: Iterable[int], same_tuple: bool, seed: int = 1) -> bytes:
    """A SYN at each time, each with another ISN, of one tuple or of random ones."""
    chance = random.Random(seed)
    record = bytearray(struct.pack("<IIII", 0, 0, len(SYN), len(SYN)) + SYN)
    out = bytearray()
    for time_us in times_us:
        struct.pack_into("<II", record, 0, *divmod(time_us, 1_000_000))
        number = chance.getrandbits(80)
        struct.pack_into("!I", record, 54, number >> 48)
        if not same_tuple:
            struct.pack_into("!I", record, 42, number & 0xFFFFFFFF)
            struct.pack_into("!H", record, 50, number >> 32 & 0xFFFF)
        out += record
    return bytes(out)


def scan(records: bytes, folder: Path) -> tuple[dict[str, Any], float]:
    """The summary and the CPU seconds of a scan; nothing but the two tables may stay in the folder."""
    folder.mkdir()
    capture = folder.parent / f"{folder.name}.pcap"
    capture.write_bytes(HEADER + records)
    begun_s = time.process_time()
    summary = _core.scan([str(capture)], str(folder))
    used_s = time.process_time() - begun_s
    assert sorted(path.name for path in folder.iterdir()) == ["flows.parquet", "frames.idx"]
    assert len(_core.read_flows(str(folder / "flows.parquet"))) == summary["flows"]
    return summary, used_s


def test_more_syns_than_flows_are_held_in_memory(tmp_path: Path) -> None:
    """One record of the year 2106 in front: nothing after it ever looks idle by the clock of the capture."""
    count = LIVE_MAX + 40_000
    records = syns([4_294_967_280_000_000], False) + syns((1_700_000_000_000_000 + at * 100 for at in range(count)), False, 2)
    summary, _ = scan(records, tmp_path / "index")
    assert summary["files"][0]["packets"] == count + 1
    assert summary["live_max"] <= LIVE_MAX
    # Random tuples of 48 bits meet by chance, seldom.
    assert summary["flows"] > count - 5


def test_a_slow_trickle_after_a_burst_costs_no_more_than_at_once(tmp_path: Path) -> None:
    """Each packet that comes after a silence may look for idle flows, but not at every place a flow ever had."""
    burst = syns((1_700_000_000_000_000 + at for at in range(60_000)), False)
    trickle, at_once = (syns((1_700_001_000_000_000 + at * gap_us for at in range(40_000)), False, 2) for gap_us in (6_000_000, 1))
    _, slow_s = scan(burst + trickle, tmp_path / "trickle")
    _, fast_s = scan(burst + at_once, tmp_path / "at-once")
    assert slow_s < 4 * fast_s + 0.5


def test_each_incarnation_of_one_tuple_has_its_row(tmp_path: Path) -> None:
    summary, _ = scan(syns((1_700_000_000_000_000 + at * 1_000 for at in range(30_000)), True), tmp_path / "index")
    assert summary["flows"] == 30_000
    assert summary["live_max"] <= 8


def test_time_that_runs_backwards(tmp_path: Path) -> None:
    summary, _ = scan(syns((1_700_000_000_000_000 - at * 1_000_000 for at in range(20_000)), False), tmp_path / "index")
    assert summary["flows"] == 20_000
    (file,) = summary["files"]
    assert (file["first_ns"], file["last_ns"]) == (1_699_980_001 * 10**9, 1_700_000_000 * 10**9)
