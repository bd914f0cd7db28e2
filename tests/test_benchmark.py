"""A small size goes in: the generator's capture is right and repeatable, and the benchmark still runs."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmark
from benchmarks.measure import measure
from benchmarks.traffic import checksum, word_sum, write_capture

MEGABYTE = 1_000_000


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    write_capture(first, MEGABYTE, seed=7)
    write_capture(again, MEGABYTE, seed=7)
    write_capture(other, MEGABYTE, seed=8)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_small_packets_are_small(tmp_path: Path) -> None:
    capture = tmp_path / "small.pcap"
    packets = write_capture(capture, MEGABYTE, concurrent=50, small=True)
    command = ["tshark", "-r", str(capture), "-T", "fields", "-e", "frame.len", "-e", "tcp.analysis.flags"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == packets
    assert max(int(line.split("\t")[0]) for line in lines) <= 100
    assert not any(line.split("\t")[1] for line in lines), "tshark sees losses"


def test_the_capture_is_sound_to_other_readers(tmp_path: Path) -> None:
    capture = tmp_path / "traffic.pcap"
    packets = write_capture(capture, 2 * MEGABYTE, concurrent=50)
    assert 2 * MEGABYTE <= capture.stat().st_size < 2 * MEGABYTE + 1600
    fields = ["tcp.stream", "tcp.checksum.status", "ip.checksum.status", "tcp.analysis.flags"]
    command = [
        "tshark",
        "-r",
        str(capture),
        "-T",
        "fields",
        *(word for field in fields for word in ("-e", field)),
    ]
    command += ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == packets
    rows = [line.split("\t") for line in shown]
    assert {row[1] for row in rows} == {"1"}, "a TCP checksum is wrong"
    assert {row[2] for row in rows} == {"1"}, "an IPv4 checksum is wrong"
    assert {row[3] for row in rows} == {""}, "the sequence numbers do not follow each other"
    assert len({row[0] for row in rows}) >= 50


def test_checksum_is_that_of_rfc_1071() -> None:
    header = bytes.fromhex("45000073000040004011" + "0000" + "c0a80001c0a800c7")
    assert checksum(word_sum(header)) == 0xB861
    assert word_sum(b"\x01") == 0x0100


def test_measuring_tells_status_and_use() -> None:
    failed = measure([sys.executable, "-c", "raise SystemExit(3)"])
    assert failed["status"] == 3
    assert failed["cpu_s"] > 0
    assert failed["wall_s"] > 0
    code = [sys.executable, "-I", "-S", "benchmarks/measure.py", sys.executable, "-c", "b'x' * 200_000_000"]
    # By way of a small shell: the kernel counts the memory of whoever forks, and this process may be large by now (exec_mmap()).
    small = ["sh", "-c", f"{shlex.join(code)}; exit $?"]
    used = json.loads(subprocess.run(small, capture_output=True, check=True, cwd=Path(__file__).parent.parent).stdout)
    assert used["peak_kib"] * 1024 > 200_000_000
    assert used["floor_kib"] * 1024 < 50_000_000


@pytest.mark.slow
def test_the_benchmark_runs_on_a_small_file(tmp_path: Path) -> None:
    text = benchmark(tmp_path, megabytes=2, rounds=1, seed=1)
    rows = text.splitlines()
    assert rows[0].startswith("2 MB, ")
    assert [row.split("  ")[0].strip() for row in rows[2:-1]] == [
        "cat",
        "tcpdump -w",
        "tcpwhy index",
        "tshark conv,tcp",
    ]
    assert rows[-1].startswith("the index is ")
