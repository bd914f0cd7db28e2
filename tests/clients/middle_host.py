"""A host between clients and a server, in namespaces of this kernel, rewrites or balances connections; its state and the truth come out.

Run by itself in a network and mount namespace of its own, or as the work of a User Mode Linux: `middle_host.py FOLDER nat|ipvs`.
It writes FOLDER/middle/state/ (record/collect.sh) and FOLDER/truth.json: a row a connection that the server has accepted, with the
client's own end as the client itself says it, and both ends as the server sees them.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PORTS = (8080, 81, 82)
COLLECT = Path(__file__).parents[2] / "src" / "tcpwhy" / "record" / "collect.sh"

NET = """\
ip link set lo up
ip netns add client
ip netns add server
ip link add c0 type veth peer name eth0 netns client
ip link add s0 type veth peer name eth0 netns server
ip addr add 10.1.0.1/24 dev c0
ip addr add 10.2.0.1/24 dev s0
ip addr add fd01::1/64 dev c0 nodad
ip addr add fd02::1/64 dev s0 nodad
ip link set c0 up
ip link set s0 up
ip -n client link set lo up
ip -n client link set eth0 up
ip -n client addr add 10.1.0.2/24 dev eth0
ip -n client addr add 10.1.0.3/24 dev eth0
ip -n client addr add fd01::2/64 dev eth0 nodad
ip -n client route add default via 10.1.0.1
ip -n client -6 route add default via fd01::1
ip -n server link set lo up
ip -n server link set eth0 up
ip -n server addr add 10.2.0.2/24 dev eth0
ip -n server addr add 10.2.0.3/24 dev eth0
ip -n server addr add fd02::2/64 dev eth0 nodad
ip -n server route add default via 10.2.0.1
ip -n server -6 route add default via fd02::1
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
"""
NAT = """\
iptables -t nat -A PREROUTING -d 10.9.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.2.0.2:8080
iptables -t nat -A POSTROUTING -o s0 -p tcp -s 10.1.0.2 -j MASQUERADE --to-ports 20000-20999
iptables -t nat -A POSTROUTING -o s0 -p tcp --dport 81 -j SNAT --to-source 10.2.0.1:30000-30999
iptables -t raw -A PREROUTING -p tcp --dport 81 -j CT --zone 5
iptables -t raw -A PREROUTING -p tcp --sport 81 -j CT --zone 5
ip6tables -t nat -A PREROUTING -d fd09::1 -p tcp --dport 80 -j DNAT --to-destination [fd02::2]:8080
ip6tables -t nat -A POSTROUTING -o s0 -p tcp -j MASQUERADE --to-ports 20000-20999
"""
NAT_TARGETS = (
    ("10.1.0.2", "10.9.0.1", 80),
    ("10.1.0.3", "10.9.0.1", 80),
    ("10.1.0.2", "10.2.0.2", 82),
    ("10.1.0.3", "10.2.0.2", 81),
    ("fd01::2", "fd09::1", 80),
    ("fd01::2", "fd02::2", 82),
)
IPVS = """\
ip addr add 10.9.0.1/32 dev lo
ip -6 addr add fd09::1/128 dev lo nodad
ip -n server addr add 10.9.0.1/32 dev lo
sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.vs.conntrack=1
ipvsadm -A -t 10.9.0.1:80 -s rr -p 300
ipvsadm -a -t 10.9.0.1:80 -r 10.2.0.2:8080 -m
ipvsadm -A -t 10.9.0.1:81 -s rr
ipvsadm -a -t 10.9.0.1:81 -r 10.2.0.2:81 -g
ipvsadm -A -t 10.9.0.1:82 -s rr
ipvsadm -a -t 10.9.0.1:82 -r 10.2.0.3:82 -m
ipvsadm -A -t [fd09::1]:80 -s rr
ipvsadm -a -t [fd09::1]:80 -r [fd02::2]:8080 -m
iptables-legacy -t nat -A POSTROUTING -o s0 -d 10.2.0.3 -p tcp -j MASQUERADE --to-ports 20000-20999
"""
IPVS_TARGETS = (
    ("10.1.0.2", "10.9.0.1", 80),
    ("10.1.0.3", "10.9.0.1", 80),
    ("10.1.0.2", "10.9.0.1", 81),
    ("10.1.0.3", "10.9.0.1", 82),
    ("fd01::2", "fd09::1", 80),
)
EACH = 4
"""Connections a target."""


def serve(count: int) -> None:
    """Accepts `count` connections; each tells its own end in a line, and all that is seen is written when all are there."""
    rows: list[dict[str, object]] = []
    kept: list[socket.socket] = []
    done = threading.Event()

    def listen(server: socket.socket) -> None:
        while True:
            connection, peer = server.accept()
            kept.append(connection)
            told = connection.makefile("r").readline().split()
            local = connection.getsockname()
            plain = [address[0].removeprefix("::ffff:") for address in (peer, local)]
            rows.append({"client": [told[0], int(told[1])], "peer": [plain[0], peer[1]], "local": [plain[1], local[1]]})
            if len(rows) == count:
                done.set()

    for port in PORTS:
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100)
        threading.Thread(target=listen, args=(server,), daemon=True).start()
    print("listening", flush=True)
    if not done.wait(60):
        print(f"only {len(rows)} of {count} connections came", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(rows), flush=True)
    sys.stdin.read()


def connect(targets: list[list[object]]) -> None:
    """Opens the connections, tells each one's own end over it, and keeps them until its input ends."""
    kept = []
    for own, server, port in targets:
        for _ in range(EACH):
            connection = socket.create_connection((str(server), int(str(port))), timeout=20, source_address=(str(own), 0))
            connection.sendall(f"{own} {connection.getsockname()[1]}\n".encode())
            kept.append(connection)
    sys.stdin.read()


def main(folder: Path, kind: str) -> None:
    """Builds the namespaces, lets the connections be made, and writes what was seen while they are open."""
    targets = NAT_TARGETS if kind == "nat" else IPVS_TARGETS
    for line in (NET + (NAT if kind == "nat" else IPVS)).splitlines():
        subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)
    words = [sys.executable, __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen(["ip", "netns", "exec", "server", *words, "serve", str(len(targets) * EACH)], text=True, **pipes)  # type: ignore[call-overload]
    server.stdout.readline()
    client = subprocess.Popen(["ip", "netns", "exec", "client", *words, "connect", json.dumps(targets)], text=True, **pipes)  # type: ignore[call-overload]
    rows = server.stdout.readline()
    time.sleep(0.2)
    (folder / "middle").mkdir(parents=True)
    subprocess.run(["sh", str(COLLECT), "-n", "middle", "-d", str(folder / "middle")], check=True, stdin=subprocess.DEVNULL)
    (folder / "truth.json").write_text(rows)
    for process in (client, server):
        process.stdin.close()
        process.wait(20)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    elif sys.argv[1] == "connect":
        connect(json.loads(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), sys.argv[2])
