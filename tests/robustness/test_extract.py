"""What `extract` writes holds the connection's records, whole and with the times that their captures gave them, readable by others."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tcpwhy import CaseError, open_case
from tests.robustness import generated


def records_of(path: Path) -> list[tuple[int, bytes]]:
    """Time and bytes of each enhanced packet of a little-endian pcapng in nanoseconds."""
    data, at, out = path.read_bytes(), 0, []
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == 6:
            _, high, low, captured, original = struct.unpack_from("<IIIII", data, at + 8)
            assert captured == original
            out.append((high << 32 | low, data[at + 28 : at + 28 + captured]))
        at += length
    return out


def test_records_of_two_places_and_three_layouts_come_out_as_they_went_in(tmp_path: Path) -> None:
    sent = generated.conversations(5)
    for name, layout, order, nanoseconds in (("gateway", "sll2", ">", True), ("backend", "vxlan", "<", True)):
        (tmp_path / "case" / name).mkdir(parents=True)
        records = generated.frames(layout, sent)
        data = generated.pcap(generated.LAYOUTS[layout][0], records, order, nanoseconds)
        (tmp_path / "case" / name / "a.pcap").write_bytes(data)
    wanted = [at for at, one in enumerate(sent) if 40_002 in (one.source[1], one.destination[1])]
    expected = sorted(generated.frames(layout, sent)[at] for at in wanted for layout in ("sll2", "vxlan"))
    out = tmp_path / "out.pcapng"
    with open_case(str(tmp_path / "case"), index=False) as case:
        assert case.extract("10.0.0.1:40002-10.0.0.2:80", out) == len(expected)
    assert sorted(records_of(out)) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case", "out.pcapng"]


@pytest.mark.skipif(shutil.which("capinfos") is None, reason="capinfos is not installed")
def test_capinfos_counts_what_the_scan_counts(tmp_path: Path) -> None:
    sent = generated.conversations(5)
    out = tmp_path / "out.pcapng"
    (tmp_path / "a.pcap").write_bytes(generated.pcap(1, generated.frames("ethernet", sent)))
    with open_case(str(tmp_path / "a.pcap"), index=False) as case:
        count = case.extract("10.0.0.2:80-10.0.0.1:40000", out)
    ended = subprocess.run(["capinfos", "-c", "-M", "-T", "-r", out], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == str(count) == "9"


def test_a_capture_of_the_case_is_not_overwritten(tmp_path: Path) -> None:
    file, link = tmp_path / "a.pcap", tmp_path / "link.pcap"
    file.write_bytes(generated.pcap(1, generated.frames("ethernet", generated.conversations(5))))
    link.symlink_to(file)
    before = file.read_bytes()
    with open_case(str(file), index=False) as case:
        for out in (file, link):
            with pytest.raises(CaseError, match="is a capture of the case"):
                case.extract("10.0.0.2:80-10.0.0.1:40000", out)
    assert file.read_bytes() == before
