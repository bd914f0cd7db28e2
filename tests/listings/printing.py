"""Captures go in, listings as tcpdump and tshark print them come out; a listing opened as a case gives its packets as a table."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tcpwhy
from tcpwhy.evidence.pasted import find_sections
from tcpwhy.tables.listings._capture import Lines
from tcpwhy.tables.listings._convert import Converted, Listing, convert
from tests.programs import installed

TCPDUMP = {
    "tcpdump -n": ("-n",),
    "tcpdump -nv": ("-nv",),
    "tcpdump -nvv": ("-nvv",),
    "tcpdump -nS": ("-nS",),
    "tcpdump -ne": ("-ne",),
    "tcpdump -nX": ("-nX",),
    "tcpdump -tt": ("-n", "-tt"),
    "tcpdump -ttt": ("-n", "-ttt"),
    "tcpdump -tttt": ("-n", "-tttt"),
    "tcpdump -ttttt": ("-n", "-ttttt"),
    "tcpdump --nano": ("-n", "--nano"),
    "tcpdump -nevvSXtttt": ("-nevvSXtttt",),
    "tcpdump -nvvvK#": ("-nvvvK#",),
}
TSHARK = {
    "tshark": (),
    "tshark -t ad": ("-t", "ad"),
    "tshark -t e": ("-t", "e"),
    "tshark -t d": ("-t", "d"),
    "tshark absolute": ("-o", "tcp.relative_sequence_numbers:FALSE"),
}
FORMS = (*TCPDUMP, *TSHARK)


def printed(capture: Path, form: str) -> str:
    """What the real program prints of a capture. Skips the test where it is not installed."""
    program, arguments = ("tcpdump", TCPDUMP[form]) if form in TCPDUMP else ("tshark", ("-n", *TSHARK[form]))
    done = subprocess.run(
        [installed(program), *arguments, "-r", str(capture)], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "TZ": "UTC"}
    )
    return done.stdout.decode("utf-8")


def listing(path: Path, zone_s: int | None = None) -> Listing:
    """A text as one place's listings."""
    return Listing(path, path.name, tuple(find_sections(path)), None if zone_s is None else lambda _local: zone_s * 10**9, None)


def converted(text: str | bytes, folder: Path) -> tuple[Converted, Lines]:
    """A listing made into a capture, with its table of lines."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "listing.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    made = convert(listing(path), folder / "made.pcapng")
    return made, Lines(made.table)


def packets(arguments: str | Sequence[str]) -> list[dict[str, Any]]:
    """All packets of a case's connections, in the order of frames."""
    found: list[dict[str, Any]] = []
    with tcpwhy.open_case(arguments, index=False) as case:
        flows = case.flows()
        at = {name: number for number, name in enumerate(flows.columns)}
        names = {
            f"{_end(row[at['client_ip']], row[at['client_port']])}-{_end(row[at['server_ip']], row[at['server_port']])}"
            for row in flows.rows()
        }
        for name in sorted(names):
            table = case.packets(name)
            found += [dict(zip(table.columns, row, strict=True)) for row in table.rows()]
    return sorted(found, key=lambda packet: packet["frame"])


def _end(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
