"""Runs of the collecting script, in a world whose programs can be replaced."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tcpwhy.record.collect import script


def world(folder: Path, programs: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment with a temporary folder of its own, and `programs` (name, text of a shell script) before all others."""
    for name in ("tmp", "bin", "home"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    for name, text in (programs or {}).items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return {**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home"), "PATH": f"{folder}/bin:{os.environ['PATH']}"}


def run_script(
    environment: Mapping[str, str], *words: str, shell: Sequence[str] = ("/bin/sh",), changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The script on a shell's standard input, as `ssh HOST sh -s` gets it; `changes` of its text must all be found in it."""
    text = script().decode()
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    return subprocess.run([*shell, "-s", "--", *words], input=text.encode(), capture_output=True, env=environment, timeout=60, check=False)


def files_of(archive: bytes) -> dict[str, bytes]:
    """The files of an archive by their names in state/, which must all stand in one top folder."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        members = opened.getmembers()
        tops = {member.name.split("/")[0] for member in members}
        assert len(tops) == 1
        for member in members:
            content = opened.extractfile(member)
            if content is not None:
                _, state, name = member.name.split("/")
                assert (state, member.mode) == ("state", 0o600)
                found[name] = content.read()
    return found


def host_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    about = json.loads(files["host.json"])
    assert isinstance(about, dict)
    return about
