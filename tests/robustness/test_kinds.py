"""Captures of every kind: each record is counted, each segment found, and read again as it was written."""

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tcpwhy import _core
from tests.robustness import generated
from tests.robustness.generated import Sent

SENT = generated.conversations(12)


def reread(paths: list[Path], folder: Path) -> tuple[list[int], list[tuple[object, ...]]]:
    """Packets of each file as the scan counts them, and each record of each flow as the frame index gives it again."""
    folder.mkdir()
    summary = _core.scan([str(path) for path in paths], str(folder))
    assert [file["error"] for file in summary["files"]] == [None] * len(paths)
    assert [file["losses"] for file in summary["files"]] == [[]] * len(paths)
    flows = _core.read_flows(str(folder / "flows.parquet"))
    chains = [row[flows.columns.index("chains")] for row in flows.rows()]
    table, left_out = _core.Frames(str(folder / "frames.idx"), [str(path) for path in paths]).packets(chains, 1 << 30)
    assert left_out == 0
    names = ("file", "frame", "time_ns", "source", "source_port", "destination_port", "seq", "flags", "payload")
    wanted = [table.columns.index(name) for name in names]
    return [file["packets"] for file in summary["files"]], sorted(tuple(row[at] for at in wanted) for row in table.rows())


def written(
    sent: list[Sent], file: int = 0, unit_ns: int = 1, first: int = 1, numbers: list[int] | None = None
) -> list[tuple[object, ...]]:
    """The rows that `reread` must give."""
    rows = []
    for at, one in enumerate(sent):
        frame = numbers[at] if numbers else first + at
        time_ns = one.time_ns // unit_ns * unit_ns
        ip = ".".join(str(byte) for byte in one.source[0])
        rows.append((file, frame, time_ns, ip, one.source[1], one.destination[1], one.seq, one.flags, one.payload))
    return sorted(rows)


@pytest.mark.parametrize("layout", generated.LAYOUTS)
def test_segments_of_every_layout_are_found_and_read_again(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(generated.pcap(generated.LAYOUTS[layout][0], generated.frames(layout, SENT)))
    assert reread([path], tmp_path / "index") == ([len(SENT)], written(SENT))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("nanoseconds", "modified"), [(False, False), (True, False), (False, True)])
