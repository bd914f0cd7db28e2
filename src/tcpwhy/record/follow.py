"""Clients and connections to follow go in, an interface or a capture is read in Rust, and what happens on the chosen connections comes out.

The choosing, the reassembly of request heads and the writing of packets are in rust/src/follow; only events get here.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tcpwhy._core import Following, follow_file, follow_live
from tcpwhy.connections.packet import Endpoint
from tcpwhy.filters.target import Target

RING_KIB = 64 * 1024
"""KiB of the ring between kernel and process: a third of a second of 200,000 packets of 1,000 bytes a second."""

RING_KIB_MAX = 2 * 1024 * 1024
"""Two GiB, below what the kernel takes in one ring (net/packet/af_packet.c packet_set_ring)."""

WAIT_MS = 200
"""How long one look for events may take: so often is a signal noticed."""

STOP_S = 5.0
"""Seconds for which the end waits for who reads what is written: a reader of a pipe may have stopped for good."""

OTHER_WAYS = (
    "on a connection that is open already no option will come; other ways: `tcpwhy clients` with captures of both sides of the balancer, "
    "or with its table of connections; `--connection A:p-B:p` then follows one at once"
)


class FollowError(Exception):
    """Nothing can be followed: `where`, `what`, and a `hint` or None."""

    def __init__(self, where: str, what: str, hint: str | None = None) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what
        self.hint = hint


class FollowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, where, and what becomes of the packets."""

    clients: tuple[Target, ...] = ()
    connections: tuple[tuple[Endpoint, Endpoint], ...] = ()
    interface: str | None = None
    """An interface, or `any`; None where a capture is read."""
    capture: str | None = None
    """A capture file, `-` for standard input."""
    out: str | None = None
    """Where packets are written as pcapng, `-` for standard output."""
    packets: int | None = None
    """End after so many packets of followed connections."""
    trusted_hops: int | None = None
    """How many proxies before this host are trusted to name their peers in request headers; None where headers choose nothing."""
    promiscuous: bool = True
    ring_kib: int = RING_KIB


class Chosen(msgspec.Struct, frozen=True, tag_field="event", tag="connection"):
    """A connection is followed from here on."""

    connection: int
    """Its number: 1 is the first one that is followed."""
    time_ns: int
    client: str
    """`ip:port` as the packets have them."""
    server: str
    real_client: str | None
    basis: str
    """toa, proxy, header, or given by --connection."""
    because: str


class Request(msgspec.Struct, frozen=True, tag_field="event", tag="request"):
    """The head of a request is whole; its time is that of the packet that completed it."""

    connection: int
    time_ns: int
    client: str
    server: str
    real_client: str | None
    basis: str
    line: bytes
    fields: list[tuple[bytes, bytes]]


class Encrypted(msgspec.Struct, frozen=True, tag_field="event", tag="encrypted"):
    """A followed connection is TLS or HTTP/2: no head of it can be read."""

    connection: int
    client: str
    server: str


class Notice(msgspec.Struct, frozen=True, tag_field="event", tag="notice"):
    """Something to know about the following itself."""

    text: str


class Figures(msgspec.Struct, frozen=True):
    """Counts, from the start on."""

    seen: int
    """Packets that got through the kernel's filter, or that the capture holds."""
    followed: int
    """Packets of followed connections."""
    connections: int
    requests: int
    requests_of_others: int
    """Requests on connections that were chosen by a header, and that name another client: not told."""
    heads_lost: int
    """Heads, at least, of which bytes are missing."""
    open_before: int
    """Connections, at least, that were open before the first packet and were not followed."""
    refused: int
    """Packets of connections that were not followed because too many are."""
    written: int
    unwritten: int
    """Packets with a time that pcapng cannot hold."""
    passed: int | None
    """Packets that passed the kernel's filter, those included that it dropped then; None of a capture."""
    dropped: int | None
    """Packets for which the ring had no room."""
    untold: int
    """Events that were left out because nobody took them in time."""
    losses: list[tuple[int, str, bool]]
    """Offset in the capture, what could not be read, and whether it is merely a last record that is cut off."""
    losses_more: int


