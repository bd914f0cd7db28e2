"""A file goes in, what it is comes out: told from its content, with the name as a hint only."""

from __future__ import annotations

import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tcpwhy.evidence.compression import SUFFIXES, compression_of, is_readable, read_head
from tcpwhy.evidence.pasted import LISTED, as_printed, shows_packet
from tcpwhy.evidence.state_kind import state_name_of

Kind = Literal["capture", "log", "listing", "table", "archive", "settings", "empty", "unknown"]
"""`listing` is the text that tcpdump or tshark prints; `table` is one of a host's connections (state_kind.py), under any name;
`settings` is a tcpwhy.toml."""

Sniff = Callable[[str], str | None]
"""The decode core's opinion: what a file is if it is a capture, else None. Given by the caller: evidence
imports no core."""

SETTINGS_NAME = "tcpwhy.toml"

PCAP_MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\xcd\x34": (">", 1_000),
    b"\x34\xcd\xb2\xa1": ("<", 1_000),
}
"""Magic → byte order and nanoseconds a unit; the last two are the modified form with longer record headers
(libpcap sf-pcap.c)."""

PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
PCAPNG_ORDER = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}

HEAD = 8192
"""Bytes looked at."""

CAPTURE_NAME = re.compile(r"\.(?:pcap|cap|pcapng|ntar|dmp)\d*(?:\.|$)", re.IGNORECASE)
LOG_NAME = re.compile(r"(?:\.(?:log|ndjson|jsonl|out|err)(?:[.\-_]|$)|_log$|^(?:syslog|messages|error|stderr|stdout)\b)", re.I)
_DATED = re.compile(
    rb"^.{0,120}?(?:\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d"
    rb"|\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)|^\s*\{\s*\""
)
_LISTED = re.compile(
    rb"^[\s>|]*(?:(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d+|\d+\.\d{6,9})?"
    rb"\s*(?:\S+\s+(?:In|Out|B|M|P)\s+)?(?:(?:IP6?|ARP,?)\s\S|(?:[0-9a-f]{2}:){5}[0-9a-f]{2} > (?:[0-9a-f]{2}:){5})"
    rb"|^[\s>|]*\d+\s+(?:\d{4}-\d\d-\d\d )?(?:\d\d:\d\d:)?\d+\.\d{6,9}\s+\S+\s+(?:\xe2\x86\x92|->)\s+\S*\s"
    rb"|^\s*0x[0-9a-f]{4}:  |^[\s>|]+[0-9a-fA-F.:]{7,45} > [0-9a-fA-F.:]{7,45}: "
)
_CONTROL = bytes(value for value in range(32) if value not in b"\0\t\n\r\f\x1b") + b"\x7f"


def is_capture(head: bytes) -> bool:
    """True where the plain first bytes are a pcap or pcapng header."""
    if head[:4] in PCAP_MAGIC:
        return True
    return head[:4] == PCAPNG_MAGIC and head[8:12] in PCAPNG_ORDER


def is_text(head: bytes) -> bool:
    """True where bytes look like text in UTF-8 or a superset of ASCII.

    Zeros before it (a truncated live log) are allowed.
    """
    body = head.strip(b"\0")
    if not body:
        return False
    control = len(body) - len(body.translate(None, _CONTROL))
    zeros = body.count(0)
    foreign = body.decode("utf-8", "replace").count("\ufffd")
    return control * 50 <= len(body) and zeros * 4 <= len(body) and foreign * 10 <= len(body) * 3


def _is_tar(head: bytes) -> bool:
    if len(head) < 512 or not head[:512].strip(b"\0"):
        return False
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, struct.error, OverflowError):
        return False
    return True


def kind_of(path: Path, sniff: Sniff | None = None) -> Kind:
    """What a regular file is. Raises OSError where it cannot be opened or read.

    A zstd or lz4 file whose program is not installed is judged by `sniff`, else by its name.
    """
    if path.name == SETTINGS_NAME:
        return "settings"
    with path.open("rb") as stream:
        raw = stream.read(512)
    if not raw:
        return "empty"
    compression = compression_of(raw)
    if compression and not is_readable(compression):
        return _hidden_kind(path, sniff)
    head = read_head(path, HEAD)
    if raw.startswith((b"PK\x03\x04", b"PK\x05\x06")) or _is_tar(head):
        return "archive"
    if is_capture(head) or (sniff is not None and not is_text(head) and sniff(str(path)) is not None):
        return "capture"
    kind = text_kind(head, path.name)
    # Files of a state are read as they lie.
    return "unknown" if kind == "table" and compression else kind


def _hidden_kind(path: Path, sniff: Sniff | None) -> Kind:
    if ".tar." in path.name:
        return "archive"
    if sniff is not None:
        return "capture" if sniff(str(path)) is not None else "unknown"
    return "capture" if CAPTURE_NAME.search(path.name) else "unknown"


def text_kind(head: bytes, name: str) -> Kind:
    """Whether plain first bytes are a log, a listing of packets, a table of connections, or nothing known."""
    if not head:
        return "empty"
    if not is_text(head):
        return "unknown"
    lines = [line for line in head.strip(b"\0").split(b"\n")[:40] if line.strip()]
    if not lines:
        return "unknown"
    if state_name_of(head) is not None:
        return "table"
    listed = sum(1 for line in map(as_printed, lines) if _LISTED.match(line[:400]) or LISTED.search(line[:400]))
    # tcpdump -v prints the head of a message below its packet, indented with a tab (its txtproto_print()).
    own = sum(1 for line in lines if not line.startswith(b"\t"))
    if listed and listed * 2 >= own and (shows_packet(head) or listed * 5 >= own * 4):
        return "listing"
    if LOG_NAME.search(plain_name(name)):
        return "log"
    if any(_DATED.match(line[:400]) for line in lines) and not name.endswith((".md", ".toml", ".py", ".sh", ".html", ".expected.json")):
        return "log"
    return "unknown"


def plain_name(name: str) -> str:
    """A file's name without the ending of its compression."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
