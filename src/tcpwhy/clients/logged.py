"""Logs of a case go in; lines that tell a connection's addresses on both sides of a balancer come out as translations.

IPVS: TOA add failed(no room): [10.0.0.9]:40001 -> [10.0.0.1]:80; [10.0.10.1]:1025 -> [10.0.10.5]:8080
2026/11/21 16:30:56 [info] 812#812: *34 client 10.0.0.9:35410 connected to 10.0.0.1:80
2026/11/21 16:30:56 [info] 812#812: *34 proxy 10.0.10.1:48836 connected to 10.0.10.5:8080
"""

from __future__ import annotations

import dataclasses
import re
import zoneinfo
from collections import OrderedDict
from collections.abc import Iterator

from tcpwhy.clients import envoy_line
from tcpwhy.clients.row import Ends, Translation
from tcpwhy.evidence import Evidence, Source, VantagePoint
from tcpwhy.evidence.compression import CompressionError, open_plain
from tcpwhy.tables.logs import ParsedLine, nginx_error, told_time
from tcpwhy.tables.logs._event import address
from tcpwhy.tables.logs._marked_lines import MarkedLines
from tcpwhy.tables.logs._wrapping import unwrap

MOST_SESSIONS = 20_000
"""Clients of nginx's stream module that are remembered until the line on their upstream comes; nginx writes it within its
proxy_connect_timeout, 60 s."""

MOST_RECENT = 4096
"""Connections of which a line that comes again within AGAIN_NS is passed over: DPVS writes one for each packet until data is answered."""

AGAIN_NS = 60_000_000_000

_TOA = b"TOA add failed("
_CONNECTED = b" connected to "
_MARKERS = (_TOA, _CONNECTED, *envoy_line.MARKERS)
_END = r"\[([0-9A-Fa-f:.]{2,45})\]:(\d{1,5})"
_TOA_LINE = re.compile(
    rf"(?:\[ *\d{{1,12}}\.\d{{1,9}}\] )?(?:IPVS: )?TOA add failed\(.{{0,200}}?\): {_END} -> {_END}; {_END} -> {_END}(?!\d)", re.ASCII
)
"""iqiyi/dpvs src/ipvs/ip_vs_proto_tcp.c tcp_fnat_in_handler; IPv4 stands in brackets too. Only at the begin of a line, for a client
can write the same into a request that another program logs."""

_OF_NGINX = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[info\] \d{1,10}#\d{1,10}: \*\d{1,20} (?:client|proxy) ", re.ASCII)
"""At the begin of a line too (src/core/ngx_log.c, src/stream/ngx_stream_handler.c, ngx_stream_proxy_module.c)."""


def logged_translations(evidence: Evidence) -> Iterator[Translation]:
    """What DPVS, nginx's stream module (error_log at level info) and Istio's Envoy say of connections in any log of any vantage point.

    `taken_ns` is the time of the line where its zone is known; of Envoy's lines the begin, and of a TCP connection its end too, as a
    second entry. nginx's stream module names the address that it listens on: `before.server_ip` may be 0.0.0.0 or ::. nginx's http
    module and HAProxy write no port of their own end, and so name no connection. A log that cannot be read, or not whole, is told in the
    vantage point's notes.
    """
    for point in evidence.vantage_points:
        reader = _Reader(point)
        for path in point.logs:
            source = evidence.source(point.name, path)
            try:
                with open_plain(path) as stream:
                    reader.begin(source)
                    lines = MarkedLines(stream, _MARKERS)
                    while (line := lines.next_marked()) is not None:
                        yield from reader.take(lines.number, line)
            except (CompressionError, OSError) as error:
                _note(point, f"{source.file} was not read whole for clients: {error}")


def _note(point: VantagePoint, text: str) -> None:
    if text not in point.notes:
        point.notes.append(text)


