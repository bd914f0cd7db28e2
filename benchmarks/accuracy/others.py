"""A case comes in; what tshark's expert info and tcptrace flag in its captures goes out, connection by connection."""

from __future__ import annotations

import contextlib
import csv
import ipaddress
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

Ends = tuple[str, str]
"""Both ends as `ip:port`, in alphabetic order: neither program knows who the client is in every capture."""

KEPT = "others.json"

BAD_TCP = "tcp.analysis.flags"
NOT_BAD = ("tcp.analysis.window_update", "tcp.analysis.keep_alive", "tcp.analysis.keep_alive_ack")
"""What has BAD_TCP and none of these, Wireshark's own colouring rules call `Bad TCP`."""

AGAIN_S = 0.15
"""What is seen again after so long is no copy that the capture made, but was sent again (Linux repeats after 0.2 s, TCP_RTO_MIN)."""


class Told(msgspec.Struct, frozen=True):
    """What one program said of one capture."""

    place: str
    readable: bool
    connections: tuple[Ends, ...]
    flagged: tuple[Ends, ...]


class Others(msgspec.Struct, frozen=True):
    """What both said of all captures of a case."""

    tshark: tuple[Told, ...]
    tcptrace: tuple[Told, ...]
    troubled: dict[str, tuple[Ends, ...]]
    """By place: connections whose packets there hold a reset, data or a SYN sent again, or a closed window, as tshark dissects them."""


def versions() -> dict[str, str]:
    """The version of each program that is installed."""
    found = {}
    for name, command in (("tshark", ["tshark", "--version"]), ("tcptrace", ["tcptrace", "-v"])):
        if shutil.which(name):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            number = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout + done.stderr)
            found[name] = number[0] if number else "unknown"
    return found


def ask(case: Path) -> Others:
    """Ask both programs about a case; what they said is kept beside it, and taken from there next time."""
    kept = case.parent / KEPT
    if kept.exists():
        with contextlib.suppress(msgspec.ValidationError):  # written by another version of this file
            return msgspec.json.decode(kept.read_bytes(), type=Others)
    captures = sorted(path for path in case.glob("*/*.pcap*") if path.is_file())
    troubled: dict[str, set[Ends]] = {path.parent.name: set() for path in captures}
    first = []
    for path in captures:
        told, in_trouble = tshark(path)
        troubled[path.parent.name] |= in_trouble
        first.append(told)
    second = (tcptrace(path, empty=not told.connections) for path, told in zip(captures, first, strict=True))
    others = Others(
        tuple(first),
        tuple(second) if shutil.which("tcptrace") else (),
        {place: tuple(sorted(found)) for place, found in troubled.items()},
    )
    kept.write_bytes(msgspec.json.encode(others))
    return others


ENDS = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport")
NUMBERS = ("frame.time_epoch", "tcp.flags", "tcp.seq_raw", "tcp.len", "tcp.window_size_value", BAD_TCP, *NOT_BAD)
SYN, RST = 0x02, 0x04  # RFC 9293 section 3.1


def tshark(capture: Path) -> tuple[Told, set[Ends]]:
    """What it flags (a reset, of which its expert info warns, or bad TCP), and the connections in trouble by plain packets.

    The latter are those with a reset, data or a SYN sent again, or a closed window, without any analysis.
    """
    every, flagged, troubled = set(), set(), set()
    first_seen: dict[tuple[str, ...], float] = {}
    command = ["tshark", "-n", "-r", str(capture), "-Y", "tcp && !icmp && !icmpv6", "-T", "fields", "-E", "occurrence=l"]
    command += [word for name in (*ENDS, *NUMBERS) for word in ("-e", name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        ip4s, ip4d, ip6s, ip6d, sport, dport, epoch, bits, seq, size, room, analysed, *harmless = line.split("\t")
        ends = both(_end(ip6s or ip4s, sport), _end(ip6d or ip4d, dport))
        time, flags, length, window = float(epoch), int(bits, 16), int(size or 0), int(room or 0)
        again = False
        if length or flags & SYN:  # That a FIN is lost meets no program: all that it wanted to say had been said.
            key = (ip4s, ip6s, sport, dport, seq, size)
            again = time - first_seen.setdefault(key, time) > AGAIN_S
        every.add(ends)
        if flags & RST or (analysed and not any(harmless)):
            flagged.add(ends)
        if again or flags & RST or not (window or flags & SYN):
            troubled.add(ends)
    return Told(capture.parent.name, True, tuple(sorted(every)), tuple(sorted(flagged))), troubled


def tcptrace(capture: Path, *, empty: bool) -> Told:
    """Flagged is a connection of which it counts a reset, a retransmission or a zero window, or packets of one side only.

    A capture in which it sees nothing is one that it cannot read (a link type that it does not know), unless that is `empty`.
    """
    done = subprocess.run(["tcptrace", "-n", "-l", "--csv", str(capture)], capture_output=True, text=True, errors="replace", check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
    head = next((number for number, line in enumerate(lines) if line.startswith("conn_#")), None)
    every, flagged = set(), set()
    for row in csv.DictReader(lines[head:], skipinitialspace=True) if head is not None else ():
        ends = both(_end(row["host_a"], row["port_a"]), _end(row["host_b"], row["port_b"]))
        every.add(ends)
        bad = any(_number(row[f"{name}_{way}"]) for name in ("resets_sent", "rexmt_data_pkts", "zero_win_adv") for way in ("a2b", "b2a"))
        if bad or not _number(row["total_packets_a2b"]) or not _number(row["total_packets_b2a"]):
            flagged.add(ends)
    return Told(capture.parent.name, head is not None or empty, tuple(sorted(every)), tuple(sorted(flagged)))


def _number(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() else 0


def _end(address: str, port: str) -> str:
    with contextlib.suppress(ValueError):  # tcptrace writes `::1` as `:0001`: kept, for it is a connection all the same
        address = str(ipaddress.ip_address(address))
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def both(one: str, other: str) -> Ends:
    """Two ends in alphabetic order."""
    return (one, other) if one < other else (other, one)
