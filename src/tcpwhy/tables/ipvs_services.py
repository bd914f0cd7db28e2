"""`ipvsadm -S -n`, `ipvsadm -L -n` or /proc/net/ip_vs goes in; virtual services with their real servers come out.

-A -t 10.0.0.1:80 -s rr -p 300 -M 255.255.255.0
-a -t 10.0.0.1:80 -r 10.0.10.5:8080 -m -w 1
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from tcpwhy.evidence.source import Source
from tcpwhy.tables.director import RealServer, VirtualService, end_of, hex_end_of, shortest
from tcpwhy.tables.ipvs_options import Options, read_options
from tcpwhy.tables.unread import UnreadPieces

MOST_LINES = 1_000_000
LONGEST_LINE = 2000

_FORWARD = {"Masq": "NAT", "Route": "DR", "Tunnel": "TUN", "Local": "LOCAL", "FullNat": "FULLNAT", "SNAT": "SNAT"}
"""As ipvsadm.c fwd_name and ip_vs_ctl.c ip_vs_fwd_name write them."""

_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp", "ICMP": "icmp", "ICMPv6": "icmpv6"}
_HEADINGS = ("IP Virtual Server", "Prot LocalAddress", "-> RemoteAddress")

NO_ADDRESS = "a service by match (DPVS) serves outgoing connections and has no virtual address"


@dataclasses.dataclass(slots=True)
class _Reading:
    """The services so far, in the order of the file."""

    unread: UnreadPieces
    is_hexadecimal: bool
    services: dict[tuple[object, ...], VirtualService] = dataclasses.field(default_factory=dict)
    servers: dict[tuple[object, ...], list[RealServer]] = dataclasses.field(default_factory=dict)
    local_addresses: dict[tuple[object, ...], list[str]] = dataclasses.field(default_factory=dict)
    current: tuple[object, ...] | None = None
    """The service that rows with an arrow belong to; None behind a service that was not understood."""

    def add(self, service: VirtualService) -> None:
        key = key_of(service)
        self.current = key
        if key in self.services:
            self.unread.add(service.source, service.text, "this service stands in the file already; the first of them was kept")
            return
        self.services[key] = service

    def finished(self) -> list[VirtualService]:
        """The services; a full NAT service's local addresses stand behind all services in the file."""
        done = []
        for key, service in self.services.items():
            servers = tuple(self.servers.get(key, ()))
            # /proc/net/ip_vs does not say which family a mark is for; its real servers do
            family = 6 if self.is_hexadecimal and service.mark is not None and any(":" in one.ip for one in servers) else service.family
            local = tuple(self.local_addresses.get(key, ()))
            done.append(dataclasses.replace(service, real_servers=servers, family=family, local_addresses=local))
        return done


def key_of(service: VirtualService) -> tuple[object, ...]:
    """What makes a service itself: the kernel holds one of each."""
    if service.mark is not None:
        return ("mark", service.mark, service.family)
    return (service.protocol, service.ip, service.port)


def parse_services(lines: Sequence[str], source: Source, unread: UnreadPieces, *, is_hexadecimal: bool = False) -> list[VirtualService]:
    """Lines of `ipvsadm -S -n`, rows of `ipvsadm -L -n` or --tun-info, or of /proc/net/ip_vs where `is_hexadecimal`.

    Listings with --stats, --rate, --thresholds or --persistent-conn do not show how a real server is reached;
    their rows are unread.
    """
    reading = _Reading(unread, is_hexadecimal)
    shows_method = True
    for number, line in enumerate(lines, 1):
        line = line[:LONGEST_LINE]
        text = line.strip()
        here = dataclasses.replace(source, line=number)
        if not text or text.startswith("#"):
            continue
        if number > MOST_LINES:
            unread.add(here, line, f"only the first {MOST_LINES} lines are read")
        elif text.startswith(_HEADINGS):
            shows_method = _heading_shows_method(text, shows_method)
        elif text.startswith("-") and not text.startswith("->"):
            _rule(text, here, reading)
        elif not shows_method:
            unread.add(here, line, "this listing does not show how real servers are reached; take `ipvsadm -S -n` or `ipvsadm -L -n`")
        elif text.startswith("->"):
            _listed_server(text, here, reading)
        else:
            _listed_service(text, here, reading)
    return reading.finished()