class _Reader:
    """The logs of one vantage point while they are read."""

    def __init__(self, point: VantagePoint) -> None:
        self._name = point.name
        self._zone = zoneinfo.ZoneInfo(point.log_timezone) if point.log_timezone else None
        self._utc_offset_s = None
        if self._zone is None and point.state is not None:
            self._utc_offset_s = point.state.host.utc_offset_s
        self._source = Source(point.name, "")
        self._clients: OrderedDict[str, ParsedLine] = OrderedDict()
        self._recent: OrderedDict[tuple[Ends, Ends], int | None] = OrderedDict()

    def begin(self, source: Source) -> None:
        """Another file: nginx counts its connections anew."""
        self._source = source
        self._clients.clear()

    def take(self, number: int, raw: bytes) -> Iterator[Translation]:
        """One line that may tell something."""
        text = raw.decode("utf-8", "replace").strip("\0").rstrip("\r\n")
        wrapped = unwrap(text)
        if _TOA not in raw and _CONNECTED not in raw:
            yield from self._of_envoy(envoy_line.parse_envoy(wrapped.text) or envoy_line.parse_envoy(text), number)
            return
        parsed: ParsedLine | None = None
        ends: tuple[Ends, Ends] | None
        if _TOA in raw:
            ends = _of_dpvs(wrapped.text)
        else:
            parsed = nginx_error.parse(wrapped.text) if _OF_NGINX.match(wrapped.text) else None
            ends = self._of_nginx(parsed)
        if ends is None:
            return
        _, _, taken = told_time(parsed or ParsedLine(None, False, ""), wrapped.stamp, self._zone, self._utc_offset_s)
        if not self._is_repeated(ends, taken):
            here = dataclasses.replace(self._source, line=number)
            yield Translation(behind=ends[1], before=ends[0], basis="log", source=here, vantage_point=self._name, taken_ns=taken)

    def _of_envoy(self, line: envoy_line.EnvoyLine | None, number: int) -> Iterator[Translation]:
        if line is None:
            return
        before, behind = _ends(line.client, line.asked), _ends(line.local, line.server)
        here = dataclasses.replace(self._source, line=number)
        moments = [(line.begin_ns, True)]
        if not line.is_http and line.duration_ns is not None:
            moments.append((line.begin_ns + line.duration_ns, False))
        for taken_ns, is_open in moments:
            yield Translation(behind, before, "log", here, self._name, taken_ns, is_open, line.is_http)

    def _of_nginx(self, parsed: ParsedLine | None) -> tuple[Ends, Ends] | None:
        """Before and behind, once both lines of a session have been met."""
        if parsed is None or parsed.kind is not None or parsed.key is None or parsed.local is None or parsed.remote is None:
            return None
        if parsed.about == "client":
            self._clients[parsed.key] = parsed
            if len(self._clients) > MOST_SESSIONS:
                self._clients.popitem(last=False)
            return None
        client = self._clients.pop(parsed.key, None)
        if client is None or client.local is None or client.remote is None:
            return None
        return _ends(client.remote, client.local), _ends(parsed.local, parsed.remote)

    def _is_repeated(self, ends: tuple[Ends, Ends], taken: int | None) -> bool:
        known = ends in self._recent
        before = self._recent.get(ends)
        if known and (taken is None or before is None or abs(taken - before) <= AGAIN_NS):
            return True
        self._recent[ends] = taken
        self._recent.move_to_end(ends)
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)
        return False


def _of_dpvs(text: str) -> tuple[Ends, Ends] | None:
    found = _TOA_LINE.match(text)
    if found is None:
        return None
    words = found.groups()
    ips = [address(word) for word in words[::2]]
    ports = [int(word) for word in words[1::2]]
    client, virtual, local, real = ips
    if client is None or virtual is None or local is None or real is None or not all(0 < port < 65536 for port in ports):
        return None
    return Ends(client, ports[0], virtual, ports[1]), Ends(local, ports[2], real, ports[3])


def _ends(client: str, server: str) -> Ends:
    """Of two `ip:port` as the logs' dialects give them."""
    (client_ip, _, client_port), (server_ip, _, server_port) = client.rpartition(":"), server.rpartition(":")
    return Ends(client_ip.strip("[]"), int(client_port), server_ip.strip("[]"), int(server_port))
