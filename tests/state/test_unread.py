"""What no reader understands is said in the report: one note a file, in the vantage point's own notes."""

from pathlib import Path

from tcpwhy.case import open_case
from tcpwhy.evidence import open_evidence
from tcpwhy.tables.host import HostTables

FILES = {
    "ip-rule.json": "100:\tfrom all frob lookup main\nbad\x1b[31m line\n",
    "ip-route.json": "10.0.0.0/8 dev e\nfd00::/64 dev e\nlost\n",
    "ip-addr.json": '[{"ifname":"e","ifindex":2,"flags":[],"addr_info":[]},{"ifname":"f","if',
    "iptables-save.txt": "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m whatsit --frob 3 -j DROP\nCOMMIT\n",
    "ss-tcp.txt": "State Recv-Q\nfoo bar baz\n",
    "sysctl.txt": "".join(f"no setting {number}\n" for number in range(1000)),
    "ip-neigh.json": "10.0.0.1 dev e lladdr 02:00:00:00:00:01 STALE\n",
}


def case_of(folder: Path, state: str = "state") -> Path:
    (folder / "h" / state).mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / "h" / state / name).write_text(content)
    return folder


def test_one_note_a_file_with_count_and_first_line(tmp_path: Path) -> None:
    with open_case(str(case_of(tmp_path)), index=False) as case:
        (point,) = case.diagnosis().report.vantage_points
    start = "h/state/"
    notes = {note.split(": ")[0].removeprefix(start): note.split(": ", 1)[1] for note in point.notes if "understood" in note}
    assert set(notes) == set(FILES) - {"ip-neigh.json"}
    assert notes["ip-rule.json"] == "2 pieces were not understood; the first is line 1 `100: from all frob lookup main`: the words frob"
    assert notes["ip-route.json"] == "1 piece was not understood; line 3 `lost`: no route begins like this"
    assert notes["sysctl.txt"].startswith("1000 pieces were not understood; the first is line 1 `no setting 0`: ")
    assert notes["iptables-save.txt"].startswith("1 piece was not understood; line 3 `-A INPUT -m whatsit --frob 3 -j DROP`: ")
    assert notes["ss-tcp.txt"] == "1 piece was not understood; line 2: this is no socket"
    assert notes["ip-addr.json"].startswith("2 pieces were not understood; the first is line 1 `{")


def test_the_snapshot_before_is_told_too(tmp_path: Path) -> None:
    case_of(tmp_path, "state-before")
    (tmp_path / "h" / "state").mkdir()
    with open_case(str(tmp_path), index=False) as case:
        (point,) = case.diagnosis().report.vantage_points
    assert any(note.startswith("h/state-before/ip-rule.json: 2 pieces") for note in point.notes)


def test_files_that_are_understood_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "h" / "state").mkdir(parents=True)
    (tmp_path / "h" / "state" / "ip-neigh.json").write_text(FILES["ip-neigh.json"])
    with open_evidence([str(tmp_path)]) as evidence:
        (point,) = evidence.vantage_points
        assert point.state is not None
        tables = HostTables(point.state)
        assert tables.unread_files() == []
        assert tables.unread() == []