def _heading_shows_method(text: str, before: bool) -> bool:
    if text.startswith("IP Virtual Server"):
        return True
    if text.startswith("Prot LocalAddress"):
        return "Scheduler" in text
    return before and (" Forward" in text or "Weight" in text)


def _rule(text: str, source: Source, reading: _Reading) -> None:
    options = read_options(text.split())
    if options is None:
        reading.unread.add(source, text, "expected -A with a service, or -a with a service and a real server")
        return
    if options.has_match:
        reading.unread.add(source, text, NO_ADDRESS)
        return
    service = _service_of(options, text, source)
    if service is None:
        reading.unread.add(source, text, "the service is no address with a port and no mark; ipvsadm -n writes numbers")
        return
    if options.unknown:
        reading.unread.add(source, text, f"`{' '.join(options.unknown)[:100]}` has no known meaning; the rest of the line was read")
    if options.command == "A":
        reading.add(service)
    elif key_of(service) not in reading.services:
        reading.unread.add(source, text, "no line with -A stands before it for this service")
    elif options.command == "P":
        local = shortest(options.local_address)
        if local is None:
            reading.unread.add(source, text, "the local address is no address")
        else:
            reading.local_addresses.setdefault(key_of(service), []).append(local)
    else:
        server = _server_of(options, service, text, source)
        if server is None:
            reading.unread.add(source, text, "the real server is no address with a port; ipvsadm -n writes numbers")
        else:
            reading.servers.setdefault(key_of(service), []).append(server)


def _service_of(options: Options, text: str, source: Source) -> VirtualService | None:
    ip, port = "", 0
    if options.mark is None:
        end = end_of(options.address)
        if end is None:
            return None
        ip, port = end
    return VirtualService(
        source=source,
        text=text,
        protocol=options.protocol,
        ip=ip,
        port=port,
        mark=options.mark,
        scheduler=options.scheduler,
        flags=frozenset(options.flags),
        real_servers=(),
        family=6 if options.is_ipv6 or ":" in ip else 4,
        persistence_s=options.persistence_s,
        persistence_mask=options.mask,
    )


def _server_of(options: Options, service: VirtualService, text: str, source: Source) -> RealServer | None:
    alone = shortest(options.server.strip("[]"))
    end = end_of(options.server) or (None if alone is None else (alone, service.port))  # ipvsadm(8), -r: the port may be left out
    if end is None:
        return None
    return RealServer(
        source=source,
        text=text,
        ip=end[0],
        port=end[1],
        method=options.method,
        weight=options.weight,
        tunnel_type=options.tunnel_type,
        active=None,
        inactive=None,
        tunnel_port=options.tunnel_port,
    )


def _listed_service(text: str, source: Source, reading: _Reading) -> None:
    words = text.split()
    reading.current = None
    if words[0] == "MATCH":
        reading.unread.add(source, text, NO_ADDRESS)
        return
    mark: int | None = None
    ip, port, family, rest = "", 0, 4, words[2:]
    if words[0] == "FWM" and len(words) > 1:
        mark = _mark(words[1], reading.is_hexadecimal)
        if rest and rest[0] == "IPv6":
            family, rest = 6, rest[1:]
    elif words[0] in _PROTOCOLS and len(words) > 1:
        end = hex_end_of(words[1]) if reading.is_hexadecimal else end_of(words[1])
        if end is not None:
            ip, port = end
            family = 6 if ":" in ip else 4
    if (mark is None and not ip) or not rest:
        reading.unread.add(
            source, text, "expected protocol, address and port, or FWM and a mark, then a scheduler; ipvsadm -n writes numbers"
        )
        return
    flags, persistence_s, mask, unknown = _listed_flags(rest[1:], reading.is_hexadecimal)
    if unknown:
        reading.unread.add(source, text, f"`{' '.join(unknown)[:100]}` has no known meaning; the rest of the line was read")
    reading.add(
        VirtualService(
            source=source,
            text=text,
            protocol=_PROTOCOLS.get(words[0], ""),
            ip=ip,
            port=port,
            mark=mark,
            scheduler=rest[0],
            flags=frozenset(flags),
            real_servers=(),
            family=family,
            persistence_s=persistence_s,
            persistence_mask=mask,
        )
    )


