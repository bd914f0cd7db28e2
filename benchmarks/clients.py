"""A number of connections goes in; a case of them behind a full-NAT balancer, and what `tcpwhy clients` takes on it, come out.

`python -m benchmarks.clients --connections 1000000 --folder FOLDER`
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import measure

TEAMS = (b"checkout", b"search", b"stock", b"billing")
BEGIN_S = 1_790_000_000
OPENED_A_SECOND = 2_000


def _frame(source: bytes, sport: int, target: bytes, dport: int, seq: int, ack: int, flags: int, options: bytes, payload: bytes) -> bytes:
    head = 20 + len(options)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + head + len(payload), 0, 0x4000, 63, 6, 0) + source + target
    tcp = struct.pack(">HHIIHHHH", sport, dport, seq, ack, head // 4 << 12 | flags, 502, 0, 0)
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + ip + tcp + options + payload


def write_case(folder: Path, connections: int) -> Path:
    """One backend's capture: handshakes without option, requests with TOA and X-Team, answers; 60,000 of them from each address."""
    path = folder / "rs1" / "rs1.pcap"
    path.parent.mkdir(parents=True, exist_ok=True)
    server = bytes((10, 9, 0, 11))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with path.open("wb", buffering=1 << 20) as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for number in range(connections):
            balancer = bytes((10, 9, 1, number // 60_000))
            port = 1_025 + number % 60_000
            client = bytes((100, 64 + (number >> 16 & 63), number >> 8 & 255, number & 255))
            toa = struct.pack(">BBH", 254, 8, 20_000 + number % 40_000) + client
            request = b"GET / HTTP/1.1\r\nHost: old\r\nX-Team: %b\r\n\r\n" % TEAMS[number % len(TEAMS)]
            isn, server_isn = number * 7_919 & 0xFFFF_FFFF, number * 104_729 & 0xFFFF_FFFF
            c, s = isn + 1 & 0xFFFF_FFFF, server_isn + 1 & 0xFFFF_FFFF
            frames = (
                _frame(balancer, port, server, 80, isn, 0, 0x02, b"", b""),
                _frame(server, 80, balancer, port, server_isn, c, 0x12, b"", b""),
                _frame(balancer, port, server, 80, c, s, 0x18, toa, request),
                _frame(server, 80, balancer, port, s, c + len(request) & 0xFFFF_FFFF, 0x18, b"", answer),
            )
            second, part = divmod(number, OPENED_A_SECOND)
            for step, frame in enumerate(frames):
                at = part * (1_000_000_000 // OPENED_A_SECOND) + step * 1_000
                out.write(struct.pack("<IIII", BEGIN_S + second, at, len(frame), len(frame)) + frame)
    return folder


def main() -> None:
    """Prints time and peak memory of each form of the answer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--connections", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--folder", type=Path, help="where to put the case (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tcpwhy-") as temporary:
        case = write_case(arguments.folder or Path(temporary), arguments.connections)
        program = [sys.executable, "-m", "tcpwhy.cli"] if not Path(sys.executable).with_name("tcpwhy").exists() else []
        tcpwhy = program or [str(Path(sys.executable).with_name("tcpwhy"))]
        for words in (
            ("index",),
            ("clients", "--group-by", "header:X-Team"),
            ("clients", "--format", "json"),
            ("clients", "--format", "csv"),
            ("clients", "--format", "parquet"),
            ("clients", "--header", "X-Team"),
        ):
            usage = measure([*tcpwhy, words[0], str(case), *words[1:]])
            print(f"{' '.join(words):40} {usage}")


if __name__ == "__main__":
    main()
