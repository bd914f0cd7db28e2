"""What the user may name, and whose each file is then."""

import os
from pathlib import Path

import pytest

from tcpwhy.evidence import Evidence, EvidenceError, open_evidence
from tests.evidence.captures import pcap, pcapng

LOG = "2023/05/05 17:33:07 http: proxy error: EOF\n"


def make(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def told(evidence: Evidence) -> dict[str, list[str]]:
    return {
        point.name: [evidence.shown(path) for path in [*point.captures, *point.logs]] + (["state"] if point.state else [])
        for point in evidence.vantage_points
    }


def test_a_case_folder(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "gateway/deep/er/eth0.bin": pcap(10),
            "gateway/eth1.pcap": pcapng(5),
            "gateway/app.log": LOG,
            "gateway/state/ss-tcp.txt": "",
            "backend-01/x.cap": pcap(1, order=">"),
            "firewall.pcap": pcap(3),
            "about.md": "2026-01-01 10:00 text",
            ".tcpwhy/frames": b"\0\1",
            "case.expected.json": "{}",
            "gateway/.hidden": "x",
            "gateway/core": b"\x7fELF" + bytes(range(256)),
        },
    )
    with open_evidence(tmp_path) as evidence:
        assert told(evidence) == {
            "backend-01": ["backend-01/x.cap"],
            "firewall": ["firewall.pcap"],
            "gateway": ["gateway/eth1.pcap", "gateway/deep/er/eth0.bin", "gateway/app.log", "state"],
        }
        gateway = evidence.vantage_point("gateway")
        assert gateway is not None
        assert gateway.state is not None
        assert gateway.state.is_collected("ss-tcp.txt")
        assert gateway.state.read_lines("ss-tcp.txt") == []
        assert gateway.state.read_lines("nstat.txt") is None
        assert str(gateway.state.source("ss-tcp.txt", 3)) == "gateway/state/ss-tcp.txt:3"
        assert gateway.notes == ["gateway/core is of no known kind; passed over"]
        assert evidence.notes == ["about.md is of no known kind; passed over"]
        assert evidence.losses == []
        assert evidence.root == tmp_path


def test_named_arguments(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"gateway.pcap": pcap(1), "001.cap": pcap(1), "003.cap": pcap(6), "004.cap": pcap(9), "g.log": LOG},
    )
    arguments = [
        f"gw={tmp_path}/gateway.pcap",
        f"b1={tmp_path}/001.cap",
        f"b3={tmp_path}/004.cap",
        f"b3={tmp_path}/003.cap",
    ]
    with open_evidence(arguments, logs=[f"gw={tmp_path}/g.log"]) as evidence:
        assert told(evidence) == {
            "b1": ["001.cap"],
            "b3": ["003.cap", "004.cap"],
            "gw": ["gateway.pcap", "g.log"],
        }


def test_numbered_captures_of_several_hosts_stay_apart(tmp_path: Path) -> None:
    make(tmp_path, {"001.cap": pcap(1, 2, 3), "002.cap": pcap(1.5, 2.5), "003.cap": pcap(2, 3)})
    with open_evidence(tmp_path) as evidence:
        assert told(evidence) == {"001": ["001.cap"], "002": ["002.cap"], "003": ["003.cap"]}


@pytest.mark.parametrize(
    ("names", "point"),
    [
        (["x.pcap", "x.pcap1", "x.pcap2"], "x"),
        (["x_00001_20260101120000.pcap", "x_00002_20260101120100.pcap", "x_00003_20260101120200.pcap"], "x"),
        (["x-2026-01-01T12:00:00.pcap", "x-2026-01-01T12:01:00.pcap", "x-2026-01-01T12:02:00.pcap"], "x"),
        (["x.2026-01-01.pcap", "x.2026-01-02.pcap", "x.2026-01-03.pcap"], "x"),
        (["x-1700000000.pcap", "x-1700000060.pcap", "x-1700000120.pcap"], "x"),
        (["202601011200.pcap", "202601011201.pcap", "202601011202.pcap"], "202601011200"),
        (["part9.pcapng", "part10.pcapng", "part11.pcapng"], "part"),
    ],
)
def test_rotated_sets_are_one_vantage_point_in_time_order(tmp_path: Path, names: list[str], point: str) -> None:
    make(tmp_path, {name: pcap(10 * number, 10 * number + 9) for number, name in enumerate(names)})
    with open_evidence(tmp_path) as evidence:
        assert told(evidence) == {point: names}
    with open_evidence([str(tmp_path / name) for name in reversed(names)]) as evidence:
        assert told(evidence) == {point: names}


