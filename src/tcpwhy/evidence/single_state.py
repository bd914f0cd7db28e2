"""A state folder, a vantage point, a case or an archive goes in; the one host's snapshot that is meant comes out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tcpwhy.evidence.case import open_evidence
from tcpwhy.evidence.error import EvidenceError
from tcpwhy.evidence.state import STATE_FILES, State


@contextlib.contextmanager
def open_state(path: str | Path, vantage: str | None = None, *, before: bool = False) -> Iterator[State]:
    """The snapshot of one host; what an archive was unpacked to goes away with the context.

    `vantage` picks one of several vantage points, `before` the earlier of two snapshots. Raises EvidenceError where there is none, or
    where several could be meant.
    """
    folder = Path(path)
    if folder.is_dir() and any((folder / name).is_file() for name in STATE_FILES):
        yield _of_folder(folder)
        return
    with open_evidence([path]) as evidence:
        found = {
            point.name: state
            for point in evidence.vantage_points
            for state in [point.state_before if before else point.state]
            if state is not None
        }
        if vantage is not None and vantage not in found:
            raise EvidenceError("--vantage", f"read `{vantage}`, expected one of {', '.join(sorted(found)) or 'none: there is no state'}")
        if not found:
            name = "state-before/" if before else "state/"
            raise EvidenceError(str(path), f"holds no {name} folder, expected a host's state", "`tcpwhy collect` takes it")
        if vantage is None and len(found) > 1:
            raise EvidenceError(str(path), f"holds the state of {', '.join(sorted(found))}, expected one", "`--vantage NAME` picks one")
        yield found[vantage if vantage is not None else next(iter(found))]


def _of_folder(folder: Path) -> State:
    files = {name: folder / name for name in STATE_FILES if (folder / name).is_file()}
    name = folder.resolve().parent.name if folder.name in ("state", "state-before", ".") else folder.name
    special = [name for name in STATE_FILES if name not in files and os.path.lexists(folder / name)]
    notes = [f"{(folder / one).as_posix()} is no regular file; passed over" for one in special]
    state = State(name or "host", files, {file: (folder / file).as_posix() for file in files}, notes)
    state.has_losses = state.has_losses or bool(special)
    return state
