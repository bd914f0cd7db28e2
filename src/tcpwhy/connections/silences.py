"""A failed connection goes in; the silence after which nothing got through any more comes out, and the longest that others survived."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence

import duckdb

from tcpwhy.connections.connection import Connection, Segment
from tcpwhy.connections.kinds import SECOND_NS, Kind
from tcpwhy.connections.packet import Side, other_side, seq_before
from tcpwhy.connections.progress import heard_at_home, progress_of
from tcpwhy.tables.flows import query

LEAST_SILENCE_NS = 3 * SECOND_NS // 2
"""Pauses within an exchange are shorter; timeouts of devices are set in whole seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Silence:
    """A time in which neither end said anything, and after which one spoke in vain."""

    first: Segment
    """What was sent first after it: data or a probe of the speaker; the RST itself where it came without occasion."""
    before: Segment
    """The last packet before it."""
    speaker: Side
    """The end that spoke in vain."""
    unanswered: tuple[Segment, ...]
    """All that the speaker sent from then on, RSTs left out."""

    @property
    def length_ns(self) -> int:
        """How long it lasted."""
        return self.first.aligned_ns - self.before.aligned_ns


@functools.lru_cache(maxsize=4096)
def fatal_silence(connection: Connection) -> Silence | None:
    """The silence behind which the connection failed: what ended it drew a RST, or nothing at all. None where there was none.

    Measured as the speaker itself met the connection. A repetition's waiting is no silence, nor are the gaps between probes.
    """
    failure = connection.failure
    if failure is None or failure.kind not in (Kind.RESET, Kind.SILENT, Kind.GAVE_UP):
        return None
    reset = connection.resets[0] if failure.kind is Kind.RESET and connection.resets else None
    speaker: Side = failure.segments[0].sender if failure.kind is Kind.SILENT else "client"
    speaker = other_side(reset.sender) if reset is not None else speaker
    said = _until(heard_at_home(connection, speaker), reset)
    acknowledged = progress_of(said)[speaker].acked
    found: list[Silence] = []
    for number, (previous, one) in enumerate(itertools.pairwise(said), 1):
        probes = not one.length and one in failure.segments and not (previous.seq == one.seq and previous.sender == one.sender)
        unheard = one.length and (acknowledged is None or not seq_before(one.seq, acknowledged))
        if one.sender == speaker and one.retransmits is None and (probes or unheard):
            unanswered = tuple(later for later in said[number:] if later.sender == speaker)
            found.append(Silence(one, previous, speaker, unanswered))
    waiting = said and said[-1].retransmits is None and (said[-1].sender != speaker or not said[-1].length)
    if reset is not None and waiting:
        found.append(Silence(reset, said[-1], speaker, ()))
    longest = max(found, key=lambda silence: silence.length_ns, default=None)
    return longest if longest is not None and longest.length_ns >= LEAST_SILENCE_NS else None


def _until(segments: Sequence[Segment], reset: Segment | None) -> list[Segment]:
    """What came before the RST, RSTs left out."""
    before = []
    for one in segments:
        if one is reset:
            break
        if not one.is_reset and (reset is None or one.aligned_ns <= reset.aligned_ns):
            before.append(one)
    return before


class Survived:
    """The longest silences that connections lived through, by a column of all flows."""

    def __init__(self, db: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
        """`names`: the vantage points by their numbers."""
        self._db = db
        self._number = {name: number for number, name in enumerate(names)}
        self._known: Mapping[tuple[object, ...], int] = {}

    def on_way_of(self, connection: Connection) -> int:
        """The longest silence after which both ends went on, of connections to the same service on the same way; 0 where none is known.

        The same way: seen at the first and at the last place that saw this one; and where nobody captured at the client, of the same one.
        """
        first, last = connection.places[0], connection.places[-1]
        view = connection.views[first]
        client = "" if connection.is_client_host(first) else view.client.ip
        key = first, last, view.server, client
        if key not in self._known:
            sql = """
                SELECT coalesce(max(silence_survived_ns), 0) FROM flow JOIN member USING (id)
                WHERE vantage = $1 AND server_ip = $2 AND server_port = $3 AND ($4 = '' OR client_ip = $4)
                    AND connection IN (SELECT connection FROM flow JOIN member USING (id) WHERE vantage = $5)
            """
            words = [self._number[first], view.server.ip, view.server.port, client, self._number[last]]
            self._known = {**self._known, key: int(query(self._db, sql, words)[0][0])}
        return self._known[key]


class Deaths:
    """How long connections had been silent before they failed, by service and way: very many may fail at once, and each asks for it."""

    def __init__(self, failed: Iterable[Connection]) -> None:
        """`failed`: all connections of the case that did; those that were never established do not count."""
        self._lengths: dict[tuple[object, ...], list[int]] = {}
        for connection in failed:
            failure = connection.failure
            if failure is not None and not failure.kind.in_handshake:
                silence = fatal_silence(connection)
                length_ns = silence.length_ns if silence is not None else 0
                for key in (_way(connection), (*_way(connection), failure.kind)):
                    bisect.insort(self._lengths.setdefault(key, []), length_ns)

    def behind_longer(self, connection: Connection, survived_ns: int) -> Sequence[int]:
        """The lengths, rising, of the silences on this connection's way that were longer than the longest that was survived."""
        lengths = self._lengths.get(_way(connection), [])
        return lengths[bisect.bisect_right(lengths, survived_ns) :]

    def likewise(self, connection: Connection, survived_ns: int) -> int:
        """How many on this connection's way failed as it did, and had not been silent for longer than others survived."""
        failure = connection.failure
        return 0 if failure is None else bisect.bisect_right(self._lengths.get((*_way(connection), failure.kind), []), survived_ns)


def _way(connection: Connection) -> tuple[object, ...]:
    return connection.places, connection.views[connection.places[0]].server