def test_rotated_names_whose_times_overlap_or_whose_links_differ_are_apart(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"x.pcap0": pcap(1, 5), "x.pcap1": pcap(2, 9), "y1.pcap": pcap(1), "y2.pcap": pcap(2, link_type=113)},
    )
    with open_evidence(tmp_path) as evidence:
        assert sorted(told(evidence)) == ["x.pcap0", "x.pcap1", "y1", "y2"]


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"a/capture.pcap": pcap(1), "b/capture.pcap": pcap(1), "c/x.pcap": pcap(1), "c/x.pcapng": pcapng(1)},
    )
    arguments = [f"{tmp_path}/a/capture.pcap", f"{tmp_path}/b/capture.pcap"]
    with open_evidence(arguments) as evidence:
        assert told(evidence) == {"a/capture": ["a/capture.pcap"], "b/capture": ["b/capture.pcap"]}
    with open_evidence(tmp_path / "c") as evidence:
        assert told(evidence) == {"x.pcap": ["x.pcap"], "x.pcapng": ["x.pcapng"]}


def test_a_state_folder_given_by_itself(tmp_path: Path) -> None:
    make(tmp_path, {"rs1/state/ss-tcp.txt": "", "rs1/eth0.pcap": pcap(1), "old/rs1/state/ss-tcp.txt": "", "lb/state/host.json": "{}"})
    rs1, old, lb = (str(tmp_path / name / "state") for name in ("rs1", "old/rs1", "lb"))
    with open_evidence([rs1]) as evidence:
        assert told(evidence) == {"rs1": ["state"]}
        state = evidence.vantage_points[0].state
        assert state is not None
        assert state.source("ss-tcp.txt").file == "ss-tcp.txt"
    with open_evidence([rs1, f"director={lb}"]) as evidence:
        assert told(evidence) == {"director": ["state"], "rs1": ["state"]}
    with open_evidence([rs1, old]) as evidence:
        assert told(evidence) == {"rs1": ["state"]}
        assert any("old/rs1/state is another state of rs1; passed over" in note for note in evidence.notes)


def test_folders_with_a_state_of_their_own(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "gateway/state/ss-tcp.txt": "",
            "gateway/a.pcap": pcap(1),
            "gateway/pod/state/nstat.txt": "",
            "gateway/pod/b.pcap": pcap(1),
        },
    )
    expected = {"gateway": ["a.pcap", "state"], "gateway/pod": ["pod/b.pcap", "state"]}
    with open_evidence(tmp_path / "gateway") as evidence:
        assert told(evidence) == expected
    with open_evidence(tmp_path) as evidence:
        assert sorted(told(evidence)) == ["gateway", "gateway/pod"]
    with open_evidence(f"gw={tmp_path}/gateway/pod") as evidence:
        assert told(evidence) == {"gw": ["b.pcap", "state"]}


def test_two_snapshots(tmp_path: Path) -> None:
    make(tmp_path, {"h/state/nstat.txt": "A 2 0\n", "h/state-before/nstat.txt": "A 1 0\n"})
    with open_evidence(tmp_path) as evidence:
        point = evidence.vantage_points[0]
        assert point.state is not None
        assert point.state_before is not None
        assert point.state_before.read_lines("nstat.txt") == ["A 1 0"]


def test_loose_logs_go_to_the_vantage_point_of_their_name(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "gateway.pcap": pcap(1),
            "gateway.log": LOG,
            "gateway-access.log.1": LOG,
            "other.ndjson": '{"msg":1}\n',
        },
    )
    with open_evidence(tmp_path) as evidence:
        assert told(evidence) == {
            "gateway": ["gateway.pcap", "gateway-access.log.1", "gateway.log"],
            "other": ["other.ndjson"],
        }


