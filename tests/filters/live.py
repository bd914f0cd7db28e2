"""Expressions and rules go in; what a live tcpdump takes and sees, and what a mark on a connection reaches, comes out.

Runs as a program inside a network namespace: `python live.py` reads JSON from standard input and writes JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_MEMORY = Path("/proc/sys/net/core/optmem_max")
"""Older kernels have one for all namespaces, and show it in the first one only."""
ETH_P_ALL = 3  # linux/if_ether.h
CLIENT_MAC, SERVER_MAC = b"\x02\0\0\0\0\x09", b"\x02\0\0\0\0\x01"


def seen_by_tcpdump(wire: socket.socket, expression: str, frames: list[bytes], most_memory: int) -> dict[str, object]:
    """What tcpdump warns of, and how many of the frames it writes, while the kernel allows a filter so many bytes."""
    MOST_MEMORY.write_text(str(most_memory))
    with tempfile.NamedTemporaryFile() as out:
        command = ["tcpdump", "-n", "-i", "eth0", "-s", "144", "-U", "-w", out.name, expression]
        watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert watcher.stderr
        said = ""
        while "listening on" not in said:
            line = watcher.stderr.readline()
            if not line:
                sys.exit(said)
            said += line
        for frame in frames:
            wire.send(frame)
        if frames:
            time.sleep(1.2)  # libpcap hands a block of its ring over after at most a second
        watcher.terminate()
        said += watcher.communicate()[1]
        data = Path(out.name).read_bytes()
    count, at = 0, 24
    while at < len(data):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
        count += 1
    return {"warned": "Warning" in said, "frames": count}


def marked_packets(wire: socket.socket, matches: list[str], option: bytes) -> list[int]:
    """Flags of the packets from the client that have the connection's mark, of a connection whose SYN has the option.

    A listener of this namespace is the server; the client is written by hand on the other end.
    """
    rules = ["table inet seen {", "set nft { type inet_service; }", "chain c { type filter hook prerouting priority -150; }", "}"]
    rules += [f"add rule inet seen c {match} ct mark set 1" for match in matches]
    for flags in ("syn", "ack", "psh | ack"):
        rules.append(f"add rule inet seen c tcp flags == {flags} ct mark 1 counter")
    subprocess.run(["nft", "-f", "-"], input="\n".join(rules) + "\n", text=True, check=True)
    with socket.create_server(("10.0.0.1", 80)) as server:
        _talk(wire, server, option)
    shown = json.loads(subprocess.run(["nft", "-j", "list", "chain", "inet", "seen", "c"], capture_output=True, check=True).stdout)
    return [one["counter"]["packets"] for rule in shown["nftables"] if "rule" in rule for one in rule["rule"]["expr"] if "counter" in one]


def _talk(wire: socket.socket, server: socket.socket, option: bytes) -> None:
    """SYN with the option, then an ACK and data without it, by the numbers that the server's SYN-ACK has."""
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    heard.bind(("p0", ETH_P_ALL))
    heard.settimeout(5)
    wire.send(_frame(0x02, 100, 0, option))
    while True:
        answer = heard.recv(2048)
        if len(answer) >= 54 and answer[12:14] == b"\x08\x00" and answer[23] == 6 and answer[47] == 0x12:
            break
    acknowledged = struct.unpack_from("!I", answer, 38)[0] + 1
    wire.send(_frame(0x10, 101, acknowledged))
    accepted, _ = server.accept()
    wire.send(_frame(0x18, 101, acknowledged, payload=b"GET /"))
    accepted.settimeout(5)
    if accepted.recv(10) != b"GET /":
        sys.exit("the server did not get what the client sent")
    accepted.close()
    heard.close()


def _frame(flags: int, number: int, acknowledged: int, options: bytes = b"", payload: bytes = b"") -> bytes:
    from tests.filters.frames import checksum

    content = (
        struct.pack("!HHIIHHHH", 3333, 80, number, acknowledged, (20 + len(options)) // 4 << 12 | flags, 5000, 0, 0) + options + payload
    )
    ends = socket.inet_aton("10.0.0.9") + socket.inet_aton("10.0.0.1")
    total = checksum(ends + struct.pack("!HH", 6, len(content)) + content + b"\0" * (len(content) % 2))
    content = content[:16] + struct.pack("!H", total) + content[18:]
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(content), 7, 0, 64, 6)
    return SERVER_MAC + CLIENT_MAC + b"\x08\x00" + head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + content


def main() -> None:
    """The program inside the namespace."""
    from tests.filters.netfilter import set_up

    task = json.load(sys.stdin)
    wire = set_up()
    if "matches" in task:
        print(json.dumps(marked_packets(wire, task["matches"], bytes.fromhex(task["option"]))))
        return
    if not MOST_MEMORY.exists():
        print("null")
        return
    frames = [bytes.fromhex(text) for text in task["frames"]]
    time.sleep(1)  # IPv6's own packets are out
    print(json.dumps([seen_by_tcpdump(wire, expression, frames, memory) for expression, memory in task["runs"]]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