class End(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """Nothing more comes."""

    how: str
    """counted, read, stopped, gone, closed, no-capture or failed."""
    figures: Figures
    error: str | None = None


Event = Chosen | Request | Encrypted | Notice | End


class Follow:
    """A following that runs from the moment it is made."""

    def __init__(self, request: FollowRequest) -> None:
        """Opens ring or capture, and the file to write. Raises FollowError."""
        self._request = request
        self.mechanism: str | None = None
        """How packets of a live capture get here."""
        self._running = self._begin(request)

    def _begin(self, request: FollowRequest) -> Following:
        clients = [(str(target.address), target.port) for target in request.clients]
        connections = [((one.ip, one.port), (other.ip, other.port)) for one, other in request.connections]
        if request.capture is not None and request.out is not None and _is_one_file(Path(request.capture), Path(request.out)):
            raise FollowError(request.out, "is the capture that is read, expected another file to write")
        try:
            if request.interface is None:
                path = request.capture or "-"
                return follow_file(path, clients, connections, request.trusted_hops, request.out, request.packets)
            running, self.mechanism = follow_live(
                request.interface,
                clients,
                connections,
                request.trusted_hops,
                request.out,
                request.packets,
                request.promiscuous,
                request.ring_kib * 1024,
            )
            return running
        except BrokenPipeError:  # nobody reads what would be written
            raise
        except OSError as error:
            raise _refusal(request, error) from None
        except ValueError as error:
            raise FollowError(request.interface or request.capture or "-", str(error)) from None

    def events(self) -> Iterator[Event]:
        """What happens, until the end, which is the last one. A signal's exception passes through within WAIT_MS."""
        while (found := self._running.events(WAIT_MS)) is not None:
            for one in found:
                yield self._event(one)

    def rest(self) -> Iterator[Event]:
        """Stops, and gives what is still to be told; for when `events` was left before its end.

        FollowError where nobody takes what is written within STOP_S: then nothing more can be told either.
        """
        failed: list[Exception] = []

        def stop() -> None:
            try:
                self._running.stop()
            except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
                failed.append(error)

        stopping = threading.Thread(target=stop, daemon=True)
        stopping.start()
        stopping.join(STOP_S)
        if stopping.is_alive():
            raise FollowError(self._request.out or "-", "nobody takes what is written; it may end inside a packet")
        if failed:
            raise failed[0]
        while found := self._running.events(WAIT_MS):
            for one in found:
                yield self._event(one)

    def figures(self) -> Figures:
        """Counts up to now."""
        return msgspec.convert(self._running.figures(), Figures, strict=False)

    def _event(self, one: dict[str, Any]) -> Event:
        kind = one["event"]
        if kind == "end":
            return End(one["how"], self.figures(), one.get("error"))
        if kind in _NOTICES:
            return Notice(_NOTICES[kind].format(**one, begun=self._begun(), where=self._request.interface))
        event: Chosen | Request | Encrypted = msgspec.convert(one, Chosen | Request | Encrypted)
        return event

    def _begun(self) -> str:
        return "before" if self._request.capture is None else "before the capture began"


_NOTICES = {
    "open-before": f"{{source}} > {{destination}} was open {{begun}}: {OTHER_WAYS}",
    "dropped": "{packets} packets were dropped, for the ring had no room: packets of followed connections may be among them",
    "down": "{where} went down; going on, should it come up again",
    "too-many": "{most} connections are followed, which is all that can be at once: more are not",
    "replaced": "connection {connection} is over: another connection took its addresses and ports, {source} > {destination}",
}


def _is_one_file(read: Path, written: Path) -> bool:
    """True where what would be written to stands in the place of what is read, by another name too; `-` is neither."""
    return "-" not in (str(read), str(written)) and read.is_file() and written.exists() and read.samefile(written)


def _refusal(request: FollowRequest, error: OSError) -> FollowError:
    if error.filename is not None:
        return FollowError(str(error.filename), (error.strerror or str(error)).lower())
    where = request.interface or request.capture or "-"
    if error.errno in (errno.EPERM, errno.EACCES) and request.interface is not None:
        return FollowError(
            where,
            "no permission to capture packets, expected root or the capability CAP_NET_RAW",
            "run it with sudo, or with `setpriv --ambient-caps +net_raw --inh-caps +net_raw`",
        )
    if error.errno in (errno.ENODEV, errno.ENXIO):
        known = ", ".join(sorted(entry.name for entry in Path("/sys/class/net").glob("*")))
        return FollowError(where, "no such interface", f"there are: {known}, and any" if known else None)
    if error.errno == errno.ENOMEM:
        return FollowError(where, f"no memory for a ring of {request.ring_kib} KiB", "a smaller one is asked for with -B KIB")
    return FollowError(where, (error.strerror or os.strerror(error.errno or 0)).lower())


def asked_fields(request: Request, names: Sequence[str]) -> list[tuple[str, str]]:
    """The fields of a head with these names, in their order, as text; bytes that are no UTF-8 as lone surrogates (PEP 383)."""
    wanted = {name.lower() for name in names}
    return [(name, value) for name, value in all_fields(request) if name.lower() in wanted]


def all_fields(request: Request) -> list[tuple[str, str]]:
    """All fields of a head, as text."""
    return [(as_text(name), as_text(value)) for name, value in request.fields]


def as_text(raw: bytes) -> str:
    """Bytes of a packet as text; those that are no UTF-8 as lone surrogates (PEP 383), which a terminal is shown as numbers."""
    return raw.decode("utf-8", "surrogateescape")
