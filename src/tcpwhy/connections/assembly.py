"""Numbers of connections go in; the connections themselves, their packets fetched and matched across vantage points, come out."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import duckdb

from tcpwhy import _core
from tcpwhy.connections.clocks import ClockFit, Link, align_clocks, handshake_links, packet_links, timestamp_link
from tcpwhy.connections.connection import FRAMES_PER_FLOW, SIDES, Connection, IcmpError, View
from tcpwhy.connections.kinds import SLOW_NS
from tcpwhy.connections.link_loss import LinkLoss, measure_links
from tcpwhy.connections.packet import Endpoint, Side, packets_from_rows
from tcpwhy.connections.segments import match_segments
from tcpwhy.connections.topology import Passages, Topology, learn, learn_passages, passed_through, server_ttls
from tcpwhy.connections.triage import want
from tcpwhy.connections.views import FlowPackets, relate, view_of
from tcpwhy.evidence import EvidenceError
from tcpwhy.tables.flows import query, seq_distance_sql
from tcpwhy.tables.index import VantageIndex
from tcpwhy.tables.listings import Lines

SAMPLES_FOR_CLOCKS = 6
"""Healthy connections read to relate two clocks where no handshake was seen at both places."""

FRAMES_OF_STALLED_FLOW = 16_000
"""A flow that was held up is read whole up to so many frames: the stall may lie in its middle …"""

FRAMES_OF_STALLED_FLOWS = 48_000
"""… as long as all of these together have no more: matching the packets of two places takes its time."""

BATCH = 2_000
"""Flows fetched by one call."""


class Assembly:
    """Builds connections from the joined flows of a case."""

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        indexes: Sequence[VantageIndex],
        *,
        file_names: Mapping[str, Sequence[str]],
        clock_offsets_s: Mapping[str, float],
        addresses: Mapping[str, frozenset[str]],
        lines: Mapping[Path, Lines] | None = None,
    ) -> None:
        """`file_names`: by vantage point, its captures' names as the case's user knows them; `addresses`: hosts' own, where known.

        `lines`: of captures that were made of listings, what each frame lacks.
        """
        self._lines = lines or {}
        self.db = db
        self.indexes = list(indexes)
        self.names = [index.name for index in indexes]
        self.file_names = file_names
        self._clock_offsets_s = clock_offsets_s
        self._addresses = addresses
        self._frames: dict[int, _core.Frames] = {}
        self.links: list[Link] = handshake_links(db)
        self.clocks: dict[str, ClockFit] = {}
        self._learned = learn(db, self.names)
        self._basis = dict(query(db, "SELECT x, min(basis) FROM pair GROUP BY x"))
        self._server_ttls = server_ttls(db, self.names)
        self._seen_twice, self._tunnelled = passed_through(db, self.names)
        self._sees_syns: dict[str, frozenset[Side]] = {
            self.names[vantage]: frozenset(side for side, count in zip(SIDES, counts, strict=True) if count)
            for vantage, *counts in query(db, "SELECT vantage, sum(client_syns), sum(server_syn_acks) FROM flow GROUP BY 1")
        }
        self._passages = self._learn_passages()
        self.topology = self._topology()

    def connections(self, numbers: Sequence[int], slow_ns: int = SLOW_NS) -> dict[int, Connection]:
        """The connections by number. Clocks are aligned on the way, with what their packets add to the handshakes.

        `slow_ns`: of long flows that were held up for so long the middle is read too.
        """
        flows = self._fetch(numbers, slow_ns)
        members: dict[int, list[FlowPackets]] = {}
        for number, flow in flows:
            members.setdefault(number, []).append(flow)
        self._align(members)
        self._passages = self._learn_passages()
        self.topology = self._topology()
        built = {number: self._build(number, own) for number, own in sorted(members.items())}
        relate(built.values())
        return built

    @functools.cached_property
    def measured_links(self) -> list[LinkLoss]:
        """What is lost between neighbouring vantage points, by columns alone; clocks are aligned on the way."""
        if not self.clocks:
            self.connections(())
        return measure_links(self.db, self.topology)

    def _fetch(self, numbers: Sequence[int], slow_ns: int = SLOW_NS) -> list[tuple[int, FlowPackets]]:
        want(self.db, numbers)
        rows = query(
            self.db,
            """
            SELECT connection, id, vantage, flow, client_ip, client_port, server_ip, server_port,
                client_unseen_acked_bytes + server_unseen_acked_bytes, chains, client_packets + server_packets + copies,
                bool_or(greatest(client_stalled_ns, server_stalled_ns, client_closed_window_ns, server_closed_window_ns) >= ?)
                    OVER (PARTITION BY connection)
            FROM flow JOIN member USING (id) JOIN wanted USING (connection) ORDER BY connection, id
            """,
            (slow_ns,),
        )
        flows = [
            (connection, FlowPackets(id_, vantage, flow, Endpoint(cip, cport), Endpoint(sip, sport), unseen, chains, frames, held_up))
            for connection, id_, vantage, flow, cip, cport, sip, sport, unseen, chains, frames, held_up in rows
        ]
        deep = self._read_whole([flow for _, flow in flows])
        for vantage in range(len(self.indexes)):
            for limit, whole in ((FRAMES_PER_FLOW, False), (FRAMES_OF_STALLED_FLOW, True)):
                own = [flow for _, flow in flows if flow.vantage == vantage and (flow.id in deep) == whole]
                for start in range(0, len(own), BATCH):
                    self._read(vantage, own[start : start + BATCH], limit)
        return flows

    def _read_whole(self, flows: Sequence[FlowPackets]) -> frozenset[int]:
        """Long flows that were held up: their middle is read too, as far as memory lasts."""
        room = FRAMES_OF_STALLED_FLOWS
        whole = set()
        for flow in flows:
            if flow.held_up and FRAMES_PER_FLOW < flow.frames <= min(FRAMES_OF_STALLED_FLOW, room):
                whole.add(flow.id)
                room -= flow.frames
        return frozenset(whole)

    def frames(self, vantage: int) -> _core.Frames:
        """The frame reader of a vantage point."""
        if vantage not in self._frames:
            index = self.indexes[vantage]
            self._frames[vantage] = _core.Frames(str(index.frames_path), [str(path) for path in index.paths])
        return self._frames[vantage]

    def packets(self, vantage: int, chains: Sequence[Sequence[int]], limit: int) -> tuple[_core.Table, int]:
        """The core's packet table of some flows, and how many packets were left out of flows with more than `limit`.

        Raises EvidenceError where a capture was changed, cut or removed since it was indexed.
        """
        try:
            return self.frames(vantage).packets(chains, limit)
        except (OSError, ValueError) as error:
            name = self.indexes[vantage].name
            raise EvidenceError(name, f"its captures cannot be read again ({error})", "were they changed meanwhile? run it again") from None

    def _read(self, vantage: int, flows: list[FlowPackets], limit: int) -> None:
        index = self.indexes[vantage]
        table, left_out = self.packets(vantage, [flow.chains for flow in flows], limit)
        interfaces = [
            [
                interface.name or (f"interface {number}" if len(file.interfaces) > 1 else "")
                for number, interface in enumerate(file.interfaces)
            ]
            for file in index.files
        ]
        found = packets_from_rows(
            table.columns,
            table.rows(),
            index.name,
            list(self.file_names[index.name]),
            interfaces,
            list(range(len(flows))),
            [self._lines.get(path) for path in index.paths],
        )
        # `copy_of` counts rows of the whole table: it is turned into the place in the flow's own list.
        places: list[int] = []
        for packet, copy_of in found:
            own = flows[packet.flow]
            places.append(len(own.packets))
            own.packets.append((packet, None if copy_of is None else places[copy_of]))
        # The core tells how many it left out of all these flows: of each long one, what lies between its first and last packets.
        for flow in flows if left_out else ():
            flow.left_out = max(0, flow.frames - 2 * (limit // 2))

    def _align(self, members: Mapping[int, list[FlowPackets]]) -> None:
        """Adds what the fetched packets say of the clocks, and reads a few healthy connections where handshakes say nothing."""
        known = {(min(link.x, link.y), max(link.x, link.y)) for link in self.links}
        links = list(self.links)
        groups = list(members.values())
        missing = [
            (x, y)
            for x, y in query(
                self.db,
                """SELECT DISTINCT fx.vantage, fy.vantage FROM pair JOIN flow fx ON fx.id = pair.x JOIN flow fy ON fy.id = pair.y
                   WHERE fx.vantage < fy.vantage ORDER BY 1, 2""",
            )
            if (x, y) not in known
        ]
        for x, y in missing:
            sample = query(
                self.db,
                """SELECT DISTINCT m.connection FROM pair JOIN flow fx ON fx.id = pair.x JOIN flow fy ON fy.id = pair.y
                   JOIN member m ON m.id = fx.id
                   WHERE fx.vantage = ? AND fy.vantage = ? AND fx.client_packets > 1 AND fx.server_packets > 1
                   ORDER BY 1 LIMIT ?""",
                (x, y, SAMPLES_FOR_CLOCKS),
            )
            extra: dict[int, list[FlowPackets]] = {}
            for number, flow in self._fetch([row[0] for row in sample if row[0] not in members]):
                extra.setdefault(number, []).append(flow)
            groups.extend(extra.values())
        for group in groups:
            links.extend(link for link in self._links_of(group) if (link.x, link.y) not in known)
        self.clocks = align_clocks(links, self.names, self._clock_offsets_s)

    def _links_of(self, flows: Sequence[FlowPackets]) -> list[Link]:
        seen: dict[int, dict[Hashable, tuple[str, int]]] = {}
        stamps: dict[int, list[tuple[int, int]]] = {}
        all_ids = all(packet.ip_id is not None for flow in flows for packet, _ in flow.packets)
        for flow in flows:
            once: dict[Hashable, tuple[str, int]] = {}
            twice: set[Hashable] = set()
            for packet, copy_of in flow.packets:
                if packet.kind != "segment" or copy_of is not None:
                    continue
                sender = "client" if packet.source == flow.client else "server"
                if packet.is_inferred:
                    continue
                key = (
                    sender,
                    packet.flags,
                    packet.seq,
                    packet.ack,
                    packet.length,
                    packet.ts_value,
                    packet.ts_echo,
                    packet.ip_id if all_ids else 0,
                )
                if key in once:
                    twice.add(key)
                once[key] = (sender, packet.time_ns)
                if sender == "client" and packet.ts_value is not None:
                    stamps.setdefault(flow.vantage, []).append((packet.time_ns, packet.ts_value))
            seen.setdefault(flow.vantage, {}).update({key: value for key, value in once.items() if key not in twice})
        links = packet_links(seen)
        related = {(link.x, link.y) for link in links}
        places = sorted(stamps)
        for number, x in enumerate(places):
            for y in places[number + 1 :]:
                if (x, y) not in related:
                    link = timestamp_link(x, y, stamps[x], stamps[y])
                    if link is not None:
                        links.append(link)
        return links

    def aligned_ns(self, place: str, time_ns: int) -> int:
        """A time of a place's clock on the common clock; unchanged where the place's clock could not be aligned."""
        fit = self.clocks.get(place)
        return time_ns - fit.offset_ns(time_ns) if fit else time_ns

    @property
    def offsets_ns(self) -> dict[str, int]:
        """By vantage point with an aligned clock: how far it was ahead of the common one, on average."""
        return {name: fit.mean_offset_ns for name, fit in self.clocks.items()}

    def _learn_passages(self) -> Passages:
        windows = {index.name: self._window(index) for index in self.indexes}
        return learn_passages(self.db, self.names, windows, self.offsets_ns)

    def _windows(self, index: VantageIndex) -> dict[str, tuple[int, int]]:
        """When each file of a capture began and ended, aligned."""
        return {
            name: (self.aligned_ns(index.name, file.begin_ns), self.aligned_ns(index.name, file.end_ns))
            for file, name in zip(index.files, self.file_names[index.name], strict=True)
            if file.begin_ns is not None and file.end_ns is not None
        }

    def _window(self, index: VantageIndex) -> tuple[int, int] | None:
        """When a capture began and ended, aligned."""
        first, last = index.first_ns, index.last_ns
        if first is None or last is None:
            return None
        return self.aligned_ns(index.name, first), self.aligned_ns(index.name, last)

    def _topology(self) -> Topology:
        by_server, by_ip, before = self._learned
        running: dict[str, tuple[int, int] | None] = {}
        lossy: dict[str, str] = {}
        unseen = dict(
            query(
                self.db,
                f"""SELECT vantage, sum(client_unseen_acked_bytes + server_unseen_acked_bytes + {_holes("client", "server")}
                                    + {_holes("server", "client")})::BIGINT
                    FROM flow WHERE client_packets > 0 AND server_packets > 0 GROUP BY 1""",
            )
        )
        claims: dict[str, set[str]] = {}
        for number, index in enumerate(self.indexes):
            running[index.name] = self._window(index)
            if index.dropped:
                lossy[index.name] = f"the capture says that it dropped {index.dropped} packets"
            elif unseen.get(number):
                lossy[index.name] = f"{unseen[number]} bytes were acknowledged that the capture never saw"
            for claim in index.arp:
                if claim.ip != "0.0.0.0":
                    claims.setdefault(claim.ip, set()).add(claim.mac)
        return Topology(
            names=tuple(self.names),
            running=running,
            windows={index.name: self._windows(index) for index in self.indexes},
            sees_syns=self._sees_syns,
            aligned={name: name in self.clocks or len(self.names) == 1 for name in self.names},
            lossy=lossy,
            addresses=self._addresses,
            arp_claims={ip: frozenset(macs) for ip, macs in claims.items()},
            server_ttls=self._server_ttls,
            seen_twice=self._seen_twice,
            tunnelled=self._tunnelled,
            passages=self._passages[0],
            group_passages=self._passages[1],
            by_server=by_server,
            by_server_ip=by_ip,
            before=before,
        )

    def _build(self, number: int, flows: list[FlowPackets]) -> Connection:
        by_place: dict[str, list[FlowPackets]] = {}
        for flow in flows:
            by_place.setdefault(self.names[flow.vantage], []).append(flow)
        views = {place: view_of(place, own, self.aligned_ns, self.topology.running.get(place)) for place, own in by_place.items()}
        # Nearest to the client first: by what most connections showed, else by this one's own hops.
        rank = {
            place: (
                sum(self.topology.is_before(other, place) for other in views),
                _own_hops(view),
                self.names.index(place),
            )
            for place, view in views.items()
        }
        places = tuple(sorted(views, key=lambda place: rank[place]))
        views = {place: views[place] for place in places}
        nearest = views[places[0]]
        aligned = {place for place in places if place in self.clocks}
        basis = sorted({self._basis[flow.id] for flow in flows if flow.id in self._basis})
        connection = Connection(
            number=number,
            client=nearest.client,
            server=nearest.server,
            places=places,
            views=views,
            segments=match_segments(views, places, aligned),
            icmp=[
                IcmpError(packet, self.aligned_ns(self.names[flow.vantage], packet.time_ns))
                for flow in flows
                for packet, _ in flow.packets
                if packet.kind == "icmp"
            ],
            topology=self.topology,
            join_basis=", ".join(basis) if len(places) > 1 else "",
        )
        connection.icmp.sort(key=lambda error: error.aligned_ns)
        return connection


def _holes(side: Side, other: Side) -> str:
    """SQL for the bytes that a flow's capture lacks for sure: fewer were seen since the SYN than were acknowledged, one for a FIN."""
    acknowledged = seq_distance_sql(f"({side}_isn::BIGINT + 1)", f"{other}_ack_end")
    return f"coalesce(greatest(0, {acknowledged} - {side}_bytes::BIGINT - {side}_unseen_acked_bytes::BIGINT - 1), 0)"


def _own_hops(view: View) -> int:
    client, server = view.hops
    return (client or 0) - (server or 0)
