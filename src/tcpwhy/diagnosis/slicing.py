"""A connection goes in; a pcapng of its packets from every vantage point, with comments where a finding points, comes out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tcpwhy import _core
from tcpwhy.connections.connection import Segment
from tcpwhy.connections.packet import Packet
from tcpwhy.connections.selecting import HINT, numbers_of, parse_connection
from tcpwhy.diagnosis.diagnose import judge_connections
from tcpwhy.diagnosis.drawing import comment
from tcpwhy.diagnosis.scope import parse_time
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query

if TYPE_CHECKING:
    from tcpwhy.case import Case


def extract(case: Case, connection: str, path: Path) -> int:
    """Writes the packets in the order of the common clock, each with the time that its capture gave it; how many.

    The file is written beside its place and moved there whole.
    """
    assembly = case.assembly()
    _, _, moment = parse_connection(connection)
    moment_ns = parse_time(moment) if moment else None
    numbers = numbers_of(assembly.db, connection, moment_ns)
    if not numbers:
        raise EvidenceError(connection, "no packet of this connection is in the captures", HINT)
    comments = _comments(case, numbers)
    indexes = case.vantage_indexes()
    if path.exists() and any(path.samefile(capture) for index in indexes for capture in index.paths):
        raise EvidenceError(str(path), "is a capture of the case, expected another file to write")
    marks = ", ".join("?" for _ in numbers)
    wanted: dict[tuple[int, int, int], int] = {}
    rows = query(
        assembly.db,
        f"SELECT vantage, chains FROM flow JOIN member USING (id) WHERE connection IN ({marks}) ORDER BY id",
        numbers,
    )
    for vantage in sorted({row[0] for row in rows}):
        table, _ = assembly.packets(vantage, [chains for number, chains in rows if number == vantage], 1 << 40)
        at = {name: position for position, name in enumerate(table.columns)}
        for row in table.rows():
            time_ns = assembly.aligned_ns(assembly.names[vantage], row[at["time_ns"]])
            wanted[vantage, row[at["file"]], row[at["frame"]]] = time_ns
    order = sorted(wanted, key=lambda key: (wanted[key], key))
    sources = [(index.name, str(index.frames_path), [str(file) for file in index.paths]) for index in indexes]
    slice_ = [(vantage, file, frame, comments.get((assembly.names[vantage], file, frame))) for vantage, file, frame in order]
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as scratch:
        scratch_path = Path(scratch.name)
    try:
        _core.write_slice(str(scratch_path), sources, slice_)
        scratch_path.chmod(0o644)
        scratch_path.replace(path)
    except BaseException:
        scratch_path.unlink(missing_ok=True)
        raise
    return len(order)


def _comments(case: Case, numbers: list[int]) -> dict[tuple[str, int, int], str]:
    """By vantage point, file number and frame: what a finding says of the packet."""
    notes: dict[tuple[str, int, int], str] = {}
    for one in judge_connections(case, case.assembly(), numbers).judged:
        for cause, confidence, verdict in one.causes:
            for shown in verdict.exhibits:
                segment: Segment | None = shown.segment
                if segment is None or shown.frame is None:
                    continue
                packet = _packet_of(segment, shown.vantage_point)
                if packet is not None:
                    text = f"{cause} ({confidence}): {shown.note}"
                    notes.setdefault((packet.vantage_point, packet.file_number, packet.frame), comment(segment, one.connection, text))
    return notes


def _packet_of(segment: Segment, place: str) -> Packet | None:
    sighting = segment.sighting_at(place)
    return sighting.packet if sighting is not None else None