def _mark(word: str, is_hexadecimal: bool) -> int | None:
    if is_hexadecimal:
        return int(word, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", word, re.ASCII) else None
    return int(word) if re.fullmatch(r"\d{1,10}", word, re.ASCII) else None


_ALONE = frozenset({"ops", "synproxy", "sip", "qid", "expire-quiescent", "quic", "dest-check"})
_PROXY_PROTOCOL = re.compile(r"ppv[12](?:-insecure)?", re.ASCII)
"""Flags of a service that stand alone: stock, and DPVS's (its tools/ipvsadm/ipvsadm.c print_service_entry)."""


def _listed_flags(words: list[str], is_hexadecimal: bool) -> tuple[set[str], int | None, str, list[str]]:
    """Flags, persistence in seconds, its mask, and what is not known, of the words behind the scheduler."""
    flags: set[str] = set()
    unknown: list[str] = []
    persistence_s: int | None = None
    mask = ""
    at = 0
    if words[:3] == ["UnK.", "or", "DFLT."]:  # Alibaba's column Established(Sec.), where it is not set
        at = 4
    elif words and words[0].isdigit():
        at = 1
    while at < len(words):
        word = words[at]
        value = words[at + 1] if at + 1 < len(words) else ""
        at += 1
        if word == "persistent" and value.isascii() and value.isdigit() and len(value) <= 10:
            flags.add("persistent")
            at += 1
            if not is_hexadecimal:
                persistence_s = int(value)  # /proc shows the kernel's ticks, whose length it does not tell
            elif at < len(words):
                at += 1  # and the mask as the kernel holds it
        elif word == "mask" and value:
            mask = value
            at += 1
        elif word == "pe" and value:
            flags.add(f"pe {value}")
            at += 1
        elif word == "conn-timeout" and value:
            flags.add(f"conn-timeout {value}")
            at += 1
        elif word.startswith("(") and word.endswith(")"):
            flags.update(filter(None, word[1:-1].split(",")))
        elif word in _ALONE or _PROXY_PROTOCOL.fullmatch(word) or word.startswith(("internal:", "external:")):
            flags.add(word)
        else:
            unknown.append(word)
    return flags, persistence_s, mask, unknown


def _listed_server(text: str, source: Source, reading: _Reading) -> None:
    if reading.current is None:
        reading.unread.add(source, text, "its service was not understood")
        return
    words = text.removeprefix("->").split()
    end = None
    if len(words) >= 5:
        end = hex_end_of(words[0]) if reading.is_hexadecimal else end_of(words[0])
    tunnel = ""
    if len(words) >= 6 and not _is_number(words[2]):  # ipvsadm --tun-info
        tunnel = words.pop(2)
    if end is None or words[1] not in _FORWARD or not all(_is_number(word) for word in words[2:5]):
        reading.unread.add(source, text, "expected address and port, Forward, Weight, ActiveConn, InActConn; ipvsadm -n writes numbers")
        return
    kind, _, rest = tunnel.partition(":")
    tunnel_port = rest.partition(":")[0]
    server = RealServer(
        source=source,
        text=text,
        ip=end[0],
        port=end[1],
        method=_FORWARD[words[1]],
        weight=int(words[2]),
        tunnel_type="" if kind == "n/a" else kind,
        active=int(words[3]),
        inactive=int(words[4]),
        tunnel_port=int(tunnel_port) if re.fullmatch(r"\d{1,5}", tunnel_port, re.ASCII) else None,
        flags=frozenset(filter(None, ",".join(words[5:]).split(","))),
    )
    reading.servers.setdefault(reading.current, []).append(server)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?\d{1,10}", word, re.ASCII) is not None