def test_every_form_of_pcap(order: str, nanoseconds: bool, modified: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(generated.pcap(1, generated.frames("ethernet", SENT), order, nanoseconds, modified))
    assert reread([path], tmp_path / "index") == ([len(SENT)], written(SENT))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("resolution", [3, 6, 9, 0x80 | 10, 0x80 | 32])
def test_every_time_resolution_of_pcapng(order: str, resolution: int, tmp_path: Path) -> None:
    data = generated.section(order) + generated.interface(order, 1, resolution)
    for time_ns, frame in generated.frames("ethernet", SENT):
        data += generated.enhanced(order, 0, generated.ticks_of(time_ns, resolution), frame, b"a note")
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    packets, rows = reread([path], tmp_path / "index")
    assert packets == [len(SENT)]
    step_ns = 10**9 // (2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution) + 1
    for row, expected in zip(rows, written(SENT), strict=True):
        assert (row[:2], row[3:]) == (expected[:2], expected[3:])
        assert isinstance(row[2], int)
        assert isinstance(expected[2], int)
        assert abs(row[2] - expected[2]) < step_ns


def test_sections_interfaces_and_kinds_of_blocks_in_one_file(tmp_path: Path) -> None:
    """Three sections of different byte order, link types and resolutions; simple packets take the time of the one before."""
    layouts = ["ethernet", "sll2", "raw"]
    data, expected = b"", []
    for part, order in enumerate("<><"):
        data += generated.section(order)
        for number, layout in enumerate(layouts):
            data += generated.interface(order, generated.LAYOUTS[layout][0], 9 if number else 6, b"eth%d" % number)
        clock_ns = 0
        for at, one in enumerate(SENT[part * 36 : part * 36 + 36]):
            if at % 6 == 5:
                data += generated.simple(order, generated.frames("ethernet", [one])[0][1])
                one = Sent(one.source, one.destination, one.seq, one.flags, clock_ns, one.payload)
            else:
                number = (at + part) % 3
                clock_ns = one.time_ns
                frame = generated.frames(layouts[number], [one])[0][1]
                ticks = generated.ticks_of(one.time_ns, 9 if number else 6)
                write = generated.obsolete if at % 4 == 3 else generated.enhanced
                data += write(order, number, ticks, frame)
            expected.append(one)
            data += generated.block(order, 4, b"\0\0\0\0") if at % 5 == 0 else b""
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    assert reread([path], tmp_path / "index") == ([len(expected)], written(expected))


@pytest.mark.parametrize("program", ["gzip", "xz", "zstd", "lz4"])
def test_compressed_in_several_members(program: str, tmp_path: Path) -> None:
    plain = generated.pcap(1, generated.frames("ethernet", SENT))
    parts = [plain[:1_000], plain[1_000:]]
    if program == "gzip":
        packed = b"".join(gzip.compress(part) for part in parts) + bytes(100)
    elif program == "xz":
        packed = b"".join(lzma.compress(part) for part in parts)
    elif shutil.which(program):
        packed = b"".join(subprocess.run([program, "-c"], input=part, capture_output=True, check=True).stdout for part in parts)
    else:
        pytest.skip(f"{program} is not installed")
    path = tmp_path / "a.log"
    path.write_bytes(packed)
    assert reread([path], tmp_path / "index") == ([len(SENT)], written(SENT))


def test_rotated_and_parallel_files_make_one_flow_each(tmp_path: Path) -> None:
    """Parts by time given in any order, and parts by direction side by side: a flow is one row all the same, each frame in its file."""
    records = generated.frames("ethernet", SENT)
    third = len(SENT) // 3
    parts = [(list(range(start, start + third))) for start in (2 * third, 0, third)]
    for name, split in (
        ("rotated", parts),
        (
            "parallel",
            [[at for at, one in enumerate(SENT) if one.source[1] == 80], [at for at, one in enumerate(SENT) if one.source[1] != 80]],
        ),
    ):
        paths, expected = [], []
        for number, kept in enumerate(split):
            paths.append(tmp_path / f"{name}-{number}.pcap")
            paths[-1].write_bytes(generated.pcap(1, [records[at] for at in kept], "<>"[number % 2]))
            expected += written([SENT[at] for at in kept], number)
        packets, rows = reread(paths, tmp_path / name)
        assert packets == [len(kept) for kept in split]
        assert rows == sorted(expected)
        flows = _core.read_flows(str(tmp_path / name / "flows.parquet"))
        assert len(flows) == 12


def test_thousands_of_interfaces(tmp_path: Path) -> None:
    data = generated.section("<") + b"".join(generated.interface("<", 1, 9, b"veth%d" % number) for number in range(5_000))
    for at, (time_ns, frame) in enumerate(generated.frames("ethernet", SENT)):
        data += generated.enhanced("<", at * 31 % 5_000, time_ns, frame)
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    assert reread([path], tmp_path / "index") == ([len(SENT)], written(SENT))


@pytest.mark.parametrize("seconds", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_times_at_the_ends_of_what_pcap_can_say(seconds: int, tmp_path: Path) -> None:
    data = generated.frames("ethernet", SENT[:12])[0][1]
    path = tmp_path / "a.pcap"
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1) + struct.pack("<IIII", seconds, 5, len(data), len(data)) + data
    )
    packets, rows = reread([path], tmp_path / "index")
    assert packets == [1]
    assert [row[2] for row in rows] == [seconds * 10**9 + 5_000]


def test_what_is_no_capture_is_told_so(tmp_path: Path) -> None:
    for number, data in enumerate(
        [b"", b"\0", bz2.compress(b"x"), bytes(5_000), b"\x0a\x0d\x0d\x0a", b"\xd4\xc3\xb2\xa1", b"\x1f\x8b\x08"]
    ):
        path = tmp_path / f"{number}.pcap"
        path.write_bytes(data)
        folder = tmp_path / f"index-{number}"
        folder.mkdir()
        (file,) = _core.scan([str(path)], str(folder))["files"]
        assert file["error"]
        assert file["packets"] == 0
