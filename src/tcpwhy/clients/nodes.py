"""The tables of reached connections go in; batch by batch the roots with all that lies before them come out, ready to be resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import duckdb

from tcpwhy.clients.headers import CLIENT_HEADERS, plain_address
from tcpwhy.clients.story import Before, Claim, End, HeaderLine, Life, Node
from tcpwhy.tables.flows import query

BATCH = 20_000
"""Roots held in memory at a time."""


class Nodes:
    """Reads connections out of the tables `root`, `reach`, `seat`, `flow`, `claim`, `header`, `request` and `edge`."""

    def __init__(self, db: duckdb.DuckDBPyConnection, names: Sequence[str], file_names: Mapping[str, Sequence[str]]) -> None:
        """names: the vantage points by number; file_names: their captures, as reports print them."""
        self._db = db
        self._names = names
        self._file_names = file_names

    def batches(self) -> Iterator[list[tuple[int, Node, dict[int, Node]]]]:
        """Lists of (n, root, connections that may lie before it, by number), in order of n."""
        total = query(self._db, "SELECT coalesce(max(n), 0) FROM root")[0][0]
        for begin in range(1, total + 1, BATCH):
            yield self._batch(begin, min(begin + BATCH, total + 1))

    def _batch(self, begin: int, end: int) -> list[tuple[int, Node, dict[int, Node]]]:
        query(
            self._db,
            "CREATE OR REPLACE TEMP TABLE batch AS SELECT DISTINCT connection FROM reach WHERE n >= ? AND n < ?",
            (begin, end),
        )
        nodes = self._read_nodes()
        self._read_claims(nodes)
        self._read_headers(nodes)
        self._read_edges(nodes)
        batch: list[tuple[int, Node, dict[int, Node]]] = []
        rows = query(
            self._db,
            "SELECT n, connection FROM reach WHERE n >= ? AND n < ? ORDER BY n, depth, connection",
            (begin, end),
        )
        for n, connection in rows:
            if not batch or batch[-1][0] != n:
                batch.append((n, nodes[connection], {connection: nodes[connection]}))
            else:
                batch[-1][2][connection] = nodes[connection]
        return batch

    def _read_nodes(self) -> dict[int, Node]:
        rows = query(
            self._db,
            """
            SELECT connection, seat.vantage, client_ip, client_port, server_ip, server_port, client_ttl_max,
                first_ns - offset_ns, last_ns - offset_ns, opened, closed, followed_ns
            FROM batch JOIN seat USING (connection) JOIN flow USING (id) ORDER BY connection, place
            """,
        )
        joined = dict(
            query(
                self._db,
                """SELECT connection, min(basis) FROM batch JOIN member USING (connection) JOIN pair ON pair.x = member.id
                   GROUP BY connection""",
            )
        )
        nodes: dict[int, Node] = {}
        at = 0
        while at < len(rows):
            until = at + 1
            while until < len(rows) and rows[until][0] == rows[at][0]:
                until += 1
            node = self._node(rows[at:until])
            node.join_basis = joined.get(node.connection, "")
            nodes[node.connection] = node
            at = until
        for connection, requests, lost, is_tls in query(
            self._db,
            """SELECT connection, max(requests), min(heads_lost), bool_or(is_tls)
               FROM batch JOIN member USING (connection) JOIN request USING (id) WHERE from_client GROUP BY connection""",
        ):
            if connection in nodes:
                node = nodes[connection]
                node.requests, node.heads_lost, node.is_tls = requests or 0, lost or 0, bool(is_tls)
        return nodes

    def _node(self, rows: Sequence[tuple[int, int, str, int, str, int, int, int, int, bool, bool, int | None]]) -> Node:
        """Rows of one connection, from the client to the server."""
        first, inner = rows[0], rows[-1]
        begun = [row[7] for row in rows if row[9]]
        ended = [row[8] for row in rows if row[10]]
        followed = [row[11] for row in rows if row[11] is not None]
        tuples = tuple(dict.fromkeys(((row[2], row[3]), (row[4], row[5])) for row in reversed(rows)))
        return Node(
            connection=first[0],
            client=(inner[2], inner[3]),
            server=(inner[4], inner[5]),
            outer=(first[2], first[3]),
            outer_place=self._names[first[1]],
            outer_ttl=first[6] or 0,
            life=Life(
                first_ns=min(row[7] for row in rows),
                last_ns=max(row[8] for row in rows),
                opened_ns=min(begun) if begun else None,
                closed_ns=max(ended) if ended else None,
                followed_ns=min(followed) if followed else None,
            ),
            tuples=tuples,
        )

    def _place(self, id_: int, file: int | None, frame: int | None) -> str:
        """`nginx.pcap #12`: where a fact of a flow was met."""
        name = self._names[id_ >> 32]
        files = self._file_names[name]
        shown = files[file] if file is not None and 0 <= file < len(files) else name
        return f"{shown} #{frame}" if frame else shown

    def _read_claims(self, nodes: Mapping[int, Node]) -> None:
        rows = query(
            self._db,
            """SELECT connection, claim.id, basis, layout, what, ip, port, ambiguous, claim.count, file, frame, followed_ns, text
               FROM batch JOIN member USING (connection) JOIN claim USING (id) LEFT JOIN claimed USING (connection, ip, port)
               WHERE from_client AND (what = 'client' AND ip IS NOT NULL OR what = 'local')
               ORDER BY connection, time_ns, claim.id, frame""",
        )
        for connection, id_, basis, layout, what, ip, port, ambiguous, count, file, frame, followed, text in rows:
            node = nodes.get(connection)
            address = plain_address(ip) if ip is not None else None
            if node is None or (what == "client" and address is None):
                continue
            word = f"TCP option {layout}" if basis == "toa" else f"PROXY header ({layout})"
            said = f" ({text})" if text else ""
            times = "" if count is None or count == 1 else f", {count} times"
            end: End = (address or "", port or None)
            node.claims.append(
                Claim(basis, what, end, bool(ambiguous), f"{word} in {self._place(id_, file, frame)}{times}{said}", layout or "", followed)
            )

    def _read_headers(self, nodes: Mapping[int, Node]) -> None:
        marks = ", ".join("?" for _ in CLIENT_HEADERS)
        rows = query(
            self._db,
            f"""SELECT connection, name, value, max(header.count), arg_min(header.id, header.id), arg_min(file, header.id),
                    arg_min(frame, header.id), bool_or(cut)
                FROM batch JOIN member USING (connection) JOIN header USING (id) WHERE from_client AND name IN ({marks})
                GROUP BY connection, name, value ORDER BY connection, min(time_ns), name, value""",
            CLIENT_HEADERS,
        )
        for connection, name, value, count, id_, file, frame, cut in rows:
            if connection in nodes:
                nodes[connection].headers.append(HeaderLine(name, value, count or 0, self._place(id_, file, frame), bool(cut)))

    def _read_edges(self, nodes: Mapping[int, Node]) -> None:
        rows = query(
            self._db,
            """SELECT a, b, kind, sure, anchors, basis, doubt FROM batch JOIN edge ON edge.a = batch.connection ORDER BY a, kind DESC, b""",
        )
        for a, b, kind, sure, anchors, basis, doubt in rows:
            node, other = nodes.get(a), nodes.get(b)
            if node is None or other is None:
                continue
            because = ""
            if kind == "bytes":
                because = f"{other.outer_place} saw the same bytes on the balancer's other side ({basis}, {anchors} segments)"
                because += f"; {doubt}" if doubt else ""
            node.before.append(Before(b, kind, bool(sure), because))
