"""What only a crash or another machine does, done to a socket by TCP_REPAIR: it vanishes without a word, or begins with a chosen number.

tcp(7) does not tell of it; include/uapi/linux/tcp.h TCP_REPAIR, net/ipv4/tcp.c do_tcp_setsockopt() and tcp_close() do.
"""

from __future__ import annotations

import errno
import socket
import struct

from .host import Host

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
ON, OFF_NO_PROBE, SEND_QUEUE = 1, -1, 2


def vanish(sock: socket.socket) -> None:
    """Closes a socket as its host's crash does: no packet is sent."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, ON)
    sock.close()


def open_socket(host: Host, address: str, source_port: int, *, isn: int | None = None, source: str | None = None) -> socket.socket:
    """A socket bound to a port, not yet connected; `isn` is the number that its SYN will have, as after a restart."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((source or host.address, source_port))
    if isn is not None:
        # net/ipv4/tcp_ipv4.c tcp_v4_connect() keeps a write_seq that is there.
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, ON)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("I", isn))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF_NO_PROBE)
    return sock


def exchange(sock: socket.socket, target: tuple[str, int], patience: float, *, closes: bool) -> str:
    """Connects and asks once; `connected`, `timeout`, `refused` or the error's name. With `closes` the server ends the connection."""
    sock.settimeout(patience)
    try:
        sock.connect(target)
        ending = b"Connection: close\r\n" if closes else b""
        sock.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n" + ending + b"\r\n")
        while sock.recv(65536) and closes:
            pass
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "connected"
