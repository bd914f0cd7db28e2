"""The table of joined flows goes in; which connections can have failed comes out, by columns alone."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from tcpwhy.connections.kinds import SLOW_NS
from tcpwhy.tables.flows import HTTP_REQUEST, TLS_ALERT, query, seq_distance_sql

_CLIENT_OPEN = seq_distance_sql("server_ack_end", "client_seq_end")
_SERVER_OPEN = seq_distance_sql("client_ack_end", "server_seq_end")

HANDSHAKE_UNFINISHED = """(
    (client_syns > 0 AND client_packets <= client_syns + client_resets)
    OR (client_packets = 0 AND server_syn_acks > 0 AND server_packets <= server_syn_acks + server_resets)
)"""
"""Nothing but SYNs and RSTs came from the client, or nothing but SYN-ACKs from the server where the client is not seen at all."""

RESET_WITH_SOMETHING_OPEN = f"""(
    client_resets + server_resets > 0 AND NOT (
        coalesce({_CLIENT_OPEN} <= 1, true) AND coalesce({_SERVER_OPEN} <= 1, true)
        AND (client_payload_last_ns IS NULL AND NOT (server_resets > 0 AND server_reset_stateless)
             OR coalesce(server_payload_last_ns >= client_payload_last_ns, false)
             OR client_last_payload = {TLS_ALERT}
             OR server_resets = 0 AND client_payload_last_ns IS NOT NULL AND client_last_payload <> {HTTP_REQUEST})
        AND NOT coalesce(server_payload_last_ns > server_reset_ns, false) AND NOT coalesce(client_payload_last_ns > client_reset_ns, false)
        AND NOT (server_ack_end IS NULL AND client_payload_last_ns IS NOT NULL)
        AND NOT (client_ack_end IS NULL AND server_payload_last_ns IS NOT NULL)
    )
)"""
"""A RST that did not come after everything was delivered and answered; a FIN that nobody acknowledged (1) does not count."""

SILENT = f"""(
    (coalesce({_CLIENT_OPEN} > 0, true) AND client_retransmissions >= 3 OR server_packets > 0 AND client_packets > 3)
        AND client_last_ns - coalesce(server_last_ns, client_first_ns) >= 2900000000
    OR (coalesce({_SERVER_OPEN} > 0, true) AND server_retransmissions >= 3 OR client_packets > 0 AND server_packets > 3)
        AND server_last_ns - coalesce(client_last_ns, server_first_ns) >= 2900000000
    OR client_retransmissions >= 3 AND {_CLIENT_OPEN} > 0
    OR server_retransmissions >= 3 AND {_SERVER_OPEN} > 0
)"""
"""One end went on for three seconds after the other was last heard; a tenth of a second is left for clocks of capture threads."""

CLOSED_UNANSWERED = f"""(
    client_last_payload = {HTTP_REQUEST} AND client_payload_last_ns > coalesce(server_payload_last_ns, 0) AND client_fins + server_fins > 0
)"""

CUT_SHORT = f"(server_resets > 0 AND server_fins = 0 AND client_last_payload = {HTTP_REQUEST} AND server_data_packets > 0)"
"""A RST instead of a FIN behind an HTTP answer, which may not be whole."""

REFUSED_UNSEEN = "(client_packets = 0 AND server_packets > 0 AND server_packets = server_resets AND server_reset_seq = 0)"
"""Nothing but RSTs that answer a SYN, which no capture holds."""

REDIRECTED = """(
    id IN (SELECT y FROM pair WHERE basis = 'numbers of a redirect' UNION SELECT x FROM pair WHERE basis = 'numbers of a redirect')
    AND (server_resets > 0 OR client_resets > 0)
)"""
"""One direction of a connection that its own host redirects, ended by RST: the other direction has what it left open."""

CAN_HAVE_FAILED = (
    f"({REFUSED_UNSEEN} OR {REDIRECTED} OR {HANDSHAKE_UNFINISHED} OR {RESET_WITH_SOMETHING_OPEN} OR {SILENT} OR {CLOSED_UNANSWERED}"
    f" OR {CUT_SHORT} OR icmp_errors > 0)"
)
"""SQL over the table `flow`; true for every flow of a failed connection, and for as few others as columns can tell."""


def held_up(slow_ns: int) -> str:
    """SQL over the table `flow`; true for every flow of a connection that was held up for so long, and for as few others as can be."""
    ends = [
        f"{end}_stalled_ns >= {slow_ns} OR {end}_closed_window_ns >= {slow_ns} OR {end}_sent_again_later"
        # Of a handshake whose tries lie in several files, only the first and the last one are known; their gaps double at most.
        f" OR len(chains) > 1 AND {end}_syn_last_ns - {end}_syn_ns >= {slow_ns // 3}"
        for end in ("client", "server")
    ]
    return f"({' OR '.join(ends)})"


def suspicious(db: duckdb.DuckDBPyConnection, slow_ns: int = SLOW_NS) -> list[int]:
    """Connections of which some flow can have failed; `slow_ns`: what held one up for so long is a failure."""
    sql = f"SELECT DISTINCT connection FROM flow JOIN member USING (id) WHERE {CAN_HAVE_FAILED} OR {held_up(slow_ns)} ORDER BY 1"
    return [row[0] for row in query(db, sql)]


def want(db: duckdb.DuckDBPyConnection, connections: Sequence[int]) -> None:
    """Makes the table `wanted` of these connections, for one query that follows."""
    query(db, "CREATE OR REPLACE TABLE wanted (connection BIGINT)")
    for start in range(0, len(connections), 1000):
        query(db, "INSERT INTO wanted VALUES " + ", ".join(f"({number})" for number in connections[start : start + 1000]))


def with_other_attempts(db: duckdb.DuckDBPyConnection, connections: list[int]) -> list[int]:
    """These connections and all that use one of their 5-tuples: attempts before and after tell what happened to one."""
    want(db, connections)
    sql = """
        WITH tuple AS (
            SELECT DISTINCT client_ip, client_port, server_ip, server_port
            FROM flow JOIN member USING (id) JOIN wanted USING (connection)
        )
        SELECT DISTINCT connection FROM flow JOIN member USING (id)
        JOIN tuple USING (client_ip, client_port, server_ip, server_port) ORDER BY 1
    """
    return [row[0] for row in query(db, sql)]
