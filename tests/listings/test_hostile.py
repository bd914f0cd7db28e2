"""Any bytes as a listing: it ends, in bounded memory and time, with what it could read."""

from __future__ import annotations

import contextlib
import resource
import tempfile
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwhy.evidence.kind import text_kind
from tests.listings.printing import converted
from tests.listings.test_tickets import LISTING

TSHARK = """\
    1 0.000000000     10.0.0.1 → 10.0.0.2     TCP 74 40000 → 80 [SYN] Seq=0 Win=64240 Len=0 MSS=1460 SACK_PERM TSval=1 TSecr=0 WS=128
    2 0.000100000     10.0.0.2 → 10.0.0.1     TCP 74 80 → 40000 [SYN, ACK] Seq=0 Ack=1 Win=65160 Len=0 MSS=1460 TSval=9 TSecr=1 WS=128
    3 0.000200000     10.0.0.1 → 10.0.0.2     HTTP 165 GET / HTTP/1.1
    4 0.000300000     10.0.0.2 → 10.0.0.1     TCP 66 80 → 40000 [RST, ACK] Seq=1 Ack=100 Win=0 Len=0
"""
PIECES = st.sampled_from(
    [
        *LISTING.split(" "),
        *TSHARK.split(" "),
        "\n",
        "IP6 ::1.1 > ::1.2: ",
        "(tos 0x0, ttl 1, id 1",
        "options [",
        "VXLAN, flags [I] (0x08), vni 1\n",
    ]
)


@given(st.binary(max_size=2_000))
def test_any_bytes_end(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text_kind(data, "ticket.txt")
        with contextlib.suppress(OSError):  # data that begins like a compressed file and is none
            converted(data, Path(folder))


@settings(max_examples=300)
@given(st.lists(PIECES | st.text(max_size=6), max_size=120))
def test_any_order_of_a_listings_words_ends(pieces: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made, lines = converted("".join([LISTING, TSHARK, " ".join(pieces)]).encode("utf-8", "replace"), Path(folder))
        assert all(lines.line(frame) >= 1 for frame in range(1, made.packets + 1))


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_listing_ends(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from((LISTING, TSHARK))).encode()
    damaged = bytearray(source)
    for at in data.draw(st.lists(st.integers(0, len(source) - 1), max_size=12)):
        damaged[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        converted(bytes(damaged), Path(folder))


def test_huge_lines_and_long_records_take_linear_time(tmp_path: Path) -> None:
    first = LISTING.splitlines()[0]
    texts = {
        "one line": LISTING + "x" * (8 << 20),
        "options without end": first.split("options [")[0] + "options [" + "mss 1," * 1_000_000,
        "brackets": "10:00:00.000000 IP (tos 0x0, " + "(" * 200_000 + "\n" + LISTING,
        "continuations": first + "\n" + "    again\n" * 400_000,
        "dump": first + "\n" + "\t0x0000:  4500 003c d89b 4000\n" * 200_000,
    }
    for name, text in texts.items():
        began = time.process_time()
        converted(text, tmp_path / name.replace(" ", "-"))
        assert time.process_time() - began < 30, name


def test_a_flood_of_connections_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "flood.txt"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with path.open("w") as out:
        for number in range(50_000):
            out.write(
                f"10:00:{number // 10_000:02}.{number % 10_000:04}00 IP 10.{number >> 16}.{number >> 8 & 255}.{number & 255}.40000 > "
                f"10.9.0.2.80: Flags [S], seq {number}, win 1, length 0\n"
            )
    made, lines = converted(path.read_bytes(), tmp_path / "made")
    assert made.packets == 50_000
    assert lines.line(50_000) == 50_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KiB
