"""Archives of all kinds, honest and not."""

import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.evidence import EvidenceError, open_evidence
from tcpwhy.evidence.archive import Budget
from tests.evidence.captures import pcap
from tests.evidence.test_case import LOG, told

FILES = {
    "case/gateway/a.pcap": pcap(1),
    "case/gateway/app.log": LOG.encode(),
    "case/gateway/state/ss-tcp.txt": b"",
    "case/backend/b.pcap.gz": gzip.compress(pcap(2)),
    "case/backend/blob": bytes(range(256)) * 40,
    "case/tcpwhy.toml": b"[vantage.gateway]\nrole='proxy'\n",
}
TOLD = {"backend": ["backend/b.pcap.gz"], "gateway": ["gateway/a.pcap", "gateway/app.log", "state"]}


def tar_of(files: dict[str, bytes], more: list[tarfile.TarInfo] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in more or []:
            tar.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return out.getvalue()


def packed(form: str) -> bytes:
    plain = tar_of(FILES)
    if form == "zip":
        return zip_of(FILES)
    if form == "zst":
        program = shutil.which("zstd")
        if program is None:
            pytest.skip("the program zstd is not installed")
        return subprocess.run([program, "-c"], input=plain, capture_output=True, check=True).stdout
    pack = {"tar": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": __import__("bz2").compress}
    return bytes(pack[form](plain))


@pytest.mark.parametrize("form", ["tar", "gz", "xz", "bz2", "zst", "zip"])
def test_an_archive_of_a_case_stands_for_its_folder(tmp_path: Path, form: str) -> None:
    (tmp_path / "sent.bin").write_bytes(packed(form))
    with open_evidence(tmp_path / "sent.bin") as evidence:
        assert told(evidence) == TOLD
        assert evidence.vantage_points[1].role == "proxy"
        assert evidence.losses == []
        capture = evidence.vantage_points[1].captures[0]
        assert evidence.is_temporary(capture)
        assert capture.read_bytes() == FILES["case/gateway/a.pcap"]
        assert capture.parents[2].stat().st_mode & 0o077 == 0
    assert not capture.exists()


def test_an_archive_in_a_case_is_a_vantage_point(tmp_path: Path) -> None:
    sos = {
        "sosreport-rs1-2026/hostname": b"rs1\n",
        "sosreport-rs1-2026/sos_commands/networking/ss_-peaonmi": b"Netid State\n",
        "sosreport-rs1-2026/var/log/messages": b"May  5 17:33:07 rs1 kernel: x\n",
        "sosreport-rs1-2026/usr/bin/big": bytes(range(256)) * 1000,
    }
    (tmp_path / "sosreport-rs1-2026.tar.xz").write_bytes(lzma.compress(tar_of(sos)))
    (tmp_path / "gw.tar.gz").write_bytes(gzip.compress(tar_of({"gw/host.json": b"{}", "gw/x.pcap": pcap(1)})))
    with open_evidence(tmp_path) as evidence:
        name = "sosreport-rs1-2026.tar.xz/sosreport-rs1-2026/var/log/messages"
        assert told(evidence) == {"gw": ["gw.tar.gz/gw/x.pcap"], "rs1": [name, "state"]}
        state = evidence.vantage_points[1].state
        assert state is not None
        assert state.collected == {"ss-tcp.txt"}
        assert not any(path.name == "big" for folder in evidence.temporary for path in folder.rglob("*"))
    with open_evidence(f"web={tmp_path}/gw.tar.gz") as evidence:
        assert told(evidence) == {"web": ["x.pcap"]}


def test_nothing_leads_out_of_an_archive(tmp_path: Path) -> None:
    link = tarfile.TarInfo("case/gw/out")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    device = tarfile.TarInfo("case/gw/dev.pcap")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    files = {
        "../../escaped.pcap": pcap(1),
        "/absolute.pcap": pcap(1),
        "case/gw/../../../up.pcap": pcap(1),
        "case/gw/out/through.pcap": pcap(1),
        "case/gw/a.pcap": pcap(1),
    }
    (tmp_path / "evil.tar").write_bytes(tar_of(files, [link, device]))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with open_evidence(tmp_path / "evil.tar") as evidence:
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        assert not Path("/absolute.pcap").exists()
        assert evidence.losses == [
            "evil.tar: 2 members were passed over: a name that leads out of the archive",
            "evil.tar: 1 members were passed over: neither file nor folder",
        ]
        for folder in evidence.temporary:
            assert not any(path.is_symlink() for path in folder.rglob("*"))
    (tmp_path / "evil.zip").write_bytes(zip_of({"../up.pcap": pcap(1), "a.pcap": pcap(1)}))
    with open_evidence(tmp_path / "evil.zip") as evidence:
        assert told(evidence) == {"a": ["a.pcap"]}


def test_bombs_end_at_the_budget(tmp_path: Path) -> None:
    bomb = tar_of({"a.pcap": pcap(1), "b.pcap": pcap(1) + bytes(50 << 20)})
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bomb))
    with open_evidence(tmp_path / "bomb.tar.gz", budget=Budget(bytes_left=1 << 20)) as evidence:
        assert evidence.losses == ["bomb.tar.gz: unpacked in part only: it holds more than may be unpacked"]
        assert "a" in told(evidence)
        assert sum(path.stat().st_size for folder in evidence.temporary for path in folder.rglob("*")) < 3 << 20
    many = {f"{number}.log": LOG.encode() for number in range(30)}
    (tmp_path / "many.zip").write_bytes(zip_of(many))
    with open_evidence(tmp_path / "many.zip", budget=Budget(files_left=10)) as evidence:
        assert evidence.losses == ["many.zip: unpacked in part only: it holds more files than may be unpacked"]


def test_a_huge_header_takes_no_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 4 << 30
    data = member.tobuf() + bytes(64 << 20)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(data, 1))
    with pytest.raises(EvidenceError, match="a header of it is larger"):
        open_evidence(tmp_path / "x.tar.gz")


def test_archives_in_archives_have_an_end(tmp_path: Path) -> None:
    inner = tar_of({"x.pcap": pcap(1)})
    for _ in range(6):
        inner = tar_of({"gw/inner.tar": inner, "gw/y.log": LOG.encode()})
    (tmp_path / "deep.tar").write_bytes(inner)
    with open_evidence(tmp_path / "deep.tar") as evidence:
        assert any("nested too deeply" in loss for loss in evidence.losses)


def test_a_failed_opening_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "tmp"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    (tmp_path / "x.tar").write_bytes(tar_of({"c/g/a.pcap": pcap(1), "c/tcpwhy.toml": b"nonsense"}))
    with pytest.raises(EvidenceError):
        open_evidence(tmp_path / "x.tar")
    assert list(private.iterdir()) == []


@settings(max_examples=60, deadline=4000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["tar", "gz", "xz", "bz2", "zip"]),
    at=st.integers(0, 20000),
    patch=st.binary(max_size=40),
    cut=st.integers(0, 20000),
)
def test_damaged_archives_give_what_they_hold(tmp_path: Path, form: str, at: int, patch: bytes, cut: int) -> None:
    data = packed(form)
    at, cut = at % len(data), cut % len(data)
    damaged = (data[:at] + patch + data[at + len(patch) :])[: len(data) - cut // 4]
    (tmp_path / "sent.bin").write_bytes(damaged)
    try:
        with open_evidence(tmp_path / "sent.bin") as evidence:
            assert evidence.vantage_points
    except EvidenceError as error:
        assert "\n" not in str(error)  # noqa: PT017
