"""What a file is, whatever it is called."""

import gzip
import lzma
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpwhy.evidence.capture_times import CaptureTimes, read_capture_times, read_first_time
from tcpwhy.evidence.kind import kind_of
from tests.evidence.captures import pcap, pcapng

NOISE = random.Random(7).randbytes(4000)
LISTING = "12:00:00.000001 IP 10.0.0.1.5000 > 10.0.0.2.80: Flags [S], seq 1, win 1, length 0\n" * 3
VERBOSE = (
    "12:00:00.000001 IP (tos 0x0, ttl 63, id 1, offset 0, flags [DF], proto TCP (6), length 167)\n"
    "    10.0.0.1.5000 > 10.0.0.2.80: Flags [P.], cksum 0x96b8 (correct), seq 1:116, ack 1, win 63, length 115: HTTP, length: 115\n"
    "\tGET / HTTP/1.1\n\tHost: checkout.example:80\n\tAccept: */*\n\tX-Request-Id: 671131b26ec18bb5\n\tUser-Agent: a\n\t\n"
) * 8
"""tcpdump -v prints the head of a message on lines of its own, which are more than those of the packets."""
TSHARK = "3841744 220.895866 10.0.0.1 → 10.0.0.2 HTTP 3501 POST /x\n" * 3


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("x.log", pcap(1), "capture"),
        ("x", pcapng(1, order=">"), "capture"),
        ("x.dat", gzip.compress(pcap(1)), "capture"),
        ("x.dat", lzma.compress(pcap(1, nanoseconds=True)), "capture"),
        ("x.log", NOISE, "unknown"),
        ("x.pcap", NOISE, "unknown"),
        ("x.log", b"", "empty"),
        ("x.log.gz", gzip.compress(b""), "empty"),
        ("x.log", b"started\n", "log"),
        ("x.log.2.gz", gzip.compress(b"started\n"), "log"),
        ("x.log", b"\0" * 6000 + b"2023/05/05 17:33:07 x\n", "log"),
        ("x.log", "网关 错误\n".encode(), "log"),
        ("x.log", "网关 错误 2023-05-05 17:33:07\n".encode("gbk"), "log"),
        ("gateway.txt", b"May 05 17:33:07 host x: y\n", "log"),
        ("x.ndjson", b'{"a":1}\n', "log"),
        ("notes.txt", b"hello world\n", "unknown"),
        ("x.txt", LISTING.encode(), "listing"),
        ("x.log", TSHARK.encode(), "listing"),
        ("x.txt", VERBOSE.encode(), "listing"),
        ("x.txt", b"\tindented\n\tlines\n" * 20, "unknown"),
        ("tcpwhy.toml", b"", "settings"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_kinds(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert kind_of(tmp_path / name) == kind


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.sampled_from([pcap(1, 2, 3), pcapng(1, 2, 3), gzip.compress(pcap(1))]).flatmap(
            lambda data: st.tuples(st.integers(0, len(data)), st.binary(max_size=9)).map(
                lambda p: data[: p[0]] + p[1] + data[p[0] + len(p[1]) :]
            )
        ),
    )
)
def test_any_bytes_have_a_kind_and_perhaps_times(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(data)
    kind_of(path)
    read_capture_times(path)
    read_first_time(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_times_of_small_and_large_captures(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(pcap(5, 6, 7.5, order=order))
    assert read_capture_times(path) == CaptureTimes(5 * 10**9, 7_500_000_000, (1,))
    path.write_bytes(pcapng(5, 6, 7.5, order=order, resolution=9))
    assert read_capture_times(path) == CaptureTimes(5 * 10**9, 7_500_000_000, (1,))
    start = 1_700_000_000
    for data in (
        pcap(*range(start, start + 9000), order=order, size=1000),
        pcapng(*range(start, start + 100_000), order=order),
    ):
        path.write_bytes(data)
        times = read_capture_times(path)
        assert len(data) > 8 << 20
        assert times.first_ns == start * 10**9
        assert times.last_ns in ((start + 8999) * 10**9, (start + 99_999) * 10**9)
    path.write_bytes(pcap())
    assert read_capture_times(path) == CaptureTimes(None, None, (1,))
