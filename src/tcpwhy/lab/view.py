"""What a finished case shows to its own scenario: a case folder comes in, packets as tshark reads them go out.

The lab judges with Wireshark's eyes on purpose: a truth that rested on this project's own reader would prove nothing.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .options import Options
from .scenario import StoryDidNotHappen

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10  # RFC 9293 section 3.1

FIELDS = (
    *("frame.number", "frame.time_epoch", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport"),
    *("tcp.seq_raw", "tcp.ack_raw", "tcp.flags", "tcp.len", "tcp.options.timestamp.tsval", "ip.id", "tcp.options"),
    "tcp.window_size_value",
)


@dataclass(frozen=True)
class Packet:
    """One TCP packet of a capture. `source` and `target` are `ip:port`; numbers are as on the wire."""

    place: str
    file: str
    frame: int
    time_ns: int
    source: str
    target: str
    sequence: int
    acknowledgement: int
    flags: int
    length: int
    timestamp: int | None
    identification: int
    options: bytes
    window: int
    """As it stands in the header, not scaled."""

    def has(self, *flags: int) -> bool:
        """Whether all of these flags are set."""
        return all(self.flags & flag for flag in flags)

    @property
    def kind(self) -> str:
        """`S`, `SA`, `R`, `F` or `A`: what the packet is for."""
        if self.flags & SYN:
            return "SA" if self.flags & ACK else "S"
        if self.flags & RST:
            return "R"
        return "F" if self.flags & FIN else "A"


class CaseView:
    """The raw case, its options, the story's notes and the outcomes of its load."""

    def __init__(self, folder: Path, scratch: Path, options: Options, fault: bool, form: str) -> None:
        self.folder = folder
        self.scratch = scratch
        self.options = options
        self.fault = fault
        self.form = form

    @cached_property
    def notes(self) -> dict[str, object]:
        """What the story wrote down."""
        notes: dict[str, object] = json.loads((self.scratch / "notes.json").read_text())
        return notes

    @cached_property
    def outcomes(self) -> list[dict[str, object]]:
        """What each client program met, as `Outcome.as_dict`."""
        outcomes: list[dict[str, object]] = json.loads((self.scratch / "outcomes.json").read_text())
        return outcomes

    @cached_property
    def places(self) -> list[str]:
        """The vantage points that have captures."""
        return sorted({path.parent.name for path in self.folder.glob("*/*.pcap*")})

    @cached_property
    def packets(self) -> dict[str, list[Packet]]:
        """The packets of each vantage point in time order, copies that the capture made included."""
        return {
            place: sorted(
                (p for path in sorted((self.folder / place).glob("*.pcap*")) for p in _read(path, place)),
                key=lambda packet: packet.time_ns,
            )
            for place in self.places
        }

    def note(self, key: str) -> str:
        """A note of the story that is a string."""
        value = self.notes[key]
        assert isinstance(value, str)
        return value

    def log(self, name: str) -> str:
        """The text of a log of the case, empty where it does not exist."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def state(self, place: str, name: str) -> str | None:
        """A file of a place's state, None where it was not taken."""
        path = self.folder / place / "state" / name
        return path.read_text() if path.exists() else None

    def counter(self, place: str, name: str) -> int | None:
        """A counter of a place at the end of the run, by nstat's name; None where no state was taken."""
        text = self.state(place, "nstat.txt")
        if text is None:
            return None
        return next((int(words[1]) for words in map(str.split, text.splitlines()) if words[:1] == [name]), 0)

    def frames(self, place: str, display_filter: str) -> int:
        """How many frames of a place's captures a display filter of Wireshark takes."""
        files = sorted((self.folder / place).glob("*.pcap*"))
        command = ["tshark", "-n", "-Y", display_filter, "-r"]
        done = [subprocess.run([*command, str(path)], capture_output=True, text=True, check=False) for path in files]
        return sum(len(one.stdout.splitlines()) for one in done)

    def connections(self, server: str | None = None) -> dict[tuple[str, str], dict[str, list[Packet]]]:
        """Packets by (client, server) and place; the client is who sent a SYN, else the end with the higher port."""
        servers = {p.target for packets in self.packets.values() for p in packets if p.kind == "S"}
        servers |= {p.source for packets in self.packets.values() for p in packets if p.kind == "SA"}
        table: dict[tuple[str, str], dict[str, list[Packet]]] = defaultdict(lambda: defaultdict(list))
        for place, packets in self.packets.items():
            for packet in packets:
                ends = (packet.source, packet.target)
                if (packet.source in servers, -_port(packet.source)) > (
                    packet.target in servers,
                    -_port(packet.target),
                ):
                    ends = (packet.target, packet.source)
                if server is None or ends[1] == server:
                    table[ends][place].append(packet)
        return table

    def require(self, condition: object, what: str) -> None:
        """Raises StoryDidNotHappen with `what` unless the condition holds."""
        if not condition:
            raise StoryDidNotHappen(what)

    def require_healthy_outcomes(self, but: set[str] | None = None) -> None:
        """Every client program got all it asked for, except the clients in `but`."""
        for outcome in self.outcomes:
            if outcome["client"] not in (but or ()):
                self.require(outcome["error"] is None, f"a client that should be well met {outcome}")


def _port(text: str) -> int:
    return int(text.rsplit(":", 1)[1])


def _read(path: Path, place: str) -> Iterator[Packet]:
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-Y",
        "tcp && !icmp && !icmpv6",
        "-T",
        "fields",
        "-E",
        "occurrence=l",
    ]
    command += ["-o", "tcp.desegment_tcp_streams:false", "-o", "tcp.analyze_sequence_numbers:false"]
    command += [word for name in FIELDS for word in ("-e", name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        number, when, ip4s, ip4d, ip6s, ip6d, sport, dport, seq, ack, flags, length, tsval, ident, options, window = line.split("\t")
        if not sport:
            continue
        seconds, _, fraction = when.partition(".")
        source, target = (f"[{ip6s}]", f"[{ip6d}]") if ip6s else (ip4s, ip4d)
        yield Packet(
            place=place,
            file=path.name,
            frame=int(number),
            time_ns=int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0")),
            source=f"{source}:{sport}",
            target=f"{target}:{dport}",
            sequence=int(seq),
            acknowledgement=int(ack or 0),
            flags=int(flags, 16),
            length=int(length or 0),
            timestamp=int(tsval) if tsval else None,
            identification=int(ident, 16) if ident and not ip6s else 0,  # around IPv6 it is that of a tunnel's packet
            options=bytes.fromhex(options),
            window=int(window or 0),
        )
