"""The rows of a case's clients and a word for how to group them go in; groups, their counts and what is missing come out."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from tcpwhy.clients.clients import Clients
from tcpwhy.clients.making import address_sql, parse_header_name
from tcpwhy.evidence import EvidenceError
from tcpwhy.report.times import iso_utc
from tcpwhy.tables.flows import query

NAMES_SHOWN = 100
"""Real clients named of one group; `clients` counts all of them."""


class ClientGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Connections that have something in common."""

    group: str | None
    """The client's address, its network, or the header's value; None for connections of which it is not known."""
    connections: int
    identified: int
    """Of them, those whose real client is known."""
    confirmed: int
    likely: int
    possible: int
    open_before_capture: int
    requests: int
    """Requests of these connections; for a header, those that carried this value."""
    bytes: int
    clients: int
    """Different addresses of real clients, their ports left out."""
    real_clients: tuple[str, ...]
    """At most a hundred of them."""
    first: str
    last: str


class ClientTotals(msgspec.Struct, frozen=True):
    """Counts over all connections that are listed."""

    connections: int
    identified: int
    unidentified: int
    with_candidates: int
    """Of the unidentified, those that have candidates."""
    unidentified_open_before_capture: int
    requests: int


@dataclasses.dataclass(frozen=True)
class Grouping:
    """What connections are grouped by."""

    kind: Literal["client", "network", "header"]
    prefix_length: int = 0
    header: str = ""

    @property
    def heading(self) -> str:
        """The column's name in a table."""
        return {"client": "real client", "network": f"network /{self.prefix_length}", "header": self.header}[self.kind]


def parse_grouping(text: str) -> Grouping:
    """`client`, `network/24`, `header:X-Team`; EvidenceError where it is none of them."""
    if text == "client":
        return Grouping("client")
    network = re.fullmatch(r"network/(\d{1,3})", text, re.ASCII)
    if network and int(network[1]) <= 128:
        return Grouping("network", prefix_length=int(network[1]))
    if text.startswith("header:"):
        return Grouping("header", header=parse_header_name(text.removeprefix("header:")))
    raise EvidenceError(
        "--group-by", f"read `{text}`, expected client, network/24 or header:NAME", "a prefix of IPv6 goes up to network/128"
    )


def network_of(ip: str, prefix_length: int) -> str:
    """The network of an address; IPv4 addresses take at most 32 bits of the prefix length."""
    address = ipaddress.ip_address(ip)
    return str(ipaddress.ip_network((address, min(prefix_length, address.max_prefixlen)), strict=False))


def total(clients: Clients) -> ClientTotals:
    """The counts of all rows."""
    row = query(
        clients.database,
        f"""SELECT count(*), count(real_client), count(*) FILTER (real_client IS NULL AND len(candidates) > 0),
                count(*) FILTER (real_client IS NULL AND open_before_capture), coalesce(sum(requests), 0)::BIGINT
            FROM {clients.row_table}""",
    )[0]
    return ClientTotals(row[0], row[1], row[0] - row[1], row[2], row[3], row[4])


