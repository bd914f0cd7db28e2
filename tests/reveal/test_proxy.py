"""Connections with PROXY protocol headers go in; whom they name is held against what was written."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.reveal.reading import told
from tests.reveal.wire import Segment, Talk, write

CLIENT, SERVER = ("10.0.0.1", 40_000), ("10.0.0.80", 80)
REQUEST = b"GET / HTTP/1.1\r\nX-Team: red\r\n\r\n"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def v2(source: str, destination: str, ports: tuple[int, int], tlvs: bytes = b"") -> bytes:
    """A version 2 header for TCP."""
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed + struct.pack(">HH", *ports)
    family = 0x21 if ":" in source else 0x11
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(packed + tlvs)) + packed + tlvs


V1 = b"PROXY TCP4 1.2.3.4 9.9.9.9 4660 80\r\n"
V2 = v2("1.2.3.4", "9.9.9.9", (4660, 80), b"\x02\0\x04shop")
V2_6 = v2("2001:db8::9", "2001:db8::80", (4660, 80))


def capture(path: Path, first: bytes, *, size: int = 1400, opened: bool = True) -> Path:
    """A connection that begins with these bytes, in segments of a size."""
    talk = Talk(CLIENT, SERVER)
    segments: list[Segment] = talk.opens() if opened else []
    content = first + REQUEST
    segments += [talk.says(content[at : at + size]) for at in range(0, len(content), size)]
    return write(path / "a.pcap", [*segments, talk.hears()])


def said(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["layout"], row["what"], row["ip"], row["port"], row["ambiguous"], row["text"]) for row in rows]


@pytest.mark.parametrize("size", [1, 13, 1400])
@pytest.mark.parametrize(
    ("header", "layout", "client", "vip", "text"),
    [
        (V1, "proxy-v1", "1.2.3.4", "9.9.9.9", ""),
        (V2, "proxy-v2", "1.2.3.4", "9.9.9.9", "authority=shop"),
        (V2_6, "proxy-v2", "2001:db8::9", "2001:db8::80", ""),
    ],
)
def test_the_header_names_the_client_and_is_stepped_over(
    tmp_path: Path, header: bytes, layout: str, client: str, vip: str, text: str, size: int
) -> None:
    rows = told([capture(tmp_path, header, size=size)], ["X-Team"])
    assert said(rows.claims) == [(layout, "client", client, 4660, False, text), (layout, "vip", vip, 80, False, "")]
    assert [row["from_client"] for row in rows.claims] == [True, True]
    assert [row["frame"] for row in rows.claims] == [4, 4]
    assert [(row["name"], row["value"]) for row in rows.headers] == [("x-team", "red")]


@pytest.mark.parametrize(
    ("header", "what"),
    [(b"PROXY UNKNOWN\r\n", "unknown"), (SIGNATURE + b"\x20\x00\0\0", "local"), (SIGNATURE + b"\x21\x00\0\0", "unknown")],
)
def test_a_proxy_that_names_nobody(tmp_path: Path, header: bytes, what: str) -> None:
    rows = told([capture(tmp_path, header)])
    assert [(row["what"], row["ip"], row["port"]) for row in rows.claims] == [(what, None, None)]


def test_in_mid_connection_only_a_whole_header_in_the_very_first_payload(tmp_path: Path) -> None:
    """It may be what somebody wrote into a body: it is told as ambiguous."""
    rows = told([capture(tmp_path, V1, opened=False)])
    assert [(row["ip"], row["ambiguous"]) for row in rows.claims] == [("1.2.3.4", True), ("9.9.9.9", True)]
    assert told([capture(tmp_path, V1, opened=False, size=20)]).claims == []


def test_only_the_first_header_counts_and_only_the_initiators(tmp_path: Path) -> None:
    """A client behind a proxy may write a header of its own: it stands behind the proxy's. A server's bytes are no header at all."""
    rows = told([capture(tmp_path, V1 + V1.replace(b"1.2.3.4", b"6.6.6.6"))])
    assert [row["ip"] for row in rows.claims] == ["1.2.3.4", "9.9.9.9"]
    talk = Talk(CLIENT, SERVER)
    segments = [*talk.opens(), talk.hears(V1), talk.says(V1.replace(b"PROXY", b"proxy"))]
    assert told([write(tmp_path / "b.pcap", segments)]).claims == []
    talk = Talk(CLIENT, SERVER)
    late = [*talk.opens(), talk.says(REQUEST), talk.hears(), talk.says(V1)]
    assert told([write(tmp_path / "c.pcap", late)]).claims == []


def test_a_wrong_checksum_makes_it_ambiguous(tmp_path: Path) -> None:
    header = v2("1.2.3.4", "9.9.9.9", (4660, 80), b"\x03\0\x04\0\0\0\0")
    rows = told([capture(tmp_path, header)])
    assert [(row["ambiguous"], row["text"]) for row in rows.claims if row["what"] == "client"] == [(True, "crc32c=wrong")]
