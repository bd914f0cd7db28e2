"""Captures whose flows are split, spilled and merged again go in; the numbers of what is revealed are those of the flow table."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tcpwhy import _core
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import connect, load_flows, query
from tcpwhy.tables.index import VantageIndex, ensure_index
from tcpwhy.tables.revealed import load_revealed
from tests.reveal.wire import Talk, ethernet, ipv4, write

CLIENTS = 110_000
"""Beyond what the core holds before it spills rows to disk (rust/src/flows/table.rs HELD)."""


def marked(number: int, serial: int) -> bytes:
    """A segment whose TOA repeats its own source, so that a claim tells which flow it is of."""
    source, port = (0x0A000000 + number // 50_000).to_bytes(4, "big"), 10_000 + number % 50_000
    option = struct.pack(">BBH", 254, 8, port) + source
    tcp = struct.pack(">HHIIHHHH", port, 80, 1 + serial, 1, 7 << 12 | 0x10, 502, 0, 0) + option
    return ethernet(ipv4(6, source, bytes([10, 9, 9, 9]), tcp, serial + 1))


def capture(path: Path, order: list[tuple[int, int]]) -> Path:
    """(client, second) pairs as a pcap."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for serial, (number, second) in enumerate(order):
        frame = marked(number, serial % 60_000)
        out.append(struct.pack("<IIII", 1_790_000_000 + second, serial % 1_000_000_000, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(out))
    return path


def indexed(home: Path, captures: list[Path]) -> VantageIndex:
    return ensure_index("here", captures, home)[0]


@pytest.mark.slow
def test_spilled_and_split_flows_keep_their_numbers(tmp_path: Path) -> None:
    """Many clients call three times with silences between that write flows out: each claim is of the flow that it names."""
    chance = random.Random(1)
    order = []
    for call in range(3):
        numbers = list(range(CLIENTS))
        chance.shuffle(numbers)
        order += [(number, call * 400) for number in numbers]
    index = indexed(tmp_path, [capture(tmp_path / "a.pcap", order)])
    assert index.flows == CLIENTS
    with connect() as db:
        load_flows(db, [index])
        load_revealed(db, [index], [])
        wrong = query(db, "SELECT count(*) FROM claim JOIN flow USING (id) WHERE ip <> client_ip OR port <> client_port")
        assert wrong == [(0,)]
        assert query(db, "SELECT count(*), count(DISTINCT id), min(count), max(count) FROM claim") == [(CLIENTS, CLIENTS, 3, 3)]


def test_several_files_and_a_silence_are_one_flow(tmp_path: Path) -> None:
    """A connection in two rotated files with two hours between: its claim, its headers and its counts are of one flow."""
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    request = b"GET / HTTP/1.1\r\nX-Team: red\r\n\r\n"
    first = write(tmp_path / "1.pcap", [*talk.opens(third=b"\xfe\x08\x12\x34\x01\x02\x03\x04"), talk.says(request), talk.hears()])
    second = write(tmp_path / "2.pcap", [talk.says(request), talk.hears()] * 1)
    later = bytearray(second.read_bytes())
    at = 24
    while at < len(later):
        seconds, _, length, _ = struct.unpack_from("<IIII", later, at)
        struct.pack_into("<I", later, at, seconds + 7200)
        at += 16 + length
    second.write_bytes(later)
    index = indexed(tmp_path, [first, second])
    assert index.flows == 1
    with connect() as db:
        load_flows(db, [index])
        load_revealed(db, [index], ["x-TEAM"])
        assert query(db, "SELECT id, ip, port, count, frame FROM claim") == [(0, "1.2.3.4", 4660, 1, 3)]
        assert query(db, "SELECT value, count, file, frame FROM header") == [("red", 2, 0, 4)]
        assert query(db, "SELECT requests, from_client FROM request") == [(2, True)]


def test_captures_that_changed_since_the_scan_are_refused(tmp_path: Path) -> None:
    """Flow numbers of other captures would give one client's name to another."""
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    path = write(tmp_path / "a.pcap", talk.opens())
    index = indexed(tmp_path, [path])
    other = Talk(("10.0.0.1", 40_001), ("10.0.0.80", 80))
    mark = b"\xfe\x08\x12\x34\x01\x02\x03\x04"
    for changed, message in (([*talk.opens(), *other.opens()], "expected 1 as indexed"), (other.opens(mark), "other flows")):
        write(path, changed)
        with connect() as db:
            load_flows(db, [index])
            with pytest.raises(EvidenceError, match=message):
                load_revealed(db, [index], [])


def test_any_damage_ends_in_tables(tmp_path: Path) -> None:
    """Bytes changed anywhere in a capture of everything that is read."""
    chance = random.Random(3)
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    segments = talk.opens(options=b"\xfe\x08\x12\x34\x01\x02\x03\x04", third=b"\x1c\x07\x01\x01\x02\x03\x04")
    segments.append(talk.says(b"PROXY TCP4 1.2.3.4 9.9.9.9 4660 80\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Team: a\r\n\r\n"))
    segments += [talk.says(b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"), talk.hears()]
    content = write(tmp_path / "a.pcap", segments).read_bytes()
    for number in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 30)):
            damaged[chance.randrange(24, len(damaged))] = chance.randrange(256)
        path = tmp_path / f"{number}.pcap"
        path.write_bytes(damaged[: chance.randrange(24, len(damaged) + 1)])
        (tmp_path / f"{number}").mkdir()
        scanned = _core.scan([str(path)], str(tmp_path / f"{number}"))
        revealed = _core.reveal([str(path)], str(tmp_path / f"{number}"), ["X-Team"])
        assert revealed["flows"] == scanned["flows"]
        assert sorted(file.name for file in (tmp_path / f"{number}").iterdir()) == [
            "claim.parquet", "flows.parquet", "frames.idx", "header.parquet", "request.parquet",
        ]  # fmt: skip