def test_settings(tmp_path: Path) -> None:
    text = """
        [vantage.gateway]
        role = "proxy"
        addresses = ["10.20.0.7"]
        clock_offset = "+5.02s"
        log_timezone = "Asia/Shanghai"
        [vantage.nowhere]
        clock_offset = "-3ms"
        [service."10.20.32.11:80"]
        name = "checkout"
        backends = ["backend-01"]
    """
    make(tmp_path, {"tcpwhy.toml": text, "gateway/a.pcap": pcap(1)})
    with open_evidence(tmp_path) as evidence:
        point = evidence.vantage_points[0]
        assert (point.role, point.addresses, point.clock_offset_s) == ("proxy", ("10.20.0.7",), 5.02)
        assert point.log_timezone == "Asia/Shanghai"
        assert evidence.services["10.20.32.11:80"].backends == ("backend-01",)
        assert evidence.notes == ["tcpwhy.toml names the vantage point nowhere, of which there is no evidence"]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[vantage.a]\nrole = 'proxy'\nclock_ofset = '1s'", "tcpwhy.toml:3", "unknown key `clock_ofset`"),
        ("x = 1", "tcpwhy.toml:1", "unknown key `x`"),
        ("\n[vantage.a]\nclock_offset = '5'", "tcpwhy.toml:3", "expected a number with a unit"),
        ("[vantage.a]\nlog_timezone = 'Mars/Olympus'", "tcpwhy.toml:2", "Mars/Olympus"),
        (
            "[vantage.a]\nlog_timezone = '../../etc/passwd'",
            "tcpwhy.toml:2",
            "expected a time zone",
        ),
        ("[vantage.a]\naddresses = ['10.0.0.256']", "tcpwhy.toml:2", "10.0.0.256"),
        ("[vantage.a]\nrole = 'boss'", "tcpwhy.toml:2", "boss"),
        ("[vantage.a]\n\naddresses = 5", "tcpwhy.toml:3", "array"),
        ("[service.'a:80']\nname='x'", "tcpwhy.toml:1", "a:80"),
        ("[vantage.a\n", "tcpwhy.toml:1", "is not TOML"),
        ("vantage = 3", "tcpwhy.toml:1", "object"),
    ],
)
def test_wrong_settings_name_the_line(tmp_path: Path, text: str, where: str, what: str) -> None:
    make(tmp_path, {"tcpwhy.toml": text, "a/a.pcap": pcap(1)})
    with pytest.raises(EvidenceError) as caught:
        open_evidence(tmp_path)
    assert caught.value.where == where
    assert what in caught.value.what
    assert "\n" not in str(caught.value)


def test_unusable_arguments(tmp_path: Path) -> None:
    make(tmp_path, {"empty/x/readme": "hello", "garbage.pcap": b"\x01\x02" * 50, "a.pcap": pcap(1)})
    with pytest.raises(EvidenceError, match="does not exist"):
        open_evidence(tmp_path / "nothing")
    with pytest.raises(EvidenceError, match="does not exist"):
        open_evidence(f"gw={tmp_path}/nothing.pcap")
    with pytest.raises(EvidenceError, match="holds no evidence"):
        open_evidence(tmp_path / "empty")
    with pytest.raises(EvidenceError, match="is named like a capture and is none"):
        open_evidence(tmp_path / "garbage.pcap")
    with pytest.raises(EvidenceError, match="empty name"):
        open_evidence(f"={tmp_path}/a.pcap")
    with pytest.raises(EvidenceError, match="no log but a capture"):
        open_evidence(tmp_path / "a.pcap", logs=[str(tmp_path / "a.pcap")])
    with pytest.raises(EvidenceError):
        open_evidence("a\0b")
    with pytest.raises(EvidenceError):
        open_evidence("x" * 5000)
    with pytest.raises(EvidenceError, match="nothing is named"):
        open_evidence([])
    with open_evidence([tmp_path / "garbage.pcap", tmp_path / "a.pcap"]) as evidence:
        assert evidence.losses == ["garbage.pcap is named like a capture and is none (neither pcap nor pcapng)"]


def test_links_pipes_and_loops(tmp_path: Path) -> None:
    make(tmp_path, {"case/gw/a.pcap": pcap(1), "elsewhere/big.pcap": pcap(2)})
    (tmp_path / "case/gw/loop").symlink_to(tmp_path / "case/gw")
    (tmp_path / "case/gw/big.pcap").symlink_to(tmp_path / "elsewhere/big.pcap")
    (tmp_path / "case/gw/dangling.pcap").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "case/gw/pipe.pcap")
    with open_evidence(tmp_path / "case") as evidence:
        assert told(evidence) == {"gw": ["gw/a.pcap", "gw/big.pcap"]}
        assert any("gw/dangling.pcap" in loss for loss in evidence.losses)
        assert any("gw/pipe.pcap is neither" in note for note in evidence.notes)
