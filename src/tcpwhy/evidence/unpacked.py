"""An archive's member or the folder it was unpacked to goes in; whether and whose evidence it is comes out."""

from __future__ import annotations

from pathlib import Path

from tcpwhy.evidence.compression import compression_of
from tcpwhy.evidence.kind import CAPTURE_NAME, SETTINGS_NAME, is_capture, text_kind
from tcpwhy.evidence.sosreport import SOS, is_sosreport_path, read_sosreport_host
from tcpwhy.evidence.state import State

STATE, STATE_BEFORE = "state", "state-before"


def descended(folder: Path) -> Path:
    """The folder that an archive holds, where it holds one and nothing else."""
    while True:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name in (STATE, STATE_BEFORE, SOS):
            return folder
        folder = entries[0]


def host_name(folder: Path) -> str | None:
    """The name that a sosreport or a collected state gives its host."""
    if (folder / STATE / "host.json").is_file():
        return State("", {"host.json": folder / STATE / "host.json"}, {"host.json": "host.json"}, []).host.name
    return read_sosreport_host(folder).name if (folder / SOS).is_dir() else None


def may_be_evidence(name: str, head: bytes) -> bool:
    """Whether a member of an archive is worth writing to the disk, by its name and first bytes."""
    parts = name.split("/")
    inner = "/".join(parts[1:])
    if STATE in parts[:-1] or STATE_BEFORE in parts[:-1] or parts[-1] in (SETTINGS_NAME, "hostname"):
        return True
    if is_sosreport_path(name) or is_sosreport_path(inner):
        return True
    if compression_of(head) is not None or head[:2] == b"PK" or head[257:262] == b"ustar":
        return True
    return is_capture(head) or CAPTURE_NAME.search(parts[-1]) is not None or text_kind(head, parts[-1]) in ("log", "table")
