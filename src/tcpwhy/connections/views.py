"""The packets of flows go in; what each place saw of their connection comes out, and which attempts came before and after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from tcpwhy.connections.connection import Connection, View
from tcpwhy.connections.packet import Endpoint, Packet, Side, Sighting

NAT_COPY_NS = 100_000_000
"""A packet that a host forwards with other addresses leaves it within this time of entering it."""


@dataclasses.dataclass(slots=True)
class FlowPackets:
    """One row of the flow table with its packets."""

    id: int
    vantage: int
    flow: int
    client: Endpoint
    server: Endpoint
    unseen_acked_bytes: int
    chains: list[int]
    frames: int
    """Records, copies among them."""
    held_up: bool
    """By its columns, or those of the same connection elsewhere."""
    packets: list[tuple[Packet, int | None]] = dataclasses.field(default_factory=list)
    left_out: int = 0


def view_of(place: str, flows: Sequence[FlowPackets], aligned_ns: Callable[[str, int], int], window: tuple[int, int] | None) -> View:
    """What a place saw of one connection, by all its flows there.

    `aligned_ns`: a place and a time of its clock to the common clock; `window`: when its capture began and ended, aligned.
    """
    sightings: list[Sighting] = []
    for flow in flows:
        by_row: dict[int, Sighting] = {}
        for row, (packet, copy_of) in enumerate(flow.packets):
            if packet.kind != "segment":
                continue
            sender: Side = "client" if packet.source == flow.client else "server"
            if copy_of is not None and copy_of in by_row:
                by_row[copy_of].copies.append(packet)
                by_row[row] = by_row[copy_of]
                continue
            by_row[row] = Sighting(packet, [packet], sender, aligned_ns(place, packet.time_ns))
            sightings.append(by_row[row])
    sightings.sort(key=lambda sighting: (sighting.time_ns, sighting.packet.file_number, sighting.packet.frame))
    if len(flows) > 1:
        sightings = _fold_translated(sightings)
    # Where a host translates addresses, the client's side of it is where the client's packets are met first.
    first = next((sighting for sighting in sightings if sighting.sender == "client"), None)
    outer = next((flow for flow in flows if first is not None and first.packet.source == flow.client), flows[0])
    if first is not None and len(flows) > 1:
        outer = _as_the_client_knows_it(flows, sightings, first.packet)
    times = [packet.time_ns for flow in flows for packet, _ in flow.packets]
    last_ns = max(times, default=0)
    return View(
        place=place,
        client=outer.client,
        server=outer.server,
        sightings=sightings,
        first_ns=min(times, default=0),
        last_ns=last_ns,
        capture_last_ns=window[1] if window else aligned_ns(place, last_ns),
        unseen_acked_bytes=sum(flow.unseen_acked_bytes for flow in flows),
        left_out=max(flow.left_out for flow in flows),
        translated=tuple(
            dict.fromkeys(
                (flow.client, flow.server) for flow in flows if flow.packets and (flow.client, flow.server) != (outer.client, outer.server)
            )
        ),
    )


def relate(built: Iterable[Connection]) -> None:
    """Tells each connection which attempts with its addresses came before and after it."""
    groups: dict[Hashable, list[Connection]] = {}
    for connection in built:
        for place, view in connection.views.items():
            for client, server in dict.fromkeys(((view.client, view.server), *view.translated)):
                groups.setdefault((place, client, server), []).append(connection)
    for (place, _, _), group in groups.items():  # type: ignore[misc]
        group.sort(key=lambda connection: connection.views[place].first_ns)
        for number, connection in enumerate(group):
            for others, ordered in ((connection.earlier, reversed(group[:number])), (connection.later, group[number + 1 :])):
                # Connections that several places saw meet in several groups.
                known = {id(other) for other in others}
                others.extend(other for other in ordered if id(other) not in known)


def _as_the_client_knows_it(flows: Sequence[FlowPackets], sightings: Sequence[Sighting], first: Packet) -> FlowPackets:
    """Of the flows that one host translates into each other, the one with the addresses that the client uses.

    It is the one in which the client's packets are met first; but where a host turns its own packets to itself before any capture sees
    them, it is the one from which the answers come: those are turned back before.
    """
    outer = next((flow for flow in flows if first.source == flow.client and first.destination == flow.server), flows[0])
    answers = {copy.source for sighting in sightings if sighting.sender == "server" for copy in sighting.copies}
    asked = [flow for flow in flows if flow.client == outer.client and flow.server in answers]
    return asked[0] if asked and outer.server not in answers else outer


def _fold_translated(sightings: list[Sighting]) -> list[Sighting]:
    """Folds what a host forwarded with other addresses into the packet that came in: copies of one packet at one place."""
    kept: list[Sighting] = []
    latest: dict[Any, Sighting] = {}
    for sighting in sightings:
        packet = sighting.packet
        key = (sighting.sender, packet.flags, packet.seq, packet.ack, packet.length, packet.ts_value, packet.ip_id)
        twin = latest.get(key)
        if (
            twin is not None
            and twin.packet.flow != packet.flow
            and sighting.time_ns - twin.time_ns <= NAT_COPY_NS
            and all(copy.flow != packet.flow for copy in twin.copies)
        ):
            twin.copies.extend(sighting.copies)
            continue
        latest[key] = sighting
        kept.append(sighting)
    return kept
