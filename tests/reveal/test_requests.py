"""Connections of HTTP requests go in, cut, repeated, out of order and lossy; the tables are held against what was sent and tshark."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.reveal.reading import Told, told, tshark
from tests.reveal.wire import WRAPS, Segment, Talk, pieces, write


@dataclasses.dataclass
class Sent:
    """What was written: the segments, and (client, team) of each request."""

    segments: list[Segment]
    requests: Counter[tuple[str, str]]


def request(chance: random.Random, team: str, number: int, chunked: bool = True) -> bytes:
    """One request with a team, a forwarder, and a body in one framing or another."""
    body, framing = b"", ""
    match chance.randrange(4):
        case 0:
            body = chance.randbytes(chance.randrange(4000))
            framing = f"Content-Length: {len(body)}\r\n"
        case 1 if chunked:
            parts = [chance.randbytes(chance.randrange(1, 900)) for _ in range(chance.randrange(4))]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            framing = "Transfer-Encoding: chunked\r\n"
    method = "POST" if framing else "GET"
    padding = "x" * chance.randrange(600)
    fields = f"Host: shop\r\nCookie: {padding}\r\nX-Team: {team}\r\nX-Forwarded-For: 198.51.100.{number}\r\n{framing}"
    return f"{method} /{number} HTTP/1.1\r\n{fields}\r\n".encode() + body


def conversations(chance: random.Random, *, opened: bool, v6: bool, chunked: bool = True) -> Sent:
    """Several connections one after the other, each of several requests; each message is cut at random."""
    sent = Sent([], Counter())
    for connection in range(6):
        ip, server = ("2001:db8::1", "2001:db8::80") if v6 else ("10.0.0.1", "10.0.0.80")
        talk = Talk((ip, 40_000 + connection), (server, 80), isn=chance.randrange(2**32))
        handshake = talk.opens()
        sent.segments += handshake if opened else []
        for number in range(chance.randrange(1, 6)):
            team = f"team-{chance.randrange(3)}"
            sent.requests[f"{ip} {40_000 + connection}", team] += 1
            sent.segments += [talk.says(piece) for piece in pieces(chance, request(chance, team, number, chunked))]
            sent.segments.append(talk.hears())
    return sent


def teams(rows: Told) -> Counter[tuple[str, str]]:
    return Counter({(row["client"], row["value"]): row["count"] for row in rows.headers if row["name"] == "x-team" and row["from_client"]})


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("disorder", [False, True])
def test_all_requests_are_found_through_cuts_repetitions_and_disorder(tmp_path: Path, wrap: str, v6: bool, disorder: bool) -> None:
    """What tcpwhy tells is what was sent; tshark finds the same, but for what it misses itself among repetitions and disorder."""
    chance = random.Random(f"{wrap} {v6}")
    # tshark 4.0 calls a body in chunks malformed where its last bytes are a segment of their own.
    sent = conversations(chance, opened=True, v6=v6, chunked=disorder)
    segments = []
    for segment in sent.segments:
        segments.append(segment)
        if not disorder:
            continue
        if segment.payload and chance.random() < 0.2:
            segments.append(dataclasses.replace(segment, ip_id=segment.ip_id + 30_000))
        if len(segments) > 3 and segment.payload and segments[-2].payload and chance.random() < 0.2:
            segments[-2:] = segments[:-3:-1]
    capture = write(tmp_path / "a.pcap", segments, WRAPS[wrap])
    rows = told([capture], ["X-Team"])
    assert teams(rows) == sent.requests
    assert all(row["heads_lost"] == row["gaps"] == row["resynchronised"] == 0 for row in rows.requests)
    ip = "ipv6.src" if v6 else "ip.src"
    shown = tshark(capture, "http.request", ip, "tcp.srcport", "http.request.uri", "http.x_forwarded_for")
    ours = Counter({(row["client"], row["value"]): row["count"] for row in rows.headers if row["name"] == "x-forwarded-for"})
    theirs = Counter((f"{address.split('|')[-1]} {port}", forwarded) for address, port, _, forwarded in shown)
    assert theirs <= ours
    assert disorder or theirs == ours


def test_a_capture_that_begins_in_mid_connection(tmp_path: Path) -> None:
    """No handshake, and the first segments of each connection are missing: every request after them is found."""
    chance = random.Random(5)
    sent = conversations(chance, opened=False, v6=False)
    before: Counter[tuple[str, int]] = Counter()
    segments = []
    for segment in sent.segments:
        before[segment.source] += 1
        if segment.source[0] != "10.0.0.1" or before[segment.source] > 1:
            segments.append(segment)
    rows = told([write(tmp_path / "a.pcap", segments)], ["X-Team"])
    found = teams(rows)
    assert found <= sent.requests
    # Each connection lost its first request's first segment, and nothing more.
    assert (sent.requests - found).total() == 6


@pytest.mark.parametrize("seed", range(6))
def test_loss_costs_no_more_than_it_touches(tmp_path: Path, seed: int) -> None:
    """Segments that no capture shows, though the server had them: no request is invented, the loss is told."""
    chance = random.Random(seed)
    sent = conversations(chance, opened=True, v6=False)
    segments = [segment for segment in sent.segments if not segment.payload or chance.random() > 0.1]
    rows = told([write(tmp_path / "a.pcap", segments)], ["X-Team"])
    found = teams(rows)
    assert found <= sent.requests
    lost = len(sent.segments) - len(segments)
    missing = (sent.requests - found).total()
    assert missing <= lost
    if missing:
        assert sum(row["gaps"] for row in rows.requests) > 0


def test_what_the_snap_length_cut_of_bodies_loses_no_head(tmp_path: Path) -> None:
    """Each segment cut to 400 bytes: bodies of known length are stepped over."""
    chance = random.Random(9)
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    segments = talk.opens()
    for number in range(10):
        head = f"POST /{number} HTTP/1.1\r\nX-Team: red\r\nContent-Length: 5000\r\n\r\n".encode()
        message = head + chance.randbytes(5000)
        segments += [talk.says(message[at : at + 1400]) for at in range(0, len(message), 1400)]
        segments.append(talk.hears())
    cut = [dataclasses.replace(segment, cut=max(0, len(segment.payload) - 346)) for segment in segments]
    rows = told([write(tmp_path / "a.pcap", cut)], ["X-Team"])
    assert [(row["value"], row["count"]) for row in rows.headers if row["from_client"]] == [("red", 10)]
    assert [row["heads_lost"] for row in rows.requests] == [0]


def test_lines_of_one_name_are_joined_and_long_values_cut(tmp_path: Path) -> None:
    """Two lines and a folded one are one value; one of 600 bytes is cut at 512, and says so."""
    forwarded = b"x-forwarded-FOR: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2,\r\n  3.3.3.3\r\n"
    head = b"GET / HTTP/1.1\r\n%bForwarded: for=%b\r\n\r\n" % (forwarded, b"y" * 600)
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    rows = told([write(tmp_path / "a.pcap", [*talk.opens(), talk.says(head), talk.hears()])])
    values = {row["name"]: (row["value"], row["cut"]) for row in rows.headers}
    assert values == {"x-forwarded-for": ("1.1.1.1, 2.2.2.2, 3.3.3.3", False), "forwarded": ("for=" + "y" * 508, True)}


def test_sixteen_values_of_a_name_are_kept_and_more_are_counted(tmp_path: Path) -> None:
    """A gateway's connection carries forty clients' requests."""
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    segments = talk.opens()
    for number in range(40):
        segments += [talk.says(b"GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.%d\r\n\r\n" % number), talk.hears()]
    rows = told([write(tmp_path / "a.pcap", segments)])
    assert [row["value"] for row in rows.headers] == [f"1.1.1.{number}" for number in range(16)]
    assert [(row["requests"], row["headers_lost"]) for row in rows.requests] == [(40, 24)]


def test_tls_and_http2_are_said_and_left_alone(tmp_path: Path) -> None:
    """A ClientHello's record and the HTTP/2 preface."""
    segments = []
    for port, first in ((40_000, bytes.fromhex("16030100c8010000c40303") + b"\0" * 100), (40_001, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")):
        talk = Talk(("10.0.0.1", port), ("10.0.0.80", 443))
        segments += [*talk.opens(), talk.says(first), talk.hears(b"\x16\x03\x03")]
        segments.append(talk.says(b"GET / HTTP/1.1\r\nX-Team: inside\r\n\r\n"))
    rows = told([write(tmp_path / "a.pcap", segments)], ["X-Team"])
    assert [(row["is_tls"], row["is_http2"], row["requests"]) for row in rows.requests] == [(True, False, 0), (False, True, 0)]
    assert rows.headers == []


def test_a_request_in_an_uploaded_file_is_none(tmp_path: Path) -> None:
    """A client uploads a log of requests: their headers are not its own, wherever the segments begin."""
    inner = b"GET /victim HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    body = inner * 30
    talk = Talk(("10.0.0.1", 40_000), ("10.0.0.80", 80))
    segments = [*talk.opens(), talk.says(b"PUT /log HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))]
    segments += [talk.says(inner) for _ in range(30)]
    # The first piece of the body is never seen, and the last is cut short by the end of the capture.
    del segments[4]
    rows = told([write(tmp_path / "a.pcap", segments[:-1])])
    assert rows.headers == []
    assert [row["requests"] for row in rows.requests] == [1]