def groups(clients: Clients, grouping: Grouping) -> Iterator[ClientGroup]:
    """The groups, those with most requests first; a connection with two values of the header counts in both groups."""
    key, source = "real_ip", f"(SELECT *, requests AS own_requests FROM {clients.row_table})"
    match grouping.kind:
        case "network":
            _make_networks(clients, grouping.prefix_length)
            key = "network"
            source = f"(SELECT *, requests AS own_requests FROM {clients.row_table} LEFT JOIN client_network USING (real_ip))"
        case "header":
            name = grouping.header.lower()
            if name not in {one.lower() for one in clients.headers}:
                raise EvidenceError("--group-by", f"the header {grouping.header} was not asked for")
            key = "value"
            source = f"""(SELECT r.*, value, coalesce(v.count, r.requests) AS own_requests FROM {clients.row_table} r
                LEFT JOIN (SELECT * FROM {clients.value_table} WHERE name = '{name.replace("'", "''")}') v ON v.n = r.n)"""
    sql = f"""
        SELECT {key} AS key, count(*), count(real_client), count(*) FILTER (confidence = 'confirmed'),
            count(*) FILTER (confidence = 'likely'), count(*) FILTER (confidence = 'possible'), count(*) FILTER (open_before_capture),
            coalesce(sum(own_requests), 0)::BIGINT AS requests, coalesce(sum(bytes), 0)::BIGINT, count(DISTINCT real_ip),
            list_slice(list_sort(list(DISTINCT real_ip) FILTER (real_ip IS NOT NULL)), 1, {NAMES_SHOWN}),
            epoch_ns(min(first)), epoch_ns(max(last))
        FROM {source} GROUP BY key ORDER BY requests DESC, count(*) DESC, key NULLS LAST
    """
    for row in clients.stream(sql):
        yield ClientGroup(
            group=row[0],
            connections=row[1],
            identified=row[2],
            confirmed=row[3],
            likely=row[4],
            possible=row[5],
            open_before_capture=row[6],
            requests=row[7],
            bytes=row[8],
            clients=row[9],
            real_clients=tuple(row[10] or ()),
            first=iso_utc(row[11]),
            last=iso_utc(row[12]),
        )


def _make_networks(clients: Clients, prefix_length: int) -> None:
    """Makes the table `client_network` (real_ip, network): DuckDB's inet extension would have to be fetched from a network."""
    encoder = msgspec.json.Encoder()
    with tempfile.TemporaryDirectory(prefix="tcpwhy-") as folder:
        path = Path(folder) / "networks.jsonl"
        with path.open("wb") as out:
            for (ip,) in clients.stream(f"SELECT DISTINCT real_ip FROM {clients.row_table} WHERE real_ip IS NOT NULL"):
                out.write(encoder.encode({"real_ip": ip, "network": network_of(ip, prefix_length)}) + b"\n")
        quoted = str(path).replace("'", "''")
        columns = "{real_ip: 'VARCHAR', network: 'VARCHAR'}"
        query(
            clients.database,
            f"""CREATE OR REPLACE TABLE client_network AS
                SELECT * FROM read_json('{quoted}', format = 'newline_delimited', columns = {columns})""",
        )


def next_evidence(clients: Clients, totals: ClientTotals) -> tuple[str, ...]:
    """What to take next, and what it would tell, where clients are not identified."""
    if not totals.unidentified:
        return ()
    peers = query(
        clients.database,
        f"""SELECT {address_sql("client")} AS peer, count(*), any_value(vantage_point) FROM {clients.row_table}
            WHERE real_client IS NULL GROUP BY peer ORDER BY count(*) DESC, peer LIMIT 3""",
    )
    shown = ", ".join(f"{peer} ({count})" for peer, count, _ in peers)
    place = peers[0][2]
    said = [
        (f"on the host that has the address {peers[0][0]}, while the connections are open: its balancer's table (`ipvsadm -L -n -c`, "
        "/proc/net/ip_vs_conn, HAProxy's `show sess all`), or `conntrack -L` where it is a NAT host; unidentified connections came from "
        f"{shown}"),
        ("a capture on both sides of that host, at the same time as the one at "
        f"{place}: the two sides are joined by their bytes, also without a SYN"),
    ]  # fmt: skip
    if totals.unidentified_open_before_capture:
        said.append(
            f"{totals.unidentified_open_before_capture} of them were open before the capture began, so that no option or PROXY header will "
            f"come: capture at {place} until they reconnect (`tcpdump -s 0`), and ask again"
        )
    if totals.with_candidates:
        said.append(
            f"{totals.with_candidates} of them have candidates: `--format json` lists them; `--trusted-hops N` says how many proxies' "
            "headers can be trusted"
        )
    return tuple(said)
