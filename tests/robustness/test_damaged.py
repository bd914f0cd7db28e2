"""Captures broken in any way: no crash, bounded losses, and every record of a flow is read again as the scan saw it."""

import gzip
import random
from pathlib import Path

import pytest

from tcpwhy import CaseError, _core, open_case
from tests.robustness import generated

SENT = generated.conversations(20)
TRIALS = 150
BYTES_MAX = 60_000
"""Above the size of any capture that is made here, unpacked."""


def sources() -> list[bytes]:
    """Intact captures to break."""
    records = generated.frames("ethernet", SENT)
    both = []
    for order in "<>":
        data = generated.section(order) + generated.interface(order, 1, 9)
        both.append(data + b"".join(generated.enhanced(order, 0, time_ns, frame, b"note") for time_ns, frame in records))
        data = generated.section(order) + generated.interface(order, 1, 9)
        first = generated.enhanced(order, 0, *records[0])
        both.append(data + first + b"".join(generated.simple(order, frame) for _, frame in records[1:]))
    vxlan = generated.pcap(1, generated.frames("vxlan", SENT))
    sll2 = generated.pcap(276, generated.frames("sll2", SENT), ">")
    return [
        generated.pcap(1, records),
        generated.pcap(1, records, ">", True),
        vxlan,
        sll2,
        *both,
        both[0] + both[3],
        gzip.compress(both[1]),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_scanned_is_what_is_read_again(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    whole = sources()
    read_again = 0
    path, folder = tmp_path / "a.pcap", tmp_path / "index"
    folder.mkdir()
    for _ in range(TRIALS):
        data = generated.damage(chance.choice(whole), chance.choice(whole), chance)
        path.write_bytes(gzip.compress(data, 1) if chance.randrange(8) == 0 else data)
        (file,) = _core.scan([str(path)], str(folder))["files"]
        if file["error"]:
            assert file["packets"] == 0
            continue
        # Records may be invented where a size was damaged, but never more than there are bytes for.
        assert file["packets"] <= BYTES_MAX // 12
        flows = _core.read_flows(str(folder / "flows.parquet"))
        rows = [dict(zip(flows.columns, row, strict=True)) for row in flows.rows()]
        if not rows:
            continue
        frames = _core.Frames(str(folder / "frames.idx"), [str(path)])
        table, _ = frames.packets([row["chains"] for row in rows], 1 << 30)
        names = {name: at for at, name in enumerate(table.columns)}
        counted = [0] * len(rows)
        for packet in table.rows():
            flow = rows[packet[names["flow"]]]
            if packet[names["kind"]] == 1:
                continue
            ends = {(packet[names[end]], packet[names[f"{end}_port"]]) for end in ("source", "destination")}
            assert ends == {(flow["ip_a"], flow["port_a"]), (flow["ip_b"], flow["port_b"])}
            # A simple packet with none before it has no time: it reads as 0.
            assert packet[names["time_ns"]] == 0 or flow["first_ns"] <= packet[names["time_ns"]] <= flow["last_ns"]
            counted[packet[names["flow"]]] += 1
            read_again += 1
        assert counted == [row["packets_a"] + row["packets_b"] + row["copies"] + row["icmp_errors"] for row in rows]
    assert read_again > 2_000


def test_a_capture_cut_anywhere_loses_its_tail_alone(tmp_path: Path) -> None:
    records = generated.frames("ethernet", SENT)
    whole = generated.pcap(1, records)
    ends = [24]
    for _, frame in records:
        ends.append(ends[-1] + 16 + len(frame))
    path, folder = tmp_path / "a.pcap", tmp_path / "index"
    folder.mkdir()
    for cut in range(ends[3], ends[15]):
        path.write_bytes(whole[:cut])
        (file,) = _core.scan([str(path)], str(folder))["files"]
        assert file["packets"] == sum(end <= cut for end in ends) - 1
        assert [loss["cut_off"] for loss in file["losses"]] == [True] * (cut not in ends)


def test_a_diagnosis_of_broken_captures_ends_in_a_report_or_in_a_case_error(tmp_path: Path) -> None:
    chance = random.Random(11)
    whole = sources()
    reports = 0
    for number in range(12):
        path = tmp_path / f"{number}.pcap"
        path.write_bytes(generated.damage(chance.choice(whole), chance.choice(whole), chance))
        try:
            with open_case([str(path)], index=False) as case:
                case.diagnosis()
                reports += 1
        except CaseError:
            continue
    assert reports >= 8
