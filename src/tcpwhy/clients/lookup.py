"""Translations of balancers, NAT hosts and logs go in; those that fit a connection at the moment they speak for come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from tcpwhy.clients.row import Translation
from tcpwhy.clients.story import SLACK_NS, End, Life

STILL_OPEN_NS = 300_000_000_000
"""So long before or after the packets a table may have been read and still be held to speak of the connection: a balancer keeps a
port of its own for at least 90 s of idleness (DPVS, LVS full NAT) and takes its ports in turn."""

LINGERS_NS = 120_000_000_000
"""So long a closed connection stays in the tables: conntrack's time_wait (net/netfilter/nf_conntrack_proto_tcp.c), IPVS's fin_wait."""

WHOLE_SECOND_NS = 1_000_000_000
"""host.json tells the second in which it was begun to read the tables; they were read after it."""

CLOSING_SLACK_NS = 2_000_000_000
"""So long before the last packet a table may call the connection closing: its two sides end within a round trip."""

MOST_FITTING = 16
"""Different clients that tables name for one connection: two of them already make no answer."""

GOOD, UNDATED, DOUBTFUL = 2, 1, 0
"""How well an entry fits: it was open at the moment of the table; when the table was read is not known, but the connection was open all
the while the capture ran, or at its end where the table is connection tracking, which keeps the port that the client chose; or the entry
may be of another connection with the same ports."""


def fit(translation: Translation, life: Life, taken_ns: int | None) -> int | None:
    """GOOD, UNDATED, DOUBTFUL, or None where the entry speaks of another connection: a table speaks for its moment, and ports are reused.

    taken_ns: the table's moment on the common clock; None where it is not known.
    """
    if taken_ns is None:
        if life.closed_ns is not None or life.followed_ns is not None or not translation.is_open:
            return DOUBTFUL
        if translation.basis == "log":
            return GOOD
        return UNDATED if life.opened_ns is None or translation.basis == "conntrack" else DOUBTFUL
    if life.followed_ns is not None and taken_ns >= life.followed_ns:
        return None
    if life.opened_ns is not None and taken_ns < life.opened_ns - WHOLE_SECOND_NS:
        return DOUBTFUL if taken_ns >= life.opened_ns - SLACK_NS else None
    if not translation.is_open:
        if life.closed_ns is None:
            return DOUBTFUL if taken_ns > life.last_ns else None
        return GOOD if -CLOSING_SLACK_NS <= taken_ns - life.closed_ns <= LINGERS_NS else None
    if life.closed_ns is not None and taken_ns > life.closed_ns:
        return DOUBTFUL if taken_ns <= life.closed_ns + SLACK_NS else None
    if life.first_ns - STILL_OPEN_NS <= taken_ns <= life.last_ns + STILL_OPEN_NS:
        return GOOD
    return DOUBTFUL


def server_before(translation: Translation) -> End | None:
    """The server that the client called; None where the source does not tell it (a listener on any address)."""
    before = translation.before
    return None if before.server_ip in ("0.0.0.0", "::", "") else (before.server_ip, before.server_port)


class TranslationTable:
    """All translations of a case, found by the client's end that they put in place of another."""

    def __init__(self, translations: Iterable[Translation], align: Callable[[str, int], int]) -> None:
        """`align(vantage point, time)`: a host's moment on the common clock."""
        self._align = align
        self._by_client: dict[tuple[str, int], list[Translation]] = {}
        self._unchanged: dict[tuple[str, int], list[Translation]] = {}
        self.balancing: set[str] = set()
        """Addresses that balancers' tables give to connections."""
        self.natting: set[str] = set()
        """Addresses that connection tracking of NAT hosts gives to connections."""
        self.given: dict[str, str] = {}
        """By address that a host gives to other hosts' connections: the vantage point of that host."""
        for translation in translations:
            behind, before = translation.behind, translation.before
            if (behind.client_ip, behind.client_port) == (before.client_ip, before.client_port):
                # The client kept its address. A balancer's table says so of its client; a NAT host's says nothing of who comes to it.
                if translation.basis == "lb-table":
                    self._unchanged.setdefault((behind.client_ip, behind.client_port), []).append(translation)
                continue
            self._by_client.setdefault((behind.client_ip, behind.client_port), []).append(translation)
            if behind.client_ip != before.client_ip:
                if translation.basis == "lb-table":
                    self.balancing.add(behind.client_ip)
                elif translation.basis == "conntrack":
                    self.natting.add(behind.client_ip)
                self.given.setdefault(behind.client_ip, translation.vantage_point)

    def __bool__(self) -> bool:
        return bool(self._by_client or self._unchanged)

    def find(self, client: End, server: End | None, life: Life) -> Iterator[tuple[Translation, int]]:
        """Entries that put `client` in place of another, towards `server` where that is known, and how well each fits."""
        yield from self._fitting(self._by_client, client, server, life)

    def find_unchanged(self, client: End, server: End, life: Life) -> Iterator[tuple[Translation, int]]:
        """Entries of balancers that pass the client's own address on."""
        yield from self._fitting(self._unchanged, client, server, life)

    def _fitting(
        self, entries: Mapping[tuple[str, int], list[Translation]], client: End, server: End | None, life: Life
    ) -> Iterator[tuple[Translation, int]]:
        ip, port = client
        if port is None:
            return
        best: dict[tuple[str, int], tuple[Translation, int]] = {}
        for translation in entries.get((ip, port), ()):
            behind = translation.behind
            if server is not None and (behind.server_ip, behind.server_port) != server:
                continue
            taken = translation.taken_ns
            fits = fit(translation, life, None if taken is None else self._align(translation.vantage_point, taken))
            own = (translation.before.client_ip, translation.before.client_port)
            if fits is not None and (own not in best or best[own][1] < fits):
                best[own] = translation, fits
                if len(best) > MOST_FITTING:
                    break
        yield from best.values()
