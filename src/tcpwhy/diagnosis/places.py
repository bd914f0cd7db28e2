"""A case goes in; what is to be said of each vantage point comes out: its files, its clock, and the limits of its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpwhy.connections.assembly import Assembly
from tcpwhy.diagnosis.finding import Clock, VantagePointReport
from tcpwhy.diagnosis.telling import iso
from tcpwhy.evidence import plain_text
from tcpwhy.tables.flows import query
from tcpwhy.tables.index import FileSummary, VantageIndex

if TYPE_CHECKING:
    from tcpwhy.case import Case
    from tcpwhy.evidence import VantagePoint
    from tcpwhy.tables.host import HostTables


def report_places(case: Case, assembly: Assembly | None) -> tuple[list[VantagePointReport], list[str], bool]:
    """The vantage points, notes on the case as a whole, and whether part of the input could not be read."""
    indexes = {index.name: index for index in case.vantage_indexes()}
    notes = [*case.evidence.notes, *case.evidence.losses]
    incomplete = bool(case.evidence.losses)
    places = []
    for point in case.evidence.vantage_points:
        index = indexes.get(point.name)
        tables = case.hosts().get(point.name)
        unread = _unread(tables) if tables is not None else []  # before the notes are taken, for reading may add some
        said = [*point.notes, *unread]
        incomplete = incomplete or bool(unread) or any(one is not None and one.has_losses for one in (point.state, point.state_before))
        if index is not None and assembly is not None:
            more, damaged = _notes(case, index, assembly)
            said += more
            incomplete = incomplete or damaged
        places.append(_place(case, point, index, assembly, said))
    return places, notes, incomplete


def _place(case: Case, point: VantagePoint, index: VantageIndex | None, assembly: Assembly | None, notes: list[str]) -> VantagePointReport:
    fit = assembly.clocks.get(point.name) if assembly is not None else None
    clock = None
    if fit is not None:
        clock = Clock(fit.mean_offset_ns / 1e9, fit.uncertainty_ns / 1e9, fit.relative_to)
    files = [*(case.files_of(index) if index is not None else []), *(plain_text(case.evidence.shown(path)) for path in point.logs)]
    first, last = (index.first_ns, index.last_ns) if index is not None else (None, None)
    return VantagePointReport(
        name=point.name,
        files=tuple(files),
        packets=index.packets if index is not None else 0,
        first=None if first is None else iso(first),
        last=None if last is None else iso(last),
        clock=clock,
        notes=tuple(notes),
    )


def _notes(case: Case, index: VantageIndex, assembly: Assembly) -> tuple[list[str], bool]:
    """What must be known of a vantage point's captures, and whether something in them could not be read."""
    notes: list[str] = []
    damaged = False
    for file, name, file_path in zip(index.files, case.files_of(index), index.paths, strict=True):
        if file.error is not None:
            notes.append(f"{name}: {file.error}")
            damaged = True
        for loss in file.losses:
            notes.append(f"{name}: offset {loss.offset}: {loss.what}")
            damaged = damaged or not loss.cut_off
        if file.losses_more:
            notes.append(f"{name}: {file.losses_more} more such losses")
        if case.listed is None or file_path not in case.listed.lines:  # a listing says itself what it does not show
            notes += [f"{name}: {note}" for note in _file_notes(file)]
    if index.dropped and not (case.listed is not None and all(path in case.listed.lines for path in index.paths)):
        notes.append(f"the captures say that they dropped {index.dropped} packets: what is absent here may have been there")
    number = assembly.names.index(index.name)
    copies, unseen, middle = query(
        assembly.db,
        """SELECT coalesce(sum(copies), 0)::BIGINT,
                  coalesce(sum(client_unseen_acked_bytes + server_unseen_acked_bytes), 0)::BIGINT,
                  count(*) FILTER (WHERE client_syns = 0 AND server_syn_acks = 0)
           FROM flow WHERE vantage = ?""",
        (number,),
    )[0]
    if copies:
        notes.append(f"{copies} records are copies of packets seen at another interface or layer: they are no retransmissions")
    if unseen:
        notes.append(f"{unseen} bytes were acknowledged that the capture never saw: it lost them, the network did not")
    if middle:
        notes.append(f"{middle} connections were open before the capture began")
    if len(case.vantage_indexes()) > 1 and index.name not in assembly.clocks:
        notes.append("its clock could not be related to the others: it shares no packets with them")
    return notes, damaged


def _unread(tables: HostTables) -> list[str]:
    """One line for each state file that holds what no reader understands."""
    return [found.note for snapshot in (tables, tables.before) for found in (snapshot.unread_files() if snapshot is not None else ())]


def _file_notes(file: FileSummary) -> list[str]:
    notes = []
    if file.longer_than_mtu:
        notes.append(f"{file.longer_than_mtu} frames are longer than any MTU: offload merged them, nothing was fragmented")
    if file.cut_by_snap_length:
        notes.append(f"{file.cut_by_snap_length} of {file.packets} packets were cut by the snap length")
    if file.malformed:
        notes.append(f"{file.malformed} packets have headers cut short or broken")
    return notes
